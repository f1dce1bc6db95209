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
    """

    run: Path | None
    log: bool
    recorders: tuple[Recorder, ...]
    watching: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        run: Path | str | None,
        log: bool,
        recorder: Recorder | Sequence[Recorder] | None,
        watching: Mapping[str, Any],
    ) -> "Settings":
        """Check the arguments of a callback.

        Raises:
            ArgumentError: an option that ``watch`` does not have, or a value that it refuses.
        """
        try:
            watch(nn.Identity(), recorder=recorder, **watching)
        except TypeError as error:
            raise ArgumentError(f"A callback takes the options of watch besides its own, got {error}.") from error
        recorders = () if recorder is None else tuple(recorder) if isinstance(recorder, Sequence) else (recorder,)
        return cls(run=None if run is None else Path(run), log=log, recorders=recorders, watching=dict(watching))
