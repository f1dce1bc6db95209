"""The recurrent encoder–decoder, with additive attention or without: what translated before the Transformer."""

import sys
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from regard._errors import ArgumentError
from regard.functional import linear
from regard.models.initialise import initialise, initialise_recurrent
from regard.models.inputs import check_ids, keep_mask
from regard.models.recurrent_config import RecurrentTranslatorConfig
from regard.modules import AdditiveAttention, FastDropout, RecurrentLayers

__all__ = ["RecurrentMemory", "RecurrentTranslator"]

_CELLS = {"gru": nn.GRUCell, "lstm": nn.LSTMCell}


@dataclass(frozen=True, kw_only=True)
class RecurrentMemory:
    """What the decoder goes on from: the source as it was read, and the state after the last word.

    Attributes:
        context: (batch, source_len, output_dim), the encoder's hidden states.
        padding: bool (batch, source_len), True = padding; None where there is none.
        hidden_key: (batch, source_len, hidden_dim), the attention's half of the comparison; None without attention.
        hidden: (layers, batch, hidden_dim), the state.
        cells: (layers, batch, hidden_dim), an LSTM's cells; those of a GRU are not used.
    """

    context: Tensor
    padding: Tensor | None
    hidden_key: Tensor | None
    hidden: Tensor
    cells: Tensor

    def take(self, rows: Tensor) -> "RecurrentMemory":
        """Return the memory of some rows, in that order and as often as they are named: what a beam search needs."""
        return RecurrentMemory(
            context=self.context[rows],
            padding=None if self.padding is None else self.padding[rows],
            hidden_key=None if self.hidden_key is None else self.hidden_key[rows],
            hidden=self.hidden[:, rows],
            cells=self.cells[:, rows],
        )


