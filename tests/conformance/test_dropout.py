"""Dropout: off in evaluation mode, also where its probability is small or zero."""

from torch.nn import functional as F

from regard.conformance import check


def test_dropout_that_heeds_the_mode_passes(small):
    outcome = check(small("bert"), rules=["dropout"])["dropout"]

    assert outcome.verdict == "pass"
    assert outcome.summary.startswith("no effect of ")


def test_active_dropout_is_named_first_and_nothing_else_is_judged(faulty):
    report = check(faulty("dropout in eval"))

    assert report.failed == ["dropout", "determinism"]
    assert report["causality"].verdict == "could not test"
    assert "random" in report["causality"].summary


def test_dropout_behind_a_probability_of_zero_is_found(faulty):
    module = faulty("dropout in eval")
    module.dropout_p = 0.0

    report = check(module)

    assert report.failed == ["dropout"]
    assert module.dropout_p == 0.0


def test_dropout_of_a_model_is_found(small):
    model = small("bert")
    output = model.encoder.layer[1].output

    class Always(type(output)):
        def forward(self, hidden_states, input_tensor):
            return self.LayerNorm(F.dropout(self.dense(hidden_states), self.dropout.p, training=True) + input_tensor)

    output.__class__ = Always

    assert check(model).failed[0] == "dropout"


def test_a_module_without_dropout_is_not_asked(faulty):
    module = faulty()
    del module.dropout_p

    assert check(module, rules=["dropout"])["dropout"].verdict == "not applicable"
