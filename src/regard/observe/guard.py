"""``guard``: say where and why a number of a live model's attention stops being finite, and warn before it does."""

import inspect
import logging
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from regard import logs
from regard._errors import ArgumentError, NumericError, RegardError
from regard.functional.call import quiet
from regard.observe import taps
from regard.observe.adapters import Adapter, Adapters
from regard.observe.calls import AttentionCall
from regard.observe.capture import Gradients
from regard.observe.coverage import Coverage, uncovered_reason
from regard.observe.guarding.bad_gradients import BadGradients
from regard.observe.guarding.causes import GuardLimits
from regard.observe.guarding.ears import Ears, Heard
from regard.observe.guarding.evidence import is_finite
from regard.observe.guarding.finding import Finding
from regard.observe.guarding.judge import Judge
from regard.observe.layers import Layers, unwrapped
from regard.observe.plan import matches
from regard.observe.watch import takes_hooks

__all__ = ["Guard", "guard"]

_LOGGER = logging.getLogger("regard.guard")
_PENDING = 256  # calls with such gradients that may lie between two optimizer steps


class Guard:
    """A model being guarded: a context manager, or ``start()`` and ``stop()``; made by ``guard``.

    Attributes:
        findings: what was found, oldest first.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        on: str,
        every: int,
        layers: Sequence[str] | None,
        limits: GuardLimits,
        adapters: Mapping[type[nn.Module], Adapter],
    ) -> None:
        self.findings: list[Finding] = []
        self._model = model
        self._on = on
        self._every = every
        self._wanted = layers
        self._adapters = Adapters(adapters)
        plain = unwrapped(model)
        self._layers = Layers(plain, extra=self._adapters.by_softmax, adapted=self._adapters.by_report)
        self._coverage = {name: Coverage(layer=name) for name in self._layers.attention}
        self._judge = Judge(plain, limits)
        self._hooks_root = takes_hooks(model)
        self._step = 0
        self._told_step = False
        self._seen: set[str] = set()
        self._gradients: list[BadGradients] = []
        self._handles: list[RemovableHandle] = []
        self._guarding = False
        self._lock = threading.RLock()
        self._ears = Ears(
            locate=self._layers.running,
            heads_of=self._layers.num_heads,
            step=lambda: max(self._step, 1),
            deliver=self._take,
            deliver_gradients=self._take_gradients,
        )

    @property
    def step(self) -> int:
        """The step that calls are counted under; the first is 1."""
        return self._step

    def at(self, step: int) -> None:
        """Say which step the following calls belong to; without it each forward of the model is a step."""
        self._ears.reset()
        self._told_step = True
        self._step = step

    def coverage(self) -> list[Coverage]:
        """Return every attention module of the model: how often it was seen, or why it was not."""
        seen = [name for name, entry in self._coverage.items() if entry.seen]
        for name, entry in self._coverage.items():
            if not entry.seen:
                entry.reason = uncovered_reason(self._layers.modules[name], seen)
        return list(self._coverage.values())

    def start(self) -> "Guard":
        """Begin to guard.

        Raises:
            ArgumentError: it is guarding already.
        """
        if self._guarding:
            raise ArgumentError("A guard must be stopped before it starts again; it is guarding already.")
        self._guarding = True
        if self._hooks_root:
            self._hook_root()
        self._handles += self._adapters.hook(self._layers.modules, self._ears.take)
        self._handles.append(register_optimizer_step_pre_hook(self.before_optimizer))
        taps.add(self._ears)
        return self

    def stop(self, *, keep_gradients: bool = False) -> "Guard":
        """End guarding; nothing stays on the model. Stopping twice is harmless.

        Args:
            keep_gradients: gradients that came back are still to be judged, by ``before_optimizer``.

        Raises:
            NumericError: with ``on="raise"``, if the last call, which no product followed, is not finite.
        """
        if self._guarding:
            self._guarding = False
            taps.remove(self._ears)
            for handle in self._handles:
                handle.remove()
            self._handles.clear()
            if not keep_gradients:
                self._gradients.clear()
            self._ears.forget()
        return self

    def __enter__(self) -> "Guard":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except NumericError:
            if error is None:  # another error is on its way already, and says more
                raise

    # what the guarded model does

    def _hook_root(self) -> None:
        parameters = dict.fromkeys(inspect.signature(unwrapped(self._model).forward).parameters)
        names = tuple(parameters)

        def begin(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._begin_step({**dict(zip(names, args, strict=False)), **kwargs})

        def end(*_: Any) -> None:
            self._ears.reset()
            self._judge.end_forward()

        self._handles.append(self._model.register_forward_pre_hook(begin, with_kwargs=True))
        self._handles.append(self._model.register_forward_hook(end, always_call=True))

    def _begin_step(self, arguments: Mapping[str, Any]) -> None:
        self._ears.reset()
        self._layers.begin_forward()
        with self._lock:
            self._seen.clear()
            self._step += not self._told_step
            self._judge.begin_forward(arguments)

    def _take(self, heard: Heard) -> None:
        """Take one call, and raise if that is asked for and it is not finite."""
        with self._lock, _quiet(heard.call):
            found = self._found(heard)
            self.findings += found
        for finding in found:
            _log(finding)
        faults = [finding for finding in found if not finding.is_warning]
        if faults and self._on == "raise":
            raise NumericError(faults[0].sentence)

    def _found(self, heard: Heard) -> list[Finding]:
        layer, call = heard.layer, heard.call
        group = self._layers.packed_heads(layer, call)
        if group > 1:
            call = call.unpacked(group)
            heard = Heard.of(layer, call)  # the factors of packed heads are packed as well
        if not self._hooks_root and (self._step == 0 or layer in self._seen):
            self._begin_step({})
        self._seen.add(layer)
        entry = self._coverage.setdefault(layer, Coverage(layer=layer))
        entry.count(call, crosses=self._layers.crosses(layer))
        entry.by_order = layer in self._layers.by_order
        if self._wanted is not None and not matches(layer, self._wanted):
            return []
        step = max(self._step, 1)
        try:
            if not is_finite(heard):
                return self._judge.fault(step, heard)
            self._judge.finite(layer)
            return self._judge.warnings(step, heard) if (step - 1) % self._every == 0 else []
        except RegardError as error:
            # A call that cannot be judged must not stop the model that makes it; the coverage list says why.
            entry.reason = f"seen but not judged: {error}"
            return []

    def _take_gradients(self, layer: str, step: int, gradients: Gradients) -> None:
        if self._wanted is not None and not matches(layer, self._wanted):
            return
        with quiet(gradients.query):
            found = BadGradients.of(layer, step, gradients)
        if found is not None:
            with self._lock:
                self._gradients.append(found)
                del self._gradients[:-_PENDING]

    def before_optimizer(self, optimizer: Optimizer, *_: Any) -> None:
        """Look at the gradients that came back, if this optimizer is about to use them.

        While guarding this is called before each step of an optimizer. A step that ``torch.amp.GradScaler`` leaves out
        does not come here, and is no fault. Call it yourself where a step makes its gradients: in a closure.

        Raises:
            NumericError: with ``on="raise"``, if one is not finite.
        """
        parameters = {id(parameter) for parameter in self._model.parameters()}
        used = [each for group in optimizer.param_groups for each in group["params"] if id(each) in parameters]
        if not used:
            return
        with self._lock:
            pending, self._gradients = self._gradients, []
            if pending and not _uses_bad_gradients(optimizer, used):
                return
            found = self._judge.gradients(pending)
            self.findings += found
        for finding in found:
            _log(finding)
        if found and self._on == "raise":
            raise NumericError(found[0].sentence)


def _quiet(call: AttentionCall) -> AbstractContextManager[object]:
    """No gradients, no autocast: it would take sums to half precision."""
    tensor = call.query if call.scores is None else call.scores
    assert tensor is not None, "a call has queries or scores"
    return quiet(tensor)


def _uses_bad_gradients(optimizer: Optimizer, parameters: Sequence[nn.Parameter]) -> bool:
    """Return whether a step now would use what is not finite: it is still there, and no scaler forbids the step."""
    forbidden = getattr(optimizer, "found_inf", None)
    if forbidden is not None and bool(forbidden):
        return False
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return any(not bool(gradient.isfinite().all()) for gradient in gradients)


def _log(finding: Finding) -> None:
    told = {name: getattr(finding, name) for name in ("step", "layer", "cause", "value", "limit", "origin")}
    logs.event(_LOGGER, logging.WARNING, "alert", **told, heads=list(finding.heads), reason=finding.sentence)


def guard(
    model: nn.Module,
    *,
    on: str = "warn",
    every: int = 4,
    layers: Sequence[str] | None = None,
    limits: GuardLimits | None = None,
    adapters: Mapping[type[nn.Module], Adapter] | None = None,
) -> Guard:
    """Guard the numbers of every attention call of ``model``: where and why one stops being finite, and what will.

    Sees what ``watch`` sees, in the same way: the kernel is kept, outputs are bit-identical, memory stays linear. The
    output of every call is checked; a look at what may go wrong is taken at every n-th step. Each cause is told once a
    layer and head, until it has not shown for eight looks; what only follows from an earlier fault is not told. A
    finding is an event ``alert`` of the logger ``regard.guard`` at WARNING.

    Args:
        model: the model; it is not changed.
        on: ``"warn"`` logs what is found. ``"raise"`` also raises ``NumericError`` where a number is not finite: out of
            the attention call, or before the optimizer takes a step with such a gradient. Warnings never raise.
        every: steps between two looks at what may go wrong; outputs are checked at every step.
        layers: patterns of dotted module names; None for all.
        limits: where warnings begin.
        adapters: as for ``watch``.

    Returns:
        A context manager that gives a ``Guard`` with ``findings``; it also has ``start()`` and ``stop()``.

    Raises:
        ArgumentError: an argument that cannot mean anything.

    Example:
        >>> with regard.guard(model, on="raise") as guard:
        ...     _ = model(inputs)
        >>> guard.findings
        []
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"guard needs an nn.Module, got {type(model).__name__}; wrap a function in a module.")
    if on not in ("warn", "raise"):
        raise ArgumentError(f'on must be "warn" or "raise", got {on!r}.')
    if not isinstance(every, int) or every < 1:
        raise ArgumentError(f"every must be a positive number of steps, got {every!r}.")
    return Guard(
        model,
        on=on,
        every=every,
        layers=layers,
        limits=GuardLimits() if limits is None else limits,
        adapters=adapters or {},
    )
