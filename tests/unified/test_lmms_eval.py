"""lmms-eval: its messages and settings as requests of ours, and the task of documents.

What runs inside it is tested where it is installed (`pip install lmms-eval`).
"""

from __future__ import annotations

import json
import tomllib
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from unified.evaluation.interleaved_answers import read_interleaved, write_interleaved
from unified.evaluation.lmms_eval_requests import (
    answer_text,
    cut_at,
    read_messages,
    read_settings,
)
from unified.evaluation.lmms_tasks import interleaved_task
from unified.models.model import UnifiedModel
from unified_base.images import save_png
from unified_base.sounds import save_wav
from unified_base.structured import read_yaml
from unified_data.document import Audio, Document, Image, Text
from unified_data.pocket.subjects import find_subject

ROOT = Path(__file__).parents[2]
PIXELS = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
PICTURE = {"type": "image", "url": PillowImage.fromarray(PIXELS)}
SOUND = {"array": np.zeros(90), "sampling_rate": 8000, "path": None}


def words(text):
    return {"type": "text", "text": text}


def message(*content, role="user"):
    return {"role": role, "content": list(content)}


# Messages.


def test_a_picture_with_words_is_asked_about_and_without_described():
    asked = read_messages([message(PICTURE, words("Is there a cat?"))])
    assert (asked.verb, asked.inputs["question"]) == ("ask", "Is there a cat?")
    assert (asked.inputs["image"] == PIXELS).all()
    assert read_messages([message(PICTURE, words(" "))]).verb == "describe"
    # A picture of one channel becomes three.
    grey = {"type": "image", "url": PillowImage.new("L", (4, 3), 9)}
    assert read_messages([message(grey)]).inputs["image"].shape == (3, 4, 3)


def test_earlier_messages_become_turns():
    asked = read_messages(
        [message(PICTURE, words("What is it?")), message(words("a cat"), role="assistant"),
         message(words("How many?"))]
    )  # fmt: skip
    assert asked.inputs["question"] == "How many?"
    (turn,) = asked.inputs["turns"]
    assert (turn.question, turn.answer) == ("What is it?", "a cat")


def test_a_sound_is_written_down_and_its_words_are_not_left_out_in_silence():
    # As lmms-eval's own messages have a sound of a data set.
    sound = {"type": "video", "url": SOUND}
    heard = read_messages([message(sound, words(""))])
    assert heard.verb == "listen"
    assert heard.inputs["audio"].waveform.shape == (1, 90)
    with pytest.raises(ValueError, match="listen=True"):
        read_messages([message(sound, words("Write down what is said."))])
    request = [message(sound, words("Write down what is said."))]
    assert read_messages(request, write_down=True).verb == "listen"
    assert read_messages(request, asks_of_sound=True).verb == "ask"


def test_files_are_read_and_words_alone_are_written_to(tmp_path):
    save_png(tmp_path / "p.png", PIXELS)
    save_wav(tmp_path / "s.wav", np.zeros((1, 80), np.float32), 8000)
    asked = read_messages(
        [message({"type": "image", "url": str(tmp_path / "p.png")}, words("What?"))]
    )
    assert (asked.inputs["image"] == PIXELS).all()
    heard = read_messages([message({"type": "audio", "url": str(tmp_path / "s.wav")})])
    assert heard.inputs["audio"].sample_rate == 8000
    written = read_messages([message(words("The fox"))])
    assert (written.verb, written.inputs) == ("write", {"text": "The fox"})


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([message(PICTURE, PICTURE, words("Same?"))], "has 2 media"),
        ([message({"type": "video", "url": "a.mp4"})], "is 'video'"),
        (
            [message(words("Be kind"), role="system"), message(words("Hello"))],
            "a message of 'system'",
        ),
        ([message(words("Hi"), role="assistant")], "does not end with a user's"),
        ([message(words(""))], "the message is empty"),
        ([], "does not end"),
        ([message({"type": "image", "url": 3})], "a picture is int"),
    ],
)
def test_what_no_verb_takes_is_refused(messages, reason):
    with pytest.raises(ValueError, match=reason):
        read_messages(messages)


def test_settings_become_choices_and_what_is_left_is_told():
    choices, until, left = read_settings(
        {"max_new_tokens": 16, "temperature": 0, "top_p": None, "num_beams": 1, "until": ["\n"],
         "do_sample": False, "modality": "x"}
    )  # fmt: skip
    assert choices == {"max_text_ids": 16, "temperature": 0.0}
    assert until == ("\n",)
    assert left == ["modality"]
    choices, _, _ = read_settings({"temperature": 0.7, "top_p": 0.9, "do_sample": True})
    assert choices == {"temperature": 0.7, "top_p": 0.9}
    with pytest.raises(ValueError, match="no beam search"):
        read_settings({"num_beams": 4})
    assert cut_at("a cat\nand more", until) == "a cat"


# Answers.


def test_a_document_with_media_is_one_text_that_reads_back(tmp_path):
    picture = Image(PIXELS, role="response")
    sound = Audio(np.zeros((1, 80), np.float32), 8000, role="response")
    document = Document(
        (Text("The fox", "prompt"), Text("# The fox", "response"), sound, Text("A fox", "response"),
         picture)
    )  # fmt: skip
    save_png(tmp_path / "a.png", PIXELS)
    save_wav(tmp_path / "b.wav", sound.waveform, 8000)
    parts = answer_text(document, (), lambda each: "a.png" if each is picture else "b.wav")
    answer = read_interleaved(write_interleaved(parts), tmp_path)
    assert [type(each) for each in answer] == [Text, Audio, Text, Image]
    assert (answer[3].pixels == PIXELS).all()
    assert answer_text(Document((Text("x"), Text("a cat\nb"))), ("\n",), None) == "a cat"


