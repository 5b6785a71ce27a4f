"""Prompts in plain words become plans, and plans requests."""

from __future__ import annotations

import contextlib
import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unified.pocket.article import article_request, headings_of, plan_article, shortfall
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
    assert plan.notes == ()


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
        ("The panda. Nine pictures", "0 to 4 pictures, 9"),
        ("The panda. -1 pictures", "0 to 4 pictures, -1"),
        ("The deer. No looks, no people, no home", "leave no section"),
    ],
)
def test_bad_prompts_say_what_is_wrong(prompt, message):
    known = KnownSubjects((PANDA, DEER, subject("drum", "drums", "x", "🥁", (), "Appearance")))
    with pytest.raises(ValueError, match=message):
        plan_article(prompt, known)


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


WORLD = KnownSubjects.of(load_subjects())


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
    prompt, slot = article_request("", plan).segments
    assert prompt == Text(plan.prompt, role="prompt", loss=0.0)
    assert slot == Slot("any", 96, 96, num_images=2, num_audios=0, role="response")
    prompt, slot = article_request("As it stands", None).segments
    assert prompt.text == "As it stands"
    assert slot == Slot("any", role="response")
    with pytest.raises(ValueError, match="empty"):
        article_request(" ", None)


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
