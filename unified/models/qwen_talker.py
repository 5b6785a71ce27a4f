"""Qwen3-Omni's talker as a decoder: texts are read first, and lie beside codes once these begin.

To the engine a sequence is ids of text, <bos>, and positions of 16 codes. To the talker a position
holds an id of text and what stands beside it:

    <im_start> user ...     the user's turns
    <im_start> assistant \\n
    tts_pad + nothink, tts_pad + think_bos, tts_pad + think_eos, tts_pad + speaker
    tts_bos + codec_pad
    text[0] + <bos>
    text[1] + frame 0, ..., text[n - 1] + frame n - 2, tts_eos + frame n - 1, tts_pad + frame n, ...

So the ids of a text have no hidden states (zeros) and no keys and values; <bos> has those of all
that stands before it, and a frame its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from unified.engine.backends.base import Array, Position, PositionCodes, Ranges
from unified.engine.backends.transformers import TransformersDecoder
from unified.engine.backends.transformers_cache import TransformersCache
from unified.models.qwen_talker_torch import TalkerModel
from unified_base.text import quoted

__all__ = ["TalkerDecoder", "TalkerLayout"]

_HEADER = 3  # ids of <im_start>, assistant, line break, as transformers counts them


class TalkerLayout:
    """What the talker reads of a text's ids: see the module.

    speakers: by the ids of a name, the name.
    """

    def __init__(self, config: Any, model: TalkerModel, speakers: Mapping[tuple[int, ...], str]):
        talker = config.talker_config
        self._model, self._speakers = model, dict(speakers)
        self._rows = {str(name): int(row) for name, row in (talker.speaker_id or {}).items()}
        self._turn, self._end = config.im_start_token_id, config.im_end_token_id
        self._user, self._assistant = config.user_token_id, config.assistant_token_id
        self._pad, self._bos = config.tts_pad_token_id, config.tts_bos_token_id
        self._eos = config.tts_eos_token_id
        self._thinking = (
            talker.codec_nothink_id, talker.codec_think_bos_id, talker.codec_think_eos_id,
        )  # fmt: skip
        self._codec_pad, self._codec_bos = talker.codec_pad_id, talker.codec_bos_id
        self._voice = model.voice

    def begin(self, text: Sequence[int]) -> list[Position]:
        """The positions up to <bos>. Raises ValueError for texts without a reply."""
        speaker, turns = self._split(text)
        positions: list[Position] = []
        for turn in turns[:-1]:
            if turn[1:2] == [self._user]:
                positions += turn
        reply = turns[-1]
        beside = [(self._pad, row) for row in (*self._thinking, speaker)]
        beside += [(self._bos, self._codec_pad), (reply[_HEADER], self._codec_bos)]
        row = self._model.codec_row
        return [*positions, *reply[:_HEADER], *((id, row(code)) for id, code in beside)]

    def beside(self, text: Sequence[int], frame: int) -> int:
        """The id of text that stands beside a frame."""
        rest = self._split(text)[1][-1][_HEADER + 1 :]
        if frame < len(rest):
            return rest[frame]
        return self._eos if frame == len(rest) else self._pad

    def _split(self, text: Sequence[int]) -> tuple[int, list[list[int]]]:
        """The row of the speaker, and the turns; the last is the reply."""
        begin, end = self._voice
        ids, name = list(text), ""
        if ids[:1] == [begin] and end in ids:
            stop = ids.index(end)
            name = self._speakers.get(tuple(ids[1:stop]), "")
            if not name:
                raise ValueError(
                    f"the text of role scene names no speaker, expected one of"
                    f" {', '.join(self._rows) or '(none)'}"
                )
            ids = ids[stop + 1 :]
        if not self._rows:
            raise ValueError("config.json has no talker_config.speaker_id: nobody can speak")
        name = name or ("ethan" if "ethan" in self._rows else next(iter(self._rows)))
        turns: list[list[int]] = []
        for id in ids:
            if id == self._turn:
                turns.append([])
            if not turns:
                raise ValueError(
                    f"id {id} of text stands before the first turn; give texts roles: prompt, or"
                    " response for what is to be said"
                )
            turns[-1].append(id)
        if not turns or turns[-1][1:2] != [self._assistant] or len(turns[-1]) <= _HEADER:
            raise ValueError(
                "there is nothing to say: the talker speaks a text of role response, which stands"
                " right before the sound"
            )
        return self._rows[name], turns


class TalkerCache:
    """See `Cache`: texts, and a cache of what the talker has read of each slot.

    texts: ids of text of each slot, up to <bos>.
    """

    copies_in_parts = False

    def __init__(self, inner: TransformersCache) -> None:
        self.inner = inner
        self.lengths: list[int] = []
        self.texts: list[list[int]] = []

    def allocate(self, max_ids: int) -> int:
        """See `Cache.allocate`; memory is taken as ids come."""
        slot = self.inner.allocate(max_ids)
        if slot == len(self.lengths):
            self.lengths.append(0)
            self.texts.append([])
        return slot

    def free(self, slot: int) -> None:
        self.inner.free(slot)
        self.lengths[slot], self.texts[slot] = 0, []

    def reset(self, slot: int) -> None:
        self.inner.reset(slot)
        self.lengths[slot], self.texts[slot] = 0, []

    def num_codes(self, slot: int) -> int:
        """Positions behind the text: <bos>, and frames."""
        return self.lengths[slot] - len(self.texts[slot])

    def truncate(self, slot: int, length: int) -> None:
        """See `Cache.truncate`."""
        lost = self.lengths[slot] - length
        if length <= len(self.texts[slot]):
            self.inner.reset(slot)
            self.texts[slot] = self.texts[slot][:length]
        elif lost:
            self.inner.truncate(slot, self.inner.lengths[slot] - lost)
            if not self.inner.lengths[slot]:  # which cannot be truncated
                self.reset(slot)
                return
        self.lengths[slot] = length

    def copy_prefix(
        self, source: int, target: int, length: int | None = None, start: int = 0
    ) -> None:
        """See `Cache.copy_prefix`."""
        self.reset(target)
        if self.num_codes(source):
            self.inner.copy_prefix(source, target)
        self.texts[target], self.lengths[target] = [*self.texts[source]], self.lengths[source]
        if length is not None:
            self.truncate(target, length)


class TalkerDecoder:
    """The decoder of the engine (`unified.engine.backends.base`) for the talker.

    Any number of threads may use one decoder, each with caches of its own; one at a time runs the
    model.
    """

    backend: ClassVar[str] = "transformers"
    batch_invariant: ClassVar[bool] = False

    def __init__(self, hf: Any) -> None:
        """hf: a Qwen3OmniMoeForConditionalGeneration with `speakers_by_ids`."""
        self.hf, self.model = hf, TalkerModel(hf)
        self._layout = TalkerLayout(hf.config, self.model, hf.speakers_by_ids)
        self._inner = TransformersDecoder(hf, self.model)
        self.vocab_size, self.max_positions = self.model.num_ids, self.model.max_positions

    def follows_weights(self) -> bool:
        """Whether it computes with the weights that the model has now, which it shares."""
        return self._inner.follows_weights()

    def available_bytes(self) -> int:
        """See `Decoder.available_bytes`."""
        return self._inner.available_bytes()

    def cache_bytes(self, max_ids: int) -> int:
        """See `Decoder.cache_bytes`."""
        return self.model.cache_bytes(max_ids)

    def new_cache(self, num_slots: int = 0, max_ids: int = 0) -> TalkerCache:
        """See `Decoder.new_cache`."""
        cache = TalkerCache(self._inner.new_cache())
        for _ in range(num_slots):
            cache.allocate(max_ids)
        return cache

    @torch.inference_mode()
    def forward(
        self, cache: TalkerCache, slots: Sequence[int], input_ids: Sequence[Sequence[Position]]
    ) -> Tensor:
        """See `Decoder.forward`. Raises ValueError for text behind codes, and for texts that hold
        nothing to say."""
        read: list[tuple[int, list[Position]]] = []  # of the talker, by slot
        states_of: list[list[int]] = []  # of each slot's positions, behind which the talker's; -1
        texts: list[list[int]] = []
        for slot, positions in zip(slots, input_ids):
            text, inner, behind = self._lay(cache, slot, positions)
            texts.append(text)
            states_of.append(behind)
            if inner:
                read.append((slot, inner))
        states = None
        if read:
            try:
                states = self._inner.forward(cache.inner, *map(list, zip(*read)))
            except BaseException:
                for slot, _ in read:
                    cache.reset(slot)  # of which the talker may have read some, or nothing
                raise
        width = self.model.width
        rows, first = [], 0
        empty = torch.zeros(1, width, dtype=self.model.dtype, device=self.model.device)
        number_of = {slot: len(inner) for slot, inner in read}
        for slot, positions, text, behind in zip(slots, input_ids, texts, states_of):
            cache.texts[slot] += text
            cache.lengths[slot] += len(positions)
            for at in behind:
                rows.append(empty if at < 0 or states is None else states[first + at][None])
            first += number_of.get(slot, 0)
        return torch.cat(rows)

    def _lay(
        self, cache: TalkerCache, slot: int, positions: Sequence[Position]
    ) -> tuple[list[int], list[Position], list[int]]:
        """New text, new positions of the talker, and which of them stands behind each position."""
        text: list[int] = []
        inner: list[Position] = []
        behind: list[int] = []
        codes = cache.num_codes(slot)
        for position in positions:
            if isinstance(position, tuple):
                if not codes:
                    raise ValueError("codes stand before <bos>; a sound begins with it")
                id = self._layout.beside([*cache.texts[slot], *text], codes - 1)
                inner.append((id, *self.model.rows_of(position)))
            elif position == self.model.begin:
                inner += self._layout.begin([*cache.texts[slot], *text])
            elif codes:
                raise ValueError(
                    f"id {quoted(position)} stands behind codes, but the talker reads texts before"
                    " they begin; put all of them before the sound"
                )
            else:
                assert isinstance(position, int)  # it says that it reads no vectors
                text.append(position)
                behind.append(-1)
                continue
            codes += 1
            behind.append(len(inner) - 1)
        return text, inner, behind

    def logits(self, hidden_states: Tensor, ranges: Ranges) -> Array:
        """See `Decoder.logits`; of the first code of a frame, and of <eos>."""
        return self._inner.logits(hidden_states, ranges)

    def begin_positions(self, hidden_states: Tensor) -> PositionCodes:
        """See `CodesDecoder.begin_positions`."""
        return self._inner.begin_positions(hidden_states)
