"""Any causal LM of transformers as a backend: slower than compiled loops, but general.

Shape legend: `N` sequences of a pass, `T` new ids of all of them, `c` of each, `L` longest cache.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from unified.engine.backends.base import (
    Array,
    ContinuousPosition,
    OwnPosition,
    Position,
    PositionCodes,
    Ranges,
)
from unified.engine.backends.both_ways import (
    check_full_attention,
    seen_mask,
    seen_until,
    without_spans,
)
from unified.engine.backends.padded_batch import plain_layers
from unified.engine.backends.parallel_heads import ParallelHeads
from unified.engine.backends.pass_media import latest_of, pass_media, read_media
from unified.engine.backends.stepped_model import (
    SteppedModel,
    memory_errors,
    stretching_ropes,
)
from unified.engine.backends.torch_positions import (
    DepthRows,
    TorchPositions,
    position_array,
    without_vectors,
)
from unified.engine.backends.transformers_cache import TransformersCache
from unified_base.foreign import foreign

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["TransformersDecoder"]

# Largest difference of hidden states, over their largest, between ways to compute them: sums come
# out in another order, and no more. A mask or a position that is not heeded differs by tens of
# percent.
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4}
_HALF_TOLERANCE = 0.05


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
    bidirectional: ClassVar[bool] = True  # or it says why not, when a span comes

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
        self.batches, self.chunks, self._heeds_masks = False, True, False
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
        rows, ahead = without_spans(input_ids)
        if any(ahead):
            self._check_spans()
        if self._looks_back:
            rows = [self._see(cache, *row) for row in zip(slots, rows)]
        for index, (slot, ids) in enumerate(zip(slots, rows)):
            length = cache.lengths[slot] if self._ropes else 0
            together = self.batches and not ahead[index]
            groups.setdefault((len(ids), length) if together else index, []).append(index)
        states: list[Tensor] = [torch.empty(0)] * len(slots)
        if any(isinstance(p, tuple | ContinuousPosition) for ids in rows for p in ids):
            self.model.check_sums()
        with memory_errors():
            for indices in groups.values():
                group_slots = [slots[index] for index in indices]
                new_ids = [list(rows[index]) for index in indices]
                try:
                    if len(indices) == 1:
                        seen = ahead[indices[0]]
                        results = [self._alone(cache, group_slots[0], new_ids[0], seen)]
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
        self, cache: TransformersCache, slot: int, ids: Sequence[OwnPosition]
    ) -> list[OwnPosition]:
        """Keep what media a sequence sees; its new positions without those that are attended to."""
        length = cache.lengths[slot]
        plain, media = read_media(ids, length, self.model.device)
        # Some may be left of a pass that failed before it came to this row.
        cache.media[slot] = [*(m for m in cache.media[slot] if m.at < length), *media]
        return plain

    def _seen(self, cache: TransformersCache, slots: Sequence[int], count: int) -> dict[str, Any]:
        """Fields of `PassMedia` for so many new positions of some sequences."""
        if not self._looks_back:
            return {}
        rows, starts = [cache.media[slot] for slot in slots], [cache.lengths[s] for s in slots]
        media, latest = latest_of(rows, starts, count, self.model.device)
        return {"media": media, "latest": latest}

    def _alone(
        self,
        cache: TransformersCache,
        slot: int,
        ids: Sequence[OwnPosition],
        ahead: Sequence[int] | None = None,
    ) -> Tensor:
        """One sequence: its cache grows by these ids. Hidden states (c, D).

        ahead: how many positions behind it each of them sees; None: none.
        """
        if cache.lengths[slot] and len(ids) > 1 and not self.chunks:
            return torch.cat([self._alone(cache, slot, [id]) for id in ids])
        seen, masked = self._seen(cache, [slot], len(ids)), {}
        if ahead is not None:
            until = torch.from_numpy(seen_until(ahead, cache.lengths[slot])).to(self.model.device)
            length = cache.lengths[slot] + len(ids)
            masked["attention_mask"] = seen_mask(until, length, self.model.dtype)[None, None]
        outputs = self._run(ids=[ids], cache=cache.single(slot), seen=seen, **masked)
        cache.put(slot, outputs[self.model.cache_name])
        cache.lengths[slot] += len(ids)
        return self.model.states(outputs)[0]

    def _together(
        self, cache: TransformersCache, slots: list[int], input_ids: Sequence[Sequence[OwnPosition]]
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
        ids: Sequence[Sequence[OwnPosition]],
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
    def _check_spans(self) -> None:
        """Raises ValueError where the model does not attend as a mask of ours says. Tried once."""
        if self._heeds_masks:
            return
        name = type(self.hf).__name__
        check_full_attention(self.hf.config.get_text_config(), name)
        row, states = self.model.trial_rows()[0], []
        with foreign(f"{name} takes no mask of its own for every position"):
            for ahead in (0, len(row)):
                until = torch.arange(1, len(row) + 1, device=self.model.device) + ahead
                mask = seen_mask(until, len(row), self.model.dtype)[None, None]
                outputs = self._run(ids=[row], cache=None, attention_mask=mask)
                states.append(self.model.states(outputs)[0])
        plain = self.model.states(self._run(ids=[row], cache=None))[0]
        if not self._near(states[0], plain) or self._near(states[1][0], plain[0]):
            raise ValueError(
                f"{name} does not attend as a mask says: spans cannot be seen both ways; take"
                " another model, or a format without `bidirectional`"
            )
        self._heeds_masks = True

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
