"""CSM opens from its own files, and speaks what transformers' generate speaks."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers.csm_checkpoint import CODES, CSM, LEVELS, ROWS, make_csm
from unified import Sampling, SpanSampling, UnifiedModel
from unified.engine.engine import Engine
from unified.engine.noise import Noise
from unified.engine.request import CodedSlot, Finished, Request
from unified.formats.coded import CodedText
from unified.models.info import codes_in_words, describe_model
from unified_data.document import Audio, Document, Slot, Text

BACKENDS = ("cpu", "torch_static", "transformers")
TEXTS = ["[0]a red fox", "[1]two owls and a lamp on a green ground"]
UNUSED = list(range(CODES, ROWS))
FRAMES = 7


@pytest.fixture(scope="module")
def csm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("csm")
    return folder, make_csm(folder)


@pytest.fixture(scope="module")
def model(csm):
    return UnifiedModel.from_pretrained(csm[0])


def spoken(model, requests, sampling):
    """Codes (T, K) of the last sound of each request."""
    engine = Engine(model.decoder(), model.grammar, model.text_tokenizer)
    ends = {e.row: e.ids for e in engine.run(requests, sampling) if isinstance(e, Finished)}
    return [model.grammar.parse(ends[row])[-1].codes.T for row in range(len(requests))]


def request(model, text, before=(), seed=0):
    coded = CodedText(tuple(model.text_tokenizer.encode(text)))
    return Request((*before, coded, CodedSlot("audio")), seed)


def prompt(model, text):
    """What transformers' processor makes of a text, by its chat template."""
    tokens = model.text_tokenizer.tokens
    begin, end = tokens["<|begin_of_text|>"], tokens["<|end_of_text|>"]
    return [begin, *model.text_tokenizer.encode(text), end]


def generated(hf, ids, **options):
    """Codes (T, K) of transformers' own generate; rows of padding are never drawn."""
    chosen = {"do_sample": False, "depth_decoder_do_sample": False, **options}
    torch.manual_seed(0)
    with torch.no_grad():
        return hf.generate(
            torch.tensor([ids]), max_new_tokens=FRAMES, suppress_tokens=UNUSED,
            depth_decoder_suppress_tokens=UNUSED, **chosen,
        )[0].numpy()  # fmt: skip


GREEDY = Sampling(audio=SpanSampling(), max_audio_frames=FRAMES)


def test_its_ids_and_settings_are_those_of_the_checkpoint(csm, model):
    tokens = model.text_tokenizer.tokens
    words = model.vocabulary
    assert words.marker("<bos>") == tokens["<|begin_of_text|>"]
    assert words.marker("<end>") == tokens["<|audio_eos|>"]
    assert words.text_rows == csm[1].config.text_vocab_size
    assert words.size == words.text_rows + LEVELS * CODES
    assert model.grammar.num_together == LEVELS
    assert model.tasks.able == ("speak",)
    assert not any(tokens[token] in model.text_tokenizer.encode(f"say {token}") for token in CSM)
    described = describe_model("csm", csm[0])
    assert described["format"]["ids_of_a_position"] == {"audio": LEVELS}
    assert codes_in_words(described) == (
        "32 of audio in a position, by a depth decoder of the checkpoint's own"
    )
    assert described["backends"]["cpu"] == "cpu"
    asked = model.request("speak", text="hello", voice="3")
    assert asked.document.segments[0].text == "[3]hello"
    assert asked.sampling.audio.temperature == 0.9
    assert asked.sampling.audio.top_k == 50


@pytest.mark.parametrize("backend", BACKENDS)
def test_greedy_codes_are_those_of_generate(csm, backend):
    """Alone and in one batch, on every backend."""
    model = UnifiedModel.from_pretrained(csm[0], backend=backend)
    assert model.decoder().backend == backend
    expected = [generated(csm[1], prompt(model, text)) for text in TEXTS]
    requests = [request(model, text) for text in TEXTS]
    for codes, theirs in zip(spoken(model, requests, GREEDY), expected):
        assert codes.tolist() == theirs.tolist()
    assert spoken(model, requests[1:], GREEDY)[0].tolist() == expected[1].tolist()
    assert len(np.unique(expected[0])) > CODES // 2


