"""The world's plug-in: what is asked of a model of the world, and what its answers lack."""

from __future__ import annotations

import json

import numpy as np
import pytest
from world_model import save_world_model

from unified.__main__ import run
from unified.models.known_pictures import KnownPictures, fit_known_pictures, reconstruction_error
from unified.models.model import UnifiedModel
from unified.pocket.known_subjects import UnknownSubjectError
from unified.tasks.asking import Inputs
from unified.tasks.task_plugin import load_plugin
from unified.world.article_wishes import read_article
from unified.world.world_plugin import WorldPlugin, save_subjects
from unified.world.world_subjects import WorldSubjects
from unified_base.images import load_image, save_png
from unified_base.sounds import load_audio, save_wav
from unified_data.document import Document, Text
from unified_data.world.tasks import NOT_KNOWN, NOT_KNOWN_ZH
from unified_data.world.wishes import canonical

PLUGIN = WorldPlugin()
KNOWN = WorldSubjects.of_world()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("subjects")
    save_subjects(path)
    return path


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_world_model(tmp_path_factory.mktemp("world") / "model")


@pytest.fixture(scope="module")
def model(saved):
    return UnifiedModel.from_pretrained(saved)


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    pixels = np.full((96, 96, 3), 200, np.uint8)
    pixels[20:60, 30:70] = (200, 30, 30)
    save_png(folder / "picture.png", pixels)
    wave = (np.sin(np.arange(1_600) / 9.0)[None] * 0.3).astype(np.float32)
    save_wav(folder / "sound.wav", wave, 16_000)
    return folder


# What is asked.


@pytest.mark.parametrize(
    ("verb", "inputs", "expected"),
    [
        ("draw", Inputs(text="foxes"), {"text": "three foxes"}),
        ("draw", Inputs(text="狐狸"), {"text": "一只狐狸"}),
        ("edit", Inputs(text="remove the fox"), {"text": "Edit: remove the fox"}),
        ("ask", Inputs(question="有狗吗？"), {"language": "zh"}),
        ("ask", Inputs(question="Is there a dog?"), {"language": None}),
        ("speak", Inputs(text=" 一只\n狐狸"), {"text": "一只 狐狸", "voice": "mei"}),
        ("speak", Inputs(text="A fox."), {"text": "A fox.", "voice": None}),
        ("write", Inputs(text="The fox, short"), {"images": 2}),
    ],
)
def test_words_are_read_in_their_language(folder, verb, inputs, expected):
    read = PLUGIN.read(verb, inputs, folder).inputs
    assert {name: getattr(read, name) for name in expected} == expected


def test_without_subjects_words_stay_as_they_are(tmp_path):
    assert PLUGIN.read("draw", Inputs(text="foxes"), tmp_path).inputs.text == "foxes"
    assert PLUGIN.subjects(tmp_path) is None


def test_a_voice_of_another_language_is_told(folder):
    (note,) = PLUGIN.read("speak", Inputs(text="狐狸", voice="ben"), folder).notes
    assert "voice ben speaks en" in note
    assert "of zh are mei" in note


# Articles.


