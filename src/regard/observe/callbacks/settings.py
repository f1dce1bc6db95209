"""What a callback was asked for, refused at once if it cannot mean anything."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from regard._errors import ArgumentError
from regard.observe.recorders import Recorder
from regard.observe.watch import watch

__all__ = ["Settings"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a callback.

    Attributes:
        run: the run folder, if one is to be written.
        log: whether layer means go to the trainer's log.
        recorders: where statistics go besides.
        watching: options of ``watch`` but ``recorder``.
        guard: whether attention is guarded as well, and what then happens.
    """

    run: Path | None
    log: bool
    recorders: tuple[Recorder, ...]
    watching: Mapping[str, Any]
    guard: str = "off"

    @classmethod
    def of(
        cls,
        run: Path | str | None,
        log: bool,
        recorder: Recorder | Sequence[Recorder] | None,
        watching: Mapping[str, Any],
        guard: str = "off",
    ) -> "Settings":
        """Check the arguments of a callback.

        Raises:
            ArgumentError: an option that ``watch`` does not have, or a value that it or ``guard`` refuses.
        """
        if guard not in ("off", "warn", "raise"):
            raise ArgumentError(f'guard must be "off", "warn" or "raise", got {guard!r}.')
        try:
            watch(nn.Identity(), recorder=recorder, **watching)
        except TypeError as error:
            raise ArgumentError(f"A callback takes the options of watch besides its own, got {error}.") from error
        recorders = () if recorder is None else tuple(recorder) if isinstance(recorder, Sequence) else (recorder,)
        folder = None if run is None else Path(run)
        return cls(run=folder, log=log, recorders=recorders, watching=dict(watching), guard=guard)
