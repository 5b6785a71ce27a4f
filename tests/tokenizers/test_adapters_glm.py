"""GLM-Image's codes of pictures: pixels and codes of transformers' own processor and model."""

import json

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers.models.glm_image.image_processing_pil_glm_image import GlmImageImageProcessorPil

from unified_tokenizers import load_tokenizer
from unified_tokenizers.adapters_glm import GlmImageAdapter
from unified_tokenizers.base import ImageTokenizer
from unified_tokenizers.processors_glm import GlmImageProcessor

CONFIG = {
    "vision_config": {
        "depth": 1, "hidden_size": 16, "num_heads": 2, "image_size": 20, "patch_size": 4,
        "intermediate_size": 24,
    },
    "vq_config": {"embed_dim": 6, "num_embeddings": 32, "latent_channels": 16},
    "text_config": {
        "vocab_size": 64, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2, "vision_vocab_size": 40,
        "pad_token_id": 0,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
    },
}  # fmt: skip
# The published preprocessor_config.json of zai-org/GLM-Image, with areas for small pictures.
SETTINGS = {
    "min_pixels": 24 * 24, "max_pixels": 44 * 44, "patch_size": 4, "temporal_patch_size": 1,
    "merge_size": 1, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.4, 0.6], "resample": 3,
}  # fmt: skip
SIZES = [(4, 4), (5, 9), (12, 40), (24, 31), (33, 47), (44, 44), (61, 40), (128, 35), (200, 300)]


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Squares of colour, uint8 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    squares = rng.integers(0, 256, (-(-height // 3), -(-width // 3), 3), dtype=np.uint8)
    return squares.repeat(3, 0).repeat(3, 1)[:height, :width].copy()


def whole():
    """A GLM-Image of random weights, whose codebook stands where its pictures do."""
    config = transformers.GlmImageConfig(**CONFIG)
    model = transformers.GlmImageForConditionalGeneration(config).eval()
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.copy_(torch.randn(weight.shape, generator=rng) * weight[0].numel() ** -0.5)
        pixels = torch.from_numpy(picture(32, 16).transpose(2, 0, 1).copy())[None] / 127.5 - 1
        patches = pixels.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(32, 48)
        features = model.get_image_features(patches, torch.tensor([[1, 8, 4]])).pooler_output[0]
        vectors = model.model.vqmodel.quant_conv(features[None])[0].flatten(1).T
        model.model.vqmodel.quantize.embedding.weight.copy_(vectors)
    return model


MAKERS = {"glm": whole}


def save(name, folder):
    MAKERS[name]().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Folder and model: config.json, weights, preprocessor_config.json."""
    folder, model = tmp_path_factory.mktemp("glm"), whole()
    model.save_pretrained(folder)
    GlmImageImageProcessorPil(**SETTINGS).save_pretrained(folder)
    return folder, model


def test_its_figures_follow_from_the_config(checkpoint):
    codec = load_tokenizer(checkpoint[0])
    assert type(codec) is GlmImageAdapter
    assert isinstance(codec, ImageTokenizer)
    assert (codec.modality, codec.stride, codec.codebook_sizes) == ("image", 4, (32,))
    assert {name.split(".")[0] for name in codec.model.state_dict()} == {"visual", "vqmodel"}


@pytest.mark.parametrize("size", SIZES)
def test_pixels_and_codes_are_those_of_transformers(checkpoint, size):
    folder, model = checkpoint
    codec = load_tokenizer(folder, "image")
    pixels = picture(*size)
    inputs = GlmImageImageProcessorPil.from_pretrained(folder)(
        Image.fromarray(pixels), return_tensors="pt"
    )
    grid = inputs["image_grid_thw"]
    processed = codec.preprocess(pixels)
    assert processed.shape[:2] == codec.preprocessed_size(*size) == (grid[0, 1] * 4, grid[0, 2] * 4)
    media = torch.from_numpy(processed.transpose(2, 0, 1).copy())[None]
    patches = codec._normalized(media)[0].unfold(1, 4, 4).unfold(2, 4, 4)  # (C, h, w, 4, 4)
    assert torch.equal(patches.permute(1, 2, 0, 3, 4).flatten(0, 1).flatten(1), inputs.pixel_values)
    with torch.no_grad():
        features = model.get_image_features(inputs.pixel_values, grid).pooler_output
        wanted = model.get_image_tokens(features)
    codes = codec.encode(media).codes
    assert torch.equal(codes[0, 0].flatten(), wanted)
    assert len(codes.unique()) > min(codes.numel() // 4, 4)


def test_a_checkpoint_in_shards_opens_and_its_tokenizer_is_saved_alone(checkpoint, tmp_path):
    folder, model = checkpoint
    model.save_pretrained(tmp_path / "shards", max_shard_size="8KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 3
    codec = load_tokenizer(tmp_path / "shards")
    codec.save_pretrained(tmp_path / "alone")
    names = set(load_file(tmp_path / "alone" / "model.safetensors"))
    state = model.state_dict()
    assert names == {name for name in state if name.startswith(("model.visual.", "model.vqmodel."))}
    media = torch.from_numpy(picture(20, 28).transpose(2, 0, 1).copy())[None]
    wanted = load_tokenizer(folder).encode(media)
    for again in (codec, load_tokenizer(tmp_path / "alone")):
        # Sizes are the published ones where no preprocessor_config.json says others.
        assert again.preprocessed_size(1024, 768) == (512, 384)
        again.std.copy_(torch.tensor(SETTINGS["image_std"]).view(1, 3, 1, 1))
        assert torch.equal(again.encode(media).codes, wanted.codes)


def test_the_vectors_of_codes_are_of_length_one_as_they_are_compared(checkpoint):
    codec = load_tokenizer(checkpoint[0])
    (vectors,) = codec.code_vectors()
    weight = checkpoint[1].model.vqmodel.quantize.embedding.weight.detach()
    unit = weight / weight.norm(dim=1, keepdim=True)
    torch.testing.assert_close(vectors, unit - unit.mean(0))


@pytest.mark.parametrize(
    ("size", "reason"),
    [((3, 8), "8x3 pixels is smaller than a patch, which has 4x4"),
     ((41, 10), "10x41 pixels is more than 4 times as long as wide")],
)  # fmt: skip
def test_pictures_that_the_published_processor_refuses_are_refused(checkpoint, size, reason):
    with pytest.raises(ValueError, match=reason):
        load_tokenizer(checkpoint[0]).preprocess(picture(*size))
    with pytest.raises(ValueError, match=r"must be (larger|smaller) than"):
        GlmImageImageProcessorPil(**SETTINGS)(Image.fromarray(picture(*size)))


@pytest.mark.parametrize(
    ("entries", "reason"),
    [({"merge_size": 2}, "merge_size is 2, expected 1"),
     ({"temporal_patch_size": 2}, "temporal_patch_size is 2, expected 1"),
     ({"size": 5}, "size is 5, expected its two edges"),
     ({"size": {"shortest_edge": 9, "longest_edge": 8}, "patch_size": 2}, "min_pixels is 9 and"),
     ({"patch_size": 0}, "patch_size is 0, expected 1 to")],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(entries, reason):
    with pytest.raises(ValueError, match=reason):
        GlmImageProcessor.from_entries(entries, "preprocessor_config.json")


def test_areas_are_read_by_their_newer_names():
    newer = {"size": {"shortest_edge": 576, "longest_edge": 1936}, "patch_size": 4}
    older = {"min_pixels": 576, "max_pixels": 1936, "patch_size": 4}
    assert GlmImageProcessor.from_entries(newer, "") == GlmImageProcessor.from_entries(older, "")


def test_missing_weights_are_named(checkpoint, tmp_path):
    state = load_file(checkpoint[0] / "model.safetensors")
    del state["model.visual.blocks.0.attn.proj.weight"]
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    config = json.loads((checkpoint[0] / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"lack 1 tensors of .*visual\.blocks\.0\.attn\.proj"):
        load_tokenizer(tmp_path)
