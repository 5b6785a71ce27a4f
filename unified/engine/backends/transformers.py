"""Any causal LM of transformers as a backend: slower than compiled loops, but general.

Shape legend: `N` sequences of a pass, `T` new ids of all of them, `c` of each, `L` longest cache.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from unified.engine.backends.base import (
    Array,
    ContinuousPosition,
    Position,
    PositionCodes,
    Ranges,
)
from unified.engine.backends.padded_batch import PaddedBatch, plain_layers
from unified.engine.backends.parallel_heads import ParallelHeads
from unified.engine.backends.pass_media import SeenMedium, latest_of, pass_media, read_media
from unified.engine.backends.stepped_model import (
    SteppedModel,
    check_positions,
    memory_errors,
    stretching_ropes,
)
from unified.engine.backends.torch_positions import (
    DepthRows,
    TorchPositions,
    position_array,
    without_vectors,
)
from unified_base.foreign import foreign

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["TransformersCache", "TransformersDecoder"]

# Largest difference of hidden states, over their largest, between ways to compute them: sums come
# out in another order, and no more. A mask or a position that is not heeded differs by tens of
# percent.
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4}
_HALF_TOLERANCE = 0.05


class TransformersCache:
    """One transformers cache for each slot, of the model's own kind.

    lengths: ids in each slot. media: what the sequence in each has seen. Sequences that step
    together lie in one padded batch until their company changes.
    """

    copies_in_parts = False

    def __init__(self, max_positions: int) -> None:
        self._single: list[Any] = []
        self._batch: PaddedBatch | None = None
        self.lengths: list[int] = []
        self.media: list[list[SeenMedium]] = []
        self._max_positions = max_positions
        self._unused: list[int] = []

    def allocate(self, max_ids: int) -> int:
        """See `Cache.allocate`; memory is taken as ids come."""
        check_positions(max_ids, self._max_positions)
        if self._unused:
            return self._unused.pop()
        self._single.append(None)
        self.lengths.append(0)
        self.media.append([])
        return len(self._single) - 1

    def free(self, slot: int) -> None:
        self.reset(slot)
        self._unused.append(slot)

    def single(self, slot: int) -> Any:
        """transformers' own cache of one sequence; None for an empty slot."""
        if self._batch is not None and slot in self._batch.slots:
            self._single[slot] = self._batch.take_out(slot)
        return self._single[slot]

    def put(self, slot: int, cache: Any) -> None:
        self._single[slot] = cache

    def batch(self, slots: list[int]) -> PaddedBatch:
        """The sequences of some slots as one batch: the last one if they are the same."""
        if self._batch is None or self._batch.slots != slots:
            # All others leave it, since only the last batch stays whole.
            for slot in [] if self._batch is None else list(self._batch.slots):
                if slot is not None:
                    self.single(slot)
            self._batch = PaddedBatch([self._single[slot] for slot in slots], slots)
            for slot in slots:
                self._single[slot] = None
        return self._batch

    def copy_prefix(
        self, source: int, target: int, length: int | None = None, start: int = 0
    ) -> None:
        self.single(target)
        self._single[target] = copy.deepcopy(self.single(source))
        self.lengths[target] = self.lengths[source]
        self.media[target] = list(self.media[source])
        if length is not None:
            self.truncate(target, length)

    def truncate(self, slot: int, length: int) -> None:
        """Truncate a slot; one that cannot be (sliding windows, recurrent states) is reset."""
        if length == self.lengths[slot]:
            return
        cache = self.single(slot)
        if plain_layers(cache):
            cache.crop(length - self.lengths[slot])  # negative: so many from the end
            self.lengths[slot] = length
            self.media[slot] = [medium for medium in self.media[slot] if medium.at < length]
        else:
            self.reset(slot)

    def reset(self, slot: int) -> None:
        self.single(slot)
        self._single[slot], self.lengths[slot], self.media[slot] = None, 0, []


