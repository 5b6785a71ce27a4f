"""Prompts in plain words become plans, and plans requests."""

from __future__ import annotations

import contextlib
import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unified.articles.blocks import headings_of
from unified.pocket.article import article_request, shortfall
from unified.pocket.article_plan import plan_article
from unified.pocket.captions import read_caption
from unified.pocket.known_subjects import FILE_NAME, KnownSubjects, UnknownSubjectError
from unified.pocket.prompt_parser import parse_requests
from unified_data.document import Document, Slot, Text
from unified_data.pocket.articles import plan_prompt
from unified_data.pocket.subjects import Section, Subject, load_subjects


def subject(name, plural, kind, glyph, aliases, *headings, article="a"):
    sections = tuple(Section(heading, ()) for heading in headings)
    return Subject(name, plural, article, kind, glyph, aliases, "", sections)


PANDA = subject(
    "giant panda", "giant pandas", "mammal", "🐼", ("panda", "panda bear"),
    "Appearance", "Home", "Food", "Threats",
)  # fmt: skip
DEER = subject("deer", "deer", "mammal", "🦌", ("stag", "doe"), "Appearance", "Home", "People")
HOUSE = subject("house", "houses", "place", "🏠", ("home",), "Appearance", "Building", "History")
BIKE = subject("bicycle", "bicycles", "vehicle", "🚲", ("bike",), "Appearance", "Uses", "History")
DRUM = subject("drum", "drums", "instrument", "🥁", (), "Appearance", "Playing", "Sound")
FIRE = subject("fire", "fires", "weather", "🔥", ("flame",), "Appearance", "Cause", "Effects")
KNOWN = KnownSubjects((PANDA, DEER, HOUSE, BIKE, DRUM, FIRE))
WORLD = KnownSubjects.of(load_subjects())


def planned(prompt, **options):
    plan = plan_article(prompt, KNOWN, **options)
    return plan.subject.name, plan.sections, plan.num_pictures, plan.narration


def test_the_prompt_of_the_issue():
    prompt = (
        "The giant panda: nature's gentle envoy. First its looks, then its home and the threats "
        "to it; three pictures"
    )
    plan = plan_article(prompt, KNOWN)
    assert plan.sections == ("Appearance", "Home", "Threats")
    assert plan.prompt == (
        "Write: The giant panda. Sections: Appearance, Home, Threats. Pictures: 3. Narration: yes."
    )
    (note,) = plan.notes
    assert 'the subtitle "nature\'s gentle envoy" is left out' in note


@pytest.mark.parametrize(
    "title",
    ["The giant panda", "giant pandas", "PANDA", "  the Panda bear. ", "🐼", "Pandas!",
     "Write an illustrated article about the giant panda", "The mighty panda"],
)  # fmt: skip
def test_a_bare_title_asks_for_everything(title):
    assert planned(title) == ("giant panda", ("Appearance", "Home", "Food", "Threats"), 3, True)


@pytest.mark.parametrize(
    ("prompt", "sections"),
    [
        ("The panda: threats, food and looks", ("Threats", "Food", "Appearance")),
        ("The panda. What it eats, where it lives", ("Food", "Home")),
        ("What does a giant panda eat?", ("Food",)),
        ("Where do pandas live?", ("Home",)),
        ("The panda's home and diet", ("Home", "Food")),
        ("The home of the giant panda", ("Home",)),
        ("The panda. End with its food, start with the dangers", ("Threats", "Food")),
        ("The panda. Its food after its habitat", ("Home", "Food")),
        ("The panda. Its home, but first its food", ("Food", "Home")),
        ("The panda. Everything but its food", ("Appearance", "Home", "Threats")),
        ("The panda, without food and threats", ("Appearance", "Home")),
        ("The panda. Threats, then the rest", ("Threats", "Appearance", "Home", "Food")),
        ("The panda: a home for bears", ("Appearance", "Home", "Food", "Threats")),
        ("The panda. Food, food and again food", ("Food",)),
    ],
)
def test_sections_come_in_the_order_asked_for(prompt, sections):
    assert plan_article(prompt, KNOWN).sections == sections


