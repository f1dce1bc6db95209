"""The one tree of errors. Each message is a sentence: what must hold, what was got, what to do."""

__all__ = [
    "ArgumentError",
    "CapacityWarning",
    "DataError",
    "DtypeError",
    "MissingDependencyError",
    "NumericError",
    "RecordError",
    "RegardError",
    "TrainingError",
    "UnsupportedError",
]


class RegardError(Exception):
    """Base of every error that regard raises on purpose."""


class ArgumentError(RegardError, ValueError):
    """A value, shape or combination of arguments that cannot mean anything."""


class DtypeError(RegardError, TypeError):
    """A tensor or argument of the wrong type, such as a float mask where a boolean one belongs."""


class DataError(RegardError, ValueError):
    """A data set that cannot be used: a missing file, an unknown column, a label seen once."""


class RecordError(RegardError, ValueError):
    """A run folder or checkpoint that cannot be read: damaged, incomplete, or of another version."""


class TrainingError(RegardError, RuntimeError):
    """A training run that cannot go on, such as a loss that is no longer a number."""


class NumericError(RegardError, ArithmeticError):
    """A number that is not finite where attention is computed; the message says where, why, and what to do."""


class UnsupportedError(RegardError, RuntimeError):
    """Something asked for by name that cannot run here; regard never falls back to something else in silence."""


class MissingDependencyError(RegardError, ImportError):
    """An optional package that is not installed; the message names the extra that brings it."""


class CapacityWarning(UserWarning):
    """Room that will soon be used up, such as the last tenth of a cache; what does not fit is refused later."""
