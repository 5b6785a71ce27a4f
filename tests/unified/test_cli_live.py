"""The live view: what a terminal is told while a picture is under way."""

import io

import numpy as np
from rich.console import Console

from unified.cli.live import LiveView, half_blocks
from unified.engine.events import ImageRow


def _terminal(**options: object) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=60, **options)  # type: ignore[arg-type]


def _row(y: int, pixels: np.ndarray, looks: list[int]) -> ImageRow:
    def picture() -> np.ndarray:
        looks.append(y)
        return pixels

    return ImageRow(0, y, np.zeros((1, 3), np.int64), picture)


def test_two_pixels_stand_in_each_half_block_and_keep_their_colours():
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[:2, :, 0] = 255
    pixels[2:, :, 2] = 255
    text = half_blocks(pixels, 6)
    assert text.plain == "\u2580" * 6 + "\n" + "\u2580" * 6 + "\n"
    colours = {(str(span.style).split()[0], str(span.style).split()[-1]) for span in text.spans}
    assert colours == {("#ff0000", "#ff0000"), ("#0000ff", "#0000ff")}


def test_a_picture_keeps_its_shape_at_any_width():
    text = half_blocks(np.zeros((30, 90, 3), np.uint8), 45)
    lines = text.plain.splitlines()
    assert len(lines) == 8  # 15 rows of square pixels, two in a line
    assert {len(line) for line in lines} == {45}


def test_the_picture_is_shown_and_taken_off_again():
    console, looks = _terminal(color_system="truecolor"), []
    view = LiveView(console)
    view.show("[picture 1: row 1]", _row(0, np.full((5, 9, 3), 7, np.uint8), looks))
    view.clear()
    assert isinstance(console.file, io.StringIO)
    screen = console.file.getvalue()
    assert looks == [0]
    assert "row 1" in screen
    assert "\u2580" in screen
    assert "\x1b[2K" in screen.split("\u2580")[-1]  # the lines are erased


def test_what_costs_long_is_looked_at_seldom(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("unified.cli.live.time.perf_counter", lambda: now[0])
    looks: list[int] = []
    view = LiveView(_terminal(color_system="truecolor"))
    pixels = np.zeros((5, 9, 3), np.uint8)
    for y in range(40):
        row = _row(y, pixels, looks)

        def slow(inner=row.picture) -> np.ndarray:
            now[0] += 1.0
            return inner()

        view.show("status", ImageRow(0, y, row.codes, slow))
        now[0] += 1.0  # of sampling
    view.clear()
    assert looks[0] == 0
    spent = len(looks) / now[0]
    assert 0.05 < spent <= 0.15


def test_without_colours_nothing_is_decoded():
    console, looks = _terminal(color_system=None), []
    view = LiveView(console)
    view.show("[picture 1: row 1]", _row(0, np.zeros((5, 9, 3), np.uint8), looks))
    view.clear()
    assert not looks
