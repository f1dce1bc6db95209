"""Heads: merged in order, and kept apart."""

import pytest

from regard.conformance import check


def test_heads_in_order_pass(attend, faulty, small):
    for subject in (attend(), faulty(), small("bert")):
        assert check(subject, rules=["head_merge"])["head_merge"].verdict == "pass"


def test_exchanged_heads_of_a_function_are_named_first(attend):
    assert check(attend("heads exchanged")).failed[0] == "head_merge"


def test_a_merge_without_transpose_is_named_first(faulty):
    report = check(faulty("merged without transpose"))

    assert report.failed[0] == "head_merge"
    assert "another order" in report["head_merge"].summary


@pytest.mark.parametrize("impl", ["sdpa", "eager"])
def test_a_merge_without_transpose_is_located(small, impl):
    model = small("bert", impl)
    layer = model.encoder.layer[1].attention.self
    layer.register_forward_hook(lambda *_: None)  # hooks of the original are not on the copy
    dense = model.encoder.layer[1].attention.output
    dense.__class__ = type("Mixed", (type(dense),), {"forward": _mixed})

    report = check(model)

    assert report.failed[0] == "head_merge"
    assert report["head_merge"].case.layer == "encoder.layer.1.attention.self"


def _mixed(self, hidden_states, input_tensor):
    batch, length, width = hidden_states.shape
    mixed = hidden_states.view(batch, length, 4, width // 4).transpose(1, 2).reshape(batch, length, width)
    return type(self).__mro__[1].forward(self, mixed, input_tensor)
