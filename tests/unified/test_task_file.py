"""tasks.yaml: tasks come back from it, and its errors say where they are."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unified.tasks.defaults import in_words
from unified.tasks.size_rule import SizeRule
from unified.tasks.task import VERBS, MediaPart, Refusal, SlotPart, Task, TextPart
from unified.tasks.task_file import parse_tasks, read_tasks, write_tasks
from unified.tasks.task_table import Tasks

_WORDS = st.text(
    st.characters(codec="utf-8", exclude_characters="{}", exclude_categories=("Cs", "Cc")),
    min_size=1, max_size=12,
)  # fmt: skip
_ROLE = st.sampled_from([None, "prompt", "response"])


@st.composite
def _tasks(draw):
    entries = {}
    for verb in draw(st.lists(st.sampled_from(VERBS), unique=True)):
        if draw(st.booleans()):
            entries[verb] = Refusal(verb, draw(_WORDS.filter(str.strip)))
            continue
        if verb == "reply":
            parts = (SlotPart("audio", draw(_ROLE), listens=True),)
            entries[verb] = Task(verb, parts, draw(_WORDS), example=draw(_WORDS))
            continue
        pictured = {each: ["image"] for each in ("describe", "ask", "edit", "ground")}
        media = {**pictured, "listen": ["audio"]}.get(verb, [])
        needed = {"ask": "question"}.get(verb, "text")
        words = draw(_WORDS) + ("" if verb in ("describe", "listen") else f"{{{needed}}}")
        voices = draw(st.lists(_WORDS, unique=True, max_size=3)) if verb == "speak" else []
        if verb == "speak":
            words += "{voice}"
        kinds = {
            "draw": "image",
            "edit": "image",
            "speak": "audio",
            "write": "any",
            "ground": "any",
        }
        kind = kinds.get(verb, "text")
        parts = [MediaPart(each, draw(_ROLE)) for each in media]
        parts += [
            TextPart(words, draw(_ROLE), draw(st.none() | _WORDS)),
            SlotPart(kind, draw(_ROLE)),
        ]
        size = SizeRule(
            draw(st.none() | st.just((48, 64))), multiple_of=draw(st.sampled_from([1, 8])),
            max_area=draw(st.none() | st.integers(4096, 9999)),
        )  # fmt: skip
        entries[verb] = Task(
            verb, tuple(parts), draw(_WORDS), draw(st.none() | _WORDS),
            draw(st.sampled_from([{}, {"image": {"guidance": 3.0, "top_k": 7}, "max_ids": 9}])),
            size if kind in ("image", "any") else None, tuple(voices),
            voices[0] if voices else None, draw(_WORDS),
        )  # fmt: skip
    return Tasks(entries)


@settings(max_examples=60, deadline=None)
@given(_tasks())
def test_tasks_come_back_from_their_yaml(tasks):
    assert parse_tasks(write_tasks(tasks)) == tasks


ENTRY = "{document: [{text: '{text}'}, {slot: image}]"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("[1]", "tasks.yaml holds list"),
        ("version: 2\ntasks: {}", "version is 2, expected 1"),
        ("version: true\ntasks: {}", "version is True"),
        ("tasks: {}", "version is None"),
        ("version: 1\ntasks: 3", "tasks is 3"),
        ("version: 1\ntasks: {}\nmore: 1", "unknown key 'more'"),
        ("version: 1\ntasks: {paint: {refused: no}}", "paint: verb is 'paint'"),
        ("version: 1\ntasks: {draw: 3}", "draw: it is 3"),
        ("version: 1\ntasks: {draw: {}}", "draw: document is missing"),
        ("version: 1\ntasks: {draw: {document: 3}}", "draw: document is 3"),
        ("version: 1\ntasks: {draw: {document: [3]}}", "draw: document[0] is 3"),
        ("version: 1\ntasks: {draw: {document: [{words: x}]}}", "document[0] has 'words'"),
        ("version: 1\ntasks: {draw: {document: [{text: x, media: image}]}}", "document[0] has"),
        ("version: 1\ntasks: {draw: {document: [{text: x, rol: y}]}}", "unknown key 'rol'"),
        ("version: 1\ntasks: {draw: {document: [{text: x, role: bot}]}}", "role is 'bot'"),
        ("version: 1\ntasks: {draw: {document: [{text: '{txt}'}]}}", "placeholder 'txt'"),
        ("version: 1\ntasks: {draw: {document: [{media: smell}]}}", "media is 'smell'"),
        ("version: 1\ntasks: {draw: {document: [{slot: smell}]}}", "slot is 'smell'"),
        (f"version: 1\ntasks: {{draw: {ENTRY}, colour: red}}}}", "unknown key 'colour'"),
        (f"version: 1\ntasks: {{draw: {ENTRY}, size: 3}}}}", "draw: size is 3"),
        (f"version: 1\ntasks: {{draw: {ENTRY}, size: {{deflt: 3}}}}}}", "unknown entry 'deflt'"),
        (f"version: 1\ntasks: {{draw: {ENTRY}, size: {{default: 3}}}}}}", "default is 3"),
        (f"version: 1\ntasks: {{draw: {ENTRY}, voices: 3}}}}", "voices is 3"),
        (f"version: 1\ntasks: {{draw: {ENTRY}, sampling: {{image: 3}}}}}}", "setting image is 3"),
        (f"version: 1\ntasks: {{draw: {ENTRY}, negative: 3}}}}", "negative is 3"),
        ("version: 1\ntasks: {draw: {refused: ''}}", "reason is ''"),
        ("version: 1\ntasks: {draw: {refused: a, source: b}}", "unknown key 'source'"),
        ("version: 1\ntasks: &a {}", "anchor"),
        ("version: 1\ntasks: {draw: {refused: a}, draw: {refused: b}}", "a second time"),
        ("x" * 300_000, "expected at most"),
    ],
)  # fmt: skip
def test_a_task_file_with_an_error_says_where_it_is(source, message):
    with pytest.raises(ValueError, match=r"tasks\.yaml") as error:
        parse_tasks(source)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_without_a_task_file_has_none(tmp_path):
    assert read_tasks(tmp_path) is None
    (tmp_path / "tasks.yaml").write_text(write_tasks(in_words()), "utf-8")
    assert read_tasks(tmp_path) == in_words()
    (tmp_path / "tasks.yaml").write_text("version: 1")
    with pytest.raises(ValueError, match=r"tasks\.yaml: tasks is None"):
        read_tasks(tmp_path)
