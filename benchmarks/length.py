"""Does watching stay cheap, and its memory linear, where the sequence is long; and what does one head's map cost?

A model of GPT-2's shape reads 4,096 random tokens; one attention layer of one head reads 131,072; and all weights of
one head of MiniLM at 512 tokens are asked for after a forward that kept them. Against the last stands what reading
weights through identity blocks in the place of values needs at least (attnread 0.1.2 works so, and refuses BERT): a
forward for every head_dim keys.
"""

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from measure import collect, compare, timed
from memory import in_fresh_process, peak_bytes, unmeasurable
from minilm import Batch, transformers_model
from report import Report, Table, add_peer_option, only, parser
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GPT2Config, GPT2Model

from regard.functional.impl.native import native_available
from regard.observe import watch

__all__ = ["main"]

_QUESTION = "What does watching long sequences cost, and what does one head's whole map cost?"
_ON_REQUEST = "all weights of one head, MiniLM, on request"
_MASSES = ("entropy", "collision", "first_mass", "self_mass")
_OFF = "off"
_WATCHED: dict[str, dict[str, Any]] = {
    "watch, entropy, collision and masses": {"rows": "all"},
    "watch, 64 sampled rows": {"rows": 64},
}
if native_available():
    _WATCHED["native kernels, entropy, collision and masses"] = {"kernel": "native"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model and how many tokens it reads."""

    name: str
    make: Callable[[], nn.Module]
    inputs: Callable[[], Tensor]
    eager: bool = False


class Layer(nn.Module):
    """Attention of one head with itself."""

    def __init__(self, *, causal: bool) -> None:
        super().__init__()
        self.causal = causal

    def forward(self, x: Tensor) -> Tensor:
        """Return the output for (1, 1, len, head_dim)."""
        return F.scaled_dot_product_attention(x, x, x, is_causal=self.causal)


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__ or "", rounds=5)
    made.add_argument("--case", nargs="*", default=[], metavar="WORD", help="only cases whose names hold every WORD")
    add_peer_option(made)
    made.add_argument("--peak", nargs=2, metavar=("CASE", "PEER"), help="only print one peer's peak memory, in bytes")
    options = made.parse_args()
    cases = _cases(options.quick)
    if options.peak:
        print(_peak(next(case for case in cases if case.name == options.peak[0]), options.peak[1]))
        return
    report = Report(_QUESTION, options, facts=["float32, no dropout"])
    for case in cases:
        if all(word in case.name for word in options.case):
            report.tell(case.name)
            report.add(_table(case, options, report))
    if all(word in _ON_REQUEST for word in options.case):
        report.tell(_ON_REQUEST)
        report.add(_on_request(options, report))
    report.write()


def _cases(quick: bool) -> list[Case]:
    short, long, layers = (64, 256, 1) if quick else (4096, 131_072, 12)
    return [
        Case(
            name=f"GPT-2 shape, {layers} layers, one forward of {short:,} tokens",
            make=partial(_gpt2, "sdpa", layers, short),
            inputs=partial(_ids, short),
            eager=True,
        ),
        Case(
            name=f"one layer, one head, {long:,} tokens",
            make=partial(Layer, causal=False),
            inputs=partial(_vectors, long),
        ),
        Case(
            name=f"one causal layer, one head, {long:,} tokens",
            make=partial(Layer, causal=True),
            inputs=partial(_vectors, long),
        ),
    ]


def _gpt2(implementation: str, layers: int, length: int) -> nn.Module:
    torch.manual_seed(0)
    config = GPT2Config(n_layer=layers, n_positions=length, attn_pdrop=0.0, attn_implementation=implementation)
    return GPT2Model(config).eval()


def _ids(length: int) -> Tensor:
    return torch.randint(0, 50_000, (1, length), generator=torch.Generator().manual_seed(0))


def _vectors(length: int) -> Tensor:
    return torch.randn(1, 1, length, 64, generator=torch.Generator().manual_seed(0))


def _peers(case: Case) -> dict[str, Callable[[], Callable[[], object]]]:
    """Return name -> what makes the step of the peer."""
    found: dict[str, Callable[[], Callable[[], object]]] = {_OFF: partial(_step, case, None)}
    found |= {name: partial(_step, case, options) for name, options in _WATCHED.items()}
    if case.eager:
        found["eager"] = partial(_eager_step, case)
    return found


def _step(case: Case, options: dict[str, Any] | None) -> Callable[[], object]:
    model, inputs = case.make(), case.inputs()
    watching: AbstractContextManager[object] = nullcontext() if options is None else watch(model, _MASSES, **options)

    def step() -> None:
        with torch.no_grad(), watching:
            model(inputs)

    return step


def _eager_step(case: Case) -> Callable[[], object]:
    model, inputs = case.make(), case.inputs()
    assert isinstance(model, GPT2Model)
    model.set_attn_implementation("eager")

    def step() -> None:
        with torch.no_grad():
            model(inputs, use_cache=False)

    return step


def _table(case: Case, options: argparse.Namespace, report: Report) -> Table:
    peers = only(_peers(case), options.peer)
    steps = {name: partial(timed, make()) for name, make in peers.items()}
    rounds, most = (1, None) if options.quick else (options.rounds, 2 * options.rounds)
    samples = collect(steps, rounds=rounds, most_rounds=most, warm_ups=1, tell=report.tell)
    peaks: dict[str, int] = {}
    if unmeasurable() is None and not options.quick:
        report.tell("peak memory")
        peaks = {name: in_fresh_process(__file__, ["--peak", case.name, name]) for name in steps}
    return Table(title=case.name, comparisons=compare(samples), peaks=peaks, note="Statistics: " + ", ".join(_MASSES))


def _peak(case: Case, name: str) -> int:
    return peak_bytes(_peers(case)[name]())


def _on_request(options: argparse.Namespace, report: Report) -> Table:
    length = 32 if options.quick else 512
    batch = Batch.read(length, 1)
    model = transformers_model("sdpa").eval()
    layer = "bert.encoder.layer.3.attention.self"
    num_blocks = -(-batch.input_ids.shape[1] // 32)  # MiniLM's head_dim
    watching = watch(model, ("first_mass",), keep=[layer], layers=[layer])

    def forward() -> None:
        with torch.no_grad():
            model(batch.input_ids, batch.attention_mask)

    def blocks() -> None:
        for _ in range(num_blocks):
            forward()

    with watching as view:
        forward()

    def watched_forward() -> None:
        with watching:
            forward()
        view.weights(layer, 5)

    peers: dict[str, Callable[[], object]] = {
        "weights of a kept call": partial(view.weights, layer, 5),
        "watched forward and its weights": watched_forward,
        "one forward, unwatched": forward,
        f"{num_blocks} forwards, for identity blocks": blocks,
    }
    rounds = 1 if options.quick else 2 * options.rounds
    samples = collect({name: partial(timed, peer) for name, peer in peers.items()}, rounds=rounds, tell=report.tell)
    title = f"{_ON_REQUEST}, {batch.input_ids.shape[1]} tokens"
    return Table(title=title, comparisons=compare(samples))


if __name__ == "__main__":
    main()