@pytest.mark.parametrize(
    ("wish", "pictures", "narration"),
    [
        ("two pictures", 2, True),
        ("with 4 nice colour photos", 4, True),
        ("no pictures", 0, True),
        ("without pictures or narration", 0, False),
        ("text only", 0, False),
        ("no narration and three pictures", 3, False),
        ("silent, one illustration", 1, False),
        ("a couple of images; not read aloud", 2, False),
        ("read aloud", 3, True),
        ("with pictures", 3, True),
        ("no sound", 3, False),
        ("as many pictures as possible", 4, True),
    ],
)
def test_pictures_and_narration(wish, pictures, narration):
    _, sections, *rest = planned(f"The drum. Its sound, {wish}")
    assert sections == ("Sound",)  # the heading Sound is not taken for a narration
    assert rest == [pictures, narration]


def test_options_go_before_words():
    assert planned("The panda, two pictures", images=1, audio=False)[2:] == (1, False)
    plan = plan_article("The panda, with narration", KNOWN, audio=False)
    assert not plan.narration
    assert "audio is switched off" in plan.notes[0]


@pytest.mark.parametrize(
    ("prompt", "nearest"),
    [
        ("The red panda", "giant panda"),
        ("Unicycle", "bicycle"),
        ("a fire drill", "fire"),
        ("A house-boat", "house"),
        ("Drumming circles: their sound", "drum"),
    ],
)
def test_an_unknown_subject_names_the_nearest(prompt, nearest):
    with pytest.raises(UnknownSubjectError, match=f"it knows: {nearest}"):
        plan_article(prompt, KNOWN)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "empty"),
        (" \n ", "empty"),
        ("...", "names no subject"),
        ("Write an article", "names no subject"),
        ("The drum. Its rules", "nothing is known of the drum under|no section"),
        ("The panda. Its ingredients", "nothing is known of the giant panda under Making"),
        ("The panda. -1 pictures", "0 to 4 pictures, -1"),
        ("The deer. No looks, no people, no home", "leave no section"),
    ],
)
def test_bad_prompts_say_what_is_wrong(prompt, message):
    known = KnownSubjects((PANDA, DEER, subject("drum", "drums", "x", "🥁", (), "Appearance")))
    with pytest.raises(ValueError, match=message):
        plan_article(prompt, known)


@pytest.mark.parametrize(
    ("prompt", "note"),
    [
        ("The giant panda: nature's gentle envoy", 'gentle envoy" is left out: a title'),
        ("Nature's envoy: the giant panda", 'left out of the title: "Nature\'s envoy"'),
        ("The mighty panda", "left out of the title: 'mighty'"),
        ("A short article about the panda", "left out: 'short'"),
        ("The panda, not too long", "left out: 'not too long'"),
        ("The panda in 100 words", "left out: 'in 100 words'"),
        ("The panda. Two paragraphs on its food", "left out: 'two paragraphs'"),
        ("The panda for children", "left out: 'for children'"),
        ("The panda. For a five-year-old", "left out: 'for a five-year-old'"),
        ("The panda in French", "left out: 'in french'"),
        ("A funny story about the panda", "left out: 'funny', 'story'"),
        ("The panda, 3 watercolour pictures", "left out: 'watercolour pictures'"),
        ("The panda, no snow", "not understood and left out: 'no snow'"),
        ("The panda in the style of a tabloid", "in the style of a tabloid'"),
        ("The panda. Nine pictures", "9 pictures are asked for; an article of this model has 4"),
        ("The bald fire", "'bald fire' is taken for the fire"),
        ("Bicicle", "'bicicle' is taken for the bicycle"),
        ("The bicicle: its history", "'bicicle' is taken for the bicycle"),
    ],
)
def test_what_is_not_followed_is_named(prompt, note):
    (only,) = plan_article(prompt, KNOWN).notes
    assert note in only


@pytest.mark.parametrize(
    "prompt",
    ["The panda, without pictures", "The panda, two pictures", "A silent article about the panda",
     "An illustrated article about the panda", "Pandas", "The panda, 3 nice colour photos",
     "The panda. Everything but its food", "The panda's home and diet"],
)  # fmt: skip
def test_what_is_followed_needs_no_note(prompt):
    assert plan_article(prompt, KNOWN).notes == ()


def test_more_pictures_than_there_can_be_are_capped_and_fewer_than_none_refused():
    plan = plan_article("The panda", KNOWN, images=9)
    assert (plan.num_pictures, plan.notes) == (
        4, ("9 pictures are asked for; an article of this model has 4",),
    )  # fmt: skip
    with pytest.raises(ValueError, match="images"):
        plan_article("The panda", KNOWN, images=-1)


