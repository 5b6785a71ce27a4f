"""The command that fills documents offline in bulk."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from unified.cli.options import Opening, TextChosen
from unified.cli.terminal import (
    AsJson,
    DecoderName,
    DecoderSteps,
    Seed,
    check_decoder,
    note,
    result,
)
from unified_base.terminal import is_quiet
from unified_base.text import counted


def generate(
    documents: Annotated[
        list[str],
        typer.Argument(
            metavar="DOCUMENTS...",
            help="With slots: files of JSON lines (.jsonl), or shards, patterns, folders with an "
            "index.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="SHARDS", help="Folder of the shards.")
    ],
    opening: Opening,
    choices: TextChosen,
    decoder: DecoderName = "vq",
    steps: DecoderSteps = None,
    per_shard: Annotated[
        int, typer.Option("--per-shard", min=1, help="Documents of JSON lines in a shard.")
    ] = 1_000,
    split: Annotated[
        str, typer.Option("--split", metavar="NAME", help="Of the shards of JSON lines.")
    ] = "train",
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", min=1, help="Engines (default: 1; with --ray one a machine or GPU)."
        ),
    ] = None,
    ray: Annotated[
        bool, typer.Option("--ray", help="Under Ray Data, on all machines of its cluster.")
    ] = False,
    max_rows: Annotated[
        int, typer.Option("--max-rows", min=1, max=4_096, help="Documents at a time, each engine.")
    ] = 64,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Fill the slots of many documents into shards; killed, it goes on where it was.

    What cannot be filled is listed in unfilled.jsonl. Document number n has the seed SEED + n,
    unless it states its own, and gets what `unified sample` gives it.
    """
    check_decoder(decoder, steps)
    from unified.generating.generate import UNFILLED, generate_shards

    with _Line() as line:
        summary = generate_shards(
            documents, output, model=opening.spec(decoder, steps), seed=seed, per_shard=per_shard,
            split=split, workers=workers, ray=ray, max_rows=max_rows, tell=line.note,
            progress=line.show, **choices.choices,
        )  # fmt: skip
    note(
        f"{counted(summary['documents'], 'document')} in {counted(summary['shards'], 'shard')}, "
        f"{summary['bytes'] / 1e6:.1f} MB, {summary['seconds']:.1f} s"
    )
    if summary["unfilled"]:
        note(f"{summary['unfilled']:,} could not be filled, see {output / UNFILLED}")
    if summary["cut_texts"]:
        note(f"{counted(summary['cut_texts'], 'text')} did not end by themselves (--max-text-ids, "
             "--max-repeats)")  # fmt: skip
    result(summary, as_json, str(output))


class _Line:
    """A line on stderr, where that is a terminal, with what is done and what is left."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty() and not is_quiet()
        self._begun: tuple[float, int] | None = None

    def note(self, text: str) -> None:
        """A line of its own, above."""
        self._clear()
        note(text)

    def show(self, total: int, filled: int, unfilled: int) -> None:
        if not self._live:
            return
        now, done = time.monotonic(), filled + unfilled
        if self._begun is None:  # what was done before this run says nothing of its speed
            self._begun = now, done
        seconds, new = now - self._begun[0], done - self._begun[1]
        text = f"{done:,} of {total:,} documents"
        if unfilled:
            text += f", {unfilled:,} not filled"
        if new and seconds > 1:
            left = (total - done) * seconds / new
            text += f", {new / seconds:.1f} a second, {left / 60:.0f} min left"
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    def _clear(self) -> None:
        if self._live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()
