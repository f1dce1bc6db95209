"""How many tokens a second does a GPT-2-shaped decoder write, beside `generate` of transformers on the same weights?"""

import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from measure import Sample, collect, compare, timed
from report import Report, Table, add_peer_option, only, parser
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from regard.models import Decoder, generate, load_decoder
from regard.modules import DynamicCache, Int8Cache, KeyValueCache, StaticCache

__all__ = ["main"]

_PROMPT, _NEW = 64, 64


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__ or "", rounds=7)
    made.add_argument("--dtype", choices=["float32", "bfloat16"], nargs="*", default=["float32", "bfloat16"])
    made.add_argument("--batch", type=int, nargs="*", default=[1, 8], help="sequences at once (default 1 and 8)")
    add_peer_option(made)
    options = made.parse_args()
    prompt, new = (4, 3) if options.quick else (_PROMPT, _NEW)
    theirs, ours = _models(options.quick)
    report = Report(__doc__ or "", options, facts=[f"random weights, {_size(ours):,} parameters", "greedy"])
    for name in options.dtype:
        dtype = getattr(torch, name)
        theirs, ours = theirs.to(dtype), ours.to(dtype)
        for batch in options.batch:
            ids = torch.randint(0, ours.config.vocab_size, (batch, prompt), generator=torch.Generator().manual_seed(1))
            peers = only(_peers(theirs, ours, ids, new), options.peer)
            rounds = 1 if options.quick else options.rounds
            samples = collect(peers, rounds=rounds, most_rounds=None if options.quick else 2 * rounds, tell=report.tell)
            report.add(
                Table(
                    title=f"{batch} sequence{'s' * (batch > 1)}, {prompt} tokens of prompt, {new} new ones, {name}",
                    comparisons=compare(samples),
                    tokens=batch * new,
                    note="Tokens are the new ones; the time of the prompt is within.",
                )
            )
    report.write()


def _models(quick: bool) -> tuple[GPT2LMHeadModel, Decoder]:
    """Return the model of transformers and ours, with the same weights."""
    set_verbosity_error()  # type: ignore[no-untyped-call]
    disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.manual_seed(0)
    sizes = {"n_layer": 2, "n_embd": 64, "n_head": 4, "vocab_size": 500} if quick else {}
    theirs = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0, attn_implementation="sdpa")).eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        return theirs, load_decoder(folder).eval()


def _peers(theirs: GPT2LMHeadModel, ours: Decoder, ids: Tensor, new: int) -> dict[str, Callable[[], Sample]]:
    room = ids.shape[1] + new

    def transformers() -> Any:
        return theirs.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new,
            min_new_tokens=new,
            do_sample=False,
            pad_token_id=0,
        )

    def regard(make: Callable[[], KeyValueCache]) -> Any:
        return generate(ours.session(ours.new_cache(make)), ids, max_new_tokens=new)

    caches: dict[str, Callable[[], KeyValueCache]] = {
        "static": lambda: StaticCache(room),
        "dynamic": DynamicCache,
        "int8": Int8Cache,
    }
    runs: dict[str, Callable[[], object]] = {"transformers": transformers}
    runs |= {f"regard, {name} cache": partial(regard, make) for name, make in caches.items()}
    return {name: partial(timed, run) for name, run in runs.items()}


def _size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


if __name__ == "__main__":
    main()
