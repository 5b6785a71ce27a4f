"""Higgs Audio v2 beside transformers: prompts of its processor, codes of its `generate`, verbs."""

from __future__ import annotations

import json

import codes_checkpoints as checkpoints
import numpy as np
import pytest
import torch
import transformers
from codes_checkpoints import CODES

from tokenizers import Tokenizer
from unified import LevelSampling, Sampling, SpanSampling, UnifiedModel
from unified.engine.backends.cpu.stored import to_quantize
from unified.engine.engine import Engine
from unified.engine.noise import Noise
from unified.engine.request import CodedSlot, Finished, Request
from unified.formats.coded import CodedAudio, CodedText
from unified.models.hf_checkpoint import weights_of
from unified.models.higgs_decoder import HiggsDecoder
from unified.models.info import describe_model
from unified_data.document import Audio, Document, Slot, Text

SCENE = "\nAudio is recorded from a quiet room.\n"
TEXTS = ["a red fox", "two owls and a lamp on a green ground", "what is this?"]
GREEDY = Sampling(audio=SpanSampling(), max_ids=1000)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("higgs")
    checkpoints.make_higgs(root / "model")
    checkpoints.save_higgs_codec(root / "codec")
    return root


@pytest.fixture(scope="module")
def hf(folders):
    kind = transformers.HiggsAudioV2ForConditionalGeneration
    return kind.from_pretrained(folders / "model").eval()


@pytest.fixture(scope="module", params=["cpu", "transformers"])
def model(folders, request):
    return UnifiedModel.from_pretrained(
        folders / "model", audio_tokenizer=folders / "codec", backend=request.param
    )


@pytest.fixture(scope="module")
def processor(folders):
    backend = Tokenizer.from_file(str(folders / "model" / "tokenizer.json"))
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<|end_of_text|>"
    )
    codec = transformers.HiggsAudioV2TokenizerModel.from_pretrained(folders / "codec").eval()
    return transformers.HiggsAudioV2Processor(
        transformers.DacFeatureExtractor(sampling_rate=24_000, hop_length=960), tokenizer, codec,
        audio_stream_bos_id=CODES, audio_stream_eos_id=CODES + 1,
    )  # fmt: skip


def turns(*spoken):
    """A conversation as the published chat template lays it out, sound being its placeholder."""
    words = (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nGenerate audio following"
        f" instruction.\n\n<|scene_desc_start|>{SCENE}<|scene_desc_end|><|eot_id|>"
    )
    for text, sound in spoken:
        words += f"<|start_header_id|>user<|end_header_id|>\n\n{text}<|eot_id|>"
        words += "<|start_header_id|>assistant<|end_header_id|>\n\n<|audio_out_bos|>"
        words += "<|AUDIO_OUT|><|audio_eos|><|eot_id|>" if sound else ""
    return words


def request(model, *spoken, seed=0):
    segments = [CodedText(tuple(model.text_tokenizer.encode(SCENE)), "scene")]
    for text, sound in spoken:
        segments.append(CodedText(tuple(model.text_tokenizer.encode(text)), "prompt"))
        segments.append(sound or CodedSlot("audio", role="response"))
    return Request(tuple(segments), seed)


def sampled(model, requests, sampling=GREEDY):
    engine = Engine(model.decoder(), model.grammar, model.text_tokenizer)
    done = {e.row: e.ids for e in engine.run(requests, sampling) if isinstance(e, Finished)}
    return [done[row].tolist() for row in range(len(requests))]


def columns(model, ids):
    """The ids before the last sound, and its positions as rows (T, 8) of the levels' tables."""
    marker, first = model.vocabulary.marker, model.vocabulary.id_range("audio.0")[0]
    start = len(ids) - ids[::-1].index(marker("<audio>"))
    stop = ids.index(marker("</audio>"), start)
    positions = np.array(ids[start:stop]).reshape(-1, 8)
    return ids[:start], positions - first - (CODES + 2) * np.arange(8)


def theirs(hf, inputs, steps, **options):
    """What transformers generates behind the inputs of its processor, (T, 8)."""
    with torch.no_grad():
        out = hf.generate(**inputs, max_new_tokens=steps, **{"do_sample": False, **options})
    return out[0].numpy()


