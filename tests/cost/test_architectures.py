"""Parts are found by where numbers go, so names and layouts of libraries do not matter."""

import pytest
import torch

from regard.cost import Part, call_of, count

transformers = pytest.importorskip("transformers", reason="needs transformers: pip install 'regard[hf]'")

HIDDEN, LAYERS, FED, VOCABULARY, LENGTH = 32, 2, 96, 120, 24


def bert(**options):
    config = transformers.BertConfig(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=4,
        intermediate_size=FED,
    )  # fmt: skip
    return transformers.BertForMaskedLM._from_config(config, **options)


def gpt2(**options):
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=HIDDEN, n_layer=LAYERS, n_head=4, n_inner=FED, bos_token_id=1, eos_token_id=2
    )
    return transformers.GPT2LMHeadModel._from_config(config, **options)


def llama(**options):
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=FED,
    )  # fmt: skip
    return transformers.LlamaForCausalLM._from_config(config, **options)


def t5(**options):
    config = transformers.T5Config(
        vocab_size=VOCABULARY,
        d_model=HIDDEN,
        num_layers=LAYERS,
        num_heads=4,
        d_kv=8,
        d_ff=FED,
        decoder_start_token_id=0,
    )
    return transformers.T5ForConditionalGeneration._from_config(config, **options)


TOKENS = 2 * LENGTH
DENSE, FEED = 2 * TOKENS * HIDDEN**2, 2 * TOKENS * HIDDEN * FED
CORE = 4 * 2 * LENGTH**2 * HIDDEN
EXPECTED = {
    bert: {
        Part.PROJECTIONS: LAYERS * 4 * DENSE, Part.CORE: LAYERS * CORE, Part.FEED_FORWARD: LAYERS * 2 * FEED,
        Part.OUTPUT: DENSE + 2 * TOKENS * HIDDEN * VOCABULARY,
    },
    gpt2: {
        Part.PROJECTIONS: LAYERS * 4 * DENSE, Part.CORE: LAYERS * CORE, Part.FEED_FORWARD: LAYERS * 2 * FEED,
        Part.OUTPUT: 2 * TOKENS * HIDDEN * VOCABULARY,
    },
    llama: {
        Part.PROJECTIONS: LAYERS * 3 * DENSE, Part.CORE: LAYERS * CORE, Part.FEED_FORWARD: LAYERS * 3 * FEED,
        Part.OUTPUT: 2 * TOKENS * HIDDEN * VOCABULARY,
    },
    t5: {
        Part.PROJECTIONS: 3 * LAYERS * 4 * DENSE, Part.CORE: 3 * LAYERS * CORE,
        Part.FEED_FORWARD: 2 * LAYERS * 2 * FEED, Part.OUTPUT: 2 * TOKENS * HIDDEN * VOCABULARY,
    },
}  # fmt: skip


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("make", EXPECTED, ids=lambda make: make.__name__)
def test_parts_of_a_model_are_those_of_its_sizes(make, kernel):
    model = make(attn_implementation=kernel).eval()
    positional, named = call_of(model)(2, LENGTH)

    with torch.no_grad():
        imagined, real = (count(model, *positional, real=run, **named) for run in (False, True))

    for found in (imagined, real):
        counted = {part: share.flops for part, share in found.by_part().items() if share.flops and part != Part.MASKS}
        assert counted == EXPECTED[make]
        assert found.uncounted == {}
    causal = make in (gpt2, llama)
    assert (real.needed < real.flops) is (causal or make is t5)
