"""The table of what sampling takes, from the figures of `sampling.py`, and its place in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

BEGIN, END = "<!-- sampling -->\n", "<!-- /sampling -->\n"


def markdown(results: dict[str, Any]) -> str:
    """One row for each aim, with the times behind the ratios."""
    (ours, theirs), (guided, theirs_guided) = (
        [second / 256 * 1e3 for second in results[f"ratio_1row{kind}_seconds"]]
        for kind in ("", "_guided")
    )
    ours16, theirs16 = results["ids_16rows_per_second"]
    an_id, least = results["ms_per_id_06b"]
    short, long = results["ms_per_id_at_256_and_4096"]
    rows = [
        ("what", "aim", "measured"),
        ("---", "---", "---"),
        (
            "decoder of the pocket kind (17M, 8 layers of width 384), one row, 256 image ids",
            "4 times as fast",
            f"{results['ratio_1row']:.1f} ({ours:.2f} ms an id; {theirs:.1f} ms)",
        ),
        (
            "the same with guidance 3",
            "8",
            f"{results['ratio_1row_guided']:.1f} ({guided:.2f} ms; {theirs_guided:.1f} ms)",
        ),
        (
            "16 rows in mixed modes, beside 16 rows of one mode",
            "6",
            f"{results['ratio_16rows']:.1f} ({ours16:,} ids a second; {theirs16:,})",
        ),
        (
            "Qwen3-0.6B's shape, 168,320 rows, bfloat16 weights, one row",
            "2",
            f"{results['ratio_06b']:.1f}",
        ),
        ("the same with guidance 3", "4", f"{results['ratio_06b_guided']:.1f}"),
        (
            "its share of the bound: all bytes it needs at the speed of memory, "
            f"{results['read_gb_per_second']} GB/s",
            "90%",
            f"{results['bound_share_06b']:.0%} ({an_id:.1f} ms an id, at least {least:.1f})",
        ),
        (
            "grammar state and mask, share of a step",
            "at most 3%",
            f"{results['grammar_share']:.2%}",
        ),
        (
            "an id after 4,096 others over one after 256, beside the reading of that much cache",
            "at most 1",
            f"{results['cost_growth_256_to_4096']:.2f} ({short:.2f} and {long:.2f} ms)",
        ),
        ("memory above weights and cache", "at most 10%", f"{results['memory_overhead']:.1%}"),
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def write_table(path: Path, table: str) -> None:
    """Put the table between the marks of a file; SystemExit where it has none."""
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{path} has no lines {BEGIN.strip()} and {END.strip()}; add them")
    path.write_text(before + begin + "\n" + table + "\n" + end + after, encoding="utf-8")
