"""Tell statistics to the log: a line a layer at INFO, a line a head at DEBUG, alerts at WARNING."""

import logging
from collections.abc import Mapping
from typing import Any

import torch

from regard import logs
from regard.observe.moments import Moments

__all__ = ["LogRecorder"]


class LogRecorder:
    """Log the statistics of each step through the standard library's logging, see ``regard.logs``.

    A step is told when the next one begins, or at ``flush``: by then all its calls are in, and those of one layer are
    one. Events are ``layer`` (mean over the heads in which a row counted), ``head`` and ``alert``. Where the logger is
    not enabled for INFO, nothing is kept or computed.

    Args:
        logger: where to; ``regard.watch`` by default.

    Example:
        >>> recorder = LogRecorder(logging.getLogger("regard.watch"))
        >>> with regard.watch(model, ["entropy"], recorder=recorder) as view:
        ...     _ = model(inputs)
        >>> recorder.flush()
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logging.getLogger("regard.watch") if logger is None else logger
        self._step = 0
        self._waiting: dict[tuple[int, str], dict[tuple[str, ...], Moments]] = {}

    def add(self, step: int, layer: str, statistics: tuple[str, ...], moments: Moments) -> None:
        """Take the summary of one call; calls of the same step and layer are merged."""
        if not self._logger.isEnabledFor(logging.INFO):
            return
        if step > self._step:
            self.flush()
            self._step = step
        of_layer = self._waiting.setdefault((step, layer), {})
        before = of_layer.get(statistics)
        of_layer[statistics] = moments if before is None else before.merge(moments)

    def flush(self) -> None:
        """Tell what is waiting."""
        waiting, self._waiting = self._waiting, {}
        for (step, layer), parts in waiting.items():
            self._tell(step, layer, parts)

    def close(self) -> None:
        """Tell what is waiting; the logger stays open, closing twice is harmless."""
        self.flush()

    def alert(self, step: int, layer: str, head: int | None, statistic: str, message: str, **fields: Any) -> None:
        """Log a warning at once: event ``alert``, with the message as the field ``reason``.

        Args:
            step: counted from 1.
            layer: dotted module name.
            head: which head; None for the whole layer.
            statistic: its name.
            message: what is wrong.
            **fields: further fields, such as ``value`` and ``threshold``.
        """
        where = {"step": step, "layer": layer, "head": head, "statistic": statistic}
        logs.event(self._logger, logging.WARNING, "alert", **where, reason=message, **fields)

    def _tell(self, step: int, layer: str, parts: Mapping[tuple[str, ...], Moments]) -> None:
        means = {name: row for names, part in parts.items() for name, row in zip(names, part.mean.cpu(), strict=True)}
        rows = torch.stack([part.num_rows.amax(0).cpu() for part in parts.values()]).amax(0).long()
        empty = torch.stack([part.num_empty.amax(0).cpu() for part in parts.values()]).amax(0).long()
        where = {"step": step, "layer": layer}
        counts = {"heads": len(rows), "rows": int(rows.amax()), "empty_rows": int(empty.amax())}
        over_heads = {name: row.nanmean().item() for name, row in means.items()}
        logs.event(self._logger, logging.INFO, "layer", **where, **counts, **over_heads)
        if self._logger.isEnabledFor(logging.DEBUG):
            for head in range(len(rows)):
                counts = {"rows": int(rows[head]), "empty_rows": int(empty[head])}
                of_head = {name: row[head].item() for name, row in means.items()}
                logs.event(self._logger, logging.DEBUG, "head", **where, head=head, **counts, **of_head)
