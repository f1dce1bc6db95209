"""Formula: what no single law forbids is still not attention."""

from regard.conformance import check


def test_the_formula_passes(attend):
    assert check(attend(), rules=["formula"])["formula"].verdict == "pass"


def test_another_function_with_all_other_properties_is_found(attend):
    def doubled(query, key, value, attn_mask=None):
        return attend()(query, key, value, attn_mask) + 1e-3 * value if query.shape == value.shape else value

    assert "formula" in check(doubled, rules=["formula"]).failed
