"""Paths: training, evaluation, gradients and backends give the same."""

from regard.conformance import check


def test_all_paths_of_a_model_agree(small):
    outcome = check(small("bert"), rules=["paths"])["paths"]

    assert outcome.verdict == "pass"
    assert outcome.ways[-2:] == ("training mode without dropout", "attention implementation eager")


def test_a_training_mode_that_differs_is_found(faulty):
    report = check(faulty("training differs"))

    assert report.failed == ["paths"]
    assert report["paths"].ways == ("training mode without dropout",)


def test_a_backend_that_differs_is_found(small, monkeypatch):
    from transformers.models.bert import modeling_bert

    def unmasked(module, query, key, value, attention_mask, scaling, **options):
        weights = (query @ key.mT * scaling).softmax(-1)
        return (weights @ value).transpose(1, 2).contiguous(), weights

    monkeypatch.setattr(modeling_bert, "eager_attention_forward", unmasked)

    report = check(small("bert"))

    assert report.failed == ["paths"]
    assert "attention implementation eager" in report["paths"].summary