def test_the_requests_beside_a_misspelt_name_are_followed_or_named():
    plan = plan_article("A short article about the bald fire for children: its cause", KNOWN)
    assert (plan.subject.name, plan.sections) == ("fire", ("Cause",))
    taken_for, unmet = plan.notes
    assert "'bald fire' is taken for the fire" in taken_for
    assert "left out: 'short', 'for children'" in unmet
    plan = plan_article("The panda: nature's king, two pictures, silent", KNOWN)
    assert (plan.num_pictures, plan.narration) == (2, False)
    (note,) = plan.notes
    assert 'the subtitle "nature\'s king" is left out' in note
    plan = plan_article("The bicicle: its history, two pictures, silent", KNOWN)
    assert (plan.subject.name, plan.sections) == ("bicycle", ("History",))
    assert (plan.num_pictures, plan.narration) == (2, False)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("bald eagle", "eagle"), ("Saxaphone", "saxophone"), ("the saxaphones", "saxophone"),
        ("African elephants", "elephant"), ("elefant", "elephant"), ("rabit", "rabbit"),
        ("hippopotomus", "hippopotamus"), ("candel", "candle"), ("black cat", "cat"),
    ],
)  # fmt: skip
def test_one_sure_meaning_is_taken(text, name):
    assert WORLD.find(text) is None
    assert WORLD.meant(text).name == name


@pytest.mark.parametrize(
    "text",
    ["red panda", "polar bear", "stork", "store", "unicycle", "trumpeter", "violinist", "sea horse",
     "guinea pig", "fire drill", "moose", "garden", "", "a", "red", "x" * 4_000, "big " * 4_000],
)  # fmt: skip
def test_what_may_mean_another_thing_is_not_taken(text):
    assert WORLD.meant(text) is None


DRAWN = [
    ("a cat", "a cat", None),
    ("The cat.", "a cat", None),
    ("a panda", "a giant panda", None),
    ("a cat on a gray background", "a cat on a grey ground", ""),
    ("sheep", "a sheep", None),
    ("a pair of scissors", "a pair of scissors", None),
    ("cats", "two cats", "'cats' names no number"),
    ("Hot dogs", "two hot dogs", "'hot dogs' names no number"),
    ("cats and dogs", "a cat to the left of a dog", "'dogs' names no number"),
    ("seven cats", "four cats", "seven cats are asked for, and a picture holds 4 of a kind"),
    ("12 cats", "four cats", "12 cats are asked for"),
    ("a dozen cats", "four cats", "a dozen cats are asked for"),
    ("many cats", "four cats", "many cats are asked for"),
    ("a few cats", "three cats", ""),
    ("a pair of dogs", "two dogs", ""),
    ("three cats and a dog and a bird", "a cat to the left of a dog", "three of one kind"),
    ("a cat without a dog", "a cat", "left out: without a dog"),
    ("a cat and no dogs", "a cat", "left out: no dogs"),
    ("a cat, no snow", "a cat", "left out: no snow"),
    ("a cat without pictures", "a cat", "left out: without pictures"),
    ("a cat not on a blue background", "a cat", "left out: not on a blue background"),
    ("a cat, no dog, on a blue background", "a cat on a blue ground", "left out: no dog"),
    ("a tiny cat", "a small cat in the middle", ""),
    ("a large cat at the top left", "a small cat at the top left", "left out: large"),
    ("a short funny cat", "a cat", "left out: short, funny"),
    ("a long snake for children", "a snake", "left out: long, children"),
    ("a photo of a blue cat", "a cat", "left out: photo, blue"),
    ("a bald eagle", "an eagle", "left out: bald"),
    ("two Saxaphones", "two saxophones", "'saxaphones' is taken for a saxophone"),
    ("a cat sitting next to an axe, blue background",
     "a cat to the left of an axe on a blue ground",
     "left out: sitting"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "caption", "note"), DRAWN, ids=[case[0] for case in DRAWN])
def test_what_is_drawn_and_what_is_left_out(text, caption, note):
    read = read_caption(text, WORLD)
    assert read.text == caption
    if note is None:
        assert read.note is None
    else:
        assert note in read.note
        assert read.note.startswith(f'drawn as "{caption}", the nearest caption')


@pytest.mark.parametrize("text", ["no cats", "without a dog", "zero dogs", "0 cats."])
def test_a_caption_must_say_what_is_there(text):
    with pytest.raises(ValueError, match="says what not to draw"):
        read_caption(text, WORLD)


