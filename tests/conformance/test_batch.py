"""Batch invariance: alone, in a batch, in another order."""

from regard.conformance import check


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

    assert report.failed[0] == "batch"
    assert report["batch"].case.layer == "encoder.layer.1.attention.self"
