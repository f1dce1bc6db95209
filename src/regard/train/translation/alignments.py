"""Where a translator looked in the source while it wrote: exact weights of one layer, of which the largest are kept."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from regard._errors import ArgumentError
from regard.data import collate, sorted_batches
from regard.functional import attention_weights
from regard.models import RecurrentTranslator, Transformer
from regard.observe import watch
from regard.train.translation.model import TranslationNetwork

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


def alignment_layer(model: TranslationNetwork, number: int | None = None) -> int:
    """Return the decoder layer whose cross-attention is taken: ``number``, or the last but one.

    The last layer prepares the choice of the word; the one before it is nearest to an alignment, in the paper's
    measurements and in ours (see the decisions). A recurrent decoder looks back once a step: its only layer is 0.

    Raises:
        ArgumentError: there is no such layer.

    References:
        Garg et al., Jointly learning to align and translate with Transformer models, arXiv:1909.02074, section 4.1.
    """
    if isinstance(model, RecurrentTranslator):
        layers = 1
        if model.config.attention == "none":
            raise ArgumentError(
                "Alignments need a translator that attends to its source, got one with attention 'none'."
            )
    else:
        layers = model.config.num_decoder_layers
    if number is None:
        return max(0, layers - 2)
    if not 0 <= number < layers:
        raise ArgumentError(f"The layer of the alignments must lie in 0 to {layers - 1}, got {number}.")
    return number


def alignment_maps(
    model: TranslationNetwork, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], *, layer: int
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
    lengths = [max(len(source), len(target)) for source, target in zip(sources, targets, strict=True)]
    batches, inverse = sorted_batches(lengths, tokens_per_batch=max(_TOKENS_PER_BATCH, *lengths))
    device = next(model.parameters()).device
    found: list[Tensor] = []
    for batch in batches:
        source, mask = collate(sources, batch, model.config.pad_id)
        begun = [[model.config.bos_id, *target[:-1]] for target in targets]
        target, target_mask = collate(begun, batch, model.config.pad_id)
        given = [one.to(device) for one in (source, target, mask, target_mask)]
        with torch.inference_mode():
            weights = (
                _recurrent_weights(model, *given)
                if isinstance(model, RecurrentTranslator)
                else _layer_weights(model, f"decoder.layer.{layer}.cross_attention", *given)
            ).cpu()
        found += [weights[at, : len(targets[index]), : len(sources[index])] for at, index in enumerate(batch)]
    return [found[place] for place in inverse]


def _layer_weights(
    model: Transformer, name: str, source: Tensor, target: Tensor, mask: Tensor, target_mask: Tensor
) -> Tensor:
    with watch(model, ["entropy"], layers=[name], keep=[name]) as view:
        context = model.encode(source, mask)
        model.decode(target, context, attention_mask=mask, decoder_attention_mask=target_mask)
    call = view.kept(name).call
    assert call.query is not None, "our own layers show their queries and keys"
    assert call.key is not None, "our own layers show their queries and keys"
    return attention_weights(call.query, call.key, lse=call.lse, **call.masking).mean(1)


def _recurrent_weights(
    model: RecurrentTranslator, source: Tensor, target: Tensor, mask: Tensor, target_mask: Tensor
) -> Tensor:
    """Hear what each step of the decoder asks, and ask all of it once more for the weights."""
    layer, memory, asked = model.decoder.cross_attention, model.begin(source, mask), []
    assert layer is not None, "alignment_layer refused a model that does not attend"
    hearing = layer.register_forward_pre_hook(lambda _, arguments: asked.append(arguments[0]))
    try:
        model.decode(target, memory, target_mask)
    finally:
        hearing.remove()
    return layer.weights(torch.cat(asked, 1), memory.context, key_padding_mask=memory.padding)


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
