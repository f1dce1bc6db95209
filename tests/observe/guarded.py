"""Small models that a guard watches, and what is read from its findings."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model, LlamaConfig, LlamaModel, PreTrainedModel

from regard.observe import Finding

HEADS, WIDTH = 4, 32
HEAD_DIM = WIDTH // HEADS
HALF = torch.finfo(torch.float16).max


def bert(implementation: str, dtype: torch.dtype = torch.float32) -> BertModel:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50,
        hidden_size=WIDTH,
        num_hidden_layers=3,
        num_attention_heads=HEADS,
        intermediate_size=64,
        attention_probs_dropout_prob=0.0,
    )
    return _ready(BertModel(config, add_pooling_layer=False), implementation, dtype)


def gpt2(implementation: str, dtype: torch.dtype = torch.float32) -> GPT2Model:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=50, n_embd=WIDTH, n_layer=3, n_head=HEADS, attn_pdrop=0.0)
    return _ready(GPT2Model(config), implementation, dtype)


def llama(implementation: str, dtype: torch.dtype = torch.float32) -> LlamaModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=HEADS,
        num_key_value_heads=2,
    )
    return _ready(LlamaModel(config), implementation, dtype)


def _ready(model: PreTrainedModel, implementation: str, dtype: torch.dtype) -> PreTrainedModel:
    model.set_attn_implementation(implementation)
    return model.to(dtype).eval()


def encoder(num_layers: int = 2) -> nn.TransformerEncoder:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 64, batch_first=True)
    return nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)


class BiasedAttention(nn.Module):
    """Fused attention whose bias is given, (heads, len, len)."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        q, k, v = self.project(x).unflatten(2, (3, HEADS, HEAD_DIM)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2)


class Biased(nn.Module):
    """Layers of it."""

    def __init__(self, num_layers: int = 2) -> None:
        super().__init__()
        self.layers = nn.ModuleList(BiasedAttention() for _ in range(num_layers))

    def forward(self, x: Tensor, biases: list[Tensor]) -> Tensor:
        for layer, bias in zip(self.layers, biases, strict=True):
            x = x + layer(x, bias)
        return x


def scale_head(head: int, factor: float, *projections: nn.Linear) -> None:
    """Multiply the rows of one head in a projection."""
    with torch.no_grad():
        for projection in projections:
            projection.weight[head * HEAD_DIM : (head + 1) * HEAD_DIM] *= factor


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    place = f"layer {finding.layer}" if finding.layer else "the model's own attention"
    assert f"Step {finding.step}, {place}" in finding.sentence
    return finding


def summary(finding: Finding) -> tuple[str, str, tuple[int, ...]]:
    return finding.cause, finding.layer, finding.heads
