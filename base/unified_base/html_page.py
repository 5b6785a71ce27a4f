"""Self-contained HTML pages from jinja2 templates: nothing in them acts or comes from elsewhere.
XML files and parts of pages are made of templates in the same way.

A package has its templates and their style sheets in `templates/`; every template extends
`page.html` of this one. What a template prints is escaped, whoever wrote it, and characters that
HTML forbids or that reorder the text around them become U+FFFD. The same values give the same
bytes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, PrefixLoader, StrictUndefined

__all__ = ["data_address", "render_html", "render_template", "without_forbidden"]

# Characters that HTML forbids even as references, and those that turn the text around them.
_FORBIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)


def data_address(kind: str, content: bytes) -> str:
    """The address of a medium that lies in the page; kind: its media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def render_html(
    package: str, template: str, title: str, language: str = "en", **values: Any
) -> str:
    """The page of a package's template `NAME.html` with its style sheet `NAME.css`.

    A content security policy allows that one style sheet, by its hash, and pictures and sounds held
    in the page; no scripts and no addresses.

    Args:
        package: where `templates/NAME.html` lies; it extends "base/page.html".
        template: NAME.
        title: of the page, plain text.
        language: of the page, as BCP 47 has it ("en", "zh").
        values: what the template prints. Missing ones are an error.
    """
    environment = _environment(package)
    source, _, _ = environment.loader.get_source(environment, f"own/{template}.css")  # type: ignore[union-attr]
    style = source.strip()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; media-src data:; "
        f"style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    page = environment.get_template(f"own/{template}.html")
    return page.render(title=title, language=language, style=style, policy=policy, **values)


def render_template(package: str, template: str, **values: Any) -> str:
    """The text of a package's `templates/TEMPLATE` (XML, a part of a page), escaped as a page is.

    Args:
        package: where the template lies.
        template: its file's name, with the extension.
        values: what the template prints. Missing ones are an error.
    """
    return _environment(package).get_template(f"own/{template}").render(**values)


def without_forbidden(text: str) -> str:
    """A text with U+FFFD for what HTML and XML forbid, and what reorders the text around it."""
    return _FORBIDDEN.sub("\ufffd", text)


@cache
def _environment(package: str) -> Environment:
    loaders = {"base": PackageLoader("unified_base"), "own": PackageLoader(package)}
    return Environment(
        loader=PrefixLoader(loaders),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _finalize(value: Any) -> Any:
    """A printed text without characters that HTML cannot hold."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return without_forbidden(value)
    return value
