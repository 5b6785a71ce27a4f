"""Any causal LM whose cache is keys and values of each id: batched, on any device of torch.

The modules are transformers' own; attention and cache are ours (`paged_attention`), and RMS norms
are one kernel (`fused_norms`). The new ids of
all sequences, of any lengths, are one row; nothing is padded. On CUDA a step of few new ids each is
a recorded graph, and attention is torch's flash attention over pages where it gives what plain
attention does. Ids are chosen on the device.

A row's logits differ in a batch from those alone by rounding: matrix products of other sizes sum
in another order. Tests hold them within 1e-4 in float32, and greedy ids equal.

Shape legend: `N` sequences, `T` new ids of all of them, `D` width, `V'` ids asked for.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
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
from unified.engine.backends.both_ways import check_full_attention, without_spans
from unified.engine.backends.device_choice import DeviceChoice
from unified.engine.backends.parallel_heads import ParallelHeads
from unified.engine.backends.stepped_model import SteppedModel, memory_errors
from unified.engine.backends.torch_positions import (
    DepthRows,
    TorchPositions,
    Vectors,
    without_vectors,
)
from unified.engine.backends.torch_static import layouts
from unified.engine.backends.torch_static.coverage import layer_shapes
from unified.engine.backends.torch_static.decode_graphs import (
    DecodeGraphs,
    rows_bucket,
    width_bucket,
)
from unified.engine.backends.torch_static.depth_graphs import DepthGraphs
from unified.engine.backends.torch_static.device_sampling import sample_ids
from unified.engine.backends.torch_static.fused_norms import FusedNorms
from unified.engine.backends.torch_static.paged_attention import (
    FEW,
    LayerCaches,
    PagedModules,
    PassLayout,
)
from unified.engine.backends.torch_static.paged_cache import PagedCache, page_size
from unified.engine.backends.torch_static.trial import check_states, passes_trial
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

    backend: ClassVar[str] = "torch_static"
    batch_invariant: ClassVar[bool] = False
    bidirectional: ClassVar[bool] = True  # or it says why not, when a span comes

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
        self.input_width = self.model.input_width
        self._modules, self._norms = PagedModules(hf), FusedNorms(hf)
        self._num_ids = 1  # the most of a position so far
        self.flash = False
        self.graphs = False
        self._graphs: weakref.WeakKeyDictionary[PagedCache, DecodeGraphs]
        self._graphs = weakref.WeakKeyDictionary()
        with foreign(f"{type(hf).__name__} cannot run on the torch_static backend"):
            self._shapes = layer_shapes(self.model)
            check_states(self)
        if self.model.device.type == "cuda":
            self.flash = self.model.dtype in (torch.float16, torch.bfloat16)
            self.flash = self.flash and passes_trial(self)
            # Recorded steps are tried as they will run, since what recording misses is silent.
            self.graphs = graphs
            self.graphs = self.graphs and passes_trial(self)
        self._addresses = self._weights()
        self._depth_graphs = None
        if self.graphs and self.model.depth is not None:
            self._depth_graphs = DepthGraphs(self.model.depth)

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
        self, cache: PagedCache, slots: Sequence[int], input_ids: Sequence[Sequence[Position]]
    ) -> Tensor:
        """See `Decoder.forward`; hidden states (T, D) on the device, in the model's type."""
        plain, ahead = without_spans(input_ids)
        if spans := any(ahead):
            check_full_attention(self.hf.config.get_text_config(), type(self.hf).__name__)
        several = [len(p) for ids in plain for p in ids if isinstance(p, tuple)]
        vectors = any(isinstance(p, ContinuousPosition) for ids in plain for p in ids)
        if several or vectors:
            self.model.check_sums()
        if several:
            self._num_ids = max(self._num_ids, *several)
        limit = _PASS_IDS.get(self.model.device.type, _PASS_IDS_ELSEWHERE)
        states = []
        with memory_errors():
            for pieces in layouts.pieces_of(cache, slots, input_ids, limit):
                few = not vectors and not spans and all(len(ids) <= FEW for _, ids, _ in pieces)
                if self.graphs and few:
                    states.append(self._decode(cache, pieces))
                else:
                    states.append(self._prefill(cache, pieces))
                for slot, ids, past in pieces:
                    cache.lengths[slot] = past + len(ids)
            return states[0] if len(states) == 1 else torch.cat(states)

    def _prefill(self, cache: PagedCache, pieces: Sequence[layouts.Piece]) -> Tensor:
        plain, ahead = without_spans([part for _, part, _ in pieces])
        (row,), vectors = without_vectors([[p for part in plain for p in part]])
        inputs = layouts.prefill_layout(cache, pieces, row, self.model.device, self.flash, ahead)
        return self._run(cache, *inputs, vectors)

    def _decode(self, cache: PagedCache, pieces: Sequence[layouts.Piece]) -> Tensor:
        """A few new ids each, by a recorded graph where there is one for so many."""
        count = sum(len(ids) for _, ids, _ in pieces)
        rows = rows_bucket(count)
        if rows is None:
            return self._prefill(cache, pieces)
        if self.flash:  # which reads no more pages than a row has ids
            pages = cache.most_pages
        else:
            pages = cache.pages_of(max(past + len(ids) for _, ids, past in pieces))
        width = width_bucket(pages)
        # Passes of single ids are recorded apart: they need no sums.
        several = any(isinstance(id, tuple) for _, ids, _ in pieces for id in ids)
        num_ids = self._num_ids if several else 1
        packed = torch.from_numpy(layouts.packed_decode(cache, pieces, rows, width, num_ids))
        graphs = self._graphs.get(cache)
        if graphs is None:
            # Of the cache only a weak reference, or it would keep itself alive.
            reference = weakref.ref(cache)
            graphs = self._graphs[cache] = DecodeGraphs(
                lambda packed, num_ids: self._step(reference(), packed, num_ids),
                self.model.device,
            )
        # A copy, since the next step overwrites the graph's own.
        return graphs.run(packed.pin_memory(), cache.generation, num_ids)[:count].clone()

    def _step(self, cache: PagedCache | None, packed: Tensor, num_ids: int = 1) -> Tensor:
        assert cache is not None
        layout = layouts.decode_layout(packed, cache.page_size, self.flash, num_ids)
        return self._run(cache, *layout)

    def _run(
        self,
        cache: PagedCache,
        ids: Tensor,
        positions: Tensor,
        layout: PassLayout,
        vectors: Vectors | None = None,
    ) -> Tensor:
        """Hidden states (T, D) of ids int64 (1, T) or (1, T, K) at positions int64 (1, T)."""
        model, caches = self.model, LayerCaches(cache, layout)
        with model.lock, self._norms.used(), self._modules.over(caches):
            outputs = model.module(
                **model.inputs_with(ids, vectors),
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
    def begin_positions(self, hidden_states: Tensor) -> PositionCodes:
        """See `CodesDecoder.begin_positions`."""
        if (own := self.model.begin_positions(hidden_states)) is not None:
            return own
        if self.model.depth is None:
            return _StaticHeads(self, hidden_states)
        with memory_errors():
            if self._depth_graphs is None:
                rows = DepthRows(self.model.depth, len(hidden_states))
                return _StaticPositions(rows, hidden_states)
            rows = self._depth_graphs.take(len(hidden_states))
            positions = _StaticPositions(rows, hidden_states)
            self._depth_graphs.give_back(rows, positions)
            return positions

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


class _StaticPositions(TorchPositions):
    """Positions whose ids are chosen on the device, too."""

    @torch.inference_mode()
    def sample(self, choices: Sequence[DeviceChoice]) -> list[int]:
        """See `TorchStaticDecoder.sample`; rows are positions."""
        states = self.states()

        def logits_of(rows: Tensor, ranges: Ranges) -> Tensor:
            return self.depth.logits(states[rows], ranges)

        with memory_errors():
            return sample_ids(choices, logits_of, states.device)


class _StaticHeads(ParallelHeads):
    """The same of parallel heads."""

    def sample(self, choices: Sequence[DeviceChoice]) -> list[int]:
        """See `TorchStaticDecoder.sample`; rows are positions."""
        decoder: Any = self.decoder
        ids: list[int] = decoder.sample(self.hidden_states, choices)
        return ids


def _address(parameter: Tensor) -> int:
    """Where a parameter lies; which it is, of quantized ones that have no storage of their own."""
    try:
        return parameter.data_ptr()
    except RuntimeError:
        return id(parameter)
