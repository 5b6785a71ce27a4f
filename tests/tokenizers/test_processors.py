"""Preprocessing of pictures: the pixels and codes of transformers' own processors and models."""

import json

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers.models.chameleon.image_processing_pil_chameleon import ChameleonImageProcessorPil
from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil

from unified_base.images import load_image
from unified_tokenizers import load_tokenizer
from unified_tokenizers.processors import (
    ApertusProcessor,
    ChameleonProcessor,
    Emu3Processor,
    JanusProcessor,
)

SHAPE = {
    "base_channels": 32, "channel_multiplier": [1, 1, 1], "num_res_blocks": 1, "embed_dim": 4,
    "latent_channels": 4,
}  # fmt: skip
MODELS = {
    "emu3": {
        **SHAPE, "codebook_size": 32, "attn_resolutions": [2], "hidden_size": 32,
        "temporal_downsample_factor": 4,
    },
    "chameleon": {**SHAPE, "num_embeddings": 32, "resolution": 16},
    "janus": {**SHAPE, "num_embeddings": 32, "num_patches": 6},
}  # fmt: skip
PUBLISHED = {
    "emu3": transformers.Emu3ImageProcessor,
    "chameleon": ChameleonImageProcessorPil,
    "janus": JanusImageProcessorPil,
}
# Small pictures for small models; the names and forms are the published files'.
SETTINGS = {
    "emu3": {
        "min_pixels": 24 * 24, "max_pixels": 40 * 40, "spatial_factor": 4,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.4, 0.6],
    },
    "chameleon": {
        "size": {"shortest_edge": 26}, "crop_size": {"height": 24, "width": 20},
        "image_mean": [1.0, 1.0, 1.0], "image_std": [1.0, 1.0, 1.0], "rescale_factor": 0.0078,
    },
    "janus": {
        "size": {"height": 24, "width": 24}, "min_size": 5,
        "image_mean": [0.5, 0.4, 0.6], "image_std": [0.5, 0.5, 0.5],
    },
}  # fmt: skip
SIZES = [(1, 1), (1, 7), (5, 3), (17, 64), (29, 23), (24, 24), (61, 40), (90, 11), (128, 127)]
EVERY = pytest.mark.parametrize("name", list(MODELS))


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Squares of colour with noise over them, uint8 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    squares = rng.integers(0, 256, (-(-height // 5), -(-width // 5), 3)).repeat(5, 0).repeat(5, 1)
    noise = rng.integers(-20, 21, (height, width, 3))
    return np.clip(squares[:height, :width] + noise, 0, 255).astype(np.uint8)


def published_pixels(processor, pixels: np.ndarray) -> torch.Tensor:
    # Emu3's would take one row of pixels for one channel.
    last = isinstance(processor, transformers.Emu3ImageProcessor)
    options = {"input_data_format": "channels_last"} if last else {}
    return processor(Image.fromarray(pixels), return_tensors="pt", **options)["pixel_values"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Folders as they are published: config.json, weights, preprocessor_config.json."""
    folders = {}
    for seed, name in enumerate(MODELS):
        config = getattr(transformers, f"{name.capitalize()}VQVAEConfig")(**MODELS[name])
        model = getattr(transformers, f"{name.capitalize()}VQVAE")(config).eval()
        rng = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.ndim > 1:
                    scale = weight[0].numel() ** -0.5
                    weight.copy_(torch.randn(weight.shape, generator=rng) * scale)
        folders[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(folders[name])
        PUBLISHED[name](**SETTINGS[name]).save_pretrained(folders[name])
    return folders


def original_codes(name, model, pixel_values):
    grid = [side // 4 for side in pixel_values.shape[2:]]
    if name == "emu3":
        sizes = torch.tensor([pixel_values.shape[2:]])
        return model.encode(pixel_values, sizes).image_tokens[0]
    return model.encode(pixel_values).image_tokens.view(grid)


@EVERY
@pytest.mark.parametrize("size", SIZES)
def test_pixels_and_codes_are_those_of_transformers(checkpoints, name, size):
    codec = load_tokenizer(checkpoints[name], "image")
    pixels = picture(*size)
    wanted = published_pixels(PUBLISHED[name].from_pretrained(checkpoints[name]), pixels)
    processed = codec.preprocess(pixels)
    assert processed.dtype == np.uint8
    assert processed.shape[:2] == codec.preprocessed_size(*size) == tuple(wanted.shape[2:])
    media = torch.from_numpy(processed.transpose(2, 0, 1).copy())[None]
    assert torch.equal(codec._normalized(media), wanted)
    with torch.no_grad():
        codes = original_codes(name, codec.model, wanted)
    assert torch.equal(codec.encode(media).codes[0, 0], codes)


@EVERY
def test_the_defaults_are_those_of_the_published_class(name):
    ours = {"emu3": Emu3Processor, "chameleon": ChameleonProcessor, "janus": JanusProcessor}[name]
    theirs = PUBLISHED[name]()
    assert ours.from_entries(theirs.to_dict(), "defaults").size(300, 500) == tuple(
        published_pixels(theirs, picture(300, 500)).shape[2:]
    )
    for field, value in ours.from_entries(theirs.to_dict(), "defaults").to_entries().items():
        # The background is the mean colour: CLIP's in the class, of [-1, 1] in the checkpoints.
        if field != "background":
            assert value == getattr(ours(), field), field


def test_the_settings_go_along_when_a_codec_is_saved(checkpoints, tmp_path):
    for name, folder in checkpoints.items():
        codec = load_tokenizer(folder, "image")
        codec.save_pretrained(tmp_path / name)
        again = load_tokenizer(tmp_path / name, "image")
        pixels = picture(37, 50)
        assert np.array_equal(again.preprocess(pixels), codec.preprocess(pixels))
        assert again.fingerprint == codec.fingerprint


def test_how_pictures_are_resized_does_not_change_the_fingerprint(checkpoints):
    folder = checkpoints["emu3"]
    smaller = load_tokenizer(folder, preprocessing={"min_pixels": 0, "max_pixels": 64})
    assert smaller.preprocessed_size(50, 50) == (8, 8)
    assert smaller.fingerprint == load_tokenizer(folder).fingerprint


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_pictures_of_other_modes_are_rgb_on_white_before(checkpoints, tmp_path, mode):
    pixels = picture(31, 40)
    image = Image.fromarray(pixels)
    if mode == "RGBA":
        image.putalpha(255)
    else:
        image = image.convert(mode)
    image.save(tmp_path / "picture.png")
    for name, folder in checkpoints.items():
        codec = load_tokenizer(folder, "image")
        processed = codec.preprocess(load_image(tmp_path / "picture.png"))
        wanted = published_pixels(
            PUBLISHED[name].from_pretrained(folder), np.asarray(image.convert("RGB"))
        )
        media = torch.from_numpy(processed.transpose(2, 0, 1).copy())[None]
        assert torch.equal(codec._normalized(media), wanted)


@EVERY
def test_a_picture_that_is_a_line_is_refused(checkpoints, name):
    codec = load_tokenizer(checkpoints[name], "image")
    for size in ((1, 201), (403, 2)):
        with pytest.raises(ValueError, match="more than 200 times as long as wide; crop it first"):
            codec.preprocess(picture(*size))
    assert codec.preprocess(picture(1, 200)).size


@EVERY
@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.zeros((4, 4), np.uint8), r"the picture is uint8 \(4, 4\), expected uint8 \(H, W, 3\)"),
        (np.zeros((4, 4, 4), np.uint8), r"uint8 \(4, 4, 4\), expected"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((0, 4, 3), np.uint8), "not empty"),
    ],
)
def test_what_is_no_picture_is_refused(checkpoints, name, pixels, reason):
    with pytest.raises(ValueError, match=reason):
        load_tokenizer(checkpoints[name], "image").preprocess(pixels)


@pytest.mark.parametrize(
    ("name", "entries", "reason"),
    [
        ("emu3", {"min_pixels": 65, "max_pixels": 64}, "min_pixels is 65 and max_pixels 64"),
        ("emu3", {"spatial_factor": 0}, "spatial_factor is 0, expected 1 to"),
        ("emu3", {"max_pixels": "many"}, "max_pixels is 'many', expected a whole number"),
        ("emu3", {"resample": 9}, r"resample is 9, expected one of \[0, 1, 2, 3, 4, 5\]"),
        ("chameleon", {"size": 16, "crop_size": 20}, "larger than shortest_edge 16"),
        ("chameleon", {"crop_size": [4, 5]}, r"crop_size is \[4, 5\], expected height and width"),
        ("janus", {"size": {"height": 24, "width": 20}}, "expected height and width alike"),
        ("janus", {"min_size": 10**9}, "min_size is 1000000000, expected 1 to"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_the_file(
    checkpoints, tmp_path, name, entries, reason
):
    codec = load_tokenizer(checkpoints[name])
    codec.save_pretrained(tmp_path)
    (tmp_path / "unified_codec.json").unlink()
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(entries))
    with pytest.raises(ValueError, match=reason) as caught:
        load_tokenizer(tmp_path)
    assert "preprocessor_config.json" in str(caught.value)


def test_without_normalization_pixels_stay_as_rescaled(checkpoints, tmp_path):
    load_tokenizer(checkpoints["emu3"]).save_pretrained(tmp_path)
    (tmp_path / "unified_codec.json").unlink()
    plain = {"do_normalize": False, "do_rescale": False, "image_mean": 0.3, "do_resize": False}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(plain))
    codec = load_tokenizer(tmp_path)
    pixels = picture(9, 13)
    assert codec.preprocess(pixels) is pixels
    media = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None]
    assert torch.equal(codec._normalized(media), media.float())


def test_apertus_keeps_the_proportions_within_its_areas():
    processor = ApertusProcessor()
    # 16 to a side; 1400 * 1400 pixels at most, 128 * 128 at least.
    assert processor.size(480, 640) == (480, 640)
    assert processor.size(3000, 4000) == (1200, 1616)
    assert processor.size(10, 30) == (80, 224)
    pixels = picture(33, 50)
    small = processor(pixels)
    assert small.shape == (*processor.size(33, 50), 3)
    # Of one colour it stays: the filter's weights add up to one.
    assert (processor(np.full((33, 50, 3), 201, np.uint8)) == 201).all()
