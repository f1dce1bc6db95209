"""Which tokens a model has to guess, drawn anew each time that it reads them."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from regard._errors import ArgumentError

__all__ = ["Masking"]

_MASKED, _OTHER = 0.8, 0.1  # of the tokens to guess: hidden, and another token in their place; the rest stays


class Masking:
    """Dynamic masking: of the tokens to guess 80 % are hidden, 10 % become another token, and 10 % stay as they are.

    Args:
        share: of the tokens that are to be guessed.
        mask_id: the token that hides.
        special_ids: tokens that are never guessed nor drawn, such as those around a text.
        vocab_size: number of tokens.

    Raises:
        ArgumentError: nothing is left to draw.

    References:
        Devlin et al., BERT, arXiv:1810.04805, section 3.1; Liu et al., RoBERTa, arXiv:1907.11692, section 4.1.
    """

    def __init__(self, *, share: float, mask_id: int, special_ids: tuple[int, ...], vocab_size: int) -> None:
        ordinary = sorted(set(range(vocab_size)) - set(special_ids))
        if not ordinary:
            raise ArgumentError(f"A vocabulary needs tokens that are not special, got {vocab_size} special ones.")
        self._share, self._mask_id = share, mask_id
        self._ordinary, self._special = torch.tensor(ordinary), torch.tensor(sorted(set(special_ids)))

    def __call__(
        self, tokens: Int[Tensor, "batch len"], generator: torch.Generator | None = None
    ) -> tuple[Int[Tensor, "batch len"], Bool[Tensor, "batch len"]]:
        """Return what the model reads, and where it has to guess; each row has one place or more.

        Args:
            tokens: whole texts, on the CPU.
            generator: of the random numbers; None for PyTorch's own.
        """
        chance = torch.rand(tokens.shape, generator=generator)
        chance[torch.isin(tokens, self._special)] = 2.0
        guessed = chance < self._share
        # A short row may have drawn none: then its smallest number decides.
        guessed |= ~guessed.any(1, keepdim=True) & (chance == chance.amin(1, keepdim=True)) & (chance < 1)
        fate = torch.rand(tokens.shape, generator=generator)
        others = self._ordinary[torch.randint(len(self._ordinary), tokens.shape, generator=generator)]
        read = tokens.masked_fill(guessed & (fate < _MASKED), self._mask_id)
        swapped = guessed & (fate >= _MASKED) & (fate < _MASKED + _OTHER)
        return torch.where(swapped, others, read), guessed
