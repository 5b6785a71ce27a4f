"""The text tokenizer: any Unicode text comes back exactly, whole or in pieces."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unified.vocabulary.text_tokenizer import TextTokenizer

TOKENIZER = TextTokenizer.train(["the panda eats <image> bamboo", "the red panda"] * 9, 300)

unicode_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
tricky = st.sampled_from(
    ["<image>", "</image>", "<eos>", "\r\n\t ", "é́", "🐼👨‍👩‍👧", "\x00", "  the  panda"]
)


@settings(deadline=None, max_examples=150)
@given(st.lists(unicode_text | tricky, min_size=1, max_size=4).map("".join))
def test_any_text_round_trips_whole_and_in_pieces(text):
    ids = TOKENIZER.encode(text)
    assert TOKENIZER.decode(ids) == text
    stream = TOKENIZER.stream()
    pieces = [stream.push([id]) for id in ids]
    assert "".join(pieces) == text
    assert stream.flush() == ""
    assert all(0 <= id < TOKENIZER.size for id in ids)


def test_a_character_in_two_pieces_is_emitted_once_it_is_whole():
    ids = TOKENIZER.encode("🐼")
    assert len(ids) > 1
    stream = TOKENIZER.stream()
    assert [stream.push([id]) for id in ids] == [""] * (len(ids) - 1) + ["🐼"]
    assert stream.push(ids[:1]) == ""
    assert stream.flush() == "\ufffd"
    assert stream.push(TOKENIZER.encode("a")) == "a"


def test_learned_merges_are_used():
    assert len(TOKENIZER.encode("the panda")) < len("the panda")
    assert TOKENIZER.size <= 300


def test_save_and_load_give_the_same_tokenizer(tmp_path):
    TOKENIZER.save(tmp_path / "model")
    back = TextTokenizer.load(tmp_path / "model")
    assert back.fingerprint == TOKENIZER.fingerprint
    assert back.encode("the panda 🐼") == TOKENIZER.encode("the panda 🐼")
    assert [f.name for f in (tmp_path / "model").iterdir()] == ["tokenizer.json"]


def test_errors_say_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match=r"character 1 .* lone surrogate"):
        TOKENIZER.encode("a\ud800")
    with pytest.raises(ValueError, match=f"id {TOKENIZER.size} is outside"):
        TOKENIZER.decode([TOKENIZER.size])
    with pytest.raises(ValueError, match="at least 256"):
        TextTokenizer.train(["a"], 255)
    with pytest.raises(ValueError, match="cannot read"):
        TextTokenizer.load(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ValueError, match="is not a text tokenizer"):
        TextTokenizer.load(tmp_path / "bad.json")
