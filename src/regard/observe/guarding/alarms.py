"""Each alarm once: by cause, layer and head, until it has been quiet for a while."""

from collections.abc import Iterable

from regard.observe.guarding.causes import FAULTS

__all__ = ["Alarms"]

_CLEAR = 8  # looks without it, after which it may be told again


class Alarms:
    """What was told and still holds."""

    def __init__(self) -> None:
        self._quiet: dict[tuple[str, str], dict[int, int]] = {}

    def look(self, layer: str, cause: str, heads: Iterable[int]) -> tuple[int, ...]:
        """Note the heads of ``layer`` that show ``cause`` at this look, and return those that are news."""
        key, now = (layer, cause), set(heads)
        told = self._quiet.get(key)
        if told is None:
            if not now:
                return ()
            told = self._quiet[key] = {}
        news = tuple(sorted(now - told.keys()))
        for head in [*told, *news]:
            told[head] = 0 if head in now else told[head] + 1
        self._quiet[key] = {head: quiet for head, quiet in told.items() if quiet < _CLEAR}
        return news

    def pass_by(self, layer: str) -> None:
        """Note that ``layer`` shows no fault at this look."""
        if self._quiet:
            for cause in [cause for of, cause in self._quiet if of == layer and cause in FAULTS]:
                self.look(layer, cause, ())
