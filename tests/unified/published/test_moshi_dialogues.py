"""Moshi's dialogues as documents: they go on as transformers' generate does, and come back."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from tests.helpers.csm_checkpoint import CODES
from tests.helpers.moshi_checkpoint import make_moshi
from unified import Sampling, SpanSampling, UnifiedModel
from unified.__main__ import run
from unified.engine import events
from unified.engine.noise import Noise
from unified.engine.race import draw
from unified.formats.coded import CodedAudio
from unified.sequence.inspect import inspect_document
from unified_base.sounds import load_audio, save_wav
from unified_data.document import Audio, Dialogue, Document, Slot, Text

BEGUN, FRAMES = 4, 6
"""Frames of a dialogue that is given, and of what follows."""


@pytest.fixture(scope="module")
def moshi(tmp_path_factory):
    folder = tmp_path_factory.mktemp("moshi")
    return folder, make_moshi(folder)


@pytest.fixture(scope="module")
def model(moshi):
    return UnifiedModel.from_pretrained(moshi[0])


@pytest.fixture(scope="module")
def begun(model):
    """A dialogue of BEGUN frames."""
    rng = np.random.default_rng(0)
    waveform = rng.uniform(-0.9, 0.9, (2, BEGUN * model.audio_tokenizer.hop)).astype(np.float32)
    names = [name for name, id in model.text_tokenizer.tokens.items() if id in (70, 71, 90)]
    return Dialogue(waveform, model.audio_tokenizer.sample_rate, words=(*names, "<pad>"))


def sampling(frames, **sound):
    return Sampling(audio=SpanSampling(**sound), max_audio_frames=frames)


def complete(model, documents, chosen, seeds=None):
    """The dialogue and the streams of each document."""
    span = model.grammar.span_grammars["audio"]
    done = {e.row: e for e in model.stream(documents, chosen, seeds) if isinstance(e, events.Done)}
    return [
        (
            done[row].document.segments[-1],
            span.split_streams(model.grammar.parse(done[row].ids)[-1].codes),
        )
        for row in range(len(documents))
    ]


def generated(hf, begun=None, words=(), **options):
    """Text and codes of transformers' generate, behind a dialogue, without those of its last step,
    whose later codes are not beside a text any more."""
    inputs = {}
    if begun is not None:
        speaker, listener = torch.from_numpy(begun.waveform[:, None, None])
        inputs = {"input_ids": torch.tensor([words]), "moshi_input_values": speaker,
                 "user_input_values": listener}  # fmt: skip
    torch.manual_seed(0)
    outputs = hf.generate(
        **inputs, max_new_tokens=FRAMES, return_audio_waveforms=False, return_audio_codes=True,
        **{"do_sample": False, **options},
    )  # fmt: skip
    text = outputs.sequences[0, 1:-1].numpy()
    return text, outputs.audio_codes[0, :, : len(text)].numpy()


def ids_of(model, words):
    return [model.text_tokenizer.tokens[word] for word in words]


def test_a_reply_to_silence_is_what_generate_says(moshi, model):
    text, codes = generated(moshi[1])
    words, voice, rate = model.reply(sampling=sampling(FRAMES))
    spoken = [id for id in text.tolist() if id not in model.text_tokenizer.special_ids]
    assert words.startswith(model.text_tokenizer.decode(spoken).rstrip("\ufffd"))
    with torch.no_grad():
        expected = moshi[1].audio_encoder.decode(torch.from_numpy(codes)[None]).audio_values[0]
    assert rate == 16_000
    assert voice.shape == (1, FRAMES * model.audio_tokenizer.hop)
    assert np.allclose(voice[:, : expected.shape[1]], expected.numpy().clip(-1, 1), atol=1e-5)
    assert len(np.unique(codes)) > CODES // 3


def test_a_dialogue_goes_on_as_generate_goes_on(moshi, model, begun):
    """Given words and both voices, then silence; in one batch with a sound that is heard."""
    text, codes = generated(moshi[1], begun, ids_of(model, begun.words))
    total = BEGUN + FRAMES
    alone = Document((Slot("audio", begins=begun),))
    noise = np.random.default_rng(1).uniform(-0.9, 0.9, (1, 3 * model.audio_tokenizer.hop))
    heard = Audio(noise.astype(np.float32), begun.sample_rate)
    beside = Document((Slot("audio", begins=begun, listener=heard),))
    quiet, other = complete(model, [alone, beside], sampling(total))
    assert quiet[1]["text"][0, :-1].tolist() == text.tolist()
    assert quiet[1]["speaker"][:, :-1].tolist() == codes.tolist()
    assert quiet[0].words[:BEGUN] == begun.words
    assert ids_of(model, quiet[0].words[:-1]) == text.tolist()
    assert quiet[0].waveform.shape == (2, total * model.audio_tokenizer.hop)
    assert (other[1]["listener"][:, BEGUN : BEGUN + 3] == codes_of(model, heard)).all()
    assert (other[1]["listener"][:, BEGUN + 3 :] == quiet[1]["listener"][:, -3:]).all()
    assert (other[1]["speaker"] != quiet[1]["speaker"]).any()
    (single,) = complete(model, [beside], sampling(total))
    assert single[1]["speaker"].tolist() == other[1]["speaker"].tolist()


def codes_of(model, sound):
    coded = model.audio_tokenizer.encode(torch.from_numpy(sound.waveform)[None]).codes
    return coded[0].numpy()


def test_sampled_as_generate_samples_given_the_same_noise(moshi, model, begun, monkeypatch):
    """transformers' multinomial draws with the noise that the engine has at each id."""
    noise, drawn = Noise(9), []

    def multinomial(probabilities, num_samples):
        position, level = divmod(len(drawn), 9)  # the text, and eight codes
        at = 17 * (1 + BEGUN + position) + level
        drawn.extend(draw(probabilities.numpy(), [partial(noise.exponential, at)]))
        return torch.tensor([[drawn[-1]]])

    monkeypatch.setattr(torch, "multinomial", multinomial)
    options = {"do_sample": True, "temperature": 0.8, "top_k": 7}
    depth = {f"depth_decoder_{name}": value for name, value in options.items()}
    text, codes = generated(moshi[1], begun, ids_of(model, begun.words), **options, **depth)
    document = Document((Slot("audio", begins=begun),))
    chosen = sampling(BEGUN + FRAMES, temperature=0.8, top_k=7)
    ((_, streams),) = complete(model, [document], chosen, [9])
    assert streams["text"][0, :-1].tolist() == text.tolist()
    assert streams["speaker"][:, :-1].tolist() == codes.tolist()
    ((_, greedy),) = complete(model, [document], sampling(BEGUN + FRAMES))
    assert (greedy["speaker"] != streams["speaker"]).any()


