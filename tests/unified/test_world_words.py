"""Free words in English and Chinese become captions and wishes of the world; what cannot be said
is told."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unified.pocket.known_subjects import UnknownSubjectError
from unified.world.drawing_en import read_english
from unified.world.drawing_zh import read_chinese
from unified.world.edit_wishes import read_edit
from unified.world.request_words import PLAIN
from unified.world.world_subjects import WorldSubjects, meanings
from unified_data.pocket.subjects import find_subject, load_subjects
from unified_data.world.captions_en import caption_en, parse_en
from unified_data.world.captions_zh import caption_zh, parse_zh
from unified_data.world.chinese import find_chinese
from unified_data.world.colours import COLOURS
from unified_data.world.description import RELATION_NAMES, ZONES, Description, Item
from unified_data.world.edits import EDIT_KINDS, Edit, wish_en, wish_zh
from unified_data.world.ground import GROUND_NAMES

KNOWN = WorldSubjects.of_world()
NAMES = st.sampled_from([subject.name for subject in load_subjects()])
GROUND = st.none() | st.sampled_from(GROUND_NAMES)
COLOUR = st.none() | st.sampled_from(COLOURS)


@st.composite
def descriptions(draw):
    """What captions can say of up to four things."""
    kind = draw(st.sampled_from(["one", "zone", "pair", "list"]))
    ground = draw(GROUND)
    if kind == "list":
        names = draw(st.lists(NAMES, min_size=1, max_size=2, unique=True))
        counts = [draw(st.integers(1, 4 // len(names))) for _ in names]
        items = [Item(name, count, draw(COLOUR)) for name, count in zip(names, counts)]
        return Description(tuple(items), ground=ground)
    if kind == "pair":
        names = draw(st.lists(NAMES, min_size=2, max_size=2, unique=True))
        items = tuple(Item(name, 1, draw(COLOUR)) for name in names)
        return Description(items, draw(st.sampled_from(RELATION_NAMES)), None, ground)
    zone = draw(st.sampled_from(ZONES)) if kind == "zone" else None
    return Description((Item(draw(NAMES), 1, draw(COLOUR)),), None, zone, ground)


@settings(max_examples=60, deadline=None)
@given(descriptions())
def test_captions_of_the_world_stay_as_they_are(description):
    for caption, read in ((caption_en(description), read_english),
                          (caption_zh(description), read_chinese)):  # fmt: skip
        read_as = read(caption, KNOWN)
        assert (read_as.text, read_as.notes) == (caption, ())


@settings(max_examples=60, deadline=None)
@given(descriptions(), st.lists(st.sampled_from(["quickly", "wooden", "sleeping", "oil-painted"])))
def test_a_caption_among_other_words_is_found_and_they_are_told(description, others):
    text = f"Please draw {' '.join([*others, ''])}{caption_en(description)}"
    read_as = read_english(text, KNOWN)
    wished = parse_en(read_as.text)
    assert wished is not None
    counts = {item.name: item.count for item in description.items}
    assert {item.name: item.count for item in wished.items} == counts
    assert wished.ground == description.ground
    for word in others:
        assert word in read_as.notes[0]


_WORDS = """
    a two 7 some red violet fox foxes car puppy hat sitting on next to in the corner striped
    background without not big tiny glowing and with many at top left"""
_SOME = st.sampled_from(_WORDS.split())


@settings(max_examples=150, deadline=None)
@given(st.lists(_SOME, min_size=1, max_size=9))
def test_every_word_is_in_the_caption_or_in_a_note_or_says_nothing(words):
    text = " ".join(words)
    try:
        read_as = read_english(text, KNOWN)
    except ValueError:  # no subject that is known
        assert not {"fox", "foxes", "car"} & set(words) or {"without", "not"} & set(words)
        return
    assert parse_en(read_as.text) is not None
    told = f"{read_as.text} {' '.join(read_as.notes)}"
    silent = PLAIN | {"the", "some", "many", "two", "7", "background", "foxes", "tiny", "big",
                      "corner", "at", "to", "next", "top", "left", "in", "not"}  # fmt: skip
    for word in words:
        assert word in silent or word in told, (word, read_as)


@pytest.mark.parametrize(
    ("text", "caption", "notes"),
    [
        ("foxes", "three foxes", ["'foxes' names no number: three drawn"]),
        ("cats and dogs", "two cats and two dogs", ["'cats' names no number: two drawn"]),
        ("a cat without a hat", "a cat", ["left out: 'without a hat'"]),
        ("a fox in the corner", "a small fox at the top left", ["'in the corner' is drawn as"]),
        ("a fox on the left and a car on the right", "a fox to the left of a car", []),
        ("a fox with a car to its left", "a fox to the right of a car", []),
        ("a cat sitting on a chair", "a cat above a chair", ["'sitting on' is drawn as 'above'"]),
        ("12 lions", "four lions", ["12 lions are asked for, and a picture holds 4"]),
        ("a crimson car, gray background", "a red car on a grey ground", ["'crimson' is drawn"]),
        ('a cat and the word "HELLO"', "a cat and the word HELLO", []),
        ("a watercolour fox", "a fox", ["left out: watercolour"]),
        ("a jet and a car", "a car", ["'jet' (not known; the nearest in meaning: aeroplane)"]),
        ("saxaphone", "a saxophone", ["'saxaphone' is taken for a saxophone"]),
    ],
)
def test_english(text, caption, notes):
    read_as = read_english(text, KNOWN)
    assert read_as.text == caption
    for note in notes:
        assert note in read_as.notes[0]


@pytest.mark.parametrize(
    ("text", "caption", "note"),
    [
        ("狐狸", "一只狐狸", "drawn as"),
        ("请画两只红狐狸，不要树，蓝色背景", "两只红色的狐狸，蓝色背景", "'不要树'"),
        ("一群羊", "三只绵羊", "'羊' names no number: three drawn"),
        ("左边一只猫，右边一只狗", "一只猫在一只狗的左边", "drawn as"),
        ("狐狸在汽车旁边", "一只狐狸在一辆汽车的左边", "'旁边' is drawn as '左边'"),
        ("角落里的一只小狐狸", "左上角的一只小狐狸", "'角落' is drawn as '左上角'"),
        ("十头狮子", "四头狮子", "10 lions are asked for"),
        ("一只戴着帽子的猫", "一只猫", "'帽子' (not known"),
        ("可爱的大熊猫", "一只大熊猫", "left out: 可爱"),
        ("一只狐狸和数字42", "一只狐狸和数字42", None),
    ],
)
def test_chinese(text, caption, note):
    read_as = read_chinese(text, KNOWN)
    assert read_as.text == caption
    assert parse_zh(caption) is not None
    assert (read_as.notes == ()) if note is None else (note in read_as.notes[0])


@settings(max_examples=100, deadline=None)
@given(st.text("两只红色的狐狸和一辆汽车在左边，。没有背景蓝条纹小大画abc1", max_size=20))
def test_any_chinese_gives_a_caption_or_an_error_of_the_user(text):
    try:
        read_as = read_chinese(text, KNOWN)
    except ValueError:
        return
    assert parse_zh(read_as.text) is not None


@pytest.mark.parametrize(
    ("text", "by_meaning", "by_spelling"),
    [("a puppy", "dog", None), ("two jets", "aeroplane", None), ("一只松鼠", "mouse", None),
     ("a teapoy", None, "teapot"), ("a red panda", "giant panda", None)],
)  # fmt: skip
def test_what_is_not_known_is_refused_with_the_nearest(text, by_meaning, by_spelling):
    with pytest.raises(UnknownSubjectError) as error:
        (read_english if text.isascii() else read_chinese)(text, KNOWN)
    message = str(error.value)
    if by_meaning:
        assert f"nearest in meaning: {by_meaning}" in message
    else:
        assert re.search(rf"nearest in spelling: [^(]*{by_spelling}", message)


def test_words_of_meanings_name_no_subject_themselves():
    table = meanings()
    assert len(table) > 300
    for word, name in table.items():
        assert find_subject(word) is None, word
        assert find_chinese(word) is None, word
        assert find_subject(name).name == name


def test_subjects_with_chinese_names_come_back_from_their_file(tmp_path):
    KNOWN.save(tmp_path)
    assert WorldSubjects.load(tmp_path) == KNOWN
    assert KNOWN.find("狐狸").name == "fox"
    (tmp_path / "subjects.json").write_text('[{"name": "fox"}]')
    with pytest.raises(ValueError, match="entry 0: expected an object with zh"):
        WorldSubjects.load(tmp_path)


# Edits.


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(EDIT_KINDS), NAMES, NAMES, st.sampled_from(ZONES), st.data())
def test_wishes_of_the_world_stay_as_they_are(kind, name, other, zone, data):
    to = {"ground": data.draw(st.sampled_from(GROUND_NAMES)), "add": zone, "move": zone,
          "recolour": data.draw(st.sampled_from(COLOURS))}.get(kind)  # fmt: skip
    edit = Edit(kind, None if kind == "ground" else name, to,
                other if kind in ("swap", "replace") else None)  # fmt: skip
    for wish in (wish_en(edit), wish_zh(edit)):
        read_as = read_edit(wish, KNOWN)
        assert (read_as.text, read_as.notes) == (wish, ())


@pytest.mark.parametrize(
    ("text", "wish", "note"),
    [
        ("paint the car crimson, please", "Edit: make the car red", "'crimson' is taken for red"),
        ("Could you delete the small fox?", "Edit: remove the fox", "left out: 'small'"),
        ("turn the fox into a car", "Edit: replace the fox with a car", None),
        ("blue background", "Edit: make the ground blue", None),
        ("put the cat in the middle", "Edit: move the cat to the middle", None),
        ("add a dog", "Edit: add a dog in the middle", "no place"),
        ("删除狐狸", "修改：去掉狐狸", None),
    ],
)
def test_edits_in_other_words(text, wish, note):
    read_as = read_edit(text, KNOWN)
    assert read_as.text == wish
    assert (read_as.notes == ()) if note is None else (note in read_as.notes[0])


def test_an_edit_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="no change that the model knows, expected one such as"):
        read_edit("make it happier", KNOWN)
    with pytest.raises(UnknownSubjectError, match="nearest in meaning: dog"):
        read_edit("remove the puppy", KNOWN)
