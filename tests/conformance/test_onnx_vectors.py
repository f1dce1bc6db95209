"""ONNX's own test cases of its ``Attention`` operator, against every backend."""

import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from regard._errors import UnsupportedError
from regard.functional import attention, attention_weights, reference
from regard.functional.impl import blocks, native

pytest.importorskip("onnx", reason="needs the cases of the package onnx, which the extra dev installs")

import onnx.backend.test.case.node as onnx_cases

from .onnx_adapter import OnnxCase, onnx_attention_cases

PAGE = Path(__file__).resolve().parents[2] / "docs/vectors.md"
NEEDS_NATIVE = pytest.mark.skipif(not native.native_available(), reason="needs regard-native: make native")
BACKENDS = [
    "reference",
    "sdpa",
    "chunked",
    "chunked in tiny blocks",
    pytest.param("native", marks=NEEDS_NATIVE),
    "auto",
]
ROUNDINGS = 4  # of the largest number: what ONNX rounds on the way, and what we do; 2 were seen


@dataclass(frozen=True, kw_only=True)
class Listed:
    """Cases that mean something else where ``is_causal`` is written as ``causal``: they agree by a mask instead.

    Attributes:
        onnx: what ONNX does.
        ends: what would end it.
        names: of the cases.
    """

    onnx: str
    ends: str
    names: tuple[str, ...]


LISTED = (
    Listed(
        onnx="without a cache, the first query stands at the first key",
        ends="ONNX puts the last query at the last key, or `attention` takes positions of the queries",
        names=(
            "3d_causal",
            "3d_causal_bf16",
            "3d_diff_heads_sizes_causal",
            "3d_gqa_causal",
            "3d_local_window",
            "4d_attn_mask_3d_causal",
            "4d_attn_mask_4d_causal",
            "4d_attn_mask_causal_bf16",
            "4d_causal",
            "4d_causal_bf16",
            "4d_causal_fp16",
            "4d_diff_heads_sizes_causal",
            "4d_gqa_causal",
            "local_window",
            "local_window_gqa_rank4_mask",
            "local_window_rank1_boolean_mask",
        ),
    ),
    Listed(
        onnx="the first query stands right after the cached keys, though other than one key per query is new",
        ends="ONNX asks for a new key per query, or `attention` takes positions of the queries",
        names=(
            "4d_with_past_and_present_qk_matmul_bias_3d_mask_causal",
            "4d_with_past_and_present_qk_matmul_bias_4d_mask_causal",
            "local_window_with_past",
        ),
    ),
    Listed(
        onnx="the last query stands at the last key of its sequence that is no padding",
        ends="`attention` takes the number of keys of each sequence",
        names=(
            "4d_causal_nonpad_attn_mask_composition",
            "4d_causal_nonpad_batch_prefill",
            "4d_causal_nonpad_negative_offset_structural_empty",
            "4d_causal_padded_kv_bf16",
            "local_window_ext_cache_rank2_mask",
            "local_window_ext_cache_rank3_head_mask",
            "local_window_ext_cache_rank4_batch_mask",
        ),
    ),
)
NAMES = {name for listed in LISTED for name in listed.names}
CASES = onnx_attention_cases()
EVERY_CASE = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def words_of(case: OnnxCase) -> dict:
    return case.spelled_out if case.name in NAMES else case.as_said


def mismatch(found: torch.Tensor, expected: torch.Tensor) -> str | None:
    """Return how the two differ by more than rounding, or None."""
    if found.shape != expected.shape:
        return f"shape {tuple(found.shape)}, expected {tuple(expected.shape)}"
    same = (found == expected) | ((found - expected).abs() <= allowed_error(expected))
    return None if bool(same.all()) else f"error up to {float((found - expected).abs().max()):.2e}"


def allowed_error(expected: torch.Tensor) -> float:
    largest = float(expected.masked_fill(expected.isinf(), 0.0).abs().max())
    return ROUNDINGS * torch.finfo(expected.dtype).eps * max(1.0, largest)


@EVERY_CASE
@pytest.mark.parametrize("backend", BACKENDS)
def test_output_equals_that_of_onnx(case, backend, monkeypatch):
    if backend.endswith("tiny blocks"):
        monkeypatch.setattr(blocks, "_BLOCK_SCORES", 24)
        monkeypatch.setattr(blocks, "_BLOCK_KEYS", 4)
        monkeypatch.setattr(blocks, "_CAUSAL_ROWS", 2)
    impl = backend.split()[0]
    if impl == "sdpa" and case.softcap is not None:
        with pytest.raises(UnsupportedError, match='impl="sdpa" has no softcap'):
            attention(*case.tensors, impl=impl, **words_of(case))
        return
    found = attention(*case.tensors, impl=impl, **words_of(case))
    assert found.dtype == case.expected["output"].dtype
    assert mismatch(found, case.expected["output"]) is None


@pytest.mark.parametrize("case", [case for case in CASES if "scores" in case.expected], ids=lambda case: case.name)
def test_scores_equal_those_of_onnx(case):
    words = words_of(case)
    if case.scores_mode == 3:
        found = attention_weights(*case.tensors[:2], **words).to(case.query.dtype)
    elif case.scores_mode == 2:
        found = reference.scores(*case.tensors[:2], **words)
    else:
        softcap = case.softcap if case.scores_mode == 1 else None
        found = reference.scores(*case.tensors[:2], scale=case.scale, softcap=softcap)
    assert mismatch(found, case.expected["scores"]) is None


@pytest.mark.parametrize("case", [case for case in CASES if case.num_cached is not None], ids=lambda case: case.name)
def test_what_is_cached_is_the_past_and_then_what_is_new(case):
    assert torch.equal(case.key, case.expected["present_key"])
    assert torch.equal(case.value, case.expected["present_value"])


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_listed_case_differs_by_the_positions_of_its_queries(name):
    (case,) = [case for case in CASES if case.name == name]
    last = torch.arange(case.q_len) + case.kv_len - case.q_len
    assert case.causal
    assert (case.positions != last).any()
    assert mismatch(attention(*case.tensors, **case.as_said), case.expected["output"]) is not None


def test_all_cases_of_the_operator_are_found():
    """Cases of other operators, whose modules take seconds, make none of this one."""
    (folder,) = onnx_cases.__path__
    makes = re.compile(r"""["']Attention["']""")
    files = [file for file in Path(folder).glob("*.py") if makes.search(file.read_text(encoding="utf-8"))]

    assert CASES
    assert [file.name for file in files if "attention" not in file.stem] == []
    assert len(files) > 0


def test_the_page_says_how_many_cases_agree():
    page = PAGE.read_text(encoding="utf-8")
    (written_for,) = re.findall(r"\| onnx (\S+) \|", page)
    if written_for != version("onnx"):
        pytest.skip(f"needs the onnx that docs/vectors.md was written for, {written_for}, got {version('onnx')}")
    lines = [f"| ONNX `Attention` | onnx {written_for} | {len(CASES)} | {len(CASES) - len(NAMES)} | {len(NAMES)} |"]
    lines += [f"| {len(listed.names)} | {listed.onnx} | {listed.ends} |" for listed in LISTED]
    assert [line for line in lines if line not in page] == []
