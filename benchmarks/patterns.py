"""What does one layer of attention take at 131,072 tokens, dense and by patterns: memory, time and operations?

Each case runs alone in a fresh process, once, forward and forward with backward; its peak is what the process needs
beyond query, key and value. The program fails where a case by blocks needs 1 GiB. Dense cases take hours on few cores
for their backward pass: ``--dense-backward`` asks for it.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from memory import peak_bytes, unmeasurable
from report import Plain, Report, parser
from torch import Tensor

from regard.functional import Pattern, attention, patterns
from regard.functional.impl.native import native_available

__all__ = ["main"]

_QUESTION = "What does one layer of attention take at great length, dense and by patterns?"
_MOST_BYTES = 1 << 30
_HEAD_DIM = 64
_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to attend."""

    name: str
    impl: str = "auto"
    pattern: Callable[[int], Pattern] | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def run(self, query: Tensor, key: Tensor, value: Tensor, pattern: Pattern | None) -> Tensor:
        """Return the output."""
        return attention(query, key, value, impl=self.impl, pattern=pattern, **self.options)


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__ or "", rounds=1)
    made.add_argument("--len", type=int, default=131_072, metavar="N", help="tokens (default 131,072)")
    made.add_argument("--heads", type=int, default=4, metavar="N", help="heads of 64 numbers (default 4)")
    made.add_argument("--case", nargs="*", default=[], metavar="TEXT", help="only cases whose names hold a TEXT")
    made.add_argument("--dense-backward", action="store_true", help="also the backward pass of dense cases")
    made.add_argument("--one", nargs=2, metavar=("CASE", "PASS"), help="measure one case in this process, print JSON")
    options = made.parse_args()
    if options.quick:
        options.len = 1024
    if options.one:
        print(json.dumps(_measured(_cases()[options.one[0]], options, backward=options.one[1] == "backward")))
        return
    report = Report(_QUESTION, options, facts=["float32", "one run of each"])
    values = _all(options, report)
    report.add(_table(values, options))
    report.write()
    over = [name for name, one in values.items() if (one["peak_bytes"] or 0) >= _MOST_BYTES]
    if over:
        raise SystemExit(f"Every case must stay below 1 GiB beyond its inputs, got more from {', '.join(over)}.")


def _cases() -> dict[str, Case]:
    dense = [Case(name="dense, PyTorch's kernel", impl="sdpa"), Case(name="dense, chunked", impl="chunked")]
    if native_available():
        dense.append(Case(name="dense, native kernel", impl="native"))
    sparse = [
        Case(name="window of 256", options={"window": 256}),
        Case(name="causal window of 512", options={"window": 512, "causal": True}),
        Case(name="window of 256 and 64 global tokens", pattern=_longformer),
        Case(name="the same, in torch alone", pattern=_longformer, impl="chunked"),
        Case(name="blocks as in BigBird", pattern=lambda length: patterns.bigbird(length, seed=_SEED)),
        Case(name="documents of 2,048 tokens", pattern=lambda n: patterns.documents(torch.arange(n) // 2048)),
    ]
    return {case.name: case for case in (*dense, *sparse)}


def _longformer(length: int) -> Pattern:
    return patterns.longformer(256, range(0, length, max(1, length // 64)))


def _all(options: argparse.Namespace, report: Report) -> dict[str, dict[str, Any]]:
    values: dict[str, dict[str, Any]] = {}
    for case in _cases().values():
        if options.case and not any(text in case.name for text in options.case):
            continue
        is_dense = case.name.startswith("dense")
        for kind in ("forward", "backward") if not is_dense or options.dense_backward else ("forward",):
            report.tell(f"{case.name}, {kind}")
            values[f"{case.name}, {kind}"] = _in_fresh_process(case.name, kind, options)
    return values


def _in_fresh_process(name: str, kind: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure a case by itself; freed blocks of memory go back to the system, so that they are not counted as free."""
    command = [sys.executable, __file__, "--one", name, kind, "--len", str(options.len), "--heads", str(options.heads)]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(64 * 1024)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} must succeed, got: {done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _measured(case: Case, options: argparse.Namespace, *, backward: bool) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(_SEED)
    shape = (1, options.heads, options.len, _HEAD_DIM)
    inputs = [torch.randn(shape, generator=generator).requires_grad_(backward) for _ in range(3)]
    pattern = None if case.pattern is None else case.pattern(options.len)
    short = [tensor[:, :, :512].detach().requires_grad_(backward) for tensor in inputs]
    for _ in range(2):  # what the first call loads is no part of the peak
        _step(case, short, None if case.pattern is None else case.pattern(512), backward)
    seconds: list[float] = []

    def step() -> None:
        began = time.perf_counter()
        _step(case, inputs, pattern, backward)
        seconds.append(time.perf_counter() - began)

    peak = None
    if unmeasurable() is None:
        peak = peak_bytes(step)
    else:
        step()
    pairs, computed = _pairs(case, pattern, options.len)
    width = 2 * _HEAD_DIM
    flops = 2 * width * options.heads
    return {
        "seconds": seconds[0],
        "peak_bytes": peak,
        "pairs": pairs,
        "flops": flops * pairs * (3 if backward else 1),
        "computed_share": None if computed is None else computed / pairs,
    }


def _step(case: Case, inputs: list[Tensor], pattern: Pattern | None, backward: bool) -> None:
    query, key, value = inputs
    with torch.set_grad_enabled(backward):
        output = case.run(query, key, value, pattern)
    if backward:
        output.backward(query.detach())


def _pairs(case: Case, pattern: Pattern | None, length: int) -> tuple[int, int | None]:
    """Return the pairs of one head that may attend, and those in blocks of a pattern that are computed."""
    if "window" in case.options:
        window = case.options["window"]
        ahead = 1 if case.options.get("causal") else window
        return patterns.sliding(window, ahead=ahead).num_pairs(length, length), None
    if pattern is None:
        return length * length, None
    return pattern.num_pairs(length, length), pattern.num_computed(length, length)


def _table(values: dict[str, dict[str, Any]], options: argparse.Namespace) -> Plain:
    rows = [
        [
            name,
            "not measured" if one["peak_bytes"] is None else f"{one['peak_bytes'] / 2**20:,.0f} MiB",
            f"{one['seconds']:,.1f} s" if one["seconds"] >= 1 else f"{one['seconds'] * 1e3:,.0f} ms",
            f"{one['flops'] / 1e9:,.1f}",
            f"{one['pairs'] / options.len**2:.2%}",
            "–" if one["computed_share"] is None else f"{one['computed_share']:.2f}",
        ]
        for name, one in values.items()
    ]
    inputs = 3 * options.heads * options.len * _HEAD_DIM * 4 / 2**20
    return Plain(
        title=f"one layer, {options.heads} heads of {_HEAD_DIM}, {options.len:,} tokens; inputs of {inputs:,.0f} MiB",
        columns=["case", "peak beyond the inputs", "time", "GFLOP needed", "of all pairs", "computed / needed"],
        rows=rows,
        values=values,
        note="backward: forward and backward together; needed: products over the pairs that may attend, no more.",
    )


if __name__ == "__main__":
    main()