def test_words_and_sound_are_told_as_they_come(model):
    document = Document((Slot("audio"),))
    told = list(model.stream([document], sampling(40), [0]))
    pieces = "".join(e.text for e in told if isinstance(e, events.TextPiece))
    chunks = [e.waveform for e in told if isinstance(e, events.AudioChunk)]
    (done,) = (e for e in told if isinstance(e, events.Done))
    (dialogue,) = done.document.segments
    assert pieces == model.sequencer.dialogue.text_of(dialogue)
    assert np.array_equal(np.concatenate(chunks, 1), dialogue.waveform[:1])
    first = next(at for at, e in enumerate(told) if isinstance(e, events.TextPiece))
    assert first < next(at for at, e in enumerate(told) if isinstance(e, events.AudioDone))


def test_a_dialogue_comes_back(model, begun):
    """Words exactly, codes exactly, voices as their codec rebuilds them."""
    document = Document((begun,))
    sequence = model.sequencer.encode(document)
    assert len(sequence.ids) == 17 * (BEGUN + 2) + 1
    (coded,) = model.grammar.parse(sequence.ids)
    assert isinstance(coded, CodedAudio)
    assert model.grammar.serialize([coded]).ids.tolist() == sequence.ids.tolist()
    (back,) = model.sequencer.decode(sequence.ids)
    assert back.words == begun.words
    decoded = model.audio_tokenizer.decode(model.audio_tokenizer.encode(
        torch.from_numpy(begun.waveform)[:, None]
    ))  # fmt: skip
    assert np.allclose(back.waveform, decoded[:, 0].numpy().clip(-1, 1), atol=1e-5)
    inspection = inspect_document(document, model.sequencer)
    assert inspection.error is None
    assert inspection.num_positions == BEGUN + 2 + 1
    words = json.dumps(model.sequencer.dialogue.text_of(begun), ensure_ascii=False)
    assert words in inspection.spans[0].content


