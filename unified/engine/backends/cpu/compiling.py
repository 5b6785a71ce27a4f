"""Compiling the kernels before they are needed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from unified.engine.backends.cpu.config import LlamaCpuConfig
from unified.engine.backends.cpu.decoder import LlamaCpuDecoder
from unified.engine.backends.cpu.stored import StoredWeight, to_quantize

__all__ = ["compile_kernels"]


def compile_kernels() -> None:
    """Compile the kernels for this processor, once, where that has not been done.

    It takes some fifteen seconds, which the first sampling takes otherwise.
    """
    config = LlamaCpuConfig(
        hidden_size=2, num_layers=1, num_heads=1, num_kv_heads=1, head_dim=2, intermediate_size=2,
        vocab_size=2, max_position_embeddings=2, norm_eps=1e-6, inv_freq=(1.0,), qk_norm=False,
        tie_word_embeddings=True,
    )  # fmt: skip
    types = (
        (np.uint16, "auto"), (np.uint16, "float32"), (np.int16, "auto"), (np.float32, "auto"),
        (np.int8, "auto"),
    )  # fmt: skip
    for dtype, arithmetic in types:
        weights: Mapping[str, StoredWeight] = {
            name: np.zeros(shape, np.float32 if dtype == np.int8 else dtype)
            for name, shape in config.shapes().items()
        }
        weights = to_quantize(weights) if dtype == np.int8 else weights
        decoder = LlamaCpuDecoder(config, weights, arithmetic)
        decoder.logits(decoder.forward(decoder.new_cache(1, 1), [0], [[0]]), ((0, 1),))
