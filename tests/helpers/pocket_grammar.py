"""The pocket grammar over a small vocabulary, random documents and random walks in it."""

from __future__ import annotations

import itertools
import random

import numpy as np
from hypothesis import strategies as st

from unified.formats.coded import (
    CodedAudio,
    CodedImage,
    CodedText,
)
from unified.formats.grammar import Grammar
from unified.formats.limits import Limits
from unified.formats.load import load_format
from unified.vocabulary.vocabulary import Vocabulary

VOCABULARY = Vocabulary.build(
    40, 45, load_format("pocket").markers, 9, image=([23], "im"), audio=([17, 19], "au")
)
GRAMMAR = Grammar.load("pocket", VOCABULARY)
M = VOCABULARY.marker


def codes(*sizes: int, shape: tuple[int, ...], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(0, size, shape) for size in sizes])


@st.composite
def documents(draw, max_segments: int = 6):
    """Coded documents: any mix of kinds, roles None first, then prompt and response."""
    segments, role = [], None
    for _ in range(draw(st.integers(0, max_segments))):
        role = draw(st.sampled_from([role, "prompt", "response"]))
        kind = draw(st.sampled_from(["text", "image", "audio"]))
        seed = draw(st.integers(0, 999))
        if kind == "text":
            ids = draw(st.lists(st.integers(0, 39), min_size=1, max_size=5))
            segments.append(CodedText(tuple(ids), role))
        elif kind == "image":
            grid = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
            segments.append(CodedImage(codes(23, shape=grid, seed=seed), role))
        else:
            frames = (draw(st.integers(1, 7)),)
            segments.append(CodedAudio(codes(17, 19, shape=frames, seed=seed), role))
    return segments


def walk(grammar: Grammar, limits: Limits, rng: random.Random) -> list[int]:
    """A sequence sampled uniformly under the constraint: an untrained model's choice."""
    state, ids = grammar.start(limits), []
    while not state.finished:
        ranges = state.allowed()
        assert ranges
        assert all(start < stop for start, stop in ranges)
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(ranges))
        start, stop = rng.choice(ranges)
        # Block edges are where an error of one would show.
        id = rng.choice((start, stop - 1, rng.randrange(start, stop)))
        ids.append(id)
        state.advance(id)
    assert state.allowed() == ()
    return ids
