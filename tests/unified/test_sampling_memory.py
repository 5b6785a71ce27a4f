"""Memory of sampling as it is stated, beside what is really allocated and what is known."""

import json

import codes_checkpoints
import pytest
import torch
from small_together import together_model
from transformers import AutoConfig, AutoModelForCausalLM

from tests.helpers.csm_checkpoint import make_csm
from unified import UnifiedModel
from unified.__main__ import run
from unified.engine.backends.cpu.config import LlamaCpuConfig
from unified.engine.backends.cpu.decoder import LlamaCpuDecoder
from unified.engine.backends.cpu.stored import to_quantize
from unified.engine.backends.torch_positions import DepthRows
from unified.models.hf_checkpoint import weights_of
from unified.models.quantized import quantize_layers
from unified.models.sampling_memory import sampling_memory

LLAMA = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
    "vocab_size": 32000, "max_position_embeddings": 4096, "tie_word_embeddings": False,
}  # fmt: skip
CHAMELEON = {
    **LLAMA, "model_type": "chameleon", "vocab_size": 65536, "vocabulary_map": {"<image>": 8711},
}  # fmt: skip
EMU3 = {
    "model_type": "emu3", "vocabulary_map": {"<image>": 151855},
    "text_config": {
        **LLAMA, "model_type": "emu3_text_model", "intermediate_size": 14336,
        "num_key_value_heads": 8, "vocab_size": 184622, "max_position_embeddings": 9216,
    },
}  # fmt: skip
SMALL = {
    **LLAMA, "model_type": "qwen3", "hidden_size": 256, "intermediate_size": 512,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
    "vocab_size": 1500,
}  # fmt: skip


def nbytes(tensor: torch.Tensor) -> int:
    """Of a tensor, or of those that a quantized one is made of."""
    if hasattr(tensor, "__tensor_flatten__"):
        names, _ = tensor.__tensor_flatten__()
        return sum(nbytes(getattr(tensor, name)) for name in names)
    return tensor.nbytes


def model(tied: bool = False) -> torch.nn.Module:
    config = AutoConfig.for_model(**{**SMALL, "tie_word_embeddings": tied})
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize(
    ("config", "parameters", "inside"),
    [
        (LLAMA, 6_738_415_616, 0),  # Llama-2-7B
        (CHAMELEON, 7_043_090_432, 0),
        # Emu3: 8,492,011,520 of its language model, the rest of its codec.
        (EMU3, 8_492_011_520, 270_740_287),
    ],
    ids=["llama", "chameleon", "emu3"],
)
def test_parameters_of_published_shapes_are_counted_as_they_are(config, parameters, inside):
    memory = sampling_memory(config, "config.json")
    assert memory.parameters == parameters + inside
    assert memory.weights["bfloat16"] == 2 * memory.parameters
    text = config.get("text_config", config)
    heads = text["num_key_value_heads"]
    assert memory.cache == {"float32": 2 * 32 * heads * 128 * 4, "bfloat16": 2 * 32 * heads * 256}
    staying = 2 * text["vocab_size"] * 4096 + inside  # embeddings, head and codec, in bfloat16
    layers = memory.parameters - staying
    assert memory.weights["int8"] == pytest.approx(2 * staying + layers, rel=0.01)
    # A scale and a zero for 128 numbers, and in Llama's inner layers 256 more inputs of 11,008.
    assert memory.weights["int4"] == pytest.approx(2 * staying + 0.535 * layers, rel=0.015)
    packed = memory.packed.get("float32")
    assert packed is None if config is CHAMELEON else packed == pytest.approx(4 * parameters, 0.01)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_cpu_backend_allocates_what_is_predicted(dtype, tied):
    hf = model(tied)
    memory = sampling_memory(hf.config.to_dict(), "config.json")
    hf.to(torch.bfloat16 if dtype == "bfloat16" else torch.float32)
    config = LlamaCpuConfig.from_hf(hf.config.to_dict())
    weights = weights_of(hf)
    if dtype == "int8":
        weights = to_quantize(weights)
    decoder = LlamaCpuDecoder(config, weights)
    arrays = [*decoder._weights, decoder._head, decoder._embedding, decoder.final_norm_D]
    allocated = sum(array.nbytes for array in arrays if array is not None)
    assert memory.packed[dtype] == pytest.approx(allocated, rel=0.02)


