"""Texts, pictures and sounds as parts of a page that a notebook shows (`_repr_html_`).

What is printed is escaped: nothing that a model or a user wrote becomes markup. Media lie in the
part as data, and what would be too large for a notebook is named instead.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from unified_base.apng import encode_apng
from unified_base.images import encode_png
from unified_base.sounds import encode_wav

__all__ = [
    "MAX_CELL", "join_cells", "note_cell", "picture_cell", "sound_cell", "text_cell", "video_cell",
]  # fmt: skip

MAX_CELL = 32 << 20
"""Bytes that a part may have; beyond that it says what is not shown."""
_SIDE = 288
"""CSS pixels that a small picture is drawn up to, in whole multiples, and a large one down to."""
_MAX_TEXT = 20_000
"""Characters of one text that are shown."""


def text_cell(text: str, label: str = "") -> str:
    """A text as it is. label: what stands beside it, such as a role."""
    rest = len(text) - _MAX_TEXT
    more = f"... {rest:,} more characters" if rest > 0 else ""
    return _cell("text", label, text=text[:_MAX_TEXT], more=more)


def picture_cell(pixels: np.ndarray, label: str = "", height: int | None = None) -> str:
    """A picture. pixels: uint8 (H, W, 3). height: of the whole, where these are its first rows."""
    rows, width = pixels.shape[:2]
    whole = max(rows, height or 0)
    about = f"{width}x{whole}"
    if pixels.nbytes > MAX_CELL:
        return note_cell(f"picture of {about}, too large to be shown here", label)
    scale = _SIDE // max(whole, width) or _SIDE / max(whole, width)
    return _cell(
        "picture", label, about=about, medium=("image/png", encode_png(pixels)),
        width=max(1, round(scale * width)), height=max(1, round(scale * rows)),
        room=max(1, round(scale * whole)),
    )  # fmt: skip


def sound_cell(waveform: np.ndarray, rate: int, label: str = "", noun: str = "sound") -> str:
    """A sound with a player. waveform: float32 (channels, S) in [-1, 1]; rate: Hz."""
    about = f"{noun}, {waveform.shape[1] / rate:.1f} s, {rate:,} Hz"
    if 2 * waveform.size > MAX_CELL:
        return note_cell(f"{about}, too long to be shown here", label)
    return _cell("sound", label, about=about, medium=("audio/wav", encode_wav(waveform, rate)))


def video_cell(frames: np.ndarray, times: np.ndarray, label: str = "") -> str:
    """A video that plays. frames: uint8 (T, H, W, 3); times: float64 seconds (T,)."""
    rows, width = frames.shape[1:3]
    about = f"{width}x{rows}, {len(frames)} frames"
    if frames.nbytes > MAX_CELL:
        return note_cell(f"video of {about}, too large to be shown here", label)
    scale = _SIDE // max(rows, width) or _SIDE / max(rows, width)
    height = max(1, round(scale * rows))
    return _cell(
        "picture", label, about=about, medium=("image/apng", encode_apng(frames, times)),
        width=max(1, round(scale * width)), height=height, room=height,
    )  # fmt: skip


def note_cell(text: str, label: str = "") -> str:
    """A line about something that is not shown itself."""
    return _cell("note", label, text=text)


def join_cells(cells: Iterable[str]) -> str:
    """Cells behind each other; those beyond `MAX_CELL` bytes in all are counted, not shown."""
    parts: list[str] = []
    room, left_out = MAX_CELL, 0
    for cell in cells:
        if left_out or len(cell) > room:
            left_out += 1
        else:
            room -= len(cell)
            parts.append(cell)
    if left_out:
        parts.append(note_cell(f"{left_out:,} more segments are not shown here"))
    return "\n".join(parts)


def _cell(kind: str, label: str, medium: tuple[str, bytes] | None = None, **values: object) -> str:
    """medium: its media type and bytes."""
    from unified_base.html_page import data_address, render_template  # jinja2: 50 ms

    address = "" if medium is None else data_address(*medium)
    return render_template(
        "unified_base", "cell.html", kind=kind, label=label, address=address, **values
    )
