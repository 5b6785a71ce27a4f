"""A causal LM of transformers as backends step it: its inputs, its last hidden states, its head.

Shape legend: `B` rows of a pass, `T` new ids, `D` width of the hidden states, `V'` ids asked for.
"""

from __future__ import annotations

import inspect
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unified.engine.backends.base import OwnPosition, PositionCodes, Ranges
from unified.engine.backends.depth_module import depth_decoder_of
from unified.engine.backends.torch_positions import NO_ID, Vectors, summed_embeddings
from unified.engine.memory import available_bytes
from unified_base.foreign import foreign

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["SteppedModel", "check_positions", "memory_errors", "stretching_ropes", "trial_rows"]

_locks: weakref.WeakKeyDictionary[Any, threading.Lock] = weakref.WeakKeyDictionary()
_locks_lock = threading.Lock()

# What allocators of torch say that raise a plain RuntimeError.
_OUT_OF_MEMORY = "out of memory", "can't allocate memory", "not enough memory"


def _lock_of(hf: PreTrainedModel) -> threading.Lock:
    """The lock of a model, whichever decoders there are of it."""
    with _locks_lock:
        return _locks.setdefault(hf, threading.Lock())


@contextmanager
def memory_errors() -> Iterator[None]:
    """What torch raises for want of memory, on any device, becomes a MemoryError of one line."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        text = str(error)
        plain = any(words in text.lower() for words in _OUT_OF_MEMORY)
        if not plain and not isinstance(error, torch.OutOfMemoryError):
            raise
        line = " ".join(text.split())
        raise MemoryError(line if len(line) <= 200 else line[:200] + "...") from None


def trial_rows(vocab_size: int) -> list[list[int]]:
    """Two sequences to try a model with, of different lengths, with ids from everywhere."""
    ids = [(17 * number + 3) * max(1, vocab_size // 131) % vocab_size for number in range(14)]
    return [ids[:9], ids[9:]]


def stretching_ropes(hf: PreTrainedModel) -> list[Any]:
    """The modules of a model whose rotary angles depend on the longest sequence of a pass."""
    stretching = []
    for module in hf.modules():
        kinds = getattr(module, "rope_type", None)
        kinds = kinds.values() if isinstance(kinds, dict) else [kinds]
        if any("dynamic" in str(kind) or kind == "longrope" for kind in kinds):
            stretching.append(module)
    return stretching


def check_positions(max_ids: int, max_positions: int) -> None:
    """Raises ValueError for a slot of more ids than a decoder has positions."""
    if max_ids > max_positions:
        raise ValueError(
            f"{max_ids} ids asked for, but the decoder has {max_positions} positions; lower max_ids"
        )


class SteppedModel:
    """The modules of a causal LM, and how ids become logits.

    Where the logits are the last hidden states times the head, or that scaled (Granite, Cohere) or
    capped (Gemma 2), only the rows of the head that are asked for are computed; ids that the model
    itself rules out (Chameleon's codes of pictures) have logits then. Otherwise the "hidden states"
    are the logits of all ids, and `logits` selects among them.

    hf: the model, put in evaluation mode. vocab_size, max_positions: see `Decoder`.
    depth: its depth decoder, None where it has none.
    num_embeddings: rows of its table. lock: held while the modules run, which keep state between
    calls. Any number of decoders share it.
    """

    def __init__(self, hf: PreTrainedModel) -> None:
        self.hf = hf
        self.num_embeddings = self._embedding_rows()
        self.vocab_size = self.num_embeddings  # JanusModel has more ids than embeddings
        # Some architectures have no table of positions and no bound of their own.
        config = hf.config.get_text_config()
        self.max_positions = int(getattr(config, "max_position_embeddings", None) or sys.maxsize)
        self.lock = _lock_of(hf)
        self._after_head: Callable[[Tensor], Tensor] = _unchanged
        with self.lock:
            hf.eval()
            self.head = self._find_head(config)
        self.depth = depth_decoder_of(hf)
        if self.depth is not None and self.head is None:
            raise ValueError(
                f"the logits of {type(hf).__name__} are not its last hidden states times its head:"
                " a depth decoder has nothing to read"
            )
        self._takes_sums = False
        # `past_key_values` until transformers 5.40, `cache` from some version before it on.
        parameters = inspect.signature(type(self.module).forward).parameters
        self.cache_name = "cache" if "cache" in parameters else "past_key_values"

    def _embedding_rows(self) -> int:
        embeddings: Any = self.hf.get_input_embeddings()
        return int(embeddings.weight.shape[0])

    @property
    def module(self) -> Any:
        """The module to step: without its head where only some rows of the head are computed."""
        return self.hf if self.head is None else self.hf.base_model

    @property
    def device(self) -> torch.device:
        return self.hf.device

    @property
    def dtype(self) -> torch.dtype:
        return self.hf.dtype

    def available_bytes(self) -> int:
        """Bytes that are left on the model's device, those included that torch keeps for itself."""
        device = self.device
        if device.type == "cuda":
            unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            return int(torch.cuda.mem_get_info(device)[0]) + unused
        if device.type == "mps":
            most = torch.mps.recommended_max_memory()
            return max(0, int(most - torch.mps.current_allocated_memory()))
        return available_bytes()

    def inputs(self, ids: Tensor) -> dict[str, Tensor]:
        """The arguments of the module's forward for ids int64 (B, T), or for positions of several,
        int64 (B, T, K): see `position_array`."""
        if ids.dim() == 2:
            return {"input_ids": ids}
        return {"inputs_embeds": summed_embeddings(self.hf.get_input_embeddings(), ids)}

    def inputs_with(self, ids: Tensor, vectors: Vectors | None) -> dict[str, Tensor]:
        """`inputs` with vectors at continuous positions, whose ids are any; None: without."""
        inputs = self.inputs(ids)
        if (media := vars(self.hf).get("unified_pass_media")) is not None:
            media.mark(None if vectors is None else vectors.at, ids)
        if vectors is None:
            return inputs
        embedded = inputs.get("inputs_embeds")
        if embedded is None:
            embedded = self.hf.get_input_embeddings()(ids)
        return {"inputs_embeds": vectors.put_into(embedded)}

    @property
    def input_width(self) -> int | None:
        """See `Decoder`; None of a model with tables of its own, which reads no vectors."""
        try:
            embeddings: Any = self.hf.get_input_embeddings()
        except NotImplementedError:
            return None
        weight = getattr(embeddings, "weight", None)  # CSM's table of all levels has another name
        return None if weight is None else int(weight.shape[1])

    @torch.inference_mode()
    def check_sums(self) -> None:
        """Raises ValueError where a model does not compute from embeddings what it does from ids:
        its positions cannot hold several. Tried once."""
        if self._takes_sums:
            return
        ids = torch.tensor([trial_rows(self.vocab_size)[1]], device=self.device)
        several = torch.stack([ids, torch.full_like(ids, NO_ID)], dim=-1)  # (1, T, 2)
        words = f"{type(self.hf).__name__} takes no sums of embeddings"
        with self.lock, foreign(words):
            own, summed = (
                self.states(self.module(**self.inputs(inputs), use_cache=False)).float()
                for inputs in (ids, several)
            )
        error = (own - summed).abs().max() / own.abs().max()
        if not error <= 1e-2:
            raise ValueError(f"{words}: with them its states differ by {float(error):.2g} of them")
        self._takes_sums = True

    def begin_positions(self, hidden_states: Tensor) -> PositionCodes | None:
        """The positions behind hidden states (N, D), where a depth decoder of the model's own kind
        fills them; None: `depth` does, or the model's head."""
        return None

    def states(self, outputs: Any) -> Tensor:
        """The hidden states (B, T, D) in what the module returned, or logits (B, T, V)."""
        states: Tensor = outputs.logits if self.head is None else outputs.last_hidden_state
        return states

    def trial_rows(self) -> list[list[OwnPosition]]:
        """Two sequences to try it with: see `trial_rows`."""
        return [list(row) for row in trial_rows(self.vocab_size)]

    def has_rows(self) -> bool:
        """Whether the model still has the rows, and the depth decoder, that it had."""
        same = self._embedding_rows() == self.num_embeddings
        return same and depth_decoder_of(self.hf) is self.depth

    @torch.inference_mode()
    def _find_head(self, config: Any) -> Any:
        """The head if logits are hidden states times it, or that scaled or capped; else None."""
        head, base = self.hf.get_output_embeddings(), self.hf.base_model
        if not isinstance(head, torch.nn.Linear) or base is self.hf:
            return None
        ids = torch.tensor([[0, min(1, self.vocab_size - 1)]], device=self.hf.device)
        actual = self.hf(input_ids=ids, use_cache=False).logits.float()
        product = head(base(input_ids=ids, use_cache=False).last_hidden_state)
        # Ids that the model rules out have the least number there is.
        allowed = actual > torch.finfo(self.hf.dtype).min / 2
        for after in (_unchanged, _after_head(config)):
            near = torch.isclose(actual, after(product).float(), rtol=1e-3, atol=1e-3) | ~allowed
            if bool(near.all()) and bool(allowed.any()):
                self._after_head = after
                return head
        return None

    @torch.inference_mode()
    def logits(self, states: Tensor, ranges: Ranges) -> Tensor:
        """Logits float32 (T, V') on the states' device, in the order of the ranges.

        states: (T, D) of `states`. Raises ValueError for ids that the head has no row of.
        """
        if self.head is None:
            return torch.cat([states[:, start:stop] for start, stop in ranges], -1).float()
        weight, bias = self.head.weight, self.head.bias
        # Some heads have fewer rows than the embedding: such ids are read and never written.
        if ranges[-1][1] > len(weight):
            raise ValueError(
                f"the model's head has {len(weight)} rows: it can read id {ranges[-1][1] - 1} and"
                " not write it; `UnifiedModel.extend` gives the head more rows"
            )
        parts = []
        for start, stop in ranges:
            bias_rows = None if bias is None else bias[start:stop]
            product = torch.nn.functional.linear(states, weight[start:stop], bias_rows)
            parts.append(self._after_head(product).float())
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


def _unchanged(product: Tensor) -> Tensor:
    return product


def _after_head(config: Any) -> Callable[[Tensor], Tensor]:
    """What a config says of the head's product: divided (Granite), multiplied (Cohere), capped
    (Gemma 2)."""
    divisor = getattr(config, "logits_scaling", None)
    factor = getattr(config, "logit_scale", None)
    cap = getattr(config, "final_logit_softcapping", None)

    def after(product: Tensor) -> Tensor:
        if divisor is not None:
            product = product / divisor
        if factor is not None:
            product = product * factor
        return product if cap is None else torch.tanh(product / cap) * cap

    return after
