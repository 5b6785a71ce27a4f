"""Log probabilities of an answer's words, as chat completions and responses have them.

What they are of, `unified.engine.text_scores` says. Ids of thoughts, which are left out of answers,
have none here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from unified.engine.text_scores import TextScore
from unified.models.asking_models import AskedRequest
from unified.sequence.sequencer import Sequencer
from unified.serving.api_errors import ApiError

__all__ = ["check_scored", "told_logprobs"]


def check_scored(asked: AskedRequest, param: str) -> None:
    """Raises ApiError where no words are the answer, so that nothing has log probabilities."""
    if asked.verb not in ("write", "describe", "ask", "listen"):
        raise ApiError(
            400,
            f"{param} is of words, and what is asked for here is no text; leave it out",
            param=param,
            code="unsupported_parameter",
        )


def told_logprobs(scores: Iterable[TextScore], sequencer: Sequencer) -> list[dict[str, Any]]:
    """{"token", "bytes", "logprob", "top_logprobs": [...]} of each id.

    token: the text of an id, its bytes as UTF-8 has them where they are whole characters; of a
    marker, which may stand among the others, its name, and no bytes.
    """
    return [
        {
            **_told(score.id, score.logprob, sequencer),
            "top_logprobs": [_told(id, logprob, sequencer) for id, logprob in score.top],
        }
        for score in scores
    ]


def _told(id: int, logprob: float, sequencer: Sequencer) -> dict[str, Any]:
    vocabulary = sequencer.vocabulary
    if not vocabulary.is_text(id):
        block = vocabulary.block_of(id)
        code = int(vocabulary.from_ids(block.name, id))
        name = vocabulary.symbol(id) if block.symbols is not None else f"{block.name}:{code}"
        return {"token": name, "bytes": [], "logprob": logprob}
    data = sequencer.text_tokenizer.to_bytes([int(vocabulary.from_ids("text", id))])
    return {"token": data.decode("utf-8", "replace"), "bytes": list(data), "logprob": logprob}
