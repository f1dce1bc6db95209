"""What happens while a model is watched: calls come in, statistics go out to the totals and the recorders."""

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from regard._errors import RegardError
from regard.functional import kernel_statistics
from regard.observe import taps
from regard.observe.alerts import Alerts
from regard.observe.calls import AttentionCall
from regard.observe.capture import Capture, Gradients
from regard.observe.changes import ChangeScores
from regard.observe.coverage import Coverage
from regard.observe.forwards import Forward, Forwards
from regard.observe.layers import Layers
from regard.observe.measure import Surroundings, measure, measure_gradients
from regard.observe.moments import Moments
from regard.observe.padding import Padding
from regard.observe.plan import GRADIENT_STATISTICS, Plan
from regard.observe.recorders import LogRecorder, Recorder, Recorders

__all__ = ["LastCall", "Observer", "blocks_of", "first_tensor"]

_LAST_CALLS = 1000


@dataclass(frozen=True, kw_only=True)
class LastCall:
    """The last call of a layer, copied.

    Attributes:
        call: its tensors.
        step: when.
        query_ids: (batch, q_len) ids of the tokens that ask, or None where they are not known.
        key_ids: (batch, kv_len) likewise of the keys.
        query_mask: bool (batch, q_len), True = the query is no padding, or None where the input does not say.
    """

    call: AttentionCall
    step: int
    query_ids: Tensor | None
    key_ids: Tensor | None
    query_mask: Tensor | None


