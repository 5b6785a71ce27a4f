"""Of what a model wrote the answer is told, in pieces, and the thought before it is not."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified.engine.events import Done, TextPiece
from unified.serving.answer_events import AnswerEvents
from unified.tasks.response import split_thought
from unified.world.world_tasks import world_tasks
from unified_data.document import Document, Text

TASKS = world_tasks()


def _told(pieces, task, strange=None):
    """The pieces of text that are told of a document that was written in pieces."""
    answer = AnswerEvents(SimpleNamespace(task=task, strange=strange))
    whole = Document((Text("".join(pieces) or "x"),))
    written = [*(TextPiece(0, piece) for piece in pieces), Done(0, whole, np.zeros(1), {}, {})]
    told = [event for each in written for event in answer.add(each)]
    assert isinstance(told[-1], Done)
    return [event.text for event in told[:-1]]


@given(st.lists(st.text("a: ：\n", max_size=4), max_size=6), st.sampled_from(["ask", "listen"]))
def test_in_any_pieces_it_is_the_answer_of_the_whole(pieces, verb):
    task = TASKS.task(verb)
    expected = split_thought("".join(pieces), task.thought_ends)[1]
    told = _told(pieces, task)
    assert "".join(told) == expected
    assert "" not in told


@pytest.mark.parametrize(
    ("verb", "pieces", "told"),
    [
        ("ask", ["a fox ", "and a", " car: n", "o"], ["n", "o"]),
        ("ask", ["a fo", "x"], ["a fox"]),  # there was no mark until its end
        ("listen", ["/ɪt/", "\nIt", " is", " \n"], ["It", " is"]),
        ("speak", ["/ɪt ɪz/"], []),
        ("describe", ["a fox", ": red"], ["a fox", ": red"]),
        ("write", ["# The", ": fox"], ["# The", ": fox"]),
        (None, ["a: b"], ["a: b"]),
    ],
)
def test_a_thought_is_left_out_where_the_task_has_one(verb, pieces, told):
    assert _told(pieces, None if verb is None else TASKS.task(verb)) == told


def test_of_a_strange_picture_it_is_told_that_it_is_not_known():
    task = TASKS.task("ask")
    assert _told(["a fox: ", "no"], task, "unlike all") == [task.unknown]
