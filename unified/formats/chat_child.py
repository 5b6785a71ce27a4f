"""The process in which a stranger's chat template is rendered; `chat_template` starts it.

It is run as a file of its own and imports nothing of ours. The first line on stdin is the template
and what it may see, every further one a conversation; each is answered by one line. The template
runs in transformers' sandbox of jinja2 and under limits of memory, processor time and output: what
goes beyond them ends this process and no other.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

MEMORY = 512 << 20
"""Bytes of address space that a template may take."""
SECONDS = 10
"""Of processor time, for all conversations."""
MOST = 1_000_000
"""Characters of one rendered conversation."""


def limit() -> None:
    """Set this process's limits, over what it has taken by now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + MEMORY
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + SECONDS
    for kind, most in (
        (resource.RLIMIT_AS, size),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))


def render(template: str, values: dict[str, Any], request: dict[str, Any]) -> dict[str, str]:
    """{"text": ...} of a conversation, or {"error": ...}."""
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        rendered: Any = render_jinja_template(
            conversations=[request["turns"]], chat_template=template,
            add_generation_prompt=request["answer"], **values,
        )  # fmt: skip
        text = rendered[0][0]  # of the first conversation
        if len(text) > MOST:
            return {"error": f"it writes {len(text):,} characters, expected at most {MOST:,}"}
        return {"text": text}
    except Exception as error:  # whatever the template does wrong
        kind, reason = type(error).__name__, str(error)[:400]
        return {
            "error": reason if kind == "TemplateError" else f"{kind}: {reason}" if reason else kind
        }


def main() -> None:
    """Answer until stdin ends."""
    from transformers.utils import chat_template_utils  # noqa: F401 (before the limits)

    first = json.loads(sys.stdin.readline())
    if sys.platform == "linux":
        limit()
    for line in sys.stdin:
        answer = render(first["template"], first["values"], json.loads(line))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
