"""One list of cases that drives every backend and every statistic, and the error budget that judges them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from regard.functional import alibi_slopes, causal_mask, reference, sliding_window_mask
from regard.functional.impl import blocks, native


@dataclass(frozen=True, kw_only=True)
class Case:
    """Shapes and masking of one attention call."""

    q_len: int = 9
    kv_len: int = 9
    heads: int = 4
    kv_heads: int = 4
    head_dim: int = 8
    value_dim: int = 8
    causal: bool = False
    mask: str = "none"
    bias: str = "none"
    window: int | None = None
    slopes: bool = False
    softcap: float | None = None
    scale: float | None = None
    strided: bool = False

    def __str__(self) -> str:
        default = Case()
        changed = {name: value for name, value in vars(self).items() if value != getattr(default, name)}
        return ",".join(f"{name}={value}" for name, value in changed.items()) or "plain"

    def tensors(self, dtype: torch.dtype, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, key and value, rounded to ``dtype``."""
        generator = torch.Generator().manual_seed(seed)

        def draw(heads: int, length: int, width: int) -> Tensor:
            drawn = torch.randn(2, length, heads, width, generator=generator, dtype=torch.float64)
            return drawn.transpose(1, 2) if self.strided else drawn.transpose(1, 2).contiguous()

        query = draw(self.heads, self.q_len, self.head_dim) * 2
        key = draw(self.kv_heads, self.kv_len, self.head_dim)
        return query.to(dtype), key.to(dtype), draw(self.kv_heads, self.kv_len, self.value_dim).to(dtype)

    def masking(self, dtype: torch.dtype) -> dict[str, Any]:
        """Return the keyword arguments that shape the scores."""
        generator = torch.Generator().manual_seed(1)
        mask_shapes = {"full": (2, self.heads, self.q_len, self.kv_len), "shared": (self.q_len, self.kv_len)}
        mask_shapes |= {"keys": (2, 1, 1, self.kv_len), "rows": (2, 1, self.q_len, 1)}
        mask = None
        if self.mask != "none":
            mask = torch.rand(mask_shapes[self.mask], generator=generator) < 0.7
            if self.mask == "keys":
                mask[1] = False  # a sequence without any key
            else:
                mask[..., 1, :] = False  # a row without any key
        bias_shapes = {"full": (2, self.heads, self.q_len, self.kv_len), "heads": (self.heads, 1, self.kv_len)}
        bias = None
        if self.bias != "none":
            bias = torch.randn(bias_shapes[self.bias], generator=generator, dtype=torch.float64).to(dtype)
        return {
            "attn_mask": mask,
            "attn_bias": bias,
            "causal": self.causal,
            "window": self.window,
            "alibi_slopes": alibi_slopes(self.heads).to(dtype) if self.slopes else None,
            "softcap": self.softcap,
            "scale": self.scale,
        }

    def exact_masking(self, dtype: torch.dtype) -> dict[str, Any]:
        """Return ``masking`` with its bias and slopes, rounded to ``dtype``, in float64."""
        masking = self.masking(dtype)
        added = {name: masking[name] for name in ("attn_bias", "alibi_slopes")}
        return {**masking, **{name: None if one is None else one.double() for name, one in added.items()}}

    def scores(self, dtype: torch.dtype) -> Tensor:
        """Return the dense masked scores in float64 of tensors rounded to ``dtype``."""
        query, key, _ = self.tensors(dtype)
        return reference.scores(query.double(), key.double(), **self.exact_masking(dtype))

    @property
    def empty_rows(self) -> Tensor:
        """Return bool (2, heads, q_len), True = the row may see no key."""
        allowed = torch.ones(2, self.heads, self.q_len, self.kv_len, dtype=torch.bool)
        mask = self.masking(torch.float64)["attn_mask"]
        allowed = allowed if mask is None else allowed & mask
        allowed = allowed & causal_mask(self.q_len, self.kv_len) if self.causal else allowed
        if self.window is not None:
            allowed &= sliding_window_mask(self.q_len, self.kv_len, window=self.window, causal=self.causal)
        return ~allowed.any(-1)


