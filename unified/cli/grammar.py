"""Commands about grammars: showing a format, checking ids against it, writing it for engines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unified.cli.terminal import AsJson, ModelName, note, result
from unified_base.terminal import say
from unified_base.text import counted

if TYPE_CHECKING:
    from unified.formats.grammar import Grammar

FormatName = Annotated[
    str, typer.Argument(metavar="FORMAT", help="A shipped format's name, or a YAML file.")
]


def show(name: FormatName) -> None:
    """A format on one page: what a document is made of, id by id."""
    from unified.formats.load import load_format
    from unified.formats.page import page

    say(page(load_format(name)))


def formats() -> None:
    """The formats that come with the package."""
    from unified.formats.load import shipped_formats

    say("\n".join(shipped_formats()))


def check(
    name: FormatName,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Ids: .npy, or a list in .json.")],
    model: ModelName = "pocket",
    as_json: AsJson = False,
) -> None:
    """Whether ids are a document of a format, in a model's vocabulary; if not, where and why."""
    from collections import Counter

    from unified.sequence.inspect import read_file

    ids = read_file(file)
    if not isinstance(ids, list):
        raise ValueError(f"{file} is a document, expected ids; `unified inspect` shows documents")
    try:
        segments = _grammar(name, model).parse(ids)
    except ValueError as error:
        raise ValueError(f"{file} is no document of format {name}: {error}") from None
    counts = Counter(segment.kind for segment in segments)
    values = {"valid": True, "ids": len(ids), "segments": dict(counts)}
    what = ", ".join(f"{number} {kind}" for kind, number in counts.items()) or "nothing"
    result(values, as_json, f"valid: {counted(len(ids), 'id')}, {what}")


def export(
    name: FormatName,
    to: Annotated[str, typer.Option("--to", metavar="ENGINE", help="llguidance.")] = "llguidance",
    model: ModelName = "pocket",
    max_side: Annotated[
        int,
        typer.Option("--max-side", min=1, help="Largest side in codes, where sizes are stated."),
    ] = 32,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Instead of stdout.")
    ] = None,
) -> None:
    """Write a format, in a model's vocabulary, as a grammar that other engines enforce."""
    from unified.formats.export import to_llguidance
    from unified_base.atomic import atomic_path

    if to != "llguidance":
        raise ValueError(f"there is no export to {to!r}, expected llguidance")
    text = to_llguidance(_grammar(name, model), max_side)
    if output is None:
        say(text, end="")
        return
    with atomic_path(output) as partial:
        partial.write_text(text, "utf-8")
    note(f"wrote {output}, {len(text.splitlines())} lines")


def _grammar(name: str, model: str) -> Grammar:
    from unified.formats.grammar import Grammar
    from unified.models.files import model_directory, read_words

    vocabulary, *_ = read_words(model_directory(model))
    try:
        return Grammar.load(name, vocabulary)
    except ValueError as error:
        raise ValueError(
            f"format {name} does not fit the vocabulary of model {model}: {error}; --model names"
            " a model whose ids it lays out"
        ) from None
