"""The linear layer for few rows: right on each instruction set, alike for each row, taken only where it may be."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode

from regard.cost.products import product_flops
from regard.functional import linear
from regard.functional.impl import native_linear as kernel
from regard.functional.impl.native_linear_tuning import LinearRung, most_rows
from regard.functional.impl.native_region import Region
from regard.modules import Linear

regard_native = pytest.importorskip("regard_native", reason="needs regard-native: make native")

UNIT = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8}


@pytest.fixture(params=regard_native.instruction_sets())
def isa(request, monkeypatch):
    monkeypatch.setattr(regard_native, "forced_instruction_set", lambda: request.param)
    return request.param


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def dtype(request):
    return request.param


@pytest.fixture
def won(monkeypatch):
    """Let the kernel win up to eight rows, whatever this machine is; return the calls that it gets."""
    region = Region(forward={}, training={}, linear={"float32": 8, "bfloat16": 8})
    monkeypatch.setattr(kernel, "this_machine", lambda: region)
    monkeypatch.setattr(kernel, "_LEAST_WEIGHT", 1)
    calls = []
    monkeypatch.setattr(regard_native, "run", lambda *args, run=regard_native.run: (calls.append(args[0]), run(*args)))
    return calls


def drawn(rows, in_features, out_features, dtype):
    return [torch.randn(shape).to(dtype) for shape in ((rows, in_features), (out_features, in_features), out_features)]


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 8, 17])
@pytest.mark.parametrize(("in_features", "out_features"), [(1, 1), (5, 7), (33, 13), (768, 64), (100, 257)])
@pytest.mark.parametrize("threads", [1, 2])
def test_it_is_the_product_within_the_rounding_of_its_sums(
    isa, dtype, rows, in_features, out_features, threads, monkeypatch
):
    monkeypatch.setattr(kernel, "_PRODUCTS_OF_A_THREAD", 1)
    torch.set_num_threads(threads)
    x, weight, bias = drawn(rows, in_features, out_features, dtype)
    found = kernel.native_linear(x, weight, bias).double()
    exact = x.double() @ weight.double().T + bias.double()
    sizes = x.double().abs() @ weight.double().abs().T + bias.double().abs()
    # Sums in float32 over at most in_features terms, and the result rounded once to its own type.
    budget = sizes * UNIT[torch.float32] * (in_features / 4 + 16) + exact.abs() * UNIT[dtype] * 1.01
    assert ((found - exact).abs() <= budget).all()


def test_a_row_is_the_same_whatever_lies_beside_it(isa, dtype):
    x, weight, _ = drawn(7, 100, 65, dtype)
    together = kernel.native_linear(x, weight, None)
    assert all(
        torch.equal(kernel.native_linear(row[None], weight, None)[0], one) for row, one in zip(x, together, strict=True)
    )


def test_rows_and_weights_may_lie_apart_and_have_any_leading_axes(dtype):
    wide, weight, bias = drawn(6, 80, 40, dtype)
    x = wide[:, 20:60].view(2, 3, 40)
    part = weight[::2, 40:]
    expected = F.linear(x, part, bias[::2])
    assert kernel.native_linear(x, part, bias[::2]).shape == expected.shape == (2, 3, 20)
    torch.testing.assert_close(kernel.native_linear(x, part, bias[::2]), expected, rtol=2e-2, atol=1e-2)
    transposed = torch.randn(40, 20).to(dtype).T
    torch.testing.assert_close(kernel.native_linear(x, transposed, None), F.linear(x, transposed), rtol=2e-2, atol=1e-2)


def test_no_rows_and_no_width_give_what_pytorch_gives(dtype):
    assert kernel.native_linear(torch.zeros(0, 5, dtype=dtype), torch.zeros(3, 5, dtype=dtype), None).shape == (0, 3)
    bias = torch.ones(3, dtype=dtype)
    assert torch.equal(
        kernel.native_linear(torch.zeros(2, 0).to(dtype), torch.zeros(3, 0).to(dtype), bias), bias.expand(2, 3)
    )


def test_infinite_and_undefined_numbers_stay(isa, dtype):
    x, weight, bias = drawn(2, 50, 9, dtype)
    x[0, 49], x[1, 3] = torch.inf, torch.nan
    found, exact = kernel.native_linear(x, weight, bias), F.linear(x, weight, bias)
    assert torch.equal(found[0], exact[0])
    assert found[1].isnan().all()


def test_it_is_taken_without_gradients_and_for_few_rows(won):
    x, weight, bias = drawn(8, 64, 32, torch.float32)
    linear(x, weight, bias)
    assert won == []
    with torch.no_grad():
        linear(x, weight, bias)
        assert won == ["linear"]
        linear(torch.cat([x, x]), weight, bias)
        linear(x.double(), weight.double(), bias.double())
        assert won == ["linear"]


def test_autocast_transforms_and_compiled_code_take_pytorchs(won):
    x, weight, bias = drawn(4, 64, 32, torch.float32)
    with torch.no_grad():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert linear(x, weight, bias).dtype == torch.bfloat16
        mapped = torch.vmap(lambda row: linear(row, weight, bias))(x)
        torch.testing.assert_close(mapped, F.linear(x, weight, bias))
        with torch.device("meta"):
            assert linear(torch.empty(4, 64), torch.empty(32, 64)).shape == (4, 32)
    assert won == []


# Forward differentiation loads what PyTorch itself has deprecated.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_weights_with_other_memory_and_tangents_take_pytorchs(won):
    class Packed(torch.Tensor):
        """Stands for a weight that is quantised: its memory is not what its type says."""

    x, weight, bias = drawn(4, 64, 32, torch.float32)
    with torch.no_grad():
        linear(x, weight.as_subclass(Packed), bias)
        with forward_ad.dual_level():
            moved = linear(forward_ad.make_dual(x, torch.ones_like(x)), weight, bias)
            tangent = forward_ad.unpack_dual(moved).tangent
    torch.testing.assert_close(tangent, weight.sum(1).expand(4, -1))
    assert won == []


def test_those_who_listen_to_operators_hear_it(won):
    heard = []

    class Listener(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            heard.append((func.name(), product_flops(func, args, kwargs or {}, result)))
            return result

    x, weight, bias = drawn(4, 64, 32, torch.float32)
    with torch.no_grad(), Listener():
        found = linear(x, weight, bias)
    torch.testing.assert_close(found, F.linear(x, weight, bias))
    assert won == ["linear"]
    assert ("regard::native_linear", 2 * 4 * 64 * 32) in heard


def test_a_layer_has_the_parameters_of_pytorchs(won):
    torch.manual_seed(3)
    own = Linear(64, 32)
    torch.manual_seed(3)
    theirs = torch.nn.Linear(64, 32)
    assert all(torch.equal(own.state_dict()[name], held) for name, held in theirs.state_dict().items())
    x = torch.randn(5, 64)
    with torch.no_grad():
        torch.testing.assert_close(own(x), theirs(x))
    assert won == ["linear"]


def test_the_most_rows_end_before_the_first_that_is_lost():
    def rungs(*ratios):
        return [
            LinearRung(dtype="float32", rows=2**at, ratio=ratio, upper_ratio=ratio) for at, ratio in enumerate(ratios)
        ]

    assert most_rows(rungs(0.5, 0.9, 1.1, 0.8)) == {"float32": 2}
    assert most_rows(rungs(0.5, 0.9)) == {"float32": 2}
    assert most_rows(rungs(1.0, 0.9)) == {"float32": None}
