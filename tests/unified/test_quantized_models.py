"""Models opened in int8 and int4: on the CPU backend, by torchao, and what is refused."""

import json
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
)

from unified import UnifiedModel
from unified.__main__ import run
from unified.engine.backends.cpu.decoder import LlamaCpuDecoder
from unified.models.opening import LanguageModel
from unified.models.quantized import check_quantized, is_quantized, quantized_layers

VOCAB = 59
SIZES = {
    "vocab_size": VOCAB, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 60,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def checkpoint(folder: Path, kind: str = "llama", tied: bool = True, **sizes: int) -> Path:
    torch.manual_seed(2)
    if kind == "gpt2":
        hf = GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, n_positions=40, n_embd=24, n_layer=1,
                                        n_head=3, bos_token_id=1, eos_token_id=2))  # fmt: skip
    elif kind == "olmo2":  # which the CPU backend does not cover
        hf = Olmo2ForCausalLM(Olmo2Config(**{**SIZES, **sizes}, tie_word_embeddings=tied))
    else:
        hf = LlamaForCausalLM(LlamaConfig(**{**SIZES, **sizes}, tie_word_embeddings=tied))
    for parameter in hf.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    hf.to(torch.bfloat16).save_pretrained(folder)
    return folder


def logits(model: LanguageModel) -> np.ndarray:
    decoder = model.decoder()
    hidden_states = decoder.forward(decoder.new_cache(1, 8), [0], [[5, 1, 9]])
    return decoder.logits(hidden_states, ((0, VOCAB),))


def near(actual: np.ndarray, expected: np.ndarray) -> bool:
    return 0 < np.linalg.norm(actual - expected) < 0.06 * np.linalg.norm(expected)


def format_of(model: LanguageModel) -> str:
    decoder = model.decoder()
    assert isinstance(decoder, LlamaCpuDecoder)
    return decoder._format.name


@pytest.mark.parametrize("tied", [True, False])
def test_the_cpu_backend_packs_int8_while_hf_stays_as_it_is_stored(tmp_path, tied):
    folder = checkpoint(tmp_path, tied=tied)
    exact, model = logits(LanguageModel.open(folder)), LanguageModel.open(folder, dtype="int8")
    quantized = logits(model)
    assert format_of(model) == "int8"
    assert near(quantized, exact)
    before, hf = model.decoder(), model.hf
    assert next(hf.parameters()).dtype == torch.bfloat16
    assert model.decoder() is before
    # It follows the weights of `hf`, however large they are.
    with torch.no_grad():
        hf.model.layers[0].mlp.up_proj.weight.mul_(3)
    assert not near(logits(model), exact)
    assert format_of(model) == "int8"


def test_a_model_goes_to_int8_and_back(tmp_path):
    folder = checkpoint(tmp_path)
    model = LanguageModel.open(folder)
    exact = logits(model)
    model.to(dtype="int8")  # of weights that are not in `hf` yet
    quantized = logits(model)
    assert near(quantized, exact)
    model.to(dtype="auto")
    np.testing.assert_array_equal(logits(model), exact)
    assert model.hf is not None
    model.to(dtype="int8")  # and of those that are
    np.testing.assert_array_equal(logits(model), quantized)
    model.to("meta")
    model.to("cpu")
    np.testing.assert_array_equal(logits(model), quantized)


def test_a_unified_model_draws_in_int8_and_is_saved_as_it_was_stored(tmp_path, capsys):
    model = UnifiedModel.from_pretrained("pocket", dtype="int8")
    (picture,) = model.draw("a cat")
    assert picture.shape[2] == 3
    model.save_pretrained(tmp_path, dtype=None)
    plain = UnifiedModel.from_pretrained("pocket").hf.state_dict()
    saved = UnifiedModel.from_pretrained(tmp_path).hf.state_dict()
    assert all(torch.equal(saved[name], tensor) for name, tensor in plain.items())
    out = tmp_path / "cat.png"
    assert run(["draw", "a cat", "-o", str(out), "--dtype", "int8"]) == 0
    assert out.exists()
    capsys.readouterr()
    assert run(["draw", "a cat", "-o", str(out), "--dtype", "int4", "--backend", "cpu"]) == 2
    error = capsys.readouterr().err
    assert "dtype int4 is stepped by torch" in error
    assert "take dtype int8, or backend auto" in error
    assert error.count("\n") == 1


def test_the_packed_weights_are_the_only_copy_while_they_are_read(tmp_path):
    """By numpy's own count; benchmarks/quantized.py measures a whole process."""
    config = LlamaConfig(
        vocab_size=4000, hidden_size=512, intermediate_size=1500, num_hidden_layers=8,
        num_attention_heads=8, num_key_value_heads=4, tie_word_embeddings=False,
    )  # fmt: skip
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(tmp_path / "large")
    LanguageModel.open(checkpoint(tmp_path / "small"), dtype="int8")  # what a first use takes
    tracemalloc.start()
    try:
        model = LanguageModel.open(tmp_path / "large", dtype="int8")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    decoder = model.decoder()
    arrays = [decoder._head, decoder._embedding, *decoder._weights]
    packed = sum(array.nbytes for array in arrays if array is not None)
    assert peak < 1.15 * packed


