"""The keys of a configuration as help and documentation list them."""

from dataclasses import dataclass, field

import pytest

from unified_base.config_help import ConfigKey, as_markdown, as_text, config_keys


@dataclass(frozen=True)
class Inner:
    """A group."""

    lr: float
    """Peak | rate."""
    names: tuple[str, ...] = ("a",)
    """Some names."""


@dataclass(frozen=True)
class Outer:
    """A run."""

    steps: int
    """Optimizer steps
    of the run. [steps]"""
    inner: Inner
    """A group that must be given."""
    by_name: dict[str, Inner] = field(default_factory=dict)
    """Several groups."""
    betas: tuple[float, float] = (0.9, 0.5)
    """Two numbers."""
    size: int | tuple[int, int] | None = None
    """A side or both. [pixels]"""
    fast: bool = False
    """Be fast."""


@dataclass(frozen=True)
class Child(Outer):
    """A run with another default."""

    fast: bool = True
    """Be faster."""


def test_every_key_has_its_type_default_unit_and_meaning():
    assert config_keys(Outer) == [
        ConfigKey("steps", "whole number", "required", "steps", "Optimizer steps of the run."),
        ConfigKey("inner", "group", "required", "", "A group that must be given."),
        ConfigKey("inner.lr", "number", "required", "", "Peak | rate."),
        ConfigKey("inner.names", "list of texts", '["a"]', "", "Some names."),
        ConfigKey(
            "by_name", "groups by name", "{}", "",
            "Several groups. Its keys are those of `inner`.",
        ),
        ConfigKey("betas", "list of 2 numbers", "[0.9, 0.5]", "", "Two numbers."),
        ConfigKey(
            "size", "whole number or list of 2 whole numbers", "empty", "pixels", "A side or both.",
        ),
        ConfigKey("fast", "true or false", "false", "", "Be fast."),
    ]  # fmt: skip
    last = config_keys(Child)[-1]
    assert (last.default, last.meaning) == ("true", "Be faster.")
    assert len(config_keys(Child)) == len(config_keys(Outer))


def test_help_and_table_hold_every_key():
    text, table = as_text(Outer, 40), as_markdown(Outer)
    assert "steps = required  (whole number) [steps]\n    Optimizer steps of the run." in text
    assert max(map(len, text.splitlines())) < 80
    assert "| `inner.lr` | number |  | required | Peak \\| rate. |" in table
    assert len(table.splitlines()) == 2 + len(config_keys(Outer))


def test_a_field_without_a_word_is_an_error():
    @dataclass(frozen=True)
    class Silent:
        """No words."""

        steps: int = 3

    with pytest.raises(ValueError, match="Silent says nothing of its fields steps"):
        config_keys(Silent)