def test_codes_of_a_text_are_those_of_generate_to_the_end(model, hf, processor):
    """Texts of two lengths in one batch; level 0 ends, and the others after it."""
    drawn = sampled(model, [request(model, (text, None)) for text in TEXTS])
    ends = []
    for text, ids in zip(TEXTS, drawn):
        inputs = processor(turns((text, False)), return_tensors="pt")
        before, rows = columns(model, ids)
        assert before == inputs["input_ids"][0].tolist()
        expected = theirs(hf, inputs, len(rows) + 3)
        np.testing.assert_array_equal(rows, expected)
        (sound,) = [s for s in model.grammar.parse(ids) if isinstance(s, CodedAudio)]
        ends.append(sound.codes.shape[1])
        waveform = processor.batch_decode(torch.from_numpy(expected)[None])[0].clip(-1, 1)
        own = model.sequencer.decode_audio(sound.codes)
        np.testing.assert_allclose(own.reshape(-1), waveform.numpy(), atol=1e-5)
    assert min(ends) < max(ends), ends


def test_a_voice_that_was_heard(model, hf, processor):
    """Reference audio: its text and its sound stand before, coded as the processor does it."""
    heard = np.random.default_rng(0).normal(0, 0.1, 6 * 960).astype(np.float32)
    inputs = processor(turns((TEXTS[0], True), (TEXTS[1], False)), heard, return_tensors="pt")
    document = Document(
        (
            Text(SCENE, "scene"), Text(TEXTS[0], "prompt"),
            Audio(heard[None], 24_000, "response"), Text(TEXTS[1], "prompt"),
            Slot("audio", role="response"),
        )
    )  # fmt: skip
    *_, reference, _, _ = model.sequencer.code(document)
    (ids,) = sampled(model, [request(model, (TEXTS[0], reference), (TEXTS[1], None))])
    _, rows = columns(model, ids)
    generated = theirs(hf, inputs, len(rows) + 3)
    before = inputs["audio_input_ids"].shape[1]
    np.testing.assert_array_equal(rows, generated[before:])
    assert len(rows) > 12
    (completed,) = model.generate(document, sampling=GREEDY)
    own = model.sequencer.decode_audio(model.grammar.parse(ids)[-1].codes)
    np.testing.assert_array_equal(completed.segments[-1].waveform, own)


class CodesAlone(transformers.InfNanRemoveLogitsProcessor):
    """Rules out what the format does: ends of levels other than the first, and begins."""

    def __call__(self, input_ids, scores):
        rows = scores.view(-1, 8, CODES + 2)
        rows[:, 1:, CODES + 1] = rows[:, 1:, CODES + 1].where(
            (rows[:, 1:, :CODES] == -torch.inf).all(-1), -torch.inf
        )
        rows[..., CODES] = rows[..., CODES].where(
            (rows[..., :CODES] == -torch.inf).all(-1), -torch.inf
        )
        return scores


@pytest.mark.parametrize("options", [{}, {"top_k": 5}, {"top_p": 0.8}])
def test_sampled_codes_are_those_of_generate_given_the_same_noise(
    model, hf, processor, options, monkeypatch
):
    """Our noise for each id, put where transformers draws: the race that `multinomial` runs."""
    sampling = Sampling(
        audio=SpanSampling(1.1, **options), max_ids=1000, max_audio_frames=12
    )  # fmt: skip
    lengths = []
    for seed in (1, 2, 3):
        (ids,) = sampled(model, [request(model, (TEXTS[0], None), seed=seed)], sampling)
        before, rows = columns(model, ids)
        frames = len(rows) - 9
        noise, at = Noise(seed), [len(before)]

        def multinomial(probs, num_samples, at=at, noise=noise):
            """The columns (8, 1); `at` counts ids, forced ones included."""
            chosen = []
            for level, row in enumerate(probs):
                number = CODES + 1 if level == 0 else CODES
                allowed = torch.tensor([*range(CODES), CODES + 1][:number])
                best = int(row.argmax())
                if row[best] < 1:
                    drawn = row[allowed].double().numpy() / noise.exponential(at[0], number)
                    best = int(allowed[int(drawn.argmax())])
                chosen.append([best])
                at[0] += 1
            return torch.tensor(chosen)

        monkeypatch.setattr(torch, "multinomial", multinomial)
        inputs = processor(turns((TEXTS[0], False)), return_tensors="pt")
        drawn = theirs(
            hf, inputs, frames, do_sample=True, temperature=1.1,
            logits_processor=[CodesAlone()], **{"top_k": 0, "top_p": 1.0, **options},
        )  # fmt: skip
        monkeypatch.undo()
        np.testing.assert_array_equal(rows[:frames], drawn)
        lengths.append(frames)
    assert max(lengths) > 6, lengths


