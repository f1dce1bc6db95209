"""Soft cap: applied where it is declared."""

from regard.conformance import check


def test_the_declared_cap_passes(small):
    outcome = check(small("gemma2", "eager"), rules=["softcap"])["softcap"]

    assert outcome.verdict == "pass"
    assert "capped at 2" in outcome.summary


def test_a_lost_cap_is_located(small):
    model = small("gemma2", "eager")
    model.model.layers[1].self_attn.attn_logit_softcapping = None

    report = check(model)

    assert report.failed == ["softcap"]
    assert report["softcap"].case.layer == "model.layers.1.self_attn"