class TransformersDecoder:
    """Steps a causal LM of transformers with the cache of its own architecture.

    Sequences with the same number of new ids go together, padded on the left under a mask, where
    the cache of the model grows plainly and a check when the decoder is made has shown that the
    batch gives each row what it gets alone, but for rounding. Others (recurrent states, sliding
    windows, prompts of different lengths) go one by one.

    Any number of threads may use one decoder, each with caches of its own; one at a time runs the
    model, whose modules keep state between calls.

    hf: the model. model: how it is stepped. batches: whether sequences go together. chunks: whether
    several ids can follow others at once (Mamba of transformers reads such one by one).
    attends_media: whether modules in its layers attend to media. vocab_size, max_positions: see
    `Decoder`.
    """

    backend: ClassVar[str] = "transformers"
    batch_invariant: ClassVar[bool] = False

    def __init__(self, hf: PreTrainedModel, model: SteppedModel | None = None) -> None:
        """hf: the model; it is put in evaluation mode. model: None: a plain `SteppedModel`."""
        self.hf = hf
        self.model = model or SteppedModel(hf)
        self.vocab_size = self.model.vocab_size
        self.max_positions = self.model.max_positions
        self.input_width = self.model.input_width
        graft = vars(hf).get("unified_layer_graft")
        self.attends_media = getattr(graft, "attends", False)
        self._looks_back = getattr(graft, "looks_back", False)
        # With these, the longest sequence of a batch would decide on all positions.
        self._ropes = stretching_ropes(hf)
        parameters = inspect.signature(type(self.model.module).forward).parameters
        self._takes = {name for name in ("attention_mask", "position_ids") if name in parameters}
        self.batches, self.chunks = False, True
        self._try()

    def follows_weights(self) -> bool:
        """Whether it computes with the weights that the model has now, which it shares."""
        return self.model.has_rows()

    def available_bytes(self) -> int:
        """See `Decoder.available_bytes`."""
        return self.model.available_bytes()

    def cache_bytes(self, max_ids: int) -> int:
        """See `Decoder.cache_bytes`; attention's keys and values, as the config has their sizes."""
        config = self.hf.config.get_text_config()
        heads = getattr(config, "num_attention_heads", None) or 1
        kv_heads = getattr(config, "num_key_value_heads", None) or heads
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
        return int(
            2 * config.num_hidden_layers * kv_heads * head_dim * self.hf.dtype.itemsize * max_ids
        )

    def new_cache(self, num_slots: int = 0, max_ids: int = 0) -> TransformersCache:
        """See `Decoder.new_cache`."""
        cache = TransformersCache(self.max_positions)
        for _ in range(num_slots):
            cache.allocate(max_ids)
        return cache

    @torch.inference_mode()
    def forward(
        self,
        cache: TransformersCache,
        slots: Sequence[int],
        input_ids: Sequence[Sequence[Position]],
    ) -> Tensor:
        """See `Decoder.forward`; hidden states (T, D) in the model's type, or logits (T, V)."""
        groups: dict[Any, list[int]] = {}
        if self._looks_back:
            input_ids = [self._see(cache, *row) for row in zip(slots, input_ids)]
        for index, (slot, ids) in enumerate(zip(slots, input_ids)):
            length = cache.lengths[slot] if self._ropes else 0
            groups.setdefault((len(ids), length) if self.batches else index, []).append(index)
        states: list[Tensor] = [torch.empty(0)] * len(slots)
        if any(
            isinstance(position, tuple | ContinuousPosition)
            for ids in input_ids
            for position in ids
        ):
            self.model.check_sums()
        with memory_errors():
            for indices in groups.values():
                group_slots = [slots[index] for index in indices]
                new_ids = [list(input_ids[index]) for index in indices]
                try:
                    if len(indices) == 1:
                        results = [self._alone(cache, group_slots[0], new_ids[0])]
                    else:
                        results = list(self._together(cache, group_slots, new_ids))
                except BaseException:
                    for slot in group_slots:
                        cache.reset(slot)  # some layers may have these ids, others not
                    raise
                for index, result in zip(indices, results):
                    states[index] = result
            return torch.cat(states)

    def _see(
        self, cache: TransformersCache, slot: int, ids: Sequence[Position]
    ) -> list[Position]:
        """Keep what media a sequence sees; its new positions without those that are attended to."""
        plain, media = read_media(ids, cache.lengths[slot], self.model.device)
        cache.media[slot] += media
        return plain

    def _seen(self, cache: TransformersCache, slots: Sequence[int], count: int) -> dict[str, Any]:
        """Fields of `PassMedia` for so many new positions of some sequences."""
        if not self._looks_back:
            return {}
        rows, starts = [cache.media[slot] for slot in slots], [cache.lengths[s] for s in slots]
        media, latest = latest_of(rows, starts, count, self.model.device)
        return {"media": media, "latest": latest}

    def _alone(self, cache: TransformersCache, slot: int, ids: Sequence[Position]) -> Tensor:
        """One sequence: its cache grows by these ids. Hidden states (c, D)."""
        if cache.lengths[slot] and len(ids) > 1 and not self.chunks:
            return torch.cat([self._alone(cache, slot, [id]) for id in ids])
        seen = self._seen(cache, [slot], len(ids))
        outputs = self._run(ids=[ids], cache=cache.single(slot), seen=seen)
        cache.put(slot, outputs[self.model.cache_name])
        cache.lengths[slot] += len(ids)
        return self.model.states(outputs)[0]

    def _together(
        self, cache: TransformersCache, slots: list[int], input_ids: Sequence[Sequence[Position]]
    ) -> Tensor:
        """Sequences of the same number of new ids. Hidden states (N, c, D)."""
        batch, count = cache.batch(slots), len(input_ids[0])
        device = self.model.device
        past = torch.tensor([cache.lengths[slot] for slot in slots], device=device)
        columns = torch.arange(batch.length + count, device=device)
        everything = {
            # (N, L + c): what a row has, and no padding.
            "attention_mask": (columns >= (batch.length - past)[:, None]).long(),
            "position_ids": past[:, None] + torch.arange(count, device=device),  # (N, c)
        }
        chosen = {name: everything[name] for name in self._takes}
        seen = self._seen(cache, slots, count)
        outputs = self._run(ids=input_ids, cache=batch.cache, seen=seen, **chosen)
        batch.grown(outputs[self.model.cache_name], count)
        for slot in slots:
            cache.lengths[slot] += count
        return self.model.states(outputs)

    def _run(
        self,
        ids: Sequence[Sequence[Position]],
        cache: Any,
        seen: dict[str, Any] | None = None,
        **arguments: Tensor,
    ) -> Any:
        plain, vectors = without_vectors(ids)
        on_device = torch.from_numpy(position_array(plain)).to(self.model.device)
        told = pass_media(self.hf, **seen) if seen else nullcontext()
        with self.model.lock, told:
            self._reset_stretched_rope()
            return self.model.module(
                **self.model.inputs_with(on_device, vectors),
                use_cache=True,
                **{self.model.cache_name: cache},
                **arguments,
            )

    @torch.inference_mode()
    def _try(self) -> None:
        """Find out what the model computes exactly: several ids after others, and batches of rows
        of different lengths."""
        rows = self.model.trial_rows()
        cache, alone, whole = self.new_cache(2), [], []
        for slot, row in enumerate(rows):
            self._alone(cache, slot, row[:-2])
            alone.append(self._alone(cache, slot, row[-2:]))
            whole.append(self.model.states(self._run(ids=[row], cache=None))[0, -2:])
        expected = torch.stack(whole)  # (2, 2, D)
        self.chunks = self._near(torch.stack(alone), expected)
        if not plain_layers(cache.single(0)):
            return
        together, batched = self.new_cache(2), []
        try:
            with foreign("batched"):  # architectures that know no padding
                for slot, row in enumerate(rows):
                    self._alone(together, slot, row[:-2])
                for at in (-2, -1):
                    ids = [[row[at]] for row in rows]
                    batched.append(self._together(together, [0, 1], ids))
        except ValueError:
            return
        self.batches = self._near(torch.cat(batched, 1), expected)

    def _near(self, actual: Tensor, expected: Tensor) -> bool:
        tolerance = _TOLERANCE.get(self.model.dtype, _HALF_TOLERANCE)
        difference = (actual.float() - expected.float()).abs().max()
        return bool(difference <= tolerance * expected.float().abs().max())

    def _reset_stretched_rope(self) -> None:
        """Undo what longer sequences did to rotary angles that stretch with the longest one seen.

        The length of the sequence at hand alone decides again.
        """
        for module in self._ropes:
            for name in [name for name in vars(module) if name.endswith("max_seq_len_cached")]:
                if getattr(module, name) > module.original_max_seq_len:
                    kind = name.removesuffix("max_seq_len_cached")
                    original = getattr(module, f"{kind}original_inv_freq")
                    current = getattr(module, f"{kind}inv_freq")
                    setattr(module, f"{kind}inv_freq", original.to(current.device))
                    setattr(module, name, module.original_max_seq_len)

    def logits(self, hidden_states: Tensor, ranges: Ranges) -> Array:
        """See `Decoder.logits`."""
        with memory_errors():
            return self.model.logits(hidden_states, ranges).cpu().numpy()

    @torch.inference_mode()
    def begin_positions(self, hidden_states: Tensor) -> PositionCodes:
        """See `CodesDecoder.begin_positions`."""
        if (own := self.model.begin_positions(hidden_states)) is not None:
            return own
        if self.model.depth is None:
            return ParallelHeads(self, hidden_states)
        with memory_errors():
            rows = DepthRows(self.model.depth, len(hidden_states))
            return TorchPositions(rows, hidden_states)
