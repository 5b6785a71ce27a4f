"""The studio's page and commands before a warm server: seconds until somebody sees something.

    python benchmarks/studio.py [--quick] [--runs 9]

`unified studio` runs as a process of its own, with an empty library; real Chromium (playwright of
the extra dev, and a `chromium` on the path) has its page open on a desk's screen. One article is
written unmeasured; then --runs times, in turn, each with a seed of its own:

first_text_seconds: from Enter in the page's first field until a frame with the first text of the
article is drawn. first_row_seconds: until one with rows of the first picture is. article_seconds:
until the whole article of three pictures stands on the page (no narration).
write_seconds: `unified write "The giant panda" -o F.html` as a whole process, which asks the
server; write_alone_seconds: with --no-server. Their bytes are compared.

Medians. cpu_seconds: of the commands and, of an article on the page, of the server (where the
system tells it). Progress goes to stderr; the last line on stdout is one JSON object.
"""

from __future__ import annotations

import _path  # noqa: F401 (before all others)

# isort: split
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

PATIENCE = 300_000  # milliseconds
PROMPT = "The giant panda"
PICTURES = "3"
# When Enter goes down, and when a frame was drawn that has what is waited for, in milliseconds.
WATCH = """() => {
  const seen = window.seen = {};
  addEventListener('keydown', (event) => {
    if (event.key === 'Enter') seen.enter ??= performance.now();
  }, { capture: true });
  const drawn = (name) => {
    if (name in seen) return;
    seen[name] = null;
    requestAnimationFrame(() => setTimeout(() => { seen[name] = performance.now(); }));
  };
  new MutationObserver(() => {
    const live = document.querySelector('.article.live');
    if (live && live.textContent.trim()) drawn('text');
    const scan = document.querySelector('.picture.pending .scan');
    if (scan && parseFloat(scan.style.top) > 0) drawn('row');
    const sheet = document.querySelector('.sheet');
    if (seen.enter && live && sheet && !sheet.hasAttribute('aria-busy')) drawn('whole');
  }).observe(document.body, {
    subtree: true, childList: true, attributes: true, characterData: true,
  });
}"""


class Command(NamedTuple):
    """seconds: from start to end. cpu: seconds of all cores. page: the bytes that it wrote."""

    seconds: float
    cpu: float
    page: bytes


def say(text: str) -> None:
    """A line of progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def studio(folder: Path) -> Iterator[tuple[str, int]]:
    """(address, process number) of a server while the block runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "unified", "studio", "--port", "0", "--library", str(folder)],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        address = re.search(r"http://\S+/", line)
        if address is None:
            raise SystemExit(f"the studio did not start: {line}{process.stderr.read()}")
        yield address[0], process.pid
    finally:
        process.terminate()
        process.wait()


def article(browser: Any, address: str, seed: int) -> dict[str, float]:
    """Seconds from Enter, by what was seen, of one article on a fresh page."""
    context = browser.new_context(viewport={"width": 1280, "height": 860}, locale="en-US")
    try:
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(address)
        page.wait_for_selector("html[data-ready]")
        page.get_by_label("Pictures", exact=True).select_option(PICTURES)
        page.get_by_label("Narration", exact=True).uncheck()
        page.get_by_label("Seed").first.fill(str(seed))
        field = page.get_by_label("What is the article about?")
        field.fill(PROMPT)
        page.evaluate(WATCH)
        field.press("Enter")
        page.wait_for_selector(".article-editor")
        while page.evaluate("window.seen.whole ?? null") is None:
            page.wait_for_timeout(20)
        seen = page.evaluate("window.seen")
        pictures = page.locator(".article .picture img").count()
    finally:
        context.close()
    if pictures != int(PICTURES):
        raise SystemExit(f"the article has {pictures} pictures, expected {PICTURES}")
    return {name: (seen[name] - seen["enter"]) / 1000 for name in ("text", "row", "whole")}


def write(folder: Path, seed: int, *options: str) -> Command:
    """`unified write` in a process of its own."""
    began = time.perf_counter()
    command = ["write", PROMPT, "--seed", str(seed), "-o", "panda.html", "--quiet", *options]
    process = subprocess.Popen(
        [sys.executable, "-m", "unified", *command], cwd=folder, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit("unified write failed")
    return Command(seconds, usage.ru_utime + usage.ru_stime, (folder / "panda.html").read_bytes())


def _cpu(pid: int) -> float:
    """Seconds of all cores that a process has taken, on Linux."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three runs of each, not nine")
    parser.add_argument("--runs", type=int, help="of each (default: 9; 3 if quick)")
    options = parser.parse_args()
    program = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if program is None or not hasattr(os, "wait4"):
        parser.error("needs a chromium on the path, and a system with wait4")
    from playwright.sync_api import sync_playwright

    began, load = time.perf_counter(), os.getloadavg()
    seen: list[dict[str, float]] = []
    server_cpu: list[float] = []
    asking: list[Command] = []
    alone: list[Command] = []
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        (folder / "run").mkdir(0o700)
        os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
        os.environ["XDG_RUNTIME_DIR"] = str(folder / "run")
        for name in ("PYTHONDONTWRITEBYTECODE", "UNIFIED_SERVER", "UNIFIED_API_KEY"):
            os.environ.pop(name, None)
        with studio(folder / "library") as (address, pid), sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=program, args=["--no-sandbox", "--disable-gpu"]
            )
            say("unmeasured")
            article(browser, address, 0)
            write(folder, 0)
            write(folder, 0, "--no-server")
            for seed in range(1, 1 + (options.runs or (3 if options.quick else 9))):
                before = _cpu(pid)
                seen.append(article(browser, address, seed))
                server_cpu.append(_cpu(pid) - before)
                asking.append(write(folder, seed))
                alone.append(write(folder, seed, "--no-server"))
                say(f"run {seed}: {seen[-1]} {asking[-1].seconds:.2f} {alone[-1].seconds:.2f}")
            browser.close()
    print(json.dumps({
        "first_text_seconds": round(median(run["text"] for run in seen), 3),
        "first_row_seconds": round(median(run["row"] for run in seen), 3),
        "article_seconds": round(median(run["whole"] for run in seen), 3),
        "write_seconds": round(median(run.seconds for run in asking), 3),
        "write_alone_seconds": round(median(run.seconds for run in alone), 3),
        "same_bytes": all(a.page == b.page for a, b in zip(asking, alone)),
        "cpu_seconds": {
            "write": round(median(run.cpu for run in asking), 2),
            "write_alone": round(median(run.cpu for run in alone), 2),
            "server_article": round(median(server_cpu), 2),
        },
        "least": {
            "first_text_seconds": round(min(run["text"] for run in seen), 3),
            "article_seconds": round(min(run["whole"] for run in seen), 3),
            "write_seconds": round(min(run.seconds for run in asking), 3),
        },
        "load_before": [round(x, 2) for x in load],
        "sample": "quick" if options.quick else "full",
        "benchmark_seconds": round(time.perf_counter() - began, 1),
        "machine": _machine(),
    }))  # fmt: skip


def _machine() -> dict[str, Any]:
    # Of `_shared`, which imports torch.
    from _shared import machine

    return machine(os.cpu_count() or 1, ("numba", "numpy", "uvicorn", "playwright"))


if __name__ == "__main__":
    main()
