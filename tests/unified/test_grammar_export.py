"""Grammars for other engines: llguidance allows exactly what ours allows, at every step."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path

import llguidance
import numpy as np
import pytest
from llguidance._tokenizer import TokenizerWrapper
from llguidance.numpy import fill_next_token_bitmask

from unified.formats.export import to_llguidance
from unified.formats.limits import FREE
from unified.formats.load import shipped_formats

SIDE = 3


def _beside(name: str):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


grammar = _beside("test_formats").grammar


class Engine:
    """A tokenizer as engines have it: text ids are bytes, which any text may be made of, the others
    are special. One more id ends a generation, as plain engines want one."""

    def __init__(self, vocabulary):
        self.bos_token_id, self.eos_token_id = None, vocabulary.size
        self.tokens = [bytes([97 + id]) for id in range(vocabulary.text_size)]
        self.tokens += [f"<{id}>".encode() for id in range(vocabulary.text_size, vocabulary.size)]
        self.tokens.append(b"<end>")
        self.special_token_ids = list(range(vocabulary.text_size, vocabulary.size + 1))

    def __call__(self, text: bytes) -> list[int]:
        return [byte - 97 for byte in text]


def matcher(compiled, side: int = SIDE):
    tokenizer = llguidance.LLTokenizer(
        TokenizerWrapper(Engine(compiled.vocabulary)),
        n_vocab=compiled.vocabulary.size + 1,
        slices=[],
    )
    llg_matcher = llguidance.LLMatcher(tokenizer, to_llguidance(compiled, side))
    assert not llg_matcher.is_error(), llg_matcher.get_error()
    return llg_matcher


def allowed_there(llg_matcher, size: int) -> np.ndarray:
    mask = np.zeros((1, -(-size // 32)), np.int32)
    fill_next_token_bitmask(llg_matcher, mask)
    return np.unpackbits(mask.view(np.uint8), bitorder="little")[:size].astype(bool)


def too_large(compiled, state) -> np.ndarray:
    """Ids that begin or go on with a side beyond what was exported."""
    size = compiled.vocabulary.size
    beyond = np.zeros(size, bool)
    start, stop = compiled.vocabulary.id_range("size")
    beyond[start + SIDE : stop] = True
    for text, ids in compiled.vocabulary.literals:
        if text.isdecimal() and state.kind == "image":
            span = state._span
            typed = int(span.typed + text) if span.run is None else 0
            beyond[ids[0]] = typed > SIDE
    return beyond


@pytest.mark.parametrize("name", [name for name in shipped_formats() if name != "grounded"])
def test_it_allows_what_ours_allows_on_random_walks(name):
    """Eighty for each format: more than a thousand in all."""
    compiled = grammar(name)
    size = compiled.vocabulary.size
    whole = matcher(compiled)
    rng = random.Random(name)
    ends = 0
    for number in range(80):
        llg_matcher, state, ids = whole.deep_copy(), compiled.start(FREE), []
        # Large pictures of a fixed size, walked through once.
        most = 1100 if number == 0 else 60
        while not state.finished and len(ids) < most:
            ours = np.zeros(size, bool)
            for start, stop in state.allowed():
                ours[start:stop] = True
            ours &= ~too_large(compiled, state)
            theirs = allowed_there(llg_matcher, size + 1)
            assert not theirs[size]
            np.testing.assert_array_equal(theirs[:size], ours, str(ids[-8:]))
            some = [rng.randrange(start, stop) for start, stop in runs(ours)]
            ids.append(rng.choice(some))
            assert llg_matcher.consume_token(ids[-1])
            state.advance(ids[-1])
        ends += state.finished
        assert llg_matcher.is_accepting() == state.finished
    assert ends > 5


def test_codes_that_rise_are_refused_by_name():
    with pytest.raises(ValueError, match="box spans: no export for codes that rise"):
        to_llguidance(grammar("grounded"), SIDE)


def runs(mask: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.r_[False, mask, False]))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist()))


def test_text_cannot_say_a_media_id():
    """What an engine makes of a user's text are text ids, however it is written."""
    compiled = grammar("pocket")
    engine = Engine(compiled.vocabulary)
    tokenizer = llguidance.LLTokenizer(
        TokenizerWrapper(engine), n_vocab=compiled.vocabulary.size + 1, slices=[]
    )
    image = compiled.vocabulary.marker("<image>")
    typed = tokenizer.tokenize_bytes(engine.tokens[5] + engine.tokens[7])
    assert typed == [5, 7]
    assert tokenizer.is_special_token(image)
    llg_matcher = matcher(compiled)
    for id in (*compiled.begin, 5):
        assert llg_matcher.consume_token(id)
    # The name of a marker, spelt out as text, is no part of the grammar's text.
    assert llg_matcher.validate_tokens([5, 7]) == 2
    assert llg_matcher.validate_tokens([compiled.vocabulary.to_ids("image.0", 3)]) == 0


def test_sides_beyond_the_largest_are_left_out():
    compiled = grammar("emu3")
    small, large = to_llguidance(compiled, 2), to_llguidance(compiled, 12)
    assert len(small) < len(large)
    with pytest.raises(ValueError, match="max_side is 0"):
        to_llguidance(compiled, 0)
