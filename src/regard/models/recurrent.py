"""The recurrent baseline: GRU and LSTM behind the interface of the attention models.

A comparison is fair where nothing else differs: the same ids and masks go in, the same logits come out, padding changes
neither, and ``width_for`` makes the parameter counts equal.
"""

import sys

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from regard._errors import ArgumentError
from regard.functional import linear
from regard.models.initialise import initialise, initialise_recurrent
from regard.models.inputs import check_ids, check_not_empty, keep_mask
from regard.models.recurrent_config import RecurrentConfig
from regard.modules import FastDropout, RecurrentLayers
from regard.modules.recurrent import State

__all__ = [
    "Recurrent",
    "RecurrentForCausalLM",
    "RecurrentForSequenceClassification",
    "RecurrentForTokenClassification",
]


class Recurrent(nn.Module):
    """Word embeddings, dropout, and GRU or LSTM layers.

    There are no positions: the order of reading is the order. Recurrent weights start orthogonal and an LSTM's forget
    gates open (bias 1), the settings under which these networks learn best.

    Args:
        config: sizes and rates.

    References:
        Hochreiter and Schmidhuber, Long short-term memory (Neural Computation 1997); Cho et al. (GRU),
        arXiv:1406.1078; Saxe et al. (orthogonal weights), arXiv:1312.6120; Jozefowicz et al. (forget bias), An
        empirical exploration of recurrent network architectures (ICML 2015).

    Example:
        >>> config = RecurrentConfig(cell="lstm", vocab_size=99, embed_dim=32, hidden_dim=48)
        >>> Recurrent(config)(torch.tensor([[2, 17, 3]]))[0].shape
        torch.Size([1, 3, 48])
    """

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.config = config
        self.words = nn.Embedding(config.vocab_size, config.embed_dim)
        self.dropout = FastDropout(config.dropout_p)
        self.recurrent = RecurrentLayers(
            config.embed_dim,
            config.hidden_dim,
            num_layers=config.num_layers,
            cell=config.cell,
            bidirectional=config.bidirectional,
            dropout_p=config.dropout_p,
        )
        self.output_dim = self.recurrent.output_dim
        # No norm stands behind these embeddings, so they are drawn at the size that the first layer expects.
        nn.init.normal_(self.words.weight)
        initialise_recurrent(self.recurrent.layers)

    def forward(
        self,
        input_ids: Int[Tensor, "batch len"],
        attention_mask: Tensor | None = None,
        state: State | None = None,
    ) -> tuple[Float[Tensor, "batch len output_dim"], State]:
        """Return the hidden states of the last layer, 0 at padding, and the state after each row's last real token.

        Args:
            input_ids: token ids.
            attention_mask: bool or 0/1 whole numbers (batch, len), 1 = real token, at whatever places.
            state: what an earlier call returned, to go on from.

        Raises:
            ArgumentError: an id outside the vocabulary, a mask of another shape, a row without a real token.
            DtypeError: a mask of floats.
        """
        check_ids(input_ids, name="input_ids", size=self.config.vocab_size, what="vocabulary", max_len=sys.maxsize)
        keep = keep_mask(attention_mask, input_ids.shape)
        words = self.dropout(self.words(input_ids))
        hidden, last = self.recurrent(words, None if keep is None else keep[:, 0, 0], state)
        return hidden, last


class RecurrentForSequenceClassification(nn.Module):
    """A recurrent network with a linear layer over one vector per text.

    Args:
        encoder: the network; it becomes ``encoder``.
        num_labels: number of classes.
        pooling: ``"mean"`` of the hidden states of the real tokens, or the ``"last"`` states of each direction.
        dropout_p: dropout of the pooled vector.

    Raises:
        ArgumentError: fewer than two classes, or an unknown pooling.
    """

    def __init__(self, encoder: Recurrent, num_labels: int, *, pooling: str = "mean", dropout_p: float = 0.1) -> None:
        super().__init__()
        if num_labels < 2:
            raise ArgumentError(f"num_labels must be at least 2, got {num_labels}; one class needs no classifier.")
        if pooling not in ("mean", "last"):
            raise ArgumentError(f'pooling must be "mean" or "last", got {pooling!r}.')
        self.encoder = encoder
        self.num_labels = num_labels
        self.pooling = pooling
        self.dropout = FastDropout(dropout_p)
        self.classifier = nn.Linear(encoder.output_dim, num_labels)
        initialise(self.classifier)

    def forward(
        self, input_ids: Int[Tensor, "batch len"], attention_mask: Tensor | None = None
    ) -> Float[Tensor, "batch num_labels"]:
        """Return the logits of the classes; the arguments are those of ``Recurrent``."""
        hidden, last = self.encoder(input_ids, attention_mask)
        pooled = _last(last, self.encoder) if self.pooling == "last" else _mean(hidden, attention_mask)
        logits: Tensor = self.classifier(self.dropout(pooled))
        return logits


