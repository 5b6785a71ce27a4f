"""The pocket grammar as a constraint: what may follow, under limits and budgets."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from pocket_grammar import GRAMMAR, VOCABULARY, M, documents, walk

from unified.formats.coded import (
    CodedImage,
    CodedText,
)
from unified.formats.grammar import GrammarError
from unified.formats.limits import Limits


def random_limits(rng: random.Random) -> Limits:
    allow = tuple(kind for kind in ("text", "image", "audio") if rng.random() < 0.75)
    single = rng.random() < 0.2 and bool(allow)
    longest = rng.choice([None, rng.randint(3, 6)])
    return Limits(
        max_ids=rng.randint(2, 90),
        num_images=rng.choice([None, 0, 1, 2]) if "image" in allow and not single else None,
        num_audios=rng.choice([None, 0, 1, 2]) if "audio" in allow and not single else None,
        allow=allow,
        image_grid=rng.choice([None, None, (2, 3), (3, 1), (1, 1)]),
        min_audio_frames=rng.randint(1, 3),
        max_audio_frames=longest,
        roles=rng.random() < 0.5,
        single=single,
    )


def start_or_least(limits: Limits) -> Limits:
    """These limits, with the budget raised to the least that the grammar asks for."""
    try:
        GRAMMAR.start(limits)
    except ValueError as error:
        message = str(error)
    else:
        return limits
    grids = re.search(r"a budget of \d+ ids is too small .* need at least (\d+)", message)
    assert grids, message
    return replace(limits, max_ids=int(grids[1]))


@pytest.mark.slow
def test_ten_thousand_random_sequences_validate_and_keep_their_limits():
    rng = random.Random(3)
    kinds_seen: set[str] = set()
    for _ in range(10_000):
        limits = start_or_least(random_limits(rng))
        ids = walk(GRAMMAR, limits, rng)
        assert len(ids) <= limits.max_ids
        segments = GRAMMAR.parse(ids)
        kinds = [segment.kind for segment in segments]
        kinds_seen.update(kinds)
        assert set(kinds) <= set(limits.allow)
        assert limits.num_images in (None, kinds.count("image"))
        assert limits.num_audios in (None, kinds.count("audio"))
        assert not limits.single or len(kinds) == 1
        for segment in segments:
            if segment.kind == "image" and limits.image_grid is not None:
                assert segment.codes.shape[1:] == limits.image_grid
            if segment.kind == "audio":
                frames = segment.codes.shape[1]
                assert limits.min_audio_frames <= frames <= (limits.max_audio_frames or 999)
            assert limits.roles or segment.role is None
    assert kinds_seen == {"text", "image", "audio"}


@settings(deadline=None, max_examples=120)
@given(documents(5))
def test_the_budget_guard_refuses_no_document_that_fits(document):
    ids = GRAMMAR.serialize(document).ids.tolist()
    kinds = [segment.kind for segment in document]
    limits = Limits(
        max_ids=len(ids),
        num_images=kinds.count("image"),
        num_audios=kinds.count("audio"),
        roles=True,
    )
    state = GRAMMAR.start(limits)
    for id in ids:
        state.advance(id)
    assert state.finished
    assert state.remaining == 0
    with pytest.raises(ValueError):  # noqa: PT012
        state = GRAMMAR.start(replace(limits, max_ids=len(ids) - 1))
        for id in ids:
            state.advance(id)


def test_a_picture_begins_only_where_it_fits():
    grid, length = (3, 4), 1 + 2 + 12 + 1
    for spare in (-1, 0):
        limits = Limits(max_ids=2 + length + spare, image_grid=grid)
        state = GRAMMAR.start(limits)
        state.advance(M("<bos>"))
        open_now = any(start <= M("<image>") < stop for start, stop in state.allowed())
        assert open_now == (spare == 0)
    free = GRAMMAR.start(Limits(max_ids=2 + 1 + 2 + 10 + 1))
    for id in (M("<bos>"), M("<image>")):
        free.advance(id)
    size = VOCABULARY.block("size").start
    assert free.allowed() == ((size, size + 9),)
    free.advance(size + 2)  # h = 3: at most 3 columns in the 10 codes that are left
    assert free.allowed() == ((size, size + 3),)


def test_the_end_is_refused_while_pictures_are_owed():
    state = GRAMMAR.start(Limits(max_ids=60, num_images=1, image_grid=(2, 2)))
    state.advance(M("<bos>"))
    state.advance(3)
    with pytest.raises(GrammarError, match=r"found <eos> .*58 ids left"):
        state.advance(M("<eos>"))
    assert state.position == 2
    for id in GRAMMAR.serialize([CodedImage(np.zeros((1, 2, 2), int))]).ids[1:].tolist():
        state.advance(id)
    assert state.finished


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_ids": 1}, "budget of 1 ids is too small .* at least 2"),
        ({"max_ids": 20, "num_images": 2, "image_grid": (3, 3)}, "at least 28"),
        ({"image_grid": (10, 2)}, "h must be in 1..9"),
        ({"num_images": 1, "allow": ("text",)}, "allow leaves out image"),
        ({"allow": ("smell",)}, "it may hold text, image, audio"),
        ({"min_audio_frames": 4, "max_audio_frames": 3}, "audio frames from 4 to 3"),
        ({"single": True, "num_images": 1}, "takes exactly one segment"),
        ({"stop": 3}, "needs single=True"),
        ({"stop": 3, "single": True, "allow": ("text",)}, "cannot be the stop"),
    ],
)
def test_limits_that_cannot_be_met_are_refused(limits, message):
    with pytest.raises(ValueError, match=message):
        GRAMMAR.start(Limits(**limits))


def test_a_text_slot_ends_with_what_follows_it():
    state = GRAMMAR.start()
    before = [CodedText((1,), "prompt")]
    for id in GRAMMAR.serialize(before, end=False).ids.tolist():
        state.advance(id)
    for id in state.segment_prefix("text", "response"):
        state.advance(id)
    stop = GRAMMAR.text_stop("response", ("image", "response"))
    assert stop == M("<image>")
    state.restrict(Limits(max_ids=3, allow=("text",), single=True, stop=stop))
    assert state.allowed() == ((0, 40),)
    state.advance(7)
    assert state.allowed() == ((0, 40), (stop, stop + 1))
    state.advance(8)
    assert (state.allowed(), state.mode) == (((stop, stop + 1),), "marker")
    image = CodedImage(np.zeros((1, 2, 3), int), "response")
    for id in GRAMMAR.segment_ids(image)[0].tolist():
        state.advance(id)
    assert state.remaining is None
    assert GRAMMAR.text_stop("response", ("text", "response")) == M("<text>")
    assert GRAMMAR.text_stop("prompt", ("text", "response")) == M("<response>")
    assert GRAMMAR.text_stop("prompt", None) == M("<eos>")


def test_a_slot_after_a_text_of_its_role_starts_a_new_text():
    state = GRAMMAR.start()
    for id in (M("<bos>"), 3):
        state.advance(id)
    state.restrict(Limits(allow=("text",), single=True))
    assert state.allowed() == ((M("<text>"), M("<text>") + 1),)
    assert state.segment_prefix("text", None) == (M("<text>"),)


def test_limits_do_not_change_inside_a_span_but_can_be_lifted():
    state = GRAMMAR.start(Limits(max_ids=10, max_audio_frames=1))
    for id in (M("<bos>"), M("<audio>"), *(VOCABULARY.block(f"audio.{k}").start for k in (0, 1))):
        state.advance(id)
    assert state.mode == "marker"
    with pytest.raises(ValueError, match="inside the audio span begun at position 1"):
        state.restrict(Limits())
    state.restrict(None)
    assert state.mode == "audio"
    assert len(state.allowed()) == 2
