"""Models of ours in lmms-eval: what its entry point group `lmms_eval.models` finds.

    lmms-eval --model unified --model_args pretrained=pocket --tasks pope

Imported by lmms-eval alone, which must be installed beside unified.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lmms_eval.api.instance import GenerationResult
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest

from unified.evaluation.interleaved_answers import write_interleaved
from unified.evaluation.lmms_eval_requests import (
    LmmsRequest,
    answer_text,
    read_messages,
    read_settings,
)
from unified.evaluation.part import Bench
from unified.models.asking_models import AskedRequest
from unified.models.model import UnifiedModel
from unified.tasks.task import Refusal
from unified_base.images import save_png
from unified_base.sounds import save_wav
from unified_data.document import Audio, Document, Image, Text

__all__ = ["ChatModel", "SimpleModel", "manifest"]

_log = logging.getLogger(__name__)


def manifest() -> ModelManifest:
    """What lmms-eval registers: the model `unified`, for chat and, by --force_simple, without."""
    here = __name__
    return ModelManifest("unified", f"{here}.SimpleModel", f"{here}.ChatModel")


class ChatModel(lmms):
    """A model that is asked by messages; see `read_messages` for what becomes of them."""

    is_simple = False

    def __init__(
        self,
        pretrained: str = "pocket",
        device: str | None = None,
        dtype: str = "auto",
        backend: str = "auto",
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        seed: int = 0,
        listen: bool = False,
        output: str = "",
    ) -> None:
        """Open a model.

        Args:
            pretrained, device, dtype, backend: as `UnifiedModel.from_pretrained`; device None: cpu.
            batch_size: requests that are sampled together, or "auto": 16.
            max_batch_size: of lmms-eval's own; not used.
            seed: of every sample.
            listen: a sound is written down whatever the words beside it say.
            output: the folder that pictures and sounds of answers are written to.
        """
        super().__init__()
        self.model = UnifiedModel.from_pretrained(
            pretrained, device=device or "cpu", dtype=dtype, backend=backend
        )
        self._size = 16 if str(batch_size).startswith("auto") else int(batch_size)
        self._bench = Bench(self.model, 1, (), int(seed))
        self._listen, self._output = bool(listen), Path(output) if output else None
        asks = self.model.tasks["ask"]
        self._asks_of_sound = not isinstance(asks, Refusal) and "audio" in asks.media
        self._told: set[str] = set()

    # What lmms-eval calls.

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """The answer to each request: a text, or the JSON of a document (`interleaved_answers`).

        What the model does not take is answered by an empty text, with a warning.

        Raises ValueError where it took none of them.
        """
        asked = [self._messages(request) for request in requests]
        return self._answers(asked, [_settings(request) for request in requests])

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[list[str]]:
        """Of each request the answers of its rounds; the task makes every round's message."""
        return [self._rounds(request) for request in requests]

    def loglikelihood(self, requests: Sequence[Any]) -> list[GenerationResult]:
        """Log-probability of each continuation, in nats, and whether it is the likeliest.

        Over the whole vocabulary, by the decoder as torch runs it. The pairs are wrapped: bare ones
        lmms-eval 0.7 turns into text, which its multiple-choice tasks then fail on.
        """
        return [GenerationResult(self._likelihood(request)) for request in requests]

    # Messages.

    def _messages(self, request: Any) -> list[dict[str, Any]]:
        _, doc_to_messages, _, doc_id, task, split = request.args
        messages: list[dict[str, Any]] = doc_to_messages(self.task_dict[task][split][doc_id])
        return messages

    def _rounds(self, request: Any) -> list[str]:
        _, doc_to_messages, settings, doc_id, task, split = request.args
        doc = self.task_dict[task][split][doc_id]
        messages, answers, info = doc_to_messages(doc), [], None
        while True:
            answers += self._answers([messages], [settings])
            following = doc_to_messages(
                doc, round_idx=len(answers), previous_output=list(answers), previous_round_info=info
            )
            if not (isinstance(following, tuple) and len(following) == 4):
                return answers
            messages, ends, _, info = following
            if ends:
                return answers

    # Answers.

    def _answers(
        self, asked: Sequence[list[dict[str, Any]]], settings: Sequence[dict[str, Any]]
    ) -> list[str]:
        answers: list[str] = [""] * len(asked)
        reasons: list[str] = []
        ready: list[tuple[int, LmmsRequest, AskedRequest, tuple[str, ...]]] = []
        for row, (messages, setting) in enumerate(zip(asked, settings)):
            try:
                request = self._read(messages)
                choices, until, left = read_settings(setting)
                self._tell(left)
                asking = self.model.request(request.verb, **request.inputs, **choices)
                ready.append((row, request, asking, until))
            except ValueError as error:
                reasons.append(str(error))
        # Those of one verb that stand side by side are sampled together.
        for _, group in groupby(ready, key=lambda each: (each[1].verb, each[2].negative)):
            several = list(group)
            for start in range(0, len(several), self._size):
                some = several[start : start + self._size]
                results = self._bench.complete([asking for _, _, asking, _ in some])
                for (row, _, _, until), result in zip(some, results):
                    if isinstance(result, str):
                        reasons.append(result)
                    else:
                        answers[row] = self._text(result, until)
        if len(reasons) == len(asked):
            raise ValueError(f"the model took none of {len(asked)} requests: {reasons[0]}")
        if reasons:
            _log.warning(
                "%d of %d requests were not taken and count as empty answers: %s",
                len(reasons), len(asked), reasons[0],
            )  # fmt: skip
        return answers

    def _read(self, messages: list[dict[str, Any]]) -> LmmsRequest:
        return read_messages(messages, self._asks_of_sound, self._listen)

    def _tell(self, left: Sequence[str]) -> None:
        for name in set(left) - self._told:
            self._told.add(name)
            _log.warning("the task's setting %s means nothing to this model: left out", name)

    def _text(self, document: Document, until: Sequence[str]) -> str:
        answer = answer_text(document, until, self._write)
        return answer if isinstance(answer, str) else write_interleaved(answer)

    def _write(self, medium: Image | Audio) -> Path:
        """The file of a medium, numbered in the order in which they come."""
        if self._output is None:
            raise ValueError("the answer has media; name a folder: --model_args output=FOLDER")
        self._output.mkdir(parents=True, exist_ok=True)
        number = len(list(self._output.iterdir()))
        if isinstance(medium, Image):
            path = self._output / f"{number:06d}.png"
            save_png(path, medium.pixels)
        else:
            path = self._output / f"{number:06d}.wav"
            save_wav(path, medium.waveform, medium.sample_rate)
        return path.resolve()

    # Likelihoods.

    def _likelihood(self, request: Any) -> tuple[float, bool]:
        context, continuation, doc_to_visual, doc_id, task, split = request.args
        doc = self.task_dict[task][split][doc_id]
        text = continuation if isinstance(continuation, str) else continuation(doc)
        if self.model.codes is not None:
            raise ValueError("a model of several codes a position has no likelihood of texts here")
        asked = self._read(_turn(doc_to_visual(doc) or (), context))
        asking = self.model.request(asked.verb, **asked.inputs)
        slot = asking.document.segments[-1]
        answered = Document((*asking.document.segments[:-1], Text(text, slot.role)))
        sequence = self.model.sequencer.encode(answered)
        if sequence.embedded:
            raise ValueError(
                "the model reads media as continuous positions, whose likelihoods are not measured"
                " yet; take tasks that ask it to write"
            )
        ids = sequence.ids
        wanted = np.asarray(self.model.text_tokenizer.encode(text))
        at = _last_place(ids, wanted)
        with torch.no_grad():
            row = torch.from_numpy(ids[: at + len(wanted)])[None].to(self.model.device)
            logits = self.model.hf(input_ids=row).logits[0, at - 1 : -1].float().cpu()
        own = torch.from_numpy(wanted)[:, None]
        likelihood = logits.log_softmax(-1).gather(1, own).sum()
        return float(likelihood), bool((logits.argmax(-1) == own[:, 0]).all())