def test_answers_of_models_that_draw_are_read_as_lmms_eval_has_them(tmp_path):
    for name in ("a.png", "b.png"):
        save_png(tmp_path / name, PIXELS)

    def kinds(text, images):
        answer = json.dumps({"text": text, "images": images})
        return [type(each) for each in read_interleaved(answer, tmp_path)]

    assert kinds("one <image> two <image>", ["a.png", "b.png"]) == [Text, Image, Text, Image]
    assert kinds("one and two", ["a.png", "b.png"]) == [Text, Image, Image]
    assert [type(each) for each in read_interleaved("plain words")] == [Text]
    assert read_interleaved("") == []
    for answer in ('{"text": "one <image>", "images": []}', '{"segments": [3]}', '{"a": 1}', "{"):
        with pytest.raises(ValueError):
            read_interleaved(answer)


# The task of documents.


def test_the_task_asks_for_subjects_of_the_world_and_scores_what_it_reads(tmp_path):
    folder = Path(interleaved_task.__file__).parent
    lines = Path(interleaved_task.DATA_FILES["test"]).read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 24
    assert {row["images"] for row in rows} == {1, 2, 3}
    text = (folder / "interleaved_documents.yaml").read_text().replace("!function ", "")
    (tmp_path / "task.yaml").write_text(text)
    task = read_yaml(tmp_path / "task.yaml")
    for value in (task["doc_to_text"], task["doc_to_visual"], task["process_results"]):
        module, name = value.split(".")
        assert callable(getattr(import_module(f"unified.evaluation.lmms_tasks.{module}"), name))
    for kind, prompt in task["lmms_eval_specific_kwargs"].items():
        asked = interleaved_task.doc_to_text(rows[1], prompt)
        assert find_subject(rows[1]["subject"]).name in asked, kind
        assert str(rows[1]["images"]) in asked
    metrics = [each["metric"] for each in task["metric_list"]]
    doc = {"subject": "fox", "images": 1, "sounds": 0}
    save_png(tmp_path / "a.png", PIXELS)
    parts = [words("# The fox\n\n![a fox]"), {"type": "image", "url": str(tmp_path / "a.png")}]
    scores = interleaved_task.process_results(doc, [write_interleaved(parts)])
    assert list(scores) == metrics
    assert scores == dict.fromkeys(metrics, 1.0) | {"sound_says_text": 0.0}
    assert set(interleaved_task.process_results(doc, ["{"]).values()) == {0.0}
    scores = interleaved_task.process_results(doc, [write_interleaved(parts[:1])])
    assert scores["number"] == scores["subject"] == scores["as_asked"] == 0


# Inside lmms-eval.


@pytest.fixture
def lmms_eval(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return pytest.importorskip("lmms_eval", reason="lmms-eval is not installed")


def test_the_entry_point_names_the_manifest():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    entry = project["entry-points"]["lmms_eval.models"]["unified"]
    module, name = entry.split(":")
    source = (ROOT / (module.replace(".", "/") + ".py")).read_text("utf-8")
    assert f"def {name}(" in source


class Asked:
    """A request, as lmms-eval's Instance holds its arguments."""

    def __init__(self, *args):
        self.args = args


def test_its_classes_answer_requests(lmms_eval, request):
    cli_model = request.getfixturevalue("cli_model")  # made only where it is needed
    from lmms_eval.models.registry_v2 import ModelRegistryV2

    from unified.evaluation.lmms_eval_model import manifest

    registry = ModelRegistryV2()
    registry.register_manifest(manifest())
    docs = [{"picture": PICTURE["url"], "question": text} for text in ("Is there a cat?", "")]
    settings = {"max_new_tokens": 4, "temperature": 0}

    def visual(doc):
        return [doc["picture"]]

    def messages(doc):
        return [message(PICTURE, words(doc["question"]))]

    model = UnifiedModel.from_pretrained(cli_model)
    expected = [model.ask(PIXELS, docs[0]["question"], temperature=0.0, max_text_ids=4),
                model.describe(PIXELS, temperature=0.0, max_text_ids=4)]  # fmt: skip
    chat = registry.get_model_class("unified")(pretrained=str(cli_model), batch_size=3)
    chat.task_dict = {"made": {"test": docs}}
    asked = [Asked("", messages, settings, i, "made", "test") for i in range(2)]
    assert chat.generate_until(asked) == expected
    simple = registry.get_model_class("unified", force_simple=True)(pretrained=str(cli_model))
    simple.task_dict = chat.task_dict
    asked = [Asked(d["question"], settings, visual, i, "made", "test") for i, d in enumerate(docs)]
    assert simple.generate_until(asked) == expected
    with pytest.raises(ValueError, match="took none of 1 requests"):
        simple.generate_until([Asked("", settings, lambda doc: [], 0, "made", "test")])
    pairs = simple.loglikelihood(
        [Asked("Is there a cat?", text, visual, 0, "made", "test") for text in ("a", "a cat")]
    )
    (first, _), (both, _) = (pair.text for pair in pairs)
    assert both < first < 0
