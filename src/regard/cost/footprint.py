"""Which memory is in use while a model runs: every storage from its making to its end, and the largest sum of them."""

import weakref
from collections.abc import Callable
from enum import StrEnum
from functools import partial

from torch import Tensor

from regard.cost.owners import storage_key

__all__ = ["Footprint", "Holding"]

_NODE = 960
"""Bytes of a node of autograd with what it notes of the tensors that it saves, as measured.

Resident memory of fresh processes, without the tensors' numbers, over thousands of nodes: 0.9 to 1.0 KiB in GRUs, LSTM
cells and encoder layers, 1.1 in a plain recurrent layer, 1.4 in a chain of norms and linear layers.
"""


class Holding(StrEnum):
    """What a piece of memory is held for."""

    WEIGHTS = "weights"
    GRADIENTS = "gradients"
    OPTIMIZER = "optimizer state"
    INPUTS = "inputs"
    ACTIVATIONS = "activations"
    TEMPORARIES = "made in the backward pass"
    WORKSPACE = "workspace of a kernel"
    GRAPH = "graph of autograd"


class Footprint:
    """Memory in bytes, now and at its largest.

    Args:
        forget: told the key of each storage that is given back.

    Attributes:
        live: bytes in use now, by what they are held for.
        peak: the largest sum of those so far.
        at_peak: what was in use then, by what it was held for.
        operator: what ran then.
    """

    def __init__(self, forget: Callable[[int], object]) -> None:
        self.live: dict[Holding, int] = dict.fromkeys(Holding, 0)
        self.peak = 0
        self.at_peak: dict[Holding, int] = dict(self.live)
        self.operator = ""
        self._forget = forget
        self._held: dict[int, tuple[Holding, int]] = {}
        self._alive: dict[int, weakref.ref[object]] = {}
        self._total = self._stays = self._graph = 0

    def see(self, tensor: Tensor, holding: Holding, num_bytes: int | None = None) -> None:
        """Count the memory of ``tensor``, or ``num_bytes`` for it, until it is given back; what is counted stays."""
        key = storage_key(tensor)
        if key in self._held:
            return
        storage = tensor.untyped_storage()
        size = storage.nbytes() if num_bytes is None else num_bytes
        self._held[key] = holding, size
        self._alive[key] = weakref.ref(storage, partial(self._end, key))
        self.live[holding] += size
        self._total += size

    def hold(self, tensor: Tensor, holding: Holding) -> None:
        """Say what the memory of ``tensor``, which was seen, is held for from now on."""
        key = storage_key(tensor)
        before, size = self._held.get(key, (holding, 0))
        if before != holding:
            self._held[key] = holding, size
            self.live[before] -= size
            self.live[holding] += size

    def mark(self, operator: str, workspace: int = 0, stays: int = 0) -> None:
        """Compare with the peak, while ``operator`` runs and uses ``workspace`` bytes that nobody sees.

        Of those, ``stays`` remain with the process when they are freed, for the next one that uses a workspace.
        """
        self._stays = max(self._stays, stays)
        workspace = max(workspace, self._stays)
        if self._total + workspace + self._graph > self.peak:
            self.peak = self._total + workspace + self._graph
            self.at_peak = {**self.live, Holding.WORKSPACE: workspace, Holding.GRAPH: self._graph}
            self.operator = operator

    def graph(self, num_nodes: int) -> None:
        """Say how many nodes the graph of autograd has now; what they took stays with the process for the next ones.

        A model that computes step by step has so many small ones that they weigh as much as their tensors.
        """
        self._graph = max(self._graph, num_nodes * _NODE)

    def holds(self, tensor: Tensor) -> Holding | None:
        """Return what the memory of ``tensor`` is held for; None where it was never seen."""
        found = self._held.get(storage_key(tensor))
        return None if found is None else found[0]

    def _end(self, key: int, _: object) -> None:
        holding, size = self._held.pop(key)
        del self._alive[key]
        self.live[holding] -= size
        self._total -= size
        self._forget(key)
