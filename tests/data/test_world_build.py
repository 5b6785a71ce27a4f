"""Building the world: deterministic, balanced, split without leaks, in forms that are asked for."""

import shutil
from collections import Counter

import numpy as np
import pytest

from unified_data.document import Audio, Image, Text
from unified_data.pocket.subjects import load_subjects
from unified_data.shards import read_shards
from unified_data.world.build import KINDS, build_world, plan_kind, world_version
from unified_data.world.captions_en import parse_en
from unified_data.world.captions_zh import parse_zh
from unified_data.world.free_scene import SPLITS
from unified_data.world.glyphs import styles_of
from unified_data.world.picture_kinds import scene_of
from unified_data.world.sound import has_recorded_voices
from unified_data.world.style_names import TRAIN_STYLES
from unified_data.world.tasks import DESCRIBE_ZH, NOT_KNOWN, NOT_KNOWN_ZH, names_document

PICTURES = ("draw", "describe", "ask", "edit", "names", "unknown")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def texts(document):
    return [segment.text for segment in document.segments if isinstance(segment, Text)]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    index = build_world(folder, seed=3, scale=0.001, only=PICTURES, workers=1)
    assert index["world"] == "world"
    expected = {"seed": 3, "scale": 0.001, "world": world_version()}
    assert index["built"]["draw"] == {**expected, "recorded_voices": has_recorded_voices()}
    return folder


def test_the_same_seed_gives_the_same_bytes_with_any_workers(tmp_path):
    kinds = ["ask", "edit"]
    build_world(tmp_path / "a", seed=3, scale=0.0005, only=kinds, workers=1)
    build_world(tmp_path / "b", seed=3, scale=0.0005, only=kinds, workers=2)
    build_world(tmp_path / "c", seed=4, scale=0.0005, only=kinds, workers=1)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a") != contents(tmp_path / "c")


def test_every_kind_has_every_split(world):
    counts = Counter()
    for _, key, document in _documents(world):
        counts[key.split("-")[0]] += 1
        assert all(not isinstance(segment, Audio) for segment in document.segments)
    assert set(counts) == set(PICTURES)
    for split in SPLITS:
        assert len(list(read_shards(world, split, list(PICTURES)))) >= 2 * len(PICTURES)


def _documents(world, kind=None):
    for split in SPLITS:
        for key, document in read_shards(world, split, [kind] if kind else list(PICTURES)):
            yield split, key, document


def test_drawings_and_descriptions_are_in_their_forms(world):
    chinese = 0
    for kind in ("draw", "describe"):
        for _, _, document in _documents(world, kind):
            first, *_, last = document.segments
            said_text = texts(document)[-1]
            if kind == "draw":
                assert isinstance(last, Image)
                assert (first.role, last.role) == ("prompt", "response")
                said_text = first.text.removeprefix("![").removesuffix("]")
            else:
                assert isinstance(first, Image)
                in_chinese = said_text[0] > "\u2fff"
                assert (texts(document)[0] == DESCRIBE_ZH) == in_chinese
            parsed = parse_zh(said_text) if said_text[0] > "\u2fff" else parse_en(said_text)
            assert parsed is not None, said_text
            chinese += said_text[0] > "\u2fff"
    assert chinese > 5


def test_questions_edits_names_and_the_unknown_are_in_their_forms(world):
    for _, _, document in _documents(world, "ask"):
        prompts = [each for each in document.segments if each.role == "prompt"]
        assert isinstance(prompts[0], Image)
        assert 1 <= len(prompts) - 1 <= 3
        assert all(each.text[-1] in "?？" for each in prompts[1:])
    for _, _, document in _documents(world, "edit"):
        before, wish, after = document.segments
        assert wish.text.startswith(("Edit: ", "修改："))
        assert (before.pixels != after.pixels).any()
        assert (before.loss, after.loss) == (0.0, 1.0)
    for _, _, document in _documents(world, "names"):
        first, second, question, answer = texts(document)
        named = [text.removeprefix("This is ").removesuffix(".") for text in (first, second)]
        assert question == "What is this?"
        assert answer in named
        assert named[0] != named[1]
    for _, _, document in _documents(world, "unknown"):
        assert document.segments[-1].text in (NOT_KNOWN, NOT_KNOWN_ZH)
    with pytest.raises(ValueError, match="at least one example"):
        names_document([], Image(np.zeros((8, 8, 3), np.uint8)), Text("a dax"))


def test_subjects_and_styles_come_equally_often_in_training():
    payloads = plan_kind("draw", "train", 0, 0.2)
    cast = [member for payload in payloads for member in payload.cast]
    subjects = Counter(name for name, _ in cast)
    assert len(subjects) == len(load_subjects())
    # One round of each kind of scene may be begun and not ended.
    assert max(subjects.values()) - min(subjects.values()) <= 6
    for name in ("fox", "flamingo"):
        styles = Counter(style for each, style in cast if each == name)
        assert set(styles) == {*styles_of(name)} & {*TRAIN_STYLES}
        assert max(styles.values()) - min(styles.values()) <= 6
    assert {*styles_of("fox")} - {*styles_of("flamingo")} == {"emojione"}
    kinds = Counter(payload.kind for payload in payloads)
    assert kinds["single"] > kinds["two"] > kinds["counted"] > kinds["mixed"] > kinds["nothing"]


def test_scenes_are_of_their_split_and_in_styles_of_training():
    for kind in ("draw", "describe", "ask"):
        for split in SPLITS:
            for payload in list(plan_kind(kind, split, 1, 0.001)):
                scene = scene_of(payload, np.random.default_rng(payload.seed))
                assert scene.split == split
                assert {thing.style for thing in scene.things} <= {*TRAIN_STYLES}


def test_documents_aside_are_a_twentieth_and_not_many():
    sizes = [len(plan_kind("unknown", split, 0, 1.0)) for split in SPLITS]
    assert sizes == [KINDS["unknown"].number - 400, 200, 200]
    assert len(plan_kind("draw", "steer", 0, 1.0)) == 500


def test_nonsense_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"kinds are \['dance'\], expected some of draw"):
        build_world(tmp_path, only=["dance"])
    with pytest.raises(ValueError, match="scale is -1"):
        build_world(tmp_path, scale=-1)
    with pytest.raises(ValueError, match="the seed is -1"):
        build_world(tmp_path, seed=-1)
    assert list(tmp_path.iterdir()) == []


def test_kinds_built_later_join_the_folder(tmp_path, world):
    folder = tmp_path / "world"
    shutil.copytree(world, folder)
    index = build_world(folder, seed=5, scale=0.0005, only=["unknown"], workers=1)
    assert index["built"]["draw"]["seed"] == 3
    assert index["built"]["unknown"]["seed"] == 5
    assert set(index["counts"]["train"]) == set(PICTURES)
