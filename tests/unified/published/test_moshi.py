"""Moshi opens, and its streams are those of transformers' generate beside a given voice."""

from functools import partial

import numpy as np
import pytest
import torch

from tests.helpers.csm_checkpoint import CODES
from tests.helpers.moshi_checkpoint import make_moshi
from unified import Sampling, SpanSampling, UnifiedModel
from unified.engine.engine import Engine
from unified.engine.noise import Noise
from unified.engine.race import draw
from unified.engine.request import CodedSlot, Finished, Request
from unified.models.info import describe_model
from unified.models.sampling_memory import sampling_memory
from unified_tokenizers import load_tokenizer

FRAMES = 6


@pytest.fixture(scope="module")
def moshi(tmp_path_factory):
    folder = tmp_path_factory.mktemp("moshi")
    return folder, make_moshi(folder)


@pytest.fixture(scope="module")
def model(moshi):
    return UnifiedModel.from_pretrained(moshi[0])


@pytest.fixture(scope="module")
def silence(moshi):
    """Codes (8,) that Mimi has for a frame of silence, which generate gives as the other voice."""
    encoder = moshi[1].audio_encoder
    hop = int(moshi[1].config.sampling_rate / encoder.config.frame_rate)
    with torch.no_grad():
        return encoder.encode(torch.zeros(1, 1, hop), num_quantizers=8)[0][0, :, 0].numpy()


def streams(model, listeners, sampling, seed=0):
    """The streams of a talk beside each of some given voices, codes (8, T)."""
    engine = Engine(model.decoder(), model.grammar, model.text_tokenizer)
    requests = [Request((CodedSlot("audio", streams={"listener": c}),), seed) for c in listeners]
    ends = {e.row: e.ids for e in engine.run(requests, sampling) if isinstance(e, Finished)}
    talks = [model.grammar.parse(ends[row])[0].codes for row in range(len(listeners))]
    return [model.grammar.span_grammars["audio"].split_streams(codes) for codes in talks]


def generated(hf, **options):
    """Text (T,) and codes (8, T) of transformers' generate from nothing, beside silence.

    The codes of its last step are of a text that no longer stands beside them: they are left out.
    """
    torch.manual_seed(0)
    outputs = hf.generate(
        max_new_tokens=FRAMES, return_audio_waveforms=False,
        return_audio_codes=True, **{"do_sample": False, **options},
    )  # fmt: skip
    return outputs.sequences[0, 1:].numpy(), outputs.audio_codes[0].numpy()


GREEDY = Sampling(audio=SpanSampling())


@pytest.mark.parametrize("backend", ["cpu", "torch_static", "transformers"])
def test_greedy_streams_are_those_of_generate(moshi, silence, backend):
    """The other voice is silent, in one batch with another that is not."""
    model = UnifiedModel.from_pretrained(moshi[0], backend=backend)
    assert model.decoder().backend == backend
    text, codes = generated(moshi[1])
    voice = np.repeat(silence[:, None], FRAMES, 1)
    noisy = np.random.default_rng(0).integers(CODES, size=(8, FRAMES + 2))
    quiet, other = streams(model, [voice, noisy], GREEDY)
    assert quiet["text"][0, : FRAMES - 1].tolist() == text[: FRAMES - 1].tolist()
    assert quiet["speaker"][:, : FRAMES - 1].tolist() == codes[:, : FRAMES - 1].tolist()
    assert (quiet["listener"] == voice).all()
    assert (other["listener"] == noisy).all()
    assert other["speaker"].shape == (8, FRAMES + 2)
    assert (other["speaker"][:, :FRAMES] != quiet["speaker"]).any()
    assert len(np.unique(codes)) > CODES // 3


