"""What is not known: made-up names are nobody's, and wishes are honoured or named."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from unified.evaluation.part import REFUSED
from unified.evaluation.part_unknown import honoured, says_so
from unified.evaluation.unknown_things import (
    NEAR_WORDS,
    WISHES,
    made_up_name,
    noise,
    photo,
    photo_files,
    texture,
)
from unified.evaluation.wanted import Wanted
from unified_data.pocket.subjects import find_subject

CAT, DOG = map(find_subject, ("cat", "dog"))


def test_made_up_names_are_no_subjects_and_differ():
    rng = np.random.default_rng(0)
    names = [made_up_name(rng) for _ in range(40)]
    assert not any(map(find_subject, names))
    assert len(set(names)) > 30
    assert all(name.isalpha() and len(name) >= 4 for name in names)


def test_near_words_are_no_names_and_what_they_mean_is_known():
    for word, name in NEAR_WORDS.items():
        assert find_subject(word) is None, word
        assert find_subject(name).name == name


@pytest.mark.parametrize("make", [texture, noise, photo])
def test_pictures_of_nothing_are_pictures_that_differ(make):
    if make is photo and not photo_files():
        pytest.skip("scikit-image is not installed")
    rng = np.random.default_rng(1)
    pictures = [make(rng) for _ in range(8)]
    assert all(p.shape == (96, 96, 3) and p.dtype == np.uint8 for p in pictures)
    assert all(p.std() > 3 for p in pictures)
    assert len({p.tobytes() for p in pictures}) == 8


def test_what_a_model_says_against_a_request():
    assert (
        says_so(f"{REFUSED}the model does not know 'snoort'") == "the model does not know 'snoort'"
    )
    assert says_so(SimpleNamespace(notes=("left out: fluffy",))) == "left out: fluffy"
    assert says_so(SimpleNamespace(notes=())) is None


def test_wishes_are_honoured_by_what_is_seen():
    wanted = Wanted("", (CAT, DOG))
    assert honoured("not", wanted, ["cat"])
    assert not honoured("not", wanted, ["cat", "dog"])
    assert honoured("plural", wanted, ["cat", "cat"])
    assert not honoured("plural", wanted, ["cat"])
    assert honoured("too many", wanted, ["cat"] * 7)
    assert not honoured("too many", wanted, ["cat"] * 4)
    # No judge sees these: they have to be named.
    assert not any(honoured(kind, wanted, ["cat"]) for kind in set(WISHES) - {"not"})