class Observer:
    """Takes the calls of one watched model.

    Args:
        layers: the model's attention layers.
        plan: what to look at.
        recorders: where each step's statistics go besides the totals.
        kernel: ``"own"`` keeps the model's kernels, ``"native"`` has the native ones run in their place.
        counts_forwards: whether a hook tells where a forward begins; otherwise a step begins when a layer comes again.
    """

    def __init__(
        self,
        layers: Layers,
        plan: Plan,
        recorders: Sequence[Recorder] = (),
        *,
        kernel: str = "own",
        counts_forwards: bool = True,
    ) -> None:
        self.layers = layers
        self.plan = plan
        self.coverage = {name: Coverage(layer=name) for name in layers.attention}
        self.totals: dict[tuple[str, str], Moments] = {}
        self.changes = ChangeScores()
        self.kept: dict[str, LastCall] = {}
        self.calls: deque[dict[str, Any]] = deque(maxlen=_LAST_CALLS)
        self.seconds = 0.0
        self.kernels: Counter[str] = Counter()
        log = next((one for one in recorders if isinstance(one, LogRecorder)), None)
        self._log = log or LogRecorder()
        self._recorders = Recorders(recorders if log else (*recorders, self._log))
        self._alerts = Alerts(self.changes, plan.statistics, self._log)
        self._counts_forwards = counts_forwards
        self._told_step = False
        self._forwards = Forwards()
        self._lock = threading.RLock()
        wants_gradients = plan.looks_at(tuple(GRADIENT_STATISTICS))
        self.capture = Capture(
            locate=layers.running,
            heads_of=layers.num_heads,
            receive=self.receive,
            receive_gradients=self._receive_gradients if wants_gradients else None,
            step=lambda: max(self._forwards.now.step, 1),
            wanted=self._in_the_kernel,
            kernel=kernel,
        )

    # what the watched model does

    @property
    def step(self) -> int:
        """The step that calls are counted under; the first is 1."""
        return self._forwards.now.step

    def at(self, step: int) -> None:
        """Count the following calls under ``step``."""
        self.capture.reset()
        self._told_step = True
        self._forwards.between(step)
        self._alerts.look(step)

    def begin_forward(self, arguments: Mapping[str, Any]) -> None:
        """Note that the model's forward begins with ``arguments``; parameters without an argument are None."""
        self.capture.reset()
        self.layers.begin_forward()
        padding, token_ids = Padding.of(arguments), _token_ids(arguments)
        with self._lock:
            before = self._forwards.last
            step, calls = (before.step, before.calls) if self._told_step else (before.step + 1, 0)
            self._alerts.look(step)
            self._forwards.begin(Forward(step=step, calls=calls, padding=padding, token_ids=token_ids))

    def end_forward(self) -> None:
        """Note that it has ended; calls that still come know nothing of its inputs."""
        self.capture.reset()
        self._forwards.end()

    def end(self) -> None:
        """Note that nobody watches any more: tell the log what is waiting."""
        self.capture.forget()
        self._log.flush()

    def enter_block(self, block: str, residual: Tensor) -> None:
        """Note what enters the block of this name."""
        self._forwards.now.residuals[block] = residual.detach()

    # what it computes

    def _in_the_kernel(self) -> Sequence[str]:
        """Return the statistics that a kernel which can is to return with its output."""
        if self.plan.rows != "all":
            return ()
        return kernel_statistics(self.plan.due(max(self.step, 1)))

    def receive(self, layer: str, call: AttentionCall) -> None:
        """Take one call."""
        began = time.perf_counter()
        with self._lock:
            if self._begins_step(layer):
                self._forwards.between(self._forwards.now.step + 1)
            self._receive(layer, call)
            self.seconds += time.perf_counter() - began

    def _receive(self, layer: str, call: AttentionCall) -> None:
        group = self.layers.packed_heads(layer, call)
        call = call if group == 1 else call.unpacked(group)
        forward = self._forwards.now
        forward.calls += 1
        forward.seen.add(layer)
        step = max(forward.step, 1)
        entry = self._count(layer, call, step)
        if not self.plan.wants(layer):
            return
        crosses, in_decoder = entry.last_kind == "cross", self.layers.in_decoder(layer)
        surroundings = Surroundings(
            padded_rows=forward.padding.of_rows(
                call, in_decoder=in_decoder, crosses=self.layers.crosses(layer) is True
            ),
            padded_keys=forward.padding.of_keys(call, in_decoder=in_decoder, crosses=crosses),
            residual=self._residual_of(layer),
            is_self=entry.last_kind == "self",
        )
        if self.plan.keeps(layer):
            self._keep(layer, call, step, surroundings, crosses=crosses)
        statistics = self.plan.due(step)
        if not statistics:
            return
        try:
            measured = measure(
                call,
                statistics,
                surroundings,
                rows=None if self.plan.rows == "all" else self.plan.rows,
                seed=self.plan.seed_of(step=step, call=forward.calls),
                heads=self.plan.heads,
                quantiles=self.plan.quantiles_due(step),
            )
        except RegardError as error:
            # A call that statistics cannot take must not stop the model that makes it; the coverage list says why.
            entry.reason = f"seen but not measured: {error}"
            return
        entry.rows += measured.num_rows
        entry.missing |= measured.missing
        if not taps.has_backward(call.kernel):
            reason = f"only fused kernels return a head's gradients, this is {call.kernel}"
            entry.missing |= {name: reason for name in statistics if name in GRADIENT_STATISTICS}
        for names, moments in measured.groups:
            self._add(step, layer, names, moments)

    def _keep(self, layer: str, call: AttentionCall, step: int, around: Surroundings, *, crosses: bool) -> None:
        query_ids, key_ids = self._tokens_of(layer, crosses)
        query_mask = None if around.padded_rows is None else ~around.padded_rows
        if query_mask is None and crosses:  # what its mask hides are keys of the other sequence
            query_mask = torch.ones(call.batch, call.q_len, dtype=torch.bool, device=call.device)
        self.kept[layer] = LastCall(
            call=call.clone(), step=step, query_ids=query_ids, key_ids=key_ids, query_mask=query_mask
        )  # fmt: skip

    def _begins_step(self, layer: str) -> bool:
        """Return whether a step begins with this call, where neither a hook nor a person tells."""
        if self._counts_forwards or self._told_step:
            return False
        return self._forwards.now.step == 0 or layer in self._forwards.now.seen

    def _count(self, layer: str, call: AttentionCall, step: int) -> Coverage:
        entry = self.coverage.setdefault(layer, Coverage(layer=layer))
        entry.count(call, crosses=self.layers.crosses(layer))
        entry.by_order = layer in self.layers.by_order
        self.kernels[call.kernel] += 1
        self.calls.append({"step": step, **entry.last})
        return entry

    def _receive_gradients(self, layer: str, step: int, gradients: Gradients) -> None:
        if not self.plan.wants(layer):
            return
        statistics = [name for name in self.plan.due(step) if name in GRADIENT_STATISTICS]
        if not statistics:
            return
        began = time.perf_counter()
        with self._lock:
            names, moments = measure_gradients(gradients, statistics, self.plan.heads)
            self._add(step, layer, names, moments)
            self.seconds += time.perf_counter() - began

    def _add(self, step: int, layer: str, statistics: tuple[str, ...], moments: Moments) -> None:
        for index, name in enumerate(statistics):
            one = moments.pick(index)
            before = self.totals.get((layer, name))
            self.totals[layer, name] = one if before is None else before.merge(one)
        self.changes.add(step, layer, statistics, moments)
        self._recorders.add(step, layer, statistics, moments)

    def _residual_of(self, layer: str) -> Tensor | None:
        """Return what entered the innermost block around ``layer``."""
        around = [block for block in self._forwards.now.residuals if layer.startswith(f"{block}.")]
        return self._forwards.now.residuals[max(around, key=len)] if around else None

    def _tokens_of(self, layer: str, crosses: bool) -> tuple[Tensor | None, Tensor | None]:
        """Return the token ids of queries and of keys, (batch, len) or None."""
        source, target = (self._forwards.now.token_ids.get(name) for name in ("source", "target"))
        if not self._forwards.now.padding.has_decoder:
            return source, source
        if not self.layers.in_decoder(layer):
            return source, source
        return target, source if crosses else target


def _token_ids(arguments: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the ids of the tokens that a model reads, by the names that people know."""
    names = {"source": ("input_ids", "src"), "target": ("decoder_input_ids", "tgt")}
    found = {}
    for side, known in names.items():
        for name in known:
            ids = arguments.get(name)
            if isinstance(ids, Tensor) and ids.ndim == 2 and not ids.is_floating_point():
                found[side] = ids.detach()
    return found


def blocks_of(layers: Layers) -> dict[str, nn.Module]:
    """Return the blocks around attention layers: the innermost members of a ``ModuleList`` that hold one."""
    lists = [name for name, module in layers.modules.items() if isinstance(module, nn.ModuleList)]
    found = {}
    for layer in layers.attention:
        members = [f"{name}.{layer[len(name) + 1 :].split('.')[0]}" for name in lists if layer.startswith(f"{name}.")]
        members = [member for member in members if member != layer]
        if members:
            block = max(members, key=len)
            found[block] = layers.modules[block]
    return found


def first_tensor(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """Return what enters a block: its first argument, or the first one named."""
    given = (*args, *kwargs.values())
    return given[0] if given and isinstance(given[0], Tensor) and given[0].ndim == 3 else None
