"""The frame of a self-contained HTML page: nothing in it acts, nothing comes from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from html import escape

__all__ = ["as_text", "data_address", "html_page"]

# Characters that HTML forbids even as references, and those that turn the text around them.
_FORBIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufdd0-\ufdef\ufffe\uffff]"
)


def as_text(text: str) -> str:
    """Text as it may stand between tags or in a quoted attribute; what must not is U+FFFD."""
    return escape(_FORBIDDEN.sub("\ufffd", text), quote=True)


def data_address(kind: str, content: bytes) -> str:
    """The address of a medium that lies in the page; kind: its media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def html_page(title: str, style: str, body: Iterable[str]) -> str:
    """A page of lines of markup, whose texts have gone through `as_text`.

    style: CSS. A content security policy allows this one style sheet, by its hash, and pictures and
    sounds held in the page; no scripts and no addresses. The same lines give the same bytes.
    """
    style = style.strip()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; media-src data:; "
        f"style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="generator" content="unified">',
        f"<title>{as_text(title)}</title>",
        f"<style>{style}</style>",
        "</head>",
        "<body>",
        *body,
        "</body>",
        "</html>",
    ]
    return "\n".join(lines) + "\n"
