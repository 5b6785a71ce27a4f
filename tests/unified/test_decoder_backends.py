"""The CPU decoder against transformers, cached against uncached, batched against single."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
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
from unified.engine.backends.cpu.decoder import PREFILL_IDS, LlamaCpuDecoder, widen
from unified.engine.backends.cpu.stored import to_quantize
from unified.engine.backends.transformers import TransformersDecoder
from unified.models.hf_checkpoint import load_decoder
from unified.models.stored_weights import read_weights

VOCAB = 61
EVERY = ((0, VOCAB),)
# Rotary width 10 is no power of two; widths of all heads and model differ; heads share keys.
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 30,
    "intermediate_size": 44,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "max_position_embeddings": 600,
}


def stretched(kind: str) -> dict[str, float | str]:
    """Rotary positions as Llama 3.1 or a YaRN checkpoint has them."""
    ways = {
        "llama3": {"low_freq_factor": 1.0, "high_freq_factor": 4.0},
        "yarn": {},
        "linear": {},
    }
    plain = {"rope_type": kind, "rope_theta": 1e3, "factor": 4.0}
    return {**plain, "original_max_position_embeddings": 32, **ways[kind]}


def make_hf(kind: str):
    torch.manual_seed(3)
    name, _, rope = kind.partition(" ")
    sizes = {**SIZES, "rope_parameters": stretched(rope)} if rope else SIZES
    if name == "qwen3":
        hf = Qwen3ForCausalLM(Qwen3Config(**sizes, tie_word_embeddings=True, rope_theta=5e4))
    elif name == "llama":
        hf = LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=False))
    elif name == "mistral":
        hf = MistralForCausalLM(MistralConfig(**sizes, sliding_window=None))
    elif name == "qwen2":
        hf = Qwen2ForCausalLM(Qwen2Config(**sizes, tie_word_embeddings=True))
    elif name == "gemma":
        hf = Gemma3ForCausalLM(Gemma3TextConfig(**sizes, sliding_window=8))
    else:
        hf = GPT2LMHeadModel(
            GPT2Config(vocab_size=VOCAB, n_positions=40, n_embd=24, n_layer=2, n_head=3)
        )
    for parameter in hf.parameters():  # far from the initial near-zero logits
        torch.nn.init.normal_(parameter, std=0.3)
    return hf.eval()


COMPILED = ["qwen3", "llama", "mistral", "qwen2", "llama llama3", "llama yarn", "qwen2 linear"]


@pytest.fixture(scope="module", params=[*COMPILED, "gpt2", "gemma"])
def pair(request):
    hf = make_hf(request.param)
    config = hf.config.to_dict()
    assert LlamaCpuConfig.covers(config) == (request.param in COMPILED)
    if not LlamaCpuConfig.covers(config):
        return hf, TransformersDecoder(hf)
    weights = {k: v.detach().numpy() for k, v in hf.state_dict().items()}
    return hf, LlamaCpuDecoder(LlamaCpuConfig.from_hf(config), weights)


def reference(hf, ids):
    with torch.no_grad():
        return hf(torch.tensor([ids])).logits[0].numpy()


def test_logits_are_those_of_transformers(pair):
    hf, decoder = pair
    ids = np.random.default_rng(0).integers(VOCAB, size=23).tolist()
    hidden_states = decoder.forward(decoder.new_cache(1, 30), [0], [ids])
    np.testing.assert_allclose(decoder.logits(hidden_states, EVERY), reference(hf, ids), atol=2e-5)


def test_ranges_are_columns_of_the_whole_head(pair):
    _, decoder = pair
    hidden_states = decoder.forward(decoder.new_cache(1, 8), [0], [[5, 1, 9]])
    whole = decoder.logits(hidden_states, EVERY)
    part = decoder.logits(hidden_states, ((2, 7), (50, VOCAB)))
    np.testing.assert_allclose(part, np.c_[whole[:, 2:7], whole[:, 50:]], atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_logits_of_parts_are_the_bits_of_each_part_alone(dtype):
    config = LlamaCpuConfig(
        hidden_size=24, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=12,
        intermediate_size=20, vocab_size=700, max_position_embeddings=8, norm_eps=1e-6,
        inv_freq=(1.0, 0.5, 0.2, 0.1, 0.05, 0.01), qk_norm=False, tie_word_embeddings=True,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    weights = {
        name: rng.standard_normal(shape).astype(np.float32)
        for name, shape in config.shapes().items()
    }
    if dtype == "bfloat16":  # the upper half of a float32
        weights = {
            name: (weight.view(np.uint32) >> 16).astype(np.uint16)
            for name, weight in weights.items()
        }
    decoder = LlamaCpuDecoder(config, to_quantize(weights) if dtype == "int8" else weights)
    states = rng.standard_normal((19, 24)).astype(np.float32)
    parts = [
        (list(range(17)), ((3, 690),)),  # by all threads, more rows than one thread makes ready
        ([4], ((699, 700),)),
        ([18, 2, 2], ((0, 5), (33, 301), (640, 700))),
    ]
    together = decoder.logits_of_parts(states, parts)
    for logits, (rows, ranges) in zip(together, parts):
        np.testing.assert_array_equal(logits, decoder.logits(states[rows], ranges))
        every = decoder.logits(states, ((0, 700),))[rows]
        np.testing.assert_array_equal(logits, np.hstack([every[:, a:b] for a, b in ranges]))


def test_cached_steps_equal_one_pass(pair):
    hf, decoder = pair
    ids = np.random.default_rng(1).integers(VOCAB, size=17).tolist()
    expected, cache = reference(hf, ids), decoder.new_cache(1, 17)
    states = [decoder.forward(cache, [0], [ids[:5]]), decoder.forward(cache, [0], [ids[5:9]])]
    states += [decoder.forward(cache, [0], [[id]]) for id in ids[9:]]
    assert cache.lengths == [17]
    logits = np.concatenate([decoder.logits(part, EVERY) for part in states])
    np.testing.assert_allclose(logits, expected, atol=2e-5)


def test_ragged_rows_equal_each_alone(pair):
    hf, decoder = pair
    rng = np.random.default_rng(2)
    rows = [rng.integers(VOCAB, size=n).tolist() for n in (3, 19, 8)]
    cache = decoder.new_cache(3, 25)
    for row, ids in enumerate(rows):
        decoder.forward(cache, [row], [ids[:-1]])
    hidden_states = decoder.forward(cache, [0, 1, 2], [ids[-1:] for ids in rows])
    expected = np.stack([reference(hf, ids)[-1] for ids in rows])
    np.testing.assert_allclose(decoder.logits(hidden_states, EVERY), expected, atol=2e-5)


def test_forked_slots_go_on_where_their_source_was(pair):
    hf, decoder = pair
    cache = decoder.new_cache(2, 12)
    decoder.forward(cache, [1], [[4, 5, 6, 7]])
    cache.copy_prefix(1, 0)
    cache.free(1)  # the sequence that was forked is finished, its fork is not
    slot = cache.allocate(9)
    decoder.forward(cache, [slot], [[8]])
    hidden_states = decoder.forward(cache, [0, slot], [[9], [3]])
    expected = [reference(hf, [4, 5, 6, 7, 9])[-1], reference(hf, [8, 3])[-1]]
    np.testing.assert_allclose(decoder.logits(hidden_states, EVERY), np.stack(expected), atol=2e-5)
    assert sorted(cache.lengths) == [2, 5]


def test_a_long_prompt_is_fed_in_pieces_without_a_trace():
    hf = make_hf("qwen3")
    weights = {k: v.detach().numpy() for k, v in hf.state_dict().items()}
    decoder = LlamaCpuDecoder(LlamaCpuConfig.from_hf(hf.config.to_dict()), weights)
    ids = np.random.default_rng(4).integers(VOCAB, size=PREFILL_IDS + 7).tolist()
    hidden_states = decoder.forward(decoder.new_cache(1, 600), [0], [ids])
    np.testing.assert_allclose(decoder.logits(hidden_states, EVERY), reference(hf, ids), atol=5e-5)


def test_more_ids_than_positions_are_refused(pair):
    _, decoder = pair
    with pytest.raises(ValueError, match=r"601 ids asked for, but the decoder has \d+ positions"):
        decoder.new_cache(1, 601)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_of_every_float_type_are_read_exactly(tmp_path, dtype):
    value = torch.randn(5, 3).to(dtype)
    save_file({"a": value}, tmp_path / "model.safetensors")
    np.testing.assert_array_equal(widen(read_weights(tmp_path)["a"]), value.float().numpy())


def test_damaged_checkpoints_are_refused(tmp_path):
    make_hf("qwen3").save_pretrained(tmp_path)
    load_decoder(tmp_path)
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_decoder(tmp_path)
    path.write_bytes(whole)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"vocab_size": VOCAB + 1}))
    with pytest.raises(ValueError, match=r"embed_tokens.weight has shape \(61, 30\), expected"):
        load_decoder(tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match="the checkpoint is incomplete"):
        load_decoder(tmp_path)


def test_what_the_cpu_backend_does_not_compute_is_left_to_transformers():
    plain = Qwen3Config(**SIZES).to_dict()
    assert LlamaCpuConfig.covers(plain)
    for change in (
        {"attention_bias": True},
        {"hidden_act": "gelu"},
        {"use_sliding_window": True},
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}},
        {"model_type": "mistral", "sliding_window": 32},
        {"model_type": "gemma3_text"},
    ):
        assert not LlamaCpuConfig.covers(plain | change)
