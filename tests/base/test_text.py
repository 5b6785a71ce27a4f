"""Text of strangers: nothing in it acts on a terminal, and a quotation is short."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_base.text import counted, quoted, safe


@given(st.text())
def test_what_is_safe_has_no_control_and_no_format_character_but_joiners(text):
    for c in safe(text):
        assert c in "\n\t\u200c\u200d" or unicodedata.category(c) not in (
            "Cc",
            "Cf",
            "Cs",
            "Zl",
            "Zp",
        )


@pytest.mark.parametrize(
    "text", ["A bear\n", "熊猫：自然", "\U0001f469\u200d\U0001f680", "a\u00a0b", "हिन्दी"]
)
def test_ordinary_text_stays_as_it_is(text):
    assert safe(text) == text


def test_escapes_are_written_out():
    assert safe("a\x1b[31mb\u202e\ud800") == "a\\x1b[31mb\\u202e\\ud800"


def test_quotations_are_short_and_on_one_line():
    assert quoted("x" * 1000) == repr("x" * 80) + "..."
    assert quoted("a\nb\u2028") == "'a\\nb\\u2028'"
    assert len(quoted(["y" * 1000])) <= 83


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 shards"), (1, "1 shard"), (2, "2 shards"), (1_234, "1,234 shards")]
)
def test_a_number_of_things_is_singular_or_plural(number, text):
    assert counted(number, "shard") == text
    assert counted(number, "entry", "entries").endswith("entry" if number == 1 else "entries")
