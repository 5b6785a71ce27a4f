"""The compiled depth decoder beside the one in torch, and beside itself in other company."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unified.engine.backends.cpu.cache import MemoryPool
from unified.engine.backends.cpu.compiled_positions import CompiledPositions
from unified.engine.backends.cpu.depth import CompiledDepth
from unified.engine.backends.depth_config import DepthConfig
from unified.engine.backends.depth_module import DepthDecoder

RANGES = ((3, 40), (60, 101))
SIZES = {
    "input_size": 24, "hidden_size": 40, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2,
    "head_dim": 10, "intermediate_size": 36, "num_ids": 5, "ranges": RANGES,
}  # fmt: skip
rng = np.random.default_rng(0)
HIDDEN = rng.normal(size=(7, 24)).astype(np.float32)
IDS = np.where(rng.random((7, 4)) < 0.5, rng.integers(3, 40, (7, 4)), rng.integers(60, 101, (7, 4)))


def both(per_level, bfloat16=False):
    torch.manual_seed(0)
    module = DepthDecoder(DepthConfig(**SIZES, per_level=per_level))
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    weights = {}
    for name, tensor in module.state_dict().items():
        half = tensor.bfloat16()
        weights[name] = half.view(torch.uint16).numpy() if bfloat16 else tensor.numpy()
        tensor.copy_(half.float() if bfloat16 else tensor)
    return module, CompiledDepth(module.config, weights, 24, False, MemoryPool())


def fill(compiled, rows, depth=4):
    """Logits (depth, rows, V') of positions level by level."""
    positions = CompiledPositions(compiled, HIDDEN[rows])
    every = range(len(rows))
    logits = []
    for level in range(depth):
        positions.append(every, IDS[rows, level].tolist())
        logits.append(positions.logits(every, RANGES))
    return np.stack(logits)


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("per_level", [False, True])
def test_logits_are_those_of_torch(per_level, bfloat16):
    module, compiled = both(per_level, bfloat16)
    with torch.inference_mode():
        states = module(torch.from_numpy(HIDDEN), torch.from_numpy(IDS))
        expected = module.logits(states[:, 1:], RANGES).transpose(0, 1).numpy()
    np.testing.assert_allclose(fill(compiled, list(range(7))), expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("per_level", [False, True])
def test_a_position_has_the_same_bits_in_any_company(per_level):
    _, compiled = both(per_level)
    together = fill(compiled, list(range(7)))
    for row in range(7):
        np.testing.assert_array_equal(fill(compiled, [row])[:, 0], together[:, row])
    # Told at once, or some of them later; asked for in another order, and of other ids.
    positions = CompiledPositions(compiled, HIDDEN)
    positions.append([5, 2], IDS[[5, 2], 0].tolist())
    np.testing.assert_array_equal(positions.logits([2], RANGES)[0], together[0, 2])
    for level in range(3):
        positions.append([0, 3], IDS[[0, 3], level].tolist())
    positions.append([2], [int(IDS[2, 1])])
    some = ((10, 20), (61, 62))
    columns = [*range(7, 17), 38]
    logits = positions.logits([3, 2, 5, 0], some)
    for row, at in zip(logits, [(2, 3), (1, 2), (0, 5), (2, 0)]):
        np.testing.assert_array_equal(row, together[at][columns])


def test_memory_that_held_what_is_no_number_serves_nobody():
    _, compiled = both(False)
    before = fill(compiled, [1, 2])
    broken = CompiledPositions(compiled, np.full((2, 24), np.nan, np.float32))
    broken.append([0, 1], [3, 4])
    assert np.isnan(broken.logits([0, 1], RANGES)).all()
    del broken
    np.testing.assert_array_equal(fill(compiled, [1, 2]), before)


def test_weights_that_do_not_fit_are_refused_by_name():
    module, _ = both(False)
    weights = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    with pytest.raises(ValueError, match="states of 24 numbers, the decoder gives 30"):
        CompiledDepth(module.config, weights, 30, False, MemoryPool())
    lacking = {name: w for name, w in weights.items() if name != "norm.weight"}
    lacking["layers.0.mlp.up_proj.weight"] = lacking["layers.0.mlp.up_proj.weight"][:30]
    message = r"norm.weight is missing; layers.0.mlp.up_proj.weight has shape \(30, 40\), expected"
    with pytest.raises(ValueError, match=message):
        CompiledDepth(module.config, lacking, 24, False, MemoryPool())
