"""Tasks: how a model is asked, as data, and the documents they make."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified.engine.request import Sampling
from unified.engine.sampler import Guidance, SpanSampling
from unified.formats.coded import CodedImage
from unified.formats.load import load_format, shipped_formats
from unified.tasks.asking import Inputs, Turn, ask_document, segments_of
from unified.tasks.defaults import default_tasks, in_words, pocket_forms
from unified.tasks.settings import read_settings, sampling_over
from unified.tasks.size_rule import SizeRule
from unified.tasks.task import MediaPart, Refusal, SlotPart, Task, TextPart
from unified.tasks.task_file import parse_tasks, write_tasks
from unified.tasks.task_table import Tasks
from unified.tasks.template import fill, placeholders_of
from unified_data.document import Audio, Document, Image, Slot, Text

PIXELS = np.full((24, 48, 3), 7, np.uint8)
SOUND = Audio(np.zeros((1, 160), np.float32), 16_000)
DRAW = Task(
    "draw",
    (TextPart("A picture of {text}.", "prompt"), SlotPart("image", "response")),
    size=SizeRule((32, 16), multiple_of=8, max_area=1024),
)


# Templates.


@given(st.text(), st.text())
def test_a_users_words_are_put_in_verbatim(before, words):
    template = before.replace("{", "{{").replace("}", "}}") + "{text}"
    assert fill(template, {"text": words}) == before + words


def test_the_placeholders_of_a_template_in_order():
    assert placeholders_of("{voice}: {{x}} {text}") == ("voice", "text")
    with pytest.raises(KeyError, match="voice"):
        fill("{voice}: {text}", {"text": "a", "voice": None})


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{txt}", "placeholder 'txt', expected one of text"),
        ("{text!r}", "placeholder 'text!r'"),
        ("{text:>9}", "placeholder 'text:>9'"),
        ("{}", "placeholder ''"),
        ("a { b", "{ that belongs to no placeholder; write {{"),
        ("a } b", "} that belongs to no placeholder; write }}"),
    ],
)
def test_a_template_that_is_none_is_refused(template, message):
    with pytest.raises(ValueError, match="placeholder") as error:
        placeholders_of(template)
    assert message in str(error.value)


# Documents.


def test_a_request_and_its_training_document_differ_in_the_slot_alone():
    asked = ask_document(DRAW, Inputs(text="a {cat}", size="16x8"))
    assert asked == Document(
        (
            Text("A picture of a {cat}.", "prompt", 0.0),
            Slot("image", height=8, width=16, role="response"),
        )
    )
    answered = ask_document(DRAW, Inputs(text="a {cat}"), Image(PIXELS))
    assert answered.segments[0] == asked.segments[0]
    assert answered.segments[1] == Image(PIXELS, "response")


def test_media_in_codes_stay_codes():
    picture = CodedImage(np.zeros((1, 2, 3), int))
    task = pocket_forms().task("describe")
    given_, answer = segments_of(task, Inputs(image=picture), "a cat")
    assert given_ == CodedImage(picture.codes, "prompt", 0.0)
    assert answer == Text("a cat", "response")
    _, drawn = segments_of(pocket_forms().task("draw"), Inputs(text="a cat"), picture)
    assert drawn == CodedImage(picture.codes, "response")


def test_the_forms_of_the_pocket_world_are_those_of_its_training():
    from unified_data.pocket import tasks as world

    forms = pocket_forms(SizeRule((96, 96), fixed=True))
    picture, answer = Image(PIXELS), Slot("text")
    asked = {
        "draw": (Inputs(text="a cat"), world.draw_document("a cat", world.image_slot())),
        "describe": (Inputs(image=PIXELS), world.describe_document(picture, answer)),
        "ask": (
            Inputs(image=PIXELS, question="Who?"),
            world.ask_document(picture, [("Who?", answer)]),
        ),
        "speak": (
            Inputs(text="It is.", voice="ben"),
            world.speak_document("It is.", "ben", Slot("audio")),
        ),
        "listen": (Inputs(audio=SOUND), world.listen_document(SOUND, answer)),
    }
    for verb, (inputs, expected) in asked.items():
        assert forms.document(verb, inputs) == expected, verb


def test_turns_are_laid_out_as_the_last_question_is():
    task = in_words().task("ask")
    inputs = Inputs(image=PIXELS, question="And?", turns=(Turn("What?", "A cat."),))
    roles = [
        (segment.role, getattr(segment, "text", None)) for segment in segments_of(task, inputs)
    ]
    assert roles == [
        ("prompt", None), ("prompt", "What?"), ("response", "A cat."), ("prompt", "And?"),
        ("response", None),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="turns are of questions"):
        segments_of(DRAW, Inputs(text="a", turns=(Turn("b", "c"),)))


def test_otherwise_stands_where_a_placeholder_has_no_value():
    tasks = in_words()
    texts = [
        segments_of(tasks.task("speak"), Inputs(text="Hi", voice=v))[0].text for v in ("x", None)
    ]
    assert texts == ["Read aloud as x: Hi", "Read aloud: Hi"]
    article = ask_document(tasks.task("write"), Inputs(text="Owls", images=2, sounds=0))
    assert article.segments[0].text == "Write an illustrated article with 2 pictures: Owls"
    assert article.segments[1] == Slot("any", num_images=2, num_audios=0, role="response")


SPEAK = Task(
    "speak", (TextPart("{voice}: {text}"), SlotPart("audio")), voices=("tara", "Leo"), voice="tara"
)


def test_voices_are_those_of_the_task():
    assert segments_of(SPEAK, Inputs(text="Hi"))[0].text == "tara: Hi"
    assert segments_of(SPEAK, Inputs(text="Hi", voice="leo"))[0].text == "Leo: Hi"


@pytest.mark.parametrize(
    ("task", "inputs", "message"),
    [
        (SPEAK, Inputs(text="Hi", voice="ben"), "no voice 'ben', expected one of tara, Leo"),
        (SPEAK, Inputs(text="Hi", size="8x8"), "to speak makes no pictures"),
        (SPEAK, Inputs(), "text is None, expected words to speak"),
        (SPEAK, Inputs(text="  "), "the text is empty"),
        (SPEAK, Inputs(text="a" * 16_001), "expected at most 16,000"),
        (SPEAK, Inputs(text="Hi", question="Why?"), "to speak takes no question"),
        (SPEAK, Inputs(text="Hi", image=PIXELS), "to speak takes no picture"),
        (DRAW, Inputs(text="a cat", voice="ben"), "nothing here says whose voice"),
        (DRAW, Inputs(text="a cat", size="9x9"), "pictures of 9x9 cannot be had here"),
        (DRAW, Inputs(text="a cat", images=2), "images is of articles"),
        (in_words().task("describe"), Inputs(), "to describe needs a picture"),
        (in_words().task("describe"), Inputs(image=SOUND), "image is Audio"),
        (in_words().task("write"), Inputs(text="a", images=-1), "images is -1"),
        (Task("speak", (TextPart("{voice} {text}"), SlotPart("audio"))), Inputs(text="a"),
         "voice is missing"),
        (Refusal("listen", "it has no ears; read to it"), Inputs(), "it has no ears"),
    ],
)  # fmt: skip
def test_inputs_that_a_task_cannot_take_are_refused(task, inputs, message):
    with pytest.raises(ValueError) as error:
        segments_of(task, inputs)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("a cat", "the answer holds text, expected image"),
        ([], "the answer holds no segments"),
        ([Image(PIXELS)] * 2, "segments of the answer is 2, expected 1: image"),
        (Slot("image"), "the answer holds a Slot"),
    ],
)
def test_an_answer_of_another_kind_is_refused(answer, message):
    with pytest.raises(ValueError, match=message):
        segments_of(DRAW, Inputs(text="a cat"), answer)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"parts": (TextPart("{text}"),)}, "0 slots, expected one or more, as its last parts"),
        ({"parts": (SlotPart("image"), TextPart("{text}"))}, "as its last parts"),
        ({"parts": (TextPart("{text}"), SlotPart("audio"))}, "to draw makes image"),
        ({"parts": (TextPart("a cat"), SlotPart("image"))}, "draw has nothing of a user's"),
        ({"parts": (TextPart("{text} {voice}"), SlotPart("image"))}, "{voice} means nothing"),
        (
            {"parts": (MediaPart("image"), TextPart("{text}"), SlotPart("image"))},
            "a picture and {text} of a user's, expected {text} or a sound",
        ),
        ({"voice": "ben"}, "voices are named, but no part has {voice}"),
        ({"sampling": {"image": {"temprature": 1}}}, "did you mean image.temperature"),
        ({"sampling": {"max_ids": 0}}, "max_ids is 0"),
        ({"sampling": 3}, "sampling is 3"),
        ({"verb": "paint"}, "verb is 'paint'"),
    ],
)
def test_a_task_that_does_not_hold_together_is_refused(entries, message):
    with pytest.raises(ValueError) as error:
        Task(**{"verb": "draw", "parts": DRAW.parts, **entries})
    assert message in str(error.value)


# Tables of tasks.


def test_what_nothing_is_said_of_is_refused_with_what_there_is():
    tasks = Tasks({"draw": DRAW, "listen": Refusal("listen", "it has no ears")})
    assert tasks.able == ("draw",)
    with pytest.raises(ValueError, match="cannot listen: it has no ears; what it can do: draw"):
        tasks.task("listen")
    with pytest.raises(ValueError, match="nothing says how this model is asked to write"):
        tasks.task("write")
    with pytest.raises(ValueError, match="'paint' is no verb"):
        tasks.task("paint")
    with pytest.raises(ValueError, match="under speak stands a task to draw"):
        Tasks({"speak": DRAW})


def test_media_that_a_model_lacks_refuse_the_tasks_that_need_them():
    missing = {("image", "make"): "no decoder", ("audio", "read"): "deaf"}
    assert in_words().without_media(missing).task("draw").slot.kind == "video"
    tasks = in_words().without_media(missing | {("video", "make"): "no decoder"})
    assert tasks.able == ("write", "describe", "ask", "ground", "speak")
    assert tasks["draw"] == Refusal("draw", "no decoder")


@pytest.mark.parametrize("name", shipped_formats())
def test_every_format_has_tasks_for_its_media_alone(name):
    format = load_format(name)
    tasks = default_tasks(format, SizeRule(multiple_of=8))
    has = {span.modality for span in format.spans.values()}
    assert ("draw" in tasks.able) == ("image" in has)
    assert ("speak" in tasks.able) == ("audio" in has)
    for verb in tasks.able:
        roles = {part.role for part in tasks.task(verb).parts}
        assert roles <= (set(format.roles) or {None})
    assert parse_tasks(write_tasks(tasks)) == tasks


# Settings.


def test_settings_take_the_place_of_some_parameters():
    base = Sampling(image=SpanSampling(0.7, guidance=Guidance(1.0, "three-way", 2.0)))
    settings_ = {"image": {"guidance": 3.0}, "image.top_k": 9, "max_ids": 99, "music.top_p": 0.5}
    over = sampling_over(base, settings_, {"music": "audio"})
    assert over.image == SpanSampling(0.7, top_k=9, guidance=Guidance(3.0, "three-way", 2.0))
    assert (over.max_ids, over.text, over.audio) == (99, base.text, base.audio)
    assert over.spans == {"music": SpanSampling(0.7, top_p=0.5)}


def test_settings_of_the_command_line_are_typed_as_yaml_is():
    texts = ["image.temperature=0.5", "image.top_k=", "image.guidance.scale=2", "stop=[a, b]"]
    with pytest.raises(ValueError, match=r"expected KIND\.KEY=VALUE"):
        read_settings(texts)
    read = read_settings([texts[0], texts[2], texts[3], "image.top_k=null"])
    over = sampling_over(Sampling(), read, {})
    assert over.image == SpanSampling(0.5, guidance=Guidance(2.0))
    assert over.stop == ("a", "b")


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"image.temperatur": 1}, "did you mean image.temperature?"),
        ({"imge.temperature": 1}, "did you mean image?"),
        ({"image": 1}, "setting image is 1, expected image.KEY"),
        ({"mx_ids": 1}, "did you mean max_ids?"),
        ({"image.guidance.scal": 1}, "did you mean image.guidance.scale?"),
        ({"image.temperature": "hot"}, "'hot'"),
        ({"image.temperature": -1}, "temperature is -1"),
        ({"max_ids": 1.5}, "max_ids is 1.5"),
        ({"max_ids": 1, "max_ids.x": 2}, "inside max_ids, which is one value"),
        ({"audio": {"top_k": 1}, "audio.top_k": 2}, "stands twice"),
        ({3: 1}, "a setting is named 3"),
    ],
)
def test_a_setting_that_there_is_not_is_refused_with_the_nearest(settings_, message):
    with pytest.raises(ValueError) as error:
        sampling_over(Sampling(), settings_, {})
    assert message in str(error.value)
