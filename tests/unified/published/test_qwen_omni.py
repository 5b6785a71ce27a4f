"""Qwen3-Omni's talker speaks a given reply with the codes of transformers' generate."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from tests.helpers.qwen_omni_checkpoint import CODES, QWEN, make_qwen_omni
from unified import Sampling, SpanSampling, UnifiedModel
from unified.engine.engine import Engine
from unified.engine.noise import Noise
from unified.engine.race import draw
from unified.engine.request import CodedSlot, Finished, Request
from unified.engine.sampler import LevelSampling
from unified.formats.coded import CodedAudio, CodedText
from unified.models.sampling_memory import sampling_memory
from unified_data.document import Audio, Document, Slot, Text

FRAMES = 7
GREEDY = Sampling(audio=SpanSampling(), max_audio_frames=FRAMES)


@pytest.fixture(scope="module")
def omni(tmp_path_factory):
    folder = tmp_path_factory.mktemp("omni")
    return folder, make_qwen_omni(folder)


@pytest.fixture(scope="module")
def model(omni):
    return UnifiedModel.from_pretrained(omni[0])


class Generated:
    """What transformers' generate makes of a question: ids of the reply, codes (16, T), sound."""

    def __init__(self, hf, model, question, speaker="ethan", **options):
        tokens = model.text_tokenizer.tokens
        start, end = tokens["<|im_start|>"], tokens["<|im_end|>"]
        ids = [start, *model.text_tokenizer.encode("user\n" + question), end]
        ids += [*model.text_tokenizer.encode("\n"), start]
        ids += model.text_tokenizer.encode("assistant\n")
        codes = []
        decode = hf.code2wav.chunked_decode

        def recorded(own, **settings):
            codes.append(own[0].numpy())
            return decode(own, **settings)

        hf.code2wav.chunked_decode = recorded
        suppressed = [tokens[name] for name in QWEN] + [len(tokens) + at for at in range(3)]
        torch.manual_seed(0)
        try:
            sequence, waveform = hf.generate(
                torch.tensor([ids]), speaker=speaker, thinker_max_new_tokens=5,
                thinker_eos_token_id=end, thinker_do_sample=False,
                thinker_suppress_tokens=suppressed, talker_max_new_tokens=FRAMES + 1,
                **{"talker_do_sample": False, "talker_repetition_penalty": 1.0, **options},
            )  # fmt: skip
        finally:
            del hf.code2wav.chunked_decode
        self.prompt = ids
        # The thinker has not read the last id that it wrote.
        self.reply = sequence[0, len(ids) : -1].tolist()
        self.codes, self.waveform = codes[0], waveform[0].numpy()


def request(model, question, reply, voice="ethan", seed=0):
    def coded(text, role):
        return CodedText(tuple(model.text_tokenizer.encode(text)), role)

    return Request(
        (coded(voice, "scene"), coded(question, "prompt"), CodedText(tuple(reply), "response"),
         CodedSlot("audio", role="response")), seed,
    )  # fmt: skip


def spoken(model, requests, sampling):
    """Codes (16, T) of the sound of each request."""
    engine = Engine(model.decoder(), model.grammar, model.text_tokenizer)
    ends = {e.row: e.ids for e in engine.run(requests, sampling) if isinstance(e, Finished)}
    return [model.grammar.parse(ends[row])[-1].codes for row in range(len(requests))]


