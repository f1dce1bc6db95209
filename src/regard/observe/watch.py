"""``watch``: look at every attention call of a model while it runs."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal

from torch import nn
from torch.utils.hooks import RemovableHandle

from regard._errors import ArgumentError, UnsupportedError
from regard.functional.replacement import native_available
from regard.observe import taps
from regard.observe.adapters import Adapter, Adapters
from regard.observe.layers import Layers, unwrapped
from regard.observe.observer import Observer, blocks_of, first_tensor
from regard.observe.plan import RESIDUAL_STATISTICS, Plan
from regard.observe.recorders import Recorder
from regard.observe.view import View

__all__ = ["Watch", "takes_hooks", "watch"]

_DEFAULT = ("entropy", "normalized_entropy", "max_weight", "first_mass", "padding_mass", "output_norm")
# PyTorch leaves its C++ fast path when a hook sits on one of these.
_UNHOOKED = (nn.MultiheadAttention, nn.TransformerEncoderLayer)


class Watch:
    """A model being watched: a context manager, or ``start()`` and ``stop()``."""

    def __init__(
        self,
        model: nn.Module,
        plan: Plan,
        recorder: Recorder | Sequence[Recorder] | None,
        adapters: Mapping[type[nn.Module], Adapter],
        kernel: str = "own",
    ) -> None:
        self._model = model
        self._adapters = Adapters(adapters)
        layers = Layers(unwrapped(model), extra=self._adapters.by_softmax, adapted=self._adapters.by_report)
        self._hooks_root = takes_hooks(model)
        recorders = recorder if isinstance(recorder, Sequence) else () if recorder is None else (recorder,)
        self._observer = Observer(layers, plan, recorders, kernel=kernel, counts_forwards=self._hooks_root)
        self._handles: list[RemovableHandle] = []
        self._watching = False
        self.view = View(self._observer)

    def start(self) -> View:
        """Begin to watch.

        Raises:
            ArgumentError: it is watching already.
        """
        if self._watching:
            raise ArgumentError("A watch must be stopped before it starts again; it is watching already.")
        self._watching = True
        if self._hooks_root:
            self._hook_root()
        if self._observer.plan.looks_at(RESIDUAL_STATISTICS):
            self._hook_blocks()
        self._handles += self._adapters.hook(self._observer.layers.modules, self._observer.capture.take)
        taps.add(self._observer.capture)
        return self.view

    def stop(self) -> View:
        """End watching; nothing stays on the model. Stopping twice is harmless."""
        if self._watching:
            self._watching = False
            taps.remove(self._observer.capture)
            for handle in self._handles:
                handle.remove()
            self._handles.clear()
            self._observer.end()  # last: a recorder that fails leaves nothing on the model
        return self.view

    def __enter__(self) -> View:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _hook_root(self) -> None:
        parameters = dict.fromkeys(inspect.signature(unwrapped(self._model).forward).parameters)
        names = tuple(parameters)

        def begin(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._observer.begin_forward({**parameters, **dict(zip(names, args, strict=False)), **kwargs})

        def end(*_: Any) -> None:
            self._observer.end_forward()

        self._handles.append(self._model.register_forward_pre_hook(begin, with_kwargs=True))
        self._handles.append(self._model.register_forward_hook(end, always_call=True))

    def _hook_blocks(self) -> None:
        compiled = _compiled_parts(self._model)
        for name, block in blocks_of(self._observer.layers).items():
            if not isinstance(block, _UNHOOKED) and block not in compiled:
                self._handles.append(block.register_forward_pre_hook(self._enter(name), with_kwargs=True))

    def _enter(self, name: str) -> Callable[..., None]:
        def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            residual = first_tensor(args, kwargs)
            if residual is not None:
                self._observer.enter_block(name, residual)

        return enter


def takes_hooks(model: nn.Module) -> bool:
    """Return whether a hook on ``model`` itself leaves its kernels as they are."""
    return not isinstance(model, _UNHOOKED) and not _compiles_itself(model)


def _compiles_itself(module: nn.Module) -> bool:
    """Return whether ``module.compile()`` was called: hooks on it are compiled with it."""
    return getattr(module, "_compiled_call_impl", None) is not None


def _compiled_parts(model: nn.Module) -> set[nn.Module]:
    """Return the modules of ``model`` whose hooks would be compiled with them or with a module around them."""
    compiled = [module for module in model.modules() if hasattr(module, "_orig_mod") or _compiles_itself(module)]
    return {part for module in compiled for part in module.modules()}


def watch(
    model: nn.Module,
    statistics: Sequence[str] = _DEFAULT,
    *,
    rows: Literal["all"] | int = "all",
    every: int | Mapping[str, int] = 1,
    quantiles_every: int = 0,
    layers: Sequence[str] | None = None,
    heads: Sequence[int] | None = None,
    seed: int = 0,
    keep: bool | Sequence[str] = False,
    recorder: Recorder | Sequence[Recorder] | None = None,
    adapters: Mapping[type[nn.Module], Adapter] | None = None,
    kernel: str = "own",
) -> Watch:
    """Watch every attention call of ``model``: exact statistics per head, kernel kept, outputs bit-identical.

    Works on any module whose attention is computed by PyTorch: ``scaled_dot_product_attention`` and its fused kernels,
    ``nn.MultiheadAttention`` and ``nn.Transformer*`` with their C++ fast path, a softmax over scores in a module that
    calls itself attention, the same in code that ``torch.compile`` made, and ``regard.attention``. What was not seen is
    listed by ``View.coverage()`` with the reason. No n by n tensor is made.

    Args:
        model: the model; it is not changed.
        statistics: names from ``STATISTICS``.
        rows: ``"all"`` for exact statistics, or how many query rows to sample from each call (mean ± standard error).
        every: take statistics at every n-th step; a mapping gives single statistics their own interval.
        quantiles_every: add quantiles over the rows at every n-th step; 0 for never.
        layers: patterns of dotted module names, such as ``["encoder.layer.0.*"]``; None for all.
        heads: head indices; None for all.
        seed: of the sampled rows.
        keep: also keep a copy of the last call of each layer (True) or of some (patterns), which ``View.weights``,
            ``top``, ``explain`` and ``redundancy`` read; memory for its queries, keys and values.
        recorder: also write the statistics of each step somewhere; one recorder or several. They are not closed.
        adapters: class of module -> how its attention is to be seen, for attention that no kernel of PyTorch computes;
            see ``Adapter``.
        kernel: ``"own"`` keeps the kernel and its bits. ``"native"`` has the kernels of ``regard-native`` run in
            the place of PyTorch's CPU flash kernel, forward and backward, which is faster and gives the statistics in
            the same pass; outputs then differ by rounding. Calls that they cannot take keep their kernel, and
            ``View.coverage()`` says which ran.

    Returns:
        A context manager that gives a ``View``; it also has ``start()`` and ``stop()``.

    Raises:
        ArgumentError: an unknown statistic or kernel, or a schedule that cannot mean anything.
        UnsupportedError: ``kernel="native"`` without ``regard-native``.

    Example:
        >>> with regard.watch(model, ["entropy", "first_mass"]) as view:
        ...     _ = model(inputs)
        >>> view.table()[0]["statistic"]
        'entropy'
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"watch needs an nn.Module, got {type(model).__name__}; wrap a function in a module.")
    if kernel not in ("own", "native"):
        raise ArgumentError(f'kernel must be "own" or "native", got {kernel!r}.')
    if kernel == "native" and not native_available():
        raise UnsupportedError("kernel='native' needs the package regard-native; install it, or keep kernel='own'.")
    plan = Plan(
        statistics=tuple(statistics),
        rows=rows,
        every=every,
        quantiles_every=quantiles_every,
        layers=layers,
        heads=heads,
        seed=seed,
        keep=keep,
    )
    return Watch(model, plan, recorder, adapters or {}, kernel)
