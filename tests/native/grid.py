"""Run every kernel once on each call of a fixed grid; exit with 1 where anything differs from float64.

    python tests/native/grid.py
    python tests/native/grid.py --set amx_bf16 --dtype bfloat16

One process, made to be run under sanitizers (`make native-sanitized`): the cases of ``tests/functional/conftest.py``,
small ones and ones that fill several blocks, in every type, on every instruction set that the processor has, with one
thread and with two. It runs forward, backward, all statistics, columns and dropout, and linear layers of some sizes.
"""

import argparse
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # before torch is imported: threads are waited for on shared cores

import regard_native
import torch
from chosen import chosen
from dense import Answer, Dense
from torch import Tensor

from regard.functional import ROW_STATISTICS, key_mass, received_mass, reference, row_statistics
from regard.functional.impl.native_attention import native_with_lse
from regard.functional.impl.native_linear import DTYPES as LINEAR_DTYPES
from regard.functional.impl.native_linear import native_linear

_CASES = Path(__file__).resolve().parent.parent / "functional" / "conftest.py"
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 0.06, torch.float16: 0.01}
_DROPPED = 0.3
_LINEAR = [(rows, *sizes) for rows in (1, 3, 8, 13) for sizes in ((1, 1), (33, 7), (200, 130), (768, 300))]
"""Rows, input and output features of linear layers."""
_Tensors = tuple[Tensor, Tensor, Tensor]
_Checked = Iterator[tuple[str, Tensor, Answer]]
_WITH_OUTPUT = tuple(name for name in regard_native.STATISTICS if name != "mass" and "contribution" not in name)


