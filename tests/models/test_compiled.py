"""A compiled BERT or decoder is one graph and computes what it computes uncompiled."""

import pytest
import torch

from regard.models import Bert, BertForSequenceClassification

pytestmark = pytest.mark.compiled


@pytest.fixture(params=[None, torch.float64], ids=["", "attention in float64"])
def model(tiny, request):
    torch._dynamo.reset()
    return BertForSequenceClassification(Bert(tiny, attention_dtype=request.param), 3, dropout_p=0.5)


@pytest.mark.parametrize("length", [9, 4], ids=["without padding", "padded"])
def test_compiled_evaluation_is_evaluation(model, length):
    model.eval()
    ids, mask = torch.randint(1, 50, (2, 9)), torch.arange(9) < torch.tensor([[9], [length]])

    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)

    torch.testing.assert_close(compiled(ids, mask), model(ids, mask), rtol=1e-5, atol=1e-5)


def test_compiled_training_drops_and_learns(model):
    ids = torch.randint(1, 50, (2, 9))
    compiled = torch.compile(model.train(), backend="aot_eager", fullgraph=True)

    assert (compiled(ids) - compiled(ids)).abs().max() > 1e-3
    compiled(ids).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)
    assert model.bert.embeddings.words.weight.grad.abs().max() > 0


@pytest.mark.parametrize("shape", ["gpt2", "llama"])
@pytest.mark.parametrize("padded", [0, 4])
def test_a_compiled_decoder_is_a_decoder(padded, shape, make_decoder):
    torch._dynamo.reset()
    model = make_decoder(shape)
    ids = torch.randint(1, 50, (2, 9))
    mask = (torch.arange(9) >= torch.tensor([[0], [padded]])).long()

    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)

    keep = mask.bool()
    torch.testing.assert_close(compiled(ids, mask)[keep], model(ids, mask)[keep], rtol=1e-5, atol=1e-4)
    compiled(ids).sum().backward()
    assert model.layers[0].attention.query.weight.grad.abs().sum() > 0
