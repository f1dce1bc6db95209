"""Models of others on the native kernels, on request: the same results within rounding, statistics in the same pass."""

import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from regard._errors import ArgumentError, UnsupportedError
from regard.functional import attention
from regard.functional import taps as functional_taps
from regard.functional.impl import native
from regard.observe import taps, watch

pytest.importorskip("regard_native", reason="needs regard-native: make native")

NAMES = [
    "entropy",
    "normalized_entropy",
    "collision",
    "max_score",
    "distance",
    "self_mass",
    "padding_mass",
    "qk_gradient",
]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class SelfAttention(nn.Module):
    """Attention as a model of others has it."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.qkv, self.options = nn.Linear(32, 96), options

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.qkv(x).unflatten(-1, (3, 4, 8)).permute(2, 0, 3, 1, 4)
        if "cut" in self.options:
            query = query[:, :, : self.options["cut"]]
        masking = {name: value for name, value in self.options.items() if name != "cut"}
        return F.scaled_dot_product_attention(query, key, value, **masking).transpose(1, 2).flatten(2)


MASKINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal": {"is_causal": True},
    "causal with fewer queries": {"is_causal": True, "cut": 5},
    "mask": {"attn_mask": normal(9, 9, seed=3) > -0.5},
    "padding": {"attn_mask": torch.arange(9)[None, None, None] < torch.tensor([9, 5])[:, None, None, None]},
    "bias and scale": {"attn_mask": normal(1, 4, 9, 9, seed=4), "scale": 0.7},
}


def run(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    x = x.detach().requires_grad_()
    model.zero_grad()
    output = model(x)
    output.square().sum().backward()
    assert x.grad is not None
    return [output.detach(), x.grad, *(parameter.grad.clone() for parameter in model.parameters())]


@pytest.mark.parametrize("masking", MASKINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_results_and_statistics_are_those_of_the_own_kernel(masking: str, dtype: torch.dtype) -> None:
    model, x = SelfAttention(**MASKINGS[masking]), normal(2, 9, 32, seed=1)
    if dtype == torch.bfloat16:
        options = {
            name: value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value
            for name, value in MASKINGS[masking].items()
        }
        model, x = SelfAttention(**options).to(dtype), x.to(dtype)
    plain = run(model, x)
    with watch(model, NAMES) as own:
        assert all(torch.equal(one, other) for one, other in zip(plain, run(model, x), strict=True))
    with watch(model, NAMES, kernel="native") as view:
        found = run(model, x)
    assert view.kernels() == {taps.NATIVE: 1}
    tolerance = 1e-5 if dtype == torch.float32 else 0.03
    for one, other in zip(found, plain, strict=True):
        assert one.stride() == other.stride()
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * float(other.abs().max()))
    for name in NAMES:
        close = tolerance if name == "qk_gradient" else 1e-5
        torch.testing.assert_close(view[""][name], own[""][name], rtol=close, atol=close, equal_nan=True)
    assert all(torch.equal(one, other) for one, other in zip(plain, run(model, x), strict=True)), "something stayed"


def test_the_statistics_come_from_the_same_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = SelfAttention(is_causal=True), normal(2, 9, 32)
    with watch(model, NAMES) as own:
        model(x)
    monkeypatch.setattr(native, "row_sums", None)
    with watch(model, NAMES, heads=[1, 3], kernel="native") as view:
        model(x)
    for name in NAMES[:6]:
        torch.testing.assert_close(view[""][name][[1, 3]], own[""][name][[1, 3]], rtol=1e-5, atol=1e-5)
        assert view[""][name][[0, 2]].isnan().all()


@pytest.mark.parametrize("rows", ["all", 4])
def test_a_native_call_of_ours_is_seen_with_its_gradients(rows: Any) -> None:
    class Ours(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return attention(x, x, x, causal=True, impl="native")

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = Ours()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.attention(x)

    model, x = Attention(), normal(2, 4, 9, 8)
    plain = run(model, x)
    with watch(model, NAMES, rows=rows) as view:
        assert all(torch.equal(one, other) for one, other in zip(plain, run(model, x), strict=True))
    assert view.kernels() == {functional_taps.NATIVE: 1}
    assert view["attention"]["entropy"].isfinite().all()
    assert view["attention"]["qk_gradient"].isfinite().all()
    assert functional_taps.LISTENERS == functional_taps.WANTED == []


def test_another_model_keeps_its_kernel_meanwhile() -> None:
    watched, other, x = SelfAttention(), SelfAttention(is_causal=True), normal(2, 9, 32)
    plain = run(other, x)
    with watch(watched, ["entropy"], kernel="native"):
        watched(x)
        assert all(torch.equal(one, two) for one, two in zip(plain, run(other, x), strict=True))


def test_what_the_native_kernels_cannot_take_keeps_its_kernel() -> None:
    model, x = SelfAttention().double(), normal(2, 9, 32).double()
    plain = run(model, x)
    with watch(model, ["entropy"], kernel="native") as view:
        assert all(torch.equal(one, other) for one, other in zip(plain, run(model, x), strict=True))
    assert view.kernels() == {taps.FLASH: 1}


def test_a_checkpointed_call_runs_again_on_the_same_kernel() -> None:
    class Checkpointed(SelfAttention):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            again: torch.Tensor = checkpoint(super().forward, x, use_reentrant=False)
            return again

    model, x = Checkpointed(), normal(2, 9, 32)
    with watch(model, ["entropy", "qk_gradient"], kernel="native") as view:
        found = run(model, x)
    for one, other in zip(found, run(model, x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert view.kernels() == {taps.NATIVE: 1}
    assert view[""]["qk_gradient"].isfinite().all()


@pytest.mark.compiled
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_code_runs_on_it_as_well(backend: str) -> None:
    model, x = SelfAttention(is_causal=True), normal(2, 9, 32)
    compiled: Any = torch.compile(model, backend=backend, fullgraph=True)
    plain = run(compiled, x)
    with watch(compiled, ["entropy"], kernel="native") as view:
        found = run(compiled, x)
    assert view.kernels() == {taps.NATIVE: 1}
    for one, other in zip(found, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)


def test_wrong_kernels_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArgumentError, match='kernel must be "own" or "native", got \'fast\''):
        watch(SelfAttention(), kernel="fast")
    monkeypatch.setattr(sys.modules["regard.observe.watch"], "native_available", lambda: False)
    with pytest.raises(UnsupportedError, match="kernel='native' needs the package regard-native"):
        watch(SelfAttention(), kernel="native")
