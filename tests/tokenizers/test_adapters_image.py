"""Pretrained VQ image models: the codes and pictures of the original classes, exact sizes."""

import json

import diffusers
import pytest
import torch
import transformers

from unified_tokenizers.adapters import load_codec
from unified_tokenizers.adapters_image import Emu3Adapter
from unified_tokenizers.base import Codes, MediaTokenizer, check_codes

SHAPE = {
    "base_channels": 32, "channel_multiplier": [1, 1, 1], "num_res_blocks": 1, "embed_dim": 4,
    "latent_channels": 4,
}  # fmt: skip
CONFIGS = {
    "emu3": {
        **SHAPE, "codebook_size": 32, "attn_resolutions": [2], "hidden_size": 32,
        "temporal_downsample_factor": 4,
    },
    "chameleon": {**SHAPE, "num_embeddings": 32, "resolution": 16},
    "janus": {**SHAPE, "num_embeddings": 32, "num_patches": 4},
    "vqmodel": {
        "down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3,
        "block_out_channels": [8, 8, 16], "norm_num_groups": 4, "latent_channels": 4,
        "num_vq_embeddings": 32, "vq_embed_dim": 3,
    },
}  # fmt: skip
TEXT = {
    "vocab_size": 64, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 2,
}  # fmt: skip
ADAPTERS = {
    "emu3": "Emu3Adapter", "chameleon": "ChameleonAdapter", "janus": "JanusAdapter",
    "vqmodel": "VqModelAdapter",
}  # fmt: skip
EVERY = pytest.mark.parametrize("name", list(CONFIGS))
WHOLE = pytest.mark.parametrize("name", ["emu3", "chameleon", "janus"])
DECODING = pytest.mark.parametrize("name", ["emu3", "janus", "vqmodel"])


def vq_class(name):
    if name == "vqmodel":
        return diffusers.VQModel
    return getattr(transformers, f"{name.capitalize()}VQVAE")


def fresh(name):
    if name == "vqmodel":
        return diffusers.VQModel(**CONFIGS[name])
    config = getattr(transformers, f"{name.capitalize()}VQVAEConfig")(**CONFIGS[name])
    return vq_class(name)(config)


