"""The format of encoder-decoders of text: a prompt is what the encoder reads, an answer is written.

As T5, mT5 and Flan-T5 lay pairs out: the text and an end for the encoder; a start, the text and an
end for the decoder. Pictures and sounds are spans as in the pocket format, boxes and points as in
`grounded`, inside whoever's turn it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from unified.formats.chat_format import ChatFormat
from unified.formats.load import load_format
from unified.formats.parser import parse_format, write_format
from unified.formats.spec import Format
from unified.vocabulary.text_tokenizer import TextTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

__all__ = ["check_encoded", "text_to_text_format"]

_START, _END = "<start>", "<end>"
_OWN_MARKERS = ("<pad>", "<text>", "<image>", "</image>", "<audio>", "</audio>")
_OF_PLACES = ("<box>", "</box>", "<point>", "</point>")


def text_to_text_format(
    text_tokenizer: TextTokenizer, config: PreTrainedConfig, places: bool = False
) -> ChatFormat:
    """The format of an encoder-decoder's own layout.

    config: of the model, with the ids of its start and end. places: with spans of boxes and points.

    Raises ValueError where the config names no start or end, or ids that are not special.
    """
    start = getattr(config, "decoder_start_token_id", None)
    if start is None:
        start = config.pad_token_id
    tokens = {_START: start, _END: config.eos_token_id}
    for name, id in tokens.items():
        if type(id) is not int or id not in text_tokenizer.special_ids:
            raise ValueError(
                f"the config's id of {name} is {id!r}, which is no special token of the text"
                " tokenizer; take both from one model, or give format pocket"
            )
    if tokens[_START] == tokens[_END]:
        raise ValueError(
            f"the config's start and end are one id, {tokens[_END]}; give format pocket"
        )
    own = (*_OWN_MARKERS, *(_OF_PLACES if places else ()))
    top = {
        "name": "text-to-text",
        "markers": [*tokens, *own],
        "padding": "<pad>",
        "document": {"begin": None, "end": None, "start": "prompt"},
        "roles": {
            "prompt": {"begin": None, "end": _END},
            "response": {"begin": _START, "end": _END},
        },
        "bidirectional": ["prompt"],
        "text": {"separator": "<text>"},
        "spans": yaml.safe_load(load_format("grounded" if places else "pocket").source)["spans"],
    }
    return ChatFormat(parse_format(write_format(top)), tokens, (), ())


def check_encoded(format: Format) -> None:
    """Raises ValueError for a format that does not say what an encoder reads, or lets the decoder
    begin with nothing to read."""
    encoded = [role for role in format.roles if role in format.bidirectional]
    if not encoded:
        raise ValueError(
            f"format '{format.name}' does not say what the encoder reads; name roles in"
            " `bidirectional`, such as prompt"
        )
    silent = [r for r, role in format.roles.items() if r not in encoded and not role.begin]
    if silent:
        raise ValueError(
            f"role {silent[0]} of format '{format.name}' begins without a marker, so that the"
            " decoder would have nothing to begin with; give the role a begin"
        )
