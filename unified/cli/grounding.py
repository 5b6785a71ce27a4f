"""Commands of places in pictures: ground, and the box of `ask --box`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unified.cli.asking import fill
from unified.cli.options import Opening, TextChosen
from unified.cli.terminal import AsJson, Seed, note, prompt_from, result
from unified_base.arguments import prompt

if TYPE_CHECKING:
    import numpy as np

    from unified_data.document import Box

__all__ = ["box_from", "ground"]


def ground(
    picture: Annotated[Path, typer.Argument(help="PNG, JPEG, WebP, ...")],
    opening: Opening,
    choices: TextChosen,
    text: Annotated[str, typer.Argument(help='What to find, for example "the fox".')],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="F.png", help="The picture with its boxes drawn."),
    ] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Where things are in a picture: a line for each box, X0 Y0 X1 Y1 NAME, in its pixels."""
    from unified.articles.outputs import check_format, check_writable, write_together
    from unified_base.images import encode_png, load_image

    if output is not None:
        check_format(output, (".png",), "a picture")
        check_writable(output)
    pixels = load_image(picture)
    text = prompt_from(text)
    prompt("text", text, 'say what to find, for example "the fox"')
    asked = choices.choices
    model = opening.load()
    from unified.models.grounding import draw_boxes

    request = model.request("ground", image=pixels, text=text, **asked)
    document = fill(model, request, 1, seed)[0]
    boxes, notes = request.boxes(document, pixels.shape[:2])
    for each in notes:
        note(each)
    if not boxes:
        note(f"nothing was found: {answer}" if (answer := _words(document)) else "no boxes came")
    if output is not None:
        write_together({output: encode_png(draw_boxes(pixels, boxes))})
    values = {
        "picture": str(picture),
        "text": text,
        "boxes": [each.to_json() for each in boxes],
        "answer": _words(document),
        "path": None if output is None else str(output),
    }
    lines = [
        " ".join([*(f"{value:g}" for value in each.to_json()["box"]), each.name]) for each in boxes
    ]
    result(values, as_json, "\n".join(lines))


def _words(document: object) -> str:
    """The last words of an answer; "" where it ends in a box."""
    from unified_data.document import Document, Text

    assert isinstance(document, Document)
    last = document.segments[-1]
    return last.text.strip() if isinstance(last, Text) else ""


def box_from(argument: str, pixels: np.ndarray) -> Box:
    """The box of X0,Y0,X1,Y1 in a picture, uint8 (H, W, 3).

    Raises ValueError for what is none, and for a box that is empty or outside.
    """
    from unified_data.document import Box

    try:
        at = [float(part) for part in argument.split(",")]
        if len(at) != 4:
            raise ValueError
    except ValueError:
        raise ValueError(
            f"--box is {argument!r}, expected four numbers X0,Y0,X1,Y1 such as 8,8,40,32"
        ) from None
    return Box.of(at, (pixels.shape[1], pixels.shape[0]))
