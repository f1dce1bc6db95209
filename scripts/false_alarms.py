"""Check correct subjects over many seeds: no rule may be broken on any of them.

Model families of transformers from their configurations, PyTorch's functions and modules, regard's own modules, and the
real MiniLM. Prints a table and returns 1 if a rule was broken.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import BertModel

from regard import attention
from regard.conformance import check
from regard.conformance.families import FAMILIES, family, implementations
from regard.functional import packed_attention
from regard.models import minilm_folder
from regard.modules import MultiHeadAttention

_WIDTH, _HEADS = 16, 4


def _made(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def _minilm(seed: int) -> nn.Module:
    return BertModel.from_pretrained(minilm_folder(), add_pooling_layer=False)


_PYTORCH: Mapping[str, Callable[[int], Any]] = {
    "scaled_dot_product_attention": lambda seed: F.scaled_dot_product_attention,
    "nn.MultiheadAttention": partial(_made, lambda: nn.MultiheadAttention(_WIDTH, _HEADS, batch_first=True)),
    "nn.MultiheadAttention, batch second": partial(_made, lambda: nn.MultiheadAttention(_WIDTH, _HEADS)),
    "nn.TransformerEncoderLayer": partial(
        _made, lambda: nn.TransformerEncoderLayer(_WIDTH, _HEADS, 32, batch_first=True)
    ),
    "nn.TransformerEncoder, batch second": partial(
        _made,
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(_WIDTH, _HEADS, 32), 2, enable_nested_tensor=False),
    ),
}
_OURS: Mapping[str, Callable[[int], Any]] = {
    "regard.attention": lambda seed: attention,
    "packed_attention": lambda seed: packed_attention,
    "MultiHeadAttention": partial(_made, lambda: MultiHeadAttention(_WIDTH, _HEADS)),
    "MultiHeadAttention, causal": partial(_made, lambda: MultiHeadAttention(_WIDTH, _HEADS, causal=True)),
    "MultiHeadAttention, grouped, rotary": partial(
        _made, lambda: MultiHeadAttention(_WIDTH, _HEADS, num_kv_heads=2, causal=True, rotary=10_000.0)
    ),
}
_SUBJECTS: Mapping[str, Callable[[int], Any]] = {
    **{f"{name}, {impl}": partial(family, name, impl=impl) for name in FAMILIES for impl in implementations(name)},
    **_PYTORCH,
    **_OURS,
    "MiniLM": _minilm,
}


def main() -> int:
    """Check, print and return 1 after a false alarm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="of weights and of what is drawn")
    parser.add_argument("--only", action="append", help="subjects whose names contain this; may be repeated")
    parser.add_argument("--fast", action="store_true", help="fewer and shorter cases")
    given = parser.parse_args()
    alarms = 0
    print("| Subject | Seeds | Rules proved | Broken | Seconds |\n| --- | --: | --: | --- | --: |")
    for name, build in _SUBJECTS.items():
        if given.only and not any(one in name for one in given.only):
            continue
        broken: Counter[str] = Counter()
        proved, seconds = set(), 0.0
        for seed in range(given.seeds):
            report = check(build(seed), seed=seed, fast=given.fast)
            broken.update(report.failed)
            proved.add(sum(verdict == "pass" for verdict in report.verdicts.values()))
            seconds += report.seconds
        alarms += sum(broken.values())
        said = ", ".join(f"{rule} ({times})" for rule, times in broken.items()) or "none"
        numbers = "–".join(map(str, sorted({min(proved), max(proved)})))
        print(f"| {name} | {given.seeds} | {numbers} | {said} | {seconds:.0f} |", flush=True)
    return int(bool(alarms))


if __name__ == "__main__":
    raise SystemExit(main())
