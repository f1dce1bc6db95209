"""The parts of a model that its cost is told by, and the phases of a step."""

from enum import StrEnum

__all__ = ["Part", "Phase"]


class Part(StrEnum):
    """What a piece of work is for.

    It is found by where numbers come from and go to, not by names: a product with a weight is a projection where its
    result becomes a query, key or value, or where it takes what attention returns.
    """

    PROJECTIONS = "projections"
    CORE = "attention core"
    FEED_FORWARD = "feed-forward"
    NORMS = "norms"
    EMBEDDINGS = "embeddings"
    OUTPUT = "output layer"
    RECURRENT = "recurrent cells"
    CONVOLUTIONS = "convolutions"
    MASKS = "masks and positions"
    COPIES = "copies"
    DROPOUT = "dropout"
    SUMS = "sums and other elementwise work"
    LOSS = "loss"
    OPTIMIZER = "optimizer"
    OTHER = "other products"


class Phase(StrEnum):
    """When a piece of work is done."""

    FORWARD = "forward"
    BACKWARD = "backward"
    UPDATE = "update"
