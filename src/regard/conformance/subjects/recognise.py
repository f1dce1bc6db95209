"""From what a person hands over to a subject with its streams."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from regard._errors import ArgumentError
from regard.conformance.adapters import AttentionModule, Model
from regard.conformance.outcome import NotTestedError
from regard.conformance.stream import Stream
from regard.conformance.subjects.function_subject import FunctionSubject
from regard.conformance.subjects.hugging_face import is_hugging_face, streams_of_hugging_face
from regard.conformance.subjects.model_subject import ModelSubject, streams_of_adapter
from regard.conformance.subjects.module_subject import ModuleSubject, adapted
from regard.conformance.subjects.private_copy import parameter_dtype
from regard.conformance.subjects.signature import streams_of_signature
from regard.conformance.subjects.subject import Subject
from regard.conformance.subjects.two_sides import has_two_sides, streams_of_two_sides
from regard.conformance.trace import traced
from regard.conformance.traits import assumed

__all__ = ["recognise"]


def recognise(
    subject: nn.Module | Callable[..., Any] | AttentionModule | Model, assume: Mapping[str, Any] | None = None
) -> Subject:
    """Return what is to be checked.

    Raises:
        ArgumentError: nothing that can be called as attention, or a trait that does not exist.
    """
    told = assumed(assume)
    try:
        return _recognised(subject, told)
    except NotTestedError as error:
        raise ArgumentError(
            f"check must be able to call what it checks, got {_called(subject)}: {error}; describe the call with "
            "regard.conformance.Model or regard.conformance.AttentionModule."
        ) from error


def _recognised(subject: Any, told: Mapping[str, tuple[Any, str]]) -> Subject:
    if isinstance(subject, AttentionModule):
        return ModuleSubject(subject, told)
    if isinstance(subject, Model):
        return _model(subject.module, partial(streams_of_adapter, adapter=subject, assume=told))
    if isinstance(subject, nn.Module):
        adapter = adapted(subject)
        if adapter is not None:
            return ModuleSubject(adapter, told, by_person=False)
        if is_hugging_face(subject):
            find = streams_of_hugging_face
        else:
            find = streams_of_two_sides if has_two_sides(subject) else streams_of_signature
        return _model(subject, partial(find, assume=told))
    if callable(subject):
        return FunctionSubject(subject, told)
    raise ArgumentError(f"check needs a function, a module or an adapter, got {type(subject).__name__}.")


def _model(module: nn.Module, find: Callable[[ModelSubject], None]) -> ModelSubject:
    """Return the subject, in float64 if it runs in that and else in its own type."""
    try:
        return _tried(ModelSubject(module), find)
    except NotTestedError as error:
        if parameter_dtype(module) == torch.float64:
            raise
        try:
            return _tried(ModelSubject(module, parameter_dtype(module)), find)
        except NotTestedError:
            raise error from None


def _tried(model: ModelSubject, find: Callable[[ModelSubject], None]) -> ModelSubject:
    find(model)
    for stream in model.streams:
        stream.run(stream.draw(2, 5, torch.Generator().manual_seed(0)))
    return _with_causality(model)


def _with_causality(model: ModelSubject) -> ModelSubject:
    """Return ``model`` with an answer to whether it is meant to be causal, measured where nothing declares it."""
    if model.traits.causal is None:
        causal = _has_causal_layer(model, model.streams[-1]) if model.streams[-1].sequential else False
        why = "a layer hides all later tokens" if causal else "no layer hides later tokens and nothing says it should"
        model.traits = model.traits.told(causal=(causal, why))
        model.streams = [replace(stream, causal=causal) for stream in model.streams]
    return model


def _has_causal_layer(model: ModelSubject, stream: Stream) -> bool:
    with traced(model.copy) as trace:
        stream.run(stream.draw(2, 6, torch.Generator().manual_seed(0)))
    square = [heard for heard in trace.calls if heard.call.q_len == heard.call.kv_len == 6]
    return any(not bool(heard.weights.triu(1).any()) for heard in square)


def _called(subject: Any) -> str:
    return getattr(subject, "__name__", type(subject).__name__)
