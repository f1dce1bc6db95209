"""What queries, keys and values each decide: change one of them and see what follows."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from regard._errors import ArgumentError
from regard.functional import reference

__all__ = ["RoleEffects", "role_effects"]


@dataclass(frozen=True, kw_only=True)
class RoleEffects:
    """What a change to one row of the queries, keys or values changed, in any batch and head, to the last bit.

    Attributes:
        role: ``"query"``, ``"key"`` or ``"value"``.
        at: the row that was changed.
        scores: which scores before the softmax.
        weights: which attention weights.
        output: which rows of the output.
    """

    role: str
    at: int
    scores: Bool[Tensor, "q_len kv_len"]
    weights: Bool[Tensor, "q_len kv_len"]
    output: Bool[Tensor, " q_len"]

    def __str__(self) -> str:
        """Return one sentence."""
        parts = {"scores": self.scores, "weights": self.weights, "rows of the output": self.output}
        told = ", ".join(f"{int(changed.sum())} of {changed.numel()} {name}" for name, changed in parts.items())
        return f"{self.role} {self.at} changed {told}"


def role_effects(
    query: Float[Tensor, "batch heads q_len head_dim"],
    key: Float[Tensor, "batch kv_heads kv_len head_dim"],
    value: Float[Tensor, "batch kv_heads kv_len value_dim"],
    *,
    role: str,
    at: int,
    seed: int = 0,
    **masking: Any,
) -> RoleEffects:
    """Draw one row of the queries, keys or values anew and compare scores, weights and output, computed densely.

    A **query** decides where its own row looks and nothing else. A **key** decides how much every query that sees it
    takes of its value: one column of scores changes, and through the sum of the softmax every weight of the rows that
    see it, though the odds among the other keys stay. A **value** decides what is taken: weights do not change at all.

    Args:
        query: small ones; the comparison is quadratic.
        key: as many heads as the queries, or a divisor.
        value: what is summed.
        role: ``"query"``, ``"key"`` or ``"value"``.
        at: which row to draw anew, in all batches and heads.
        seed: of the new row.
        **masking: masks and scale, as for ``attention``.

    Raises:
        ArgumentError: another role, or a row that is not there.

    Example:
        >>> query, key, value = torch.randn(3, 1, 2, 4, 8).unbind(0)
        >>> print(role_effects(query, key, value, role="value", at=1))
        value 1 changed 0 of 16 scores, 0 of 16 weights, 4 of 4 rows of the output
    """
    tensors = {"query": query, "key": key, "value": value}
    if role not in tensors:
        raise ArgumentError(f'role must be "query", "key" or "value", got {role!r}.')
    length = tensors[role].shape[2]
    if not 0 <= at < length:
        raise ArgumentError(f"at must be a row of the {role}, 0 to {length - 1}, got {at}.")
    before = _parts(**tensors, masking=masking)
    changed = tensors[role].clone()
    generator = torch.Generator(changed.device).manual_seed(seed)
    changed[:, :, at] = torch.randn(
        changed[:, :, at].shape, generator=generator, dtype=changed.dtype, device=changed.device
    )
    after = _parts(**{**tensors, role: changed}, masking=masking)
    scores, weights, output = ((one != other).flatten(0, 1).any(0) for one, other in zip(before, after, strict=True))
    return RoleEffects(role=role, at=at, scores=scores, weights=weights, output=output.any(-1))


def _parts(query: Tensor, key: Tensor, value: Tensor, masking: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Return scores, weights and output; each row by itself, so that equal numbers give equal bits."""
    scores = reference.scores(query, key, **masking)
    weights = reference.weights(scores)
    values = value.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    output = torch.stack([(weights[..., row, :, None] * values).sum(-2) for row in range(query.shape[2])], dim=-2)
    return scores, weights, output
