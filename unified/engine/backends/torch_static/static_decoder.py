"""Any causal LM whose cache is keys and values of each id: batched, on any device of torch.

The modules are transformers' own; attention and cache are ours (`paged_attention`), and RMS norms
are one kernel (`fused_norms`). The new ids of
all sequences, of any lengths, are one row; nothing is padded. On CUDA a step of one new id each is
a recorded graph, and attention is torch's flash attention over pages where it gives what plain
attention does. Ids are chosen on the device.

A row's logits differ in a batch from those alone by rounding: matrix products of other sizes sum
in another order. Tests hold them within 1e-4 in float32, and greedy ids equal.

Shape legend: `N` sequences, `T` new ids of all of them, `D` width, `V'` ids asked for.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unified.engine.backends.base import Array, Ranges
from unified.engine.backends.device_choice import DeviceChoice
from unified.engine.backends.stepped_model import SteppedModel, memory_errors
from unified.engine.backends.torch_static import layouts
from unified.engine.backends.torch_static.coverage import (
    layer_shapes,
    relative_error,
    tolerance,
    trial_rows,
)
from unified.engine.backends.torch_static.decode_graphs import (
    DecodeGraphs,
    rows_bucket,
    width_bucket,
)
from unified.engine.backends.torch_static.device_sampling import sample_ids
from unified.engine.backends.torch_static.fused_norms import FusedNorms
from unified.engine.backends.torch_static.paged_attention import (
    LayerCaches,
    PagedModules,
    PassLayout,
)
from unified.engine.backends.torch_static.paged_cache import PagedCache, page_size
from unified_base.foreign import foreign

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["TorchStaticDecoder"]

# New ids of a pass: workspaces and masks stay small, and matrix products are at full speed.
_PASS_IDS = {"cuda": 2048}
_PASS_IDS_ELSEWHERE = 512


class TorchStaticDecoder:
    """Steps a causal LM of transformers over a paged cache; see the module.

    Any number of threads may use one decoder, each with caches of its own; one at a time runs the
    model.

    hf: the model. model: how it is stepped. vocab_size, max_positions: see `Decoder`. flash:
    whether attention is torch's flash attention over pages. graphs: whether steps are recorded.
    """

    backend = "torch_static"

    def __init__(
        self, hf: PreTrainedModel, model: SteppedModel | None = None, graphs: bool = True
    ) -> None:
        """
        Args:
            hf: the model; it is put in evaluation mode.
            model: how it is stepped; None: as a plain `SteppedModel`.
            graphs: whether CUDA graphs are recorded, on CUDA.

        Raises:
            ValueError: the model cannot be stepped so; the message ends with the reason.
        """
        self.hf = hf
        self.model = model or SteppedModel(hf)
        self.vocab_size = self.model.vocab_size
        self.max_positions = self.model.max_positions
        self._modules, self._norms = PagedModules(hf), FusedNorms(hf)
        self.flash = False
        self.graphs = False
        self._graphs: weakref.WeakKeyDictionary[PagedCache, DecodeGraphs]
        self._graphs = weakref.WeakKeyDictionary()
        with foreign(f"{type(hf).__name__} cannot run on the torch_static backend"):
            self._shapes = layer_shapes(self.model)
            self._check()
        self.graphs = graphs and self.model.device.type == "cuda"
        self._addresses = self._weights()

    def follows_weights(self) -> bool:
        """Whether it computes with the weights that the model has now, which it shares.

        Recorded steps read them where they lay: False once any has moved.
        """
        return self.model.has_rows() and self._addresses == self._weights()

    def _weights(self) -> list[int]:
        return [_address(parameter) for parameter in self.hf.parameters()]

    # Caches.

    def available_bytes(self) -> int:
        """See `Decoder.available_bytes`."""
        return self.model.available_bytes()

    def cache_bytes(self, max_ids: int) -> int:
        """See `Decoder.cache_bytes`; whole pages."""
        size = page_size(self.model.device)
        ids = -(-max_ids // size) * size
        return sum(shape.bytes(ids) for shape in self._shapes)

    def new_cache(self, num_slots: int = 0, max_ids: int = 0) -> PagedCache:
        """See `Decoder.new_cache`."""
        model = self.model
        with memory_errors():
            cache = PagedCache(self._shapes, model.device, self.max_positions)
        for _ in range(num_slots):
            cache.allocate(max_ids)
        return cache

    # Passes.

    @torch.inference_mode()
    def forward(
        self, cache: PagedCache, slots: Sequence[int], input_ids: Sequence[Sequence[int]]
    ) -> Tensor:
        """See `Decoder.forward`; hidden states (T, D) on the device, in the model's type."""
        limit = _PASS_IDS.get(self.model.device.type, _PASS_IDS_ELSEWHERE)
        states = []
        with memory_errors():
            for pieces in layouts.pieces_of(cache, slots, input_ids, limit):
                if self.graphs and all(len(ids) == 1 for _, ids, _ in pieces):
                    states.append(self._decode(cache, pieces))
                else:
                    states.append(self._prefill(cache, pieces))
                for slot, ids, past in pieces:
                    cache.lengths[slot] = past + len(ids)
            return states[0] if len(states) == 1 else torch.cat(states)

    def _prefill(self, cache: PagedCache, pieces: Sequence[layouts.Piece]) -> Tensor:
        inputs = layouts.prefill_layout(cache, pieces, self.model.device, self.flash)
        return self._run(cache, *inputs)

    def _decode(self, cache: PagedCache, pieces: Sequence[layouts.Piece]) -> Tensor:
        """One new id each, by a recorded graph where there is one for so many."""
        rows = rows_bucket(len(pieces))
        if rows is None:
            return self._prefill(cache, pieces)
        if self.flash:  # which reads no more pages than a row has ids
            pages = cache.most_pages
        else:
            pages = cache.pages_of(max(past for _, _, past in pieces) + 1)
        width = width_bucket(pages)
        packed = torch.from_numpy(layouts.packed_decode(cache, pieces, rows, width)).pin_memory()
        graphs = self._graphs.get(cache)
        if graphs is None:
            # Of the cache only a weak reference, or it would keep itself alive.
            reference = weakref.ref(cache)
            graphs = self._graphs[cache] = DecodeGraphs(
                lambda packed: self._step(reference(), packed), self.model.device
            )
        # A copy, since the next step overwrites the graph's own.
        return graphs.run(packed, cache.generation)[: len(pieces)].clone()

    def _step(self, cache: PagedCache | None, packed: Tensor) -> Tensor:
        assert cache is not None
        return self._run(cache, *layouts.decode_layout(packed, cache.page_size, self.flash))

    def _run(self, cache: PagedCache, ids: Tensor, positions: Tensor, layout: PassLayout) -> Tensor:
        """Hidden states (T, D) of ids int64 (1, T) at positions int64 (1, T)."""
        model, caches = self.model, LayerCaches(cache, layout)
        with model.lock, self._norms.used(), self._modules.over(caches):
            outputs = model.module(
                **model.inputs(ids),
                position_ids=positions,
                use_cache=True,
                **{model.cache_name: caches},
            )
        return model.states(outputs)[0]

    def logits(self, hidden_states: Tensor, ranges: Ranges) -> Array:
        """See `Decoder.logits`."""
        with memory_errors():
            return self.model.logits(hidden_states, ranges).cpu().numpy()

    @torch.inference_mode()
    def sample(self, hidden_states: Tensor, choices: Sequence[DeviceChoice]) -> list[int]:
        """Choose an id for each of some requests, on the device.

        hidden_states: (T, D) of the last `forward`. Ids come of other noise than
        `unified.engine.sampler` has, by the same distribution.

        Raises ValueError where logits are not numbers: the decoder's weights are damaged.
        """

        def logits_of(rows: Tensor, ranges: Ranges) -> Tensor:
            return self.model.logits(hidden_states[rows], ranges)

        with memory_errors():
            return sample_ids(choices, logits_of, self.model.device)

    # Whether it gives what the model gives.

    @torch.inference_mode()
    def _check(self) -> None:
        """Raises ValueError where a prompt, a batch and a step give other states than the model's
        own forward; turns flash attention on where that gives them, too."""
        rows = trial_rows(self.vocab_size)
        expected = []
        for row in rows:
            ids = torch.tensor([row], device=self.model.device)
            with self.model.lock:
                outputs = self.model.module(**self.model.inputs(ids), use_cache=False)
            expected.append(self.model.states(outputs)[0])
        error = relative_error(self._trial(rows), torch.cat(expected))
        if not error <= tolerance(self.model.dtype):
            raise ValueError(f"over pages its states differ from its own by {error:.2g} of them")
        if self.model.device.type == "cuda" and self.model.dtype in (torch.float16, torch.bfloat16):
            self.flash = True
            try:
                with foreign("flash attention"):
                    error = relative_error(self._trial(rows), torch.cat(expected))
            except ValueError:
                error = float("inf")
            self.flash = error <= tolerance(self.model.dtype)

    def _trial(self, rows: list[list[int]]) -> Tensor:
        """The states of rows, by a prompt of each, a pass of several new ids, and single steps."""
        cache = self.new_cache(len(rows), max(map(len, rows)))
        slots, states = range(len(rows)), [list[Tensor]() for _ in rows]
        for start, stop in ((0, 2), (2, 4)):
            part = self.forward(cache, slots, [row[start:stop] for row in rows])
            for own, new in zip(states, part.chunk(len(rows))):
                own.append(new)
        for at in range(4, max(map(len, rows))):
            active = [slot for slot in slots if at < len(rows[slot])]
            step = self.forward(cache, active, [[rows[slot][at]] for slot in active])
            for slot, state in zip(active, step):
                states[slot].append(state[None])
        return torch.cat([part for own in states for part in own])


def _address(parameter: Tensor) -> int:
    """Where a parameter lies; which it is, of quantized ones that have no storage of their own."""
    try:
        return parameter.data_ptr()
    except RuntimeError:
        return id(parameter)
