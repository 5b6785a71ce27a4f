"""MusicGen beside transformers: texts of its encoder, codes of its `generate`, verbs."""

from __future__ import annotations

import json

import codes_checkpoints as checkpoints
import numpy as np
import pytest
import torch
import transformers
from codes_checkpoints import CODES

from unified import Guidance, Sampling, SpanSampling, UnifiedModel
from unified.engine.engine import Engine
from unified.engine.noise import Noise
from unified.engine.request import CodedSlot, Finished, Request
from unified.formats.coded import CodedText
from unified.models.info import describe_model
from unified_data.document import Audio, Document, Slot, Text

TEXTS = ["a red fox", "two owls and a lamp on a green ground"]
FRAMES = 17


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("musicgen")
    checkpoints.make_musicgen(folder)
    return folder


@pytest.fixture(scope="module")
def hf(folder):
    return transformers.MusicgenForConditionalGeneration.from_pretrained(folder).eval()


@pytest.fixture(scope="module", params=["cpu", "transformers"])
def model(folder, request):
    return UnifiedModel.from_pretrained(folder, backend=request.param)


def request(model, text, seed=0):
    words = CodedText(tuple(model.text_tokenizer.encode(text)))
    return Request((words, CodedSlot("audio")), seed)


def sampled(model, requests, **audio):
    """The codes (4, T) of each request, and its ids."""
    sampling = Sampling(audio=SpanSampling(**audio), max_ids=1600, max_audio_frames=FRAMES)
    engine = Engine(model.decoder(), model.grammar, model.text_tokenizer)
    done = {e.row: e.ids for e in engine.run(requests, sampling) if isinstance(e, Finished)}
    ids = [done[row].tolist() for row in range(len(requests))]
    return [model.grammar.parse(own)[-1].codes for own in ids], ids


