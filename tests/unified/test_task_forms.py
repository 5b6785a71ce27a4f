"""Tasks of several forms and slots: what is given chooses the form, thoughts stand apart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified.tasks.asking import Example, Inputs, Turn, ask_document, segments_of
from unified.tasks.parts import MediaPart, SlotPart, TextPart
from unified.tasks.response import response_of, split_thought
from unified.tasks.task import Task
from unified.tasks.task_file import parse_tasks, write_tasks
from unified.tasks.task_table import Tasks
from unified.world.world_tasks import world_tasks
from unified_data.document import Audio, Document, Image, Slot, Text
from unified_data.world import speech_tasks as speech
from unified_data.world import tasks as world

PIXELS = np.full((96, 96, 3), 7, np.uint8)
SOUND = Audio(np.zeros((1, 160), np.float32), 16_000)
TASKS = world_tasks()
PICTURE = Image(PIXELS, "prompt", 0.0)
TEXT, DRAWN = Slot("text", role="response"), Slot("image", 96, 96, role="response")


def prompt(words):
    return Text(words, "prompt", 0.0)


def test_requests_are_laid_out_as_the_worlds_training_documents():
    picture, answer = Image(PIXELS), Slot("text")
    asked = {
        "describe": (Inputs(image=PIXELS), world.describe_document(picture, answer)),
        "describe zh": (
            Inputs(image=PIXELS, language="zh"),
            world.describe_zh_document(picture, answer),
        ),
        "ask": (
            Inputs(image=PIXELS, question="Is there a fox?"),
            world.ask_document(picture, [("Is there a fox?", answer)]),
        ),
        "edit": (
            Inputs(image=PIXELS, text="Edit: remove the fox"),
            world.edit_document(picture, "Edit: remove the fox", DRAWN),
        ),
        "ask names": (
            Inputs(
                image=PIXELS,
                question="What is this?",
                examples=(Example("dax", PIXELS), Example("wug", PIXELS)),
            ),
            world.names_document([(picture, "dax"), (picture, "wug")], picture, answer),
        ),
        "speak": (
            Inputs(text="It is a fox.", voice="amy"),
            speech.speak_document("It is a fox.", "amy", answer, Slot("audio")),
        ),
        "speak picture": (
            Inputs(image=PIXELS),
            speech.say_picture_document(picture, "ben", answer, Slot("audio")),
        ),
        "listen": (Inputs(audio=SOUND), speech.listen_document(SOUND, answer)),
        "draw": (Inputs(audio=SOUND), speech.draw_spoken_document(SOUND, DRAWN)),
        "ask aloud": (
            Inputs(image=PIXELS, audio=SOUND),
            speech.ask_spoken_document(picture, SOUND, answer),
        ),
    }
    for name, (inputs, expected) in asked.items():
        assert TASKS.document(name.split()[0], inputs) == expected, name


@pytest.mark.parametrize(
    ("verb", "inputs", "segments"),
    [
        ("speak", Inputs(text="Hi"), (prompt("> (ben) Hi"), TEXT, Slot("audio", role="response"))),
        (
            "speak",
            Inputs(image=PIXELS, voice="Amy"),
            (PICTURE, prompt("> (amy)"), TEXT, Slot("audio", role="response")),
        ),
        ("draw", Inputs(audio=SOUND), (Audio(SOUND.waveform, 16_000, "prompt", 0.0),
                                       prompt("![]"), DRAWN)),
        ("ask", Inputs(image=PIXELS, audio=SOUND),
         (PICTURE, Audio(SOUND.waveform, 16_000, "prompt", 0.0), TEXT)),
    ],
)  # fmt: skip
def test_what_is_given_chooses_the_form(verb, inputs, segments):
    assert ask_document(TASKS.task(verb), inputs) == Document(segments)


@pytest.mark.parametrize(
    ("verb", "inputs", "message"),
    [
        ("describe", Inputs(image=PIXELS, language="fr"), "'fr', expected one of en, zh"),
        ("listen", Inputs(audio=SOUND, language="zh"), "to listen is asked for in one form"),
        ("draw", Inputs(text="a cat", audio=SOUND), "it takes text, or audio"),
        ("draw", Inputs(), "expected words to draw"),
        ("speak", Inputs(image=PIXELS, voice="zoe"), "no voice 'zoe'"),
        ("draw", Inputs(text="a cat", examples=(Example("dax", PIXELS),)), "after examples here"),
        ("ask", Inputs(image=PIXELS, audio=SOUND, turns=(Turn("a", "b"),)), "questions in words"),
    ],
)
def test_what_no_form_takes_is_refused(verb, inputs, message):
    with pytest.raises(ValueError, match=message):
        segments_of(TASKS.task(verb), inputs)


def test_a_training_document_of_several_slots_has_an_answer_for_each():
    speak = TASKS.task("speak")
    segments = segments_of(speak, Inputs(text="Hi"), [Text("/haɪ/"), SOUND])
    assert segments[1:] == (Text("/haɪ/", "response"), Audio(SOUND.waveform, 16_000, "response"))
    with pytest.raises(ValueError, match="is 1, expected 2: text, audio"):
        segments_of(speak, Inputs(text="Hi"), SOUND)
    with pytest.raises(ValueError, match="the answer holds audio, expected text"):
        segments_of(speak, Inputs(text="Hi"), [SOUND, Text("/haɪ/")])


def test_thoughts_stand_apart_from_the_answer():
    asked = ask_document(TASKS.task("ask"), Inputs(image=PIXELS, question="Is there a cat?"))
    response = response_of(TASKS.task("ask"), _filled(asked, Text("a fox and a car: no")))
    assert (response.text, response.thought, response.known) == ("no", "a fox and a car", True)
    response = response_of(TASKS.task("ask"), _filled(asked, Text(world.NOT_KNOWN)))
    assert (response.text, response.thought, response.known) == (world.NOT_KNOWN, None, False)
    asked = ask_document(TASKS.task("speak"), Inputs(text="Hi"))
    response = response_of(TASKS.task("speak"), _filled(asked, Text("/haɪ/"), SOUND))
    assert (response.answer, response.thought) == (SOUND, "/haɪ/")
    heard = ask_document(TASKS.task("listen"), Inputs(audio=SOUND))
    response = response_of(TASKS.task("listen"), _filled(heard, Text("/haɪ/\nHi")))
    assert (response.text, response.thought) == ("Hi", "/haɪ/")


def _filled(document, *answers):
    prompt_segments = [segment for segment in document if not isinstance(segment, Slot)]
    return Document((*prompt_segments, *answers))


@given(st.text(), st.lists(st.text(min_size=1), max_size=3))
def test_no_part_of_a_text_is_lost_where_its_thought_ends(text, ends):
    thought, answer = split_thought(text, ends)
    if thought is None:
        assert answer == text
    else:
        assert text.strip().startswith(thought)
        assert answer
        assert text.strip().endswith(answer)


def test_the_first_mark_ends_the_thought():
    assert split_thought("1: 2</think>3", ("</think>", ": ")) == ("1", "2</think>3")
    assert split_thought("a fox: ", (": ",)) == (None, "a fox: ")  # nothing is behind it


def test_forms_and_thoughts_come_back_from_their_yaml():
    assert parse_tasks(write_tasks(TASKS)) == TASKS
    assert TASKS.describe()["ask"]["forms"][1]["prompt"] == "<picture> <sound>"


def test_forms_that_a_model_has_no_media_for_are_gone():
    deaf = TASKS.without_media({("audio", "read"): "deaf"})
    assert deaf.task("draw").forms == ()
    assert [form.language for form in deaf.task("ask").forms] == ["zh", None]  # and of a box
    assert "listen" not in deaf.able
    mute = TASKS.without_media({("audio", "make"): "mute"})
    assert mute["speak"].reason == "mute"


PICTURE_PART, QUESTION, ANSWER = MediaPart("image"), TextPart("{question}"), SlotPart("text")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"forms": (world_tasks().task("draw"),)}, "a form is a task to ask without forms"),
        ({"forms": (Task("ask", (PICTURE_PART, QUESTION, ANSWER)),)}, "two forms are given"),
        ({"shots": (PICTURE_PART,)}, "one of them with {name}"),
        ({"shots": (TextPart("{name}"), ANSWER)}, "without a slot"),
        ({"parts": (PICTURE_PART, QUESTION, SlotPart("any"), ANSWER)}, "runs to the end"),
        ({"unknown": " "}, "unknown is ' '"),
        ({"thought_ends": ("",)}, "texts of at least a character"),
    ],
)
def test_forms_that_do_not_hold_together_are_refused(entries, message):
    with pytest.raises(ValueError, match=message):
        Task(**{"verb": "ask", "parts": (PICTURE_PART, QUESTION, ANSWER), **entries})


def test_an_error_in_a_form_says_where():
    text = write_tasks(Tasks({"ask": TASKS.task("ask")})).replace("slot: text", "slot: txt", 3)
    with pytest.raises(ValueError, match=r"ask: document\[2\]: slot is 'txt'"):
        parse_tasks(text)
    text = "version: 1\ntasks: {draw: {document: [{text: '{text}'}, {slot: image}], forms: [{}]}}"
    with pytest.raises(ValueError, match=r"draw: forms\[0\]: document is missing"):
        parse_tasks(text)