@pytest.mark.parametrize("options", [{}, {"top_k": 5}])
def test_codes_that_repeat_are_drawn_anew_as_in_generate(
    model, hf, processor, options, monkeypatch
):
    """Repetition-aware sampling: the noise of second draws is a position's own, too."""
    own = SpanSampling(0.2, repetition_window=7, window_repeats=2, **options)
    sampling = Sampling(audio=own, max_ids=1000, max_audio_frames=12)
    for name, value in {"ras_win_len": 7, "ras_win_max_num_repeat": 2}.items():
        monkeypatch.setattr(hf.generation_config, name, value, raising=False)
    inputs = processor(turns((TEXTS[0], False)), return_tensors="pt")
    repeated = 0
    for seed in (1, 2, 3):
        (ids,) = sampled(model, [request(model, (TEXTS[0], None), seed=seed)], sampling)
        before, rows = columns(model, ids)
        noise, first = Noise(seed), []  # of each step: what is drawn first
        step_of = [0]

        def drawn(level, weights, numbers, step_of=step_of, before=before):
            count = CODES + 1 if level == 0 else CODES
            allowed = torch.tensor([*range(CODES), CODES + 1][:count])
            at = len(before) + 8 * step_of[0] + level
            race = weights[allowed].double().numpy() / numbers(at, count)
            return int(allowed[int(race.argmax())])

        def multinomial(probs, num_samples, noise=noise, first=first, step_of=step_of):
            chosen = [
                int(row.argmax()) if row.max() == 1 else drawn(level, row, noise.exponential)
                for level, row in enumerate(probs)
            ]
            first.append(chosen)
            step_of[0] += 1
            return torch.tensor(chosen)[:, None]

        def again(
            probs, num_samples, replacement, noise=noise, first=first, step_of=step_of, rows=rows
        ):
            """Of the levels whose first choice stands twice among the last seven."""
            step = len(first) - 1
            levels = [
                level for level, code in enumerate(first[-1])
                if code < CODES and rows[max(0, step - 7) : step, level].tolist().count(code) >= 2
            ]  # fmt: skip
            assert len(levels) == len(probs)
            step_of[0] -= 1
            chosen = [drawn(level, row, noise.again) for level, row in zip(levels, probs)]
            step_of[0] += 1
            return torch.tensor(chosen, dtype=torch.int64)[:, None]

        with monkeypatch.context() as patched:
            patched.setattr(torch, "multinomial", multinomial)
            patched.setattr(torch.Tensor, "multinomial", again)
            expected = theirs(
                hf, inputs, len(rows) - 9, do_sample=True, temperature=0.2,
                logits_processor=[CodesAlone()], **{"top_k": 0, "top_p": 1.0, **options},
            )  # fmt: skip
        np.testing.assert_array_equal(rows[: len(expected)], expected)
        repeated += int((np.array(first) != expected).sum())
    assert repeated > 2, repeated


def test_codes_that_repeat_are_drawn_anew_alone_and_in_a_batch(model):
    """By the seed alone; and not where the likeliest is taken."""
    sampling = Sampling(
        audio=SpanSampling(0.2, repetition_window=7), max_ids=1000, max_audio_frames=12
    )
    asked = [request(model, (text, None), seed=seed) for seed, text in enumerate(TEXTS)]
    together = sampled(model, asked, sampling)
    assert [sampled(model, [alone], sampling)[0] for alone in asked] == together
    plain = Sampling(audio=SpanSampling(0.2), max_ids=1000, max_audio_frames=12)
    assert sampled(model, asked, plain) != together
    of_levels = Sampling(
        audio=SpanSampling(0.2, levels=(LevelSampling(repetition_window=7),)), max_ids=1000,
        max_audio_frames=12,
    )  # fmt: skip
    assert sampled(model, asked, of_levels) == together
    greedy = Sampling(audio=SpanSampling(repetition_window=7), max_ids=1000)
    assert sampled(model, asked, greedy) == sampled(model, asked, GREEDY)


