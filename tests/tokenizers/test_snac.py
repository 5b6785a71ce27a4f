"""SNAC: published names and shapes, the order of its codes, a golden, and streaming.

Codes and sound were compared with the published package once: equal, and within 4e-7.
"""

import hashlib
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from unified_base.meta_device import on_meta_device
from unified_tokenizers import load_tokenizer
from unified_tokenizers.adapters_snac import SnacAdapter
from unified_tokenizers.base import AudioTokenizer, Codes
from unified_tokenizers.snac_model import SnacConfig, SnacModel
from unified_tokenizers.streaming import DecodeStream, EncodeStream

SPEECH = {
    "sampling_rate": 24_000, "encoder_dim": 4, "encoder_rates": [2, 3], "decoder_dim": 16,
    "decoder_rates": [3, 2], "attn_window_size": None, "codebook_size": 32, "codebook_dim": 4,
    "vq_strides": [4, 2, 1], "noise": True, "depthwise": True,
}  # fmt: skip
MUSIC = {
    **SPEECH, "sampling_rate": 44_100, "encoder_dim": 32, "decoder_dim": 64,
    "attn_window_size": 6, "vq_strides": [4, 2, 1], "depthwise": False,
}  # fmt: skip
# hubertsiuzdak/snac_24khz
PUBLISHED = {
    "sampling_rate": 24_000, "encoder_dim": 48, "encoder_rates": (2, 4, 8, 8), "decoder_dim": 1024,
    "decoder_rates": (8, 8, 4, 2), "attn_window_size": None, "codebook_size": 4096,
    "codebook_dim": 8, "vq_strides": (4, 2, 1), "noise": True, "depthwise": True,
}  # fmt: skip
MAKERS = {"snac": SPEECH, "snac_windows": MUSIC}


def random_model(entries, seed=0):
    tuples = {key: tuple(v) if isinstance(v, list) else v for key, v in entries.items()}
    model = SnacModel(SnacConfig(**tuples)).eval()
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("original0") or "norm" in name or name.endswith("alpha"):
                weight.copy_(torch.rand(weight.shape, generator=rng) * 0.5 + 0.4)
            else:
                weight.copy_(torch.randn(weight.shape, generator=rng) * 0.3)
    return model


def save(name, folder):
    folder.mkdir(exist_ok=True)
    state = random_model(MAKERS[name]).state_dict()
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(MAKERS[name]))  # no model_type, as published
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("snac")
    return {name: save(name, root / name) for name in MAKERS}