def main() -> int:
    """Run the grid; return 1 where anything differs."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sets = regard_native.instruction_sets()
    made.add_argument("--set", action="append", choices=sets, help="an instruction set (default all)")
    made.add_argument("--dtype", action="append", choices=_DTYPES, help="a type (default all)")
    options = made.parse_args()
    torch.set_num_threads(1)
    calls = differing = 0
    for shift, instruction_set in enumerate(options.set or sets):
        for number, (case, dtype) in enumerate(_grid(options.dtype or tuple(_DTYPES))):
            threads = 1 + (number + shift) % 2
            with chosen(instruction_set, threads):
                found = _linear(*case, dtype) if isinstance(case, tuple) else _differences(case, dtype)
            calls, differing = calls + 1, differing + bool(found)
            for line in found:
                print(f"{instruction_set}, {threads} threads, {str(dtype)[6:]}, {case}: {line}", flush=True)
    print(f"{differing} of {calls} calls differ." if differing else f"{calls} calls agree.")
    return int(differing > 0)


def _grid(names: Sequence[str]) -> Iterator[tuple[Any, torch.dtype]]:
    """Yield each case, small and larger, in each of the types, and the sizes of linear layers."""
    yield from ((sizes, _DTYPES[name]) for sizes in _LINEAR for name in names if name in LINEAR_DTYPES)
    for case in _cases():
        sizes = [case, _larger(case)] if case.causal <= (case.q_len <= case.kv_len) else [case]
        for sized in sizes:
            for name in names:
                yield sized, _DTYPES[name]


def _cases() -> list[Any]:
    spec = importlib.util.spec_from_file_location("functional_conftest", _CASES)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    cases: list[Any] = module.CASES
    return cases


def _larger(case: Any) -> Any:
    """Return the case with more than one block of keys and queries; few queries of many keys stay few."""
    q_len = 130 if case.q_len > 1 else 1
    kv_len = q_len if case.q_len == case.kv_len else 320
    return replace(case, q_len=q_len, kv_len=kv_len, head_dim=40, value_dim=case.value_dim + 16)


def _differences(case: Any, dtype: torch.dtype) -> list[str]:
    tensors, masking = case.tensors(dtype), case.masking(dtype)
    dense = Dense(*tensors, masking)
    checked = [*_attention(dense, tensors, masking), *_statistics(dense, tensors, masking)]
    found = [f"{name}: {mismatch}" for name, values, answer in checked if (mismatch := answer.mismatch(values))]
    return found + _dropout(tensors, masking)


def _attention(dense: Dense, tensors: _Tensors, masking: dict[str, Any]) -> _Checked:
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    output, lse, taken = native_with_lse(*leaves, statistics=_WITH_OUTPUT, **masking)
    yield "output", output, dense.output()
    yield "lse", lse, dense.lse()
    for name, values in zip(_WITH_OUTPUT, taken, strict=True):
        if name not in ("self_mass", "previous_mass"):  # NaN where there is no such key is set afterwards
            yield f"{name} with the output", values, dense.statistic(name)
    direction = torch.ones_like(output)
    lse_direction = (lse > -torch.inf).float()
    grads = torch.autograd.grad((output, lse), leaves, (direction, lse_direction))
    for (name, answer), grad in zip(dense.gradients(direction, lse_direction.double()).items(), grads, strict=True):
        yield name, grad, answer


def _linear(rows: int, in_features: int, out_features: int, dtype: torch.dtype) -> list[str]:
    shapes = (rows, in_features), (out_features, in_features), (out_features,)
    x, weight, bias = (torch.randn(shape).to(dtype) for shape in shapes)
    exact = x.double() @ weight.double().T + bias.double()
    mismatch = _loosely(exact, _TOLERANCE[dtype]).mismatch(native_linear(x, weight, bias))
    return [f"linear: {mismatch}"] if mismatch else []


def _statistics(dense: Dense, tensors: _Tensors, masking: dict[str, Any]) -> _Checked:
    query, key, value = tensors
    rows = torch.tensor([query.shape[2] - 1, 0])
    given = {"statistics": tuple(ROW_STATISTICS), "value": value, "route": "native", **masking}
    for name, values in row_statistics(query, key, **given).values.items():
        yield name, values, dense.statistic(name)
    for name, values in row_statistics(query, key, rows=rows, **given).values.items():
        answer = dense.statistic(name)
        yield f"{name} of rows", values, Answer(exact=answer.exact[..., rows], budget=answer.budget[..., rows])
    keys = torch.arange(key.shape[2]).expand(key.shape[0], -1) % 3 == 0
    counted = torch.arange(query.shape[2]).expand(query.shape[0], -1) % 4 > 0
    yield "key mass", key_mass(query, key, keys=keys, **masking), dense.key_mass(keys)
    yield "received mass", received_mass(query, key, query_mask=counted, **masking), dense.received(counted)


def _dropout(tensors: _Tensors, masking: dict[str, Any]) -> list[str]:
    """Compare output and gradients with those of the weights that the seed keeps, which identity values show."""
    query, key, _ = tensors
    identity = torch.eye(key.shape[2]).to(key.dtype).expand(*key.shape[:3], -1)
    torch.manual_seed(3)
    kept = native_with_lse(query, key, identity, dropout_p=_DROPPED, **masking)[0] != 0
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    torch.manual_seed(3)
    output = native_with_lse(*leaves, dropout_p=_DROPPED, **masking)[0]
    found = [output, *torch.autograd.grad(output, leaves, torch.ones_like(output))]
    exact_leaves = [leaf.detach().double().requires_grad_() for leaf in leaves]
    weights = reference.weights(reference.scores(*exact_leaves[:2], **masking)) * kept / (1 - _DROPPED)
    exact_output = weights @ exact_leaves[2].repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    exact = [exact_output, *torch.autograd.grad(exact_output.sum(), exact_leaves)]
    names = ("output", "grad_query", "grad_key", "grad_value")
    return [
        f"{name} with dropout: {mismatch}"
        for name, values, expected in zip(names, found, exact, strict=True)
        if (mismatch := _loosely(expected.detach(), _TOLERANCE[query.dtype]).mismatch(values))
    ]


def _loosely(exact: Tensor, tolerance: float) -> Answer:
    return Answer(exact=exact, budget=torch.full_like(exact, tolerance * max(1.0, float(exact.abs().max()))))


if __name__ == "__main__":
    sys.exit(main())