class RecurrentTranslator(nn.Module):
    """A network reads the source both ways; another writes the target word by word, looking back at the source.

    Step t of the decoder, from the last word y and the top state s of the step before:
    c = attention(s, source), s ← cells([y; c], s), logits = words · tanh(W [s; c; y]). Without attention c is the mean
    of the source's states at every step, so all of the source has to pass through one vector. The attention layer is
    called ``decoder.cross_attention``.

    Args:
        config: sizes and rates.

    References:
        Sutskever et al., Sequence to sequence learning with neural networks, arXiv:1409.3215; Bahdanau et al., Neural
        machine translation by jointly learning to align and translate, arXiv:1409.0473, appendix A.2.

    Example:
        >>> config = RecurrentTranslatorConfig(vocab_size=99, embed_dim=32, hidden_dim=32)
        >>> model = RecurrentTranslator(config)
        >>> model(torch.tensor([[17, 3, 2]]), torch.tensor([[1, 40, 41, 42]])).shape
        torch.Size([1, 4, 99])
    """

    def __init__(self, config: RecurrentTranslatorConfig) -> None:
        super().__init__()
        self.config = config
        self.source_words = nn.Embedding(config.vocab_size, config.embed_dim)
        own = config.tied_embeddings != "all"
        self.target_words = nn.Embedding(config.output_size, config.embed_dim) if own else self.source_words
        self.output = None if config.tied_embeddings != "none" else nn.Linear(config.embed_dim, config.output_size)
        self.dropout = FastDropout(config.dropout_p)
        self.encoder = RecurrentLayers(
            config.embed_dim,
            config.hidden_dim,
            num_layers=config.num_layers,
            cell=config.cell,
            bidirectional=True,
            dropout_p=config.dropout_p,
        )
        self.decoder = _Decoder(config, self.encoder.output_dim)
        for module in self.modules():
            if isinstance(module, nn.RNNBase | nn.RNNCellBase):
                initialise_recurrent(module)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight)
            else:
                initialise(module)

    def forward(
        self,
        input_ids: Int[Tensor, "batch source_len"],
        decoder_input_ids: Int[Tensor, "batch len"],
        attention_mask: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        logits_at: Bool[Tensor, "batch len"] | None = None,
    ) -> Float[Tensor, "*tokens vocab_size"]:
        """Return the logits of the token that follows each of ``decoder_input_ids``, (batch, len, vocab_size).

        Args:
            input_ids: token ids of the source.
            decoder_input_ids: token ids of the target, beginning with ``bos_id`` and without their last one.
            attention_mask: bool or 0/1 whole numbers (batch, source_len), 1 = real token of the source.
            decoder_attention_mask: the same of the target: the state does not change at padding, wherever it stands.
                Logits at padding mean nothing.
            logits_at: the tokens whose logits are asked for, of all rows one behind the other, (tokens, vocab_size).
                None for all.

        Raises:
            ArgumentError: an id outside the vocabulary, a mask of another shape, a source without a real token.
            DtypeError: a mask of floats.
        """
        memory = self.begin(input_ids, attention_mask)
        hidden = self.decode(decoder_input_ids, memory, decoder_attention_mask)[0]
        return self.logits(hidden if logits_at is None else hidden[logits_at])

    def begin(
        self, input_ids: Int[Tensor, "batch source_len"], attention_mask: Tensor | None = None
    ) -> RecurrentMemory:
        """Read the source; the arguments are those of ``forward``."""
        check_ids(input_ids, name="input_ids", size=self.config.vocab_size, what="vocabulary", max_len=sys.maxsize)
        keep = keep_mask(attention_mask, input_ids.shape)
        real = None if keep is None else keep[:, 0, 0]
        context, _ = self.encoder(self.dropout(self.source_words(input_ids)), real)
        return self.decoder.begin(context, real)

    def decode(
        self,
        decoder_input_ids: Int[Tensor, "batch len"],
        memory: RecurrentMemory,
        decoder_attention_mask: Tensor | None = None,
    ) -> tuple[Float[Tensor, "batch len embed_dim"], RecurrentMemory]:
        """Write on from ``memory``: return what ``logits`` makes logits of, and the memory to go on from."""
        size = self.config.output_size
        check_ids(decoder_input_ids, name="decoder_input_ids", size=size, what="vocabulary", max_len=sys.maxsize)
        keep = keep_mask(decoder_attention_mask, decoder_input_ids.shape, name="decoder_attention_mask")
        words = self.dropout(self.target_words(decoder_input_ids))
        hidden, last = self.decoder(words, memory, None if keep is None else keep[:, 0, 0])
        return hidden, last

    @torch.inference_mode()
    def session(
        self, input_ids: Int[Tensor, "batch source_len"], attention_mask: Tensor | None = None
    ) -> "RecurrentTranslatorSession":
        """Return what ``generate`` and ``beam_search`` take, made of the source; begin with ``bos_id``.

        Raises:
            ArgumentError: the model is in training mode.
        """
        return RecurrentTranslatorSession(self, self.begin(input_ids, attention_mask))

    def logits(self, hidden: Float[Tensor, "*batch embed_dim"]) -> Float[Tensor, "*batch vocab_size"]:
        """Return the logits of the next token for each vector that ``decode`` gave."""
        hidden = self.dropout(hidden)
        if self.output is not None:
            return self.output(hidden)  # type: ignore[no-any-return]
        # Words are drawn at size 1 for the layers that read them; as a decoder that would make the first guesses wild.
        return linear(hidden * self.config.embed_dim**-0.5, self.target_words.weight)


class RecurrentTranslatorSession:
    """A translator and what it remembers of each source; meets ``Session``.

    Args:
        model: in evaluation mode.
        memory: what its ``begin`` made of the sources.

    Raises:
        ArgumentError: the model is in training mode.
    """

    max_len = sys.maxsize

    def __init__(self, model: RecurrentTranslator, memory: RecurrentMemory) -> None:
        if model.training:
            raise ArgumentError("Generation needs a model in evaluation mode, got one in training; call model.eval().")
        self._model, self._memory, self.length = model, memory, 0

    @torch.inference_mode()
    def feed(
        self, input_ids: Int[Tensor, "batch len"], attention_mask: Tensor | None = None
    ) -> Float[Tensor, "batch vocab_size"]:
        """Take the next words of the targets and return the logits of the one after them."""
        hidden, self._memory = self._model.decode(input_ids, self._memory, attention_mask)
        self.length += input_ids.shape[1]
        return self._model.logits(hidden[:, -1])

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        """Go on with the targets ``rows``, in that order."""
        self._memory = self._memory.take(rows)


