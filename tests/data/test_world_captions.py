"""What is said of the world's scenes is true of them, and can be read back, in two languages."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unified_data.pocket.subjects import find_subject, load_subjects
from unified_data.world.captions_en import caption_en, parse_en
from unified_data.world.captions_zh import can_say_zh, caption_zh, parse_zh
from unified_data.world.chinese import ChineseName, chinese_names, read_names
from unified_data.world.colours import COLOURS
from unified_data.world.composing import KINDS_OF_SCENE, compose_scene
from unified_data.world.description import (
    RELATION_NAMES,
    ZONES,
    Description,
    Item,
    describe_scene,
    relation_of,
    zone_of,
)
from unified_data.world.edits import EDIT_KINDS, propose_edit, wish_en, wish_zh
from unified_data.world.free_scene import FreeScene, Lettering, Thing, split_of_keys
from unified_data.world.glyphs import body_of
from unified_data.world.ground import GROUND_NAMES, Ground
from unified_data.world.picture_kinds import wished_description
from unified_data.world.question_texts import (
    answer_en,
    answer_zh,
    names_in,
    question_en,
    question_zh,
)
from unified_data.world.questions import questions_about, seen_in

NAMES = [subject.name for subject in load_subjects()]
CHINESE = sorted(chinese_names())
ITEMS = st.builds(
    Item, st.sampled_from(NAMES), st.integers(1, 4), st.sampled_from([None, *COLOURS])
)
LETTERING = st.sampled_from([None, "7", "42", "CAT", "ZUG", "1999"])


def descriptions(items):
    single = items.map(lambda item: Item(item.name, 1, item.colour))
    grounds = st.sampled_from([None, *GROUND_NAMES])
    plain = st.builds(Description, st.lists(items, max_size=4).map(tuple), st.none(), st.none(),
                      grounds, LETTERING)  # fmt: skip
    pairs = st.builds(Description, st.tuples(single, single), st.sampled_from(RELATION_NAMES),
                      st.none(), grounds)  # fmt: skip
    small = st.builds(Description, st.tuples(single), st.none(), st.sampled_from(ZONES), grounds)
    return st.one_of(plain, pairs, small)


@settings(max_examples=400, deadline=None)
@given(descriptions(ITEMS))
def test_an_english_caption_is_read_back(description):
    assert parse_en(caption_en(description)) == description


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_a_chinese_caption_is_read_back(data):
    items = st.builds(Item, st.sampled_from(CHINESE), st.integers(1, 4),
                      st.sampled_from([None, *COLOURS]))  # fmt: skip
    description = data.draw(descriptions(items))
    assert parse_zh(caption_zh(description)) == description


@pytest.mark.parametrize(
    ("description", "caption"),
    [
        (Description((Item("fox"),)), "a fox"),
        (Description((Item("axe", 1, "red"),), ground="orange"), "a red axe on an orange ground"),
        (Description((Item("car", 1, "blue"),), zone="top"), "a small blue car at the top"),
        (Description((Item("fox"), Item("axe")), "left"), "a fox to the left of an axe"),
        (
            Description((Item("fox", 2), Item("bow and arrow"), Item("axe")), ground="striped"),
            "two foxes, a bow and arrow and an axe on a striped ground",
        ),
        (Description(writing="42", ground="red"), "the number 42 on a red ground"),
        (Description((Item("pair of jeans", 3, "red"),)), "three red pairs of jeans"),
        (Description(ground="black"), "nothing on a black ground"),
    ],
)
def test_captions_are_plain_english(description, caption):
    assert caption_en(description) == caption


def test_people_write_captions_their_own_way():
    assert parse_en("A Red Fox on a blue background.") == parse_en("a red fox on a blue ground")
    assert parse_en("the truck above the panda") == Description(
        (Item("lorry"), Item("giant panda")), "above"
    )
    for text in (
        "a unicorn",
        "fox",
        "red",
        "a fox on a teal ground",
        "five foxes",
        "",
        "the word 7",
    ):
        assert parse_en(text) is None


def test_chinese_names_are_read_and_checked(tmp_path):
    assert set(chinese_names()) == {*NAMES}
    entry = "- {name: %s, zh: %s, zh_measure: 只, zh_aliases: [%s]}\n"
    (tmp_path / "mammal.yaml").write_text(entry % ("fox", "狐狸", "红狐"), "utf-8")
    assert read_names(tmp_path) == {"fox": ChineseName("狐狸", "只", ("红狐",))}
    (tmp_path / "bird.yaml").write_text(entry % ("owl", "狐狸", ""), "utf-8")
    with pytest.raises(ValueError, match="'owl' and 'fox' are both called '狐狸'"):
        read_names(tmp_path)
    (tmp_path / "bird.yaml").write_text(entry % ("unicorn", "独角兽", ""), "utf-8")
    with pytest.raises(ValueError, match=r"bird\.yaml has 'unicorn', which is no subject's name"):
        read_names(tmp_path)


def test_chinese_captions():
    red = Description((Item("fox", 1, "red"),), ground="blue")
    assert caption_zh(red) == "一只红色的狐狸，蓝色背景"
    assert caption_zh(Description((Item("fox"),), zone="top left")) == "左上角的一只小狐狸"
    assert caption_zh(Description(ground="green")) == "什么都没有，绿色背景"
    assert parse_zh("二只狐狸，条纹背景。") == Description((Item("fox", 2),), ground="striped")
    for text in ("一只独角兽", "一辆狐狸", "狐狸", "", "单词7"):
        assert parse_zh(text) is None


def test_places_and_relations():
    def thing(x, y, name="fox", scale=0.3):
        return Thing(name, "noto", x, y, scale)

    assert [zone_of(thing(x, y)) for y in (0.2, 0.5, 0.8) for x in (0.2, 0.5, 0.8)] == [*ZONES]
    assert zone_of(thing(0.5, 0.5, scale=0.6)) is None
    assert zone_of(thing(0.39, 0.2)) == "top left"
    assert zone_of(thing(0.39, 0.2), clear=True) is None
    fox, car = thing(0.2, 0.5), thing(0.8, 0.55, "car")
    assert (relation_of(fox, car), relation_of(car, fox)) == ("left", "right")
    assert relation_of(thing(0.5, 0.2), thing(0.45, 0.8, "car")) == "above"
    assert relation_of(thing(0.2, 0.2), thing(0.8, 0.8, "car")) is None
    above = describe_scene(FreeScene((thing(0.5, 0.8, "car"), thing(0.52, 0.2))))
    assert caption_en(above) == "a fox above a car"
    assert caption_en(above.turned()) == "a car below a fox"
    with pytest.raises(ValueError, match="expected one thing"):
        Description((Item("fox", 2),), zone="top")


@pytest.mark.parametrize("kind", KINDS_OF_SCENE)
def test_a_scene_is_described_as_it_was_composed(kind):
    rng = np.random.default_rng(1)
    for _ in range(40):
        scene = compose_scene(rng, kind)
        description = describe_scene(scene)
        counts = {item.name: 0 for item in description.items}
        for item in description.items:
            counts[item.name] += item.count
        names = [thing.name for thing in scene.things]
        assert counts == {name: names.count(name) for name in scene.names}
        for item in description.items:
            alike = [t for t in scene.things if (t.name, t.tint) == (item.name, item.colour)]
            assert len(alike) == item.count
        assert (description.zone is not None) == (kind == "small")
        assert (description.writing is not None) == (kind == "writing")
        assert description.ground == (None if scene.ground.name == "white" else scene.ground.name)
        if description.relation is not None:
            first, second = (
                next(t for t in scene.things if t.name == item.name) for item in description.items
            )
            assert relation_of(first, second) == description.relation
        else:
            lefts = [min(t.x for t in scene.things if t.name == i.name) for i in description.items]
            assert lefts == sorted(lefts)
        wished = wished_description(scene, rng)
        assert {item.name for item in wished.items} == {*names}
        for item in wished.items:  # a given colour is said, and no wrong one
            of_it = [thing for thing in scene.things if thing.name == item.name]
            tints = {thing.tint for thing in of_it}
            if tints != {None}:
                assert item.colour in tints
            elif item.colour is not None:
                assert all(body_of(t.name, t.style).colour == item.colour for t in of_it)


def test_answers_are_true_and_half_are_yes():
    rng = np.random.default_rng(2)
    answers = {"exist": [], "is beside": []}
    adversarial = 0
    for number in range(600):
        kind = KINDS_OF_SCENE[number % len(KINDS_OF_SCENE)]
        scene = compose_scene(rng, kind)
        names = [thing.name for thing in scene.things]
        for question in questions_about(scene, rng):
            name = question.item.name if question.item else None
            if question.kind == "exist":
                there = any(
                    thing.name == name and question.item.colour in (None, thing.tint)
                    for thing in scene.things
                )
                assert question.answer == there
                if names and question.item.colour is None:
                    answers["exist"].append(there)
                    kinds = {find_subject(each).kind for each in names}
                    adversarial += not there and find_subject(name).kind in kinds
            elif question.kind == "count":
                assert question.answer == names.count(name)
            elif question.kind == "colour":
                for thing in scene.things:
                    if thing.name == name:
                        own = body_of(name, thing.style).colour
                        assert question.answer == (thing.tint or own)
            elif question.kind == "is beside":
                things = {thing.name: thing for thing in scene.things}
                truth = relation_of(things[name], things[question.other]) == question.relation
                assert question.answer == truth
                answers["is beside"].append(truth)
            elif question.kind == "beside":
                things = {thing.name: thing for thing in scene.things}
                assert relation_of(things[question.answer], things[name]) == question.relation
            elif question.kind == "ground":
                assert question.answer == scene.ground.name
    for kind, truths in answers.items():
        assert 0.4 < np.mean(truths) < 0.6, kind
    assert adversarial > 0.4 * answers["exist"].count(False)


def test_an_answer_says_first_what_is_seen():
    things = (Thing("fox", "noto", 0.2, 0.5, 0.3), Thing("car", "noto", 0.8, 0.5, 0.3, tint="blue"))
    scene = FreeScene(things, Ground("plain", (40, 60, 220)))
    texts = {}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        for question in questions_about(scene, rng):
            texts[question_en(question, rng)] = answer_en(question, seen_in(scene))
    assert all(answer.startswith("a fox and a blue car") for answer in texts.values())
    assert texts["What do you see?"] == "a fox and a blue car"
    assert texts["What colour is the ground?"] == "a fox and a blue car: blue"
    assert texts["Where is the fox?"] == "a fox and a blue car: to the left of the car"
    assert texts["What is to the right of the fox?"] == "a fox and a blue car: a car"
    assert texts["How many foxes are there?"] == "a fox and a blue car: one"
    assert texts["What colour is the car?"] == "a fox and a blue car: blue"
    assert texts["Is the fox above the car?"] == "a fox and a blue car: no"
    assert texts["Is there a fox?"] == "a fox and a blue car: yes"


def test_every_question_is_asked_and_answered_in_chinese():
    rng = np.random.default_rng(3)
    kinds = set()
    for number in range(120):
        scene = compose_scene(rng, KINDS_OF_SCENE[number % len(KINDS_OF_SCENE)])
        if not can_say_zh(seen_in(scene)):
            continue
        for question in questions_about(scene, rng):
            if names_in(question) <= {*chinese_names()}:
                kinds.add(question.kind)
                assert question_zh(question, rng).endswith("？")
                answer = answer_zh(question, seen_in(scene))
                seen = caption_zh(seen_in(scene))
                assert answer.startswith(seen)
                assert (answer == seen) == (question.kind == "what")
    assert len(kinds) == 9


@pytest.mark.parametrize("kind", EDIT_KINDS)
def test_an_edit_changes_what_it_says_and_nothing_else(kind):
    rng = np.random.default_rng(4)
    edits = 0
    while edits < 25:
        before = compose_scene(rng, ("single", "small", "two", "mixed")[int(rng.integers(4))])
        proposal = propose_edit(before, kind, rng)
        if proposal is None:
            continue
        edits += 1
        edit, after = proposal
        old = {thing for thing in before.things if thing.name not in edit.names}
        assert {thing for thing in after.things if thing.name not in edit.names} == old
        was = next((thing for thing in before.things if thing.name == edit.name), None)
        now = next((thing for thing in after.things if thing.name == edit.name), None)
        assert (before.ground == after.ground) == (kind != "ground")
        if kind == "ground":
            assert after.ground.name == edit.to
        elif kind == "add":
            assert was is None
            assert zone_of(now) == edit.to
        elif kind == "remove":
            assert now is None
        elif kind == "recolour":
            assert now == Thing(**{**vars(was), "tint": edit.to})
        elif kind == "move":
            assert zone_of(now) == edit.to
            assert now == Thing(**{**vars(was), "x": now.x, "y": now.y})
        elif kind == "swap":
            other = next(thing for thing in before.things if thing.name == edit.other)
            assert (now.x, now.y) == (other.x, other.y)
        else:
            new = next(thing for thing in after.things if thing.name == edit.other)
            assert (new.x, new.y, new.scale) == (was.x, was.y, was.scale)
            assert now is None
        assert wish_en(edit).startswith("Edit: ")
        if edit.names <= {*chinese_names()}:
            assert wish_zh(edit).startswith("修改：")


def test_a_held_out_pair_or_colour_is_in_no_scene_of_training():
    scenes = [compose_scene(np.random.default_rng(seed), "mixed") for seed in range(300)]
    by_split = {split: [s for s in scenes if s.split == split] for split in
                ("train", "steer", "heldout")}  # fmt: skip
    assert len(by_split["train"]) > 60
    keys = {split: {key for scene in group for key in scene.keys}
            for split, group in by_split.items()}  # fmt: skip
    for scene in by_split["heldout"]:
        own = [key for key in scene.keys if split_of_keys((key,)) == "heldout"]
        assert own
        assert not {*own} & (keys["train"] | keys["steer"])
    for scene in by_split["steer"]:
        assert not {key for key in scene.keys if split_of_keys((key,)) == "steer"} & keys["train"]
    pair = [key for key in itertools.chain(*(s.keys for s in scenes)) if key.startswith("two|")]
    assert 0.03 < np.mean([split_of_keys((key,)) == "heldout" for key in pair]) < 0.08
    white = FreeScene((Thing("fox", "noto", 0.5, 0.5, 0.9),))
    assert white.split == "train"
    assert FreeScene((), writing=Lettering("7", 0.5, 0.5, 0.3, (0, 0, 0))).keys == ("writing|7",)
