"""One model being served: what handlers share."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from dataclasses import replace
from typing import Any

from unified.models.asking_models import AskedRequest
from unified.models.model import UnifiedModel
from unified.serving.api_errors import ApiError, mistake
from unified.serving.fair_queue import FairQueue
from unified.serving.generation import Generation
from unified.serving.model_identity import ModelIdentity
from unified.serving.server_limits import ServerLimits
from unified.serving.server_metrics import ServerMetrics
from unified.tasks.task import Task, Verb
from unified_base.arguments import seeds_from
from unified_base.text import quoted
from unified_data.document import Slot

__all__ = ["Service"]

_OF_SAMPLING = ("temperature", "top_p", "top_k", "guidance", "stop")
_RANDOM_SEEDS = 2**31  # exact in every client's numbers
_log = logging.getLogger(__name__)
_CLOSING = "the server is shutting down and takes no more requests"
_CUT_OFF = (
    "the server is shutting down, and the answer did not become complete within the {:g} seconds"
    " that it may still take"
)


class Service:
    """A model, the queue before its engine, and the requests under way.

    Attributes:
        model: that is served.
        name: by which clients ask for it.
        created: when it was opened, in seconds since 1970.
        identity: what commands compare before they take answers for their own; None: they do not.
    """

    def __init__(
        self,
        model: UnifiedModel,
        name: str,
        limits: ServerLimits,
        identity: ModelIdentity | None = None,
        replica: str | None = None,
    ) -> None:
        """identity: of the model, for commands that ask whether it is theirs. replica: name of this
        one where there are several, by which metrics are told apart."""
        self.model, self.name, self.limits, self.identity = model, name, limits, identity
        self.created = int(time.time())
        self.metrics = ServerMetrics(replica)
        self.queue = FairQueue(limits.max_rows, limits.max_queue)
        self._live: set[Generation] = set()
        model.limit_engine(max_rows=limits.max_rows)
        _ = model.engine  # weights are read now, not when somebody waits

    @property
    def fingerprint(self) -> str:
        """Of what decides on ids beside the request: changes with the model's vocabulary."""
        return f"unified-{self.model.vocabulary.hash[:12]}"

    def check_model(self, name: str | None) -> None:
        """Raises ApiError (404) for another model than the one that is served. None: this one."""
        if name is not None and name != self.name:
            raise ApiError(
                404,
                f"there is no model {quoted(name)} here; this server has {quoted(self.name)}",
                param="model",
                code="model_not_found",
            )

    def task(self, verb: Verb) -> Task:
        """What the model does for a verb. Raises ApiError, with the reason, where it cannot."""
        try:
            return self.model.tasks.task(verb)
        except ValueError as error:
            raise ApiError(400, str(error), param="model", code="not_supported") from None

    def check_voice(self, voice: str | None) -> None:
        """Raises ApiError for a voice that the model does not have, with those that it has."""
        voices = self.task("speak").voices
        if voice is not None and voices and voice.lower() not in {each.lower() for each in voices}:
            raise ApiError(
                400,
                f"there is no voice {quoted(voice)}, expected one of {', '.join(voices)}",
                param="voice",
                code="voice_not_found",
            )

    def check_size(self, verb: Verb, size: str | None) -> None:
        """Raises ApiError for pictures of a size that the task does not have."""
        rule = self.task(verb).size
        if size is not None and rule is not None:
            try:
                rule.choose(size)
            except ValueError as error:
                raise mistake(error, "size") from None

    def seeds(self, seed: int | None, number: int) -> list[int]:
        """The seeds of a request's documents: seed, seed + 1, ...; None: from one of chance."""
        if number > self.limits.max_number:
            raise ApiError(
                400,
                f"n is {number}, expected at most {self.limits.max_number} in one request",
                param="n",
            )
        try:
            return seeds_from(secrets.randbelow(_RANDOM_SEEDS) if seed is None else seed, number)
        except ValueError as error:
            raise mistake(error, "seed") from None

    async def ask(self, verb: Verb, param: str, **inputs: Any) -> AskedRequest:
        """What a verb asks the model (`UnifiedModel.request`), made in a thread.

        Raises ApiError for what the model cannot do, with `param` as the field that it came from.
        """
        self.task(verb)
        try:
            return await asyncio.to_thread(self.model.request, verb, **inputs)
        except ValueError as error:
            # "sampling: image: top_p is 7, expected ..."
            name = re.split(r"[ .:]+", str(error).partition(" is ")[0])[-1]
            raise mistake(error, name if name in _OF_SAMPLING else param) from None

    async def bound(self, asked: AskedRequest, number: int | None, param: str) -> AskedRequest:
        """A request whose answer has at most so many ids; None: as the model says.

        Raises ApiError for more than the server's limit.
        """
        if number is None:
            return asked
        if number > self.limits.max_ids:
            raise ApiError(
                400, f"{param} is {number}, expected at most {self.limits.max_ids}", param=param
            )
        *prompt, slot = asked.document.segments
        sampling = asked.sampling
        if isinstance(slot, Slot) and slot.modality == "text":
            most = number if sampling.max_text_ids is None else min(number, sampling.max_text_ids)
            return replace(asked, sampling=replace(sampling, max_text_ids=most))
        prefix = await asyncio.to_thread(
            self.model.sequencer.encode_prefix, prompt, slot if isinstance(slot, Slot) else None
        )
        most = len(prefix.ids) + number
        if most >= (sampling.max_ids or self.model.decoder().max_positions):
            return asked  # the model's own bound comes first
        return replace(asked, sampling=replace(sampling, max_ids=most))

    async def begin(self, request: AskedRequest, seeds: list[int]) -> Generation:
        """Sampling under way: its first event is there. Whoever has it must close it.

        Raises ApiError: no room in the queue, a budget that is too small.
        """
        generation = Generation(
            self.model, self.queue, self.metrics, request, seeds, self._live.discard
        )
        self._live.add(generation)
        try:
            await generation.start()
        except BaseException:
            await generation.close()
            raise
        return generation

    # The end.

    async def drain(self) -> None:
        """Take no more requests, and return once those under way have ended. What has not within
        `grace_seconds` is stopped, and its client told why."""
        self.queue.closing = _CLOSING
        grace = self.limits.grace_seconds
        until = time.monotonic() + grace
        while self._live and time.monotonic() < until:
            await asyncio.sleep(0.02)
        for generation in tuple(self._live):
            generation.fail(ApiError(503, _CUT_OFF.format(grace), code="shutting_down"))
        if self._live:
            _log.warning("%d requests did not end in time", len(self._live))

    def close(self) -> None:
        """Give the engine's memory back; what is still in it is dropped."""
        self.model.engine.close()
