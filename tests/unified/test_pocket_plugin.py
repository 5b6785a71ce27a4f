"""The pocket model's plug-in: words are read against a folder's subjects, and notes come of it."""

from __future__ import annotations

import pytest

from unified.models.files import model_directory
from unified.models.model import UnifiedModel
from unified.pocket.known_subjects import KnownSubjects, UnknownSubjectError
from unified.pocket.plugin import PocketPlugin
from unified.tasks.asking import Inputs
from unified.tasks.task_file import read_tasks
from unified.tasks.task_plugin import load_plugin
from unified.training.worlds import tasks_of_world
from unified_data.document import Document, Text
from unified_data.pocket.scenes import parse_caption
from unified_data.pocket.subjects import find_subject, load_subjects

PLUGIN = PocketPlugin()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    KnownSubjects.of(load_subjects()).save(path)
    return path


@pytest.mark.parametrize(
    ("verb", "words", "text", "note"),
    [
        ("draw", "a cat", "a cat", None),
        ("draw", "cats", "two cats", "'cats' names no number"),
        ("draw", "a cat without a hat", "a cat", "left out: without a hat"),
        ("draw", "nine lions", "four lions", "nine lions are asked for"),
        ("draw", "Saxaphone", "a saxophone", "'saxaphone' is taken for a saxophone"),
        ("speak", " It is\n a cat. ", "It is a cat.", None),
        ("write", "A short article about cats", "Write: The cat. Sections: ", "left out: 'short'"),
        ("write", "The bald eagle", "Write: The eagle. Sections: ", "'bald eagle' is taken for"),
    ],
)
def test_words_become_those_of_the_training_with_a_note(folder, verb, words, text, note):
    reading = PLUGIN.read(verb, Inputs(text=words), folder)
    assert reading.inputs.text.startswith(text)
    if note is None:
        assert reading.notes == ()
    else:
        (only,) = reading.notes
        assert note in only


def test_an_article_asks_for_the_media_of_its_plan_and_tells_what_is_missing(folder):
    reading = PLUGIN.read("write", Inputs(text="The cat. Its food, silent", images=9), folder)
    assert (reading.inputs.images, reading.inputs.sounds) == (4, 0)
    assert reading.notes == ("9 pictures are asked for; an article of this model has 4",)
    good = Document((Text("# The cat\n\n## Food\n\nIt eats mice.", "response"),))
    assert PLUGIN.finish("write", reading, good) == ()
    bad = Document((Text("# The cat\n\n## Home\n\nIt has one.", "response"),))
    (note,) = PLUGIN.finish("write", reading, bad)
    assert note.startswith("the sections came as Home; asked for were Food")


def test_what_is_not_known_is_refused_and_without_a_list_words_stay(folder, tmp_path):
    with pytest.raises(UnknownSubjectError, match="does not know 'unicorn'"):
        PLUGIN.read("draw", Inputs(text="a unicorn"), folder)
    inputs = Inputs(text="a unicorn")
    assert PLUGIN.read("draw", inputs, tmp_path).inputs is inputs
    assert PLUGIN.subjects(tmp_path) is None
    assert len(PLUGIN.subjects(folder)) == len(load_subjects())


def test_captions_find_in_a_list_of_subjects_what_the_world_calls_so(folder):
    known = KnownSubjects.load(folder)
    subjects = load_subjects()
    names = {n for s in subjects for n in (s.name, s.plural, *s.aliases, s.glyph, f"{s.name}s")}
    names |= {f" {name.upper()} " for name in names} | {"", "unicornx", "chickens"}
    for name in names:
        world, called = find_subject(name), known.called(name)
        assert (called and called.name) == (world and world.name), name
    for caption in ("A cat on a blue ground", "two cats", "a small axe at the top left",
                    "a cat above a tree", "a cat above a cat", "cats galore"):  # fmt: skip
        scene, same = parse_caption(caption), parse_caption(caption, known.called)
        assert (same and same.caption) == (scene and scene.caption)


def test_the_shipped_tasks_are_those_of_its_world():
    plugin = UnifiedModel.from_pretrained("pocket", read_weights=False).plugin
    assert read_tasks(model_directory("pocket")) == tasks_of_world(plugin)
    assert isinstance(load_plugin("pocket"), PocketPlugin)
