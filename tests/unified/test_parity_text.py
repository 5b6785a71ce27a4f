"""Text, as transformers generates it: the same greedy ids, whatever shares the batch."""

import numpy as np
import pytest
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from unified.engine.backends.cpu.config import LlamaCpuConfig
from unified.engine.backends.cpu.decoder import LlamaCpuDecoder
from unified.engine.backends.transformers import TransformersDecoder
from unified.engine.engine import Engine
from unified.engine.request import CodedSlot, Finished, Request, Sampling, Step
from unified.engine.sampler import SpanSampling
from unified.formats.coded import CodedText, SpanEnd
from unified.formats.grammar import Grammar
from unified.formats.parser import parse_format
from unified.vocabulary.vocabulary import Block, Vocabulary

SIZE, PAD, BOS, EOS = 67, 0, 1, 2
FORMAT = """
name: plain
markers: [<pad>, <bos>, <eos>]
padding: <pad>
document: {begin: <bos>, end: <eos>}
roles: {}
text: {separator: null}
spans: {}
"""
SIZES = {
    "vocab_size": SIZE, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6,
    "max_position_embeddings": 128, "pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS,
}  # fmt: skip
MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig, {}),
    "mistral": (MistralForCausalLM, MistralConfig, {"sliding_window": None}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {}),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"tie_word_embeddings": True}),
    "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig, {"sliding_window": 7}),
}
PROMPTS = [[5, 9, 30], [44, 7, 7, 12, 60, 3, 18, 21], [33]]
NEW = 24


@pytest.fixture(scope="module")
def grammar():
    names = ("<pad>", "<bos>", "<eos>")
    text = Block("text", 0, SIZE)
    markers = Block.at("markers", (PAD, BOS, EOS), symbols=names)
    return Grammar(parse_format(FORMAT), Vocabulary((text, markers), SIZE, SIZE))


@pytest.fixture(scope="module", params=MODELS)
def hf(request):
    torch.manual_seed(8)
    model, config, more = MODELS[request.param]
    decoder = model(config(**SIZES, **more)).eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.25)
    return decoder


def decoders(hf):
    config = hf.config.to_dict()
    if LlamaCpuConfig.covers(config):
        weights = {name: value.detach().numpy() for name, value in hf.state_dict().items()}
        yield LlamaCpuDecoder(LlamaCpuConfig.from_hf(config), weights)
    yield TransformersDecoder(hf)


def generated(hf, **options):
    """What `generate` adds to the prompts, of unequal lengths, padded on the left."""
    longest = 1 + max(map(len, PROMPTS))
    padded = [[PAD] * (longest - 1 - len(prompt)) + [BOS, *prompt] for prompt in PROMPTS]
    ids = torch.tensor(padded)
    # Padding and a second beginning never stand in a text.
    mask = (ids != PAD).long()
    generated = hf.generate(
        ids, attention_mask=mask, max_new_tokens=NEW, do_sample=False,
        bad_words_ids=[[PAD], [BOS]], **options,
    )  # fmt: skip
    rows = [row[longest:].tolist() for row in generated]
    return [row[: row.index(EOS)] if EOS in row else row for row in rows]


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_ids_are_those_of_generate(hf, grammar, penalty):
    expected = generated(hf, repetition_penalty=penalty)
    assert len({tuple(row) for row in expected}) == len(PROMPTS)
    text = SpanSampling(repetition_penalty=penalty)
    requests = [
        Request(
            (CodedText(prompt), CodedSlot("text")), 0, Sampling(text, max_ids=2 + len(prompt) + NEW)
        )
        for prompt in PROMPTS
    ]
    for decoder in decoders(hf):
        segments = {
            event.row: event.ids.tolist()
            for event in Engine(decoder, grammar).run(requests, Sampling())
            if isinstance(event, Finished)
        }
        for row, prompt in enumerate(PROMPTS):
            assert segments[row] == [BOS, *prompt, *expected[row], EOS]


def test_a_text_that_goes_on_tells_what_was_added(hf, grammar):
    """The given text stays a segment of its own, also where the model adds nothing to it."""
    decoder = next(decoders(hf))
    request = Request((CodedText(PROMPTS[0]), CodedSlot("text")), 0)
    steps = list(Engine(decoder, grammar).run([request], Sampling(max_ids=20)))
    ids = steps[-1].ids.tolist()
    ends = [s for s in steps if isinstance(s, Step) and isinstance(s.event, SpanEnd)]
    assert [(s.sampled, s.index, s.event.segment.ids) for s in ends] == [
        (True, 1, tuple(ids[1 + len(PROMPTS[0]) : -1]))
    ]
    none = list(Engine(decoder, grammar).run([request], Sampling(max_ids=5)))
    assert none[-1].ids.tolist() == [BOS, *PROMPTS[0], EOS]
    assert not [s for s in none[:-1] if isinstance(s.event, SpanEnd)]
    np.testing.assert_array_equal(none[-1].ids[:4], ids[:4])
