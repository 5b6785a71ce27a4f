"""The general backend: sequences go together where a model heeds masks and positions."""

import numpy as np
import pytest
import torch
from tiny_families import VOCAB, tiny_model
from transformers import GPT2Config, GPT2LMHeadModel, MambaConfig, MambaForCausalLM
from transformers.models.llama.modeling_llama import LlamaModel

from unified.engine.backends.transformers import TransformersDecoder

EVERY = ((0, VOCAB),)


def gpt2():
    torch.manual_seed(3)
    config = GPT2Config(vocab_size=VOCAB, n_positions=60, n_embd=24, n_layer=2, n_head=3)
    return GPT2LMHeadModel(config).eval()


def mamba():
    torch.manual_seed(3)
    config = MambaConfig(vocab_size=VOCAB, hidden_size=24, num_hidden_layers=2, state_size=4)
    return MambaForCausalLM(config).eval()


class Deaf(LlamaModel):
    """Takes a mask and heeds none."""

    def forward(self, *args, attention_mask=None, **kwargs):
        return super().forward(*args, attention_mask=None, **kwargs)


def deaf():
    hf = tiny_model("llama")
    hf.model.__class__ = Deaf
    return hf


MODELS = {
    "llama": lambda: tiny_model("llama"), "qwen3 moe": lambda: tiny_model("qwen3 moe"),
    "granite": lambda: tiny_model("granite"), "gpt2": gpt2,
    # Windows, states, and a model without an ear for masks: one by one.
    "gemma3": lambda: tiny_model("gemma3"), "mamba": mamba, "deaf": deaf,
}  # fmt: skip
TOGETHER = {"llama", "qwen3 moe", "granite", "gpt2"}


@torch.inference_mode()
def reference(hf, ids):
    return hf(torch.tensor([ids]), use_cache=False).logits[0, -1].numpy()


@pytest.mark.parametrize("name", MODELS)
def test_rows_in_changing_company_are_the_rows_alone(name):
    hf = MODELS[name]()
    decoder = TransformersDecoder(hf)
    assert decoder.batches == (name in TOGETHER)
    assert decoder.chunks == (name != "mamba")
    rng = np.random.default_rng(1)
    rows = [rng.integers(VOCAB, size=length).tolist() for length in (4, 21, 9, 9)]
    calls = []
    hf.base_model.register_forward_pre_hook(lambda module, args: calls.append(1))
    cache = decoder.new_cache(4, 40)
    decoder.forward(cache, range(4), rows)
    # Who steps together, in turn; the third row ends, and a copy of the second takes its slot.
    for slots in ([0, 1, 2, 3], [0, 1, 2, 3], [2, 0], [1], [3, 1, 0]):
        calls.clear()
        states = decoder.forward(cache, slots, [[len(rows[slot])] for slot in slots])
        assert len(calls) == (1 if decoder.batches else len(slots))
        for slot in slots:
            rows[slot].append(len(rows[slot]))
        expected = np.stack([reference(hf, rows[slot]) for slot in slots])
        np.testing.assert_allclose(decoder.logits(states, EVERY), expected, atol=2e-5)
    cache.free(2)
    slot = cache.allocate(40)
    cache.copy_prefix(1, slot)
    rows[slot] = [*rows[1]]
    for slots in ([0, slot, 3], [slot, 1]):
        states = decoder.forward(cache, slots, [[3, 5] for _ in slots])
        for other in slots:
            rows[other] += [3, 5]
        expected = np.stack([reference(hf, rows[other]) for other in slots])
        logits = decoder.logits(states[1::2], EVERY)
        np.testing.assert_allclose(logits, expected, atol=2e-5)
    assert cache.lengths == [len(row) for row in rows]


def test_a_batch_keeps_its_memory_while_its_company_stays():
    decoder = TransformersDecoder(tiny_model("llama"))
    cache = decoder.new_cache(3, 40)
    decoder.forward(cache, range(3), [[1, 2], [3], [4, 5, 6]])
    decoder.forward(cache, range(3), [[1], [1], [1]])
    batch = cache._batch
    decoder.forward(cache, range(3), [[2], [2], [2]])
    assert cache._batch is batch
    assert batch.cache.layers[0].keys.shape[:3] == (3, 2, 5)
    cache.truncate(1, 2)
    decoder.forward(cache, range(3), [[7], [7], [7]])
    assert cache._batch is not batch
    assert cache.lengths == [5, 3, 6]


def test_rows_whose_pass_fails_are_empty_and_others_are_not():
    decoder = TransformersDecoder(tiny_model("llama"))
    cache = decoder.new_cache(3, 40)
    decoder.forward(cache, range(3), [[1, 2], [3], [4, 5]])
    with pytest.raises(IndexError):
        decoder.forward(cache, [0, 2], [[VOCAB + 1], [4]])
    assert cache.lengths == [0, 1, 0]
    states = decoder.forward(cache, range(3), [[1], [2], [3]])
    assert cache.lengths == [1, 2, 1]
    expected = np.stack([reference(decoder.hf, ids) for ids in ([1], [3, 2], [3])])
    np.testing.assert_allclose(decoder.logits(states, EVERY), expected, atol=2e-5)
