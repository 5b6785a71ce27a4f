"""Dia beside transformers: bytes of its tokenizer, codes of its `generate`, verbs."""

from __future__ import annotations

import codes_checkpoints as checkpoints
import numpy as np
import pytest
import torch
import transformers

from unified import Guidance, Sampling, SpanSampling, UnifiedModel
from unified.engine.engine import Engine
from unified.engine.noise import Noise
from unified.engine.request import CodedSlot, Finished, Request
from unified.formats.coded import CodedText
from unified.models.info import describe_model
from unified_data.document import Audio, Document, Slot, Text

TEXTS = ["[S1] a red fox [S2] (laughs) no!", "[S1] Zwei Eulen, eine für dich."]
FRAMES = 23


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("dia")
    checkpoints.make_dia(root / "model")
    checkpoints.save_dac(root / "codec")
    return root


@pytest.fixture(scope="module")
def hf(folders):
    return transformers.DiaForConditionalGeneration.from_pretrained(folders / "model").eval()


@pytest.fixture(scope="module", params=["cpu", "transformers"])
def model(folders, request):
    return UnifiedModel.from_pretrained(
        folders / "model", audio_tokenizer=folders / "codec", backend=request.param
    )


@pytest.fixture(scope="module")
def processor(folders):
    codec = transformers.DacModel.from_pretrained(folders / "codec").eval()
    extractor = transformers.DiaFeatureExtractor(sampling_rate=600, hop_length=4)
    return transformers.DiaProcessor(extractor, transformers.DiaTokenizer(), codec)


KINDS = {
    "eos_token_id": checkpoints.CODES, "pad_token_id": checkpoints.CODES + 1,
    "bos_token_id": checkpoints.CODES + 2, "sampling_rate": 600,
}  # fmt: skip


def spoken(model, document, guidance):
    settings = Sampling(
        audio=SpanSampling(guidance=guidance), max_ids=2000, max_audio_frames=FRAMES
    )
    (done,) = model.generate(document, sampling=settings)
    return done.segments[-1].waveform


def theirs(hf, processor, text, options, sound=None):
    """What its processor decodes of what transformers generates."""
    inputs = processor(text=[text], audio=None if sound is None else [sound], **KINDS)
    # The last frame of level 0 stands at FRAMES, and its end behind it.
    settings = {"do_sample": False, "max_length": FRAMES + 2, "top_k": 0, **options}
    if settings["top_k"] == 0:
        settings["top_k"] = None
    with torch.no_grad():
        out = hf.generate(**inputs, **settings)
    waveform = processor.batch_decode(out, **KINDS)[0]
    return waveform.clip(-1, 1).numpy().reshape(1, -1)


def test_texts_are_bytes_and_turns_as_its_tokenizer_has_them(model):
    own = transformers.DiaTokenizer()
    for text in (*TEXTS, "[S3] <pad>x [S1][S2]"):
        ids = model.text_tokenizer.encode(text)
        if "<pad>" not in text:  # typed by a user it is text
            assert ids == own(text, add_special_tokens=False)["input_ids"]
        assert model.text_tokenizer.decode(ids) == text


@pytest.mark.parametrize(
    ("guidance", "options"),
    [
        (Guidance(), {}),
        (Guidance(3.0, "show-o"), {"guidance_scale": 3.0}),
        (Guidance(3.0, "show-o", top_k=4), {"guidance_scale": 3.0, "top_k": 4}),
    ],
)
def test_sound_is_that_of_generate(model, hf, processor, guidance, options):
    sounds = []
    for text in TEXTS:
        ours = spoken(model, Document((Text(text), Slot("audio"))), guidance)
        expected = theirs(hf, processor, text, options)
        assert ours.shape == expected.shape
        np.testing.assert_allclose(ours, expected, atol=1e-5)
        sounds.append(ours)
    assert not np.array_equal(*sounds)


@pytest.mark.parametrize("seed", [1, 2])
def test_sampled_codes_are_those_of_generate_given_the_same_noise(
    model, hf, processor, seed, monkeypatch
):
    """Guidance that filters, an end where it is the likeliest alone; our noise in `multinomial`."""
    words = tuple(model.text_tokenizer.encode(TEXTS[0]))
    own = SpanSampling(
        1.8, top_p=0.9, guidance=Guidance(3.0, "show-o", top_k=3), ends_likeliest=True
    )
    sampling = Sampling(audio=own, max_ids=2000, max_audio_frames=FRAMES)
    engine = Engine(model.decoder(), model.grammar, model.text_tokenizer)
    request = Request((CodedText(words), CodedSlot("audio")), seed)
    (end,) = (e for e in engine.run([request], sampling) if isinstance(e, Finished))
    codes = model.grammar.parse(end.ids.tolist())[-1].codes
    noise, step, drawn = Noise(seed), [0], []

    def multinomial(probs, num_samples):
        columns = []
        for level, row in enumerate(probs):
            number = checkpoints.CODES + (level == 0 and step[0] > 0)
            weights = row[:number].double().numpy()
            at = len(words) + 9 * (step[0] + 1) + level
            if row[checkpoints.CODES] == 1:  # an end, drawn or forced
                columns.append([checkpoints.CODES])
            else:
                columns.append([int((weights / noise.exponential(at, number)).argmax())])
        step[0] += 1
        drawn.append(columns)
        return torch.tensor(columns)

    monkeypatch.setattr(torch, "multinomial", multinomial)
    options = {"guidance_scale": 3.0, "top_k": 3, "top_p": 0.9, "temperature": 1.8}
    expected = theirs(hf, processor, TEXTS[0], {**options, "do_sample": True})
    monkeypatch.undo()
    table = np.array(drawn)[..., 0].T  # (9, steps)
    frames = codes.shape[1]
    assert frames > 3
    for level, late in enumerate([0, 8, 9, 10, 11, 12, 13, 14, 15]):
        np.testing.assert_array_equal(codes[level], table[level, late : late + frames])
    np.testing.assert_allclose(model.sequencer.decode_audio(codes), expected, atol=1e-5)


def test_a_voice_goes_on_as_in_generate(model, hf, processor):
    """An audio prompt begins the sound, its text before the new one."""
    heard = np.random.default_rng(1).normal(0, 0.3, 5 * 4).astype(np.float32)
    slot = Slot("audio", begins=Audio(heard[None], 600))
    ours = spoken(model, Document((Text(TEXTS[0]), slot)), Guidance())
    np.testing.assert_allclose(ours, theirs(hf, processor, TEXTS[0], {}, heard), atol=1e-5)


def test_speaks_saves_reopens_and_says_what_it_is(model, folders, tmp_path):
    settings = {"max_audio_frames": 9, "max_ids": 2000}
    waveform, rate = model.speak(TEXTS[0], seed=3, settings=settings)
    assert rate == 600
    model.save_pretrained(tmp_path / "saved")
    reopened = UnifiedModel.from_pretrained(tmp_path / "saved")
    again, _ = reopened.speak(TEXTS[0], seed=3, settings=settings)
    np.testing.assert_array_equal(again, waveform)
    for path in (tmp_path / "saved", folders / "model"):
        told = describe_model("dia", path)
        assert told["format"]["ids_of_a_position"] == {"audio": 9}
        assert told["codes"] == {"output": "heads"}
    with pytest.raises(ValueError, match="comes without its audio codec"):
        UnifiedModel.from_pretrained(folders / "model").speak("a")
