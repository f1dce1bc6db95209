"""A served model shows its heads to Prometheus, read back as a server would read them."""

import math
import socket
import threading
import urllib.request

import prometheus_client
import pytest
import torch
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from torch import nn

from regard._errors import ArgumentError, MissingDependencyError, RecordError
from regard.modules import MultiHeadAttention
from regard.observe import Recorder, watch
from regard.observe.moments import Moments
from regard.observe.recorders.prometheus import PrometheusRecorder


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = MultiHeadAttention(16, 4)
        self.second = MultiHeadAttention(16, 4)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(inputs))


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def samples(text: str) -> dict[tuple[str, str, str | None], float]:
    return {
        (sample.name, sample.labels["layer"], sample.labels.get("head")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("regard_") and not sample.name.endswith("_created")
    }


def shown(registry: CollectorRegistry) -> dict[tuple[str, str, str | None], float]:
    return samples(prometheus_client.generate_latest(registry).decode())


def test_a_scrape_reads_the_heads_of_the_last_step_and_counts_of_all() -> None:
    model = Model()
    last = torch.randn(2, 7, 16)
    with PrometheusRecorder(port=0) as recorder:
        with watch(model, ["entropy", "max_weight"], recorder=recorder):
            model(torch.randn(3, 5, 16))
            model(last)
        with watch(model, ["entropy", "max_weight"]) as view:
            model(last)
        recorder.flush()
        with urllib.request.urlopen(f"http://127.0.0.1:{recorder.port}/metrics", timeout=60) as answer:
            found = samples(answer.read().decode())
    for layer in ("first", "second"):
        for statistic in ("entropy", "max_weight"):
            heads = [found.pop((f"regard_attention_{statistic}", layer, str(head))) for head in range(4)]
            assert heads == pytest.approx(view[layer][statistic].tolist(), rel=1e-12)
        assert found.pop(("regard_attention_calls_total", layer, None)) == 2
        assert found.pop(("regard_attention_rows_total", layer, None)) == 3 * 5 + 2 * 7
        assert found.pop(("regard_attention_empty_rows_total", layer, None)) == 0
    assert found == {}


def test_a_head_without_rows_is_nan_and_left_out_of_the_layers_mean(registry: CollectorRegistry) -> None:
    values = torch.tensor([[[[1.0]], [[torch.nan]], [[4.0]]]]).transpose(1, 2)
    every = torch.ones(1, 1, 1, dtype=torch.bool)
    moments = Moments.of(values.reshape(1, 1, 3, 1), every, ~every, num_all=1)
    with PrometheusRecorder(registry=registry) as recorder:
        recorder.add(1, "a", ("entropy",), moments)
        recorder.flush()
        found = shown(registry)
    assert math.isnan(found["regard_attention_entropy", "a", "1"])
    assert found["regard_attention_entropy", "a", "2"] == 4.0
    with PrometheusRecorder(registry=registry, heads=False) as recorder:
        recorder.add(1, "a", ("entropy",), moments)
        recorder.flush()
        assert shown(registry)["regard_attention_entropy", "a", None] == 2.5


def test_too_many_series_are_refused_before_any_is_shown(registry: CollectorRegistry) -> None:
    model = Model()
    recorder = PrometheusRecorder(registry=registry, max_series=13)  # 2 layers of 4 heads and 3 counters are 14
    with watch(model, ["entropy"], recorder=recorder):
        model(torch.randn(2, 7, 16))
    with pytest.raises(RecordError, match=r"more than max_series=13 time series, got 14; .* heads=False"):
        recorder.close()
    assert not [name for name in shown(registry) if "entropy" in name[0]]
    with PrometheusRecorder(registry=registry, max_series=14) as recorder, watch(model, ["entropy"], recorder=recorder):
        model(torch.randn(2, 7, 16))
        recorder.flush()
        assert len(shown(registry)) == 14


def test_two_recorders_need_two_registries(registry: CollectorRegistry) -> None:
    first = PrometheusRecorder(registry=registry)
    with pytest.raises(ArgumentError, match=r"got a second one .* CollectorRegistry of its own"):
        PrometheusRecorder(registry=registry)
    first.close()
    PrometheusRecorder(registry=registry).close()


def test_without_a_registry_and_a_port_the_programs_own_endpoint_shows_it() -> None:
    with PrometheusRecorder() as recorder:
        assert recorder.port is None
        recorder._counters["calls"].labels(layer="a").inc()
        assert shown(prometheus_client.REGISTRY)["regard_attention_calls_total", "a", None] == 1
    assert shown(prometheus_client.REGISTRY) == {}


def test_close_frees_the_port_and_ends_every_thread() -> None:
    before = threading.active_count()
    recorder = PrometheusRecorder(port=0)
    port = recorder.port
    assert port
    recorder.close()
    assert recorder.port is None
    assert threading.active_count() == before
    PrometheusRecorder(port=port).close()


def test_a_taken_port_is_one_sentence(registry: CollectorRegistry) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ArgumentError, match=f"port must be free to serve at 127.0.0.1, got {port}: .*take 0"):
            PrometheusRecorder(registry=registry, port=port)
    PrometheusRecorder(registry=registry).close()


def test_a_missing_client_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "prometheus_client", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "regard\[serve\]"'):
        PrometheusRecorder()


def test_it_is_a_recorder(registry: CollectorRegistry) -> None:
    with PrometheusRecorder(registry=registry) as recorder:
        assert isinstance(recorder, Recorder)
