"""Hugging Face BERT is watched as it is: same bits, statistics equal to the maps of its eager twin."""

import copy

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, BertModel

from regard.observe import View, watch

LAYERS = [f"encoder.layer.{number}.attention.self" for number in range(3)]


def small_config() -> BertConfig:
    return BertConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        attention_probs_dropout_prob=0.0,
    )


@pytest.fixture
def bert() -> BertModel:
    torch.manual_seed(0)
    model = BertModel(small_config(), add_pooling_layer=False)
    for parameter in model.parameters():  # larger than the initialisation, so that heads differ from uniform
        parameter.data *= 6 if parameter.ndim > 1 else 1
    model.set_attn_implementation("sdpa")
    return model.eval()


@pytest.fixture
def inputs() -> dict[str, torch.Tensor]:
    ids = torch.randint(0, 50, (3, 11), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "attention_mask": (torch.arange(11) < torch.tensor([[11], [7], [2]])).long()}


def eager_maps(model: BertModel, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    twin = copy.deepcopy(model).double()
    twin.set_attn_implementation("eager")
    with torch.no_grad():
        return list(twin(**inputs, output_attentions=True).attentions)


def over_real_rows(rows: torch.Tensor, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    real = inputs["attention_mask"].bool()[:, None, :].expand_as(rows)
    return (rows * real).sum((0, 2)) / real.sum((0, 2))


def test_statistics_equal_those_of_the_eager_maps(bert: BertModel, inputs: dict[str, torch.Tensor]) -> None:
    with watch(bert, ["entropy", "max_weight", "collision", "first_mass", "self_mass"]) as view:
        bert(**inputs)
    assert view.layers == LAYERS
    for layer, weights in zip(LAYERS, eager_maps(bert, inputs), strict=True):
        expected = {
            "entropy": torch.special.entr(weights).sum(-1),
            "max_weight": weights.amax(-1),
            "collision": weights.square().sum(-1),
            "first_mass": weights[..., 0],
            "self_mass": weights.diagonal(dim1=-2, dim2=-1),
        }
        for name, rows in expected.items():
            torch.testing.assert_close(view[layer][name], over_real_rows(rows, inputs), atol=1e-4, rtol=0)


def test_training_is_bit_identical(inputs: dict[str, torch.Tensor]) -> None:
    def step(watched: bool) -> tuple[torch.Tensor, list[torch.Tensor]]:
        torch.manual_seed(0)
        model = BertForSequenceClassification(small_config())
        model.set_attn_implementation("sdpa")
        model.train()
        watcher = watch(model, ["entropy", "max_weight", "distance"])
        if watched:
            watcher.start()
        loss = model(**inputs, labels=torch.tensor([0, 1, 0])).loss
        loss.backward()
        watcher.stop()
        return loss.detach(), [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    plain_loss, plain = step(watched=False)
    loss, gradients = step(watched=True)
    assert torch.equal(plain_loss, loss)
    assert len(plain) == len(gradients) > 20
    assert all(torch.equal(one, other) for one, other in zip(plain, gradients, strict=True))


def test_autocast_is_watched_with_the_tensors_of_the_kernel(bert: BertModel, inputs: dict[str, torch.Tensor]) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        plain = bert(**inputs).last_hidden_state
        with watch(bert, ["entropy"]) as view:
            watched = bert(**inputs).last_hidden_state
    assert torch.equal(plain, watched)
    weights = eager_maps(bert, inputs)[0]
    expected = over_real_rows(torch.special.entr(weights).sum(-1), inputs)
    torch.testing.assert_close(view[LAYERS[0]]["entropy"], expected, atol=0.05, rtol=0)


def test_rows_of_padding_do_not_count_and_get_no_weight(bert: BertModel, inputs: dict[str, torch.Tensor]) -> None:
    with watch(bert, ["padding_mass"]) as view:
        bert(**inputs)
    assert {row["num_rows"] for row in view.table()} == {11 + 7 + 2}
    assert all(row["maximum"] == 0 for row in view.table())


def test_an_eager_model_is_watched_through_its_scores(bert: BertModel, inputs: dict[str, torch.Tensor]) -> None:
    names = ["entropy", "max_weight", "first_mass", "output_norm"]
    with watch(bert, names) as fused:
        bert(**inputs)
    bert.set_attn_implementation("eager")
    plain = bert(**inputs).last_hidden_state
    with watch(bert, names) as view:
        assert torch.equal(bert(**inputs).last_hidden_state, plain)
    assert view.kernels() == {"softmax": 3}
    for layer in LAYERS:
        for name in names:
            torch.testing.assert_close(view[layer][name], fused[layer][name], atol=1e-5, rtol=1e-5)


def test_every_attention_module_is_in_the_coverage(bert: BertModel, inputs: dict[str, torch.Tensor]) -> None:
    with watch(bert) as view:
        bert(**inputs)
        bert(input_ids=inputs["input_ids"][:1])
    assert [(entry.layer, entry.calls) for entry in view.coverage()] == [(layer, 2) for layer in LAYERS]
    assert sum(view.kernels().values()) == 6


def test_submodules_can_be_watched_alone(bert: BertModel, inputs: dict[str, torch.Tensor]) -> None:
    part = bert.encoder.layer[1]
    assert isinstance(part, nn.Module)
    with watch(part, ["entropy"]) as view:
        bert(**inputs)
    assert isinstance(view, View)
    assert view.layers == ["attention.self"]
