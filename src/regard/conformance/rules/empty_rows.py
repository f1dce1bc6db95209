"""Empty rows: a query that may attend to nothing gives 0, and no gradient becomes NaN."""

import torch
from torch import Tensor, nn

from regard.conformance.bench import Bench
from regard.conformance.outcome import Case, NotApplicableError, NotTestedError, Outcome, deviates, failed, passed
from regard.conformance.rule import Rule
from regard.conformance.sensitivity import differentiable
from regard.conformance.stream import Stream, calling
from regard.conformance.subjects.function_subject import FunctionSubject
from regard.conformance.subjects.module_subject import ModuleSubject
from regard.conformance.subjects.subject import Subject
from regard.observe.layers import attention_modules

__all__ = ["EmptyRows"]


class EmptyRows(Rule):
    """Hides every key of some query, forwards and backwards."""

    id = "empty_rows"
    title = "A query that sees nothing gives 0 and finite gradients"
    law = (
        "a row whose keys are all hidden gives 0 (of a function) or at least finite numbers (of a model), its "
        "gradients are finite, and other sequences of the batch do not notice"
    )
    why = (
        "softmax of a row of -inf is NaN, and NaN spreads through a whole batch; "
        "torch.nn.functional.scaled_dot_product_attention gives 0 there."
    )
    method = (
        "One row or one whole sequence is hidden; outputs, the outputs of the other sequences, and gradients are "
        "looked at."
    )
    tolerance = "0 exactly for functions; finite, and equal to twice the float32 error for the other sequences"
    meaning = (
        "a softmax over a row of -inf is not caught, or such rows are filled with a large negative number and "
        "become a mean over forbidden keys"
    )
    remedy = (
        "set the weights of empty rows to 0 after the softmax, and their scores to 0 before it so that the gradient"
        " is finite too; or use scaled_dot_product_attention"
    )
    after = ("softmax", "mask_sense", "batch")

    def test(self, subject: Subject, bench: Bench) -> Outcome:
        """Hide everything."""
        if isinstance(subject, FunctionSubject):
            return _of_function(subject, bench)
        return _of_module(subject, bench)


def _of_function(subject: FunctionSubject, bench: Bench) -> Outcome:
    if "mask" not in subject.options:
        raise NotApplicableError("it takes no mask, so every row has a key")
    tensors = [one.requires_grad_() for one in subject.draw(bench.generator(), 4)]
    keep = torch.ones(1, 1, 4, 4, dtype=torch.bool).tril()
    keep[..., 2, :] = False
    output = subject.attend(*tensors, mask=keep)
    row = output[0, :, 2].detach()
    with calling("backwards"):
        gradients = torch.autograd.grad(output.sum(), tensors)
    finite = all(bool(one.isfinite().all()) for one in gradients)
    case = Case(length=4, query=2)
    if not bool((row == 0).all()):
        mean = tensors[2][0].mean(1).detach()
        what = (
            "NaN"
            if bool(row.isnan().any())
            else "the mean of the forbidden values"
            if torch.allclose(row, mean)
            else f"up to {float(row.abs().max()):.2g}"
        )
        return failed(
            f"a query whose keys are all hidden gives {what}, not 0",
            measured=float(row.abs().max()),
            tolerance=0.0,
            case=case,
            reproduction=(
                f"{subject.setup()}\nquery = key = value = torch.randn(1, 1, 4, 16)\n"
                "keep = torch.ones(4, 4, dtype=torch.bool)\nkeep[2] = False\n"
                f"print({subject.name}(query, key, value, {subject.options['mask']}=keep)[0, 0, 2])  # must be 0"
            ),
        )
    if not finite:
        return failed("a query whose keys are all hidden gives 0, but gradients that are not finite", case=case)
    return passed(
        "a query whose keys are all hidden gives 0 and finite gradients",
        measured=0.0,
        tolerance=0.0,
        ways=("output", "gradients"),
    )


