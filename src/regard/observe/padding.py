"""Which rows and keys are padding: what the model's input says, else what its masks leave no doubt about."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regard.observe.calls import AttentionCall

__all__ = ["Padding"]

_OF_KEYS = ("key_padding_mask", "src_key_padding_mask", "memory_key_padding_mask")
_DECODING = ("decoder_input_ids", "decoder_attention_mask", "tgt", "tgt_key_padding_mask")


@dataclass(frozen=True, kw_only=True)
class Padding:
    """Padding of a model's inputs, bool (batch, len), True = padding, or None where the input says nothing.

    Attributes:
        source: of what an encoder reads, or of the only sequence.
        target: of what a decoder reads.
        has_decoder: whether the model reads two sequences.
        is_decoder: whether the model reads two sequences and is the decoder of them.
        of_keys_only: whether ``source`` came from a mask that by its name speaks of keys, and so says nothing of the
            queries of another sequence or of a cache.
    """

    source: Tensor | None = None
    target: Tensor | None = None
    has_decoder: bool = False
    is_decoder: bool = False
    of_keys_only: bool = False

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> "Padding":
        """Read the padding from a model's arguments by the names that people know; absent ones may be missing or None.

        ``attention_mask`` has Hugging Face's meaning (1 = real token), ``key_padding_mask`` and its relatives
        PyTorch's (True = padding). Masks of other ranks say nothing about padding.
        """
        ones, encoder_ones = (_from_ones(arguments.get(name)) for name in ("attention_mask", "encoder_attention_mask"))
        by_keys = [_from_padding(arguments.get(name)) for name in _OF_KEYS]
        target = _first(
            _from_ones(arguments.get("decoder_attention_mask")), _from_padding(arguments.get("tgt_key_padding_mask"))
        )
        if arguments.get("encoder_hidden_states") is not None:  # the decoder of two sequences, by Hugging Face's names
            return cls(source=encoder_ones, target=ones, has_decoder=True, is_decoder=True)
        is_decoder = "memory" in arguments
        has_decoder = is_decoder or any(name in arguments for name in _DECODING)
        return cls(
            source=_first(ones, *by_keys),
            target=target,
            has_decoder=has_decoder,
            is_decoder=is_decoder,
            of_keys_only=ones is None,
        )

    def of_rows(self, call: AttentionCall, *, in_decoder: bool, crosses: bool) -> Tensor | None:
        """Return bool (batch, q_len), True = the query is padding, or None where nothing is known.

        With a cache the queries are the last of the positions that the mask speaks of.

        Args:
            call: what asks.
            in_decoder: whether its layer lies in a decoder.
            crosses: whether its layer is known to look at another sequence than its own.
        """
        reads_target = self._reads_target(in_decoder)
        padding = self.target if reads_target else self.source
        if padding is None or padding.shape[0] != call.batch:
            return None
        of_keys_only = self.of_keys_only and not reads_target
        if padding.shape[1] == call.q_len and not (of_keys_only and crosses):
            return padding
        has_cache = reads_target if crosses else padding.shape[1] == call.kv_len and not of_keys_only
        if has_cache and padding.shape[1] > call.q_len:
            return padding[:, -call.q_len :]
        return None

    def of_keys(self, call: AttentionCall, *, in_decoder: bool, crosses: bool) -> Tensor | None:
        """Return bool (batch, kv_len), True = the key is padding, or None where nothing is known."""
        padding = self.target if self._reads_target(in_decoder) and not crosses else self.source
        if padding is not None and tuple(padding.shape) == (call.batch, call.kv_len):
            return padding
        return None

    def _reads_target(self, in_decoder: bool) -> bool:
        return self.is_decoder or (self.has_decoder and in_decoder)


def _first(*found: Tensor | None) -> Tensor | None:
    return next((tensor for tensor in found if tensor is not None), None)


def _from_ones(mask: object) -> Tensor | None:
    return mask == 0 if isinstance(mask, Tensor) and mask.ndim == 2 else None


def _from_padding(mask: object) -> Tensor | None:
    """Read PyTorch's mask: True, or -inf in one of float, is padding."""
    if not isinstance(mask, Tensor) or mask.ndim != 2:
        return None
    return mask if mask.dtype == torch.bool else mask == -torch.inf
