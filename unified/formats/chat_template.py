"""The chat template of a language model, as transformers renders it.

It stands in the language model's tokenizer_config.json, or in a chat_template.jinja beside it. It
is a stranger's program: it is rendered in a process of its own (`chat_child`), within limits of
time, memory and output, and there in jinja2's sandbox, where it can reach nothing.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unified.vocabulary.text_tokenizer import TextTokenizer
from unified_base.foreign import foreign
from unified_base.text import quoted, safe

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

__all__ = ["ChatTemplate", "refused"]

_MOST_TEMPLATE = 1_000_000
# Of the wall, from question to answer: the child's own limit is of processor time, which is what
# counts on a busy machine. Its start, with imports, is within the first answer.
_SECONDS = 120.0


def refused(reason: str) -> ValueError:
    """What is said of a template that no format can say."""
    return ValueError(
        f"the chat template cannot be said as a format: {reason}; take another format, such as"
        " pocket"
    )


class ChatTemplate:
    """A chat template with its text tokenizer, ours (`text`) and that of transformers.

    source: of the template, or of all by their names.
    """

    def __init__(self, text: TextTokenizer, config: PreTrainedConfig | None = None) -> None:
        """config: the language model's, by which transformers picks the tokenizer's class.

        Raises ValueError where there is no template.
        """
        from transformers import AutoTokenizer

        self.text = text
        with tempfile.TemporaryDirectory() as folder:
            text.save(folder)
            try:
                with foreign("transformers does not load its tokenizer"):
                    self._hf = AutoTokenizer.from_pretrained(
                        folder, config=config, local_files_only=True, trust_remote_code=False
                    )
                    template = self._hf.chat_template and self._hf.get_chat_template()
                    values = dict(self._hf.special_tokens_map)
            except ValueError as error:
                raise refused(str(error)) from None
        if not template:
            raise ValueError(
                "the language model has no chat template (neither chat_template in its"
                " tokenizer_config.json nor a chat_template.jinja); take another format, such as"
                " pocket"
            )
        if not isinstance(template, str) or len(template) > _MOST_TEMPLATE:
            raise refused(
                f"it is {quoted(template)}, expected at most {_MOST_TEMPLATE:,} characters"
            )
        self.source = template
        self._renderer = _Renderer(template, values)

    def ids(self, contents: tuple[str, ...], answer: bool = False) -> tuple[int, ...]:
        """The ids that transformers gives to messages of user and assistant in turn.

        answer: with what makes the model answer behind them.

        Raises ValueError where the template cannot be rendered.
        """
        roles = ("user", "assistant")
        turns = [{"role": roles[at % 2], "content": content} for at, content in enumerate(contents)]
        rendered = self._renderer.render(turns, answer)
        with foreign("the chat template's text"):
            encoded: Any = self._hf(rendered, add_special_tokens=False)
        return tuple(int(id) for id in encoded["input_ids"])

    def show(self, ids: tuple[int, ...]) -> str:
        """Ids as text, for errors."""
        return quoted(self.text.decode(ids), 400)


class _Renderer:
    """The other process; it ends with this object."""

    def __init__(self, template: str, values: dict[str, Any]) -> None:
        # Not forked: this process may have threads. -P: the files beside it are no modules of its.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("chat_child.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
        weakref.finalize(self, _end, self._process)
        self._rest = b""
        self._send({"template": template, "values": values})

    def render(self, turns: list[dict[str, str]], answer: bool) -> str:
        """The text of a conversation. ValueError where there is none within the limits."""
        self._send({"turns": turns, "answer": answer})
        reply = json.loads(self._line())
        if "error" in reply:
            raise refused(f"it does not render ({_short(reply['error'])})")
        text: str = reply["text"]
        return text

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended, which reading tells
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def _line(self) -> bytes:
        """The next line that it writes."""
        assert self._process.stdout is not None
        pipe, deadline = self._process.stdout.fileno(), time.monotonic() + _SECONDS
        while b"\n" not in self._rest:
            ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(pipe, 1 << 16) if ready else b""
            if not data:
                _end(self._process)
                raise refused(
                    "it does not render within 10 seconds and 512 MB, the limits of a template"
                )
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):  # what was never read by it
                pipe.close()


def _short(reason: str) -> str:
    return safe(" ".join(reason.split()))[:200]