def test_sampled_codes_are_those_of_generate_given_the_same_noise(csm, model, monkeypatch):
    """transformers' multinomial draws with the noise that the engine has at each id."""
    hf, ids = csm[1], prompt(model, TEXTS[0])
    noise, drawn = Noise(5), []

    def multinomial(probabilities, num_samples):
        numbers = noise.exponential(len(ids) + len(drawn), CODES)
        drawn.append(int((probabilities[0, :CODES].double().numpy() / numbers).argmax()))
        return torch.tensor([[drawn[-1]]])

    monkeypatch.setattr(torch, "multinomial", multinomial)
    options = {"do_sample": True, "temperature": 0.9, "top_k": 6}
    theirs = generated(
        hf, ids, **options, **{f"depth_decoder_{name}": value for name, value in options.items()}
    )
    sampling = replace(GREEDY, audio=SpanSampling(0.9, top_k=6))
    (codes,) = spoken(model, [request(model, TEXTS[0], seed=5)], sampling)
    assert len(drawn) == LEVELS * FRAMES
    assert codes.tolist() == theirs.tolist()
    (greedy,) = spoken(model, [request(model, TEXTS[0])], GREEDY)
    assert (codes != greedy).any()


def test_turns_with_recordings_are_read_as_transformers_reads_them(csm, model):
    """Text and sound of two speakers before the text to be read: the same codes follow."""
    hf, tokens = csm[1], model.text_tokenizer.tokens
    rng = np.random.default_rng(0)
    hop = model.audio_tokenizer.hop
    sounds = [rng.normal(0, 0.3, (1, frames * hop)).astype(np.float32) for frames in (4, 3)]
    before, ids = [], []
    for text, sound in zip(TEXTS, sounds):
        coded = model.sequencer.code_segment(Audio(sound, model.audio_tokenizer.sample_rate))
        before += [CodedText(tuple(model.text_tokenizer.encode(text))), coded]
        frames = coded.codes.shape[1]
        ids += [*prompt(model, text), *[tokens["<|AUDIO|>"]] * frames, tokens["<|audio_eos|>"]]
    ids += prompt(model, "[0]a fox")
    theirs = generated(
        hf, ids, input_values=torch.from_numpy(np.concatenate(sounds, 1))[None],
        input_values_cutoffs=torch.tensor([[4 * hop, 7 * hop]]),
    )  # fmt: skip
    (codes,) = spoken(model, [request(model, "[0]a fox", before)], GREEDY)
    assert codes.tolist() == theirs.tolist()
    assert codes.tolist() != spoken(model, [request(model, "[0]a fox")], GREEDY)[0].tolist()


def test_a_document_of_turns_is_spoken(model):
    sound = np.random.default_rng(1).normal(0, 0.3, (1, 400)).astype(np.float32)
    rate = model.audio_tokenizer.sample_rate
    document = Document((Text("[0]a fox"), Audio(sound, rate), Text("[1]an owl"), Slot("audio")))
    (done,) = model.generate(document, sampling=replace(model.sampling, max_audio_frames=3))
    assert [type(segment) for segment in done.segments] == [Text, Audio, Text, Audio]
    assert np.isfinite(done.segments[-1].waveform).all()


def test_its_sound_is_decoded_by_the_codec_inside(csm, model):
    waveform, rate = model.speak("a fox", voice="1", sampling=replace(GREEDY, max_audio_frames=4))
    codes = generated(csm[1], prompt(model, "[1]a fox"))[:4]
    with torch.no_grad():
        expected = csm[1].codec_model.decode(torch.from_numpy(codes.T.copy())[None]).audio_values
    assert rate == 16_000
    assert np.allclose(waveform, expected[0].numpy().clip(-1, 1), atol=1e-5)


