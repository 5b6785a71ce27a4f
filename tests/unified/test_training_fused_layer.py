"""Fused layers: what transformers' own give in float64, within what bfloat16 can hold."""

import copy

import pytest
import torch
import transformers

from unified.training import document_attention
from unified.training.fused_attention import is_fused
from unified.training.fused_layer import fuse_layers
from unified.training.train_module import layers_of, recompute_activations

pytestmark = pytest.mark.skipif(
    not is_fused(torch.zeros(1, dtype=torch.bfloat16)), reason="no avx512_bf16"
)

SIZES = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 40, "head_dim": 10, "max_position_embeddings": 64, "vocab_size": 50,
}  # fmt: skip
BOUND = 0.03


def decoder_of(name, **more):
    document_attention.register()
    torch.manual_seed(1)
    config = getattr(transformers, f"{name}Config")(**{**SIZES, **more})
    decoder = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim < 2), std=0.2)
    decoder.set_attn_implementation(document_attention.NAME)
    return decoder.bfloat16().train()


def gradients(decoder):
    """(last hidden states, gradients by name) of two sequences of 35 positions."""
    rng = torch.Generator().manual_seed(2)
    ids = torch.randint(0, 50, (2, 35), generator=rng)
    spans = torch.tensor([(0, 12), (12, 35), (35, 70), (0, 0)], dtype=torch.int32)
    positions = torch.cat([torch.arange(12), torch.arange(23), torch.arange(35)]).view(2, 35)
    hidden = decoder.model(
        ids, position_ids=positions, use_cache=False, document_spans=spans
    ).last_hidden_state
    upstream = torch.randn(hidden.shape, generator=rng).to(hidden)
    (hidden * upstream).sum().backward()
    return hidden, {n: p.grad for n, p in decoder.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("name", "more"),
    [("Qwen3", {}), ("Llama", {"num_key_value_heads": 4}), ("Mistral", {"sliding_window": None})],
)
def test_gradients_are_those_of_the_layers_themselves(name, more):
    decoder = decoder_of(name, **more)
    double, checkpointed = copy.deepcopy(decoder).double(), copy.deepcopy(decoder)
    assert fuse_layers(decoder, layers_of(decoder))
    hidden, grads = gradients(decoder)
    expected, other = gradients(double)
    assert (hidden.double() - expected).abs().max() <= BOUND * expected.abs().max()
    assert grads.keys() == other.keys()
    for label, grad in grads.items():
        error = (grad.double() - other[label]).abs().max()
        assert error <= BOUND * other[label].abs().max(), label
    assert fuse_layers(checkpointed, layers_of(checkpointed))
    recompute_activations(checkpointed)
    again, recomputed = gradients(checkpointed)
    assert torch.equal(hidden, again)
    assert all(torch.equal(grad, recomputed[label]) for label, grad in grads.items())


def test_the_bits_do_not_depend_on_the_threads():
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            decoder = decoder_of("Qwen3")
            fuse_layers(decoder, layers_of(decoder))
            results.append(gradients(decoder)[0])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("Qwen2", {}), ("Gemma2", {}), ("StableLm", {}), ("Cohere", {}),
        ("Llama", {"hidden_act": "gelu"}), ("Llama", {"mlp_bias": True}), ("Glm", {}),
    ],
)  # fmt: skip
def test_layers_of_another_kind_stay_as_they_are(name, more):
    decoder = decoder_of(name, pad_token_id=0, **more)
    assert not fuse_layers(decoder, layers_of(decoder))
    assert all("forward" not in vars(module) for module in decoder.modules())


def test_layers_that_rotate_otherwise_stay_as_they_are(monkeypatch):
    """Found by comparing what they give: their parts have the same names."""
    decoder = decoder_of("Llama")
    module = transformers.models.llama.modeling_llama
    plain = module.apply_rotary_pos_emb
    monkeypatch.setattr(
        module, "apply_rotary_pos_emb", lambda q, k, cos, sin: plain(q, k, cos, -sin)
    )
    assert not fuse_layers(decoder, layers_of(decoder))


def test_frozen_layers_stay_as_they_are():
    decoder = decoder_of("Llama")
    decoder.model.layers[1].mlp.up_proj.weight.requires_grad_(False)
    assert not fuse_layers(decoder, layers_of(decoder))
