"""The art styles of the world, and the glyphs that it draws without knowing what they are."""

from __future__ import annotations

__all__ = ["COLUMNS", "HELD_OUT_STYLE", "STRANGERS", "STYLES", "TRAIN_STYLES", "WHOLE_STYLES"]

HELD_OUT_STYLE = "twemoji"
"""The art style that is in no training picture: only evaluation draws it."""
WHOLE_STYLES = ("noto", "fluent-flat", "fluent-3d", HELD_OUT_STYLE)
"""The art styles that draw every subject, and what is no subject."""
TRAIN_STYLES = ("noto", "fluent-flat", "fluent-3d", "emojione")
"""The art styles that training pictures are in. The last one is older and lacks some
subjects."""
STYLES = (*TRAIN_STYLES, HELD_OUT_STYLE)

COLUMNS = 16
"""Tiles in a row of a sheet."""

STRANGERS = tuple(
    "😀😎😡😴👻💀👽🎃👍✋✌👁👂👄🦷🦴🧠👶👩👮🎁🎲🧩🏆🥇🎮🎬💎💰💳📦✉📎📌📅🗑🚦⚙🔒🧯🧼🪥🧻🚽🪞🛏🛋❤💧🍟🥓🦄🐉🛸🗽🗼"
)
"""Glyphs that are no subject's: things that a model of this world does not know."""
