"""Published models, one file each, and the registry that finds them.

A published model joins by one file with a `PRETRAINED` object and one name in `BUILT_IN`; one of
another package by an entry point in the group `unified.pretrained`, or by `register_pretrained`.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points

from unified.models.pretrained.base import Pretrained, PretrainedCheckpoint

__all__ = [
    "BUILT_IN",
    "Pretrained",
    "PretrainedCheckpoint",
    "pretrained_models",
    "recognise",
    "register_pretrained",
]

BUILT_IN = (
    "emu3", "janus", "chameleon", "liquid", "orpheus", "apertus", "csm", "moshi", "higgs_audio",
    "musicgen", "dia", "qwen3_omni", "llava", "llava_onevision",
)  # fmt: skip
"""Modules of this folder, in the order in which a checkpoint is compared with them."""
GROUP = "unified.pretrained"
_registered: dict[str, Pretrained] = {}


def register_pretrained(pretrained: Pretrained) -> None:
    """Make a published model known, before those that are built in.

    Raises ValueError for what is no `Pretrained`, and for a name that another one has.
    """
    if not isinstance(pretrained, Pretrained):
        raise ValueError(f"expected a Pretrained, found {type(pretrained).__name__}")
    if _registered.get(pretrained.name, pretrained) is not pretrained or (
        pretrained.name in BUILT_IN
    ):
        raise ValueError(f"there is a published model named {pretrained.name!r} already")
    _registered[pretrained.name] = pretrained


def pretrained_models() -> dict[str, Pretrained]:
    """All published models by name: registered ones first, then built-in ones and entry points."""
    models = dict(_registered)
    for name in BUILT_IN:
        models[name] = import_module(f"unified.models.pretrained.{name}").PRETRAINED
    for entry in entry_points(group=GROUP):
        pretrained = entry.load()
        if not isinstance(pretrained, Pretrained):
            raise ValueError(
                f"the entry point {entry.name} of {GROUP} is a {type(pretrained).__name__},"
                " expected a Pretrained"
            )
        models.setdefault(pretrained.name, pretrained)
    return models


def recognise(checkpoint: PretrainedCheckpoint) -> Pretrained | None:
    """The published model that a checkpoint is by its config.json and its tokens, or None."""
    for pretrained in pretrained_models().values():
        if pretrained.matches(checkpoint):
            return pretrained
    return None
