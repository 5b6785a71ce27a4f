"""Articles: figures of made ones, captions against pictures, wishes that are kept and broken."""

from __future__ import annotations

import numpy as np
import pytest

from unified.evaluation.article_wishes import WISHED
from unified.evaluation.part_articles import article_figures, caption_is_shown
from unified.evaluation.scene_judge import SceneJudge
from unified.evaluation.written_article import WrittenArticle, distinct_n, wanted_of
from unified_data.document import Audio, Document, Image, Text
from unified_data.pocket.scenes import Scene, render
from unified_data.pocket.subjects import find_subject

CAT, DOG, LEMON = map(find_subject, ("cat", "dog", "lemon"))
PICTURE = render(Scene("one", CAT))


@pytest.fixture(scope="module")
def judge():
    return SceneJudge([CAT, DOG, LEMON])


def article(text, *pictures, sound=False):
    """Markdown with a picture behind every `![...]`."""
    pieces, segments = text.split("@"), []
    for number, piece in enumerate(pieces):
        if piece:
            segments.append(Text(piece, role="response"))
        if number < len(pieces) - 1:
            segments.append(Image(pictures[number], role="response"))
    if sound:
        segments[0] = Text(f"# T\n\n> (ben) {CAT.lead}\n", role="response")
        segments.insert(1, Audio(np.zeros((1, 640), np.float32), 16_000, role="response"))
    return WrittenArticle(Document(tuple(segments)), CAT)


def test_figures_of_a_made_article(judge):
    own, other = CAT.sentences[1], DOG.sentences[1]
    written = article(
        f"# The cat\n\n{own} {other.replace('dog', 'cat')} Purple bricks hum quietly overhead."
        "\n\n![a cat]@\n\n![a dog]@\n\n## Home\n\n![a cat]@",
        PICTURE, PICTURE, PICTURE,
    )  # fmt: skip
    figures = {f.name: f for f in article_figures("plain", [written], judge, "en")}
    assert figures["plain, facts of the subject"].value == pytest.approx(1 / 3)
    assert figures["plain, facts of another, or altered"].value == pytest.approx(1 / 3)
    assert figures["plain, sentences that are nowhere"].value == pytest.approx(1 / 3)
    assert figures["plain, verbatim"].value >= 1 / 3
    assert figures["plain, pictures that show their caption"].value == pytest.approx(2 / 3)
    assert figures["plain, articles with two equal pictures"].value == 1
    assert written.headings == ("Home",)


@pytest.mark.parametrize(
    ("caption", "agrees"),
    [("a cat", True), ("a cat on a white ground", True), ("一只猫", True), ("a dog", False),
     ("two cats", False), ("a cat and a lemon", False), ("something lovely", False)],
)  # fmt: skip
def test_a_caption_is_held_against_its_picture(judge, caption, agrees):
    assert caption_is_shown(judge, caption, PICTURE) is agrees


def test_a_caption_is_read_with_its_numbers_and_relation():
    assert [s.name for s in wanted_of("two cats").subjects] == ["cat", "cat"]
    assert wanted_of("a cat above a dog").relation == "above"
    assert wanted_of("a lovely day") is None


LONG = " ".join(CAT.sentences)
KEPT = {
    "short": (article(f"# T\n\n{CAT.lead}"), article(f"# T\n\n{LONG}")),
    "long": (article(f"# T\n\n{LONG} {LONG}"), article(f"# T\n\n{LONG}")),
    "children": (article("# T\n\nIt is small. It eats fish."), article(f"# T\n\n{LONG}")),
    "list": (article(f"# T\n\n- {CAT.lead}\n- {CAT.sentences[1]}"), article(f"# T\n\n{LONG}")),
    "silent": (article(f"# T\n\n{LONG}"), article("-", sound=True)),
}


@pytest.mark.parametrize("kind", KEPT)
def test_a_wish_is_honoured_by_what_keeps_it_alone(kind):
    wish = WISHED[kind](CAT, np.random.default_rng(0))
    keeping, plain = KEPT[kind]
    assert wish.honoured(keeping, plain)
    assert not wish.honoured(plain, plain)


def test_wishes_that_name_something_are_held_to_it():
    rng = np.random.default_rng(1)
    compare, without, pictures = (WISHED[kind](CAT, rng) for kind in
                                  ("compare", "without", "pictures"))  # fmt: skip
    other = compare.prompt.removesuffix(".").split("the ")[-1]
    twice = article(f"# T\n\nA cat is not a {other}. The {other} is larger.")
    assert compare.honoured(twice, None)
    assert not compare.honoured(article(f"# T\n\nA {other} is larger."), None)
    section = next(s for s in CAT.sections if s.heading.lower() in without.prompt)
    with_section = article(f"# T\n\n## {section.heading}\n\n{section.sentences[0]}")
    assert not without.honoured(with_section, None)
    assert without.honoured(article(f"# T\n\n{CAT.lead}"), None)
    numbers = {"one": 1, "two": 2, "three": 3, "four": 4}
    number = next(n for word, n in numbers.items() if word in pictures.prompt)
    illustrated = article("# T" + "\n\n![a cat]@" * number, *[PICTURE] * number)
    assert pictures.honoured(illustrated, None)
    assert not pictures.honoured(article(f"# T\n\n{CAT.lead}"), None)


def test_a_wish_is_named_by_the_note_that_says_so():
    wish = WISHED["children"](CAT, np.random.default_rng(0))
    assert wish.is_named("left out: 'for children'; the model writes articles of one style")
    assert not wish.is_named("drawn as a cat")


def test_distinct_pairs_fall_where_something_is_said_twice():
    assert distinct_n(["a b c d"]) == 1
    assert distinct_n(["a b a b a b"]) == pytest.approx(2 / 5)
    assert distinct_n(["大熊猫大熊猫"], 2, chinese=True) == pytest.approx(3 / 5)
