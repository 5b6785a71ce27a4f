"""An article as PDF: its page printed by headless Chromium, or by WeasyPrint (extra `export`).

Either prints the page with its own style for paper, tagged, with title and language. A PDF holds no
sound: of a narration its transcript stays. Nothing in the page runs, and nothing is fetched.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from unified.articles.article import ArticleContent
from unified.articles.html import page_of
from unified_base.extras import missing_extra
from unified_base.text import quoted

__all__ = ["find_chromium", "pdf_of"]

_PROGRAMS = (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge",
    "microsoft-edge",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)  # fmt: skip
_PATIENCE = 600.0
"""Seconds that Chromium may take."""
_OPTIONS = (
    "--headless", "--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run", "--no-default-browser-check", "--host-resolver-rules=MAP * ~NOTFOUND",
    "--no-pdf-header-footer", "--generate-pdf-document-outline",
)  # fmt: skip


def pdf_of(article: ArticleContent) -> tuple[bytes, str]:
    """The bytes of an article's PDF file, and what printed it: "Chromium" or "WeasyPrint".

    Raises ValueError where neither is installed, or what is installed fails.
    """
    page = page_of(article, holds_document=False, has_sounds=False)
    program = find_chromium()
    if program is None:
        return _by_weasyprint(page, "PDF without Chromium"), "WeasyPrint"
    try:
        return _by_chromium(page, program), "Chromium"
    except _PrintError as error:
        purpose = f"PDF, where {Path(program).name} fails ({error}),"
        return _by_weasyprint(page, purpose), "WeasyPrint"


def find_chromium() -> str | None:
    """The path of Chromium or of a browser made from it; None where there is none."""
    return next((path for name in _PROGRAMS if (path := shutil.which(name))), None)


class _PrintError(Exception):
    """Why Chromium printed nothing."""


def _by_chromium(page: str, program: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="unified-pdf-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        source, output = folder / "article.html", folder / "article.pdf"
        source.write_text(page, "utf-8")
        command = [program, *_OPTIONS, f"--user-data-dir={folder / 'profile'}",
                   f"--print-to-pdf={output}", source.as_uri()]  # fmt: skip
        if hasattr(os, "geteuid") and os.geteuid() == 0:  # who cannot have its sandbox
            command.insert(1, "--no-sandbox")
        complaint = _run(command)
        if not output.is_file() or not output.stat().st_size:
            raise _PrintError(complaint or "it wrote nothing")
        return output.read_bytes()


def _run(command: list[str]) -> str:
    """Run a program with all of its children to the end. Returns its last line of complaint."""
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise _PrintError(error.strerror) from None
    try:
        _, complaints = process.communicate(timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        raise _PrintError(f"it was not done after {_PATIENCE:.0f} s") from None
    finally:
        if process.poll() is None:  # Ctrl-C as well
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.wait()
    lines = complaints.decode("utf-8", "replace").splitlines()
    return quoted(lines[-1]) if process.returncode and lines else ""


def _by_weasyprint(page: str, purpose: str) -> bytes:
    """purpose: what it is needed for, where it is not installed."""
    try:
        import weasyprint
    except ImportError:
        raise missing_extra(purpose, "weasyprint", "export") from None
    except OSError as error:
        raise ValueError(
            f"{purpose} needs WeasyPrint, which lacks a library of the system: "
            f"{quoted(str(error))}; install Pango"
        ) from None

    # Nothing but what lies in the page: no protocol that reaches a network or a disk.
    fetcher = weasyprint.urls.URLFetcher(allowed_protocols=("data",), fail_on_errors=True)
    data: bytes = weasyprint.HTML(string=page, url_fetcher=fetcher).write_pdf(pdf_tags=True)
    return data