def sound(batch, samples, seed=1):
    return torch.rand(batch, 1, samples, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8


def test_names_and_shapes_are_those_of_the_published_weights():
    with on_meta_device():
        state = SnacModel(SnacConfig(**PUBLISHED)).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    g, v = "parametrizations.weight.original0", "parametrizations.weight.original1"
    for name, shape in {
        f"encoder.block.0.{v}": (48, 1, 7),
        f"encoder.block.1.block.0.block.1.{v}": (48, 1, 7),
        "encoder.block.1.block.0.block.0.alpha": (1, 48, 1),
        f"encoder.block.4.block.4.{v}": (768, 384, 16),
        f"encoder.block.5.{g}": (768, 1, 1),
        "encoder.block.5.bias": (768,),
        f"quantizer.quantizers.2.in_proj.{v}": (8, 768, 1),
        f"quantizer.quantizers.0.out_proj.{v}": (768, 8, 1),
        "quantizer.quantizers.1.codebook.weight": (4096, 8),
        f"decoder.model.0.{v}": (768, 1, 7),
        f"decoder.model.1.{v}": (1024, 768, 1),
        f"decoder.model.2.block.1.{v}": (1024, 512, 16),
        f"decoder.model.2.block.2.linear.{v}": (512, 512, 1),
        f"decoder.model.2.block.3.block.1.{v}": (512, 1, 7),
        "decoder.model.6.alpha": (1, 64, 1),
        f"decoder.model.7.{v}": (1, 64, 7),
    }.items():
        assert shapes[name] == shape, name
    assert "decoder.model.2.block.2.linear.bias" not in shapes
    # "19.8 M" in the published table.
    assert sum(tensor.numel() for tensor in state.values()) == pytest.approx(19.8e6, rel=0.005)


def test_the_windowed_model_has_the_attention_s_names():
    names = set(random_model(MUSIC).state_dict())
    for prefix in ("encoder.block.3", "decoder.model.1"):
        assert {f"{prefix}.norm.weight", f"{prefix}.to_qkv.weight", f"{prefix}.to_out.weight",
                f"{prefix}.rel_pos.inv_freq"} <= names  # fmt: skip


def test_its_figures_follow_from_the_config(folders):
    codec = load_tokenizer(folders["snac"], "audio")
    assert isinstance(codec, SnacAdapter)
    assert isinstance(codec, AudioTokenizer)
    assert codec.codebook_sizes == (32,) * 7
    assert (codec.hop, codec.sample_rate, codec.channels) == (24, 24_000, 1)
    assert codec.frame_rate == 1000
    windows = load_tokenizer(folders["snac_windows"], "audio")
    # Levels of 4 frames and windows of 6 are whole after 12 frames: 3 + 6 + 12 codes.
    assert (windows.hop, len(windows.codebook_sizes)) == (72, 21)


def test_published_snac_24khz_has_orpheus_frames():
    with on_meta_device():
        codec = SnacAdapter(SnacModel(SnacConfig(**PUBLISHED)))
    assert codec.codebook_sizes == (4096,) * 7
    assert codec.hop == 2048
    assert codec.bits_per_second == pytest.approx(984.375)  # "0.98 kbps"


def test_the_codes_of_a_frame_lie_as_orpheus_lays_them(folders):
    codec = load_tokenizer(folders["snac"], "audio")
    media = sound(2, 5 * 24)
    codes = codec.encode(media).codes
    with torch.no_grad():
        coarse, middle, fine = codec.model.encode(media)
    assert (coarse.shape[1], middle.shape[1], fine.shape[1]) == (5, 10, 20)
    assert torch.equal(codes[:, 0], coarse)
    assert torch.equal(codes[:, [1, 4]].mT.flatten(1), middle)
    assert torch.equal(codes[:, [2, 3, 5, 6]].mT.flatten(1), fine)
    assert len(fine.unique()) > 4


def test_each_level_quantizes_what_the_coarser_ones_left(folders):
    codec = load_tokenizer(folders["snac"], "audio")
    quantizer = codec.model.quantizer
    with torch.no_grad():
        latents = codec.model.encoder(sound(1, 48))
        levels = quantizer.encode(latents)
        rest = latents - quantizer.quantizers[0].decode(levels[0])
        assert torch.equal(quantizer.quantizers[1].encode(rest), levels[1])


def test_golden(folders):
    """What was compared with the published package does not change."""
    codec = load_tokenizer(folders["snac"], "audio", noise=False)
    codes = codec.encode(sound(1, 70))
    digest = hashlib.sha256(codes.codes.to(torch.uint8).numpy().tobytes()).hexdigest()[:16]
    assert digest == "b7136c9229636efd"
    decoded = codec.decode(codes)[0, 0]
    wanted = [0.22027, 0.59162, 0.52543, -0.47041]
    assert decoded[[0, 20, 40, 69]].tolist() == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("name", list(MAKERS))
def test_the_noise_is_the_same_every_time_and_can_be_left_out(folders, name):
    codec, plain = (load_tokenizer(folders[name], noise=noise) for noise in (True, False))
    codes = codec.encode(sound(2, 100))
    noisy = codec.decode(codes)
    assert torch.equal(noisy, codec.decode(codes))
    assert not torch.allclose(noisy, plain.decode(codes), atol=1e-3)
    assert codec.fingerprint == plain.fingerprint
    assert torch.equal(codec.encode(sound(2, 100)).codes, plain.encode(sound(2, 100)).codes)


def test_without_noise_and_windows_it_streams(folders):
    codec = load_tokenizer(folders["snac"], "audio", noise=False)
    media = sound(1, 40 * 24 + 7)
    codes, waveform = codec.encode(media), None
    waveform = codec.decode(codes)
    encoding, decoding = EncodeStream(codec), DecodeStream(codec)
    parts = [encoding.push(media[..., at : at + 100]) for at in range(0, media.shape[2], 100)]
    early = sum(part.shape[2] for part in parts)
    parts.append(encoding.finish())
    assert 0 < early < codes.codes.shape[2]
    assert torch.equal(torch.cat(parts, 2), codes.codes)
    chunks = [decoding.push(codes.codes[..., at : at + 3]) for at in range(0, 41, 3)]
    assert sum(chunk.shape[2] for chunk in chunks) > 0
    chunks.append(decoding.finish(media.shape[2]))
    torch.testing.assert_close(torch.cat(chunks, 2), waveform, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", list(MAKERS))
def test_the_contexts_are_how_far_it_looks(folders, name):
    codec = load_tokenizer(folders[name], "audio", noise=False)
    if name == "snac_windows":
        assert codec.encode_context is None
        assert codec.decode_context is None
        return
    before, after = codec.decode_context
    frames, middle = 2 * (before + after) + 3, before + after + 1
    codes = torch.randint(0, 32, (1, 7, frames), generator=torch.Generator().manual_seed(2))
    base = codec.decode(Codes(codes, (frames * 24,)))
    for frame, reaches in (
        (middle - before - 1, False),
        (middle + after + 1, False),
        (middle, True),
    ):
        changed = codes.clone()
        changed[:, :, frame] = (changed[:, :, frame] + 1) % 32
        other = codec.decode(Codes(changed, (frames * 24,)))
        window = slice(middle * 24, middle * 24 + 24)
        assert torch.equal(other[..., window], base[..., window]) is not reaches
    assert load_tokenizer(folders[name]).decode_context is None  # the noise has no position


def test_older_weight_norm_names_open_too(folders, tmp_path):
    state = load_file(folders["snac"] / "model.safetensors")
    for new, old in (("original0", "weight_g"), ("original1", "weight_v")):
        state = {
            name.replace(f"parametrizations.weight.{new}", old): value
            for name, value in state.items()
        }
    assert "encoder.block.0.weight_g" in state
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({**SPEECH, "model_type": "snac"}))
    assert load_tokenizer(tmp_path).fingerprint == load_tokenizer(folders["snac"]).fingerprint


def test_the_vectors_of_its_codes_are_what_the_decoder_gets(folders):
    codec = load_tokenizer(folders["snac"], "audio")
    vectors = codec.code_vectors()
    assert [tuple(vector.shape) for vector in vectors] == [(32, 16)] * 7
    quantizer = codec.model.quantizer
    levels = [torch.zeros(1, frames, dtype=torch.int64) for frames in (1, 2, 4)]
    with torch.no_grad():
        base = quantizer.decode(levels)
        levels[1][0, 1] = 5  # slot 4, which lasts frames 2 and 3
        change = quantizer.decode(levels) - base
    torch.testing.assert_close(change[0, :, 2], vectors[4][5] - vectors[4][0], atol=1e-5, rtol=0)
    assert not change[0, :, :2].any()


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"vq_strides": [3, 2, 1]}, r"vq_strides \[3, 2, 1\], expected each a multiple"),
        ({"decoder_rates": [3, 3]}, "have other products: sound would change its length"),
        ({"codebook_size": 0}, r"codebook_size is \[0\], expected 1 to 16 sizes"),
        ({"decoder_dim": 10}, "decoder_dim 10 cannot be halved at every stage"),
        ({"encoder_dim": 2**12}, "its config.json is of"),
        ({"encoder_dim": 2**19}, "latent_dim is .*, expected 1 to 16 sizes"),
        ({"attn_window_size": 4}, "attention over 16 channels, expected a multiple of 64"),
        ({"codebook_size": 64}, "size mismatch"),
    ],
)
def test_a_config_that_cannot_be_is_refused(folders, tmp_path, entries, reason):
    save_file(load_file(folders["snac"] / "model.safetensors"), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({**SPEECH, **entries}))
    with pytest.raises(ValueError, match=reason) as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


def test_weights_that_are_missing_or_unknown_are_named(folders, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(SPEECH))
    state = load_file(folders["snac"] / "model.safetensors")
    save_file({**state, "extra.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"the weights hold extra\.weight, which SNAC does not"):
        load_tokenizer(tmp_path)
    del state["decoder.model.5.bias"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"lack 1 tensors of SnacModel, such as decoder\.model\.5"):
        load_tokenizer(tmp_path)
