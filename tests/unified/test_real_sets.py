"""Sets of pictures on disk: made files of exactly their form, scored against known answers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sets_on_disk import Answering, measured, photo, refusal

from unified.evaluation.part import REFUSED
from unified.evaluation.part_captions import cider
from unified.evaluation.part_mme import MME, mme_says, mme_score
from unified.evaluation.part_pope import POPE, pope_says_yes, pope_scores
from unified.evaluation.set_files import SetPaths
from unified.evaluation.suite import PARTS, Suite, read_sets
from unified.evaluation.vqa_accuracy import normalise_vqa, vqa_accuracy
from unified_base.config import parse_config
from unified_data.document import Text

# POPE.


@pytest.fixture
def pope(tmp_path):
    rows = [
        {"question_id": i, "image": f"COCO_val2014_{i // 3:012d}.jpg", "label": label,
         "text": f"Is there a {thing} in the image?"}
        for i, (thing, label) in enumerate(
            [("cat", "yes"), ("car", "no"), ("cup", "yes"), ("dog", "no"), ("fork", "yes"),
             ("boat", "no")]
        )
    ]  # fmt: skip
    for name in {row["image"] for row in rows}:
        photo(tmp_path / name)
    for kind in POPE.conditions:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"coco_pope_{kind}.json").write_text(text)
    return tmp_path


def test_pope_reads_answers_as_its_script_does():
    for text, yes in (
        ("Yes, there is.", True), ("No, there is no cat.", False), ("There is not a cat", False),
        ("I see none", True), ("A dog. No cat.", True), ("NO", True), ("no,", False), ("", True),
    ):  # fmt: skip
        assert pope_says_yes(text) is yes, text


def test_popes_scores_are_those_of_its_definition():
    answers = np.array([True, True, True, False, False, True])
    truth = np.array([True, False, True, False, True, True])
    scores = pope_scores(answers, truth)
    # 3 hits of 4 said and 4 true.
    assert scores["precision"] == scores["recall"] == scores["F1"] == pytest.approx(3 / 4)
    assert scores["accuracy"] == pytest.approx(4 / 6)
    assert scores["yes ratio"] == pytest.approx(4 / 6)
    assert pope_scores(~truth & False, truth)["F1"] == 0


def test_pope_is_measured_and_what_is_refused_is_wrong(pope):
    figures, samples = measured("pope", pope, lambda case: Text("Yes, of course."))
    assert figures["random, F1"].value == pytest.approx(2 / 3)
    assert figures["adversarial, yes ratio"].value == 1
    assert figures["popular, accuracy"].cases == 6
    assert len(samples) == 18
    assert samples[0].pixels.shape == (40, 56, 3)
    figures, samples = measured("pope", pope, lambda case: None, conditions=("random",))
    assert figures["random, accuracy"].value == figures["random, F1"].value == 0
    assert samples[0].answer == f"{REFUSED}too long"
    # Some of the questions, the same ones with the same seed.
    some = [measured("pope", pope, lambda case: Text("no"), 4)[1] for _ in range(2)]
    assert [each.asked for each in some[0]] == [each.asked for each in some[1]]
    assert len(some[0]) == 12


# MME.


def test_mmes_points_are_those_of_its_tool():
    for text, answer in (
        ("Yes.", True), ("no", False), ("  no", False), ("Oh, yes", None), ("noyes", False),
        ("nyes", True), ("None", False), ("I", None),
    ):  # fmt: skip
        assert mme_says(text) is answer, text
    right = {"a": np.array([[1, 1], [1, 0], [0, 0], [1, 1]], bool), "b": np.ones((3, 2), bool)}
    assert mme_score(right) == pytest.approx(100 * (5 / 8 + 2 / 4) + 200)


@pytest.fixture
def mme(tmp_path):
    for number, kind in enumerate(MME.conditions):
        texts, images = tmp_path / kind, tmp_path / kind
        if kind in ("posters", "artwork"):
            texts, images = texts / "questions_answers_YN", images / "images"
            texts.mkdir(parents=True)
        for name in ("one", "two"):
            photo(images / f"{name}.png", 10 * number)
            lines = f"Is it {kind}?\tYes\nIs it a hat?\tNo\n"
            (texts / f"{name}.txt").write_text(lines)
    return tmp_path


def test_mme_has_accuracy_for_questions_and_accuracy_plus_for_pictures(mme):
    figures, _ = measured("mme", mme, lambda case: Text("Yes"))
    assert figures["count, accuracy"].value == 0.5
    assert figures["count, accuracy"].cases == 4
    assert figures["artwork, accuracy+"].value == 0
    assert figures["artwork, accuracy+"].cases == 2
    assert figures["perception, share of 2,000 points"].value == pytest.approx(0.25)

    def know(case):
        return Text("No." if "hat" in case["question"] else "yes, it is")

    figures, _ = measured("mme", mme, know, conditions=MME.conditions[10:])
    assert figures["cognition, share of 800 points"].value == 1
    assert not any(name.startswith("perception") for name in figures)


# VQAv2.


def test_an_answer_counts_as_far_as_people_gave_it():
    people = ["red"] * 2 + ["Blue"] * 4 + ["a grey one", "grey 1", "green", "black"]
    # Each person left out in turn: of blue's four there are three others at least.
    assert vqa_accuracy("blue.", people) == 1
    # Of two reds: one other for the two themselves, two for the eight.
    assert vqa_accuracy("Red", people) == pytest.approx((2 * 1 / 3 + 8 * 2 / 3) / 10)
    assert vqa_accuracy("the grey, one", people) == pytest.approx(0.6)
    assert vqa_accuracy("pink", people) == 0
    # Where all agree nothing is normalised.
    assert vqa_accuracy("Yes", ["yes"] * 10) == 0
    assert vqa_accuracy("yes ", ["yes"] * 10) == 1


def test_vqas_normalisation_has_the_quirks_of_its_script():
    for text, plain in (
        ("The couldnt've", "couldn't've"), ("Two dogs!", "2 dogs"), ("1,000", "1000"),
        ("3.5 m.", "3.5 m"), ("red/blue", "red blue"), ("red / blue", "red blue"),
        ("none", "0"), ("whats that", "what's that"), ("somebody'd", "somebodyd"),
    ):  # fmt: skip
        assert normalise_vqa(text) == plain


@pytest.fixture
def vqav2(tmp_path):
    questions, annotations = [], []
    for number, (kind, answer) in enumerate([("yes/no", "yes"), ("number", "2"), ("other", "red")]):
        photo(tmp_path / f"COCO_val2014_{number:012d}.jpg")
        questions.append(
            {"image_id": number, "question": f"What {kind}?", "question_id": 10 * number}
        )
        people = [{"answer": answer, "answer_confidence": "yes", "answer_id": i} for i in range(10)]
        people[-1]["answer"] = "other"
        annotations.append(
            {"question_type": "what", "multiple_choice_answer": answer, "answers": people,
             "image_id": number, "answer_type": kind, "question_id": 10 * number}
        )  # fmt: skip
    name = "v2_OpenEnded_mscoco_val2014_questions.json"
    (tmp_path / name).write_text(json.dumps({"info": {}, "questions": questions}))
    name = "v2_mscoco_val2014_annotations.json"
    (tmp_path / name).write_text(json.dumps({"info": {}, "annotations": annotations}))
    return tmp_path


def test_vqav2_has_the_soft_accuracy_of_all_and_of_each_kind_of_answer(vqav2):
    figures, samples = measured("vqav2", vqav2, lambda case: Text("Two."), conditions=("val2014",))
    assert figures["val2014, number"].value == 1
    assert figures["val2014, other"].value == figures["val2014, yes/no"].value == 0
    assert figures["val2014, soft accuracy"].value == pytest.approx(1 / 3)
    assert figures["val2014, soft accuracy"].cases == 3
    assert [sample.right for sample in samples] == [False, True, False]


# COCO captions.


@pytest.fixture
def coco(tmp_path):
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 40, "width": 56} for i in range(3)]
    for image in images:
        photo(tmp_path / image["file_name"])
    captions = [(0, "A cat sits."), (0, "A cat on a mat"), (1, "Two red cars"), (2, "A blue boat")]
    annotations = [{"image_id": i, "id": n, "caption": t} for n, (i, t) in enumerate(captions)]
    text = json.dumps({"info": {}, "licenses": [], "images": images, "annotations": annotations})
    (tmp_path / "captions_val2014.json").write_text(text)
    return tmp_path


def test_captions_are_scored_by_cider_or_it_is_said_why_not(coco):
    conditions = ("val2014",)
    data = PARTS["coco_captions"].read(SetPaths(coco, coco, None, conditions))
    assert [len(case.captions) for case in data["val2014"]] == [2, 1, 1]
    bench = Answering(None, 9, conditions, 0, data=data, say=lambda case: Text("two red cars."))
    result = PARTS["coco_captions"].measure(bench)
    if result.cannot is not None:
        assert "pycocoevalcap" in result.cannot or "Java" in result.cannot
        return
    (figure,) = result.figures
    assert figure.name == "val2014, CIDEr"
    assert figure.cases == 3
    # Word for word what the only person said, all of it rare: 10 for this picture, 0 for others;
    # its captions have no four words in a row, so that one of four lengths of phrases is missing.
    assert figure.value == pytest.approx(10 * 3 / 4 / 3)
    assert cider(["", "a boat\n\u2028on"], [["a cat"], ["a boat on"]])[0] == 0


# What is no such set.


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", ":7 is not JSON"),
        ("[1]", ":7 holds list, expected an object"),
        ('{"image": "x.jpg", "text": "Is it?", "label": "maybe"}', ":7: label is 'maybe'"),
        ('{"image": "x.jpg", "text": "Is it?", "label": "no"}', "x.jpg"),
        ('{"image": "../x.jpg", "text": "Is it?", "label": "no"}', "expected a file inside"),
        ('{"image": "/x.jpg", "text": "Is it?", "label": "no"}', "expected a file inside"),
        ('{"image": "COCO_val2014_000000000000.jpg", "label": "no"}', ":7: text is missing"),
        ('{"image": "COCO_val2014_000000000000.jpg", "text": 3, "label": "no"}', "expected text"),
    ],
)
def test_a_record_that_is_none_is_named_with_file_and_line(pope, line, message):
    with (pope / "coco_pope_popular.json").open("a") as file:
        file.write(line + "\n")
    text = refusal("pope", pope)
    assert message in text
    assert "coco_pope_popular.json" in text


def test_pictures_that_are_no_set_are_refused(pope, mme, vqav2, coco, tmp_path):
    (pope / "coco_pope_random.json").write_text("\n")
    assert "has no questions" in refusal("pope", pope, ("random",))
    (mme / "count" / "one.txt").write_text("Is it?\tYes\n")
    assert "one.txt has 1 questions, expected 2" in refusal("mme", mme)
    (mme / "count" / "one.txt").write_text("Is it? Yes\nIs it?\tNo\n")
    assert "one.txt:1 is 'Is it? Yes', expected QUESTION, a tab" in refusal("mme", mme)
    (mme / "existence" / "two.png").unlink()
    assert "two.txt has no picture" in refusal("mme", mme)
    assert "name the conditions that are there" in refusal("mme", tmp_path / "other", ("count",))
    name = vqav2 / "v2_mscoco_val2014_annotations.json"
    rows = json.loads(name.read_text())["annotations"]
    for change, message in (
        ({"answers": [3]}, "annotations[1]: answers are [3]"),
        ({"question_id": 0}, "annotations[1]: question_id 0 is a second time"),
        ({"question_id": 99}, "annotations[1]: question_id 99 is not in"),
    ):
        changed = [rows[0], {**rows[1], **change}]
        name.write_text(json.dumps({"annotations": changed}))
        assert message in refusal("vqav2", vqav2, ("val2014",))
    text = json.dumps({"images": [], "annotations": [{"image_id": 4, "id": 1, "caption": "a cat"}]})
    (coco / "captions_val2014.json").write_text(text)
    assert "annotations[0]: image_id 4 is none" in refusal("coco_captions", coco, ("val2014",))


def test_a_suite_says_where_a_set_lies(pope, tmp_path):
    def suite(**entries):
        return parse_config(Suite, {"parts": {"pope": {"cases": 2, **entries}}}, "it")

    data = read_sets(suite(folder=str(pope), conditions=["random"]))
    assert list(data["pope"]) == ["random"]
    for entries, message in (
        ({}, "parts.pope.folder is missing"),
        ({"folder": str(pope), "output": "o"}, "parts.pope.output is 'o', but pope takes none"),
    ):
        with pytest.raises(ValueError, match=message):
            suite(**entries)
    with pytest.raises(ValueError, match=r"parts.seeing.folder is 'x', but seeing takes none"):
        parse_config(Suite, {"parts": {"seeing": {"cases": 1, "folder": "x"}}}, "it")
