"""The Triton kernels against the float64 oracle, run by Triton's interpreter on a CPU, and compiled for a GPU.

Triton settles at its import whether it interprets or compiles, so either happens in one process of its own, which takes
all its calls at once; the suite itself never imports Triton.
"""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from regard._errors import ArgumentError, UnsupportedError
from regard.functional import attention, reference
from regard.functional.definitions import VALUE_STATISTICS
from regard.functional.impl import native, triton_attention
from regard.functional.impl.triton_attention import STATISTICS, triton_obstacle, triton_with_lse

DTYPES = {str(dtype)[6:]: dtype for dtype in (torch.float32, torch.bfloat16)}
TILES = [[8, 8], [16, 4], [4, 16]]  # queries and keys of a block, so that the cases' nine of each make several
CUT = {"window": {"window": 4}, "causal window": {"window": 4, "causal": True}, "causality": {"causal": True}}
DROPPED = {"causal": True, "window": 9, "softcap": 3.0}
EMPTY = [(0, 3, 3), (2, 0, 3), (2, 3, 0)]  # batch, queries, keys

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason='needs Triton: pip install "regard[triton]"'
)

RUN = """
import sys
import traceback

import torch

calls_file, found_file, device, checks = sys.argv[1:]
if checks == "shapes":
    import jaxtyping

    jaxtyping.install_import_hook("regard", "beartype.beartype")

from regard.functional.impl import triton_attention

if device == "cpu":
    from triton.runtime import interpreter

    patched = set()

    def call_inner(self, *args, **kwargs):
        # Triton 3.9 patches its language anew at each call of a function, which takes half the time.
        if self.fn.__module__ not in patched:
            patched.add(self.fn.__module__)
            interpreter._patch_lang(self.fn)
        return self.rewrite()(*args, **kwargs)

    interpreter.InterpretedFunction.__call__ = call_inner

chosen = triton_attention.tiles


def moved(value):
    return value.to(device) if isinstance(value, torch.Tensor) else value


def run(call):
    tiles = call["tiles"]
    triton_attention.tiles = chosen if tiles is None else lambda *_: triton_attention.Tiles(*tiles, 4, 1)
    tensors = [moved(tensor).requires_grad_(name in call["needs"]) for name, tensor in call["tensors"].items()]
    masking = {name: moved(value) for name, value in call["masking"].items()}
    torch.manual_seed(3)
    output, lse, found = triton_attention.triton_with_lse(*tensors, statistics=call["statistics"], **masking)
    results = {"output": output.detach(), "lse": lse.detach(), **found}
    if call["directions"] is not None:
        wanted = [tensor for tensor in tensors if tensor.requires_grad]
        grads = torch.autograd.grad([output, lse], wanted, [moved(direction) for direction in call["directions"]])
        results |= zip((f"grad_{name}" for name in call["needs"]), grads, strict=True)
    return {name: tensor.cpu() for name, tensor in results.items()}


def outcome(call):
    try:
        return run(call)
    except Exception:
        return traceback.format_exc()


torch.save({name: outcome(call) for name, call in torch.load(calls_file).items()}, found_file)
"""

COMPILE = """
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from regard.functional.impl import triton_attention


class NoDevice:
    capability = 80

    def get_current_target(self):
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0


def compile_only(kernel, *args, grid, warmup, **options):
    compiled = run(kernel, *args, grid=grid, warmup=True, **options)
    print(kernel.__name__, compiled.metadata.shared)
    return compiled


driver.set_active(NoDevice())
run, JITFunction.run = JITFunction.run, compile_only
triton_attention.triton_obstacle = lambda *tensors, **options: None  # tensors on a CPU are as good as any here
masks = {"attn_mask": torch.ones(256, dtype=torch.bool), "attn_bias": torch.zeros(256, 256), "softcap": 9.0}
everything = {**masks, "causal": True, "statistics": triton_attention.STATISTICS}
everything |= {"window": 99, "alibi_slopes": torch.ones(2), "dropout_p": 0.6}
for capability, width, dtype, options in ((80, 128, torch.bfloat16, everything), (90, 64, torch.float32, {})):
    NoDevice.capability = capability
    query, key, value = (torch.zeros(1, 2, 256, width, dtype=dtype, requires_grad=True) for _ in range(3))
    output, lse, _ = triton_attention.triton_with_lse(query, key, value, **options)
    torch.autograd.backward([output, lse], [output.detach(), lse.detach()])
"""