def test_saved_and_reopened_it_says_the_same(moshi, model, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    again = UnifiedModel.from_pretrained(tmp_path / "saved")
    assert again.audio_tokenizer.fingerprint == model.audio_tokenizer.fingerprint
    assert again.tasks == model.tasks
    before, after = (m.reply(sampling=sampling(3)) for m in (model, again))
    assert before[0] == after[0]
    assert np.array_equal(before[1], after[1])
    hf, report = type(moshi[1]).from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not report["missing_keys"]
    for name, weight in moshi[1].audio_encoder.state_dict().items():
        assert torch.equal(hf.audio_encoder.state_dict()[name], weight), name


def test_the_command_replies_to_a_sound(moshi, tmp_path, capsys):
    sound = np.random.default_rng(2).uniform(-0.5, 0.5, (1, 480)).astype(np.float32)
    save_wav(tmp_path / "said.wav", sound, 24_000)
    line = ["reply", str(tmp_path / "said.wav"), "--model", str(moshi[0]), "-o",
            str(tmp_path / "answer.wav"), "--seconds", "0.025", "--json"]  # fmt: skip
    assert run([*line, "--both"]) == 0
    told = json.loads(capsys.readouterr().out)
    waveform, rate = load_audio(tmp_path / "answer.wav")
    assert waveform.shape == (2, 25 * 16)  # of the 20 ms that are heard, and silence
    assert rate == 16_000
    assert told["seconds"] == 0.025
    assert isinstance(told["text"], str)
    assert run([*line[:-3], "--seconds", "0.01"]) == 2
    assert "20 frames of sound are given, but the dialogue shall have 10" in capsys.readouterr().err


def test_the_commands_fill_and_inspect_a_document(moshi, tmp_path, capsys):
    document = {"segments": [{"type": "slot", "modality": "audio"}]}
    (tmp_path / "talk.json").write_text(json.dumps(document))
    model = ["--model", str(moshi[0])]
    filled = tmp_path / "filled.json"
    line = ["sample", str(tmp_path / "talk.json"), "-o", str(filled), *model]
    assert run([*line, "--set", "max_audio_frames=3"]) == 0
    (segment,) = json.loads(filled.read_text("utf-8"))["segments"]
    assert len(segment["words"]) == 3
    capsys.readouterr()
    assert run(["inspect", str(filled), *model, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["valid"]
    assert (told["length"], told["positions"]) == (17 * 5 + 1, 5 + 1)
    assert "3 frames, 0.00 s, 17 levels" in told["spans"][0]["content"]


def test_an_article_of_a_dialogue_plays_both_voices(begun, tmp_path):
    from unified.articles.outputs import save_article

    save_article(tmp_path / "talk.html", Document((Text("A talk."), begun)), {})
    assert "<audio" in (tmp_path / "talk.html").read_text("utf-8")


def test_replies_last_as_long_as_the_sound_and_the_models_time(model):
    sound = Audio(np.zeros((1, 33), np.float32), 16_000)  # two frames and a bit
    request = model.request_reply(sound)
    assert request.sampling.max_audio_frames == 3 + 125
    assert model.request_reply(None).sampling.max_audio_frames == 125
    assert model.request_reply(sound, 0.01).sampling.max_audio_frames == 10
    with pytest.raises(ValueError, match="say the same"):
        model.request_reply(sound, 0.01, settings={"max_audio_frames": 3})


def test_what_it_cannot_do_is_refused_in_a_line(model):
    assert model.tasks.able == ("reply",)
    for verb in ("write", "draw", "describe", "ask", "speak", "listen"):
        with pytest.raises(ValueError, match=f"cannot {verb}: Moshi .*; what it can do: reply$"):
            model.tasks.task(verb)


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        (lambda d: Audio(d.waveform[:1], d.sample_rate), "the sound is of one voice"),
        (lambda d: replace(d, words=d.words[1:]), "words for 3 frames, but its sound has 4"),
        (lambda d: replace(d, sample_rate=8_000), "8000 Hz, expected 1 channel at 16000"),
        (lambda d: replace(d, words=("hm!", *d.words[1:])), "frame 0 .* has the word 'hm!'"),
    ],
)
def test_dialogues_that_do_not_fit_are_refused(model, begun, segment, message):
    wrong = segment(begun)
    with pytest.raises(ValueError, match=message):
        model.sequencer.encode(Document((wrong,)))
    with pytest.raises(ValueError, match=message):
        model.generate(Document((Slot("audio", begins=wrong),)))


def test_slots_that_do_not_fit_are_refused(model, begun):
    fits = Slot("audio", begins=begun)
    with pytest.raises(ValueError, match=r"4 frames .* shall have 3 \(max_audio_frames\)"):
        model.generate(Document((fits,)), sampling=sampling(3))
    with pytest.raises(ValueError, match="nothing but a number of frames ends a dialogue"):
        model.generate(Document((fits,)), sampling=sampling(None))
    two = Audio(begun.waveform, begun.sample_rate)
    with pytest.raises(ValueError, match=r"2 channels"):
        model.generate(Document((Slot("audio", listener=two),)), sampling=sampling(9))
    pocket = UnifiedModel.from_pretrained("pocket")
    heard = Slot("audio", listener=Audio(np.zeros((1, 800), np.float32), 16_000))
    with pytest.raises(ValueError, match="no voice beside the one that it makes"):
        pocket.generate(Document((Text("A cat."), heard)))
    with pytest.raises(ValueError, match="no streams for"):
        pocket.sequencer.encode(Document((begun,)))
    with pytest.raises(ValueError, match="cannot reply: it does not listen while it speaks"):
        pocket.reply()
