"""Batch invariance: alone, in a batch, in another order."""

from regard.conformance import check
from regard.conformance.families import family


def test_an_invariant_batch_passes(attend, small):
    assert check(attend(), rules=["batch"])["batch"].ways == (
        "alone",
        "another order",
        "alone with its mask",
    )
    assert check(small("llama"), rules=["batch"])["batch"].verdict == "pass"


def test_a_sequence_that_hears_another_is_found(attend):
    report = check(attend("first of the batch"))

    assert report.failed[0] == "batch"


def test_a_layer_that_mixes_the_batch_is_located(small):
    model = small("bert")
    value = model.encoder.layer[1].attention.self.value

    class Mixing(type(value)):
        def forward(self, hidden):
            return super().forward(hidden) + 0.1 * super().forward(hidden.roll(1, 0))

    value.__class__ = Mixing

    report = check(model)
    said = []

    exec(report["batch"].reproduction, {"model": model, "print": said.append})

    assert report.failed[0] == "batch"
    assert report["batch"].case.layer == "encoder.layer.1.attention.self"
    assert report["batch"].case.length == 2
    assert "2 of 2 tokens are enough" in report["batch"].summary
    assert said[0] > 1e-4


def test_a_mask_that_reaches_another_sequence_is_shrunk(faulty):
    class Neighbours(faulty):
        """Attention in which each sequence gets the mask of the one before it."""

        def forward(self, x, context=None, *, key_padding_mask=None):
            mask = None if key_padding_mask is None else key_padding_mask.roll(1, 0)
            return super().forward(x, context, key_padding_mask=mask)

    module = Neighbours()
    outcome = check(module, rules=["batch"])["batch"]
    said = []

    exec(outcome.reproduction, {"module": module, "print": said.append})

    assert outcome.ways == ("alone with its mask",)
    assert outcome.case.length == 2
    assert said[0] > 1e-3


def test_images_are_shrunk_to_two():
    model = family("vit")
    norm = model.layers[1].layernorm_after

    class OverBatch(type(norm)):
        def forward(self, x):
            return super().forward(x) + 0.1 * x.mean(0, keepdim=True)

    norm.__class__ = OverBatch

    outcome = check(model, rules=["batch"])["batch"]

    assert "2 of them are enough" in outcome.summary
    assert outcome.case.length is None
