"""Pretrained VQ image models: the codes and pictures of the original classes, where they are found.

What they share with every tokenizer is in test_contract.py.
"""

import json
import re
import shutil
from fnmatch import fnmatch

import diffusers
import huggingface_hub
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from unified_tokenizers import load_tokenizer
from unified_tokenizers.adapters_diffusers import VqModelAdapter
from unified_tokenizers.adapters_image import Emu3Adapter
from unified_tokenizers.base import Codes, MediaTokenizer
from unified_tokenizers.chameleon_decoder import ChameleonDecoder
from unified_tokenizers.checks import check_codes

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
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def vq_class(name):
    if name == "vqmodel":
        return diffusers.VQModel
    return getattr(transformers, f"{name.capitalize()}VQVAE")


def fresh(name):
    if name == "vqmodel":
        return diffusers.VQModel(**CONFIGS[name])
    config = getattr(transformers, f"{name.capitalize()}VQVAEConfig")(**CONFIGS[name])
    model = vq_class(name)(config)
    if name == "chameleon":
        model.decoder = ChameleonDecoder(config)
    return model


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
    saved = {}
    for name in CONFIGS:
        saved[name] = save(fresh(name), root / name)
        codec = load_tokenizer(saved[name])
        spread_codebook(codec)
        codec.model.save_pretrained(saved[name])
    return saved


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
    return {name: load_tokenizer(folder) for name, folder in folders.items()}


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
def test_load_tokenizer_picks_the_adapter_and_its_figures_follow_from_the_config(loaded, name):
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
        decoded = original.decode(original.encode(normalised).latents).sample
        torch.testing.assert_close(
            codec.decode(codes), (decoded / 2 + 0.5).clamp(0, 1), atol=1e-5, rtol=0
        )
    elif name != "chameleon":
        decoded = original.decode(wanted if name == "emu3" else wanted.flatten(1))
        assert decoded.std() > 0.1
        torch.testing.assert_close(codec.decode(codes), (decoded / 2 + 0.5).clamp(0, 1))


def whole_model(name):
    """A tiny language model with the VQ model in it."""
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
    codec = load_tokenizer(tmp_path / "whole")
    for key, value in whole.model.vqmodel.state_dict().items():
        assert torch.equal(codec.model.state_dict()[key], value), key
    codec.save_pretrained(tmp_path / "alone")
    alone = load_tokenizer(tmp_path / "alone")
    assert alone.model.config.model_type == f"{name}_vqgan"
    assert alone.fingerprint == codec.fingerprint
    media = pictures(1, 16, 16)
    assert torch.equal(alone.encode(media).codes, codec.encode(media).codes)


def in_shards(folder) -> list[str]:
    """Splits a whole checkpoint: a file with the language model, two with the VQ model."""
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    inside = [name for name in state if "vqmodel." in name]
    parts = [[name for name in state if name not in inside], inside[::2], inside[1::2]]
    assert all(parts)
    files = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    for file, names in zip(files, parts, strict=True):
        save_file({name: state[name] for name in names}, folder / file, metadata={"format": "pt"})
    index = {name: file for file, names in zip(files, parts, strict=True) for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return files


def test_of_a_whole_checkpoint_on_the_hub_the_shards_with_the_vq_model_are_fetched(
    tmp_path, monkeypatch
):
    whole = whole_model("chameleon")
    whole.model.vqmodel.decoder = ChameleonDecoder(whole.model.vqmodel.config)
    remote, local = tmp_path / "remote", tmp_path / "hub" / "models--org--whole"
    whole.save_pretrained(remote)
    shards = in_shards(remote)
    (remote / "pytorch_model.bin").write_bytes(b"a pickle")
    (remote / "tokenizer.json").write_text("{}")
    (local / "refs").mkdir(parents=True)
    (local / "refs" / "main").write_text(COMMIT)
    asked = []

    def download(name, *, revision, cache_dir, allow_patterns, local_files_only):
        """What the hub's client would leave in its cache."""
        assert (name, cache_dir, local_files_only) == ("org/whole", tmp_path / "hub", False)
        asked.append(revision)
        snapshot = local / "snapshots" / COMMIT
        snapshot.mkdir(parents=True, exist_ok=True)
        for file in remote.iterdir():
            if any(fnmatch(file.name, pattern) for pattern in allow_patterns):
                shutil.copy(file, snapshot)
        return str(snapshot)

    with monkeypatch.context() as patched:
        patched.setattr(huggingface_hub, "snapshot_download", download)
        codec = load_tokenizer("org/whole", cache_dir=tmp_path / "hub")
    assert asked == [None, COMMIT]
    fetched = {file.name for file in (local / "snapshots" / COMMIT).iterdir()}
    assert fetched == {"config.json", "model.safetensors.index.json", *shards[1:]}
    for key, value in whole.model.vqmodel.state_dict().items():
        assert torch.equal(codec.model.state_dict()[key], value), key
    # The client itself finds them in its cache, without a network.
    again = load_tokenizer("org/whole", cache_dir=tmp_path / "hub", local_files_only=True)
    assert again.fingerprint == codec.fingerprint
    (local / "snapshots" / COMMIT / shards[2]).unlink()
    with pytest.raises(ValueError, match=f"org/whole has no {shards[2]} in"):
        load_tokenizer("org/whole", cache_dir=tmp_path / "hub", local_files_only=True)


def test_an_index_that_leads_out_of_the_checkpoint_is_refused(folders, tmp_path):
    shutil.copytree(folders["chameleon"], tmp_path / "codec")
    index = tmp_path / "codec" / "model.safetensors.index.json"
    for shard in ("../codec.safetensors", "pytorch_model.bin"):
        index.write_text(json.dumps({"weight_map": {"conv_in.weight": shard}}))
        with pytest.raises(ValueError, match=f"is '{re.escape(shard)}', expected a safetensors"):
            load_tokenizer(tmp_path / "codec")


def test_a_pipeline_of_diffusers_keeps_its_vqmodel_in_a_subfolder(folders, tmp_path):
    local = tmp_path / "hub" / "models--org--pipeline"
    inner = shutil.copytree(folders["vqmodel"], local / "snapshots" / COMMIT / "vqvae")
    (local / "refs").mkdir()
    (local / "refs" / "main").write_text(COMMIT)
    wanted = load_tokenizer(folders["vqmodel"]).fingerprint
    hub = {"cache_dir": tmp_path / "hub", "local_files_only": True}
    assert load_tokenizer("org/pipeline", subfolder="vqvae", **hub).fingerprint == wanted
    assert load_tokenizer(inner.parent, subfolder="vqvae").fingerprint == wanted
    named = VqModelAdapter.from_pretrained("org/pipeline", subfolder="vqvae", **hub)
    assert named.fingerprint == wanted
    with pytest.raises(ValueError, match="diffusers keeps its VQ model in a subfolder such as"):
        load_tokenizer("org/pipeline", **hub)


@pytest.mark.parametrize("file", ["preprocessor_config.json", "processor_config.json"])
def test_the_normalization_beside_the_weights_is_used(folders, tmp_path, file):
    codec = load_tokenizer(folders["emu3"], image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.3])
    codec.save_pretrained(tmp_path)
    (tmp_path / "unified_codec.json").rename(tmp_path / file)
    if file == "processor_config.json":
        entries = json.loads((tmp_path / file).read_text())
        (tmp_path / file).write_text(json.dumps({"image_processor": entries}))
    again = load_tokenizer(tmp_path)
    assert again.settings == codec.settings
    assert again.fingerprint == codec.fingerprint != load_tokenizer(folders["emu3"]).fingerprint
    assert again.mean.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])
    media = pictures(1, 12, 12)
    assert torch.equal(again.encode(media).codes, codec.encode(media).codes)
    with pytest.raises(ValueError, match=r"image_std is \[1.0\], expected three numbers"):
        load_tokenizer(tmp_path, image_std=[1.0])


