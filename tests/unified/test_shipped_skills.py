"""What README and docs show of the shipped model is so: it draws, sees, speaks, hears and writes.

Weights that are to be shipped pass all of it; everything else that tests ask of the shipped model
holds of untrained weights as well.
"""

from __future__ import annotations

import warnings
from itertools import groupby

import pytest

from unified.articles.blocks import headings_of
from unified.models.model import UnifiedModel
from unified_data.document import Audio, Image, Text

CAPTION = "two cats on a green ground"
SENTENCE = "This is a small fox."


@pytest.fixture(scope="module")
def pocket():
    return UnifiedModel.from_pretrained("pocket")


def _articles(pocket, *seeds, **wishes):
    """Articles of the giant panda, written without a note."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return [pocket.write("The giant panda", seed=seed, **wishes) for seed in seeds]


def test_what_is_drawn_is_seen(pocket):
    picture = pocket.draw(CAPTION, seed=0)[0]
    assert pocket.describe(picture) == CAPTION
    assert "cat" in pocket.ask(picture, "What is this?")
    assert "cat" in pocket.describe(pocket.draw("a cat", seed=3)[0])


def test_what_is_spoken_is_heard(pocket):
    assert SENTENCE.rstrip(".") in pocket.listen(*pocket.speak(SENTENCE, seed=0))


def test_an_article_has_the_pictures_and_the_narration_that_are_asked_for(pocket):
    (article,) = _articles(pocket, 0, images=3)
    written = [segment for segment in article if segment.role == "response"]
    assert isinstance(written[0], Text)
    assert written[0].text.startswith("# The giant panda\n")
    kinds = [type(segment) for segment in written]
    assert (kinds.count(Image), kinds.count(Audio)) == (3, 1)
    # There are words between any two media.
    assert all(kind is Text or len(list(run)) == 1 for kind, run in groupby(kinds))
    assert len(headings_of(article)) >= 2


def test_another_seed_gives_other_pictures(pocket):
    first, second, again = _articles(pocket, 0, 1, 1, images=3, audio=False)
    assert second == again
    assert headings_of(first) == headings_of(second)
    pictures = [[s.pixels for s in each if isinstance(s, Image)] for each in (first, second)]
    assert len(pictures[0]) == len(pictures[1]) == 3
    assert any((a != b).any() for a, b in zip(*pictures))