@pytest.mark.parametrize("cache_dtype", ["float32", "bfloat16"])
def test_slots_of_the_cpu_backend_take_what_is_predicted(cache_dtype):
    hf = model()
    memory = sampling_memory(hf.config.to_dict(), "config.json")
    config = LlamaCpuConfig.from_hf(hf.config.to_dict())
    decoder = LlamaCpuDecoder(config, weights_of(hf), cache_dtype=cache_dtype)
    cache = decoder.new_cache(1, 640)
    slot = cache.slot(0)
    allocated = slot.keys.nbytes + slot.values.nbytes
    assert allocated == decoder.cache_bytes(640)
    assert 640 * memory.cache[cache_dtype] == pytest.approx(allocated, rel=0.02)


@pytest.mark.parametrize("tied", [True, False])
def test_torch_allocates_what_is_predicted(tied):
    hf = model(tied)
    memory = sampling_memory(hf.config.to_dict(), "config.json")
    for dtype in ("float32", "bfloat16"):
        hf.to(getattr(torch, dtype))
        assert memory.weights[dtype] == sum(p.nbytes for p in hf.parameters())
    cache = hf(torch.arange(33)[None]).past_key_values
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert memory.cache["bfloat16"] * 33 == held


@pytest.mark.parametrize("tied", [True, False])
def test_torchao_allocates_what_is_predicted(tied):
    hf = model(tied).to(torch.bfloat16)
    memory = sampling_memory(hf.config.to_dict(), "config.json")
    quantize_layers(hf, "int8")
    allocated = sum(nbytes(p) for p in hf.parameters())
    assert memory.weights["int8"] == pytest.approx(allocated, rel=0.02)


def test_what_fits_is_as_much_as_fits():
    memory = sampling_memory(SMALL, "config.json")
    for dtype in ("float32", "bfloat16", "int8", "int4"):
        device = memory.weights[dtype] + 30e6
        fit = memory.fit(dtype, device, 100)
        cache = memory.cache["float32" if dtype == "float32" else "bfloat16"]
        fixed = memory.weights[dtype] + memory.workspace(dtype)
        row = 100 * cache + memory.logits
        assert fixed + fit.rows * row <= 0.95 * device < fixed + (fit.rows + 1) * row
        assert 0 < fit.longest <= memory.positions
        alone = fixed + memory.logits + fit.longest * cache
        assert alone <= 0.95 * device
        nothing = memory.fit(dtype, 0.5 * memory.weights[dtype])
        assert (nothing.rows, nothing.longest) == (0, 0)