def _of_module(subject: Subject, bench: Bench) -> Outcome:
    streams = [stream for stream in subject.sequences if stream.padding]
    if not streams:
        raise NotApplicableError("it takes no mask of real tokens")
    worst, tolerance = 0.0, 0.0
    for stream in streams:
        with subject.precision(torch.float32):  # the type that it is run in; some write its lowest number as a mask
            tokens = bench.tokens(stream, 2, 6)
            keep = torch.ones(2, 6, dtype=torch.bool)
            keep[1] = False
            alone = stream.run(tokens[:1], keep[:1]).tokens
            together = stream.run(tokens, keep).tokens
            gradient = None if bench.fast else _gradient(subject, stream, tokens, keep)
        tolerance = bench.floor(stream)
        worst = max(worst, float((together[0] - alone[0]).abs().max().nan_to_num(nan=torch.inf)))
        if not bool(together[1].isfinite().all()):
            return _not_finite(subject, stream, tokens, worst, tolerance)
        if worst > max(tolerance, 1e-4 * float(alone.abs().max())):
            return failed(
                f"a sequence changes by {worst:.2g} when another one of its batch is all padding",
                measured=worst,
                tolerance=tolerance,
                case=Case(length=6, stream=stream.name),
            )
        if gradient is not None and not bool(gradient[0].isfinite().all()):
            return failed(
                "a sequence that is all padding gives its neighbour gradients that are not finite",
                case=Case(length=6, stream=stream.name),
            )
    extra = _need_weights(subject)
    if extra is not None:
        return extra
    return passed(
        "a sequence of padding alone gives finite numbers and gradients, and its neighbour does not notice",
        measured=worst,
        tolerance=tolerance,
        ways=("outputs", "gradients"),
    )


def _gradient(subject: Subject, stream: Stream, tokens: Tensor, keep: Tensor) -> Tensor | None:
    """Return the gradient by the tokens, or None where it cannot be taken."""
    try:
        with differentiable(subject, tokens) as (given, vectors), torch.enable_grad(), calling("with gradients"):
            output = stream.call(given, keep, None).tokens
            return torch.autograd.grad(output[keep].square().sum(), vectors())[0]
    except NotTestedError:
        return None


def _not_finite(subject: Subject, stream: Stream, tokens: Tensor, worst: float, tolerance: float) -> Outcome:
    case = Case(length=tokens.shape[1], stream=stream.name, query=0)
    said = "a sequence that is all padding gives NaN"
    if _is_pytorchs(subject):
        return deviates(
            f"{said}; PyTorch's module does that (and 0 on some of its paths, so train and eval differ)",
            remedy="leave one key visible in every row, or replace the output of such rows",
        )
    return failed(said, measured=worst, tolerance=tolerance, case=case)


def _is_pytorchs(subject: Subject) -> bool:
    """Return whether all attention of the subject is PyTorch's module."""
    assert subject.copy is not None
    layers = [subject.copy.get_submodule(name) for name in attention_modules(subject.copy)]
    return bool(layers) and all(isinstance(layer, nn.MultiheadAttention) for layer in layers)


def _need_weights(subject: Subject) -> Outcome | None:
    """Return the deviation of PyTorch's module that asked for weights, if it has it."""
    module = subject.original
    if not isinstance(subject, ModuleSubject) or not isinstance(module, nn.MultiheadAttention):
        return None
    assert subject.copy is not None
    x = torch.randn(2, 4, module.embed_dim, dtype=torch.float64)
    hidden = torch.tensor([[False] * 4, [True] * 4])
    y = x if module.batch_first else x.transpose(0, 1)
    with torch.no_grad(), calling("with need_weights=True"):
        output = subject.copy(y, y, y, key_padding_mask=hidden, need_weights=True)[0]
    if bool(output.isfinite().all()):
        return None
    return deviates(
        "a sequence that is all padding gives 0 before the output projection with need_weights=False, and NaN with "
        "need_weights=True, where PyTorch's module takes its own softmax",
        ways=("outputs", "gradients", "need_weights=True"),
        remedy="pass need_weights=False, or leave one key visible in every row",
    )
