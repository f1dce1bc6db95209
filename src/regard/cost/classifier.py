"""Finds out what each operation was for, by following numbers from product to product.

A product of two tensors of data makes scores, or multiplies weights with values: that is the core of attention. What
its factors were made with are projections, and so is what takes its result. Everything between two products belongs to
the one that made its input, sums of several do not.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import replace

from regard.cost.operation import Operation
from regard.cost.operators import COPIES, EMBEDDINGS, LOSSES, NORMS, RANDOM, RECURRENT, SOFTMAXES
from regard.cost.owners import Owners, layer_of
from regard.cost.parts import Part, Phase
from regard.cost.tags import Kind, Tag, joined

__all__ = ["Classifier"]

_MOST_PROJECTIONS = 3  # products that one query, key or value is the sum of, as with low-rank adapters
_ATTENTION = re.compile(r"(attention|attn)", re.IGNORECASE)
_BLOCK = re.compile(r"(block|layer|residual|model)", re.IGNORECASE)


class Classifier:
    """Gives each operation of ``operations`` its part, and what it makes a tag.

    Args:
        owners: of the model's weights.
        operations: those so far; the last one is the one that is taken.
    """

    def __init__(self, owners: Owners, operations: list[Operation]) -> None:
        self._owners = owners
        self._all = operations

    def take(self, name: str, tags: Sequence[Tag], *, factors: tuple[Tag, Tag] | None, masks: bool) -> Tag:
        """Classify the last operation, of the forward pass; return the tag of its result.

        Args:
            name: of the operator, without namespace and overload.
            tags: of the tensors that it read.
            factors: of those, the two factors of a product.
            masks: whether one of the tensors is a table of fixed numbers, such as a mask or rotary angles.
        """
        number, operation, tag = len(self._all) - 1, self._all[-1], joined(tags)
        if name in COPIES:
            operation.part = Part.MASKS if tag.kind == Kind.CONSTANT else Part.COPIES
        elif name in RANDOM or (tag.is_random and factors is None):
            operation.part = Part.DROPOUT
            return replace(tag, is_random=tag.kind == Kind.CONSTANT)
        elif name in NORMS or (self._owners.is_norm(operation.module) and factors is None):
            operation.part = Part.NORMS
        elif name in EMBEDDINGS or name in RECURRENT:
            operation.part = Part.EMBEDDINGS if name in EMBEDDINGS else Part.RECURRENT
            return Tag(kind=Kind.DATA, sources=frozenset({number}))
        elif factors is not None:
            return self._product(number, *factors, is_convolution=name == "convolution")
        elif tag.kind == Kind.CONSTANT:
            operation.part = Part.MASKS
        elif name in LOSSES:
            operation.part = Part.LOSS
        else:
            return self._elementwise(operation, tag, name in SOFTMAXES, masks)
        return tag

    def attend(self, tags: Sequence[Tag]) -> Tag:
        """Classify the last operation, a call of fused attention that read ``tags``; return the tag of its result."""
        self._all[-1].part = Part.CORE
        for tag in tags:
            self._project(tag)
        return Tag(kind=Kind.DATA, sources=frozenset({len(self._all) - 1}))

    def settle(self, alone: Collection[int]) -> None:
        """Decide about what could not be decided while the model ran.

        Args:
            alone: numbers of the operations that the model's result comes from, where it comes from one alone.
        """
        forward = [number for number, one in enumerate(self._all) if one.phase == Phase.FORWARD]
        deep = [number for number in forward if self._all[number].part in (Part.CORE, Part.RECURRENT)]
        attention = {self._all[number].module for number in deep if self._all[number].part == Part.CORE}
        stacks = {layer_of(self._all[number].module).rpartition(".")[0] for number in deep if self._in_layer(number)}
        for number in forward:
            one = self._all[number]
            if one.part is None and one.parameter is not None:
                one.part = self._of_weight(number, one.parameter, deep, attention, stacks, alone)
        for one in self._all:
            if one.part is None and one.twin is None:
                parts = {self._all[source].part for source in one.sources if source >= 0}
                one.part = parts.pop() if len(parts) == 1 else Part.SUMS
        for one in self._all:
            if one.part is None and one.twin is not None:
                one.part = self._all[one.twin].part or Part.SUMS

    # while the model runs

    def _product(self, number: int, left: Tag, right: Tag, *, is_convolution: bool) -> Tag:
        operation, kinds = self._all[number], sorted((left.kind, right.kind))
        if kinds == [Kind.WEIGHT, Kind.DATA] or self._is_first_state(left, right):
            data, weight = (right, left) if left.kind == Kind.WEIGHT else (left, right)
            operation.parameter, operation.sources = weight.parameter, data.sources
            operation.part = self._at_once(data, weight.parameter, is_convolution)
            return Tag(kind=Kind.DATA, sources=frozenset({number}))
        if kinds == [Kind.DATA, Kind.DATA]:
            return self._core(number, left, right)
        operation.part = Part.MASKS if kinds[1] == Kind.CONSTANT else Part.OTHER
        return joined((left, right)) if kinds[1] < Kind.DATA else Tag(kind=Kind.DATA, sources=frozenset({number}))

    def _is_first_state(self, left: Tag, right: Tag) -> bool:
        """Return whether a recurrent network meets the zeros that it begins with."""
        names = [tag.parameter for tag in (left, right) if tag.parameter is not None]
        kinds = {left.kind, right.kind}
        return kinds == {Kind.CONSTANT, Kind.WEIGHT} and len(names) == 1 and self._owners.is_recurrent(names[0])

    def _at_once(self, data: Tag, parameter: str | None, is_convolution: bool) -> Part | None:
        if is_convolution:
            return Part.CONVOLUTIONS
        if parameter is not None and self._owners.is_recurrent(parameter):
            return Part.RECURRENT
        cores = [source >= 0 and self._all[source].part == Part.CORE for source in data.sources]
        return Part.PROJECTIONS if cores and all(cores) else None

    def _core(self, number: int, left: Tag, right: Tag) -> Tag:
        self._all[number].part = Part.CORE
        makes_scores = not (left.of_scores or right.of_scores)
        for tag in (left, right):
            if makes_scores and tag.of_softmax:  # scores that a network made, as additive attention has
                makes_scores = False
                self._scored(tag)
            elif not tag.of_scores:
                self._project(tag)
        return Tag(kind=Kind.DATA, sources=frozenset({number}), of_scores=makes_scores)

    def _project(self, tag: Tag) -> None:
        """Call what made a query, a key or a value a projection, if products with weights made it."""
        if not 0 < len(tag.sources) <= _MOST_PROJECTIONS or -1 in tag.sources:
            return
        made = [self._all[source] for source in tag.sources]
        if all(one.parameter is not None for one in made):
            for one in made:
                one.part = one.part or Part.PROJECTIONS

    def _scored(self, tag: Tag) -> None:
        """Call the products that scores are made with the core, and what those took projections."""
        for source in tag.sources:
            if source >= 0 and self._all[source].parameter is not None:
                self._all[source].part = Part.CORE
                self._project(Tag(kind=Kind.DATA, sources=self._all[source].sources))

    def _elementwise(self, operation: Operation, tag: Tag, is_softmax: bool, masks: bool) -> Tag:
        if masks:
            operation.part = Part.MASKS
        elif tag.of_scores:
            operation.part = Part.CORE
        else:
            operation.sources = tag.sources
        return replace(tag, of_softmax=True) if is_softmax else tag

    # when it has run

    def _of_weight(
        self,
        number: int,
        parameter: str,
        deep: Sequence[int],
        attention: Collection[str],
        stacks: Collection[str],
        alone: Collection[int],
    ) -> Part:
        """Return the part of a product with a weight that dataflow alone does not tell."""
        if any(self._is_attention(module) and parameter.startswith(f"{module}.") for module in attention):
            return Part.PROJECTIONS
        if self._owners.is_embedding(parameter) or number in alone:
            return Part.OUTPUT
        if not deep:
            return Part.FEED_FORWARD
        if number < deep[0]:
            return Part.EMBEDDINGS
        outside = bool(stacks) and not any(_within(parameter, stack) for stack in stacks)
        return Part.OUTPUT if outside and number > deep[-1] else Part.FEED_FORWARD

    def _is_attention(self, module: str) -> bool:
        words = f"{module.rpartition('.')[2]} {self._owners.class_of(module)}"
        return bool(module and _ATTENTION.search(words) and not _BLOCK.search(words))

    def _in_layer(self, number: int) -> bool:
        return bool(layer_of(self._all[number].module))


def _within(parameter: str, stack: str) -> bool:
    """Return whether ``parameter`` lies in a numbered module of ``stack``."""
    rest = parameter[len(stack) + 1 :] if stack else parameter
    return (not stack or parameter.startswith(f"{stack}.")) and rest.partition(".")[0].isdigit()
