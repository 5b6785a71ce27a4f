"""Photograph the studio for docs/studio.md: python docs/make_studio_pictures.py [RUNS]

It serves the pocket model, has it write two articles, and opens the page in Chromium (`playwright`
of the extra dev, and a `chromium` on the path). RUNS: a folder of training runs, whose picture is
left out otherwise. A busy machine takes minutes.
"""

from __future__ import annotations

import io
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

FOLDER = Path(__file__).parent / "studio"
DESK = {"viewport": {"width": 1280, "height": 860}, "color_scheme": "light"}
DARK = {**DESK, "color_scheme": "dark"}
PHONE = {
    "viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True,
    "device_scale_factor": 2, "color_scheme": "light",
}  # fmt: skip
PATIENCE = 600_000  # milliseconds
ARTICLES = [{"prompt": "The giant panda", "seed": 3}, {"prompt": "The volcano", "seed": 1}]
# The events so far in place of an answer: the page as it is in the midst of an article.
HALF = """(events) => {
  const fetched = window.fetch;
  window.fetch = (path, options) => (options?.method === 'POST' && path === '/v1/articles'
    ? Promise.resolve(new Response(
        new ReadableStream({ start(body) { body.enqueue(new TextEncoder().encode(events)); } }),
        { headers: { 'content-type': 'text/event-stream' } }))
    : fetched(path, options));
}"""


@contextmanager
def studio(runs: Path | None) -> Iterator[str]:
    """The address of a server with an empty library, while the block runs."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "unified", "studio", "--port", str(port),
            "--library", folder, *(("--runs", str(runs)) if runs else ()),
        ]  # fmt: skip
        process = subprocess.Popen(command)
        try:
            while True:
                try:
                    urllib.request.urlopen(f"{address}/healthz").close()
                    break
                except OSError:
                    if process.poll() is not None:
                        raise SystemExit("the studio did not start") from None
                    time.sleep(0.5)
            yield address
        finally:
            process.terminate()
            process.wait()


def write(address: str, body: dict[str, Any]) -> list[str]:
    """The events of an article that the server writes."""
    request = urllib.request.Request(
        f"{address}/v1/articles", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        return answer.read().decode().strip().split("\n\n")


def until_half(events: list[str], pictures: int) -> str:
    """Events up to the middle of one of the pictures."""
    begun = rows = 0
    for at, event in enumerate(events):
        begun += '"kind":"image"' in event.replace(" ", "") and "segment.started" in event
        rows += begun == pictures and "segment.rows" in event
        if rows == 3:
            progress = [each for each in events if each.startswith("event: progress")]
            last = progress[len(progress) // 2 :][:1]
            return "\n\n".join([*events[: at + 1], *last, ""])
    raise SystemExit(f"the article has no {pictures} pictures; choose another seed")


class Photographer:
    """Opens the page and keeps what it looks like."""

    def __init__(self, browser: Any, address: str) -> None:
        self.browser, self.address = browser, address

    def open(self, options: dict[str, Any], view: str = "write", half: str | None = None) -> Any:
        context = self.browser.new_context(
            locale="en-US", timezone_id="UTC", reduced_motion="reduce", **options
        )
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(f"{self.address}/#/{view}")
        page.wait_for_selector("html[data-ready]")
        if half is not None:
            page.evaluate(HALF, half)
            page.locator(".composer input[type=text]").fill("The giant panda")
            page.keyboard.press("Enter")
            page.wait_for_selector(".picture.pending")
            page.wait_for_timeout(2_000)
            page.locator(".picture.pending").last.evaluate(
                "each => each.scrollIntoView({block: 'center'})"
            )
        return page

    def keep(self, page: Any, name: str) -> None:
        page.wait_for_timeout(1_000)
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        if picture.width > 1280 or picture.height > 900:
            picture.thumbnail((1280, 1266))
        FOLDER.mkdir(exist_ok=True)
        picture.save(FOLDER / f"{name}.webp", quality=82, method=6)
        page.context.close()
        print(name, (FOLDER / f"{name}.webp").stat().st_size, "bytes", flush=True)


def photograph(photographer: Photographer, events: list[str], with_runs: bool) -> None:
    half = until_half(events, 2)
    id = json.loads(events[0].split("data: ", 1)[1])["id"]
    keep, opened = photographer.keep, photographer.open
    page = opened(DESK, half=half)
    keep(page, "writing")
    keep(opened(PHONE, half=half), "phone")
    page = opened(PHONE, f"article/{id}")
    page.wait_for_selector(".picture img")
    keep(page, "phone-article")
    page = opened(DARK, f"article/{id}")
    page.wait_for_selector(".picture img")
    page.locator(".figure.editable").first.hover()
    keep(page, "article-dark")
    page = opened(DESK, "library")
    page.wait_for_selector(".card img")
    keep(page, "library")
    page = opened(DARK, "playground")
    page.get_by_label("Seed").first.fill("5")
    page.get_by_label("Samples", exact=True).fill("3")
    page.get_by_role("button", name="Fill the slots").click()
    page.locator(".sample .sample-foot button").nth(2).wait_for()
    page.locator(".sample-foot button").first.click()
    page.locator(".token").nth(20).click()
    page.wait_for_selector(".allowed-list")
    page.evaluate("window.scrollTo(0, 0)")
    keep(page, "playground-dark")
    if with_runs:
        page = opened(DESK, "training")
        page.wait_for_selector(".plot")
        keep(page, "training")


def main() -> None:
    from playwright.sync_api import sync_playwright

    runs = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with studio(runs) as address, sync_playwright() as playwright:
        written = [write(address, body) for body in ARTICLES]
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        photograph(Photographer(browser, address), written[0], runs is not None)
        browser.close()


if __name__ == "__main__":
    main()
