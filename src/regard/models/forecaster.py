"""A forecaster of numeric series: each channel by itself, read in patches, without its level."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from regard._errors import ArgumentError
from regard.models.forecaster_config import ForecasterConfig
from regard.models.initialise import initialise, initialise_recurrent
from regard.models.pre_norm_encoder import PreNormEncoder
from regard.modules import FastDropout, FeedForward, LearnedPositions, MultiHeadAttention, ResidualAttention
from regard.modules.recurrent import RecurrentLayers
from regard.modules.reversible_norm import ReversibleNorm

__all__ = ["Forecaster"]


class Forecaster(nn.Module):
    """PatchTST: a Transformer that reads a channel in overlapping patches and forecasts all of the horizon at once.

    Every channel is a sequence of its own with the same weights, so the model takes any number of them. A patch of 16
    values with a stride of 8 makes 42 tokens of 336 values. With ``architecture`` "gru" or "lstm" a recurrent network
    reads the same patches, and its last state makes the forecast. Attention layers are called
    ``encoder.layer.<n>.attention``.

    Args:
        config: sizes and rates.

    References:
        Nie et al., A time series is worth 64 words: long-term forecasting with Transformers, arXiv:2211.14730; Kim et
        al., Reversible instance normalization (ICLR 2022).

    Example:
        >>> model = Forecaster(ForecasterConfig(input_len=96, horizon=24))
        >>> model(torch.randn(2, 96, 7)).shape
        torch.Size([2, 24, 7])
    """

    def __init__(self, config: ForecasterConfig) -> None:
        super().__init__()
        self.config = config
        attends = config.architecture == "transformer"
        self.norm = ReversibleNorm(config.num_channels)
        self.patches = nn.Linear(config.patch_len, config.embed_dim)
        self.positions = LearnedPositions(config.num_patches, config.embed_dim) if attends else None
        self.dropout = FastDropout(config.dropout_p)
        self.encoder = (
            PreNormEncoder(_layer(config) for _ in range(config.num_layers)) if attends else _recurrent(config)
        )
        read_dim = config.embed_dim * config.num_patches if attends else config.state_dim
        self.head = nn.Linear(read_dim, config.horizon)
        self.apply(initialise)
        if isinstance(self.encoder, RecurrentLayers):
            initialise_recurrent(self.encoder.layers)

    def forward(self, series: Float[Tensor, "batch input_len channels"]) -> Float[Tensor, "batch horizon channels"]:
        """Return the forecast of what follows ``series``, in its unit.

        Raises:
            ArgumentError: another length than the config's ``input_len``.
        """
        if series.ndim != 3 or series.shape[1] != self.config.input_len:
            raise ArgumentError(
                f"series must be (batch, {self.config.input_len}, channels), got {tuple(series.shape)}; "
                "read as many values as the model was made for."
            )
        normed, level = self.norm(series)
        channels = normed.transpose(1, 2).flatten(0, 1)
        forecast = self.head(self.dropout(self._read(self._patched(channels))))
        return self.norm.undo(forecast.unflatten(0, (len(series), -1)).transpose(1, 2), level)

    def _patched(self, channels: Float[Tensor, "rows input_len"]) -> Float[Tensor, "rows patches embed_dim"]:
        """Return the embedded patches; the end is padded so that the last values begin no fewer patches than others."""
        config = self.config
        padded = torch.cat([channels, channels[:, -1:].expand(-1, config.stride)], 1)
        embedded = self.patches(padded.unfold(1, config.patch_len, config.stride))
        if self.positions is not None:
            embedded = embedded + self.positions(config.num_patches)
        found: Tensor = self.dropout(embedded)
        return found

    def _read(self, patches: Tensor) -> Tensor:
        """Return what the forecast is made of: all hidden states, or the last one of a recurrent network."""
        if self.positions is not None:
            return self.encoder(patches).flatten(1)  # type: ignore[no-any-return]
        return self.encoder(patches)[0][:, -1]  # type: ignore[no-any-return]


def _layer(config: ForecasterConfig) -> ResidualAttention:
    attention = MultiHeadAttention(config.embed_dim, config.num_heads, dropout_p=config.attention_dropout_p)
    feed_forward = FeedForward(config.embed_dim, config.feed_forward_dim)
    return ResidualAttention(attention, feed_forward, norm="pre", dropout_p=config.dropout_p)


def _recurrent(config: ForecasterConfig) -> RecurrentLayers:
    return RecurrentLayers(
        config.embed_dim,
        config.state_dim,
        num_layers=config.num_layers,
        cell=config.architecture,
        dropout_p=config.dropout_p,
    )