def test_every_backend_speaks_the_same(folders, model):
    static = UnifiedModel.from_pretrained(
        folders / "model", audio_tokenizer=folders / "codec", backend="torch_static"
    )
    asked = [request(model, (text, None)) for text in TEXTS]
    assert sampled(static, asked) == sampled(model, asked)
    assert UnifiedModel.from_pretrained(folders / "model").decoder().backend == "cpu"


def test_speaks_saves_reopens_and_says_what_it_is(model, folders, tmp_path):
    waveform, rate = model.speak(TEXTS[0], seed=3)
    assert (rate, waveform.shape[1] % 960) == (24_000, 0)
    model.save_pretrained(tmp_path / "saved")
    reopened = UnifiedModel.from_pretrained(tmp_path / "saved", backend=model.decoder().backend)
    np.testing.assert_array_equal(reopened.speak(TEXTS[0], seed=3)[0], waveform)
    manifest = json.loads((tmp_path / "saved" / "unified.json").read_text())
    assert (manifest["codes"], reopened.codes) == ({"output": "heads"}, model.codes)
    for folder in (tmp_path / "saved", folders / "model"):
        told = describe_model("higgs", folder)
        assert told["format"]["ids_of_a_position"] == {"audio": 8}
        assert told["codes"] == {"output": "heads"}
    kind = transformers.HiggsAudioV2ForConditionalGeneration
    theirs = kind.from_pretrained(tmp_path / "saved").state_dict()
    assert all(torch.equal(theirs[name], w) for name, w in model.hf.state_dict().items())


def test_what_it_cannot_do_is_said(model, folders, tmp_path):
    for verb, reason in (("draw", "no pictures"), ("write", "no head for text")):
        with pytest.raises(ValueError, match=reason):
            model.request(verb, text="a fox")
    document = Document((Text(SCENE, "scene"), Text("a", "prompt"), Slot("text", role="response")))
    with pytest.raises(ValueError, match="no rows for text"):
        model.generate(document)
    with pytest.raises(ValueError, match="comes without its audio codec"):
        UnifiedModel.from_pretrained(folders / "model").speak("a")
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).symlink_to(folders / "model" / name)
    config = json.loads((folders / "model" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_codebooks": 4}))
    with pytest.raises(ValueError, match="num_codebooks 4, expected 8"):
        UnifiedModel.from_pretrained(tmp_path)


def test_compiled_runs_of_text_and_sound_have_the_same_bits_in_any_company(folders, hf):
    """Prompts of both kinds in one pass, each alone, and position by position."""
    decoder = UnifiedModel.from_pretrained(folders / "model", backend="cpu").decoder()
    first, rows = hf.config.vocab_size, CODES + 2
    rng = np.random.default_rng(3)

    def sound(length):
        codes = first + rows * np.arange(8) + rng.integers(0, CODES, (length, 8))
        return [tuple(column) for column in codes.tolist()]

    sequences = [[3, 1, *sound(4), 7, 8, *sound(1)], [5, 2, 9], [*sound(2), 4], sound(5)]
    cache = decoder.new_cache(len(sequences), 40)
    together = decoder.forward(cache, list(range(len(sequences))), sequences)
    assert cache.lengths == list(map(len, sequences))
    at = 0
    for sequence in sequences:
        expected = together[at : (at := at + len(sequence))]
        np.testing.assert_array_equal(
            decoder.forward(decoder.new_cache(1, 40), [0], [sequence]), expected
        )
        own = decoder.new_cache(1, 40)
        states = [decoder.forward(own, [0], [[position]]) for position in sequence]
        np.testing.assert_array_equal(np.concatenate(states), expected)
    theirs = UnifiedModel.from_pretrained(folders / "model", backend="transformers").decoder()
    slots = list(range(len(sequences)))
    states = theirs.forward(theirs.new_cache(len(sequences), 40), slots, sequences)
    np.testing.assert_allclose(together, np.asarray(states), atol=1e-4)


def test_weights_of_sound_that_are_missing_are_named(hf):
    weights = weights_of(hf)
    for name in ("model.layers.1.audio_mlp.up_proj.weight", "audio_lm_head.weight",
                 "model.norm.weight"):  # fmt: skip
        with pytest.raises(ValueError, match=rf"{name} is missing"):
            HiggsDecoder(hf.config.to_dict(), {n: w for n, w in weights.items() if n != name})
    assert HiggsDecoder(hf.config.to_dict(), to_quantize(weights)).arithmetic == "int8"
