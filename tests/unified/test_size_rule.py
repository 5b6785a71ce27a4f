"""Sizes of pictures: how they are read, the rule that they keep, the rule of each format."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified.formats.grammar import Grammar
from unified.formats.load import load_format
from unified.tasks.defaults import sizes_of
from unified.tasks.size_rule import SizeRule, read_size
from unified.vocabulary.vocabulary import Vocabulary


def test_a_size_is_read_as_width_times_height():
    assert read_size("640x480") == read_size("640\u00d7480") == read_size((640, 480)) == (640, 480)
    for bad in ("640", "0x8", "axb", (1, 2, 3), 9, "99999x99999", (True, 8)):
        with pytest.raises(ValueError, match="size"):
            read_size(bad)


def test_a_rule_chooses_its_default_and_refuses_others_with_the_nearest():
    rule = SizeRule((32, 16), multiple_of=8, max_area=1024)
    assert rule.choose() == (32, 16)
    assert rule.choose("8x128") == (8, 128)
    with pytest.raises(ValueError, match=r"64x64 cannot be had .* nearest is 32x32"):
        rule.choose("64x64")
    fixed = SizeRule((96, 96), fixed=True)
    assert fixed.choose((96, 96)) == (96, 96)
    with pytest.raises(ValueError, match="expected 96x96 alone; the nearest is 96x96"):
        fixed.choose("96x95")


@given(
    st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    st.integers(1, 32), st.integers(1, 64), st.integers(96, 2000), st.integers(9216, 600_000),
)  # fmt: skip
def test_the_nearest_size_keeps_the_rule(size, step, least, most, area):
    rule = SizeRule(multiple_of=step, min_side=least, max_side=most, max_area=area)
    nearest = rule.nearest(size)
    assert rule.choose(nearest) == nearest
    try:
        assert rule.choose(size) == size
        assert nearest == size  # of a size that there is, itself
    except ValueError:
        pass


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"fixed": True}, "fixed needs a default"),
        ({"default": (9, 8), "multiple_of": 8}, "default is 9x8, expected multiples of 8"),
        ({"min_side": 9, "max_side": 8}, "min_side is 9, more than max_side"),
        ({"multiple_of": 64, "max_side": 32}, "no size keeps the rule"),
        ({"multiple_of": 64, "max_area": 100}, "no size keeps the rule"),
        ({"multiple_of": 0}, "multiple_of is 0"),
        ({"fixed": 1}, "fixed is 1"),
    ],
)
def test_a_rule_that_does_not_hold_together_is_refused(entries, message):
    with pytest.raises(ValueError, match=message):
        SizeRule(**entries)


def test_sizes_follow_from_the_format(small_pocket):
    assert sizes_of(small_pocket, 24) == SizeRule(multiple_of=24, max_side=96)
    assert sizes_of(small_pocket, None) is None
    assert SizeRule(multiple_of=24, max_side=96).nearest((400, 200)) == (96, 48)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("chameleon", SizeRule((512, 512), fixed=True)),
        ("janus", SizeRule((384, 384), fixed=True)),
        ("emu3", SizeRule(multiple_of=16, max_side=15_984)),
        ("lumina-mgpt", SizeRule(multiple_of=32, max_side=96)),
        ("seed-llama", None),
    ],
)
def test_sizes_of_published_formats(name, rule):
    format = load_format(name)
    literals = tuple((text, (at,)) for at, text in enumerate(format.literals))
    blocks = Vocabulary.build(
        text_size=40, text_rows=40, markers=format.markers, max_grid=3, image=((7,), "image")
    ).blocks
    grammar = Grammar(format, Vocabulary(blocks, 40, 40, literals))
    assert sizes_of(grammar, 16) == rule
