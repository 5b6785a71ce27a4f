"""Every kind of encoder and decoder: the promises of the contract, contexts, and presets."""

import pytest
import torch

from unified_base.meta_device import on_meta_device
from unified_tokenizers import image, tokenizer_configs
from unified_tokenizers.base import Codes
from unified_tokenizers.image import ImageTokenizerConfig, VQImageTokenizer
from unified_tokenizers.image_parts import Transformer
from unified_tokenizers.presets import IMAGE_PRESETS
from unified_tokenizers.quantizers import QuantizerConfig

ENCODERS = {
    "patch": {"encoder": "patch", "encoder_width": 8, "encoder_depths": (1,)},
    "conv": {"encoder": "conv", "encoder_width": 16, "encoder_depths": (1, 2, 1)},
    "vit": {"encoder": "vit", "encoder_width": 32, "encoder_depths": (2,)},
}
DECODERS = {
    "conv": {"decoder": "conv", "decoder_width": 16, "decoder_depths": (1, 1, 1)},
    "vit": {"decoder": "vit", "decoder_width": 32, "decoder_depths": (2,)},
}
KINDS = [("patch", "conv"), ("conv", "conv"), ("vit", "vit"), ("conv", "vit")]
EVERY = pytest.mark.parametrize("kinds", KINDS, ids="-".join)


def tokenizer(kinds: tuple[str, str]) -> VQImageTokenizer:
    torch.manual_seed(5)
    shape = {**ENCODERS[kinds[0]], **DECODERS[kinds[1]]}
    quantizer = QuantizerConfig(levels=(5, 4, 3))
    created = VQImageTokenizer(ImageTokenizerConfig(stride=8, quantizer=quantizer, **shape))
    with torch.no_grad():
        created.to_quantizer[1].weight.mul_(3)
    return created.eval()


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


@EVERY
def test_sizes_come_back_and_a_batch_is_each_alone(kinds):
    created = tokenizer(kinds)
    for size in ((24, 40), (37, 21), (1, 9), (5, 3)):
        media = noise(3, 3, *size)
        codes = created.encode(media)
        assert codes.codes.shape == (3, 1, -(-size[0] // 8), -(-size[1] // 8))
        restored = created.decode(codes)
        assert restored.shape == media.shape
        for row in range(3):
            alone = created.encode(media[row : row + 1])
            assert torch.equal(alone.codes[0], codes.codes[row])
            torch.testing.assert_close(created.decode(alone)[0], restored[row], atol=1e-5, rtol=0)
    assert len(created.encode(noise(2, 3, 64, 64)).codes.unique()) > 10


@EVERY
def test_bfloat16_around_it_changes_no_code(kinds):
    created, media = tokenizer(kinds), noise(2, 3, 40, 24)
    with torch.autocast("cpu", torch.bfloat16):
        inside = created.encode(media).codes
    assert torch.equal(inside, created.encode(media).codes)


@EVERY
def test_gradients_reach_every_part(kinds):
    created, media = tokenizer(kinds), noise(2, 3, 16, 24)
    values, codes, _ = created.quantize(created.features(media))
    (created.pictures(values, codes) - media).square().mean().backward()
    for name, parameter in created.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert created.last_weight.grad is not None


@EVERY
def test_saved_and_loaded_it_gives_the_same(kinds, tmp_path):
    created, media = tokenizer(kinds), noise(1, 3, 17, 30)
    created.save_pretrained(tmp_path)
    again = VQImageTokenizer.from_pretrained(tmp_path)
    assert again.config == created.config
    assert again.fingerprint == created.fingerprint
    assert torch.equal(again.encode(media).codes, created.encode(media).codes)


@EVERY
def test_contexts_are_as_far_as_anything_reaches(kinds):
    created, media = tokenizer(kinds), noise(1, 3, 15 * 8, 16)
    changed = media.clone()
    changed[:, :, 56:64] = 1 - changed[:, :, 56:64]  # the codes of row 7
    moved = (created.features(media) - created.features(changed)).abs().amax((0, 2, 3)) > 0
    context = created.encode_context
    if context is None:
        assert moved.all()
    else:
        assert not moved[: 7 - context].any()
        assert not moved[8 + context :].any()
        assert moved.sum() >= 2 * context  # it reaches all but the last row, or that too
    codes = created.encode(media).codes
    other = codes.clone()
    other[:, :, 7] = (other[:, :, 7] + 11) % 60
    size = (15 * 8, 16)
    seen = (created.decode(Codes(codes, size)) - created.decode(Codes(other, size))).abs()
    rows = seen.amax((0, 1, 3)).view(15, 8).amax(1) > 0
    context = created.decode_context
    if context is None:
        assert rows.all()
    else:
        assert not rows[: 7 - context].any()
        assert not rows[8 + context :].any()


@pytest.mark.parametrize("kinds", [("conv", "conv"), ("vit", "conv")], ids="-".join)
def test_bands_of_a_large_picture_see_what_lies_around_them(kinds, monkeypatch):
    created, media = tokenizer(kinds), noise(1, 3, 23 * 8, 24)
    whole = created.encode(media)
    restored = created.decode(whole)
    monkeypatch.setattr(tokenizer_configs, "_BAND_PIXELS", 5 * 24 * 8)
    assert torch.equal(created.encode(media).codes, whole.codes)
    torch.testing.assert_close(created.decode(whole), restored, atol=1e-5, rtol=0)


def test_a_transformer_tells_places_apart_and_takes_any_grid():
    torch.manual_seed(0)
    blocks = Transformer(32, 1)
    grid = torch.randn(1, 1, 1, 32).expand(1, 3, 5, 32).clone()
    grid[0, 1, 2] = torch.randn(32)
    created = blocks(grid).detach()[0]
    # Seen from the odd one out, left and right, above and below are not the same.
    assert not torch.allclose(created[1, 1], created[1, 3], atol=1e-5)
    assert not torch.allclose(created[0, 2], created[2, 2], atol=1e-5)
    assert not torch.allclose(created[0, 2], created[1, 1], atol=1e-5)
    with pytest.raises(ValueError, match="width 40 is not made of heads of 32"):
        Transformer(40, 1)


@pytest.mark.parametrize("name", list(IMAGE_PRESETS))
def test_presets_are_shapes_that_can_be(name):
    config = VQImageTokenizer.parse_config({"preset": name, "stride": 16, "decoder_width": 64})
    assert (config.stride, config.decoder_width) == (16, 64)
    assert config.encoder_width == IMAGE_PRESETS[name]["encoder_width"]
    with on_meta_device():
        parts = image._encoder(config), image._decoder(config)
    assert all(sum(p.numel() for p in part.parameters()) > 0 for part in parts)
