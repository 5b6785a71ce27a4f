"""The command that measures a model: `unified evaluate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from unified.cli.options import BackendName, DeviceName, DtypeName, Opening
from unified.cli.terminal import AsJson, note, result
from unified_base.terminal import is_quiet, say, tell

__all__ = ["evaluate"]


def evaluate(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A shipped model, a model's folder or a hub name."),
    ],
    suite: Annotated[
        str,
        typer.Option("--suite", metavar="NAME_OR_FILE", help="quick, pocket, or a FILE.yaml."),
    ] = "quick",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="F.html: the table, and samples."),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="FILE", help="An earlier --json report, to compare."),
    ] = None,
    device: DeviceName = "cpu",
    dtype: DtypeName = "auto",
    backend: BackendName = "auto",
    as_json: AsJson = False,
) -> None:
    """How well a model does each kind of thing, every figure with its cases and 95% interval."""
    from unified.articles.outputs import check_format, check_writable, write_together

    if output is not None:
        check_format(output, (".html",), "a report")
        check_writable(output)
    from unified.evaluation.evaluate import evaluate as measure
    from unified.evaluation.report import AGAINST, compared_json, read_report, rows
    from unified.evaluation.suite import open_suite

    opened = open_suite(suite)
    before = None if against is None else read_report(against)
    loaded = Opening(model, device=device, dtype=dtype, backend=backend).load()
    report, samples = measure(loaded, opened, model, suite, _Lines().show)
    if before is not None and (before.suite, before.seed) != (report.suite, report.seed):
        note(f"{against} is of suite {before.suite}, seed {before.seed}: other cases")
    if output is not None:
        from unified.evaluation.report_page import render_report

        page = render_report(report, samples, before)
        write_together({output: page.encode("utf-8")})
        note(f"wrote {output}")
    if as_json:
        values = report.to_json()
        if before is not None:
            values[AGAINST] = compared_json(report, before)
        result(values, True, "")
        return
    _print(rows(report, before))


class _Lines:
    """Progress on stderr: on a terminal a line that is drawn again, else one line for each part."""

    def show(self, part: str, done: int, total: int) -> None:
        if is_quiet():
            return
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{part}: {done} of {total}" + "\n" * (done == total))
            sys.stderr.flush()
        elif done == total:
            tell(f"{part}: {total} done")


def _print(table: list[tuple[str, ...]]) -> None:
    """Columns set by blanks; a line is never broken, so that it can be searched for."""
    widths = [max(map(len, column)) for column in list(zip(*table))[:-1]]
    for first, *numbers, last in table:
        cells = [text.rjust(width) for text, width in zip(numbers, widths[1:])]
        say("  ".join([first.ljust(widths[0]), *cells, last]).rstrip())