def test_greedy_codes_are_those_of_generate(omni, model):
    """Alone and in one batch with another question and another speaker."""
    asked = [("a red fox", "ethan"), ("what is this? two owls", "chelsie")]
    theirs = [Generated(omni[1], model, question, speaker) for question, speaker in asked]
    requests = [
        request(model, question, own.reply, voice) for (question, voice), own in zip(asked, theirs)
    ]
    batched = spoken(model, requests, GREEDY)
    for codes, own in zip(batched, theirs):
        assert codes.tolist() == own.codes.tolist()
    (alone,) = spoken(model, requests[1:], GREEDY)
    assert alone.tolist() == theirs[1].codes.tolist()
    assert theirs[0].codes.shape == (16, FRAMES)
    assert len(np.unique(theirs[0].codes)) > CODES // 2
    (other,) = spoken(model, [request(model, asked[0][0], theirs[0].reply, "chelsie")], GREEDY)
    assert (other != theirs[0].codes).any()
    (another,) = spoken(model, [request(model, asked[0][0], theirs[1].reply)], GREEDY)
    assert (another != theirs[0].codes).any()


def test_sampled_codes_are_those_of_generate_given_the_same_noise(omni, model, monkeypatch):
    """transformers' multinomial draws with the noise that the engine has at each id."""
    greedy = Generated(omni[1], model, "a red fox")
    noise, drawn = Noise(3), []
    # <voice> ethan </voice>, the turns and the reply, and <bos>.
    names = len(model.text_tokenizer.encode("ethan")) + 2
    before = names + len(greedy.prompt) + len(greedy.reply) + 1

    def multinomial(probabilities, num_samples):
        at = partial(noise.exponential, before + len(drawn))
        row = probabilities[0]
        # The end stands before all codes, and not in the place of the first frame.
        ending = row[CODES + 1 : CODES + 2] if len(row) > CODES and drawn else row[:0]
        (index,) = draw(torch.cat([ending, row[:CODES]])[None].numpy(), [at])
        drawn.append(int(index) - len(ending))
        return torch.tensor([[drawn[-1] if drawn[-1] >= 0 else CODES + 1]])

    monkeypatch.setattr(torch, "multinomial", multinomial)
    own = Generated(
        omni[1], model, "a red fox", talker_do_sample=True, talker_temperature=0.9, talker_top_k=9,
        talker_repetition_penalty=1.3,
    )  # fmt: skip
    assert own.reply == greedy.reply
    levels = (
        LevelSampling(0.9, top_k=9, repetition_penalty=1.3),
        LevelSampling(1.0, top_k=50, top_p=0.8, repetition_penalty=1.0),
    )
    sampling = replace(GREEDY, audio=SpanSampling(repetition_penalty=1.3, levels=levels))
    (codes,) = spoken(model, [request(model, "a red fox", own.reply, seed=3)], sampling)
    assert codes.tolist() == own.codes.tolist()
    assert codes.shape[1] > 2
    assert codes.tolist() != greedy.codes.tolist()


@pytest.mark.slow
def test_samples_of_one_document_are_what_each_is_alone(model):
    """They share what they have read; some end before others."""
    sampling = replace(model.sampling, max_audio_frames=9)
    asked = [request(model, "a fox", [70, 71, 72], seed=seed) for seed in range(4)]
    together = spoken(model, asked, sampling)
    assert len({codes.tobytes() for codes in together}) == 4
    for codes, own in zip(together, asked):
        assert codes.tolist() == spoken(model, [own], sampling)[0].tolist()


def test_its_settings_and_its_sound_are_those_of_transformers(omni, model):
    assert model.tasks.able == ("speak",)
    asked = model.request("speak", text="a fox", voice="Chelsie")
    roles = [(segment.role, getattr(segment, "text", None)) for segment in asked.document]
    assert roles == [
        ("scene", "chelsie"), ("prompt", "Read this aloud: a fox"), ("response", "a fox"),
        ("response", None),
    ]  # fmt: skip
    first, others = (asked.sampling.audio.of_level(level) for level in (0, 1))
    assert (first.temperature, first.top_k, first.repetition_penalty) == (0.9, 50, 1.05)
    assert (others.temperature, others.top_k, others.top_p) == (1.0, 50, 0.8)
    assert others.repetition_penalty == 1.0
    question, text = "Read this aloud: a fox", "a fox"
    reply = model.text_tokenizer.encode(text)
    (codes,) = spoken(model, [request(model, question, reply)], GREEDY)
    waveform, rate = model.speak(text, sampling=GREEDY)
    with torch.no_grad():
        expected = omni[1].code2wav.chunked_decode(torch.from_numpy(codes)[None])[0].numpy()
    assert rate == 24_000
    assert waveform.shape == (1, FRAMES * model.audio_tokenizer.hop)
    assert np.allclose(waveform[:, : expected.shape[1]], expected, atol=1e-5)
    assert not waveform[:, expected.shape[1] :].any()