class RecurrentForTokenClassification(nn.Module):
    """A recurrent network with a linear layer over the hidden state of each token.

    Args:
        encoder: the network, best one that reads both ways; it becomes ``encoder``.
        num_labels: number of tags.
        dropout_p: dropout of the hidden states before the linear layer.

    Raises:
        ArgumentError: fewer than two tags.

    References:
        Huang et al., Bidirectional LSTM-CRF models for sequence tagging, arXiv:1508.01991 (here without the CRF).

    Example:
        >>> config = RecurrentConfig(vocab_size=99, bidirectional=True)
        >>> RecurrentForTokenClassification(Recurrent(config), 5)(torch.tensor([[2, 17, 3]])).shape
        torch.Size([1, 3, 5])
    """

    def __init__(self, encoder: Recurrent, num_labels: int, *, dropout_p: float = 0.1) -> None:
        super().__init__()
        if num_labels < 2:
            raise ArgumentError(f"num_labels must be at least 2, got {num_labels}; one tag needs no tagger.")
        self.encoder = encoder
        self.num_labels = num_labels
        self.dropout = FastDropout(dropout_p)
        self.classifier = nn.Linear(encoder.output_dim, num_labels)
        initialise(self.classifier)

    def forward(
        self, input_ids: Int[Tensor, "batch len"], attention_mask: Tensor | None = None
    ) -> Float[Tensor, "batch len num_labels"]:
        """Return the logits of the tags at each place; the arguments are those of ``Recurrent``."""
        logits: Tensor = self.classifier(self.dropout(self.encoder(input_ids, attention_mask)[0]))
        return logits


class RecurrentForCausalLM(nn.Module):
    """A recurrent network that guesses each next token, with a decoder tied to the word embeddings.

    Where the state is not as wide as the words, a linear layer stands between.

    Args:
        network: one that reads forwards only; it becomes ``network``.

    Raises:
        ArgumentError: a bidirectional network, which would see what it guesses.

    References:
        Mikolov et al., Recurrent neural network based language model (Interspeech 2010); Press and Wolf (tied
        decoder), arXiv:1608.05859.

    Example:
        >>> model = RecurrentForCausalLM(Recurrent(RecurrentConfig(vocab_size=99)))
        >>> model(torch.tensor([[2, 17, 3]])).shape
        torch.Size([1, 3, 99])
    """

    def __init__(self, network: Recurrent) -> None:
        super().__init__()
        config = network.config
        if config.bidirectional:
            raise ArgumentError("A language model must not see what it guesses, got a bidirectional network.")
        self.network = network
        same = config.hidden_dim == config.embed_dim
        self.transform = nn.Identity() if same else nn.Linear(config.hidden_dim, config.embed_dim)
        self.dropout = FastDropout(config.dropout_p)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        initialise(self.transform)

    def forward(
        self, input_ids: Int[Tensor, "batch len"], attention_mask: Tensor | None = None
    ) -> Float[Tensor, "batch len vocab_size"]:
        """Return the logits of the token after each place; the arguments are those of ``Recurrent``."""
        return self._logits(self.network(input_ids, attention_mask)[0])

    def advance(
        self, input_ids: Int[Tensor, "batch len"], state: State | None = None, attention_mask: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch len vocab_size"], State]:
        """Read on from ``state``: return logits as ``forward`` and the state to go on from, of the same size always."""
        hidden, last = self.network(input_ids, attention_mask, state)
        return self._logits(hidden), last

    def session(self) -> "RecurrentSession":
        """Return what ``generate`` and ``beam_search`` take.

        Raises:
            ArgumentError: the model is in training mode.
        """
        return RecurrentSession(self)

    def _logits(self, hidden: Tensor) -> Tensor:
        # Words are drawn at size 1 for the first layer; as a decoder that would make the first guesses wild.
        scale = self.network.config.embed_dim**-0.5
        return linear(self.transform(self.dropout(hidden)) * scale, self.network.words.weight, self.bias)


class RecurrentSession:
    """A recurrent language model and its state, which no length makes larger; meets ``Session``.

    Args:
        model: in evaluation mode.

    Raises:
        ArgumentError: the model is in training mode.
    """

    max_len = sys.maxsize

    def __init__(self, model: RecurrentForCausalLM) -> None:
        if model.training:
            raise ArgumentError("Generation needs a model in evaluation mode, got one in training; call model.eval().")
        self._model, self.length = model, 0
        self._state: State | None = None

    @torch.inference_mode()
    def feed(
        self, input_ids: Int[Tensor, "batch len"], attention_mask: Tensor | None = None
    ) -> Float[Tensor, "batch vocab_size"]:
        """Take the next tokens and return the logits of the one after them."""
        logits, self._state = self._model.advance(input_ids, self._state, attention_mask)
        self.length += input_ids.shape[1]
        return logits[:, -1]

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        """Go on with the sequences ``rows``, in that order."""
        state = self._state
        if isinstance(state, tuple):
            self._state = state[0][:, rows], state[1][:, rows]
        elif state is not None:
            self._state = state[:, rows]


def _last(state: State, encoder: Recurrent) -> Float[Tensor, "batch output_dim"]:
    """Return the last layer's state after each row's end, that of the backward network beside it."""
    hidden = state[0] if isinstance(state, tuple) else state
    directions = 2 if encoder.config.bidirectional else 1
    return hidden[-directions:].transpose(0, 1).flatten(1)


def _mean(
    hidden: Float[Tensor, "batch len output_dim"], attention_mask: Tensor | None
) -> Float[Tensor, "batch output_dim"]:
    """Return the mean over the real tokens; the hidden states at padding are 0."""
    if attention_mask is None:
        return hidden.mean(dim=1)
    real: Bool[Tensor, "batch len"] = attention_mask.bool()
    check_not_empty(real)
    return hidden.sum(dim=1) / real.sum(dim=1, keepdim=True)
