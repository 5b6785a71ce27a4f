"""int8 and int4 of models whose positions hold several codes: what becomes of the depth decoder."""

import numpy as np
import pytest
import torch
from small_together import level_tokenizers, together_model

from tests.helpers.csm_checkpoint import make_csm
from unified import Sampling, SpanSampling, TextTokenizer, UnifiedModel
from unified.__main__ import run
from unified.models.quantized import is_quantized, quantized_layers
from unified_data.document import Document, Slot, Text

SOUND = Document((Text("a cat", "prompt"), Slot("audio", role="response")))
THREE = Sampling(audio=SpanSampling(1.0), max_audio_frames=3)


def states_and_logits(model):
    """Logits of every level of a position, behind the same ids: of the first by the decoder's head,
    of the others by the depth decoder."""
    decoder, words = model.decoder(), model.vocabulary
    states = decoder.forward(decoder.new_cache(1, 8), [0], [[3, 1, 4, 1, 5]])[-1:]
    ranges = [words.id_range(f"audio.{level}") for level in range(3)]
    logits = [np.asarray(decoder.logits(states, (ranges[0],)))]
    filling = decoder.begin_positions(states)
    for level in (1, 2):
        filling.append([0], [ranges[level - 1][0] + 4])
        logits.append(np.asarray(filling.logits([0], (ranges[level],))))
    return logits


def distance(actual, expected):
    return max(np.linalg.norm(a - e) / np.linalg.norm(e) for a, e in zip(actual, expected))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    together_model().save_pretrained(folder, dtype="bfloat16")
    return folder


@pytest.mark.parametrize("per_level", [False, True])
def test_the_cpu_backend_packs_the_depth_decoder_as_int8_too(per_level, tmp_path):
    together_model(depth={"per_level": per_level}).save_pretrained(tmp_path, dtype="bfloat16")
    exact = states_and_logits(UnifiedModel.from_pretrained(tmp_path, dtype="float32"))
    model = UnifiedModel.from_pretrained(tmp_path, dtype="int8")
    assert model.decoder()._depth._format.name == ("float32" if per_level else "int8")
    assert 0 < distance(states_and_logits(model), exact) < 0.06
    (done,) = model.generate(SOUND, sampling=THREE)
    assert np.isfinite(done.segments[-1].waveform).all()
    # What training has changed is quantized anew.
    with torch.no_grad():
        model.hf.depth_decoder.lm_head.weight.mul_(-1)
    assert distance(states_and_logits(model), exact) > 1


@pytest.mark.parametrize("backend", ["torch_static", "transformers"])
def test_torchao_leaves_the_depth_decoder_in_its_own_type(folder, backend, capsys, tmp_path):
    exact = UnifiedModel.from_pretrained(folder, backend=backend)
    model = UnifiedModel.from_pretrained(folder, dtype="int8", backend=backend)
    assert model.decoder().backend == backend
    assert is_quantized(model.hf)
    names = [name for name, _ in quantized_layers(model.hf)]
    assert len(names) == 2 * 7
    assert {type(p) for p in model.hf.depth_decoder.parameters()} == {torch.nn.Parameter}
    assert {p.dtype for p in model.hf.depth_decoder.parameters()} == {torch.bfloat16}
    assert 0 < distance(states_and_logits(model), states_and_logits(exact)) < 0.06
    (done,) = model.generate(SOUND, sampling=THREE)
    assert np.isfinite(done.segments[-1].waveform).all()
    out = tmp_path / "said.wav"
    arguments = ["speak", "a cat", "--model", str(folder), "--dtype", "int8", "-o", str(out)]
    arguments += ["--backend", backend, "--set", "max_audio_frames=2"]
    assert run(arguments) == 0, capsys.readouterr().err
    assert out.exists()


def test_int4_leaves_the_depth_decoder_in_bfloat16(tmp_path):
    image, audio = level_tokenizers()
    torch.manual_seed(1)
    sizes = {"hidden_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 64,
             "num_key_value_heads": 1, "intermediate_size": 128, "max_position_embeddings": 64,
             "tie_word_embeddings": True}  # fmt: skip
    UnifiedModel.create(
        sizes, text_tokenizer=TextTokenizer.train(["a cat"], 262), format="pocket-together",
        image_tokenizer=image, audio_tokenizer=audio, max_grid=9, depth={"hidden_size": 128},
    ).save_pretrained(tmp_path)  # fmt: skip
    model = UnifiedModel.from_pretrained(tmp_path, dtype="int4")
    assert is_quantized(model.hf)
    assert {p.dtype for p in model.hf.depth_decoder.parameters()} == {torch.bfloat16}
    (done,) = model.generate(SOUND, sampling=THREE)
    assert np.isfinite(done.segments[-1].waveform).all()


def test_parallel_heads_of_eight_bits(tmp_path):
    together_model(codes="heads").save_pretrained(tmp_path, dtype="bfloat16")
    for backend in ("cpu", "torch_static"):
        exact = UnifiedModel.from_pretrained(tmp_path, backend=backend)
        model = UnifiedModel.from_pretrained(tmp_path, dtype="int8", backend=backend)
        assert 0 < distance(states_and_logits(model), states_and_logits(exact)) < 0.06
        assert model.generate(SOUND, sampling=THREE)


@pytest.mark.slow
def test_csm_by_torchao(tmp_path):
    """Whose own depth decoder stays as it is."""
    make_csm(tmp_path)
    for backend in ("torch_static", "transformers"):
        model = UnifiedModel.from_pretrained(tmp_path, dtype="int8", backend=backend)
        assert {name.split(".")[0] for name, _ in quantized_layers(model.hf)} == {"backbone_model"}
        waveform, _ = model.speak("a fox", sampling=THREE)
        assert np.isfinite(waveform).all()