def save(model, folder, seed=0):
    """Random weights of a size that keeps pictures alive."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                scale = weight[0].numel() ** -0.5
                weight.copy_(torch.randn(weight.shape, generator=rng) * scale)
    assert sum(weight.numel() for weight in model.parameters()) < 1_000_000
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("codecs")
    made = {}
    for name in CONFIGS:
        made[name] = save(fresh(name), root / name)
        codec = load_codec(made[name])
        spread_codebook(codec)
        codec.model.save_pretrained(made[name])
    return made


def spread_codebook(codec):
    """Codes at what pictures give before quantization: at random ones most pictures look alike."""
    latents = []
    hook = codec.model.quant_conv.register_forward_hook(lambda *call: latents.append(call[2]))
    codec.encode(pictures(8, 16, 16, seed=9))
    hook.remove()
    vectors = latents[0].movedim(1, -1).flatten(0, -2)
    with torch.no_grad():
        codec.model.quantize.embedding.weight.copy_(vectors[:: len(vectors) // 32][:32])


@pytest.fixture(scope="module")
def loaded(folders):
    return {name: load_codec(folder) for name, folder in folders.items()}


def pictures(batch: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """uint8 pictures of coloured squares: random pixels would look alike to the codes."""
    rng = torch.Generator().manual_seed(seed)
    squares = torch.rand(batch, 3, -(-height // 5), -(-width // 5), generator=rng)
    large = squares.repeat_interleave(5, 2).repeat_interleave(5, 3)[:, :, :height, :width]
    return (large * 255).round().to(torch.uint8)


def original_codes(name, model, normalised):
    if name == "vqmodel":
        latents = model.encode(normalised).latents
        return model.quantize(latents)[2][2].view(len(latents), *latents.shape[2:])
    if name == "emu3":
        sizes = torch.tensor([normalised.shape[2:]] * len(normalised))
        return torch.stack(model.encode(normalised, sizes).image_tokens)
    grid = (len(normalised), normalised.shape[2] // 4, normalised.shape[3] // 4)
    return model.encode(normalised).image_tokens.view(grid)


@EVERY
def test_load_codec_picks_the_adapter_and_its_figures_follow_from_the_config(loaded, name):
    codec = loaded[name]
    assert type(codec).__name__ == ADAPTERS[name]
    assert isinstance(codec, MediaTokenizer)
    assert codec.modality == "image"
    assert codec.stride == 4
    assert codec.codebook_sizes == (32,)
    assert codec.bits_per_pixel == 5 / 16
    assert not codec.train().model.training


@EVERY
@torch.no_grad()
def test_whole_strides_give_the_codes_and_pictures_of_the_original(loaded, folders, name):
    codec, original = loaded[name], vq_class(name).from_pretrained(folders[name]).eval()
    media = pictures(2, 16, 16)
    byte = media.float()
    normalised = byte * 0.0078 - 1 if name == "chameleon" else byte / 127.5 - 1
    wanted = original_codes(name, original, normalised)
    codes = codec.encode(media)
    check_codes(codes.codes, codec.codebook_sizes, 2, "its own")
    assert torch.equal(codes.codes[:, 0], wanted)
    assert len(wanted.unique()) > 3
    assert torch.equal(codec.encode(byte / 255).codes, codes.codes)
    if name == "vqmodel":
        # What the original makes of the picture itself goes through the same codes.
        made = original.decode(original.encode(normalised).latents).sample
        torch.testing.assert_close(
            codec.decode(codes), (made / 2 + 0.5).clamp(0, 1), atol=1e-5, rtol=0
        )
    elif name != "chameleon":
        made = original.decode(wanted if name == "emu3" else wanted.flatten(1))
        assert made.std() > 0.1
        torch.testing.assert_close(codec.decode(codes), (made / 2 + 0.5).clamp(0, 1))


@pytest.mark.parametrize("size", [(1, 1), (5, 18), (13, 7), (16, 20)])
@pytest.mark.parametrize("name", ["emu3", "chameleon", "vqmodel"])
def test_every_size_is_completed_with_its_last_row_and_column(loaded, name, size):
    codec, media = loaded[name], pictures(2, *size)
    codes = codec.encode(media)
    grid = tuple(-(-side // 4) for side in size)
    assert codes.size == size
    assert codes.codes.dtype == torch.int64
    assert codes.codes.shape == (2, 1, *grid)
    rows = torch.arange(4 * grid[0]).clamp(max=size[0] - 1)
    columns = torch.arange(4 * grid[1]).clamp(max=size[1] - 1)
    assert torch.equal(codec.encode(media[:, :, rows][..., columns]).codes, codes.codes)
    if name != "chameleon":
        made = codec.decode(codes)
        whole = codec.decode(Codes(codes.codes, (4 * grid[0], 4 * grid[1])))
        assert made.shape == (2, 3, *size)
        assert made.dtype == torch.float32
        assert made.min() >= 0
        assert made.max() <= 1
        assert torch.equal(made, whole[:, :, : size[0], : size[1]])


@EVERY
def test_a_batch_gives_what_each_picture_gives_alone(loaded, name):
    codec, media = loaded[name], pictures(3, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        together = codec.encode(media)
    for row in range(3):
        alone = codec.encode(media[row : row + 1])
        assert torch.equal(alone.codes[0], together.codes[row])
        if name != "chameleon":
            made = codec.decode(together)[row]
            torch.testing.assert_close(codec.decode(alone)[0], made, atol=1e-4, rtol=0)


@EVERY
def test_the_fingerprint_outlives_saving_and_changes_with_a_weight(folders, name, tmp_path):
    codec = load_codec(folders[name])
    before = codec.fingerprint
    assert len(before) == 16
    codec.save_pretrained(tmp_path)
    again = load_codec(tmp_path)
    assert again.fingerprint == before
    with torch.no_grad():
        again.model.quantize.embedding.weight[-1, -1] += 1e-3
    assert again.fingerprint != before
    assert load_codec(folders[name], image_mean=[0.4] * 3).fingerprint != before


def whole_model(name):
    vocabulary = {f"<|visual token {i:06d}|>": i for i in range(32)} | {"<image>": 40}
    if name == "janus":
        config = transformers.JanusConfig(
            text_config={"model_type": "llama", **TEXT},
            vision_config={
                "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                "image_size": 16, "patch_size": 4, "projection_dim": 16,
            },
            vq_config={**CONFIGS[name], "projection_dim": 16, "image_token_embed_dim": 16},
        )  # fmt: skip
    elif name == "emu3":
        config = transformers.Emu3Config(
            vq_config=CONFIGS[name], vocabulary_map=vocabulary,
            text_config={**TEXT, "pad_token_id": 0},
        )  # fmt: skip
    else:
        config = transformers.ChameleonConfig(
            vq_config=CONFIGS[name], vocabulary_map=vocabulary, pad_token_id=0, **TEXT
        )
    return getattr(transformers, f"{name.capitalize()}ForConditionalGeneration")(config)


@WHOLE
def test_the_vq_model_is_found_in_a_whole_checkpoint_and_can_be_saved_alone(name, tmp_path):
    whole = whole_model(name)
    save(whole, tmp_path / "whole")
    assert json.loads((tmp_path / "whole" / "config.json").read_text())["model_type"] == name
    codec = load_codec(tmp_path / "whole")
    for key, value in whole.model.vqmodel.state_dict().items():
        assert torch.equal(codec.model.state_dict()[key], value), key
    codec.save_pretrained(tmp_path / "alone")
    alone = load_codec(tmp_path / "alone")
    assert alone.model.config.model_type == f"{name}_vqgan"
    assert alone.fingerprint == codec.fingerprint
    media = pictures(1, 16, 16)
    assert torch.equal(alone.encode(media).codes, codec.encode(media).codes)


@pytest.mark.parametrize("file", ["preprocessor_config.json", "processor_config.json"])
def test_the_normalization_beside_the_weights_is_used(folders, tmp_path, file):
    codec = load_codec(folders["emu3"], image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.3])
    codec.save_pretrained(tmp_path)
    (tmp_path / "unified_codec.json").rename(tmp_path / file)
    if file == "processor_config.json":
        entries = json.loads((tmp_path / file).read_text())
        (tmp_path / file).write_text(json.dumps({"image_processor": entries}))
    again = load_codec(tmp_path)
    assert again.settings == codec.settings
    assert again.mean.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])
    media = pictures(1, 12, 12)
    assert torch.equal(again.encode(media).codes, codec.encode(media).codes)
    with pytest.raises(ValueError, match=r"image_std is \[1.0\], expected three numbers"):
        load_codec(tmp_path, image_std=[1.0])


@EVERY
def test_bad_pictures_are_refused(loaded, name):
    for picture, reason in (
        (torch.zeros(3, 16, 16), r"shape \(3, 16, 16\), expected \(B, 3, H, W\)"),
        (torch.zeros(1, 1, 16, 16), r"shape \(1, 1, 16, 16\)"),
        (torch.zeros(1, 3, 0, 16), "not empty"),
        (torch.zeros(1, 3, 16, 16, dtype=torch.int64), "int64, expected uint8 or floating point"),
        (torch.full((1, 3, 16, 16), float("inf")), "not finite"),
        (torch.full((1, 3, 16, 16), 2.0), r"range from 2 to 2, expected \[0, 1\]"),
    ):
        with pytest.raises(ValueError, match=reason):
            loaded[name].encode(picture)


@DECODING
def test_bad_codes_and_sizes_are_refused(loaded, name):
    good = torch.zeros(1, 1, 4, 4, dtype=torch.int64)
    for codes, size, reason in (
        (good + 32, (16, 16), "code 32 at level 0 is out of range, expected 0 to 31"),
        (good - 1, (16, 16), "code -1 at level 0"),
        (good[0], (16, 16), r"expected \(B, 1, H, W\)"),
        (good, (16, 17), r"\(16, 17\) pixels does not have a grid of \(4, 4\) codes at stride 4"),
        (good, (16,), "does not have a grid"),
    ):
        with pytest.raises(ValueError, match=reason):
            loaded[name].decode(Codes(codes, size))


def test_chameleon_says_that_it_cannot_decode(loaded):
    with pytest.raises(ValueError, match="transformers has no decoder for ChameleonVQVAE"):
        loaded["chameleon"].decode(loaded["chameleon"].encode(pictures(1, 16, 16)))


def test_janus_names_the_only_size_it_takes(loaded):
    for size in ((16, 15), (20, 16), (8, 32)):
        with pytest.raises(ValueError, match=f"{size[0]} x {size[1]} pixels.*expected 16 x 16"):
            loaded["janus"].encode(pictures(1, *size))
    codes = torch.zeros(1, 1, 2, 8, dtype=torch.int64)
    with pytest.raises(ValueError, match="expected 16 x 16"):
        loaded["janus"].decode(Codes(codes, (8, 32)))
    with pytest.raises(ValueError, match="expected 16 x 16"):
        loaded["janus"].decode(Codes(codes[..., :4].repeat(1, 1, 2, 1), (15, 16)))


def test_a_vqmodel_that_looks_codes_up_itself_gives_the_same_pictures(folders, tmp_path):
    codec = load_codec(folders["vqmodel"])
    looking = diffusers.VQModel(**CONFIGS["vqmodel"], lookup_from_codebook=True)
    looking.load_state_dict(codec.model.state_dict())
    looking.save_pretrained(tmp_path)
    other = load_codec(tmp_path)
    codes = codec.encode(pictures(2, 9, 14))
    torch.testing.assert_close(other.decode(codes), codec.decode(codes))
    assert other.fingerprint != codec.fingerprint


def test_a_vqmodel_with_weights_missing_is_refused(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    codec = load_codec(folders["vqmodel"])
    codec.save_pretrained(tmp_path)
    (weights,) = tmp_path.glob("*.safetensors")
    state = load_file(weights)
    del state["post_quant_conv.weight"]
    save_file(state, weights, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lack 1 tensors of VQModel, such as post_quant_conv"):
        load_codec(tmp_path)
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(ValueError, match="cannot load the VQModel in"):
        load_codec(tmp_path)


def test_another_model_is_refused(loaded, folders):
    with pytest.raises(ValueError, match="got a JanusVQVAE, expected a Emu3VQVAE"):
        Emu3Adapter(loaded["janus"].model)
    with pytest.raises(ValueError, match="'janus_vqgan', expected 'emu3_vqgan' or 'emu3'"):
        Emu3Adapter.from_pretrained(folders["janus"])