class SimpleModel(ChatModel):
    """The same for lmms-eval's tasks that have no messages, such as those of likelihoods."""

    is_simple = True

    def _messages(self, request: Any) -> list[dict[str, Any]]:
        context, _, doc_to_visual, doc_id, task, split = request.args
        return _turn(doc_to_visual(self.task_dict[task][split][doc_id]) or (), context)

    def _rounds(self, request: Any) -> list[str]:
        context, settings, doc_to_visual, doc_to_text, doc_id, task, split = request.args
        doc = self.task_dict[task][split][doc_id]
        visuals, answers, info = doc_to_visual(doc), [], None
        while True:
            answers += self._answers([_turn(visuals or (), context)], [settings])
            following = doc_to_text(
                doc, round_idx=len(answers), previous_output=list(answers), previous_round_info=info
            )
            if not (isinstance(following, tuple) and len(following) == 5):
                return answers
            visuals, context, ends, _, info = following
            if ends:
                return answers


def _settings(request: Any) -> dict[str, Any]:
    """The settings among a request's arguments, which stand in another place with messages."""
    return next(dict(each) for each in request.args[1:3] if isinstance(each, dict))


def _turn(media: Sequence[Any], text: str) -> list[dict[str, Any]]:
    """One message of media, then words. A sound comes as a mapping with its array, or a decoder."""
    content: list[dict[str, Any]] = []
    for each in media:
        is_sound = (isinstance(each, dict) and "array" in each) or hasattr(each, "get_all_samples")
        content.append({"type": "audio" if is_sound else "image", "url": each})
    return [{"role": "user", "content": [*content, {"type": "text", "text": text}]}]


def _last_place(ids: np.ndarray, wanted: np.ndarray) -> int:
    """Where the ids of an answer stand last among those of its document."""
    for at in range(len(ids) - len(wanted), 0, -1):
        if (ids[at : at + len(wanted)] == wanted).all():
            return at
    raise ValueError("the answer's ids are not in the document as they are alone")