def test_the_command_states_it_for_a_folder_a_file_and_the_shipped_model(tmp_path, capsys):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(SMALL))
    expected = sampling_memory(SMALL, "config.json")
    for name in (path, tmp_path):
        assert run(["estimate", "--sample", str(name), "--json"]) == 0
        values = json.loads(capsys.readouterr().out)
        assert values["weights"] == expected.weights
        assert {entry["memory"] for entry in values["fits"]} == {16e9, 24e9, 80e9}
    assert run(["estimate", "--sample", "pocket"]) == 0
    assert "rows of 2,048 positions / longest sequence" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "llama", "hidden_size": -1}, "hidden_size"),
        ({"model_type": "vit"}, "is not of a model that transformers can make"),
        ({"hidden_size": 8}, "is not of a model that transformers can make"),
    ],
)
def test_a_config_of_no_language_model_is_refused_in_one_line(tmp_path, capsys, config, message):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert run(["estimate", "--sample", str(tmp_path)]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error


def test_options_of_a_training_are_refused_beside_sample(capsys):
    assert run(["estimate", "--sample", "pocket", "steps=3"]) == 2
    assert "--sample takes a model alone" in capsys.readouterr().err


@pytest.mark.parametrize("depth", [{}, {"per_level": True}, None], ids=["depth", "levels", "heads"])
def test_positions_of_several_codes_take_what_is_predicted(depth, tmp_path, capsys):
    """Weights, packed weights, slots, a depth decoder's keys and values, beside the allocated."""
    saved = together_model("heads" if depth is None else "depth", depth)
    saved.save_pretrained(tmp_path)
    assert run(["estimate", "--sample", str(tmp_path), "--json"]) == 0
    stated = json.loads(capsys.readouterr().out)
    assert stated["ids_of_a_position"] == 3
    assert stated["parameters"] == sum(p.numel() for p in saved.hf.parameters())
    for dtype in ("float32", "bfloat16", "int8"):
        model = UnifiedModel.from_pretrained(tmp_path, dtype=dtype)
        decoder = model.decoder()
        arrays = [*decoder._weights, decoder._head, decoder._embedding, decoder.final_norm_D]
        if depth is not None:
            own = decoder._depth
            arrays += [*own._weights, own._projection, own._head, own._embedding, own._norm_D]
        unique = {id(array): array for array in arrays if array is not None}
        allocated = sum(array.nbytes for array in unique.values())
        # Matrices of each depth stay what they are stored in.
        if not (dtype == "int8" and (depth or {}).get("per_level")):
            assert stated["packed_weights"][dtype] == pytest.approx(allocated, rel=0.02), dtype
        slot = decoder.new_cache(1, 192).slot(0)
        cache = slot.keys.nbytes + slot.values.nbytes
        expected = 0.192 * stated["cache_per_1000_positions"]["float32"]
        # Values of a head have whole panels of 32.
        assert cache == pytest.approx((12 + 32) / 24 * expected)
        if dtype == "int8":
            continue
        hf = model.hf.to(getattr(torch, dtype))
        assert stated["weights"][dtype] == sum(p.nbytes for p in hf.parameters())
        cache = hf(torch.arange(33)[None]).past_key_values
        held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
        assert stated["cache_per_1000_positions"][dtype] * 33 == 1000 * held
        if depth is not None:
            rows = DepthRows(hf.depth_decoder, 5)
            held = rows.keys.nbytes + rows.values.nbytes
            assert 5 * stated["depth_cache_of_a_row"][dtype] == held
    if depth is None:
        assert stated["depth_cache_of_a_row"] == {}
    quantized = UnifiedModel.from_pretrained(
        tmp_path, dtype="bfloat16", backend="transformers"
    ).hf  # fmt: skip
    quantize_layers(quantized, "int8")
    held = sum(nbytes(p) for p in quantized.parameters())
    # Scales and zeros of outputs weigh more in layers as small as these.
    assert stated["weights"]["int8"] == pytest.approx(held, rel=0.03)


@pytest.mark.parametrize("kind", ["csm", "higgs", "musicgen", "dia"])
def test_published_models_of_several_codes_are_counted(kind, tmp_path, capsys):
    make = {
        "csm": make_csm, "higgs": codes_checkpoints.make_higgs,
        "musicgen": codes_checkpoints.make_musicgen, "dia": codes_checkpoints.make_dia,
    }  # fmt: skip
    hf = make[kind](tmp_path)
    assert run(["estimate", "--sample", str(tmp_path), "--json"]) == 0
    stated = json.loads(capsys.readouterr().out)
    levels = {"csm": 32, "higgs": 8, "musicgen": 4, "dia": 9}[kind]
    assert stated["ids_of_a_position"] == levels
    assert stated["parameters"] == sum(p.numel() for p in hf.parameters())
    assert stated["weights"]["float32"] == sum(p.nbytes for p in hf.parameters())
    model = UnifiedModel.from_pretrained(tmp_path)
    decoder = model.decoder()
    cache = 0.64 * stated["cache_per_1000_positions"]["float32"]
    C = decoder.config.head_dim
    panels = -(-C // 32) * 32  # of values
    assert decoder.cache_bytes(640) == pytest.approx((C + panels) / (2 * C) * cache, rel=0.02)
    if kind == "csm":
        assert stated["depth_cache_of_a_row"]["float32"] == 4 * 2 * 2 * 8 * 32
        own = decoder._depth
        arrays = [*decoder._weights, decoder._head, decoder.final_norm_D, decoder._texts,
                  decoder._codes, *own._weights, own._projection, own._head, own._embedding,
                  own._norm_D]  # fmt: skip
        allocated = sum(array.nbytes for array in arrays if array is not None)
        assert stated["packed_weights"]["float32"] == pytest.approx(allocated, rel=0.02)
        return
    arrays = [*decoder._weights, decoder._head, decoder._embedding]
    if kind == "higgs":
        arrays += [decoder._texts, decoder.final_norm_D]
    else:
        arrays += [decoder._text_kv, decoder._norm_D, decoder._bias_D]
    allocated = sum(array.nbytes for array in arrays if array is not None)
    if kind != "higgs":
        encoder = hf.text_encoder if kind == "musicgen" else hf.model.encoder
        allocated += sum(p.nbytes for p in encoder.parameters())
    assert stated["packed_weights"]["float32"] == pytest.approx(allocated, rel=0.02)
