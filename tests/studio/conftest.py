"""Chromium, driven by Playwright, on the studio's page before a server that computes nothing."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator

import pytest
from fake_studio import FakeStudio, fake_studio

PATIENCE = 300_000  # milliseconds: a machine may be busy, and no time is measured here


@pytest.fixture(scope="session")
def chromium():
    """The browser of this machine."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if program is None:
        pytest.skip("there is no chromium here")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required",
                  "--disable-gpu",
                  "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"],
        )  # fmt: skip
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def serving() -> Iterator[tuple[FakeStudio, str]]:
    with fake_studio() as pair:
        yield pair


@pytest.fixture
def fake(serving) -> FakeStudio:
    """What the server tells, as at its start."""
    studio = serving[0]
    vars(studio).clear()  # with what a test put in a method's stead
    studio.__init__()  # type: ignore[misc]
    return studio


@pytest.fixture
def open_page(chromium, fake, serving) -> Iterator[Callable]:
    """open_page(address="#/write", **options of the context): a page that is ready. At its end no
    error stands in its console, and it asked no other host."""
    contexts, faults = [], []

    def open_at(address: str = "#/write", base: str | None = None, **options):
        context = chromium.new_context(**{"locale": "en-US", "reduced_motion": "reduce", **options})
        contexts.append(context)
        base = base or serving[1]
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: faults.append(f"error: {error}"))
        page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((base, "data:", f"blob:{base}"))
                else faults.append(f"asked {request.url[:80]}")
            ),
        )
        page.faults = faults
        page.goto(f"{base}/{address}")
        page.wait_for_selector("html[data-ready]")
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert not faults


@pytest.fixture
def until():
    """until(page, expression): waits for it to hold. Playwright's own way evaluates a string within
    the page, which the page's policy forbids."""

    def wait(page, expression: str) -> None:
        end = time.monotonic() + PATIENCE / 1000
        while not page.evaluate(expression):
            assert time.monotonic() < end, f"never {expression}"
            page.wait_for_timeout(50)

    return wait


@pytest.fixture
def page(open_page):
    return open_page()


@pytest.fixture
def write(page):
    """write(subject): an article about it on the page, complete."""

    def complete(subject: str = "zebra"):
        page.get_by_label("What is the article about?").fill(subject)
        page.keyboard.press("Enter")
        page.wait_for_selector(".article-editor")
        return page

    return complete
