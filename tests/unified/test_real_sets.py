"""Sets that a user has on disk: made files of exactly their form, scored against known answers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np
import pytest

from unified.evaluation.part import REFUSED, Bench
from unified.evaluation.part_captions import cider
from unified.evaluation.part_mme import MME, mme_says, mme_score
from unified.evaluation.part_pope import POPE, pope_says_yes, pope_scores
from unified.evaluation.set_files import SetPaths
from unified.evaluation.suite import PARTS, Suite, read_sets
from unified.evaluation.vqa_accuracy import normalise_vqa, vqa_accuracy
from unified_base.config import parse_config
from unified_base.images import save_png
from unified_base.sounds import encode_audio
from unified_data.document import Audio, Document, Image, Text


def photo(path, level=90, side=(40, 56)):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(path, np.full((*side, 3), level, np.uint8))


@dataclass(frozen=True, eq=False)
class Answering(Bench):
    """A bench whose model answers as `say` does, from what a case is given; None: refused."""

    say: object = field(default=None)

    def request(self, verb, **inputs):
        return inputs

    def complete(self, requests):
        given = [self.say(request) for request in requests]
        return [f"{REFUSED}too long" if each is None else Document((each,)) for each in given]


def measured(name, folder, say, cases=100, conditions=None, output=None):
    part = PARTS[name]
    conditions = conditions or part.conditions
    data = part.read(SetPaths(folder, folder, output, conditions))
    result = part.measure(Answering(None, cases, conditions, 0, data=data, say=say))
    return {figure.name: figure for figure in result.figures}, result.samples


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
    said = np.array([True, True, True, False, False, True])
    truth = np.array([True, False, True, False, True, True])
    scores = pope_scores(said, truth)
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
    for text, answer in (("Yes.", True), ("no", False), ("  no", False), ("Oh, yes", None),
                         ("noyes", False), ("nyes", True), ("None", False), ("I", None)):  # fmt: skip
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


# LibriSpeech.


@pytest.fixture
def librispeech(tmp_path):
    rows = {"1089-134686": ["HE HOPED THERE WOULD BE STEW", "IT'S DINNER"], "12-3": ["STUFF IT"]}
    rng = np.random.default_rng(2)
    for chapter, texts in rows.items():
        folder = tmp_path / chapter.replace("-", "/")
        folder.mkdir(parents=True)
        lines = []
        for number, text in enumerate(texts):
            wave = rng.uniform(-0.1, 0.1, (1, 800)).astype(np.float32)
            _, sound = encode_audio(np.round(wave * 32768).astype(np.float32) / 32768, 16_000)
            (folder / f"{chapter}-{number:04d}.flac").write_bytes(sound)
            lines.append(f"{chapter}-{number:04d} {text}\n")
        (folder / f"{chapter}.trans.txt").write_text("".join(lines))
    return tmp_path


def test_librispeech_has_the_word_error_rate_of_all_words(librispeech):
    jiwer = pytest.importorskip("jiwer")
    said = iter(["he hoped, there would be a stew", "Its dinner.", ""])
    figures, samples = measured("librispeech", librispeech, lambda case: Text(next(said) or "0"))
    texts = [sample.expected for sample in samples]
    assert texts == ["HE HOPED THERE WOULD BE STEW", "IT'S DINNER", "STUFF IT"]
    expected = jiwer.wer(
        ["he hoped there would be stew", "its dinner", "stuff it"],
        ["he hoped there would be a stew", "its dinner", "0"],
    )
    assert figures["word error rate"].value == pytest.approx(expected)
    assert figures["sentences without an error"].value == pytest.approx(1 / 3)
    # What the model does not take has all of its words wrong.
    figures, _ = measured("librispeech", librispeech, lambda case: None)
    assert figures["word error rate"].value == 1


# GenEval 2 and Seed-TTS-eval: laid out for their own scorers.


@pytest.fixture
def geneval2(tmp_path):
    rows = [
        {"prompt": f"{number} red cats", "atom_count": 3, "skills": ["count", "attribute"],
         "vqa_list": [["How many cats?", number], ["Are the cats red?", "Yes"]]}
        for number in ("two", "three", "four")
    ]  # fmt: skip
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "geneval2_data.jsonl").write_text(text)
    return tmp_path


def test_geneval2s_pictures_are_laid_out_for_its_scorer(geneval2, tmp_path):
    picture = Image(np.full((24, 36, 3), 7, np.uint8))
    output = tmp_path / "out"
    figures, _ = measured(
        "geneval2", geneval2, lambda case: None if "four" in case["text"] else picture,
        output=output,
    )  # fmt: skip
    (figure,) = figures.values()
    assert (figure.value, figure.cases) == (pytest.approx(2 / 3), 3)
    # As the scorer reads them: every prompt of the data has a picture.
    data = [json.loads(line) for line in (output / "geneval2_data.jsonl").open()]
    paths = json.loads((output / "image_paths.json").read_text())
    assert [row["prompt"] for row in data] == list(paths) == ["two red cats", "three red cats"]
    assert data[0]["vqa_list"][1] == ["Are the cats red?", "Yes"]
    for path in paths.values():
        with open(path, "rb") as file:
            assert file.read(8) == b"\x89PNG\r\n\x1a\n"
    # Not over what is there; and nothing is written where nothing came.
    with pytest.raises(ValueError, match="there is something already"):
        measured("geneval2", geneval2, lambda case: picture, output=output)
    measured("geneval2", geneval2, lambda case: None, output=tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.fixture
def seed_tts(tmp_path):
    (tmp_path / "prompt-wavs").mkdir()
    lines = []
    for number, text in enumerate(["Say it.", "Then, what?"]):
        (tmp_path / "prompt-wavs" / f"p{number}.wav").write_bytes(b"")
        truth = "|wavs/true.wav" if number else ""
        lines.append(
            f"common_voice_en_{number}|A prompt.|prompt-wavs/p{number}.wav|{text}{truth}\n"
        )
    (tmp_path / "meta.lst").write_text("".join(lines))
    return tmp_path


def test_seed_tts_sentences_are_laid_out_for_its_scorer(seed_tts, tmp_path):
    sound = Audio(np.zeros((1, 320), np.float32), 16_000)
    output = tmp_path / "out"
    figures, samples = measured(
        "seed_tts", seed_tts, lambda case: sound, conditions=("sentences",), output=output
    )
    assert next(iter(figures.values())).cases == 2
    assert [sample.asked for sample in samples] == ["Say it.", "Then, what?"]
    # NAME.wav, by the first field of each line.
    names = sorted(path.name for path in (output / "sentences").iterdir())
    assert names == ["common_voice_en_0.wav", "common_voice_en_1.wav"]
    assert "cal_wer.sh" in (output / "README.txt").read_text()


# What is no such set.


def refusal(name, folder, conditions=None, output=None):
    part = PARTS[name]
    with pytest.raises(ValueError) as error:
        part.read(SetPaths(folder, folder, output, conditions or part.conditions))
    assert "\n" not in str(error.value)
    return str(error.value)


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


def test_files_that_are_no_set_are_refused(pope, mme, vqav2, coco, geneval2, seed_tts, librispeech,
                                           tmp_path):  # fmt: skip
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
    row = json.dumps({"prompt": "two cats", "vqa_list": []}) + "\n"
    (geneval2 / "geneval2_data.jsonl").write_text(2 * row)
    assert ":2 has the prompt 'two cats'" in refusal("geneval2", geneval2, None, tmp_path / "o")
    for line, message in (
        ("a|b|c", "expected name|text of the prompt"),
        ("a/b|x|prompt-wavs/p0.wav|say", "has the name 'a/b'"),
        ("a|x|p9.wav|say", "there is no file"),
    ):
        (seed_tts / "meta.lst").write_text(line + "\n")
        output = tmp_path / "o"
        text = refusal("seed_tts", seed_tts, ("sentences",), output)
        assert message in text
        assert "meta.lst:1" in text
    next(librispeech.rglob("*-0001.flac")).unlink()
    assert "1089-134686.trans.txt:2 names" in refusal("librispeech", librispeech)
    assert "has no files .trans.txt" in refusal("librispeech", tmp_path / "prompt-wavs")


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


def test_sets_are_measured_by_the_command(
    unified, cli_model, refused, pope, librispeech, coco, tmp_path
):
    text = f"""
parts:
  pope: {{cases: 2, folder: {pope}, conditions: [random]}}
  librispeech: {{cases: 2, folder: {librispeech}}}
"""
    (tmp_path / "suite.yaml").write_text(text)
    line = ("evaluate", cli_model, "--suite", tmp_path / "suite.yaml", "--json")
    code, out, err = unified(*line, on=None)
    assert code == 0, err
    parts = json.loads(out)["parts"]
    assert {figure["cases"] for figure in parts["pope"]["figures"]} == {2}
    assert parts["librispeech"]["figures"][0]["name"] == "word error rate"
    (pope / "coco_pope_random.json").write_text("no\n")
    refused(unified(*line, on=None), "coco_pope_random.json:1 is not JSON")
