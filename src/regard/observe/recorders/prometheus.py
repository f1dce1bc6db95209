"""Show the statistics of a served model as Prometheus metrics."""

import threading
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIServer

import numpy as np
import numpy.typing as npt

from regard._errors import ArgumentError, MissingDependencyError, RecordError
from regard.observe.plan import STATISTICS
from regard.observe.recorders.background_recorder import StepRecorder
from regard.observe.recorders.waiting import Seen, by_statistic

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Gauge

__all__ = ["PrometheusRecorder"]

_PREFIX = "regard_attention_"
_COUNTERS = {
    "calls": "Attention calls whose statistics were taken.",
    "rows": "Query rows of a head that entered the statistics.",
    "empty_rows": "Query rows that may see no key.",
}


class PrometheusRecorder(StepRecorder):
    """Set gauges to the mean of each head at the last step, and count calls and rows.

    The gauges are ``regard_attention_<statistic>{layer, head}``, NaN where no row counted; the counters
    ``regard_attention_calls_total``, ``_rows_total`` and ``_empty_rows_total``, each ``{layer}``. A step is shown when
    the next one begins, or at ``flush``; while a model serves, each of its forwards is a step.

    Each gauge has a time series for every layer and head, which a Prometheus server keeps for weeks: 12 layers of 12
    heads make 144 a statistic. More than ``max_series`` of them are refused at the first step.

    A context manager that closes itself: it stops its server and takes its metrics out of the registry.

    Args:
        registry: where the metrics are registered. None for one of its own if ``port`` is given, and otherwise for
            ``prometheus_client.REGISTRY``, which a program that has an endpoint shows there.
        port: also serve them over HTTP at this port of ``host``; 0 for any free one, which ``port`` then tells.
        host: the address to serve at; only this machine by default, since the endpoint asks for no password.
        heads: a gauge for each head; otherwise for each layer, the mean over its heads.
        max_series: time series at most.

    Raises:
        ArgumentError: the registry has such metrics already, or the port cannot be had.
        MissingDependencyError: ``prometheus_client`` is not installed.

    Example:
        >>> from prometheus_client import CollectorRegistry
        >>> registry = CollectorRegistry()
        >>> recorder = PrometheusRecorder(registry=registry)
        >>> with regard.watch(model, ["normalized_entropy"], recorder=recorder):
        ...     _ = model(inputs)
        >>> recorder.flush()
        >>> where = {"layer": "encoder.layer.0.attention", "head": "3"}
        >>> 0 < registry.get_sample_value("regard_attention_normalized_entropy", where) < 1
        True
        >>> recorder.close()
    """

    def __init__(
        self,
        *,
        registry: "CollectorRegistry | None" = None,
        port: int | None = None,
        host: str = "127.0.0.1",
        heads: bool = True,
        max_series: int = 10_000,
    ) -> None:
        super().__init__()
        client = _client()
        if registry is None:
            registry = client.REGISTRY if port is None else client.CollectorRegistry()
        self._registry = registry
        self._heads = heads
        self._max_series = max_series
        self._gauges: dict[str, Gauge] = {}
        self._counters: dict[str, Counter] = {}
        self._series: dict[tuple[str, str], list[Gauge]] = {}
        self._server: tuple[WSGIServer, threading.Thread] | None = None
        try:
            for name, said in _COUNTERS.items():
                self._counters[name] = client.Counter(_PREFIX + name, said, ["layer"], registry=registry)
        except ValueError as error:
            self._unregister()
            raise ArgumentError(
                f"A registry takes the metrics of one PrometheusRecorder, got a second one ({error}); close the first "
                "or give each a CollectorRegistry of its own."
            ) from error
        if port is not None:
            self._serve(host, port)

    @property
    def port(self) -> int | None:
        """The port that the metrics are served at, None without a server."""
        return None if self._server is None else self._server[0].server_port

    def _serve(self, host: str, port: int) -> None:
        try:
            self._server = _client().start_http_server(port, host, self._registry)
        except (OSError, OverflowError) as error:
            self._unregister()
            raise ArgumentError(
                f"port must be free to serve at {host}, got {port}: {error}; take 0 for any."
            ) from error

    def _write_step(self, step: int, seen: Sequence[Seen]) -> None:
        summaries = by_statistic(seen)
        means = {key: moments.mean[0].numpy() for key, moments in summaries.items()}
        if not self._heads:
            means = {key: _over_heads(mean) for key, mean in means.items()}
        self._make_room(means)
        for key, mean in means.items():
            for series, value in zip(self._series[key], mean.tolist(), strict=False):
                series.set(value)
        for layer in dict.fromkeys(one.layer for one in seen):
            of_layer = [moments for (where, _), moments in summaries.items() if where == layer]
            counts = {
                "calls": max(one.calls for one in seen if one.layer == layer),
                "rows": max(moments.num_rows.max().item() for moments in of_layer),
                "empty_rows": max(moments.num_empty.max().item() for moments in of_layer),
            }
            for name, count in counts.items():
                self._counters[name].labels(layer=layer).inc(count)

    def _make_room(self, means: Mapping[tuple[str, str], npt.NDArray[np.float64]]) -> None:
        """Add the time series that are missing, or none if they would be too many."""
        lengths = {key: len(series) for key, series in self._series.items()}
        lengths |= {key: max(len(mean), lengths.get(key, 0)) for key, mean in means.items()}
        wanted = sum(lengths.values()) + len(_COUNTERS) * len({layer for layer, _ in lengths})
        if wanted > self._max_series:
            raise RecordError(
                f"A PrometheusRecorder must not show more than max_series={self._max_series} time series, got "
                f"{wanted}; watch fewer statistics, layers or heads, give heads=False, or raise max_series."
            )
        for (layer, statistic), length in lengths.items():
            series = self._series.setdefault((layer, statistic), [])
            for head in range(len(series), length):
                labels = {"layer": layer, "head": str(head)} if self._heads else {"layer": layer}
                series.append(self._gauge(statistic).labels(**labels))

    def _gauge(self, statistic: str) -> "Gauge":
        if statistic not in self._gauges:
            said = f"{STATISTICS.get(statistic, statistic)}; mean over the query rows of the last step."
            labels = ["layer", "head"] if self._heads else ["layer"]
            self._gauges[statistic] = _client().Gauge(_PREFIX + statistic, said, labels, registry=self._registry)
        return self._gauges[statistic]

    def _end(self) -> None:
        if self._server is not None:
            (server, thread), self._server = self._server, None
            server.shutdown()
            thread.join()
            server.server_close()
        self._unregister()

    def _unregister(self) -> None:
        for metric in (*self._gauges.values(), *self._counters.values()):
            self._registry.unregister(metric)
        self._gauges, self._counters = {}, {}


def _over_heads(mean: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    known = mean[~np.isnan(mean)]
    return known.mean(keepdims=True) if known.size else np.array([np.nan])


def _client() -> ModuleType:
    try:
        import prometheus_client
    except ImportError as error:
        raise MissingDependencyError(
            'PrometheusRecorder needs prometheus_client, which is not installed; run pip install "regard[serve]".'
        ) from error
    return prometheus_client
