"""How a model of ``transformers`` takes several sequences in one row, by what its masks are made with."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from regard.conformance.documents import places_of, visible
from regard.conformance.outcome import NotTestedError
from regard.conformance.stream import Output, Packing, calling

__all__ = ["Asked", "packings_of_hugging_face"]

_DOCUMENTS = "documents = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What has to be known of one input.

    Attributes:
        module: the model.
        call: the model with named inputs -> ``Output``, given the tokens and further inputs by name.
        names: arguments of its forward.
        prefix: of the names, ``"decoder_"`` or nothing.
        causal: a token may not depend on later ones.
        offset: what explicit positions count from, or None where they are not taken.
        absolute: it adds to each token a vector that depends on its place.
        window: how many keys a token of a windowed layer sees, or None.
        text: how the call is written, up to its inputs.
        float_type: gives the type that it computes in now.
    """

    module: nn.Module
    call: Callable[..., Output]
    names: set[str]
    prefix: str
    causal: bool
    offset: int | None
    absolute: bool
    window: int | None
    text: str
    float_type: Callable[[], torch.dtype]


def packings_of_hugging_face(asked: Asked, tokens: Tensor) -> tuple[tuple[Packing, ...], str]:
    """Return the ways, and why there are not more of them.

    Where masks are made by ``transformers.masking_utils``, there are two. Positions that begin anew are enough for a
    causal model that hands them on, but only with ``attention_mask=None`` and without a cache (``use_cache=False``): a
    mask of ones, which some models make by themselves, or an empty cache turns the detection off. And a mask of four
    axes is handed to every layer as it is, in place of its own, so that a window must be in it.

    Args:
        asked: the input.
        tokens: a row of some tokens to try with.
    """
    if not _made_by_transformers(asked.module):
        return (), "its masks are not made by transformers.masking_utils, so nothing says how it takes packed rows"
    if asked.absolute and asked.offset is None:
        return (), "its positions cannot be told, so they cannot begin anew with each sequence"
    if not asked.causal and asked.window is not None:
        return (), "it is bidirectional and its layers have windows, which a mask of four axes would replace"
    found: list[Packing] = []
    lacking: list[str] = []
    documents = torch.arange(tokens.shape[1])[None]
    if asked.causal and asked.offset is not None:
        by_positions = _by_positions(asked)
        with _detection_heard() as heard:
            by_positions.call(tokens, documents)
        if heard:
            found.append(by_positions)
        else:
            lacking.append(_UNHEEDED)
    if f"{asked.prefix}attention_mask" in asked.names:
        by_mask = _by_mask(asked)
        if _runs(by_mask, tokens, documents):
            found.append(by_mask)
        else:
            lacking.append("its forward refuses a mask of four axes")
    return tuple(found), "; ".join(lacking)


_UNHEEDED = "position_ids that begin anew keep nothing apart, as its masks are made without them or with a mask of ones"


def _runs(packing: Packing, tokens: Tensor, documents: Tensor) -> bool:
    try:
        with torch.no_grad(), calling("with a mask of four axes"):
            packing.call(tokens, documents)
    except NotTestedError:
        return False
    return True


@contextmanager
def _detection_heard() -> Iterator[list[bool]]:
    """Yield a list that gets an element when transformers looks at positions for packed sequences."""
    utilities: Any = sys.modules["transformers.masking_utils"]
    detect = utilities.find_packed_sequence_indices
    heard: list[bool] = []

    def listening(*given: Any, **named: Any) -> Any:
        heard.append(True)
        return detect(*given, **named)

    utilities.find_packed_sequence_indices = listening
    try:
        with torch.no_grad(), calling("with position_ids that begin anew"):
            yield heard
    finally:
        utilities.find_packed_sequence_indices = detect


def _by_positions(asked: Asked) -> Packing:
    def call(tokens: Tensor, documents: Tensor) -> Output:
        return asked.call(tokens, **_places(asked, documents), **_without_cache(asked))

    return Packing(
        name="position_ids that begin anew, no mask and no cache",
        call=call,
        lines=(_places_line(asked),),
        text=f"{asked.text}, {asked.prefix}position_ids=places{_cache_text(asked)})[0]",
    )


def _by_mask(asked: Asked) -> Packing:
    floats = getattr(getattr(asked.module, "config", None), "_attn_implementation", None) == "eager"
    told = asked.offset is not None

    def call(tokens: Tensor, documents: Tensor) -> Output:
        mask = visible(documents, causal=asked.causal)
        if floats:  # eager attention adds its mask; the lowest number, as transformers itself writes it
            dtype = asked.float_type()
            mask = torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)
        given = {f"{asked.prefix}attention_mask": mask, **(_places(asked, documents) if told else {})}
        return asked.call(tokens, **given, **_without_cache(asked))

    lower = " & torch.ones_like(keep).tril()" if asked.causal else ""
    mask_lines = ["keep = (documents[:, None] == documents)[None, None]", *([f"keep = keep{lower}"] if lower else [])]
    if floats:
        lowest = "torch.finfo(torch.float64).min"
        mask_lines.append(f"keep = torch.zeros(keep.shape, dtype=torch.float64).masked_fill(~keep, {lowest})")
    places = f", {asked.prefix}position_ids=places" if told else ""
    return Packing(
        name="a mask of four axes" + (" and position_ids that begin anew" if told else ""),
        call=call,
        longest=asked.window,
        lines=(_DOCUMENTS, *mask_lines, *([_places_line(asked)] if told else [])),
        text=f"{asked.text}, {asked.prefix}attention_mask=keep{places}{_cache_text(asked)})[0]",
    )


def _places(asked: Asked, documents: Tensor) -> dict[str, Tensor]:
    assert asked.offset is not None
    return {f"{asked.prefix}position_ids": places_of(documents) + asked.offset}


def _places_line(asked: Asked) -> str:
    offset = f" + {asked.offset}" if asked.offset else ""
    return f"places = torch.cat([torch.arange(size) for size in sizes])[None]{offset}"


def _without_cache(asked: Asked) -> dict[str, bool]:
    return {"use_cache": False} if "use_cache" in asked.names else {}


def _cache_text(asked: Asked) -> str:
    return ", use_cache=False" if "use_cache" in asked.names else ""


def _made_by_transformers(module: Any) -> bool:
    """Return whether the file that defines ``module``, or one of its parents, imports a maker of masks."""
    utilities = sys.modules.get("transformers.masking_utils")
    if not hasattr(utilities, "find_packed_sequence_indices"):
        return False
    files = [sys.modules.get(one.__module__) for one in type(module).__mro__]
    makers = {name for file in files for name in vars(file or object) if name.startswith("create_")}
    return any(hasattr(utilities, name) and name.endswith("_mask") for name in makers)
