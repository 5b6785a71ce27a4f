"""Building the world: deterministic, split without leaks, and the committed sample is sound."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from unified_data.document import Audio, Image, Text
from unified_data.pocket import planning, voices
from unified_data.pocket.build import build_pocket, world_version
from unified_data.pocket.planning import KINDS
from unified_data.pocket.scenes import Scene, parse_caption, render, split_of
from unified_data.pocket.speech import VOICES, Voice, connected, speak, word_by_word
from unified_data.pocket.subjects import load_subjects
from unified_data.shards import read_index, read_shards, write_index

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs espeak-ng")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_seed_gives_the_same_bytes_with_any_workers(tmp_path):
    kinds = ["draw", "ask"]
    build_pocket(tmp_path / "a", seed=3, scale=0.0005, only=kinds, workers=1)
    build_pocket(tmp_path / "b", seed=3, scale=0.0005, only=kinds, workers=2)
    build_pocket(tmp_path / "c", seed=4, scale=0.0005, only=kinds, workers=1)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a") != contents(tmp_path / "c")


def test_kinds_built_apart_stay_and_are_replaced(tmp_path):
    seen = []
    report = lambda *call: seen.append(call)  # noqa: E731
    options = {"scale": 0.001, "workers": 1, "progress": report}
    first = build_pocket(tmp_path, only=["describe"], **options)
    total = sum(split["describe"] for split in first["counts"].values())
    assert seen == [("describe", i + 1, total) for i in range(total)]
    draw = build_pocket(tmp_path, only=["draw"], **options)
    assert set(draw["counts"]["train"]) == {"describe", "draw"}
    (tmp_path / "train-draw-00001.tar").write_bytes(b"")  # as if an earlier build had needed two
    stale = read_index(tmp_path)
    stale["shards"].append(type(stale["shards"][0])("train-draw-00001.tar", "train", "draw", 0, 0))
    write_index(tmp_path, stale["shards"], built={})
    again = build_pocket(tmp_path, only=["draw"], **options)
    assert again["counts"]["train"]["draw"] == draw["counts"]["train"]["draw"]
    assert not (tmp_path / "train-draw-00001.tar").exists()
    assert len(list(read_shards(tmp_path))) == sum(
        number for split in again["counts"].values() for number in split.values()
    )


def test_nonsense_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"kinds are \['dance'\], expected some of article"):
        build_pocket(tmp_path, only=["dance"])
    with pytest.raises(ValueError, match="kinds are"):
        build_pocket(tmp_path, only=[])
    with pytest.raises(ValueError, match="scale is 0"):
        build_pocket(tmp_path, scale=0)
    assert list(tmp_path.iterdir()) == []


def test_full_scale_draws_every_single_combination_of_train():
    scenes = planning._drawings("draw", "train", 1.0, np.random.default_rng(0))
    singles = {scene for scene in planning._single_scenes() if scene.split == "train"}
    assert singles <= set(scenes)
    assert {Scene("one", subject) for subject in load_subjects()} <= set(scenes)
    assert all(scene.split == "train" for scene in scenes)
    kinds = [scene.kind for scene in scenes]
    assert 14_500 < kinds.count("two") < 16_000
    assert 5_400 < kinds.count("counted") < 6_000
    heldout = planning._drawings("draw", "heldout", 1.0, np.random.default_rng(0))
    assert not {scene.key for scene in heldout} & {scene.key for scene in scenes}


def test_full_scale_speech_has_its_shares_and_does_not_leak():
    train = planning._sentences("speak", "train", 1.0, np.random.default_rng(0))
    heldout = planning._sentences("listen", "heldout", 1.0, np.random.default_rng(1))
    assert not {sentence for sentence, _ in train} & {sentence for sentence, _ in heldout}
    assert len(train) == planning._share(planning._COUNTS["speak"], "train", 1.0)
    assert len(heldout) == planning._share(planning._COUNTS["listen"], "heldout", 1.0)
    for voice, share in {"amy": 0.27, "ben": 0.46, "cole": 0.27}.items():
        assert np.mean([v == voice for _, v in train]) == pytest.approx(share, abs=0.02)
    leads = {
        (subject.lead, voice) for subject in load_subjects() for voice in ("amy", "ben", "cole")
    }
    assert leads <= set(train)
    facts = {sentence for subject in load_subjects() for sentence in subject.sentences}
    assert np.mean([sentence in facts for sentence, _ in train]) == pytest.approx(0.25, abs=0.01)
    assert len({sentence.split(" a ")[0] for sentence, _ in train if sentence not in facts}) > 10


def test_full_scale_articles_hold_every_subject_and_keep_plans_apart():
    train = planning._articles("article", "train", 1.0, np.random.default_rng(0))
    heldout = planning._articles("article", "heldout", 1.0, np.random.default_rng(1))
    subjects = load_subjects()
    assert len(train) + len(heldout) == 8 * len(subjects)
    defaults = [plan for plan in train if len(plan.sections) == 4 and plan.voice == "ben"]
    assert {plan.subject for plan in defaults} == set(subjects)
    assert not {plan.prompt for plan in train} & {plan.prompt for plan in heldout}


def test_the_sample_is_small_and_complete():
    assert sum(path.stat().st_size for path in SAMPLE.iterdir()) <= 5_000_000
    counts = read_index(SAMPLE)["counts"]
    assert set(counts) == {"train", "heldout"}
    assert all(set(counts[split]) == set(KINDS) for split in counts)


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_sample_pictures_are_what_their_captions_say(split):
    seen = 0
    for key, document in read_shards(SAMPLE, split, ["draw", "describe", "article"]):
        kind = key.split("-")[0]
        pairs = list(zip(document.segments, document.segments[1:]))
        if kind == "describe":
            pairs = [(Text(f"![{after.text}]"), before) for before, after in pairs]
        for before, after in pairs:
            if not isinstance(after, Image):
                continue
            scene = parse_caption(re.search(r"!\[([^\]]+)\]$", before.text)[1])
            assert np.array_equal(render(scene), after.pixels), key
            assert scene.split == ("train" if kind == "article" else split), key
            seen += 1
    assert seen > 5


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_sample_speech_has_its_form_and_split(split):
    leads = {subject.lead for subject in load_subjects()}
    seen = 0
    for key, document in read_shards(SAMPLE, split, ["speak", "listen"]):
        text = next(s.text for s in document if isinstance(s, Text))
        sound = next(s for s in document if isinstance(s, Audio))
        sentence = re.sub(r"^> \([a-z]+\) ", "", text)
        assert (sound.sample_rate, sound.waveform.shape[0]) == (16000, 1), key
        assert sound.waveform.shape[1] % 640 == 0, key
        assert sentence in leads or split_of(f"speech|{sentence}") == split, key
        seen += 1
    assert seen >= 4


def test_misread_sentences_have_one_name_wrong_and_are_of_their_split():
    for split in planning.SPLITS:
        planned = planning.plan_documents("misread", split, scale=0.05)
        for sentence, spoken, voice in planned:
            assert sentence != spoken
            assert voice in VOICES
            asked, misread = (text.rstrip(".").split()[::-1] for text in (sentence, spoken))
            end = next(n for n, pair in enumerate(zip(asked, misread)) if len(set(pair)) > 1)
            assert end >= 1, sentence  # something comes after the name
            assert {split_of(f"speech|{text}") for text in (sentence, spoken)} == {split}
        assert len({spoken for _, spoken, _ in planned}) > 0.9 * len(planned)


@needs_espeak
def test_a_misread_document_says_another_name_than_it_asks_for(tmp_path):
    build_pocket(tmp_path, scale=0.0005, only=["misread"], workers=1)
    planned = planning.plan_documents("misread", "heldout", scale=0.0005)
    documents = [document for _, document in read_shards(tmp_path, "heldout", ["misread"])]
    assert len(documents) == len(planned) >= 2
    for (sentence, spoken, voice), document in zip(planned, documents):
        prompt, sound = document.segments
        assert prompt.text == f"> ({voice}) {sentence}"
        assert np.array_equal(sound.waveform, speak(spoken, voice))


@needs_espeak
def test_every_kind_builds(tmp_path):
    index = build_pocket(tmp_path, scale=0.0002, workers=2)
    assert all(set(split) == set(KINDS) for split in index["counts"].values())
    documents = list(read_shards(tmp_path))
    assert all(any(s.role == "response" for s in document) for _, document in documents)
    assert set(index["built"]) == set(KINDS)
    assert index["built"]["speak"]["world"] == world_version()


def test_importing_the_package_brings_neither_torch_nor_the_others():
    program = (
        "import sys, unified_data.shards, unified_data.pocket.build\n"
        "print({'torch', 'unified', 'unified_tokenizers'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.strip() == "set()", result.stderr


def test_voices_of_the_two_splits_are_different_people():
    names, leads = {}, {subject.lead for subject in load_subjects()}
    for split in planning.SPLITS:
        planned = planning.plan_documents("voices", split)
        names[split] = {voice.name for _, voice, _ in planned}
        sentences = {sentence for sentence, _, _ in planned} - leads
        assert {split_of(f"speech|{sentence}") for sentence in sentences} == {split}
        assert np.mean([apart for *_, apart in planned]) == pytest.approx(0.5, abs=0.01)
        pitches, paces = zip(*((voice.pitch, voice.pace) for _, voice, _ in planned))
        assert min(pitches) >= 20
        assert max(pitches) <= 80
        assert max(paces) - min(paces) > 100
    assert not names["train"] & names["heldout"]
    assert len(names["train"]) == len(voices.TIMBRES) - 5
    assert len(names["heldout"]) == 5
    # The world's own voices are those of no held-out speaker.
    assert not {voice.espeak.partition("+")[2] for voice in VOICES.values()} & names["heldout"]


@needs_espeak
@pytest.mark.parametrize("accent", voices.ACCENTS)
def test_a_timbre_is_heard_in_every_accent(accent):
    """espeak-ng ignores the variant of a voice that it does not find by this name."""
    sounds = [
        word_by_word("one", Voice(name, f"{accent}{name}", 50, "")) for name in ("", "+m1", "+f2")
    ]
    assert len({sound.tobytes() for sound in sounds}) == 3


@needs_espeak
def test_voices_are_heard_word_by_word_or_as_a_whole(tmp_path):
    build_pocket(tmp_path, scale=0.001, only=["voices"], workers=1)
    planned = planning.plan_documents("voices", "heldout", scale=0.001)
    documents = [document for _, document in read_shards(tmp_path, "heldout", ["voices"])]
    assert {apart for *_, apart in planned} == {True, False}
    for (sentence, voice, apart), document in zip(planned, documents, strict=True):
        sound, text = document.segments
        assert text.text == sentence
        say, other = (word_by_word, connected) if apart else (connected, word_by_word)
        assert np.array_equal(sound.waveform, say(sentence, voice))
        assert not np.array_equal(sound.waveform, other(sentence, voice))
        assert np.abs(sound.waveform).max() <= 1


def test_drawings_of_twice_the_side_need_their_kind_and_a_font(tmp_path):
    font = tmp_path / "none.ttf"
    with pytest.raises(ValueError, match="of the kind draw alone"):
        build_pocket(tmp_path / "world", only=["describe"], double=font)
    with pytest.raises(ValueError, match="apt-get install fonts-noto-color-emoji"):
        build_pocket(tmp_path / "world", only=["draw"], scale=0.0005, workers=1, double=font)


@pytest.mark.skipif(not FONT.exists(), reason="needs the font Noto Color Emoji")
def test_drawings_of_twice_the_side_show_the_same(tmp_path):
    build_pocket(tmp_path, only=["draw"], scale=0.0005, workers=1, double=FONT)
    documents = [document for _, document in read_shards(tmp_path, "heldout", ["draw"])]
    assert len(documents) > 3
    for prompt, picture in (document.segments for document in documents):
        small = render(parse_caption(prompt.text.removeprefix("![").removesuffix("]")))
        assert picture.pixels.shape == (192, 192, 3)
        halved = picture.pixels.reshape(96, 2, 96, 2, 3).mean((1, 3))
        # The atlas is a scaled copy of the font's glyphs: edges differ a little, nothing else does.
        assert np.abs(halved - small).mean() < 4
