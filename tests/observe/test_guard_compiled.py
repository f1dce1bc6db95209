"""The guard hears compiled code, and leaves it compiled."""

import pytest
import torch
from torch import Tensor, nn

from regard.modules import MultiHeadAttention
from regard.observe import guard

pytestmark = pytest.mark.compiled


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MultiHeadAttention(16, 4) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x)
        return x


def test_a_fault_in_compiled_code_is_named() -> None:
    model = Model()
    x = torch.randn(2, 20, 16)
    compiled = torch.compile(model, backend="aot_eager")
    expected = compiled(x)
    with guard(compiled) as guarding:
        assert torch.equal(compiled(x), expected)
        assert guarding.findings == []
        with torch.no_grad():
            model.layers[1].query.weight[5, 0] = float("nan")
        compiled(x)
    (finding,) = guarding.findings
    assert (finding.step, finding.cause, finding.layer, finding.heads) == (2, "parameter", "layers.1", (1,))
