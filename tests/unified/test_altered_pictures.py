"""Pictures outside the world's grid: each condition alters what it says, and the judges see it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unified.evaluation.altered_pictures import VIEWS, View, draw_view, paint, still_told
from unified.evaluation.hallucinated import chair
from unified.evaluation.names import named_subjects, subjects_in_view
from unified.evaluation.part_seeing import names_alone
from unified_data.pocket.scenes import BACKGROUNDS, Scene, render
from unified_data.pocket.subjects import find_subject, load_subjects

CAT, LEMON, TIGER, ROSE = map(find_subject, ("cat", "lemon", "tiger", "rose"))


def test_the_plain_view_is_what_the_world_paints():
    pixels = paint(CAT, View(BACKGROUNDS["blue"]))
    np.testing.assert_allclose(pixels, render(Scene("one", CAT, "blue")), atol=1)


@pytest.mark.parametrize("condition", VIEWS)
def test_every_condition_keeps_the_subject_recognisable(condition):
    rng = np.random.default_rng(3)
    for subject in (CAT, LEMON):
        view = draw_view(condition, rng)
        pixels = paint(subject, view, rng)
        assert pixels.shape == (view.size, view.size, 3)
        assert still_told(pixels, view, subject, [TIGER, ROSE])
        assert not still_told(pixels, view, TIGER, [subject])
        altered = (view, pixels.tobytes()) != (View(view.ground), paint(subject, view).tobytes())
        assert altered == (condition not in ("plain", "ground"))


def test_a_turned_glyph_is_whole_inside_the_picture():
    for angle in (-20, 20):
        pixels = paint(LEMON, View((255, 255, 255), 68, 14, 14, angle)).astype(int)
        border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        assert (border == 255).all()
        assert (pixels < 250).any()


def test_a_shadow_is_dark_and_lies_below_and_to_the_right():
    view = View((200, 200, 200), 40, 28, 28)
    plain, shadowed = (
        paint(LEMON, replace(view, shadow=each)).astype(int) for each in (False, True)
    )
    darker = np.argwhere((plain - shadowed).max(axis=-1) > 20)
    own = np.argwhere((plain != 200).any(axis=-1))
    assert len(darker)
    assert (darker.mean(axis=0) > own.mean(axis=0)).all()
    assert (shadowed <= plain).all()


def test_chair_counts_what_is_not_there():
    texts = ["a cat and a lemon", "a cat on a rose ground", "a tiger", ""]
    present = [{"cat", "lemon"}, {"cat", "lemon"}, {"cat"}, {"cat"}]
    instances, sentences, named = chair(texts, present)
    assert instances.value == pytest.approx(1 / 4)
    assert sentences.value == pytest.approx(1 / 4)
    assert named.value == pytest.approx(3 / 6)
    assert all(figure.low <= figure.value <= figure.high for figure in (instances, named))
    assert chair(["nothing"], [{"cat"}])[0].value == 0


def test_names_are_read_from_sentences():
    assert named_subjects("Two cats beside a hot dog, and a lemon.") == ["cat", "hot dog", "lemon"]
    assert subjects_in_view("A lemon on a rose ground.") == {"lemon"}
    assert subjects_in_view("a lemon and a rose on a pale rose background") == {"lemon", "rose"}
    assert names_alone("a rose on a rose ground", ROSE)
    assert not names_alone("a cat and a lemon", CAT)
    assert not names_alone("", CAT)


def test_every_subject_is_read_from_its_own_name():
    for subject in load_subjects():
        assert names_alone(f"{subject.phrase} on a grey ground", subject)
        assert named_subjects(subject.plural) == [subject.name]