@pytest.mark.parametrize(
    ("prompt", "wishes", "notes"),
    [
        ("The giant panda", "Write: The giant panda. Pictures: two. Narration: ben.", []),
        ("Write: The fox. Sections: food, home. Short.",
         "Write: The fox. Sections: food and home. Short. Pictures: two. Narration: ben.", []),
        ("A short article for children about the fox: first its food, then where it lives; two"
         " photos", "Write: The fox. Sections: food and home. Short. For children. Pictures: two."
         " Narration: ben.",
         []),
        ("熊猫：自然界的温柔使者", "写：熊猫：自然界的温柔使者。图片：两张。朗读：mei。", []),
        ("请用中文写一篇关于大熊猫的文章，不少于800字，包括外形与习性、栖息地与威胁、保护、文化影响，"
         "配三张图",
         "写：大熊猫。分为：外形与习性、栖息地与威胁、保护和文化影响。不少于八百字。"
         "图片：三张。朗读：mei。", []),
        ("Compare the fox and the wolf, for kids, without history",
         "Compare: The fox and the wolf. For children. Pictures: two.", []),
        ("Write a poem about the lion, 9 pictures",
         "Write: The lion. Pictures: four. Narration: ben.",
         ["'poem'", "9 pictures are asked for"]),
        ("Write about the fox in Chinese", "写：狐狸。图片：两张。朗读：mei。", []),
        ("The history of the bicycle",
         "Write: The bicycle. Only history. Pictures: two. Narration: ben.", []),
        ("Ten facts about owls, as a list", "Write a list: The owl. Ten items. Pictures: two.",
         []),
        ("The fox, read aloud by mei", "Write: The fox. Pictures: two. Narration: none.",
         ["there are amy, ben, cole, dora, earl"]),
    ],
)  # fmt: skip
def test_prompts_in_free_words_become_canonical_ones(prompt, wishes, notes):
    read, told = read_article(prompt, KNOWN)
    assert canonical(read) == wishes
    assert len(told) == len(notes)
    for note, expected in zip(told, notes):
        assert expected in note


def test_options_go_before_what_a_prompt_says():
    read, told = read_article("The fox, three pictures", KNOWN, images=9, audio=False)
    assert (read.pictures, read.narration) == (4, "none")
    assert told == ("9 pictures are asked for; an article has 4 at most",)


def test_an_article_about_what_is_not_known_is_refused():
    with pytest.raises(UnknownSubjectError, match="nearest in meaning: dog"):
        read_article("Write about puppies", KNOWN)
    with pytest.raises(ValueError, match="empty"):
        read_article(" ", KNOWN)


def test_what_an_article_lacks_is_named(folder):
    reading = PLUGIN.read("write", Inputs(text="The fox. Short. One picture."), folder)
    prompt = Text(reading.inputs.text, "prompt")
    (note,) = PLUGIN.finish("write", reading, Document((prompt, Text("# The cat\n\nHi."))))
    assert note.startswith("not as asked: ")
    assert "title" in note
    assert "pictures (asked: 1)" in note
    assert "length" not in note


# An untrained model of the world runs every verb, in every form.


def ask(*arguments):
    return run([str(argument) for argument in arguments])


