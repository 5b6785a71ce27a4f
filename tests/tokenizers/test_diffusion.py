"""The diffusion decoder: a drop-in for `decode`, exact in size and the same for every batch."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from unified_tokenizers import load_tokenizer
from unified_tokenizers.base import Codes, MediaTokenizer
from unified_tokenizers.diffusion import DiffusionConfig, DiffusionDecoder
from unified_tokenizers.diffusion_tokenizer import DiffusionTokenizer
from unified_tokenizers.image import ImageTokenizerConfig, VQImageTokenizer
from unified_tokenizers.quantizers import QuantizerConfig

CONFIG = DiffusionConfig(
    codebook_sizes=(20, 20), stride=8, scales=(1, 2), patch=4, widths=(32, 64), code_width=5
)


@pytest.fixture(scope="module")
def tokenizer() -> VQImageTokenizer:
    torch.manual_seed(1)
    quantizer = QuantizerConfig(levels=(5, 4), groups=2)
    config = ImageTokenizerConfig(
        stride=8, quantizer=quantizer, encoder_width=16, encoder_depths=(1,),
        decoder_width=16, decoder_depths=(1, 1, 1),
    )  # fmt: skip
    return VQImageTokenizer(config).eval()


def decoder(config: DiffusionConfig = CONFIG) -> DiffusionDecoder:
    torch.manual_seed(2)
    model = DiffusionDecoder(config).eval()
    with torch.no_grad():  # as if it had been trained: at first it adds nothing
        for layer in model.leave.values():
            layer.weight.normal_(std=0.1)
    return model


def pictures(number: int, height: int, width: int) -> torch.Tensor:
    return torch.rand(number, 3, height, width, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("see_decoded", [True, False])
@pytest.mark.parametrize("scale", [1, 2])
def test_it_takes_the_place_of_decode(tokenizer, scale, see_decoded):
    """Every size, every picture as if alone, the same each time."""
    codec = DiffusionTokenizer(
        tokenizer, decoder(replace(CONFIG, see_decoded=see_decoded)), steps=3, scale=scale
    )
    assert isinstance(codec, MediaTokenizer)
    for height, width in ((5, 3), (17, 41)):
        media = pictures(2, height, width)
        codes = codec.encode(media)
        assert torch.equal(codes.codes, tokenizer.encode(media).codes)
        whole = codec.decode(codes)
        assert whole.shape == (2, 3, scale * height, scale * width)
        assert whole.dtype == torch.float32
        assert float(whole.min()) >= 0
        assert float(whole.max()) <= 1
        assert torch.equal(whole, codec.decode(codes))
        for index in range(2):
            alone = codec.decode(Codes(codes.codes[index : index + 1], codes.size))
            torch.testing.assert_close(alone[0], whole[index], atol=2e-5, rtol=0)
    assert codec.fingerprint == tokenizer.fingerprint
    assert codec.stride == 8
    assert codec.bits_per_pixel == tokenizer.bits_per_pixel


def test_an_untrained_one_that_sees_what_is_decoded_gives_that_in_one_step(tokenizer):
    fresh = DiffusionDecoder(CONFIG).eval()
    codes = tokenizer.encode(pictures(1, 16, 24))
    decoded = DiffusionTokenizer(tokenizer, fresh, steps=1).decode(codes)
    torch.testing.assert_close(decoded, tokenizer.decode(codes), atol=1e-5, rtol=0)


def test_noise_codes_steps_and_seed_all_matter(tokenizer):
    model = decoder()
    codes = tokenizer.encode(pictures(1, 16, 24))
    plain = tokenizer.decode(codes)
    together = model.decode(codes, plain, steps=4)
    assert not torch.equal(together, model.decode(codes, plain, steps=4, seed=1))
    assert not torch.equal(together, model.decode(codes, plain, steps=5))
    other = Codes((codes.codes + 1) % 20, codes.size)
    assert not torch.equal(together, model.decode(other, plain, steps=4))
    assert not torch.equal(together, model.decode(codes, plain.flip(3), steps=4))


def test_training_brings_it_to_the_pictures():
    """From codes alone: two codes stand for two pictures."""
    config = DiffusionConfig((2,), 8, patch=8, widths=(32, 32), code_width=4, see_decoded=False)
    torch.manual_seed(0)
    model = DiffusionDecoder(config)
    wanted = pictures(2, 8, 8)
    codes = torch.arange(2).view(2, 1, 1, 1)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(100):
        batch = torch.arange(32) % 2
        loss = model.loss(wanted[batch], codes[batch], None)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for steps in (1, 6):
        decoded = model.eval().decode(Codes(codes, (8, 8)), None, steps=steps)
        assert (decoded - wanted).square().mean() < 0.5 * (decoded - wanted.flip(0)).square().mean()


def test_saved_and_loaded_it_decodes_the_same(tokenizer, tmp_path):
    codec = DiffusionTokenizer(tokenizer, decoder(), steps=2, scale=2)
    codes = codec.encode(pictures(1, 11, 9))
    codec.save_pretrained(tmp_path)
    again = DiffusionTokenizer.from_pretrained(tmp_path, steps=2, scale=2)
    assert torch.equal(again.decode(codes), codec.decode(codes))
    assert again.decoder.fingerprint == codec.decoder.fingerprint
    # Who opens the folder as before gets the tokenizer's own decoder.
    plain = load_tokenizer(tmp_path)
    assert isinstance(plain, VQImageTokenizer)
    assert torch.equal(plain.decode(codes), tokenizer.decode(codes))
    codec.save_pretrained(tmp_path / "half", torch.bfloat16)
    half = DiffusionTokenizer.from_pretrained(tmp_path / "half", steps=2, scale=2)
    assert 0 < np.abs((half.decode(codes) - codec.decode(codes)).numpy()).max() < 0.2


def test_it_is_found_by_its_name_on_the_hub(tokenizer, tmp_path):
    codec = DiffusionTokenizer(tokenizer, decoder(), steps=2, scale=2)
    commit = "c" * 40
    local = tmp_path / "models--org--pictures"
    codec.save_pretrained(local / "snapshots" / commit / "tokenizer")
    (local / "refs").mkdir()
    (local / "refs" / "main").write_text(commit)
    hub = {"cache_dir": tmp_path, "local_files_only": True}
    again = DiffusionTokenizer.from_pretrained(
        "org/pictures", {**hub, "subfolder": "tokenizer"}, steps=2, scale=2
    )
    codes = codec.encode(pictures(1, 11, 9))
    assert torch.equal(again.decode(codes), codec.decode(codes))
    with pytest.raises(ValueError, match=r"org/pictures has no config\.json"):
        DiffusionTokenizer.from_pretrained("org/pictures", hub)
    tokenizer.save_pretrained(tmp_path / "plain")
    with pytest.raises(ValueError, match=r"plain has no diffusion decoder \(a folder 'diffusion'"):
        DiffusionTokenizer.from_pretrained(tmp_path / "plain")


def test_what_does_not_fit_is_refused(tokenizer, tmp_path):
    model = decoder()
    codes = tokenizer.encode(pictures(1, 16, 16))
    plain = tokenizer.decode(codes)
    with pytest.raises(ValueError, match=r"scale 2: .* was trained for \[1\]"):
        decoder(replace(CONFIG, scales=(1,))).decode(codes, plain, scale=2)
    with pytest.raises(ValueError, match="51 steps, expected 1 to 50"):
        model.decode(codes, plain, steps=51)
    with pytest.raises(ValueError, match="at level 0 is out of range, expected 0 to 19"):
        model.decode(Codes(codes.codes + 20, codes.size), plain)
    with pytest.raises(ValueError, match=r"is for codebooks and stride \(\(7,\), 8\)"):
        DiffusionTokenizer(tokenizer, decoder(replace(CONFIG, codebook_sizes=(7,))))
    with pytest.raises(ValueError, match="scale 1 and 0 steps"):
        DiffusionTokenizer(tokenizer, model, steps=0)
    with pytest.raises(ValueError, match="patch 3 does not divide the stride 8"):
        replace(CONFIG, patch=3)
    with pytest.raises(ValueError, match="two or more multiples of 32"):
        replace(CONFIG, widths=(32, 33))
    with pytest.raises(ValueError, match=r"scales are \[3\]"):
        replace(CONFIG, scales=(3,))
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has no diffusion decoder"):
        DiffusionTokenizer.from_pretrained(tmp_path)