@pytest.mark.parametrize("tied", [True, False])
def test_torchao_quantizes_what_torch_steps(tmp_path, tied):
    folder = checkpoint(tmp_path, "olmo2", tied)
    exact, model = logits(LanguageModel.open(folder)), LanguageModel.open(folder, dtype="int8")
    assert near(logits(model), exact)
    assert is_quantized(model.hf)
    assert type(model.hf.model.layers[0].mlp.up_proj.weight).__name__ == "Int8Tensor"
    for module in (model.hf.get_input_embeddings(), model.hf.get_output_embeddings()):
        assert type(module.weight) is torch.nn.Parameter
    model.to(dtype="auto")  # from its folder
    assert not is_quantized(model.hf)
    np.testing.assert_array_equal(logits(model), exact)
    model.to(dtype="int8")
    assert is_quantized(model.hf)
    assert near(logits(model), exact)


def test_weights_that_torchao_has_quantized_are_lost_without_a_folder(tmp_path):
    from transformers import AutoModelForCausalLM

    model = LanguageModel(AutoModelForCausalLM.from_pretrained(checkpoint(tmp_path, "olmo2")))
    model.to(dtype="int8")
    with pytest.raises(ValueError, match="not loaded from a folder, so that they cannot become bf"):
        model.to(dtype="bfloat16")


def test_layers_that_are_quantized_are_those_of_the_language_model(tmp_path):
    hf = LanguageModel.open(checkpoint(tmp_path, "olmo2")).hf
    names = [name for name, _ in quantized_layers(hf)]
    assert len(names) == 2 * 7
    assert all(name.startswith("model.layers.") for name in names)


def test_a_model_without_such_layers_is_refused(tmp_path):
    with pytest.raises(ValueError, match="GPT2LMHeadModel has no linear layers of torch's beside"):
        LanguageModel.open(checkpoint(tmp_path, "gpt2"), dtype="int8")


def test_without_torchao_it_is_said_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao", None)
    with pytest.raises(ValueError, match=r"needs torchao, .*pip install 'unified-tokens\[quantize"):
        LanguageModel.open(checkpoint(tmp_path, "olmo2"), dtype="int8")


@pytest.mark.parametrize("kind", ["llama", "olmo2"])
def test_int4_on_the_cpu_has_sixteen_levels_for_128_inputs(tmp_path, kind):
    folder = checkpoint(tmp_path, kind, hidden_size=128, intermediate_size=256)
    exact = logits(LanguageModel.open(folder))
    levels = LanguageModel.open(folder, backend="torch_static")
    model = LanguageModel.open(folder, dtype="int4")
    layers = dict(quantized_layers(model.hf))
    for name, layer in quantized_layers(levels.hf):
        inputs = torch.eye(layer.in_features, dtype=torch.bfloat16)
        weight = layers[name](inputs).T.float()  # (O, I)
        groups, stored = (w.float().reshape(-1, 128) for w in (weight, layer.weight))
        step = (stored.amax(1, keepdim=True) - stored.amin(1, keepdim=True)) / 15
        assert ((groups - stored).abs() < 0.75 * step).all()  # a half, but for bfloat16
        assert max(len(group.unique()) for group in groups) == 16
        layer.weight.data = weight.to(torch.bfloat16)
    quantized = logits(model)
    assert near(quantized, logits(levels))
    assert not near(quantized, exact)
    model.to(dtype="auto")  # from its folder
    assert not is_quantized(model.hf)
    np.testing.assert_array_equal(logits(model), exact)
    model.to(dtype="int4")
    np.testing.assert_array_equal(logits(model), quantized)


@pytest.mark.parametrize("kind", ["llama", "olmo2"])
def test_int4_without_its_kernels_and_other_types_are_refused(tmp_path, kind):
    folder = checkpoint(tmp_path, kind)
    with pytest.raises(ValueError, match=r"of a multiple of 128 inputs, .* have 64, 96; take .*8"):
        LanguageModel.open(folder, dtype="int4")
    with pytest.raises(ValueError, match=r"dtype int4 is stepped by torch, .* take dtype int8, or"):
        LanguageModel.open(folder, dtype="int4", backend="cpu")
    with pytest.raises(ValueError, match=r"needs device cpu or cuda .*, found device mps; take"):
        check_quantized("int4", "mps")
    with pytest.raises(ValueError, match=r"dtype is 'fp8', expected one of float32, .*int8, int4"):
        LanguageModel.open(folder, dtype="fp8")


@pytest.mark.parametrize("kind", ["llama", "olmo2"])
@pytest.mark.parametrize("dtype", ["auto", "int8"])
def test_a_checkpoint_that_is_quantized_already_is_refused(tmp_path, kind, dtype):
    folder = checkpoint(tmp_path, kind)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    path.write_text(json.dumps(config))
    with pytest.raises(
        ValueError, match="weights are quantised; take the checkpoint that they were"
    ):
        LanguageModel.open(folder, dtype=dtype)
