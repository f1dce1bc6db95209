"""A cache that forgets: the last tokens, and the first few that attention leans on."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regard._errors import ArgumentError
from regard.modules.cache.buffer import GROWTH
from regard.modules.cache.protocol import Attended, Shape, Tokens

__all__ = ["SlidingWindowCache"]


class SlidingWindowCache:
    """Keeps the last ``window`` tokens of each sequence and its first ``num_sinks``; memory does not grow.

    A query sees the keys at most ``window`` - 1 places before its own, and the sinks: exactly what dense attention with
    that mask sees, in prompts of any length and behind padding. Places stay those of the whole sequence, so positions
    go on growing; a model can only use those that it was trained with.

    Room is for ``num_sinks`` + ``window`` + 127 tokens, through which the window slides before it is moved back.

    Args:
        window: how many keys back a query sees, itself included.
        num_sinks: first tokens that all later ones see; 0 for none.

    Raises:
        ArgumentError: a window without a key, or a negative number of sinks.

    References:
        Xiao et al., Efficient streaming language models with attention sinks, arXiv:2309.17453 (who number the places
        within the cache anew instead); Beltagy et al., Longformer, arXiv:2004.05150.
    """

    def __init__(self, window: int, *, num_sinks: int = 4) -> None:
        if window < 1 or num_sinks < 0:
            raise ArgumentError(f"window must be at least 1 and num_sinks at least 0, got {window} and {num_sinks}.")
        self.window, self.num_sinks = window, num_sinks
        self._tokens, self._shape = Tokens(), Shape()
        self._rooms: list[Tensor] = []  # of keys and of values
        self._first = self._end = 0  # of the tokens kept, within the rooms
        self._places: Tensor | None = None  # of the tokens kept (batch, kept), -1 for padding; None without padding

    @property
    def length(self) -> int:
        """Return how many tokens were appended, padding and forgotten ones included."""
        return self._tokens.length

    @property
    def num_bytes(self) -> int:
        """Return the memory that is allocated, in bytes."""
        return sum(room.nbytes for room in self._rooms)

    @property
    def max_len(self) -> None:
        """Return None: any number of tokens can be appended."""

    def positions(self, q_len: int, keep: Tensor | None = None) -> Int[Tensor, "*sequences q_len"]:
        """Return the places of the next ``q_len`` tokens, counted over real tokens of each sequence from 0."""
        return self._tokens.positions(q_len, keep)

    def append(
        self,
        key: Float[Tensor, "batch kv_heads q_len head_dim"],
        value: Float[Tensor, "batch kv_heads q_len value_dim"],
        keep: Tensor | None = None,
    ) -> Attended:
        """Take the keys and values of the next tokens and return those within reach of any of them.

        Raises:
            ArgumentError: another batch size or head width than before, a mask that does not fit, or tensors that
                require a gradient.
            DtypeError: a mask that is not boolean.
        """
        self._shape.check(key, value)
        self._forget()
        places, kept = self.positions(key.shape[2], keep).to(key.device), self._kept_places().to(key.device)
        self._tokens.add(key, keep)
        added = places.expand(len(kept) if self._tokens.keep is None else len(key), -1)
        added = added if keep is None else added.masked_fill(~keep, -1)
        kept = torch.cat((kept.expand(len(added), -1), added), 1)
        self._places = None if self._tokens.keep is None else kept
        mask = self._mask(places, kept)
        return Attended(*self._written(key, value), mask)

    def held(self) -> Attended:
        """Return the keys and values that the next token may see, and perhaps one more.

        Raises:
            ArgumentError: there are none.
        """
        self._tokens.check_not_empty()
        keep = None if self._places is None else (self._places >= 0)[:, None, None, :]
        return Attended(*self._views(), keep)

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        """Keep the sequences ``rows``, in that order; one may be left out, or taken several times."""
        if self._rooms:
            self._put([view.index_select(0, rows) for view in self._views()])
        if self._places is not None:
            self._places = self._places.index_select(0, rows)
        self._tokens.select(rows)
        self._shape.select(rows)

    def room(self, length: int) -> int:
        """Return how many tokens of a sequence there is room for, whatever ``length``.

        Padding within a sequence makes it more: as many tokens as stand between the window's first and last.
        """
        return self.num_sinks + self.window - 1 + GROWTH

    def token_bytes(self, width: int, dtype: torch.dtype) -> int:
        """Return the bytes of one key or value of ``width`` numbers of ``dtype``."""
        return width * dtype.itemsize

    def _views(self) -> tuple[Tensor, Tensor]:
        key, value = (room[:, :, self._first : self._end] for room in self._rooms)
        return key, value

    def _written(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Put a step behind what is kept and return all of it."""
        q_len, num_kept = key.shape[2], self._end - self._first
        room = self._rooms[0].shape[2] if self._rooms else 0
        if num_kept + q_len > room:
            whole = self._joined(key, value)
            num_outdated, sinks = self._outdated(num_kept + q_len, whole)
            first = num_outdated and self.num_sinks + num_outdated
            rest = [part[:, :, first:] for part in whole]
            self._put([torch.cat(pair, 2) for pair in zip(sinks, rest, strict=True)] if sinks else rest)
            return whole
        if self._end + q_len > room:
            self._put([view.clone() for view in self._views()])
        for place, new in zip(self._rooms, (key, value), strict=True):
            place[:, :, self._end : self._end + q_len] = new
        self._end += q_len
        return self._views()

    def _joined(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        if not self._rooms:
            return key, value
        kept = self._views()
        return torch.cat((kept[0], key), 2), torch.cat((kept[1], value), 2)

    def _forget(self) -> None:
        """Drop what the next token does not see: the sinks move up to the window, which keeps the keys in order."""
        num_outdated, sinks = self._outdated(self._end - self._first, self._views() if self._rooms else ())
        self._first += num_outdated
        for room, part in zip(self._rooms, sinks, strict=num_outdated > 0):
            room[:, :, self._first : self._first + self.num_sinks] = part

    def _outdated(self, num_kept: int, kept: tuple[Tensor, ...]) -> tuple[int, list[Tensor]]:
        """Return how many tokens behind the sinks are out of reach, and the sinks; bring the places up to date."""
        sinks, places = self.num_sinks, self._places
        if places is None:
            num_outdated = max(0, num_kept - sinks - (self.window - 1))
            return num_outdated, [part[:, :, :sinks].clone() for part in kept] if num_outdated else []
        if not num_kept:
            return 0, []
        reached = places.amax(1, keepdim=True) + 2 - self.window  # the first place that the next token sees
        needed = (places >= reached.clamp_min(sinks)).any(0)
        first = int(needed.int().argmax()) if bool(needed.any()) else num_kept
        num_outdated = max(0, first - sinks)
        if not num_outdated:
            return 0, []
        # A sink may stand anywhere among what is left out: sequences begin behind padding of unequal lengths.
        numbers = torch.arange(sinks, device=places.device)
        is_sink = places[:, None, :first] == numbers[:, None]
        self._places = torch.cat((torch.where(is_sink.any(2), numbers, -1), places[:, first:]), 1)
        index = is_sink.int().argmax(2)[:, None, :, None]
        return num_outdated, [part.gather(2, index.expand(-1, part.shape[1], -1, part.shape[3])) for part in kept]

    def _kept_places(self) -> Tensor:
        """Return the place of each token that is kept, (1 or batch, kept)."""
        if self._places is not None:
            return self._places
        places = torch.arange(self.length - (self._end - self._first), self.length)
        places[: self.num_sinks] = torch.arange(self.num_sinks)[: len(places)]
        return places[None]

    def _mask(self, places: Tensor, kept: Tensor) -> Tensor | None:
        """Return which of the ``kept`` places each query sees; causality hides the later ones."""
        if self._places is None and (len(places) == 1 or self.length <= self.window):
            return None
        distance = places[..., :, None] - kept[:, None, :]
        seen = (kept >= 0)[:, None, :] & ((distance < self.window) | (kept < self.num_sinks)[:, None, :])
        return seen[:, None]

    def _put(self, kept: list[Tensor]) -> None:
        """Write ``kept`` to the beginning of the rooms."""
        self._first, self._end = 0, kept[0].shape[2]
        size = max(self.num_sinks + self.window - 1, self._end) + GROWTH
        if not self._rooms or (len(self._rooms[0]), self._rooms[0].shape[2]) != (len(kept[0]), size):
            self._rooms = [_room(part, size) for part in kept]
        for room, part in zip(self._rooms, kept, strict=True):
            room[:, :, : self._end] = part


def _room(like: Tensor, size: int) -> Tensor:
    # A tensor made under inference mode could not be written to outside of it.
    with torch.inference_mode(False):
        return torch.empty(*like.shape[:2], size, like.shape[3], dtype=like.dtype, device=like.device)