def test_chameleon_without_a_decoder_says_so(folders, tmp_path):
    codec = load_tokenizer(folders["chameleon"])
    before = codec.fingerprint
    del codec.model.decoder
    codec.save_pretrained(tmp_path)
    plain = load_tokenizer(tmp_path)
    assert plain.fingerprint == codec.fingerprint != before
    codes = plain.encode(pictures(1, 16, 16))
    with pytest.raises(
        ValueError, match=r"no decoder for ChameleonVQVAE, .* no decoder\.\* tensors"
    ):
        plain.decode(codes)


def test_a_chameleon_decoder_with_weights_missing_is_refused(folders, tmp_path):
    shutil.copytree(folders["chameleon"], tmp_path / "codec")
    weights = tmp_path / "codec" / "model.safetensors"
    state = load_file(weights)
    del state["decoder.mid.attn_1.q.weight"]
    save_file(state, weights, metadata={"format": "pt"})
    with pytest.raises(
        ValueError, match=r"cannot load the ChameleonVQVAE .*mid\.attn_1\.q\.weight"
    ):
        load_tokenizer(tmp_path / "codec")


def test_janus_decodes_its_only_size(loaded):
    codes = torch.zeros(1, 1, 2, 8, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"8 x 32 pixels.*expected 16 x 16"):
        loaded["janus"].decode(Codes(codes, (8, 32)))
    with pytest.raises(ValueError, match="expected 16 x 16"):
        loaded["janus"].decode(Codes(codes[..., :4].repeat(1, 1, 2, 1), (15, 16)))


def test_a_vqmodel_that_looks_codes_up_itself_gives_the_same_pictures(folders, tmp_path):
    codec = load_tokenizer(folders["vqmodel"])
    looking = diffusers.VQModel(**CONFIGS["vqmodel"], lookup_from_codebook=True)
    looking.load_state_dict(codec.model.state_dict())
    looking.save_pretrained(tmp_path)
    other = load_tokenizer(tmp_path)
    codes = codec.encode(pictures(2, 9, 14))
    torch.testing.assert_close(other.decode(codes), codec.decode(codes))
    assert other.fingerprint != codec.fingerprint


def test_a_vqmodel_with_weights_missing_is_refused(folders, tmp_path):
    codec = load_tokenizer(folders["vqmodel"])
    codec.save_pretrained(tmp_path)
    (weights,) = tmp_path.glob("*.safetensors")
    state = load_file(weights)
    del state["post_quant_conv.weight"]
    save_file(state, weights, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lack 1 tensors of VQModel, such as post_quant_conv"):
        load_tokenizer(tmp_path)
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(ValueError, match="cannot load the VQModel in"):
        load_tokenizer(tmp_path)


def test_another_model_is_refused(loaded, folders):
    with pytest.raises(ValueError, match="got a JanusVQVAE, expected a Emu3VQVAE"):
        Emu3Adapter(loaded["janus"].model)
    with pytest.raises(ValueError, match="'janus_vqgan', expected 'emu3_vqgan' or 'emu3'"):
        Emu3Adapter.from_pretrained(folders["janus"])
