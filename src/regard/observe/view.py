"""What has been seen so far: statistics per layer and head, and the list of what was not seen."""

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from regard._errors import ArgumentError, RegardError
from regard.observe.capture import AttentionCall
from regard.observe.coverage import Coverage, attention_modules, kernels_of, uncovered_reason
from regard.observe.frames import calling_module
from regard.observe.measure import measure
from regard.observe.moments import Moments
from regard.observe.plan import STATISTICS, Plan
from regard.observe.recorder import HeadRecorder

__all__ = ["STATISTICS", "View"]


class View:
    """The statistics of a watched model; made by ``watch``, not by hand.

    Example:
        >>> with regard.watch(model) as view:
        ...     _ = model(inputs)
        >>> view["encoder.layer.0.attention"]["entropy"].shape  # one mean per head
        torch.Size([12])
    """

    def __init__(self, model: nn.Module, plan: Plan, recorder: HeadRecorder | None = None) -> None:
        self._plan = plan
        self._recorder = recorder
        self._modules = dict(model.named_modules())
        self._names = {module: name for name, module in self._modules.items()}
        self._coverage = {name: Coverage(layer=name) for name in attention_modules(model)}
        self._totals: dict[tuple[str, str], Moments] = {}
        self._step = 0
        self._counts_itself = True
        self._padding: Tensor | None = None
        self._num_calls = 0
        self._seconds = 0.0
        self._kernels: Counter[str] = Counter()

    # what a person reads

    def __getitem__(self, layer: str) -> dict[str, Tensor]:
        """Return statistic -> (heads,) float64 mean over all rows seen of ``layer``; NaN where no row counted."""
        found = {name: moments.mean[0] for (where, name), moments in self._totals.items() if where == layer}
        if not found:
            raise ArgumentError(f"A layer with statistics is needed, one of {self.layers}; got {layer!r}.")
        return found

    @property
    def layers(self) -> list[str]:
        """Dotted names of the modules whose statistics were taken, in the order of the model's first call."""
        return list(dict.fromkeys(layer for layer, _ in self._totals))

    def table(self) -> list[dict[str, Any]]:
        """Return one plain row per layer, head and statistic over everything seen.

        Each row has ``layer``, ``head``, ``statistic``, ``mean``, ``se`` (standard error; 0 where every row was taken),
        ``minimum``, ``maximum``, ``num_rows`` and ``num_empty_rows``.
        """
        rows: list[dict[str, Any]] = []
        for (layer, statistic), moments in self._totals.items():
            columns = {
                "mean": moments.mean,
                "se": moments.standard_error,
                "minimum": moments.minimum,
                "maximum": moments.maximum,
                "num_rows": moments.num_rows.long(),
                "num_empty_rows": moments.num_empty.long(),
            }
            plain = {name: column[0].tolist() for name, column in columns.items()}
            heads = range(moments.num_rows.shape[1])
            where = {"layer": layer, "statistic": statistic}
            rows += [{**where, "head": head, **{name: plain[name][head] for name in plain}} for head in heads]
        return rows

    def coverage(self) -> list[Coverage]:
        """Return every attention module of the model: how often it was seen, or why it was not."""
        seen = [name for name, entry in self._coverage.items() if entry.seen]
        for name, entry in self._coverage.items():
            if not entry.seen:
                entry.reason = uncovered_reason(self._modules[name], seen)
        return list(self._coverage.values())

    def kernels(self) -> dict[str, int]:
        """Return how often each attention kernel ran."""
        return kernels_of(self._coverage)

    # what the watching loop tells and takes

    def take_seconds(self) -> float:
        """Return the seconds spent on statistics since the last time this was asked (host time; a GPU runs on)."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def take_kernels(self) -> dict[str, int]:
        """Return how often each kernel ran since the last time this was asked."""
        kernels, self._kernels = dict(self._kernels), Counter()
        return kernels

    @property
    def step(self) -> int:
        """The step that calls are counted under; the first is 1."""
        return self._step

    def at(self, step: int) -> None:
        """Say which step the following calls belong to; without it each forward of the model is a step."""
        self._counts_itself = False
        self._step = step
        self._num_calls = 0

    def begin_forward(self, padding: Tensor | None) -> None:
        """Note that the model's forward begins, with ``padding`` bool (batch, len), True = padding, if it has any."""
        self._padding = padding
        if self._counts_itself:
            self._step += 1
            self._num_calls = 0

    def receive(self, call: AttentionCall) -> None:
        """Take one captured call."""
        began = time.perf_counter()
        layer = calling_module(self._names)
        if layer is not None:
            self._receive(layer, call)
            self._seconds += time.perf_counter() - began

    def _receive(self, layer: str, call: AttentionCall) -> None:
        self._num_calls += 1
        self._kernels[call.kernel] += 1
        entry = self._coverage.setdefault(layer, Coverage(layer=layer))
        entry.calls += 1
        entry.kernels[call.kernel] += 1
        entry.kinds[call.kind] += 1
        entry.masks[call.mask_kind] += 1
        step = max(self._step, 1)
        statistics = self._plan.due(step)
        if not statistics or not self._plan.wants(layer):
            return
        try:
            measured = measure(
                call,
                statistics,
                padding=self._padding,
                rows=self._plan.sample(call.query.shape[2], step=step, call=self._num_calls),
                heads=self._plan.heads,
                quantiles=self._plan.quantiles_due(step),
            )
        except RegardError as error:
            # A call that statistics cannot take must not stop the model that makes it; the coverage list says why.
            entry.reason = f"seen but not measured: {error}"
            return
        entry.rows += measured.num_rows
        self._add(step, layer, measured.statistics, measured.moments)

    def _add(self, step: int, layer: str, statistics: tuple[str, ...], moments: Moments) -> None:
        for index, name in enumerate(statistics):
            one = moments.pick(index)
            before = self._totals.get((layer, name))
            self._totals[layer, name] = one if before is None else before.merge(one)
        if self._recorder is not None:
            self._recorder.add(step, layer, statistics, moments)


def padding_of(arguments: Mapping[str, Any]) -> Tensor | None:
    """Return bool (batch, len), True = padding, from a model's arguments by the names that people know.

    ``attention_mask`` has Hugging Face's meaning (1 = real token), ``key_padding_mask`` and ``src_key_padding_mask``
    PyTorch's (True = padding). Masks of other ranks say nothing about padding.
    """
    mask = arguments.get("attention_mask")
    if isinstance(mask, Tensor) and mask.ndim == 2:
        return mask == 0
    for name in ("key_padding_mask", "src_key_padding_mask"):
        mask = arguments.get(name)
        if isinstance(mask, Tensor) and mask.ndim == 2 and mask.dtype == torch.bool:
            return mask
    return None