NAMED = """
import torch

import regard
from regard.functional import attention, reference


class Attention(torch.nn.Module):
    def forward(self, query, key):
        return attention(query, key, key, causal=True, softcap=3.0, window=5, impl="triton")


torch.manual_seed(0)
model, query, key = Attention(), torch.randn(1, 4, 9, 8, requires_grad=True), torch.randn(1, 2, 11, 8)
names = ["entropy", "distance", "score_spread", "first_contribution"]
with regard.watch(model, names) as view:
    output = model(query, key)
(found,) = torch.autograd.grad(output.square().sum(), query)
exact_query, exact_key = query.detach().double().requires_grad_(), key.double()
exact = reference.attention(exact_query, exact_key, exact_key, causal=True, softcap=3.0, window=5)
(expected,) = torch.autograd.grad(exact.square().sum(), exact_query)
torch.testing.assert_close(output.double(), exact, rtol=1e-5, atol=1e-5)
torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
scores = reference.scores(exact_query, exact_key, causal=True, softcap=3.0, window=5)
for name in names:
    values = {"value": exact_key} if name == "first_contribution" else {}
    mean = reference.STATISTICS[name](scores, **values).mean((0, 2)).detach()
    torch.testing.assert_close(view[""][name], mean, rtol=1e-5, atol=1e-5)
print(view.kernels())
"""


