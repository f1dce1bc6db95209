"""Does the planner predict the peak of memory before anything runs?

Each configuration is planned on shapes alone, and then measured in a fresh process: what the resident memory rises by
at most, from before the model is made, over two steps. Before that a tiny model of the same kind has run, so that
libraries are loaded and not counted.
"""

import argparse
import gc
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from memory import in_fresh_process, peak_bytes, unmeasurable
from report import Plain, Report, parser
from torch import nn

from regard.cost import Workload, call_of, plan
from regard.cost.workload import Precision, Step

__all__ = ["main"]

_GOAL = 0.10
_TINY = (1, 16)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One configuration: how its model is made, and its sizes."""

    model: str
    batch: int
    length: int
    trains: bool = False
    precision: Precision = "float32"

    @property
    def name(self) -> str:
        """What a table calls it."""
        kind = "training" if self.trains else "inference"
        return f"{self.model}, {self.batch} × {self.length:,}, {kind}, {self.precision}"

    def workload(self, model: nn.Module) -> Workload:
        """Return it at work on ``model``."""
        return Workload(
            model=model,
            inputs=call_of(model, trains=self.trains),
            batch=self.batch,
            length=self.length,
            trains=self.trains,
            precision=self.precision,
            name=self.model,
        )


def _torch_encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(256, 4, 1024, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)


def _torch_encoder_dropout() -> nn.Module:
    layer = nn.TransformerEncoderLayer(256, 4, 1024, dropout=0.1, batch_first=True)
    return nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)


def _bert() -> nn.Module:
    from regard.models import Bert, BertConfig

    return Bert(BertConfig(num_layers=6, embed_dim=384, num_heads=12, feed_forward_dim=1536, max_len=8192))


def _chunked() -> nn.Module:
    from regard.modules import FeedForward, MultiHeadAttention, ResidualAttention

    return ResidualAttention(MultiHeadAttention(128, 2, causal=True, impl="chunked"), FeedForward(128, 512), norm="pre")


def _transformers_bert() -> nn.Module:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        num_hidden_layers=6, hidden_size=384, num_attention_heads=12, intermediate_size=1536,
        max_position_embeddings=8192, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return BertModel(config)


def _transformers_bert_dropout() -> nn.Module:
    from transformers import BertConfig, BertModel

    config = BertConfig(num_hidden_layers=4, hidden_size=256, num_attention_heads=4, intermediate_size=1024)
    return BertModel(config)


def _gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(n_layer=4, n_positions=8192, attn_pdrop=0.0))


def _llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=16_000, hidden_size=512, num_hidden_layers=6, num_attention_heads=8, num_key_value_heads=2,
        intermediate_size=1376,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def _t5() -> nn.Module:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=8_000, d_model=256, d_kv=64, num_heads=4, d_ff=1024, num_layers=3, decoder_start_token_id=0,
        dropout_rate=0.0,
    )  # fmt: skip
    return T5ForConditionalGeneration(config)


def _lstm() -> nn.Module:
    return nn.LSTM(512, 512, 2, batch_first=True)


def _gru() -> nn.Module:
    return nn.GRU(512, 512, 2, batch_first=True)


def _gru_both_ways() -> nn.Module:
    return nn.GRU(128, 128, 2, batch_first=True, bidirectional=True)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "nn.TransformerEncoder": _torch_encoder,
    "nn.TransformerEncoder with dropout": _torch_encoder_dropout,
    "BERT of regard": _bert,
    "layer of regard, chunked": _chunked,
    "BERT of transformers": _transformers_bert,
    "BERT of transformers with attention dropout": _transformers_bert_dropout,
    "GPT-2 of transformers": _gpt2,
    "Llama of transformers": _llama,
    "T5 of transformers": _t5,
    "LSTM": _lstm,
    "GRU": _gru,
    "GRU both ways": _gru_both_ways,
}
CASES = [
    Case(model="nn.TransformerEncoder", batch=8, length=512),
    Case(model="nn.TransformerEncoder", batch=4, length=512, trains=True),
    Case(model="nn.TransformerEncoder", batch=1, length=4096, trains=True),
    Case(model="nn.TransformerEncoder with dropout", batch=4, length=512, trains=True),
    Case(model="BERT of regard", batch=16, length=256),
    Case(model="BERT of regard", batch=8, length=256, trains=True),
    Case(model="BERT of regard", batch=1, length=4096, trains=True),
    Case(model="BERT of regard", batch=8, length=256, trains=True, precision="bfloat16"),
    Case(model="layer of regard, chunked", batch=1, length=16_384),
    Case(model="layer of regard, chunked", batch=1, length=8_192, trains=True),
    Case(model="BERT of transformers", batch=4, length=512),
    Case(model="BERT of transformers", batch=4, length=512, trains=True),
    Case(model="BERT of transformers", batch=4, length=512, trains=True, precision="bfloat16"),
    Case(model="BERT of transformers with attention dropout", batch=8, length=256, trains=True),
    Case(model="GPT-2 of transformers", batch=2, length=512),
    Case(model="GPT-2 of transformers", batch=2, length=512, trains=True),
    Case(model="Llama of transformers", batch=2, length=1024),
    Case(model="Llama of transformers", batch=2, length=512, trains=True),
    Case(model="T5 of transformers", batch=4, length=256, trains=True),
    Case(model="LSTM", batch=16, length=512, trains=True),
    Case(model="GRU", batch=16, length=512, trains=True),
    Case(model="GRU both ways", batch=32, length=256, trains=True),
]


def main() -> None:
    """Run the benchmark, or measure one case for it."""
    options = parser(__doc__ or "", rounds=3)
    options.add_argument("--case", nargs="*", default=[], metavar="WORD", help="only cases whose names hold all words")
    options.add_argument("--measure", type=int, metavar="N", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.measure is not None:
        print(json.dumps(_measured_bytes(CASES[given.measure])))
        return
    report = Report(__doc__ or "", given, facts=["peaks of fresh processes"])
    chosen = [number for number, case in enumerate(CASES) if all(word in case.name for word in given.case)]
    chosen = chosen[:1] if given.quick else chosen
    problem = unmeasurable()
    rows, ratios = [], []
    for number in chosen:
        case = CASES[number]
        report.tell(case.name)
        predicted = _planned(case)
        if problem is None:
            measured = in_fresh_process(str(Path(__file__)), ["--measure", str(number)])
            ratios.append(predicted / measured)
            report.tell(f"  {_megabytes(predicted)} / {_megabytes(measured)} = {predicted / measured:.3f}")
            rows.append((case.name, _megabytes(predicted), _megabytes(measured), f"{predicted / measured:.3f}"))
        else:
            rows.append((case.name, _megabytes(predicted), "–", "–"))
    note = problem or (
        f"{sum(abs(one - 1) <= _GOAL for one in ratios)} of {len(ratios)} within {_GOAL:.0%}; median "
        f"{statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}."
    )
    columns = ("model, batch × length", "predicted", "measured", "predicted / measured")
    report.add(Plain(title="Peak of memory", columns=columns, rows=rows, note=note, values={"ratios": ratios}))
    report.write()


def _planned(case: Case) -> int:
    with torch.device("meta"):
        model = MODELS[case.model]()
    return plan(case.workload(model)).peak_bytes


def _measured_bytes(case: Case) -> int:
    """Return what two steps need at most, with the model, beyond what the process had before it was made."""
    tiny = Case(model=case.model, batch=_TINY[0], length=_TINY[1], trains=case.trains, precision=case.precision)
    _two_steps(tiny)
    gc.collect()
    return peak_bytes(lambda: _two_steps(case))


def _two_steps(case: Case) -> None:
    step = Step(case.workload(MODELS[case.model]()))
    for _ in range(2):
        step()


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


if __name__ == "__main__":
    main()
