"""Where a translator looked in the source while it wrote: exact weights of one layer, of which the largest are kept."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from regard._errors import ArgumentError
from regard.data import collate, sorted_batches
from regard.functional import attention_weights
from regard.models import Transformer
from regard.observe import watch

__all__ = ["SparseAlignment", "alignment_layer", "alignment_maps", "sparse_alignments"]

_TOKENS_PER_BATCH = 8192


@dataclass(frozen=True, kw_only=True)
class SparseAlignment:
    """The largest weights of each token that was written, the heaviest first.

    Attributes:
        places: (tokens, top) in what the encoder read.
        weights: theirs, the mean over the heads, 0 to 1.
        own: (tokens,) weight on all places of the segment's own text; the rest is on its context.
    """

    places: Tensor
    weights: Tensor
    own: Tensor


def alignment_layer(model: Transformer, number: int | None = None) -> int:
    """Return the decoder layer whose cross-attention is taken: ``number``, or the last but one.

    The last layer prepares the choice of the word; the one before it is nearest to an alignment, in the paper's
    measurements and in ours (see the decisions).

    Raises:
        ArgumentError: there is no such layer.

    References:
        Garg et al., Jointly learning to align and translate with Transformer models, arXiv:1909.02074, section 4.1.
    """
    layers = model.config.num_decoder_layers
    if number is None:
        return max(0, layers - 2)
    if not 0 <= number < layers:
        raise ArgumentError(f"The layer of the alignments must lie in 0 to {layers - 1}, got {number}.")
    return number


def alignment_maps(
    model: Transformer, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], *, layer: int
) -> list[Float[Tensor, "_target_len _source_len"]]:
    """Return for each pair the weights from every written token to every token of the source.

    One pass reads the whole target at once (teacher forcing); row i is the step that wrote token i, which saw the
    tokens before it. It equals the map put together from the decoder's steps one by one.

    Args:
        model: in evaluation mode.
        sources: token ids that the encoder read.
        targets: token ids that were written, at least one each.
        layer: of the decoder.

    Returns:
        The mean over the heads of the exact weights, on the CPU; each row sums to 1.
    """
    name = f"decoder.layer.{layer}.cross_attention"
    lengths = [max(len(source), len(target)) for source, target in zip(sources, targets, strict=True)]
    batches, inverse = sorted_batches(lengths, tokens_per_batch=max(_TOKENS_PER_BATCH, *lengths))
    device = next(model.parameters()).device
    found: list[Tensor] = []
    for batch in batches:
        source, mask = collate(sources, batch, model.config.pad_id)
        begun = [[model.config.bos_id, *target[:-1]] for target in targets]
        target, target_mask = collate(begun, batch, model.config.pad_id)
        given = [one.to(device) for one in (source, target, mask, target_mask)]
        with torch.inference_mode(), watch(model, ["entropy"], layers=[name], keep=[name]) as view:
            context = model.encode(given[0], given[2])
            model.decode(given[1], context, attention_mask=given[2], decoder_attention_mask=given[3])
        call = view.kept(name).call
        assert call.query is not None, "our own layers show their queries and keys"
        assert call.key is not None, "our own layers show their queries and keys"
        weights = attention_weights(call.query, call.key, lse=call.lse, **call.masking).mean(1).cpu()
        found += [weights[at, : len(targets[index]), : len(sources[index])] for at, index in enumerate(batch)]
    return [found[place] for place in inverse]


def sparse_alignments(
    maps: Sequence[Float[Tensor, "_target_len _source_len"]], own: Sequence[int], *, top: int
) -> list[SparseAlignment]:
    """Return the ``top`` largest weights of each row of each map, and the weight on the first ``own`` places.

    Where the source has fewer places than ``top``, all are kept.
    """
    kept = []
    for weights, length in zip(maps, own, strict=True):
        largest = weights.topk(min(top, weights.shape[1]))
        kept.append(SparseAlignment(places=largest.indices, weights=largest.values, own=weights[:, :length].sum(1)))
    return kept