@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.slow), "bfloat16"])
def test_saves_in_its_own_layout_and_reopens(csm, model, dtype, tmp_path):
    folder = tmp_path / "saved"
    model.save_pretrained(folder, dtype=dtype)
    hf, report = type(csm[1]).from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    again = UnifiedModel.from_pretrained(folder)
    assert again.vocabulary.hash == model.vocabulary.hash
    assert again.tasks == model.tasks
    assert again.audio_tokenizer.fingerprint == model.audio_tokenizer.fingerprint
    assert json.loads((folder / "unified.json").read_text())["codes"] == {"output": "model"}
    expected = generated(hf.float().eval(), prompt(model, TEXTS[0]))
    again = UnifiedModel.from_pretrained(folder, dtype="float32")
    (codes,) = spoken(again, [request(again, TEXTS[0])], GREEDY)
    assert codes.tolist() == expected.tolist()
    if dtype == "float32":
        (folder / "unified.json").unlink()
        assert UnifiedModel.from_pretrained(folder).vocabulary.hash == model.vocabulary.hash


@pytest.mark.slow
def test_changed_weights_are_followed_on_every_backend(csm):
    texts = TEXTS[0]
    changed = []
    for backend in BACKENDS:
        model = UnifiedModel.from_pretrained(csm[0], backend=backend)
        before = spoken(model, [request(model, texts)], GREEDY)[0]
        with torch.no_grad():
            model.hf.depth_decoder.model.inputs_embeds_projector.weight.mul_(-1)
        changed.append(spoken(model, [request(model, texts)], GREEDY)[0].tolist())
        assert changed[-1] != before.tolist()
        assert changed[-1] == generated(model.hf.float().eval(), prompt(model, texts)).tolist()
    assert changed[0] == changed[1] == changed[2]


@pytest.mark.slow
def test_tables_that_are_not_tied_and_quantized_weights(tmp_path):
    hf = make_csm(tmp_path / "two", tied=False)
    model = UnifiedModel.from_pretrained(tmp_path / "two")
    (codes,) = spoken(model, [request(model, TEXTS[0])], GREEDY)
    assert codes.tolist() == generated(hf, prompt(model, TEXTS[0])).tolist()
    quantized = UnifiedModel.from_pretrained(tmp_path / "two", dtype="int8")
    (other,) = spoken(quantized, [request(quantized, TEXTS[0])], GREEDY)
    assert (other[0] == codes[0]).mean() > 0.4  # rounding tips some, and all that follow on them


def test_it_writes_no_text(model):
    for verb in ("write", "draw", "listen", "describe", "ask"):
        with pytest.raises(ValueError, match=f"cannot {verb}: CSM"):
            model.tasks.task(verb)
    with pytest.raises(ValueError, match=r"head has rows of ids .* it reads id"):
        model.generate(Document((Text("[0]a"), Slot("text"))))


def _damage(folder, tensors, config):
    del tensors["depth_decoder.codebooks_head.weight"]


def _narrow(folder, tensors, config):
    config["depth_decoder_config"]["num_codebooks"] = 31


def _short(folder, tensors, config):
    tensors["embed_text_tokens.weight"] = tensors["embed_text_tokens.weight"][:-1].clone()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_damage, r"codebooks_head.weight is missing"),
        (_narrow, r"32 codebooks of 19 rows for the backbone, 31 of 19 for the depth decoder"),
        (_short, r"embed_text_tokens.weight has shape \(\d+, 32\), expected"),
    ],
)
def test_a_damaged_checkpoint_is_refused_by_name(csm, change, message, tmp_path):
    folder = tmp_path / "csm"
    shutil.copytree(csm[0], folder)
    tensors = load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    change(folder, tensors, config)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        UnifiedModel.from_pretrained(folder)
