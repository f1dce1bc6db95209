"""Packed rows: through each way that a subject has, located, and told from positions that run on."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from regard.conformance import AttentionModule, Model, check
from regard.conformance.documents import numbered, offsets_of, places_of, visible
from regard.conformance.families import family
from regard.functional import packed_attention
from regard.modules import MultiHeadAttention


def packed(subject, **options):
    return check(subject, rules=["packed"], **options)["packed"]


def test_places_begin_anew_and_sequences_are_blocks():
    documents = numbered((1, 2), (2, 1))

    assert documents.tolist() == [[0, 1, 1], [0, 0, 1]]
    assert places_of(documents).tolist() == [[0, 0, 1], [0, 1, 0]]
    assert offsets_of(documents).tolist() == [0, 1, 3, 5, 6]
    assert visible(documents, causal=True)[0, 0].tolist() == [
        [True, False, False],
        [False, True, False],
        [False, True, True],
    ]


def test_functions_are_packed_by_a_mask_or_by_offsets(attend):
    assert packed(attend()).ways == ("a mask of blocks",)
    assert packed(packed_attention).ways == ("offsets",)


def test_torchs_modules_and_ours_are_packed_by_a_mask():
    layer = nn.TransformerEncoderLayer(16, 4, 32)
    subjects = nn.MultiheadAttention(16, 4), layer, MultiHeadAttention(16, 4), MultiHeadAttention(16, 4, causal=True)

    for subject in subjects:
        assert packed(subject).verdict == "pass"


@pytest.mark.parametrize("impl", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["gpt2", "mistral"])
def test_a_decoder_is_packed_by_positions_alone_and_by_a_mask_of_four_axes(name, impl):
    assert packed(family(name, impl=impl)).ways == (
        "position_ids that begin anew, no mask and no cache",
        "a mask of four axes and position_ids that begin anew",
    )


def test_an_encoder_is_packed_by_a_mask_of_four_axes_alone(small):
    assert packed(small("bert")).ways == ("a mask of four axes and position_ids that begin anew",)


def test_relative_positions_need_no_telling():
    outcome = packed(family("t5"))

    assert outcome.ways == ("a mask of four axes",)
    assert "encoder: the mask of its encoder reaches the cross-attention" in outcome.summary


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("bart", "decoder: its positions cannot be told"),
        ("bloom", "refuses a mask of four axes"),
        ("vit", "no sequence"),
    ],
)
def test_what_has_no_way_is_not_asked_and_the_reason_said(name, reason):
    outcome = packed(family(name))

    assert outcome.verdict == "not applicable"
    assert reason in outcome.summary


def test_a_model_that_makes_a_mask_of_ones_heeds_no_positions():
    from transformers import OPTConfig, OPTForCausalLM

    sizes = {"hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    outcome = packed(OPTForCausalLM(OPTConfig(vocab_size=50, word_embed_proj_dim=32, **sizes)))

    assert outcome.ways == ("a mask of four axes and position_ids that begin anew",)
    assert "position_ids that begin anew keep nothing apart" in outcome.summary


def test_looking_for_the_detection_leaves_transformers_as_it_was(small):
    from transformers import masking_utils

    before = masking_utils.find_packed_sequence_indices
    packed(small("llama"))

    assert masking_utils.find_packed_sequence_indices is before


@pytest.mark.parametrize("impl", ["sdpa", "eager"])
def test_a_layer_that_sees_the_other_sequence_is_located(small, changed, impl):
    def causal_alone(module, kwargs):
        mask = kwargs["attention_mask"]
        if mask is None:
            return {}
        length = kwargs["hidden_states"].shape[1]
        keep = torch.ones(1, 1, length, length, dtype=torch.bool).tril()
        return {"attention_mask": keep if mask.dtype == torch.bool else torch.where(keep, 0.0, -1e9).to(mask.dtype)}

    model = small("llama", impl)
    changed(model.model.layers[1].self_attn, causal_alone)
    outcome = packed(model)

    assert outcome.verdict == "fail"
    assert (outcome.case.length, outcome.case.layer, outcome.case.query) == (2, "model.layers.1.self_attn", 1)
    assert "sequences of 1 and 1 tokens in one row" in outcome.summary
    assert "all 4 heads put weight on another sequence" in outcome.summary


def test_positions_that_run_on_are_told_from_sequences_that_see_each_other(small):
    subject = Model(
        module=small("gpt2"),
        call=lambda module, tokens, keep: module(input_ids=tokens, use_cache=False).logits,
        vocab_size=50,
        causal=True,
        packed=lambda module, tokens, documents: (
            module(input_ids=tokens, attention_mask=visible(documents, causal=True), use_cache=False).logits
        ),
    )
    outcome = packed(subject)

    assert outcome.verdict == "fail"
    assert "positions run on" in outcome.meaning
    assert "counted from its own first token" in outcome.remedy


def test_what_mixes_sequences_outside_of_attention_is_said(small):
    class Blurred(nn.Module):
        def forward(self, x):
            return x + 0.1 * x.roll(1, 1) * (torch.arange(x.shape[1]) > 0)[:, None]

    model = small("gpt2")
    model.transformer.h[0].mlp.act, model.transformer.h[1].mlp.act = nn.GELU(), Blurred()
    model.transformer.h[0].mlp.act = Blurred()

    assert "no sequence has weight on another one, and yet they mix" in packed(model).meaning


def test_offsets_that_are_not_heeded_are_found():
    def one_sequence(query, key, value, *, offsets, kv_offsets):
        count, (heads, width) = len(offsets) - 1, query.shape[1:]
        if len(query) % count:  # unequal lengths
            return F.scaled_dot_product_attention(*(one.transpose(0, 1) for one in (query, key, value))).transpose(0, 1)
        rows = (one.view(count, -1, heads, width).transpose(1, 2) for one in (query, key, value))
        return F.scaled_dot_product_attention(*rows).transpose(1, 2).flatten(0, 1)

    report = check(one_sequence)

    assert report.failed == ["packed"]
    assert "offsets" in report["packed"].summary


def test_a_module_whose_mask_hides_where_true_is_called_so(faulty):
    class Hiding(faulty):
        def forward(self, x, context=None, *, key_padding_mask=None, attn_mask=None):
            if attn_mask is None:
                return super().forward(x, context, key_padding_mask=key_padding_mask)
            query, key, value = (
                layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
                for layer in (self.query, self.key, self.value)
            )
            output = F.scaled_dot_product_attention(query, key, value, attn_mask=~attn_mask)
            return self.output(output.transpose(1, 2).flatten(2))

    assert packed(Hiding()).verdict == "pass"


def test_an_adapter_without_a_way_is_not_asked():
    module = nn.MultiheadAttention(16, 4, batch_first=True)
    subject = AttentionModule(
        module=module, call=lambda module, x, keep, causal: module(x, x, x)[0], embed_dim=16, num_heads=4, padding=False
    )

    assert packed(subject).summary == "without a mask: its adapter has no packed=; causal: its adapter has no packed="


@pytest.mark.parametrize(
    ("way", "said"),
    [
        (lambda module, tokens, documents: module(tokens).logits[:, 1:], "a vector each, got (2, 5, 50)"),
        # Where annotations are checked, as in these tests, they speak first.
        (lambda module, tokens, documents: module(tokens), "a vector each, got CausalLMOutput|raised TypeCheckError"),
        (lambda module, tokens, documents: module.of_packed(tokens), "it raised AttributeError"),
    ],
)
def test_a_way_that_gives_something_else_could_not_be_tested(small, way, said):
    subject = Model(
        module=small("gpt2"),
        call=lambda module, tokens, keep: module(tokens).logits,
        vocab_size=50,
        causal=True,
        packed=way,
    )
    outcome = packed(subject, fast=True)

    assert outcome.verdict == "could not test"
    assert any(one in outcome.summary for one in said.split("|"))


def test_sequences_that_never_notice_each_other_could_not_be_tested(small):
    model = small("gpt2")
    for block in model.transformer.h:
        nn.init.zeros_(block.attn.c_proj.weight)
    nn.init.zeros_(model.transformer.wpe.weight)

    assert packed(model).verdict == "could not test"


@pytest.mark.parametrize("impl", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["gpt2", "bert"])
def test_the_reproduction_reproduces(small, changed, name, impl):
    model = small(name, impl)
    layer = model.transformer.h[1].attn if name == "gpt2" else model.encoder.layer[1].attention.self
    changed(layer, lambda module, kwargs: {"attention_mask": None})
    code = packed(model).reproduction
    said = []

    exec(code, {"model": model, "print": said.append})

    assert said[0] > 1e-5


def test_the_reproduction_of_a_function_with_offsets_reproduces():
    exec(code := packed(_shifted).reproduction, {"_shifted": _shifted, "print": (said := []).append})

    assert "over_offsets" in code
    assert said[0] > 1e-5


def _shifted(query, key, value, *, offsets, kv_offsets):
    """Attention whose sequences end one token too late, where they are not equally long."""
    if len(set(offsets.diff().tolist())) > 1:
        offsets = kv_offsets = torch.cat((offsets[:1], offsets[1:-1] + 1, offsets[-1:]))
    return packed_attention(query, key, value, offsets=offsets, kv_offsets=kv_offsets)
