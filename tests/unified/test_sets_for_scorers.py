"""Sets of sounds, and of prompts for other scorers: made files of exactly their form."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sets_on_disk import measured, photo, refusal

from unified_base.sounds import encode_audio
from unified_data.document import Audio, Image, Text

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
    transcripts = iter(["he hoped, there would be a stew", "Its dinner.", ""])
    figures, samples = measured(
        "librispeech", librispeech, lambda case: Text(next(transcripts) or "0")
    )
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


def test_lists_that_are_no_set_are_refused(geneval2, seed_tts, librispeech, tmp_path):
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


def test_sets_are_measured_by_the_command(unified, cli_model, refused, librispeech, tmp_path):
    questions = [
        {"question_id": i, "image": "p.png", "text": "Is there a cat?", "label": "no"}
        for i in range(3)
    ]
    photo(tmp_path / "p.png")
    pope = tmp_path / "coco_pope_random.json"
    pope.write_text("".join(json.dumps(each) + "\n" for each in questions))
    text = f"""
parts:
  pope: {{cases: 2, folder: {tmp_path}, conditions: [random]}}
  librispeech: {{cases: 2, folder: {librispeech}}}
"""
    (tmp_path / "suite.yaml").write_text(text)
    line = ("evaluate", cli_model, "--suite", tmp_path / "suite.yaml", "--json")
    code, out, err = unified(*line, on=None)
    assert code == 0, err
    parts = json.loads(out)["parts"]
    assert {figure["cases"] for figure in parts["pope"]["figures"]} == {2}
    assert parts["librispeech"]["figures"][0]["name"] == "word error rate"
    pope.write_text("no\n")
    refused(unified(*line, on=None), "coco_pope_random.json:1 is not JSON")