CASES = [
    Case(),
    Case(causal=True),
    Case(q_len=5, kv_len=9),
    Case(q_len=9, kv_len=5),
    Case(q_len=5, kv_len=9, causal=True),
    Case(q_len=1, kv_len=9, causal=True),
    Case(heads=6, kv_heads=2, causal=True, strided=True),
    Case(heads=4, kv_heads=1, mask="full"),
    Case(value_dim=5),
    Case(value_dim=11, head_dim=6, mask="keys"),
    Case(mask="shared"),
    Case(mask="full", causal=True),
    Case(mask="keys", causal=True, q_len=5),
    Case(mask="rows", strided=True),
    Case(bias="full"),
    Case(bias="heads", causal=True),
    Case(bias="full", mask="full", causal=True, heads=4, kv_heads=2, q_len=7, value_dim=3, strided=True),
    Case(scale=0.7, strided=True),
    Case(softcap=2.0, bias="heads", causal=True),
    Case(softcap=1.5, mask="keys", heads=4, kv_heads=2, value_dim=5),
    Case(window=3),
    Case(window=3, causal=True, mask="keys"),
    Case(window=2, causal=True, q_len=5),
    Case(window=4, kv_len=5),
    Case(window=1, causal=True, q_len=1),
    Case(slopes=True, causal=True),
    Case(slopes=True, bias="heads", mask="rows", q_len=5, strided=True),
    Case(slopes=True, window=4, causal=True, softcap=2.0, mask="full", kv_heads=2, value_dim=5),
    Case(slopes=True, window=4, bias="full"),
]
DTYPES = {str(dtype)[6:]: dtype for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16)}


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(params=DTYPES.values(), ids=DTYPES.keys())
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


class LargestTensor(TorchDispatchMode):
    """Remember how many numbers the tensors have that operations return, views of the ``given`` ones aside."""

    def __init__(self, *given: Tensor) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self._given = {tensor.untyped_storage().data_ptr() for tensor in given}

    @property
    def numel(self) -> int:
        """Return the size of the largest."""
        return max(self.sizes.values(), default=0)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple) else (result,):
            if isinstance(tensor, Tensor):
                self._remember(tensor)
        return result

    def _remember(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._given:
            numel = storage.nbytes() // tensor.element_size()
            self.sizes[storage.data_ptr()] = max(numel, self.sizes.get(storage.data_ptr(), 0))


@pytest.fixture
def largest_tensor() -> type[LargestTensor]:
    """Return a context whose ``numel`` is the size of the largest tensor that was made in it."""
    return LargestTensor


@pytest.fixture
def tiny_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make blocks hold a few scores only, so that they have to be merged."""
    monkeypatch.setattr(blocks, "_BLOCK_SCORES", 24)
    monkeypatch.setattr(blocks, "_BLOCK_KEYS", 4)
    monkeypatch.setattr(blocks, "_CAUSAL_ROWS", 2)


NEEDS_NATIVE = pytest.mark.skipif(not native.native_available(), reason="needs regard-native: make native")


@pytest.fixture
def no_native(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let regard find no native kernels."""
    monkeypatch.setattr(native, "native_available", lambda: False)


@pytest.fixture(params=[pytest.param("native", marks=NEEDS_NATIVE), "torch"])
def kernels(request: pytest.FixtureRequest) -> str:
    """Run once with the native kernels and once without."""
    if request.param == "torch":
        request.getfixturevalue("no_native")
    return request.param


@pytest.fixture(params=["whole", "tiny"])
def block_size(request: pytest.FixtureRequest) -> str:
    """Run once with blocks that hold everything, and once with tiny ones."""
    if request.param == "tiny":
        request.getfixturevalue("tiny_blocks")
    return request.param


@pytest.fixture
def within_budget() -> Callable[[Tensor, Tensor, Tensor], None]:
    """Return a check that ``found`` is as near to ``exact`` as twice what eager code in the same type achieves."""

    def check(found: Tensor, eager: Tensor, exact: Tensor) -> None:
        assert found.dtype == eager.dtype
        found, eager, exact = found.detach(), eager.detach(), exact.detach()
        floor = 16 * torch.finfo(found.dtype).eps * max(1.0, float(exact.abs().max()))
        budget = 2 * float((eager.double() - exact).abs().max()) + floor
        error = float((found.double() - exact).abs().max())
        assert error <= budget, f"error {error:.2e}, budget {budget:.2e}"

    return check


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors here are tiny: more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
