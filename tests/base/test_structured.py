"""Bounded JSON and YAML: plain data passes, what would ask for much is refused in one line."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_base.structured import MAX_DEPTH, parse_json, parse_yaml, read_json, read_yaml

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.text()
    | st.floats(-1e300, 1e300),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(plain)
def test_json_of_any_plain_value_comes_back(value):
    assert parse_json(json.dumps(value), "x") == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ("[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2), "nested too deeply"),
        ('{"a":' * 70 + "1" + "}" * 70, "nested too deeply"),
        ("9" * 400, "400 digits"),
        ("1e999", "too large"),
        ("NaN", "no JSON number"),
        ('{"a": 1, "a": 2}', "'a' stands twice"),
        ("{", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        ('"' + "x" * 200 + '"', "at most 100"),
    ],
)
def test_json_that_asks_for_much_is_refused(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse_json(text, "x", 100 if "at most" in message else 1 << 20)
    assert len(str(caught.value)) < 300


def test_the_deepest_that_is_allowed_passes():
    text = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert json.dumps(parse_json(text, "x")) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x [1]\nb: *x", "line 1 has an anchor"),
        ("a: *x", "line 1 has an anchor or alias"),
        ("a: {b: 1, b: 2}", "key 'b' a second time"),
        ("? [1, 2]\n: 3", "a key that is no text"),
        ("<<: {a: 1}", "a key that is no text"),
        ("a: !!python/object:os.system x", "line 1 has the tag"),
        ("a: " + "[" * 100 + "]" * 100, "nested deeper"),
        ("[" * 50_000, "nested"),
        ("a: " + "7" * 400, "integer of 400"),
        ("a: [", "not YAML"),
    ],
)
def test_yaml_that_asks_for_much_is_refused(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse_yaml(text, "x")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_files_hold_the_kind_of_value_that_is_asked_for(tmp_path):
    (tmp_path / "a.json").write_text("[1]")
    (tmp_path / "a.yaml").write_text("- 1")
    with pytest.raises(ValueError, match=r"a\.json holds list, expected an object"):
        read_json(tmp_path / "a.json")
    assert read_json(tmp_path / "a.json", kind=list) == [1]
    with pytest.raises(ValueError, match="expected a mapping"):
        read_yaml(tmp_path / "a.yaml")
