"""Opening a model: devices and types, one copy of its weights, a decoder that follows `hf`."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from unified import Sampling, SpanSampling, TextTokenizer, UnifiedModel
from unified.engine.backends.cpu.decoder import LlamaCpuDecoder, widen
from unified.engine.backends.torch_static.static_decoder import TorchStaticDecoder
from unified.models import opening
from unified.models.hf_checkpoint import load_hf
from unified.models.opening import LanguageModel, WeightState
from unified.models.stored_weights import read_weights, stored_dtype
from unified_data.document import Document, Slot, Text
from unified_tokenizers.image import ImageTokenizerConfig, VQImageTokenizer
from unified_tokenizers.quantizers import QuantizerConfig

VOCAB = 59
DTYPES = {"float32": np.float32, "bfloat16": np.uint16, "float16": np.int16}
DECODER = {
    "hidden_size": 20, "intermediate_size": 28, "num_hidden_layers": 2, "num_attention_heads": 3,
    "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 160,
    "tie_word_embeddings": True,
}  # fmt: skip
DRAW = Document((Text("![a cat]", "prompt"), Slot("image", 24, 36, role="response")))
WARM = Sampling(*[SpanSampling(1.0)] * 3)


def checkpoint(folder: Path, kind: str, dtype: str = "bfloat16") -> Path:
    torch.manual_seed(2)
    if kind == "gpt2":
        config = GPT2Config(vocab_size=VOCAB, n_positions=40, n_embd=24, n_layer=2, n_head=3,
                            bos_token_id=1, eos_token_id=2)  # fmt: skip
        hf = GPT2LMHeadModel(config)
    else:
        config = LlamaConfig(
            vocab_size=VOCAB, hidden_size=40, intermediate_size=52, num_hidden_layers=2,
            num_attention_heads=5, num_key_value_heads=5, max_position_embeddings=60,
            tie_word_embeddings=kind == "tied",
        )  # fmt: skip
        hf = LlamaForCausalLM(config)
    for parameter in hf.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    hf.to(getattr(torch, dtype)).save_pretrained(folder)
    return folder


def logits(model: LanguageModel) -> np.ndarray:
    decoder = model.decoder()
    hidden_states = decoder.forward(decoder.new_cache(1, 8), [0], [[5, 1, 9]])
    return decoder.logits(hidden_states, ((0, VOCAB),))


def reference(hf) -> np.ndarray:
    with torch.no_grad():
        return hf(torch.tensor([[5, 1, 9]])).logits[0].float().numpy()


def create() -> UnifiedModel:
    torch.manual_seed(0)
    text = TextTokenizer.train(["a cat and a dog", "the dog is red"], 275)
    config = ImageTokenizerConfig(
        quantizer=QuantizerConfig(levels=(4, 3)), encoder_width=4, decoder_width=8,
        encoder_depths=(1,), decoder_depths=(1, 1, 1),
    )  # fmt: skip
    image = VQImageTokenizer(config).eval()
    return UnifiedModel.create(DECODER, text_tokenizer=text, image_tokenizer=image, max_grid=9)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model = create()
    torch.manual_seed(1)
    for parameter in model.hf.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    model.save_pretrained(folder, dtype="bfloat16")
    return folder


# Types.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["tied", "untied", "gpt2"])
def test_a_checkpoint_is_opened_in_the_type_it_is_stored_in(tmp_path, kind, dtype):
    model = LanguageModel.open(checkpoint(tmp_path, kind, dtype))
    decoder = model.decoder()
    if kind == "gpt2":
        assert isinstance(decoder, TorchStaticDecoder)
        assert decoder.hf is model.hf
    else:
        assert isinstance(decoder, LlamaCpuDecoder)
        assert decoder._head.dtype == DTYPES[dtype]
    before = logits(model)
    assert {p.dtype for p in model.hf.parameters()} == {getattr(torch, dtype)}
    assert type(model.hf) is (GPT2LMHeadModel if kind == "gpt2" else LlamaForCausalLM)
    expected = reference(load_hf(tmp_path, dtype="float32"))
    tolerance = 1e-4 if kind != "gpt2" or dtype == "float32" else 0.3
    np.testing.assert_allclose(before, expected, atol=tolerance)
    np.testing.assert_array_equal(logits(model), before)


@pytest.mark.parametrize("stored", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_another_type_is_what_torch_rounds_to(tmp_path, stored, dtype):
    folder = checkpoint(tmp_path, "untied", stored)
    model = LanguageModel.open(folder, dtype=dtype)
    assert {p.dtype for p in model.hf.parameters()} == {getattr(torch, dtype)}
    weights = load_file(folder / "model.safetensors")
    for name, tensor in read_weights(folder, dtype=dtype).items():
        expected = weights[name].to(getattr(torch, dtype)).float().numpy()
        assert tensor.dtype == DTYPES[dtype]
        np.testing.assert_array_equal(widen(tensor), expected)
        np.testing.assert_array_equal(widen(tensor[2:5]), expected[2:5])
    assert model.decoder()._head.dtype == DTYPES[dtype]


def test_what_is_stored_counts_and_not_what_config_says(tmp_path):
    folder = checkpoint(tmp_path, "tied", "float16")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "float32"}))
    assert stored_dtype(folder) == "float16"
    assert next(LanguageModel.open(folder).hf.parameters()).dtype == torch.float16


@pytest.mark.parametrize("kind", ["tied", "gpt2"])
def test_numbers_that_float16_does_not_hold_are_refused(tmp_path, kind):
    folder = checkpoint(tmp_path, kind, "float32")
    weights = load_file(folder / "model.safetensors")
    name = next(name for name, weight in weights.items() if weight.dim() == 2)
    weights[name][3, 2] = -7e4
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"{name}.* float16 does not hold; take dtype bfloat16"):
        LanguageModel.open(folder, dtype="float16")
    LanguageModel.open(folder, dtype="bfloat16")


def test_a_file_that_becomes_shorter_is_noticed(tmp_path):
    weight = read_weights(checkpoint(tmp_path, "tied"))["model.embed_tokens.weight"]
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="became shorter while it was read"):
        weight[:]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int8"}, "dtype is 'int8', expected one of float32, bfloat16, float16, auto"),
        ({"dtype": None}, "dtype is None, expected"),
        ({"device": "gpu"}, "device is 'gpu', expected a device of torch such as cpu, cuda"),
        ({"device": 1.5}, "device is 1.5, expected"),
        ({"device": "cuda:99"}, "device cuda:99 cannot be used here: "),
    ],
)
def test_unknown_types_and_devices_are_refused_in_one_line(saved, options, message):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as caught:
        UnifiedModel.from_pretrained(saved, **options)
    assert message in str(caught.value)


# Memory.


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_packed_weights_are_the_only_copy_while_they_are_read(tmp_path, dtype):
    """By numpy's own count; benchmarks/opening.py measures whole processes."""
    config = LlamaConfig(
        vocab_size=4000, hidden_size=512, intermediate_size=1500, num_hidden_layers=8,
        num_attention_heads=8, num_key_value_heads=4, tie_word_embeddings=False,
    )  # fmt: skip
    hf = LlamaForCausalLM(config).to(getattr(torch, dtype))
    hf.save_pretrained(tmp_path)
    stored = sum(p.nbytes for p in hf.parameters())
    del hf
    LanguageModel.open(checkpoint(tmp_path / "small", "tied", dtype))  # what a first use takes
    tracemalloc.start()
    try:
        LanguageModel.open(tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.15 * stored


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux tells what is mapped")
@pytest.mark.parametrize("kind", ["tied", "gpt2"])
def test_weights_of_hf_are_the_mapped_file_which_training_does_not_change(tmp_path, kind):
    path = checkpoint(tmp_path, kind) / "model.safetensors"
    before, model = path.read_bytes(), LanguageModel.open(tmp_path)
    hf = model.hf
    ranges = [
        [int(end, 16) for end in line.split()[0].split("-")]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.endswith(str(path))
    ]
    for parameter in hf.parameters():
        assert any(start <= parameter.data_ptr() < stop for start, stop in ranges)
    hf(torch.tensor([[1, 2]])).logits.float().sum().backward()
    torch.optim.SGD(hf.parameters(), 0.1).step()
    assert path.read_bytes() == before
    assert logits(model) is not None


# The decoder and `hf`.


def test_the_decoder_is_made_once_and_stays_while_hf_only_computes(tmp_path):
    model = LanguageModel.open(checkpoint(tmp_path, "untied"))
    first = model.decoder()
    hf = model.hf
    assert model.decoder() is first
    hf.train()
    hf(torch.tensor([[1, 2]])).logits.float().sum().backward()
    hf.requires_grad_(False).eval()
    hf.generate(torch.tensor([[1, 2]]), max_new_tokens=3, do_sample=False, pad_token_id=0)
    assert model.decoder() is first
    assert model.hf is hf


def step(hf):
    hf(torch.tensor([[1, 2, 3]])).logits.float().square().sum().backward()
    torch.optim.AdamW(hf.parameters(), 0.1).step()


def write_data(hf):
    hf.get_output_embeddings().weight.data[7] = 3.0


def write_numpy(hf):
    hf.get_output_embeddings().weight.detach().view(torch.int16).numpy()[7] = 99


def load(hf):
    hf.load_state_dict({name: value + 1 for name, value in hf.state_dict().items()})


def replace_parameter(hf):
    hf.lm_head.weight = torch.nn.Parameter(hf.lm_head.weight.detach() * 2)


@pytest.mark.parametrize("change", [step, write_data, write_numpy, load, replace_parameter])
@pytest.mark.parametrize("repacked", [True, False])
def test_the_decoder_follows_what_happens_to_hf(tmp_path, monkeypatch, change, repacked):
    monkeypatch.setattr(opening, "REPACKED_BYTES", 2**20 if repacked else 0)
    model = LanguageModel.open(checkpoint(tmp_path, "untied"))
    before, first, hf = logits(model), model.decoder(), model.hf
    change(hf)
    second = model.decoder()
    assert second is not first
    # A large model is not packed beside its own weights: its own forward shares them.
    assert isinstance(second, LlamaCpuDecoder if repacked else TorchStaticDecoder)
    after = logits(model)
    assert model.decoder() is second
    assert np.abs(after - before).max() > 0.1
    scale = np.abs(after).max()
    np.testing.assert_allclose(after, reference(hf), atol=0.03 * scale)


def test_a_model_that_was_made_here_is_packed_once():
    model = create()
    assert model.decoder() is model.decoder()
    first = model.decoder()
    with torch.no_grad():
        model.hf.get_input_embeddings().weight[0] += 1
    assert model.decoder() is not first
    assert model.decoder() is model.decoder()


def test_a_state_of_weights_with_nan_is_equal_to_itself():
    hf = LlamaForCausalLM(LlamaConfig(
        vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=2,
    ))  # fmt: skip
    with torch.no_grad():
        hf.lm_head.weight[:] = torch.nan
    assert WeightState(hf) == WeightState(hf)
    with torch.inference_mode():  # tensors of inference have no version
        hf.lm_head.weight = torch.nn.Parameter(torch.zeros(9, 8))
    assert WeightState(hf) == WeightState(hf)


# Devices.


def test_opened_on_meta_and_moved_back_a_model_is_the_same(saved):
    expected = UnifiedModel.from_pretrained(saved).generate(DRAW, sampling=WARM)
    model = UnifiedModel.from_pretrained(saved, device="meta")
    assert model.device == "meta"
    assert {p.device.type for p in model.hf.parameters()} == {"meta"}
    assert {p.dtype for p in model.hf.parameters()} == {torch.bfloat16}
    with pytest.raises(ValueError, match=r"on device meta, without its weights; move it first"):
        model.generate(DRAW, sampling=WARM)
    assert model.to("cpu") is model
    assert model.device == "cpu"
    assert isinstance(model.decoder(), LlamaCpuDecoder)
    assert model.generate(DRAW, sampling=WARM) == expected


@pytest.mark.parametrize("used", [False, True])
def test_moved_to_meta_and_back_a_model_is_what_its_folder_holds(saved, used):
    model = UnifiedModel.from_pretrained(saved)
    expected = model.generate(DRAW, sampling=WARM)
    if used:
        with torch.no_grad():
            model.hf.get_input_embeddings().weight.zero_()
    model.to("meta")
    assert model.hf.device.type == "meta"
    model.to("cpu", "float32")
    assert {p.dtype for p in model.hf.parameters()} == {torch.float32}
    assert model.to("meta").to("cpu", "auto").generate(DRAW, sampling=WARM) == expected


def test_a_model_without_a_folder_does_not_come_back_from_meta():
    model = create()
    model.to("meta")
    with pytest.raises(ValueError, match="was not loaded from a folder: its weights are nowhere"):
        model.to("cpu")


def test_a_type_is_given_to_weights_that_were_trained(tmp_path):
    model = LanguageModel.open(checkpoint(tmp_path, "untied", "float32"))
    with torch.no_grad():
        model.hf.lm_head.weight[3] = 2.5
    model.to(dtype="bfloat16")
    assert {p.dtype for p in model.hf.parameters()} == {torch.bfloat16}
    assert (model.hf.lm_head.weight[3] == 2.5).all()
    assert model.decoder()._head.dtype == np.uint16
