"""A model in llama.cpp as a side of a comparison: sequences read, then stepped together."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import numpy as np

__all__ = ["LlamaCpp"]

# It reports every tensor that it reads; what goes wrong shows in what its functions return.
_SILENT = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)


class LlamaCpp:
    """Greedy steps of `rows` sequences, logits of all ids, by llama.cpp's own batched decoding."""

    def __init__(self, path: Path, vocab_size: int, threads: int, rows: int, max_ids: int) -> None:
        """
        Args:
            path: of a GGUF file.
            vocab_size: ids.
            threads: for reading prompts and for steps.
            rows: sequences at once.
            max_ids: of each.
        """
        import llama_cpp

        self._api = llama_cpp
        self.vocab_size, self.rows = vocab_size, rows
        llama_cpp.llama_log_set(_SILENT, None)
        llama_cpp.llama_backend_init()
        self._model = llama_cpp.llama_model_load_from_file(
            str(path).encode(), llama_cpp.llama_model_default_params()
        )
        if not self._model:
            raise SystemExit(f"llama.cpp does not read {path}")
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = rows * -(-max_ids // 256) * 256
        options.n_batch = options.n_ubatch = 512
        options.n_seq_max = rows
        options.n_threads = options.n_threads_batch = threads
        options.kv_unified = False  # "improved performance when sequences share no large prefix"
        self._context = llama_cpp.llama_init_from_model(self._model, options)
        if not self._context:
            raise SystemExit("llama.cpp has no memory for this many sequences")
        self._batch = llama_cpp.llama_batch_init(512, 0, 1)
        self._lengths = [0] * rows

    def close(self) -> None:
        self._api.llama_batch_free(self._batch)
        self._api.llama_free(self._context)
        self._api.llama_model_free(self._model)

    def truncate(self, length: int) -> None:
        """Truncate every sequence to its first `length` ids."""
        memory = self._api.llama_get_memory(self._context)
        for row in range(self.rows):
            if length < self._lengths[row]:
                self._api.llama_memory_seq_rm(memory, row, length, -1)
                self._lengths[row] = length

    def read(self, ids: Sequence[int]) -> list[int]:
        """Append the same ids to every sequence; the likeliest next id of each."""
        last: list[int] = []
        for row in range(self.rows):
            for start in range(0, len(ids), 512):
                part = ids[start : start + 512]
                final = start + 512 >= len(ids)
                at = [(id, row, final and i == len(part) - 1) for i, id in enumerate(part)]
                self._decode(at)
            last.append(int(self._logits(1)[0].argmax()))
        return last

    def step(self, ids: Sequence[int]) -> list[int]:
        """Append an id to every sequence; the likeliest next id of each."""
        self._decode([(id, row, True) for row, id in enumerate(ids)])
        return [int(id) for id in self._logits(len(ids)).argmax(axis=1)]

    def _decode(self, entries: Sequence[tuple[int, int, bool]]) -> None:
        """entries: (id, sequence, whether its logits are wanted)."""
        batch = self._batch
        batch.n_tokens = len(entries)
        for i, (id, row, wanted) in enumerate(entries):
            batch.token[i], batch.pos[i] = id, self._lengths[row]
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, row
            batch.logits[i] = wanted
            self._lengths[row] += 1
        result = self._api.llama_decode(self._context, batch)
        if result:
            raise SystemExit(f"llama_decode returned {result}")

    def _logits(self, rows: int) -> np.ndarray:
        """float32 (rows, V) of the last pass."""
        pointer = self._api.llama_get_logits(self._context)
        return np.ctypeslib.as_array(pointer, shape=(rows, self.vocab_size))
