"""Headroom: products of queries and keys fit their type, before and after the scale."""

import torch

from regard.conformance import check


def scaled_late(query, key, value):
    return ((query @ key.mT) * query.shape[-1] ** -0.5).softmax(-1) @ value


def scaled_first(query, key, value):
    return ((query * query.shape[-1] ** -0.5) @ key.mT).softmax(-1) @ value


def test_the_order_of_scaling_decides_in_half_precision():
    half = {"dtype": torch.float16}

    assert check(scaled_late, assume=half).failed == ["dtype_headroom"]
    assert check(scaled_first, assume=half).ok
    assert check(scaled_late).ok


def test_large_products_of_a_half_precision_module_are_located(faulty):
    module = faulty()
    for layer in (module.query, module.key):
        layer.weight.data[4:8] *= 300  # head 1
    module.half()

    report = check(module)

    assert report.failed == ["dtype_headroom"]
    assert report["dtype_headroom"].case.head == 1
