"""Compare the native kernels with float64 on random calls; print the seed of each one that differs.

    python tests/native/fuzz.py --calls 10000 --seed 0
    python tests/native/fuzz.py --only 123

The calls run in another process, so that one that crashes is reported like one that differs, and the rest goes on.
"""

import argparse
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # before torch is imported: threads are waited for on shared cores

import torch
from chosen import chosen
from dense import Answer, Dense
from drawn import Drawn
from rich.console import Console
from rich.progress import track
from torch import Tensor

from regard.functional import ROW_STATISTICS, key_mass, received_mass, row_statistics
from regard.functional.impl.native_attention import native_with_lse

__all__ = ["checked", "main", "outcomes", "problems"]

_SHOWN = 30
_PER_SEED = 1_000_000  # calls of one --seed
_DONE = "."
_Checked = Iterator[tuple[str, Tensor, Answer]]


def problems(drawn: Drawn) -> list[str]:
    """Run one call and return what differs from the dense float64 answers by more than rounding explains."""
    dense = Dense(drawn.query, drawn.key, drawn.value, drawn.masking)
    found = []
    for name, values, answer in checked(drawn, dense):
        mismatch = answer.mismatch(values)
        if mismatch is not None:
            found.append(f"{name}: {mismatch}")
    return found


def checked(drawn: Drawn, dense: Dense) -> _Checked:
    """Run one call on the kernels; yield name, what was found and what is expected."""
    with chosen(drawn.instruction_set, drawn.threads):
        yield from _attention(drawn, dense)
        yield from _statistics(drawn, dense)
        yield from _columns(drawn, dense)


def _attention(drawn: Drawn, dense: Dense) -> _Checked:
    leaves = [tensor.detach() for tensor in (drawn.query, drawn.key, drawn.value)]
    if drawn.differentiated:
        leaves = [leaf.requires_grad_() for leaf in leaves]
    names = [name for name in drawn.names if "contribution" not in name and name != "mass"]
    output, lse, taken = native_with_lse(*leaves, statistics=names, **drawn.masking)
    yield "output", output, dense.output()
    yield "lse", lse, dense.lse()
    for name, values in zip(names, taken, strict=True):
        yield f"{name} with the output", _defined(name, values, dense), dense.statistic(name)
    if drawn.differentiated:
        direction = drawn.randn(*output.shape).to(output.dtype)
        lse_direction = drawn.randn(*lse.shape)
        seen = lse.masked_fill(lse == -torch.inf, 0.0)
        total = (output.float() * direction.float()).sum() + (seen * lse_direction).sum()
        given = lse_direction.double().masked_fill(lse == -torch.inf, 0.0)
        expected = dense.gradients(direction, given)
        for (name, answer), grad in zip(expected.items(), torch.autograd.grad(total, leaves), strict=True):
            yield name, grad, answer


def _defined(name: str, values: Tensor, dense: Dense) -> Tensor:
    """Return what a kernel gave, NaN where the statistic has no meaning, which the kernel need not know."""
    if name not in ("self_mass", "previous_mass"):
        return values
    q_len = values.shape[-1]
    return values.masked_fill(torch.arange(q_len) + dense.kv_len - q_len < (name == "previous_mass"), torch.nan)


def _statistics(drawn: Drawn, dense: Dense) -> _Checked:
    found = row_statistics(
        drawn.query,
        drawn.key,
        statistics=tuple(ROW_STATISTICS),
        value=drawn.value,
        rows=drawn.rows,
        route="native",
        **drawn.masking,
    )
    yield "lse of statistics", found.lse, _of_rows(dense.lse(), drawn)
    for name, values in found.values.items():
        yield name, values, _of_rows(dense.statistic(name), drawn)


def _of_rows(answer: Answer, drawn: Drawn) -> Answer:
    if drawn.rows is None:
        return answer
    batch, heads, _ = answer.exact.shape
    rows = drawn.rows.expand(batch, -1)[:, None].expand(-1, heads, -1)
    if answer.exact.shape[2] == 0:
        return answer
    return Answer(exact=answer.exact.gather(2, rows), budget=answer.budget.gather(2, rows))


def _columns(drawn: Drawn, dense: Dense) -> _Checked:
    found = received_mass(drawn.query, drawn.key, query_mask=drawn.counted, **drawn.masking)
    yield "received mass", found, dense.received(drawn.counted)
    yield "key mass", key_mass(drawn.query, drawn.key, keys=drawn.keys, **drawn.masking), dense.key_mass(drawn.keys)


def main() -> int:
    """Run the program; return 1 where a call differed."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--calls", type=int, default=1000, help="how many calls (default 1000)")
    made.add_argument("--seed", type=int, default=0, help="of all calls (default 0)")
    made.add_argument("--only", type=int, metavar="SEED", help="run only the call of this seed, in this process")
    made.add_argument("--work", type=int, nargs=2, metavar=("FIRST", "CALLS"), help=argparse.SUPPRESS)
    options = made.parse_args()
    torch.set_num_threads(1)
    if options.work:
        return _work(*options.work)
    if options.only is not None:
        return _only(options.only)
    return _all(options.seed * _PER_SEED, options.calls)


def _only(seed: int) -> int:
    drawn = Drawn.of(seed)
    print(f"{seed}: {_words(drawn)}")
    found = problems(drawn)
    print("\n".join(f"  {problem}" for problem in found) or "  within the budget")
    return int(bool(found))


def _words(drawn: Drawn) -> str:
    return f"{drawn.words}, {drawn.threads} threads" + (", with gradients" if drawn.differentiated else "")


def _work(first: int, calls: int) -> int:
    """Run calls; say on a line of its own that each is done, after what differed."""
    for seed in range(first, first + calls):
        for problem in _reported(seed):
            print(problem.replace("\n", " | "), flush=True)
        print(_DONE, flush=True)
    return 0


def _reported(seed: int) -> list[str]:
    drawn = Drawn.of(seed)
    try:
        found = problems(drawn)
    except (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        found = ["".join(traceback.format_exception_only(error)).strip()]
    return [_words(drawn), *found] if found else []


def _all(first: int, calls: int) -> int:
    console = Console(stderr=True, highlight=False)
    failed = 0
    for seed, lines in track(outcomes(first, calls), "calls", total=calls, console=console):
        if lines:
            failed += 1
            if failed <= _SHOWN:
                console.print("\n  ".join([f"{seed}: {lines[0]}", *lines[1:]]), markup=False, soft_wrap=True)
    outcome = f"{failed} of {calls} calls differ; run one with --only SEED." if failed else f"{calls} calls agree."
    print(outcome)
    return int(failed > 0)


def outcomes(first: int, calls: int) -> Iterator[tuple[int, list[str]]]:
    """Yield each seed and what was said of it; a process that died is followed by another one."""
    seed, end = first, first + calls
    while seed < end:
        command = [sys.executable, __file__, "--work", str(seed), str(end - seed)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
            assert worker.stdout is not None
            lines: list[str] = []
            for line in worker.stdout:
                if line.strip() != _DONE:
                    lines.append(line.strip())
                    continue
                yield seed, lines
                seed, lines = seed + 1, []
        if seed < end:
            yield seed, ["the process died", f"{_death(worker.returncode)}; see --only {seed}"]
            seed += 1


def _death(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"


if __name__ == "__main__":
    sys.exit(main())