def test_sampled_streams_are_those_of_generate_given_the_same_noise(
    moshi, model, silence, monkeypatch
):
    """transformers' multinomial draws with the noise that the engine has at each id."""
    noise, drawn = Noise(7), []

    def multinomial(probabilities, num_samples):
        position, level = divmod(len(drawn), 9)  # the text, and eight codes
        at = 17 * (1 + position) + level
        drawn.extend(draw(probabilities.numpy(), [partial(noise.exponential, at)]))
        return torch.tensor([[drawn[-1]]])

    monkeypatch.setattr(torch, "multinomial", multinomial)
    options = {"do_sample": True, "temperature": 0.8, "top_k": 7}
    depth = {f"depth_decoder_{name}": value for name, value in options.items()}
    text, codes = generated(moshi[1], **options, **depth)
    assert len(drawn) == 9 * FRAMES
    sampling = Sampling(audio=SpanSampling(0.8, top_k=7))
    (ours,) = streams(model, [np.repeat(silence[:, None], FRAMES, 1)], sampling, seed=7)
    assert ours["text"][0, : FRAMES - 1].tolist() == text[: FRAMES - 1].tolist()
    assert ours["speaker"][:, : FRAMES - 1].tolist() == codes[:, : FRAMES - 1].tolist()
    (greedy,) = streams(model, [np.repeat(silence[:, None], FRAMES, 1)], GREEDY)
    assert (greedy["speaker"] != ours["speaker"]).any()


def test_opened_saved_and_told_about(moshi, model, tmp_path):
    words = model.vocabulary
    texts = moshi[1].config.vocab_size
    assert words.marker("<text>") == texts  # its row in the table
    assert words.is_text(0)  # what silence is in Moshi's words is sampled as text
    assert words.is_text(3)
    assert words.size == texts + 19 + 16 * CODES
    described = describe_model("moshi", moshi[0])
    assert described["format"]["ids_of_a_position"] == {"audio": 17}
    model.save_pretrained(tmp_path / "saved")
    hf, report = type(moshi[1]).from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert torch.equal(hf.decoder.lm_head.weight, moshi[1].decoder.lm_head.weight)
    again = UnifiedModel.from_pretrained(tmp_path / "saved")
    assert again.vocabulary.hash == words.hash
    voice = np.random.default_rng(1).integers(CODES, size=(8, 3))
    (before,), (after,) = (streams(m, [voice], GREEDY) for m in (model, again))
    assert (before["speaker"] == after["speaker"]).all()


def test_a_voice_is_coded_by_the_codec_inside(moshi):
    """Its first eight codebooks, as generate codes a user's voice."""
    codec = load_tokenizer(moshi[0], "audio")
    waveform = torch.randn(1, 1, 5 * codec.hop, generator=torch.Generator().manual_seed(0)) / 3
    with torch.no_grad():
        expected = moshi[1].audio_encoder.encode(waveform, num_quantizers=8)[0]
    assert codec.encode(waveform).codes.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ({"text": np.zeros((1, 3), int)}, "no stream 'text' that can be given, expected speaker"),
        ({"guest": np.zeros((8, 3), int)}, "no stream 'guest' that can be given"),
        ({"listener": np.zeros((7, 3), int)}, r"shape \(7, 3\), expected \(8, T\)"),
        (
            {"listener": np.zeros((8, 3), int), "speaker": np.zeros((8, 4), int)},
            "the same T for all streams",
        ),
        ({"listener": np.full((8, 3), CODES)}, str(CODES)),
    ],
)
def test_given_streams_that_do_not_fit_are_refused(model, codes, message):
    engine = Engine(model.decoder(), model.grammar, model.text_tokenizer)
    with pytest.raises(ValueError, match=message):
        list(engine.run([Request((CodedSlot("audio", streams=codes),), 0)], GREEDY))


def test_quantized_weights_are_refused_by_name(moshi):
    with pytest.raises(ValueError, match="Moshi's weights cannot be quantized"):
        UnifiedModel.from_pretrained(moshi[0], dtype="int8").decoder()


def test_what_it_takes_is_estimated_by_its_config(moshi):
    memory = sampling_memory(moshi[1].config.to_dict(), "config.json")
    assert memory.parameters == sum(weight.numel() for weight in moshi[1].parameters())
    assert memory.cache["float32"] == 4 * 2 * 2 * 4 * 8  # keys and values of a position
    assert memory.ids_of_a_position == 17
