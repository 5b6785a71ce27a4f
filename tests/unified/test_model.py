"""The unified model: loading checks, streaming, and what people do with it."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_model import DECODER, TEXT, media
from transformers import Qwen3ForCausalLM

from unified import Sampling, SpanSampling, TextTokenizer, UnifiedModel
from unified.engine.backends.cpu.decoder import LlamaCpuDecoder
from unified.engine.events import (
    AudioDone,
    AudioFrame,
    Done,
    Dropped,
    ImageBegun,
    ImageDone,
    ImageRow,
    TextPiece,
)
from unified.formats.load import load_format
from unified.sequence.sequencer import Sequencer
from unified.tasks.task import SlotPart, Task, TextPart
from unified.tasks.task_table import Tasks
from unified.vocabulary.vocabulary import VocabularyMismatchError
from unified_data.document import Audio, Document, Image, Slot, Text

WARM = SpanSampling(1.0)
FREE = Sampling(WARM, WARM, WARM)


@pytest.fixture(scope="module")
def model():
    model = UnifiedModel.create(DECODER, text_tokenizer=TEXT, **media(), max_grid=9)
    torch.manual_seed(1)
    for parameter in model.hf.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    import shutil

    return Path(shutil.copytree(saved, tmp_path / "copy"))


MIXED = Document(
    (
        Text("![a cat]", "prompt"),
        Slot("image", 24, 36, role="response"),
        Slot("text", role="response"),
        Slot("audio", role="response"),
        Text("end", "response"),
    )
)


def test_a_loaded_model_generates_what_the_saved_one_did(model, saved):
    loaded = UnifiedModel.from_pretrained(saved)
    assert loaded.directory == saved
    assert loaded.generate(MIXED, n=2, sampling=FREE) == model.generate(MIXED, n=2, sampling=FREE)
    assert loaded.vocabulary == model.vocabulary
    assert loaded.grammar.source == model.grammar.source


def test_the_saved_decoder_is_a_plain_causal_lm(model, saved):
    hf = UnifiedModel.from_pretrained(saved).hf
    assert type(hf) is Qwen3ForCausalLM
    ids = torch.tensor([[1, 5, 280]])
    torch.testing.assert_close(hf(ids).logits, model.hf(ids).logits)


@pytest.mark.parametrize("bars", [True, False])
def test_loading_and_saving_draw_no_bars_and_leave_the_users_choice(saved, tmp_path, capsys, bars):
    from transformers.utils import logging

    before = logging.is_progress_bar_enabled()
    (logging.enable_progress_bar if bars else logging.disable_progress_bar)()
    try:
        UnifiedModel.from_pretrained(saved).hf.requires_grad_(False)
        UnifiedModel.from_pretrained(saved).save_pretrained(tmp_path / "again")
        assert logging.is_progress_bar_enabled() == bars
    finally:
        (logging.enable_progress_bar if before else logging.disable_progress_bar)()
    assert capsys.readouterr() == ("", "")


def test_bfloat16_storage_halves_the_file_and_the_decoder_keeps_its_type(model, saved, tmp_path):
    model.save_pretrained(tmp_path / "half", dtype="bfloat16")
    sizes = [(f / "model.safetensors").stat().st_size for f in (saved, tmp_path / "half")]
    assert sizes[1] < 0.6 * sizes[0]
    decoder = UnifiedModel.from_pretrained(tmp_path / "half").decoder()
    weight = model.hf.get_input_embeddings().weight.detach()
    assert isinstance(decoder, LlamaCpuDecoder)
    assert decoder.arithmetic.split()[0] == "bfloat16"
    embeddings = decoder.embed(range(len(weight)))
    np.testing.assert_array_equal(embeddings, weight.bfloat16().float().numpy())
    assert {p.dtype for p in model.hf.parameters()} == {torch.float32}


def test_tokenizers_stored_in_bfloat16_keep_their_fingerprint(tmp_path):
    parts = media(4)
    for name, tokenizer in parts.items():
        for parameter in tokenizer.parameters():
            parameter.data = parameter.data.bfloat16().float()
        tokenizer.save_pretrained(tmp_path / name, dtype=torch.bfloat16)
    model = UnifiedModel.create(DECODER, text_tokenizer=TEXT, **parts)
    model.save_pretrained(tmp_path / "model")
    for name in parts:
        stored = (tmp_path / "model" / name / "model.safetensors").stat().st_size
        assert stored == (tmp_path / name / "model.safetensors").stat().st_size
    UnifiedModel.from_pretrained(tmp_path / "model")


def test_saving_again_keeps_files_of_others_and_leaves_nothing_beside(model, tmp_path):
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "subjects.json").write_text("[]")
    for _ in range(2):
        model.save_pretrained(folder)
    assert (folder / "subjects.json").read_text() == "[]"
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_streaming_tells_what_generation_returns(model):
    (document,) = model.generate(MIXED, seed=3, sampling=FREE)
    events = list(model.stream([MIXED], FREE, seeds=[3]))
    done = events[-1]
    assert isinstance(done, Done)
    assert done.document == document
    assert document.segments[0] == MIXED.segments[0]
    assert document.segments[-1] == MIXED.segments[-1]
    image, text, audio = document.segments[1:4]
    assert isinstance(image, Image)
    assert image.pixels.shape == (24, 36, 3)
    assert text.text == "".join(e.text for e in events if isinstance(e, TextPiece))
    assert [e.image for e in events if isinstance(e, ImageDone)] == [image]
    assert [(e.height, e.width) for e in events if isinstance(e, ImageBegun)] == [(24, 36)]
    assert [e.y for e in events if isinstance(e, ImageRow)] == [0, 1]
    assert [e.audio for e in events if isinstance(e, AudioDone)] == [audio]
    frames = [e for e in events if isinstance(e, AudioFrame)]
    assert frames[-1].seconds == audio.waveform.shape[1] / audio.sample_rate
    model.grammar.validate(done.ids)
    assert model.sequencer.decode(done.ids).segments[1:4] == (image, text, audio)
    assert set(done.timings) == {"first_id", "total", "decode"}


def test_rows_of_a_stream_are_those_of_single_documents(model):
    other = Document((Slot("any", num_images=1, height=12, width=12),))
    events = model.stream([MIXED, other, MIXED], FREE, seeds=[0, 5, 1])
    documents = {e.row: e.document for e in events if isinstance(e, Done)}
    assert documents[1] == model.generate(other, seed=5, sampling=FREE)[0]
    assert [documents[0], documents[2]] == model.generate(MIXED, n=2, seed=0, sampling=FREE)


def test_bytes_that_are_no_text_are_reported(model):
    document = Document((Slot("text"),))
    sampling = Sampling(text=WARM, max_ids=60)
    events = list(model.stream([document] * 4, sampling))
    for row in range(4):
        (done,) = (e for e in events if isinstance(e, Done) and e.row == row)
        lost = done.document.segments[0].text.count("\ufffd")
        reasons = [e.reason for e in events if isinstance(e, Dropped) and e.row == row]
        assert len(reasons) == (lost > 0)
        assert all(reason.startswith(f"{lost} places") for reason in reasons)


def test_documents_that_cannot_be_sampled_are_refused(model):
    with pytest.raises(ValueError, match="no slot"):
        model.generate(Document((Text("a"),)))
    with pytest.raises(ValueError, match="multiples of 12"):
        model.generate(Document((Slot("image", 25, 36),)))
    with pytest.raises(ValueError, match="too small"):
        model.generate(Document((Slot("image", 24, 36),)), sampling=Sampling(max_ids=9))
    with pytest.raises(ValueError, match="decoder has 260 positions"):
        model.generate(MIXED, sampling=Sampling(max_ids=261))
    with pytest.raises(ValueError, match="n is 0"):
        model.generate(MIXED, n=0)
    with pytest.raises(ValueError, match="2 documents but 1 seeds"):
        list(model.stream([MIXED] * 2, seeds=[1]))


def test_the_things_people_do_give_media_and_text(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pictures = model.draw("a cat", n=2, seed=1, size="36x24")
        assert [p.shape for p in pictures] == [(24, 36, 3)] * 2
        assert np.array_equal(pictures[1], model.draw("a cat", seed=2, size=(36, 24))[0])
        assert max(model.draw("a cat")[0].shape) <= 9 * 12  # as large as the model likes
        waveform, rate = model.speak("a dog", voice="amy", sampling=FREE)
        assert waveform.shape[0] == 1
        assert rate == 16_000
        assert model.describe(pictures[0], sampling=FREE)
        answer = model.describe(pictures[0], "is it red?", sampling=FREE)
        assert answer == model.ask(pictures[0], "is it red?", sampling=FREE)
        assert model.listen(waveform, rate, sampling=FREE)
    with pytest.warns(UserWarning, match="a text reached its budget"):
        assert model.sample(MIXED, sampling=FREE) == model.generate(MIXED, sampling=FREE)


def test_media_of_other_shapes_are_fitted_and_said_so(model):
    with pytest.warns(UserWarning, match="50x30 was fitted into 48x24"):
        model.describe(np.zeros((30, 50, 3), np.uint8))
    with pytest.warns(UserWarning, match="400x200 was fitted into 108x48"):  # 9 codes of 12 pixels
        model.describe(np.zeros((200, 400, 3), np.uint8))
    with pytest.warns(UserWarning, match="resampled from 8,000 to 16,000 Hz"):
        model.listen(np.zeros(900, np.float32), 8_000)
    with pytest.warns(UserWarning, match="mixed down"):
        model.listen(np.zeros((2, 900), np.float32), 16_000)


def test_bad_requests_are_refused(model):
    with pytest.raises(ValueError, match="text is empty"):
        model.draw("  ")
    with pytest.raises(ValueError, match=r"pictures of 25x24 cannot be had .* nearest is 24x24"):
        model.draw("a", size="25x24")
    with pytest.raises(ValueError, match=r"did you mean image\.top_k"):
        model.draw("a", settings={"image.topk": 3})
    with pytest.raises(ValueError, match="there is no choice 'temprature'"):
        model.draw("a", temprature=3)
    with pytest.raises(ValueError, match="there is no guidance"):
        model.draw("a", negative="blurry")
    with pytest.raises(ValueError, match=r"NaN|finite"):
        model.listen(np.full(900, np.nan, np.float32), 16_000)


def edit(path, change):
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def test_parts_that_do_not_belong_together_are_refused(copy, saved, tmp_path):
    fingerprint = json.loads((saved / "unified.json").read_text())["vocabulary_hash"]

    edit(copy / "config.json", {"unified_vocabulary": "0" * 64})
    with pytest.raises(VocabularyMismatchError, match=f"{'0' * 64}.*{fingerprint}"):
        UnifiedModel.from_pretrained(copy)
    edit(copy / "config.json", {"unified_vocabulary": fingerprint})

    other = media(9)["image_tokenizer"]
    right = UnifiedModel.from_pretrained(saved).image_tokenizer.fingerprint
    other.save_pretrained(copy / "image_tokenizer")
    with pytest.raises(ValueError, match=f"{other.fingerprint}.*{right}"):
        UnifiedModel.from_pretrained(copy)
    media()["image_tokenizer"].save_pretrained(copy / "image_tokenizer")

    text = TextTokenizer.train(["other words, as many"], TEXT.size)
    text.save(copy)
    with pytest.raises(ValueError, match="text tokenizer has"):
        UnifiedModel.from_pretrained(copy)
    TEXT.save(copy)
    UnifiedModel.from_pretrained(copy)


def test_damaged_models_are_refused(copy, tmp_path):
    weights = copy / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        UnifiedModel.from_pretrained(copy)
    weights.write_bytes(whole)
    manifest = copy / "unified.json"
    before = manifest.read_text()
    vocabulary = json.loads(before)["vocabulary"]
    vocabulary["text_size"] -= 1
    edit(manifest, {"vocabulary": vocabulary})
    with pytest.raises(VocabularyMismatchError, match="changed by hand"):
        UnifiedModel.from_pretrained(copy)
    manifest.write_text(before[:-20])
    with pytest.raises(ValueError, match="is not JSON"):
        UnifiedModel.from_pretrained(copy)
    with pytest.raises(ValueError, match="no model 'nowhere'"):
        UnifiedModel.from_pretrained("nowhere")
    with pytest.raises(ValueError, match=r"has no unified\.json"):
        UnifiedModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("modality", ["image", "audio"])
def test_without_a_codec_its_medium_is_neither_sampled_nor_promised(model, modality):
    whole, other = model.sequencer, "audio" if modality == "image" else "image"
    sequencer = Sequencer(
        whole.vocabulary, whole.grammar, TEXT,
        **{f"{other}_tokenizer": whole.tokenizer(other)},
    )  # fmt: skip
    without = UnifiedModel(sequencer, FREE, hf=model.hf)
    kind = Image if modality == "image" else Audio
    free = Document((Text("a cat"), Slot("any")))
    sampled = [[type(s) for s in done] for done in model.generate(free, 8, sampling=FREE)]
    assert any(kind in kinds for kinds in sampled)  # or what follows would show nothing
    for done in without.generate(free, 8):
        assert kind not in [type(segment) for segment in done]
    for slot in (Slot(modality), Slot("any", **{f"num_{modality}s": 1})):
        with pytest.raises(ValueError, match=f"no {modality} tokenizer"):
            next(iter(without.stream([Document((Text("a cat"), slot))])))
    media_of_it = {
        "image": (without.draw, lambda: without.describe(np.zeros((8, 8, 3), np.uint8))),
        "audio": (without.speak, lambda: without.listen(np.zeros(800, np.float32), 16_000)),
    }  # fmt: skip
    make, read = media_of_it[modality]
    for use in (lambda: make("a cat"), read):
        with pytest.raises(ValueError, match=f"no {modality} tokenizer"):
            use()


# How it is asked.


def test_tasks_and_plugin_are_saved_and_read_again(model, copy, tmp_path):
    assert UnifiedModel.from_pretrained(copy).tasks == model.tasks
    opened = UnifiedModel.from_pretrained(copy)
    draw = opened.tasks.task("draw")
    opened.tasks = opened.tasks.with_entries({"draw": replace(draw, example="a dog")})
    opened.save_pretrained(tmp_path / "again")
    again = UnifiedModel.from_pretrained(tmp_path / "again")
    assert again.tasks.task("draw").example == "a dog"
    assert again.plugin is None


def test_a_plugin_keeps_its_files_when_its_model_is_saved(cli_model, tmp_path):
    opened = UnifiedModel.from_pretrained(cli_model)
    opened.save_pretrained(tmp_path / "again")
    again = UnifiedModel.from_pretrained(tmp_path / "again")
    assert again.plugin == "pocket"
    with pytest.warns(UserWarning, match='drawn as "a cat on a pink ground"'):
        again.draw("a fluffy cat, pink background", size="96x96")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "version: 1\ntasks: {paint: 3}", "tasks.yaml: paint"),
        (lambda text: text.replace("{text}", "{txt}", 1), "placeholder 'txt'"),
        (lambda text: text.replace("example:", "exmple:", 1), "unknown key 'exmple'"),
        (lambda text: text + "  lisn: {refused: no}", "verb is 'lisn'"),
        (lambda text: text.replace("multiple_of: 12", "multiple_of: 0", 1), "multiple_of is 0"),
        (lambda text: text.replace("  draw:", "  draw:\n    sampling: {music: {top_k: 3}}", 1),
         "there is no setting 'music'"),
        (lambda text: text.replace("role: prompt", "role: user", 1), "role is 'user'"),
        (lambda text: "x: &a [*a]", "anchor"),
    ],
)  # fmt: skip
def test_a_folder_whose_tasks_are_none_is_refused(copy, change, message):
    path = copy / "tasks.yaml"
    path.write_text(change(path.read_text("utf-8")), "utf-8")
    with pytest.raises(ValueError, match=r"tasks\.yaml") as error:
        UnifiedModel.from_pretrained(copy)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("plugin", "message"),
    [("hocket", "there is no plug-in 'hocket', expected one of pocket"), (3, "plugin is 3"),
     ("", "plugin is ''")],
)  # fmt: skip
def test_a_plugin_that_nobody_has_is_refused(copy, plugin, message):
    edit(copy / "unified.json", {"plugin": plugin})
    with pytest.raises(ValueError, match=message):
        UnifiedModel.from_pretrained(copy)


def test_tasks_that_the_format_cannot_hold_are_refused(model):
    draw = Task("draw", (TextPart("{text}", "prompt"), SlotPart("image", "response")))
    with pytest.raises(ValueError, match="format emu3"):
        Tasks({"draw": draw}).check(load_format("emu3"))
    with pytest.raises(ValueError, match=r"tasks is \{\}, expected Tasks"):
        model.tasks = {}
