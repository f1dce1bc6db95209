import pytest
import torch
import torch.nn.functional as F

from regard.functional import attention, reference
from regard.functional.impl.sdpa import _open_empty_rows


@pytest.mark.parametrize(("with_mask", "with_bias"), [(True, False), (False, True), (True, True)])
def test_opened_rows_zeroed_afterwards_give_the_reference_and_its_gradients(with_mask, with_bias):
    """The way taken on other devices, whose kernels are not known to give 0 for an empty row, computed here."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, 4, 8, generator=generator, dtype=torch.float64) for _ in range(3))
    keep = torch.rand(2, 1, 4, 4, generator=generator) < 0.6
    keep[0, :, 1] = False
    bias = torch.randn(3, 4, 4, generator=generator, dtype=torch.float64)[None]
    bias[:, 1, 2] = -torch.inf
    mask, bias = keep if with_mask else None, bias if with_bias else None
    opened, opened_bias, empty = _open_empty_rows(mask, bias)
    leaf = query.clone().requires_grad_()
    scores = reference.scores(leaf, key, attn_mask=opened, attn_bias=opened_bias)
    assert (scores > -torch.inf).any(-1).all()
    joined = torch.zeros(2, 3, 4, 4, dtype=torch.float64) if opened_bias is None else opened_bias
    joined = joined if opened is None else joined.masked_fill(~opened, -torch.inf)
    output = F.scaled_dot_product_attention(leaf, key, value, attn_mask=joined.expand(2, 3, 4, 4)).masked_fill(empty, 0)
    exact = reference.attention(query.requires_grad_(), key, value, attn_mask=mask, attn_bias=bias)
    torch.testing.assert_close(output, exact)
    found, wanted = (torch.autograd.grad(out.sum(), at)[0] for out, at in ((output, leaf), (exact, query)))
    torch.testing.assert_close(found, wanted)
    assert found.isfinite().all()


@pytest.mark.parametrize("scale", [-0.5, 0.0])
def test_a_causal_call_may_have_any_scale(scale, within_budget):
    tensors = [torch.randn(2, 4, 9, 8) for _ in range(3)]
    call = {"causal": True, "scale": scale}
    found, eager, exact = (
        [attention(*leaves, impl=impl, **call), *leaves]
        for impl, leaves in (
            ("sdpa", [tensor.clone().requires_grad_() for tensor in tensors]),
            ("reference", [tensor.clone().requires_grad_() for tensor in tensors]),
            ("reference", [tensor.double().requires_grad_() for tensor in tensors]),
        )
    )
    for output, *_ in (found, eager, exact):
        output.square().sum().backward()
    within_budget(found[0], eager[0], exact[0])
    for leaves in zip(found[1:], eager[1:], exact[1:], strict=True):
        within_budget(*(leaf.grad for leaf in leaves))
