"""Lines of Python that show a failure: the call that was made, on the tokens of the smallest failing case."""

import torch
from torch import Tensor

from regard.conformance.stream import Stream
from regard.conformance.subjects.subject import Subject

__all__ = ["called", "changed_token", "masked", "written"]


def written(tokens: Tensor) -> str:
    """Return ``tokens`` as an expression: ids as they are, vectors as a fresh draw."""
    if not tokens.dtype.is_floating_point:
        return f"torch.tensor({tokens.tolist()})"
    return f"torch.randn({', '.join(map(str, tokens.shape))}, dtype=torch.float64)"


def called(stream: Stream, tokens: str, mask: str | None = None) -> str:
    """Return the call of ``stream`` as an expression."""
    keep = stream.no_mask_text if mask is None else stream.mask_text.replace("{mask}", mask)
    return stream.text.replace("{tokens}", tokens).replace("{keep}", keep)


def changed_token(
    subject: Subject, stream: Stream, tokens: Tensor, position: int, *, looked_at: int | None = None
) -> str:
    """Return how to see that changing the token at ``position`` changes what it must not, or does not what it must.

    Args:
        subject: what is checked.
        stream: which input.
        tokens: (1, len).
        position: the token that is changed.
        looked_at: the output that must change; None for those before the token, which must stay.
    """
    change = f"other[0, {position}] += 1" if tokens.dtype == torch.int64 else f"other[0, {position}] *= 2"
    kept, wanted = (f":{position}", "must be 0") if looked_at is None else (str(looked_at), "must not be 0")
    return "\n".join(
        [
            subject.setup(),
            f"tokens = {written(tokens)}",
            "other = tokens.clone()",
            change,
            f"before, after = {called(stream, 'tokens')}, {called(stream, 'other')}",
            f"print((before - after)[:, {kept}].abs().max())  # {wanted}",
        ]
    )


def masked(subject: Subject, stream: Stream, tokens: Tensor, keep: Tensor) -> str:
    """Return how to see that a sequence gives something else with padding than alone.

    Args:
        subject: what is checked.
        stream: which input.
        tokens: (1, len) with padding.
        keep: bool (1, len), True = real token.
    """
    real = keep[0].nonzero()[:, 0].tolist()
    return "\n".join(
        [
            subject.setup(),
            f"padded = {written(tokens)}",
            f"keep = torch.tensor({keep.tolist()})",
            f"real = slice({real[0]}, {real[-1] + 1})",
            f"alone = {called(stream, 'padded[:, real]')}",
            f"print(({called(stream, 'padded', 'keep')}[:, real] - alone).abs().max())  # must be 0",
        ]
    )
