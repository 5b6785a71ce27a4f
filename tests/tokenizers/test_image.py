"""The image tokenizer: exact sizes, codes that depend on their surroundings only, errors."""

import pytest
import torch
from einops import rearrange

from unified_tokenizers import tokenizer_configs
from unified_tokenizers.base import Codes
from unified_tokenizers.image import ImageTokenizerConfig, VQImageTokenizer
from unified_tokenizers.quantizers import QuantizerConfig


@pytest.fixture(scope="module")
def tokenizer() -> VQImageTokenizer:
    torch.manual_seed(1)
    tokenizer = VQImageTokenizer(
        ImageTokenizerConfig(
            stride=8, quantizer=QuantizerConfig(levels=(5, 4, 3)), encoder_width=10,
            decoder_width=16, encoder_depths=(1,), decoder_depths=(1, 1, 1),
        )
    )  # fmt: skip
    # Fresh weights give nearly one code for everything; spread the features over the levels.
    with torch.no_grad():
        tokenizer.to_quantizer[1].weight.mul_(3)
    return tokenizer.eval()


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_figures_follow_from_the_configuration(tokenizer):
    assert tokenizer.stride == 8
    assert tokenizer.codebook_sizes == (60,)
    assert tokenizer.bits_per_pixel == pytest.approx(5.906891 / 64)


def test_bytes_and_fractions_of_one_picture_have_the_same_codes(tokenizer):
    pixels = (noise(1, 3, 16, 24) * 255).to(torch.uint8)
    codes = tokenizer.encode(pixels).codes
    for same in (pixels.float() / 255, pixels.double() / 255):
        assert torch.equal(tokenizer.encode(same).codes, codes)


def test_decoding_codes_is_the_reconstruction_that_training_saw(tokenizer):
    pictures = noise(2, 3, 24, 16)
    values, codes, _ = tokenizer.quantize(tokenizer.features(pictures))
    trained = tokenizer.pictures(values, codes).clamp(0, 1)
    coded = tokenizer.encode(pictures)
    assert torch.equal(coded.codes, codes)
    torch.testing.assert_close(tokenizer.decode(coded), trained, atol=1e-5, rtol=0)


def test_the_straight_through_gradient_reaches_every_part(tokenizer):
    values, codes, _ = tokenizer.quantize(tokenizer.features(noise(2, 3, 16, 24)))
    loss = (tokenizer.pictures(values, codes) - noise(2, 3, 16, 24, seed=1)).square().mean()
    loss.backward()
    for name, parameter in tokenizer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    tokenizer.zero_grad(set_to_none=True)


def test_the_encoder_learns_through_the_quantizer_alone(tokenizer):
    features = tokenizer.features(noise(1, 3, 8, 16)).detach().requires_grad_()
    tokenizer.quantize(features).values.sum().backward()
    assert (features.grad != 0).all()


@pytest.mark.parametrize("shape", [
    {"kind": "vq", "codes": 12, "dim": 4, "depth": 2}, {"kind": "bsq", "codes": 16, "groups": 3},
])  # fmt: skip
def test_pictures_in_several_codebooks(shape):
    torch.manual_seed(2)
    created = VQImageTokenizer(
        ImageTokenizerConfig(
            stride=4, quantizer=QuantizerConfig(**shape), encoder_width=8, decoder_width=8,
            encoder_depths=(1,), decoder_depths=(1, 0, 0),
        )
    )  # fmt: skip
    created.quantize(
        created.features(noise(2, 3, 32, 32))
    )  # in training mode: a codebook finds a place
    created.eval()
    pictures = noise(2, 3, 13, 18)
    codes = created.encode(pictures)
    assert codes.codes.shape == (2, len(created.codebook_sizes), 4, 5)
    assert all(len(level.unique()) > 1 for level in codes.codes.unbind(1))
    values, trained, _ = created.quantize(created.features(pictures[..., :12, :16]))
    assert torch.equal(trained, codes.codes[:, :, :3, :4])
    again = created.decode(codes)
    assert again.shape == (2, 3, 13, 18)
    inner = created.pictures(values, trained).clamp(0, 1)
    assert inner.shape == (2, 3, 12, 16)
    alone = created.encode(pictures[1:])
    assert torch.equal(alone.codes[0], codes.codes[1])
    with pytest.raises(ValueError, match=r"expected \(B, \d, H, W\)"):
        created.decode(Codes(codes.codes[:, :1], codes.size))


def test_a_large_picture_in_bands_is_the_whole(tokenizer, monkeypatch):
    media = noise(2, 3, 8 * 29 - 3, 45)
    whole = tokenizer.encode(media)
    restored = tokenizer.decode(whole)
    for rows in (1, 4, 11):
        monkeypatch.setattr(tokenizer_configs, "_BAND_PIXELS", rows * 48 * 8)
        assert len(list(tokenizer.config.bands(29, 6, 2))) == -(-29 // rows)
        codes = tokenizer.encode(media)
        assert torch.equal(codes.codes, whole.codes)
        torch.testing.assert_close(tokenizer.decode(codes), restored, atol=1e-5, rtol=0)
    # One row of context less and it is not.
    monkeypatch.setattr(
        VQImageTokenizer, "decode_context", tokenizer.decode_context - 1, raising=True
    )
    assert (tokenizer.decode(whole) - restored).abs().max() > 1e-6


def test_a_change_is_seen_by_its_own_code_only(tokenizer):
    picture = noise(1, 3, 72, 56)
    before = tokenizer.features(picture)
    changed = picture.clone()
    changed[:, :, 32:40, 24:32] = noise(1, 3, 8, 8, seed=9)  # the square of code (4, 3)
    moved = (tokenizer.features(changed) - before).abs().sum(-1)[0] > 0
    assert moved.nonzero().tolist() == [[4, 3]]


def test_the_same_thing_a_stride_further_has_the_same_codes_a_place_further(tokenizer):
    thing = noise(3, 16, 16, seed=3)

    def codes(y: int, x: int) -> torch.Tensor:
        picture = torch.full((1, 3, 72, 72), 0.7)
        picture[0, :, y : y + 16, x : x + 16] = thing
        return tokenizer.encode(picture).codes[0, 0]

    here, there = codes(16, 24), codes(32, 40)
    assert torch.equal(here[2:4, 3:5], there[4:6, 5:7])
    assert len(here[2:4, 3:5].unique()) > 1
    ground = here[0, 0]
    assert (here == ground).sum() >= 81 - 4
    assert not torch.equal(here, there)


def test_every_code_can_be_chosen_and_decodes_to_what_chose_it(tokenizer):
    steps = [torch.linspace(-4, 4, 201)] * 3
    features = torch.cartesian_prod(*(step[::5] for step in steps))[None, None]
    values, codes, _ = tokenizer.quantize(features)
    assert codes.unique().tolist() == list(range(60))
    book = tokenizer.quantizer.values_of(torch.arange(60)[None, :, None])[0]
    torch.testing.assert_close(book[codes[:, 0]], values)
    assert len(book.unique(dim=0)) == 60


def test_every_code_has_a_row_of_its_own_in_the_decoder(tokenizer):
    grid = rearrange(torch.arange(60), "(h w) -> 1 1 h w", h=6)
    values = tokenizer.quantizer.values_of(torch.arange(60)[None, :, None])
    tokenizer.pictures(rearrange(values, "b (h w) d -> b h w d", h=6), grid).sum().backward()
    assert (tokenizer.code_rows.weight.grad.abs().sum(1) > 0).all()
    tokenizer.zero_grad(set_to_none=True)
    assert len(tokenizer.code_rows.weight.unique(dim=0)) == 60