@pytest.mark.parametrize(
    "line",
    [
        ("draw", "foxes on a blue background", "-o", "OUT.png"),
        ("draw", "两只红狐狸", "-o", "OUT.png"),
        ("draw", "--spoken", "sound.wav", "-o", "OUT.png"),
        ("edit", "picture.png", "make the ground red", "-o", "OUT.png"),
        ("describe", "picture.png"),
        ("describe", "picture.png", "--language", "zh"),
        ("describe", "picture.png", "--check"),
        ("ask", "picture.png", "Is there a fox?"),
        ("ask", "picture.png", "有狐狸吗？"),
        ("ask", "picture.png", "--spoken", "sound.wav"),
        ("ask", "picture.png", "What is this?", "--example", "dax=picture.png"),
        ("speak", "It is a fox.", "--voice", "amy", "-o", "OUT.wav"),
        ("speak", "一只狐狸", "-o", "OUT.wav"),
        ("speak", "--picture", "picture.png", "-o", "OUT.wav"),
        ("listen", "sound.wav"),
        ("write", "The fox. One picture.", "--check", "-o", "OUT.json"),
    ],
    ids=lambda line: "-".join(line[:3]),
)
def test_every_verb_runs_in_every_form(saved, media, tmp_path, capsys, line):
    named = [media / word if word in ("picture.png", "sound.wav") else word for word in line]
    named = [str(word).replace("OUT", str(tmp_path / "out")) for word in named]
    named = [f"dax={media}/picture.png" if word.startswith("dax=") else word for word in named]
    code = ask(*named, "--model", saved, "--json")
    captured = capsys.readouterr()
    assert code == 0, captured.err
    values = json.loads(captured.out)
    if line[0] in ("draw", "edit"):
        assert load_image(tmp_path / "out.png").shape == (96, 96, 3)
    elif line[0] == "speak":
        assert load_audio(tmp_path / "out.wav")[0].size
        assert values["thought"]
    elif line[0] != "write":
        assert values["text"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (("draw", "a puppy", "-o", "OUT.png"), "nearest in meaning: dog"),
        (("edit", "picture.png", "make it happier", "-o", "OUT.png"), "no change that the model"),
        (("describe", "picture.png", "--language", "fr"), "expected one of en, zh"),
        (("speak", "Hi", "--voice", "zoe", "-o", "OUT.wav"), "expected one of amy, ben, cole"),
        (("ask", "picture.png"), "there is no question"),
        (("ask", "picture.png", "What?", "--example", "dax"), "expected NAME=FILE"),
        (("describe", "picture.png", "--check", "--ask", "What?"), "--check is of descriptions"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_line(saved, media, tmp_path, capsys, line, message):
    named = [media / word if word == "picture.png" else word for word in line]
    named = [str(word).replace("OUT", str(tmp_path / "out")) for word in named]
    assert ask(*named, "--model", saved) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_plug_in_and_its_subjects_go_with_a_model(model, tmp_path):
    model.save_pretrained(tmp_path / "copy")
    again = UnifiedModel.from_pretrained(tmp_path / "copy")
    assert (again.plugin, again.tasks) == ("world", model.tasks)
    fox = next(s for s in load_plugin("world").subjects(tmp_path / "copy") if s["name"] == "fox")
    assert (fox["zh"], fox["zh_measure"]) == ("狐狸", "只")


# "I do not know".


def test_a_strange_picture_is_not_known_whatever_the_model_says(saved, tmp_path, capsys):
    known = np.full((96, 96, 3), 120, np.uint8)
    strange = np.random.default_rng(0).integers(0, 256, (96, 96, 3)).astype(np.uint8)
    model = UnifiedModel.from_pretrained(saved)
    near = reconstruction_error(known, model.sequencer)
    assert near < reconstruction_error(strange, model.sequencer)
    copy = tmp_path / "copy"
    model.save_pretrained(copy, finish=KnownPictures(near + 1, 0.0, 1).save)
    model = UnifiedModel.from_pretrained(copy)
    model.save_pretrained(tmp_path / "again")  # the limit goes with it
    assert KnownPictures.load(tmp_path / "again") == KnownPictures(near + 1, 0.0, 1)
    request = model.request("describe", image=strange)
    (response,) = model.respond(request)
    assert (response.text, response.known) == (NOT_KNOWN, False)
    assert response.thought is not None  # what it would have said
    with pytest.warns(UserWarning, match="unlike those the model was trained on"):
        assert model.ask(strange, "有狗吗？") == NOT_KNOWN_ZH
    assert model.respond(model.request("describe", image=known))[0].known
    save_png(tmp_path / "noise.png", strange)
    assert ask("describe", tmp_path / "noise.png", "--model", copy) == 0
    assert capsys.readouterr().out == f"{NOT_KNOWN}\n"


def test_the_limit_is_what_a_share_of_known_pictures_is_above(model):
    rng = np.random.default_rng(1)
    pictures = [np.full((96, 96, 3), grey, np.uint8) for grey in rng.integers(0, 256, 20)]
    known = fit_known_pictures(pictures, model.sequencer, 0.1)
    errors = [reconstruction_error(picture, model.sequencer) for picture in pictures]
    assert sum(error > known.limit for error in errors) <= 2
    assert (known.pictures, known.false_alarms) == (20, pytest.approx(0.1, abs=0.06))
    with pytest.raises(ValueError, match="20 pictures, expected 100"):
        fit_known_pictures(pictures, model.sequencer, 0.01)


def test_a_broken_limit_is_refused_by_name(tmp_path):
    (tmp_path / "known.json").write_text('{"version": 2}')
    with pytest.raises(ValueError, match=r"known\.json holds"):
        KnownPictures.load(tmp_path)