def separately(program: str, *arguments: str | Path, **environment: str) -> str:
    """Run a program in a fresh interpreter of the same Python, and return what it prints."""
    source = str(Path(triton_attention.__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": source, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def job(tensors: dict[str, Tensor], masking: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return one call as the other process takes it: with all statistics, and random directions of the gradients."""
    rows, value_dim = tensors["query"].shape[:3], tensors["value"].shape[3]
    generator = torch.Generator().manual_seed(2)
    directions = [
        torch.randn(*rows, value_dim, generator=generator).to(tensors["query"].dtype),
        torch.randn(rows, generator=generator),
    ]
    call = {"tensors": tensors, "masking": masking, "directions": directions, "needs": list(tensors)}
    return {**call, "statistics": STATISTICS, "tiles": TILES[0], **changes}


def named(*tensors: Tensor) -> dict[str, Tensor]:
    return dict(zip(("query", "key", "value"), tensors, strict=True))


def drawn(q_len: int, kv_len: int, *, batch: int = 1, heads: int = 2, head_dim: int = 8, value_dim: int = 8) -> Any:
    generator = torch.Generator().manual_seed(5)
    shapes = ((heads, q_len, head_dim), (heads, kv_len, head_dim), (heads, kv_len, value_dim))
    return named(*(torch.randn(batch, *shape, generator=generator) for shape in shapes))


def is_run(number: int, dtype: str) -> bool:
    """Return whether a case is run in this type: the interpreter is slow, and types differ by rounding alone."""
    return dtype == "float32" or number % 3 == 1


def calls_of(cases: list[Any]) -> dict[str, dict[str, Any]]:
    """Return by name every call that the tests look at: the cases, and what they leave out."""
    calls = {
        f"{case} {name}": job(named(*case.tensors(dtype)), case.masking(dtype), tiles=TILES[number % len(TILES)])
        for number, case in enumerate(cases)
        for name, dtype in DTYPES.items()
        if is_run(number, name)
    }
    half = {name: tensor.half() for name, tensor in drawn(9, 9).items()}
    calls["float16"] = job(half, {"causal": True, "softcap": 3.0})
    calls["tiles as on a GPU"] = job(drawn(70, 90, head_dim=24, value_dim=40), {"causal": True}, tiles=None)
    large = drawn(9, 17)
    large["query"] = large["query"] * torch.tensor([1e-4, 1e-2, 0.1, 1, 3, 10, 30, -30, 0])[:, None]
    calls["scores of all sizes"] = job(large, {})
    calls["capped scores of all sizes"] = job(large, {"softcap": 20.0})
    bias = torch.randn(9, 9, generator=torch.Generator().manual_seed(6))
    bias[:, 2] = bias[4] = bias[5, :8] = -torch.inf
    calls["bias that forbids"] = job(drawn(9, 9), {"attn_bias": bias, "causal": True})
    calls["some statistics"] = job(drawn(5, 6), {}, statistics=["distance", "max_weight", "distance"])
    calls["queries only"] = job(drawn(5, 6), {}, needs=["query"])
    calls["values only"] = job(drawn(5, 6), {}, needs=["value"])
    calls["no gradient"] = job(drawn(5, 6), {}, needs=[], directions=None)
    spread = job(drawn(5, 6), {"causal": True})
    spread["directions"] = [torch.ones(()).expand(1, 2, 5, 8), torch.ones(5, 2).T.expand(1, 2, 5)]
    calls["gradients of any strides"] = spread
    for batch, q_len, kv_len in EMPTY:
        calls[f"empty {batch} {q_len} {kv_len}"] = job(drawn(q_len, kv_len, batch=batch), {})
    closed = job(drawn(5, 6), {"attn_mask": torch.tensor([True, False, True, True, False])[:, None]})
    closed["directions"][1][:, :, [1, 4]] = torch.nan  # as where a log of 0 was taken
    calls["long window"] = job(drawn(21, 40), {"window": 17})
    calls["long causal window"] = job(
        drawn(40, 40), {"window": 17, "causal": True, "alibi_slopes": torch.tensor([0.5, 0.1])}
    )
    for name, masking in CUT.items():
        tensors = drawn(32, 32, heads=1)
        tensors["key"][:, :, 24:] = tensors["value"][:, :, 24:] = torch.nan
        calls[f"closed by {name}"] = job(tensors, masking, statistics=())
    dropped = drawn(11, 13, batch=2)
    calls["dropout"] = job(dropped, {**DROPPED, "dropout_p": 0.4})
    seen = {**dropped, "value": torch.eye(13).expand(2, 2, 13, 13)}
    for number, p in enumerate((0.4, 0.9)):
        masking = {**DROPPED, "dropout_p": p}
        calls[f"weights after dropout of {p}"] = job(seen, masking, needs=[], directions=None, tiles=TILES[1 + number])
    calls["gradient of NaN for an lse of -inf"] = closed
    return calls


def oracle(call: dict[str, Any], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return what ``call`` should give, computed eagerly in ``dtype``."""
    tensors = {name: tensor.detach().to(dtype).requires_grad_() for name, tensor in call["tensors"].items()}
    masking = dict(call["masking"])
    for name in ("attn_bias", "alibi_slopes"):
        masking[name] = None if masking.get(name) is None else masking[name].to(dtype)
    scores = reference.scores(tensors["query"], tensors["key"], **masking)
    found = {"output": reference.attention(*tensors.values(), **masking), "lse": reference.lse(scores)}
    if call["directions"] is not None:
        wanted = {f"grad_{name}": tensors[name] for name in call["needs"]}
        directions = [direction.to(dtype) for direction in call["directions"]]
        grads = torch.autograd.grad(list(found.values()), list(wanted.values()), directions, materialize_grads=True)
        found |= zip(wanted, grads, strict=True)
    return found | {
        name: reference.STATISTICS[name](scores, **({"value": tensors["value"]} if name in VALUE_STATISTICS else {}))
        for name in call["statistics"]
    }


@pytest.fixture
def check(within_budget: Callable[..., None]) -> Callable[..., None]:
    """Return a check that holds what the kernels gave for a call to the oracle."""

    def hold(found: dict[str, Tensor] | str, call: dict[str, Any]) -> None:
        assert not isinstance(found, str), found  # the traceback of a call that failed
        exact = oracle(call, torch.float64)
        eager = oracle(call, call["tensors"]["query"].dtype)
        wide = oracle(call, torch.float32)  # what kernels keep in float32 is held to eager code in float32
        assert found.keys() == exact.keys()
        for name, numbers in found.items():
            near = eager[name] if name == "output" or name.startswith("grad_") else wide[name]
            defined = exact[name].isfinite()
            torch.testing.assert_close(
                numbers[~defined].double(), exact[name][~defined], rtol=0, atol=0, equal_nan=True
            )
            if defined.any():
                within_budget(*(some.masked_fill(~defined, 0.0) for some in (numbers, near, exact[name])))

    return hold


def run_all(
    request: pytest.FixtureRequest, folders: pytest.TempPathFactory, device: str, **environment: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return by name every call, and what the kernels gave for it."""
    # The conftest is a plugin and not a module that one could import.
    conftest = request.config.pluginmanager.get_plugin(str(Path(__file__).with_name("conftest.py")))
    calls = calls_of(conftest.CASES)
    folder = folders.mktemp("triton")
    torch.save(calls, folder / "calls.pt")
    checks = "shapes" if request.config.getoption("jaxtyping_packages", None) else "none"
    separately(RUN, folder / "calls.pt", folder / "found.pt", device, checks, **environment)
    return calls, torch.load(folder / "found.pt")


@pytest.fixture(scope="module")
def interpreted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return every call, and what the interpreter gave for it."""
    return run_all(request, tmp_path_factory, "cpu", TRITON_INTERPRET="1")


APART = ("empty", "gradient of NaN", "some", "closed by", "dropout", "weights after")  # have tests of their own
OTHERS = [name for name in calls_of([]) if not name.startswith(APART)]


@needs_triton
def test_results_and_gradients_stay_within_the_error_budget(case, interpreted, check):
    calls, found = interpreted
    for name in (f"{case} {dtype}" for dtype in DTYPES):
        if name in calls:
            check(found[name], calls[name])


@needs_triton
@pytest.mark.parametrize("name", OTHERS)
def test_what_the_cases_leave_out_stays_within_the_error_budget(name, interpreted, check):
    calls, found = interpreted
    check(found[name], calls[name])


@needs_triton
def test_only_the_statistics_asked_for_are_given(interpreted):
    found = interpreted[1]["some statistics"]
    assert {"distance", "max_weight"} == found.keys() & set(STATISTICS)


@needs_triton
@pytest.mark.parametrize(("batch", "q_len", "kv_len"), EMPTY)
def test_empty_tensors_give_zeros_and_statistics_of_nan(batch, q_len, kv_len, interpreted):
    found = interpreted[1][f"empty {batch} {q_len} {kv_len}"]
    assert found["output"].shape == (batch, 2, q_len, 8)
    assert all((found[name] == 0).all() for name in ("output", "grad_query", "grad_key", "grad_value"))
    assert (found["lse"] == -torch.inf).all()
    assert all(found[name].isnan().all() for name in STATISTICS)


@needs_triton
def test_row_without_keys_passes_no_gradient_on(interpreted, check):
    calls, found = interpreted
    name = "gradient of NaN for an lse of -inf"
    assert (found[name]["grad_query"][:, :, [1, 4]] == 0).all()
    check(found[name], calls[name])


@needs_triton
@pytest.mark.parametrize("name", CUT)
def test_closed_blocks_are_not_met(name, interpreted):
    """A key of NaN that was only masked would still make NaN of every row: a weight of 0 times NaN is NaN."""
    found = interpreted[1][f"closed by {name}"]
    for part in ("output", "grad_query"):
        assert found[part][:, :, :16].isfinite().all(), part
    for part in ("grad_key", "grad_value") if name != "causality" else ():  # no row of a block that sees these is NaN
        assert found[part][:, :, :8].isfinite().all(), part
    assert found["output"][:, :, 24:].isnan().all()


@needs_triton
def test_both_passes_drop_the_same_weights(interpreted, within_budget):
    calls, found = interpreted
    call, kept = calls["dropout"], found["weights after dropout of 0.4"]["output"] != 0

    def expected(dtype: torch.dtype) -> list[Tensor]:
        tensors = [tensor.detach().to(dtype).requires_grad_() for tensor in call["tensors"].values()]
        scores = reference.scores(*tensors[:2], **DROPPED)
        output = (reference.weights(scores) * kept / 0.6) @ tensors[2]
        directions = [direction.to(dtype) for direction in call["directions"]]
        return [output, *torch.autograd.grad([output, reference.lse(scores)], tensors, directions)]

    names = ("output", "grad_query", "grad_key", "grad_value")
    for name, eager, exact in zip(names, expected(torch.float32), expected(torch.float64), strict=True):
        within_budget(found["dropout"][name], eager, exact)


@needs_triton
def test_dropout_leaves_lse_and_statistics_alone(interpreted, check):
    calls, found = interpreted
    alone = {"masking": DROPPED, "directions": None}
    of_rows = {name: found["dropout"][name] for name in ("lse", *STATISTICS)}
    whole = oracle({**calls["dropout"], **alone}, torch.float32)["output"]
    check({"output": whole, **of_rows}, {**calls["dropout"], **alone})


@needs_triton
@pytest.mark.skipif(not native.native_available(), reason="needs regard-native: make native")
@pytest.mark.parametrize("p", [0.4, 0.9])
def test_one_seed_drops_the_weights_that_the_native_kernels_drop(p, interpreted):
    calls, found = interpreted
    name = f"weights after dropout of {p}"
    torch.manual_seed(3)
    expected = attention(*calls[name]["tensors"].values(), **calls[name]["masking"], impl="native")
    assert ((expected == 0) == (found[name]["output"] == 0)).all()
    torch.testing.assert_close(found[name]["output"], expected, rtol=1e-5, atol=1e-6)


@needs_triton
def test_it_is_taken_by_name_and_heard_with_its_statistics():
    assert separately(NAMED, TRITON_INTERPRET="1").strip() == "{'regard triton': 1}"


@pytest.mark.parametrize("name", ["attn_bias", "alibi_slopes"])
def test_what_it_cannot_do_is_refused_by_name(name, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    query = torch.zeros(1, 2, 2, 4)
    with pytest.raises(UnsupportedError, match=f"The Triton kernels need {name} without a gradient"):
        attention(query, query, query, impl="triton", **{name: torch.zeros(2, requires_grad=True)})


@needs_triton
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_every_call_stays_within_the_error_budget_on_a_gpu(request, tmp_path_factory, check):
    calls, found = run_all(request, tmp_path_factory, "cuda")
    for name in calls:
        if not name.startswith(APART):
            check(found[name], calls[name])


@needs_triton
def test_kernels_compile_for_a_gpu_that_is_not_there(tmp_path):
    """The interpreter accepts much that the compiler does not: types, shapes, names that change their type."""
    shared = separately(COMPILE, TRITON_CACHE_DIR=str(tmp_path), TRITON_INTERPRET="0").splitlines()
    assert len(shared) == 8
    # 99 KiB is what one block may have on the consumer cards; the data centre's have more.
    assert all(int(line.split()[1]) <= 99 * 1024 for line in shared), shared


def test_room_imports_without_triton():
    separately("import sys; sys.modules['triton'] = None; import regard.functional.impl.triton_attention")


def test_unknown_statistic_is_refused():
    tensor = torch.zeros(1, 1, 2, 4)
    with pytest.raises(ArgumentError, match="names out of entropy"):
        triton_with_lse(tensor, tensor, tensor, statistics=["variance"])


def test_cpu_is_refused(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    tensor = torch.zeros(1, 1, 2, 4)
    with pytest.raises(UnsupportedError, match=r"one CUDA device .*; got query, key and value of torch.float32 on cpu"):
        triton_with_lse(tensor, tensor, tensor)


def test_obstacles_are_named(monkeypatch):
    tensor, wide = torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 2, 257)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "triton" in triton_obstacle(tensor, tensor, tensor)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert triton_obstacle(tensor, tensor, tensor) is None
    assert triton_obstacle(tensor, tensor, tensor[..., :3]) is None
    assert "float32" in triton_obstacle(*[tensor.double()] * 3)
    assert "256 wide" in triton_obstacle(tensor, tensor, wide)
    for name, shape in {"attn_bias": (2, 2), "alibi_slopes": (1,)}.items():
        side = {name: torch.zeros(shape, requires_grad=True)}
        assert f"{name} without a gradient" in triton_obstacle(tensor, tensor, tensor, **side)
        with torch.no_grad():
            assert triton_obstacle(tensor, tensor, tensor, **side) is None
