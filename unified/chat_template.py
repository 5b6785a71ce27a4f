"""The chat template of a language model, as transformers renders it.

It stands in the language model's tokenizer_config.json, or in a chat_template.jinja beside it. It
is a stranger's code: transformers renders it in jinja2's sandbox, where it can reach nothing.
"""

from __future__ import annotations

import tempfile
from typing import Any

from unified.text import TextTokenizer

__all__ = ["ChatTemplate", "refused"]


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

    def __init__(self, text: TextTokenizer, config: Any = None) -> None:
        """config: the language model's, by which transformers picks the tokenizer's class.

        Raises ValueError where there is no template.
        """
        from transformers import AutoTokenizer

        self.text = text
        with tempfile.TemporaryDirectory() as folder:
            text.save(folder)
            try:
                self._hf = AutoTokenizer.from_pretrained(
                    folder, config=config, local_files_only=True, trust_remote_code=False
                )
            except (OSError, ValueError, KeyError, TypeError) as error:
                reason = f"transformers does not load its tokenizer ({_short(error)})"
                raise refused(reason) from None
        if not self._hf.chat_template:
            raise ValueError(
                "the language model has no chat template (neither chat_template in its"
                " tokenizer_config.json nor a chat_template.jinja); take another format, such as"
                " pocket"
            )
        self.source = str(self._hf.chat_template)

    def ids(self, contents: tuple[str, ...], answer: bool = False) -> tuple[int, ...]:
        """The ids that transformers gives to messages of user and assistant in turn.

        answer: with what makes the model answer behind them.

        Raises ValueError where the template cannot be rendered.
        """
        roles = ("user", "assistant")
        turns = [{"role": roles[at % 2], "content": said} for at, said in enumerate(contents)]
        try:
            found: Any = self._hf.apply_chat_template(
                turns, tokenize=True, add_generation_prompt=answer
            )
        except Exception as error:  # whatever the template does wrong
            raise refused(f"it does not render ({_short(error)})") from None
        return tuple(int(id) for id in found["input_ids"])

    def show(self, ids: tuple[int, ...]) -> str:
        """Ids as text, for errors."""
        return repr(self.text.decode(ids))


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
