"""The art styles of the world, and the glyphs that it draws without knowing what they are."""

from __future__ import annotations

__all__ = ["COLUMNS", "HELD_OUT_STYLE", "STRANGERS", "STYLES", "TRAIN_STYLES"]

TRAIN_STYLES = ("noto", "fluent-flat", "fluent-3d")
"""The art styles that training pictures are in."""
HELD_OUT_STYLE = "twemoji"
"""The art style that is in no training picture: only evaluation draws it."""
STYLES = (*TRAIN_STYLES, HELD_OUT_STYLE)

COLUMNS = 16
"""Tiles in a row of a sheet."""

STRANGERS = tuple(
    "😀😎😡😴👻💀👽🎃👍✋✌👁👂👄🦷🦴🧠👶👩👮🎁🎲🧩🏆🥇🎮🎬💎💰💳📦✉📎📌📅🗑🚦⚙🔒🧯🧼🪥🧻🚽🪞🛏🛋❤💧🍟🥓🦄🐉🛸🗽🗼"
)
"""Glyphs that are no subject's: things that a model of this world does not know."""
