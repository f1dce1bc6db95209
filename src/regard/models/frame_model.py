"""A model of whole sequences of numeric frames: a class or a number for each."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from regard._errors import ArgumentError, DtypeError
from regard.models.frame_config import FrameConfig
from regard.models.initialise import initialise, initialise_recurrent
from regard.models.inputs import check_not_empty, keep_mask, stands_right
from regard.models.pre_norm_encoder import PreNormEncoder
from regard.modules import (
    FastDropout,
    FeedForward,
    MultiHeadAttention,
    RecurrentLayers,
    ResidualAttention,
    SinusoidalPositions,
)

__all__ = ["FrameModel"]

_ROTARY_BASE = 10_000.0


class FrameModel(nn.Module):
    """Frames are joined to patches and projected, read by a Transformer or a recurrent network, and averaged.

    A frame is what a microphone or a sensor gave at one moment, already numbers: cepstral coefficients, an
    acceleration. With ``architecture`` "gru" or "lstm" a recurrent network reads the same patches both ways. The mean
    is over real patches, and padding, wherever it stands and whatever it holds, changes no output. Attention layers
    are called ``encoder.layer.<n>.attention``.

    Args:
        config: sizes and rates.

    References:
        Zerveas et al., A Transformer-based framework for multivariate time series representation learning,
        arXiv:2010.02803.

    Example:
        >>> model = FrameModel(FrameConfig(num_channels=12, num_outputs=9))
        >>> model(torch.randn(2, 29, 12)).shape
        torch.Size([2, 9])
    """

    def __init__(self, config: FrameConfig) -> None:
        super().__init__()
        self.config = config
        attends = config.architecture == "transformer"
        self.patches = nn.Linear(config.patch_len * config.num_channels, config.embed_dim)
        adds = attends and config.positions == "sinusoidal"
        self.positions = SinusoidalPositions(config.embed_dim) if adds else None
        self.dropout = FastDropout(config.dropout_p)
        self.encoder = PreNormEncoder(_layer(config) for _ in range(config.num_layers)) if attends else _network(config)
        self.head = nn.Linear(config.embed_dim if attends else 2 * config.state_dim, config.num_outputs)
        self.apply(initialise)
        if isinstance(self.encoder, RecurrentLayers):
            initialise_recurrent(self.encoder.layers)

    def forward(
        self, frames: Float[Tensor, "batch len channels"], attention_mask: Tensor | None = None
    ) -> Float[Tensor, "batch outputs"]:
        """Return logits of the classes, or the number, of each sequence.

        Args:
            frames: of each sequence, brought to the scale that the model was trained on.
            attention_mask: bool or 0/1 whole numbers (batch, len), 1 = real frame, at whatever places; None where all
                are real.

        Raises:
            ArgumentError: another shape, or a sequence without a real frame.
            DtypeError: frames that are no floats, or a mask of floats.
        """
        self._check(frames)
        mask = keep_mask(attention_mask, frames.shape[:2])
        keep = None if mask is None else mask[:, 0, 0]
        if keep is not None:
            check_not_empty(keep)
            frames, keep = _real_in_front(frames, keep)
        hidden = self.dropout(self._embedded(frames))
        keep = None if keep is None else _of_patches(keep, self.config.patch_len)
        if isinstance(self.encoder, RecurrentLayers):
            hidden = self.encoder(hidden, keep)[0]
        else:
            hidden = self.encoder(hidden, None if keep is None else ~keep)
        outputs: Tensor = self.head(self.dropout(_mean(hidden, keep)))
        return outputs

    def _check(self, frames: Tensor) -> None:
        wanted = self.config.num_channels
        if frames.ndim != 3 or frames.shape[2] != wanted or not frames.numel():
            raise ArgumentError(
                f"frames must be (batch, len, {wanted}) with at least one frame, got {tuple(frames.shape)}; give the "
                "channels that the model was made for."
            )
        if not frames.is_floating_point():
            raise DtypeError(f"frames must be floats, got {frames.dtype}; convert them.")

    def _embedded(self, frames: Float[Tensor, "batch len channels"]) -> Float[Tensor, "batch patches embed_dim"]:
        """Return the embedded patches; the last one is filled up with zeros, the mean of each channel."""
        missing = -frames.shape[1] % self.config.patch_len
        whole = F.pad(frames, (0, 0, 0, missing)) if missing else frames
        embedded: Tensor = self.patches(whole.unflatten(1, (-1, self.config.patch_len)).flatten(2))
        if self.positions is None:
            return embedded
        placed: Tensor = embedded + self.positions(embedded.shape[1], device=embedded.device).to(embedded.dtype)
        return placed


def _real_in_front(
    frames: Float[Tensor, "batch len channels"], keep: Bool[Tensor, "batch len"]
) -> tuple[Float[Tensor, "batch len channels"], Bool[Tensor, "batch len"]]:
    """Return frames and mask with the real frames of each row at its front and zeros behind them.

    Patches are cut and positions counted from the first real frame, so that a row is read as it is alone.
    """
    if not stands_right(~keep):
        order = (~keep).to(torch.uint8).argsort(dim=1, stable=True)
        frames = frames.gather(1, order[:, :, None].expand(-1, -1, frames.shape[2]))
        keep = keep.gather(1, order)
    # Filled, not multiplied: padding may hold NaN.
    return frames.masked_fill(~keep[:, :, None], 0.0), keep


def _of_patches(keep: Bool[Tensor, "batch len"], patch_len: int) -> Bool[Tensor, "batch patches"]:
    """Return which patches hold a real frame."""
    found: Tensor = F.pad(keep, (0, -keep.shape[1] % patch_len)).unflatten(1, (-1, patch_len)).any(2)
    return found


def _mean(
    hidden: Float[Tensor, "batch patches width"], keep: Bool[Tensor, "batch patches"] | None
) -> Float[Tensor, "batch width"]:
    """Return the mean over the real patches."""
    if keep is None:
        return hidden.mean(1)
    total: Tensor = hidden.masked_fill(~keep[:, :, None], 0.0).sum(1)
    return total / keep.sum(1, keepdim=True)


def _layer(config: FrameConfig) -> ResidualAttention:
    attention = MultiHeadAttention(
        config.embed_dim,
        config.num_heads,
        dropout_p=config.attention_dropout_p,
        rotary=_ROTARY_BASE if config.positions == "rotary" else None,
    )
    feed_forward = FeedForward(config.embed_dim, config.feed_forward_dim)
    return ResidualAttention(attention, feed_forward, norm="pre", dropout_p=config.dropout_p)


def _network(config: FrameConfig) -> RecurrentLayers:
    return RecurrentLayers(
        config.embed_dim,
        config.state_dim,
        num_layers=config.num_layers,
        cell=config.architecture,
        bidirectional=True,
        dropout_p=config.dropout_p,
    )