def inputs(model, texts):
    """As its processor makes them: T5's end behind every text, padded on the right."""
    end = model.text_tokenizer.tokens["</s>"]
    rows = [[*model.text_tokenizer.encode(text), end] for text in texts]
    longest = max(map(len, rows))
    return {
        "input_ids": torch.tensor([row + [0] * (longest - len(row)) for row in rows]),
        "attention_mask": torch.tensor(
            [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
        ),
    }


def generated(hf, texts, monkeypatch, **options):
    """The codes (B, 4, T) that transformers decodes in the end."""
    decoded = []
    monkeypatch.setattr(
        hf.audio_encoder, "decode",
        lambda codes, **rest: decoded.append(codes) or transformers.utils.ModelOutput(
            audio_values=codes
        ),
    )  # fmt: skip
    options = {"do_sample": False, "max_length": FRAMES + 4, **options}
    with torch.no_grad():
        hf.generate(**texts, **options)
    monkeypatch.undo()
    return decoded[0][0].numpy()


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_codes_are_those_of_generate(model, hf, scale, monkeypatch):
    """Texts of two lengths in one batch, as transformers pads them; each alone gives the same."""
    theirs = generated(hf, inputs(model, TEXTS), monkeypatch, guidance_scale=scale)
    guidance = Guidance(scale)
    ours, _ = sampled(model, [request(model, text) for text in TEXTS], guidance=guidance)
    np.testing.assert_array_equal(np.stack(ours), theirs)
    for text, codes in zip(TEXTS, ours):
        ((alone,), _) = sampled(model, [request(model, text)], guidance=guidance)
        np.testing.assert_array_equal(alone, codes)
    assert min(len(np.unique(codes)) for codes in ours) > 5
    assert not np.array_equal(ours[0], ours[1])


@pytest.mark.parametrize("options", [{}, {"top_k": 6}, {"top_p": 0.8}])
def test_sampled_codes_are_those_of_generate_given_the_same_noise(model, hf, options, monkeypatch):
    """Our noise for each id, put where transformers draws: the race that `multinomial` runs."""
    (codes,), _ = sampled(
        model, [request(model, TEXTS[0], 5)], temperature=1.2, guidance=Guidance(3.0), **options
    )
    before = len(model.text_tokenizer.encode(TEXTS[0])) + 4  # and the position of padding
    noise, step = Noise(5), [0]

    def multinomial(probs, num_samples):
        """Level k's first choice is k steps late, and padding stands before it."""
        columns = []
        for level, row in enumerate(probs):
            number = CODES + (level == 0 and step[0] > 0)  # level 0 may end, which weighs nothing
            at = before + 4 * step[0] + level
            weights = np.append(row.double().numpy(), 0.0)[:number]
            columns.append([int((weights / noise.exponential(at, number)).argmax())])
        step[0] += 1
        return torch.tensor(columns)

    monkeypatch.setattr(torch, "multinomial", multinomial)
    theirs = generated(
        hf, inputs(model, TEXTS[:1]), monkeypatch, do_sample=True, temperature=1.2,
        guidance_scale=3.0, **{"top_k": 0, "top_p": 1.0, **options},
    )  # fmt: skip
    np.testing.assert_array_equal(codes, theirs[0])


def test_waveforms_are_those_of_its_codec(model, hf):
    with torch.no_grad():
        theirs = hf.generate(
            **inputs(model, TEXTS[:1]), do_sample=False, guidance_scale=3.0, max_length=FRAMES + 4
        )
    settings = {"max_audio_frames": FRAMES, "max_ids": 1600}
    waveform, rate = model.speak(TEXTS[0], temperature=0.0, settings=settings)
    assert (rate, waveform.shape) == (600, (1, FRAMES * 6))
    np.testing.assert_allclose(waveform, theirs[0].clip(-1, 1).numpy(), atol=1e-5)


def test_streamed_shared_and_cut_texts_give_what_each_alone_gives(model):
    """Requests that join later, and texts that begin alike, whose slots are copied and cut."""
    texts = ["a red fox", "a red fox on a lamp", "a red", "a red fox"]
    alone = [sampled(model, [request(model, text, seed)])[1][0] for seed, text in enumerate(texts)]
    engine = Engine(model.decoder(), model.grammar, model.text_tokenizer)
    sampling = Sampling(audio=SpanSampling(), max_ids=1600, max_audio_frames=FRAMES)
    done = {}
    for seed, text in enumerate(texts):
        engine.add(
            request(model, text, seed),
            lambda e, seed=seed: done.update({seed: e.ids}) if isinstance(e, Finished) else None,
            sampling,
        )
        engine.step()
        engine.step()
    while len(done) < len(texts):
        engine.step()
    assert [done[seed].tolist() for seed in range(len(texts))] == alone


def test_saves_reopens_and_says_what_it_is(model, folder, tmp_path):
    settings = {"max_audio_frames": 9, "max_ids": 1600}
    waveform, _ = model.speak(TEXTS[0], seed=3, settings=settings)
    model.save_pretrained(tmp_path / "saved")
    reopened = UnifiedModel.from_pretrained(tmp_path / "saved")
    again, _ = reopened.speak(TEXTS[0], seed=3, settings=settings)
    np.testing.assert_array_equal(again, waveform)
    manifest = json.loads((tmp_path / "saved" / "unified.json").read_text())
    assert manifest["codes"] == {"output": "heads"}
    for path in (tmp_path / "saved", folder):
        told = describe_model("musicgen", path)
        assert told["format"]["ids_of_a_position"] == {"audio": 4}
        assert told["codes"] == {"output": "heads"}
    kind = transformers.MusicgenForConditionalGeneration
    theirs = kind.from_pretrained(tmp_path / "saved").state_dict()
    assert all(torch.equal(theirs[name], w) for name, w in model.hf.state_dict().items())


def test_what_it_cannot_do_is_said(model, folder, tmp_path):
    for verb, reason in (("draw", "no pictures"), ("write", "writes no text")):
        with pytest.raises(ValueError, match=reason):
            model.request(verb, text="a fox")
    with pytest.raises(ValueError, match="no head for text"):
        model.generate(Document((Text("a"), Slot("text"))))
    with pytest.raises(ValueError, match="a text encoder"):
        UnifiedModel.from_pretrained(folder, backend="torch_static")
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).symlink_to(folder / name)
    config = json.loads((folder / "config.json").read_text())
    config["decoder"]["num_codebooks"] = 8
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="num_codebooks 8, expected 4: MusicGen in stereo"):
        UnifiedModel.from_pretrained(tmp_path)
    config["decoder"] |= {"num_codebooks": 4, "activation_function": "relu"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"cpu does not cover MusicgenForConditional.* options"):
        UnifiedModel.from_pretrained(tmp_path, backend="cpu").decoder()
    assert UnifiedModel.from_pretrained(tmp_path).decoder().backend == "transformers"
    decoder = model.decoder()
    first = model.vocabulary.id_range("audio.0")[0]
    code = tuple(first + 17 * k for k in range(4))
    with pytest.raises(ValueError, match="text stands behind codes"):
        decoder.forward(decoder.new_cache(1, 9), [0], [[3, code, 4]])


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_a_sound_is_gone_on_with_as_generate_does(model, hf, scale, monkeypatch):
    """An audio prompt: its codes begin the sound, in every level, and in every branch."""
    heard = np.random.default_rng(1).normal(0, 0.3, 5 * 6).astype(np.float32)
    slot = Slot("audio", begins=Audio(heard[None], 600))
    settings = Sampling(
        audio=SpanSampling(guidance=Guidance(scale)), max_ids=1600, max_audio_frames=FRAMES
    )
    (done,) = model.generate(Document((Text(TEXTS[1]), slot)), sampling=settings)
    texts = {**inputs(model, TEXTS[1:]), "input_values": torch.from_numpy(heard)[None, None]}
    with torch.no_grad():
        theirs = hf.generate(**texts, do_sample=False, guidance_scale=scale, max_length=FRAMES + 4)
    waveform = done.segments[-1].waveform
    assert waveform.shape == (1, FRAMES * 6)
    np.testing.assert_allclose(waveform, theirs[0].clip(-1, 1).numpy(), atol=1e-5)
    short = Sampling(audio=SpanSampling(), max_ids=1600, max_audio_frames=4)
    with pytest.raises(ValueError, match="frames from 5 to 4"):
        model.generate(Document((Text("a"), slot)), sampling=short)
    with pytest.raises(ValueError, match="no JSON form"):
        Document((Text("a"), slot)).to_parts("a")
