"""What a remedy is: when it is advised, what it can win at most, and how it is applied and taken back."""

from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from regard.cost.parts import Part
from regard.cost.profile import Profile
from regard.cost.workload import Workload

__all__ = ["Advice", "Remedy"]


@dataclass(frozen=True, kw_only=True)
class Advice:
    """A remedy that a profile calls for.

    Attributes:
        name: of the remedy, to apply it by.
        title: what to do.
        why: what the profile showed.
        changes: what else it changes, such as the results.
        at_most: share of the time that would be saved if what it touches took none.
    """

    name: str
    title: str
    why: str
    changes: str
    at_most: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "name": self.name,
            "title": self.title,
            "why": self.why,
            "changes": self.changes,
            "at_most": self.at_most,
        }


@runtime_checkable
class Remedy(Protocol):
    """A way to make a step faster, that can be tried."""

    @property
    def name(self) -> str:
        """Name to ask for it by."""
        ...

    @property
    def title(self) -> str:
        """What is done."""
        ...

    @property
    def changes(self) -> str:
        """What it changes beside the time."""
        ...

    @property
    def touches(self) -> Collection[Part | str]:
        """The parts that may become faster; empty for all."""
        ...

    def why(self, profile: Profile) -> str | None:
        """Return what in ``profile`` calls for it, or None."""
        ...

    def applied(self, workload: Workload, profile: Profile) -> AbstractContextManager[Workload]:
        """Have ``workload`` with the remedy meanwhile; afterwards the model is as it was.

        Raises:
            UnsupportedError: it cannot be applied to this workload.
        """
        ...