def test_what_is_missing_or_not_understood_is_said():
    plan = plan_article("The bicycle. Its recipes, its history and its politics", KNOWN)
    assert plan.sections == ("History",)
    assert any("'its politics'" in note for note in plan.notes)
    assert any("under Making; there is Appearance, Uses, History" in note for note in plan.notes)


def test_words_stand_for_the_heading_that_the_subject_has():
    assert plan_article("The fire. Its dangers", KNOWN).sections == ("Effects",)
    assert plan_article("The panda. Its dangers", KNOWN).sections == ("Threats",)


@given(
    st.sampled_from(load_subjects()).flatmap(
        lambda s: st.tuples(
            st.just(s),
            st.lists(st.sampled_from([x.heading for x in s.sections]), min_size=1, unique=True),
        )
    ),
    st.integers(0, 4),
    st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_the_models_own_prompt_is_read_as_itself(choice, pictures, narration):
    chosen, sections = choice
    prompt = plan_prompt(chosen, sections, pictures, narration)
    assert plan_article(prompt, WORLD).prompt == prompt


def test_every_subject_is_found_by_its_title_and_names():
    for subject in WORLD.subjects:
        for title in (f"The {subject.name}", subject.plural, f"Tell me about the {subject.name}"):
            assert plan_article(title, WORLD).subject == subject


@given(st.text(max_size=80))
@settings(deadline=None, max_examples=150)
def test_any_text_is_read_or_refused_with_a_reason(text):
    parse_requests(text)
    with contextlib.suppress(ValueError):  # any other error fails
        plan_article(text, KNOWN)


def test_known_subjects_keep_names_and_headings_and_no_facts(tmp_path):
    WORLD.save(tmp_path)
    again = KnownSubjects.load(tmp_path)
    assert again == WORLD
    assert all(s.lead == "" and not x.sentences for s in again.subjects for x in s.sections)
    assert KnownSubjects.load(tmp_path / "elsewhere") is None


@pytest.mark.parametrize("text", ["{", "[]", '[{"name": "x"}]', '{"a": 1}'])
def test_a_broken_list_of_subjects_is_refused(tmp_path, text):
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(ValueError, match=FILE_NAME):
        KnownSubjects.load(tmp_path)


def test_the_request_holds_exactly_what_was_asked_for():
    plan = plan_article("The panda, two pictures, no narration", KNOWN)
    prompt, slot = article_request(plan).segments
    assert prompt == Text(plan.prompt, role="prompt", loss=0.0)
    assert slot == Slot("any", 96, 96, num_images=2, num_audios=0, role="response")


def test_sections_that_came_otherwise_are_reported():
    plan = plan_article("The panda. Food, home", KNOWN)

    def article(text):
        segments = (Text("## Threats", role="prompt"), Text(text, role="response"))
        return Document(segments)

    good = article("# The giant panda\n\n## Food\n\nBamboo.\n\n## Home\n\nChina.")
    assert headings_of(good) == ("Food", "Home")
    assert shortfall(plan, good) is None
    assert "came as Home, Food" in shortfall(plan, article("# T\n\n## Home\n\n## Food"))


PIECES = ["the cat ", "its looks, ", "the cat without ", "the cat first ", " ", "a", "- ", "1",
          "three pictures ", "not , the cat looks ", "the cat: ", "the cat's ", "on a ", ",", "(",
          "the cat and the dog on ", "five nice big ", "\n", "xyzzy. "]  # fmt: skip


@pytest.mark.slow  # it compares processor times
@pytest.mark.parametrize("read", [plan_article, read_caption])
def test_prompts_are_bounded_and_read_in_linear_time(read):
    """Eight times the text takes eight times the CPU time or so, whatever is repeated in it."""

    def seconds(text):
        begun = time.process_time()
        with suppress(ValueError):
            read(text, KNOWN)
        return time.process_time() - begun

    for piece in PIECES:
        for before in ("", "The cat. "):
            longest = (before + piece * 16_000)[:16_000]
            least = min(seconds(longest[:2_000]) for _ in range(2))
            # A quadratic reader takes 64 times as long, a linear one 8.
            assert min(seconds(longest) for _ in range(3)) < 32 * least + 0.05
        with pytest.raises(ValueError, match=r"has 16,001 characters, expected at most 16,000"):
            read((piece * 16_001)[:16_001], KNOWN)
