"""Samplers of small decoders whose positions hold several ids; fixtures that tests import."""

from __future__ import annotations

import numpy as np
import pytest

__all__ = ["small_together", "together_sampler"]


@pytest.fixture(scope="session")
def together_sampler():
    """A function: a sampler of two small layers with random weights over a grammar whose positions
    hold several ids, which a depth decoder writes, or parallel heads."""
    import torch

    from unified.engine.backends.cpu.config import LlamaCpuConfig, default_inv_freq
    from unified.engine.backends.cpu.decoder import LlamaCpuDecoder
    from unified.engine.backends.depth_config import DepthConfig
    from unified.engine.backends.depth_module import DepthDecoder
    from unified.engine.engine import Engine

    def make(grammar, output="depth", spread=0.4):
        size = grammar.vocabulary.size
        config = LlamaCpuConfig(
            hidden_size=16, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=6,
            intermediate_size=20, vocab_size=size, max_position_embeddings=300,
            norm_eps=1e-6, inv_freq=default_inv_freq(1e4, 6), qk_norm=True,
            tie_word_embeddings=False,
        )  # fmt: skip
        rng = np.random.default_rng(5)
        weights = {
            name: rng.normal(1.0 if "norm" in name else 0.0, spread, shape).astype(np.float32)
            for name, shape in config.shapes().items()
        }
        if output == "heads":
            engine = Engine(LlamaCpuDecoder(config, weights), grammar)
            engine.weights, engine.depth_module = weights, None
            return engine
        depth = DepthConfig(
            input_size=16, hidden_size=12, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=4,
            intermediate_size=20, num_ids=grammar.num_together, ranges=((0, size),),
            per_level=output == "per level",
        )  # fmt: skip
        own = {
            name: rng.normal(1.0 if "norm" in name else 0.0, spread, shape).astype(np.float32)
            for name, shape in depth.shapes().items()
        }
        decoder = LlamaCpuDecoder(config, weights, depth=(depth, own))
        engine = Engine(decoder, grammar)
        module = DepthDecoder(depth)
        module.load_state_dict({name: torch.from_numpy(w) for name, w in own.items()})
        engine.weights, engine.depth_module = weights, module  # to compare with
        return engine

    return make


@pytest.fixture(scope="session")
def small_together():
    """The pocket format with codes together, over few ids: 7 + 5 codes, and 5 + 6 + 4 of sound."""
    from unified.formats.grammar import Grammar
    from unified.formats.load import load_format
    from unified.vocabulary.vocabulary import Vocabulary

    vocabulary = Vocabulary.build(
        text_size=19, text_rows=24, markers=load_format("pocket-together").markers, max_grid=4,
        image=((7, 5), "image"), audio=((5, 6, 4), "audio"),
    )  # fmt: skip
    return Grammar.load("pocket-together", vocabulary)
