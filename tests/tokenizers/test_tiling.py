"""Best resolutions, tiles and resizing: equal to transformers' own, over many sizes."""

import contextlib
import importlib

import numpy as np
import pytest
import torch

from unified_tokenizers.tiling import (
    anyres_resolution,
    best_tile_grid,
    interpolated_positions,
    smart_resize,
    tile_boxes,
    tile_grids,
    unpadded_size,
)

_RNG = np.random.default_rng(0)
SIZES = [
    *((h, w) for h in (1, 28, 336, 447, 448, 449, 1000) for w in (1, 27, 336, 448, 896, 1344)),
    *((int(h), int(w)) for h, w in _RNG.integers(1, 3000, (300, 2))),
]


def _processing(model: str):
    """transformers' module of a model's image processor that needs no torchvision."""
    for name in (f"image_processing_pil_{model}", f"image_processing_{model}"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(f"transformers.models.{model}.{name}")
    pytest.skip(f"this transformers has no image processor of {model} without torchvision")


def test_anyres_equals_llava_next():
    from transformers.image_processing_utils import select_best_resolution

    published = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
    onevision = [[384 * r, 384 * c] for r in range(1, 7) for c in range(1, 7)]
    for pinpoints in (published, onevision):
        for size in SIZES:
            assert anyres_resolution(size, pinpoints) == tuple(
                select_best_resolution(size, pinpoints)
            ), size
    with pytest.raises(ValueError, match="no resolutions"):
        anyres_resolution((3, 4), [])


def test_unpadded_features_equal_llava_next():
    from transformers.models.llava_next.modeling_llava_next import unpad_image

    for size in SIZES[::7]:
        for grid in ((24, 48), (48, 24), (48, 48)):
            wanted = unpad_image(torch.zeros(1, *grid), size).shape[1:]
            if 0 not in wanted:
                assert unpadded_size(size, grid) == tuple(wanted), (size, grid)


def test_tiles_equal_internvl_and_got_ocr():
    module = _processing("got_ocr2")
    get_all_supported_aspect_ratios = module.get_all_supported_aspect_ratios
    get_optimal_tiled_canvas = module.get_optimal_tiled_canvas
    for least, most in ((1, 12), (1, 6), (2, 9), (4, 4)):
        assert set(tile_grids(least, most)) == {
            (rows, columns) for columns, rows in get_all_supported_aspect_ratios(least, most)
        }
        for size in SIZES:
            columns, rows = get_optimal_tiled_canvas(size, (448, 448), least, most)
            assert best_tile_grid(size, (448, 448), least, most) == (rows, columns), size


def test_resizing_equals_qwen2_vl():
    published = _processing("qwen2_vl").smart_resize

    for size in SIZES:
        for bounds in ((3136, 1003520), (56 * 56, 28 * 28 * 1280), (100_000, 200_000)):
            if max(size) / min(size) > 200:
                with pytest.raises(ValueError, match="times as long as wide"):
                    smart_resize(size, 28, *bounds)
                continue
            wanted = published(*size, factor=28, min_pixels=bounds[0], max_pixels=bounds[1])
            assert smart_resize(size, 28, *bounds) == tuple(wanted), size


def test_positions_equal_a_vit_of_transformers():
    from transformers import CLIPVisionConfig
    from transformers.models.clip.modeling_clip import CLIPVisionEmbeddings

    config = CLIPVisionConfig(hidden_size=6, image_size=20, patch_size=4, num_attention_heads=2)
    torch.manual_seed(0)
    embeddings = CLIPVisionEmbeddings(config)
    table = embeddings.position_embedding.weight.detach()
    wanted = embeddings.interpolate_pos_encoding(torch.zeros(1, 8, 6), 28, 12)[0, 1:]
    mine = interpolated_positions(table[1:].numpy(), (7, 3))
    assert np.array_equal(mine, wanted.detach().numpy())
    assert interpolated_positions(table[1:].numpy(), (5, 5)).shape == (25, 6)
    with pytest.raises(ValueError, match="24 position embeddings, expected those of a square"):
        interpolated_positions(table[2:].numpy(), (7, 3))


def test_what_no_picture_is_is_refused():
    assert tile_boxes((1, 2), (3, 5)) == [(0, 0, 3, 5), (0, 5, 3, 10)]
    for call in (
        lambda: anyres_resolution((0, 4), [(3, 4)]),
        lambda: best_tile_grid((4, 1 << 21), (3, 4)),
        lambda: smart_resize((0, 0)),
        lambda: tile_boxes((0, 1), (3, 4)),
    ):
        with pytest.raises(ValueError, match="expected sides from 1 to"):
            call()
    for bounds in ((0, 3), (4, 3), (1, 5000)):
        with pytest.raises(ValueError, match="tiles from"):
            tile_grids(*bounds)