def test_a_document_of_turns_is_spoken_in_the_voice_named(model):
    turns = (Text("a fox?", "prompt"), Text("two owls", "response"), Slot("audio", role="response"))
    spoken = [
        model.generate(Document((*voice, *turns)), sampling=GREEDY)[0].segments[-1]
        for voice in ((), (Text("ethan", "scene"),), (Text("chelsie", "scene"),))
    ]
    assert np.array_equal(spoken[0].waveform, spoken[1].waveform)
    assert not np.array_equal(spoken[0].waveform, spoken[2].waveform)


def test_sequences_come_back(model):
    codes = np.random.default_rng(0).integers(CODES, size=(16, 3))
    segments = [
        CodedText((70, 71), "prompt"), CodedText((72,), "response"), CodedAudio(codes, "response"),
    ]  # fmt: skip
    ids = model.grammar.serialize(segments).ids
    assert list(model.grammar.parse(ids)) == segments


def test_saved_and_reopened_it_says_the_same(omni, model, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    _, report = type(omni[1]).from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    again = UnifiedModel.from_pretrained(tmp_path / "saved")
    assert again.vocabulary.hash == model.vocabulary.hash
    assert again.audio_tokenizer.fingerprint == model.audio_tokenizer.fingerprint
    assert again.tasks == model.tasks
    before, after = (m.speak("a fox", sampling=GREEDY)[0] for m in (model, again))
    assert np.array_equal(before, after)


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ((Text("a fox", "prompt"), Slot("audio", role="response")), "nothing to say"),
        (
            (Text("nobody", "scene"), Text("a", "response"), Slot("audio", role="response")),
            "names no speaker, expected one of chelsie, ethan",
        ),
        ((Text("a fox", "prompt"), Slot("text", role="response")), "writes codes and their end"),
        (
            (Text("a", "response"), Slot("audio", role="response", begins=Audio(
                np.zeros((1, 80), np.float32), 24_000))),
            "has no encoder",
        ),
    ],
)  # fmt: skip
def test_what_the_talker_cannot_do_is_refused(model, segments, message):
    with pytest.raises(ValueError, match=message):
        model.generate(Document(segments), sampling=GREEDY)


def test_other_verbs_and_backends_are_refused_by_name(omni, model):
    for verb in ("write", "draw", "describe", "ask", "listen", "reply"):
        with pytest.raises(ValueError, match=f"cannot {verb}: Qwen3-Omni's thinker"):
            model.tasks.task(verb)
    with pytest.raises(ValueError, match="there is no voice 'bob', expected one of chelsie, ethan"):
        model.speak("a fox", voice="bob")
    with pytest.raises(ValueError, match="backend torch_static does not run"):
        UnifiedModel.from_pretrained(omni[0], backend="torch_static").decoder()
    with pytest.raises(ValueError, match="backend cpu does not cover"):
        UnifiedModel.from_pretrained(omni[0], backend="cpu").decoder()


def test_what_it_takes_is_estimated_by_its_config(omni):
    memory = sampling_memory(omni[1].config.to_dict(), "config.json")
    assert memory.parameters == sum(weight.numel() for weight in omni[1].parameters())
    assert memory.cache["float32"] == 4 * 2 * 2 * 2 * 8  # keys and values of a position
    assert memory.ids_of_a_position == 16
