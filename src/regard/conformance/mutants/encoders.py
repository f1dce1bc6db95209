"""Mutants of encoders: BERT and ViT, built small from their configurations."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from regard.conformance.families import family
from regard.conformance.mutants.mutant import Mutant
from regard.conformance.mutants.patches import derived, kernel, with_kernel
from regard.conformance.mutants.steps import Steps

__all__ = ["ENCODER_MUTANTS"]

_STEPS = Steps()


def _mutant(on: str, name: str, kind: str, rule: str, report: str, says: str, mutate: Any, **sizes: Any) -> Mutant:
    return Mutant(
        name=f"{name} ({on})",
        kind=kind,
        report=report,
        report_says=says,
        on=on,
        rule=rule,
        healthy=lambda seed: family(on, seed, **sizes),
        mutate=mutate,
    )


def _bert(model: Any) -> Any:
    return model.encoder.layer[1].attention.self


def _vit(model: Any) -> Any:
    return next(one for one in model.modules() if type(one).__name__ == "ViTAttention")


def _kernel(place: Callable[[Any], Any], name: str, steps: Steps) -> Callable[[Any], Any]:
    def mutate(model: Any) -> Any:
        with_kernel(place(model), name, kernel(steps))
        return model

    return mutate


def _mask(changed: Callable[[Tensor], Tensor | None]) -> Callable[[Any], Any]:
    """Return the patch of the mask that the second layer of BERT gets; it is boolean, True = may attend."""

    def mutate(model: Any) -> Any:
        healthy = type(_bert(model)).forward

        def forward(self: Any, hidden_states: Tensor, attention_mask: Tensor | None = None, **given: Any) -> Any:
            mask = None if attention_mask is None else changed(attention_mask)
            return healthy(self, hidden_states, mask, **given)

        derived(_bert(model), forward=forward)
        return model

    return mutate


def _dropping(model: Any) -> Any:
    def attend(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **given: Any) -> Any:
        return kernel(_STEPS)(module, query, key, value, mask, module.dropout.p, given["scaling"], False)

    with_kernel(_bert(model), "dropping", attend)
    return model


def _over_batch(model: Any) -> Any:
    def forward(self: Any, x: Tensor) -> Tensor:
        centred = x - x.mean(0, keepdim=True)
        spread = (centred.square().mean(0, keepdim=True) + self.eps).sqrt()
        normed: Tensor = self.weight * centred / spread + self.bias
        return normed

    derived(model.encoder.layer[1].output.LayerNorm, forward=forward)
    return model


def _scaled_by_width(model: Any) -> Any:
    layer = _vit(model)
    layer.scaling = model.config.hidden_size**-0.5
    return model


def _half(model: Any) -> Any:
    """Return the model in float16, with products of queries and keys that overflow it and scaled ones that do not."""
    layer = _vit(model)
    with torch.no_grad():
        for projection in (layer.q_proj, layer.k_proj):
            projection.weight *= 800
    return model.half()


def _product_first(query: Tensor, key: Tensor, factor: float) -> Tensor:
    return (query @ key.mT) * factor


def _plain_softmax(scores: Tensor) -> Tensor:
    return scores.softmax(-1)


ENCODER_MUTANTS = (
    _mutant(
        "bert",
        "padding attended in one layer",
        "mask ignored",
        "padding",
        "yg211/bert_nli#3",
        "attention masks were all ones, so that padding took part; masking it improved the accuracy",
        _mask(lambda mask: None),
    ),
    _mutant(
        "bert",
        "padding mask inverted",
        "mask inverted",
        "mask_sense",
        "nyu-mll/jiant#465",
        "the attention mask of BERT had the wrong sign: ones must stand for real tokens",
        _mask(lambda mask: ~mask),
    ),
    _mutant(
        "bert",
        "padding mask added as 0 and 1",
        "0/1 mask added",
        "mask_sense",
        "mlverse/torch#1208",
        "float padding masks are added to the scores and only boolean ones hide; the two had been mixed up",
        _mask(lambda mask: mask.double()),
    ),
    _mutant(
        "bert",
        "padding mask on the queries",
        "mask over the wrong axis",
        "padding",
        "hyunwoongko/transformer#40",
        "the padding mask was unsqueezed along the wrong axis and hid rows of queries instead of keys",
        _mask(lambda mask: mask.mT),
    ),
    _mutant(
        "bert",
        "dropout without a look at the mode",
        "dropout active in evaluation",
        "dropout",
        "meta-pytorch/torchtune#1791",
        "attn_dropout was passed to the kernel also in evaluation, against what its documentation said",
        _dropping,
    ),
    _mutant(
        "bert",
        "NaN for a sequence of padding alone",
        "fully masked row gives NaN",
        "empty_rows",
        "pytorch/pytorch#41508",
        "a softmax over -inf alone gave NaN, also in the gradients",
        _kernel(_bert, "plain_softmax", replace(_STEPS, weights=_plain_softmax)),
    ),
    _mutant(
        "bert",
        "norm over the batch",
        "statistics over the batch",
        "batch",
        "hulianyuyy/CorrNet#61",
        "mean and variance were taken over the batch during inference, and results changed with the batch size",
        _over_batch,
    ),
    _mutant(
        "vit",
        "scale of the model's width",
        "scale by model width",
        "scale",
        "omihub777/ViT-CIFAR#12",
        "scores were divided by the root of the model's width instead of the head's",
        _scaled_by_width,
    ),
    _mutant(
        "vit",
        "softmax over the queries",
        "softmax over the wrong axis",
        "softmax",
        "nerminnuraydogan/vision-transformer#1",
        "the softmax of a vision transformer was taken along the wrong axis",
        _kernel(_vit, "over_queries", replace(_STEPS, weights=lambda scores: scores.softmax(-2))),
    ),
    _mutant(
        "vit",
        "scale after the softmax",
        "scale after the softmax",
        "softmax",
        "FrancescoSaverioZuppichini/ViT#2",
        "the softmax was multiplied by the scale instead of the scores",
        _kernel(
            _vit,
            "scaled_softmax",
            replace(_STEPS, factor=lambda query, scale: 1.0, weights=lambda scores: scores.softmax(-1) / 8**0.5),
        ),
    ),
    Mutant(
        name="scale after a half-precision product (vit)",
        kind="overflow in half precision",
        report="plemeri/InSPyReNet#36",
        report_says="products of queries and keys became inf in float16 during training and inference",
        on="vit",
        rule="dtype_headroom",
        healthy=lambda seed: _half(family("vit", seed)),
        mutate=_kernel(_vit, "product_first", replace(_STEPS, scores=_product_first)),
    ),
)
