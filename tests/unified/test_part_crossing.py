"""From any medium to any other: forms are declared, and answers are judged right and wrong."""

from __future__ import annotations

import numpy as np
import pytest

from unified.evaluation.crossing_cases import CROSSINGS, is_spoken_of
from unified.evaluation.heard_sounds import lacks_of, said_plainly
from unified.evaluation.part_crossing import says_name, verdict_on
from unified.evaluation.placed_things import paint_things
from unified.evaluation.scene_judge import SceneJudge
from unified.evaluation.wanted import true_things
from unified.pocket.forms import FORMS, FORMS_FILE, load_forms, save_forms
from unified_data.document import Audio, Document, Image, Text
from unified_data.pocket.scenes import BACKGROUNDS
from unified_data.pocket.speech import VOICES
from unified_data.pocket.subjects import load_subjects

needs_speech = pytest.mark.skipif(lacks_of("connected") is not None, reason="no espeak-ng")


def answered(case, answer):
    return Document((*case.document.segments[:-1], answer))


def test_forms_are_written_and_read_again(tmp_path):
    assert load_forms(tmp_path) == load_forms(None) == frozenset()
    save_forms(tmp_path, ["edit", "names"])
    assert load_forms(tmp_path) == {"edit", "names"}
    with pytest.raises(ValueError, match="unknown form 'sing'"):
        save_forms(tmp_path, ["sing"])
    (tmp_path / FORMS_FILE).write_text('{"forms": "edit"}')
    with pytest.raises(ValueError, match="holds no list"):
        load_forms(tmp_path)


def test_every_form_has_its_requests():
    assert set(CROSSINGS) == set(FORMS)


def test_about_half_of_the_subjects_are_left_for_the_test():
    share = sum(map(is_spoken_of, load_subjects())) / len(load_subjects())
    assert 0.4 < share < 0.6


@pytest.mark.parametrize("form", ["ask spoken", "names", "describe in Chinese"])
def test_texts_are_right_and_wrong(form):
    if form == "ask spoken" and lacks_of("connected"):
        pytest.skip("no espeak-ng")
    rng = np.random.default_rng(2)
    for _ in range(4):
        case = CROSSINGS[form](rng)
        assert case.document.segments[-1].role == "response"
        judge = SceneJudge([load_subjects()[0]])
        assert verdict_on(case, answered(case, Text(case.expected)), judge, rng)[0]
        wrong = {"yes": "no", "no": "yes"}.get(case.expected, "a fox and a car")
        for other in (answered(case, Text(wrong)), "dropped: too long"):
            assert not verdict_on(case, other, judge, rng)[0]


@pytest.mark.parametrize("seed", range(5))
def test_edits_are_judged_by_what_is_seen(seed):
    rng = np.random.default_rng(seed)
    case = CROSSINGS["edit"](rng)
    judge = SceneJudge(load_subjects()[::6] + case.wanted.subjects)
    ground = BACKGROUNDS[case.wanted.ground or "white"]
    true = paint_things(true_things(case.wanted, rng), ground)
    assert verdict_on(case, answered(case, Image(true, role="response")), judge, rng)[0]
    # Left as it was, or empty.
    assert not verdict_on(case, answered(case, Image(case.pixels, role="response")), judge, rng)[0]
    empty = np.full((96, 96, 3), 200, np.uint8)
    assert not verdict_on(case, answered(case, Image(empty, role="response")), judge, rng)[0]
    assert not verdict_on(case, "refused", judge, rng)[0]


@needs_speech
def test_a_spoken_caption_asks_for_its_picture():
    case = CROSSINGS["draw spoken"](np.random.default_rng(0))
    sound, mark, slot = case.document.segments
    assert isinstance(sound, Audio)
    assert mark.text == "![]"
    assert (slot.modality, slot.height, slot.width) == ("image", 96, 96)
    assert not is_spoken_of(case.wanted.subjects[0])


@needs_speech
def test_a_name_is_heard_where_it_is_said():
    sound = Audio(said_plainly("It is a giraffe on a hill.", VOICES["ben"]), 16_000)
    rivals = ["elephant", "umbrella", "piano", "tornado"]
    assert says_name(sound, "giraffe", rivals)
    assert not says_name(sound, "piano", ["giraffe", *rivals[:2]])
