"""Commands about training data: importing it, checking it, looking at it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from unified.cli.terminal import AsJson, Seed, note, result
from unified_base.terminal import is_quiet, say
from unified_base.text import counted

if TYPE_CHECKING:
    from unified_data.check import ReadCodes

Shards = Annotated[Path, typer.Argument(metavar="SHARDS", help="A folder of shards, or one .tar.")]

_REASONS = 5
T = TypeVar("T")
_FIELDS = 12


def import_data(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="obelics, mmc4, comm, llava, sharegpt, coco, folder, webdataset, pairs,"
            " preferences or parquet; or an installed importer's.",
        ),
    ],
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A file, or a folder of files.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="SHARDS", help="Folder to make.")
    ],
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="DIR", help="Folder of the media (default: SRC's)."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Stop after so many documents.")
    ] = None,
    split: Annotated[str, typer.Option("--split", metavar="NAME", help="Name of the split.")] = (
        "train"
    ),
    max_skipped: Annotated[
        int | None,
        typer.Option("--max-skipped", min=0, help="Fail when more has to be skipped."),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="FORM",
            help="Of parquet: pairs, llava, sharegpt, obelics, preferences or auto (default).",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Import data of other forms into shards; what cannot be used is listed in skipped.jsonl."""
    from unified_data.importers.import_shards import SKIPPED, import_shards

    with _Counter("documents") as counter:
        report = import_shards(
            kind, source, output, images, split, limit, max_skipped, counter.show, form, note
        )
    note(
        f"{counted(report['samples'], 'document')} in {counted(report['shards'], 'shard')}, "
        f"{report['bytes'] / 1e6:.1f} MB"
    )
    if report["skipped"]:
        note(f"{report['skipped']:,} skipped, see {output / SKIPPED}")
    if "ignored" in report:
        fields = [f"{name} {count:,}x" for name, count in report["ignored"].items()]
        more = f" and {len(fields) - _FIELDS} more" if len(fields) > _FIELDS else ""
        note(f"ignored fields: {', '.join(fields[:_FIELDS])}{more}")
    if report["scaled"]:
        sounds = counted(report["scaled"], "sound")
        note(f"{sounds} went beyond full scale and were scaled down to it")
    result({"path": str(output), **report}, as_json, str(output))


def check(shards: Shards, as_json: AsJson = False) -> None:
    """Read and decode every sample; counts, sizes, faults. Exit code 2 if a sample is broken."""
    from unified_data.check import check_shards

    with _Counter("samples") as counter:
        report = check_shards(shards, counter.show, _codes_reader(shards))
    result(report, as_json, "\n".join(_lines(report)))
    if report["broken"]:
        raise ValueError(f"{shards} has faults: {report['broken']:,} broken; see the report")


def show(
    shards: Shards,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="PAGE.html")],
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many samples.")] = 24,
    seed: Seed = 0,
) -> None:
    """Write a page of samples drawn at random, everything in one file."""
    from unified.articles.outputs import check_format
    from unified_data.show import show_shards

    check_format(output, (".html",), "a page")
    number = show_shards(shards, output, count, seed)
    note(counted(number, "sample"))
    say(str(output))


def _codes_reader(shards: Path) -> ReadCodes | None:
    """What reads the samples of shards of stored codes; None for documents."""
    from unified_data.shards import INDEX, read_index

    home = shards if shards.is_dir() else shards.parent
    if not (home / INDEX).is_file() or "codes" not in read_index(home):
        return None
    from unified.dataloading.stored_codes import read_stored_codes  # which loads torch

    stored = read_stored_codes(home)
    return None if stored is None else stored.from_parts


class _Counter:
    """A line on stderr, where that is a terminal, that counts up."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._live = sys.stderr.isatty() and not is_quiet()

    def show(self, done: int, skipped: int = 0) -> None:
        if self._live and (done + skipped) % 100 == 0:
            rest = f", {skipped:,} skipped" if skipped else ""
            print(f"\r{done:,} {self._what}{rest} ", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> _Counter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _lines(report: dict[str, Any]) -> list[str]:
    """A report for people."""
    lines = [
        f"{counted(report['samples'], 'sample')} of {report['holds']} in "
        f"{counted(report['shards'], 'shard')}, {report['bytes'] / 1e6:.1f} MB",
        f"segments   {_counts(report['segments'])}",
        f"roles      {_counts(report['roles'])}",
        f"text       {counted(report['text']['characters'], 'character')}",
    ]
    if report["holds"] == "codes":
        lines += [f"{kind:<10} {_counts(counts)}" for kind, counts in report["codes"].items()]
    else:
        images, audio = report["images"], report["audio"]
        if images["count"]:
            sides = (_spread(images["height"]), _spread(images["width"]))
            lines.append(f"pictures   height {sides[0]}, width {sides[1]} pixels")
        if audio["count"]:
            total = audio["seconds"]["total"]
            lines.append(f"sounds     {_spread(audio['seconds'])} s, {total:,.1f} s in all")
            lines.append(f"           at {', '.join(audio['sample_rates'])} Hz")
    if report["without_checksums"]:
        lines.append(f"checksums  none of {counted(report['without_checksums'], 'shard')}")
    same, similar = report["repeated_keys"], report["similar_keys"]
    lines += [
        f"repeated   {counted(same['count'], 'key')}, "
        f"{counted(report['repeated_media'], 'media file')}",
        *(
            f"           {key}: {counted(count, 'time')}"
            for key, count in _first(same["keys"].items())
        ),
        f"similar    {counted(similar['count'], 'group of keys', 'groups of keys')}",
        *(f"           {' '.join(_first(group))}" for group in _first(similar["groups"])),
        f"broken     {report['broken']:,}",
        *(
            f"           {' '.join(filter(None, (fault['shard'], fault['key'])))}: "
            f"{_shown(fault['reason'])}"
            for fault in report["faults"]
        ),
    ]
    return lines


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.items()) or "none"


def _spread(values: dict[str, float]) -> str:
    return f"{values['min']:g} to {values['max']:g} (median {values['median']:g})"


def _first(items: Iterable[T]) -> list[T]:
    return list(items)[:_REASONS]


def _shown(text: str) -> str:
    return " ".join(text.split())