class _Decoder(nn.Module):
    """Cells that run word by word, since each step's look depends on the state before it."""

    def __init__(self, config: RecurrentTranslatorConfig, read_dim: int) -> None:
        super().__init__()
        hidden_dim = config.hidden_dim
        self.num_layers = config.num_layers
        self.bridge = nn.Linear(read_dim, config.num_layers * hidden_dim)
        additive = config.attention == "additive"
        self.cross_attention = AdditiveAttention(hidden_dim, hidden_dim, kdim=read_dim) if additive else None
        widths = [config.embed_dim + read_dim] + [hidden_dim] * (config.num_layers - 1)
        self.cells = nn.ModuleList(_CELLS[config.cell](width, hidden_dim) for width in widths)
        self.transform = nn.Linear(hidden_dim + read_dim + config.embed_dim, config.embed_dim)
        self.dropout = FastDropout(config.dropout_p)

    def begin(self, context: Tensor, real: Tensor | None) -> RecurrentMemory:
        """Return the memory before the first word."""
        mean = context.sum(1) / (context.shape[1] if real is None else real.sum(1, keepdim=True))
        hidden = torch.tanh(self.bridge(mean)).unflatten(1, (self.num_layers, -1)).transpose(0, 1)
        attention = self.cross_attention
        return RecurrentMemory(
            context=mean[:, None] if attention is None else context,
            padding=None if real is None or attention is None else ~real,
            hidden_key=None if attention is None else attention.hidden_key(context),
            hidden=hidden,
            cells=torch.zeros_like(hidden),
        )

    def forward(
        self, words: Tensor, memory: RecurrentMemory, real: Tensor | None = None
    ) -> tuple[Tensor, RecurrentMemory]:
        """Return (batch, len, embed_dim) for the logits, and the memory after the last word."""
        hidden, cells, steps = memory.hidden.unbind(0), memory.cells.unbind(0), []
        for place, word in enumerate(words.unbind(1)):
            context = self._look(hidden[-1], memory)
            after = self._step(torch.cat([word, context], -1), hidden, cells)
            now = None if real is None else real[:, place, None]
            hidden, cells = _where(now, after[0], hidden), _where(now, after[1], cells)
            steps.append(torch.cat([hidden[-1], context, word], -1))
        ready = torch.tanh(self.transform(torch.stack(steps, 1)))
        return ready, replace(memory, hidden=torch.stack(hidden), cells=torch.stack(cells))

    def _look(self, asking: Tensor, memory: RecurrentMemory) -> Tensor:
        """Return the part of the source that the next step gets, (batch, read_dim)."""
        if self.cross_attention is None:
            return memory.context[:, 0]
        attended: Tensor = self.cross_attention(
            asking[:, None], memory.context, key_padding_mask=memory.padding, hidden_key=memory.hidden_key
        )
        return attended[:, 0]

    def _step(
        self, x: Tensor, hidden: tuple[Tensor, ...], cells: tuple[Tensor, ...]
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return the states and cells of all layers after one word."""
        new, new_cells = [], []
        for number, (layer, before, cell) in enumerate(zip(self.cells, hidden, cells, strict=True)):
            x = self.dropout(x) if number else x
            after, kept = layer(x, (before, cell)) if isinstance(layer, nn.LSTMCell) else (layer(x, before), cell)
            new.append(after)
            new_cells.append(kept)
            x = after
        return tuple(new), tuple(new_cells)


def _where(real: Tensor | None, new: tuple[Tensor, ...], old: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return the new states where there was a word, (batch, 1), and the old ones where there was padding."""
    return new if real is None else tuple(torch.where(real, *pair) for pair in zip(new, old, strict=True))
