"""The contract of media tokenizers: saving, loading, fingerprints, codes out of range."""

import json
from dataclasses import dataclass, fields

import pytest
import torch
from safetensors.torch import load_file

from unified_tokenizers import AudioTokenizer, Codes, ImageTokenizer, load_tokenizer
from unified_tokenizers.audio import AudioTokenizerConfig
from unified_tokenizers.base import MediaTokenizer, check_codes
from unified_tokenizers.image import ImageTokenizerConfig
from unified_tokenizers.quantizers import QuantizerConfig


def image_tokenizer(seed: int = 0, **settings) -> ImageTokenizer:
    torch.manual_seed(seed)
    shape = {
        "stride": 4,
        "quantizer": QuantizerConfig(levels=(4, 5, 3)),
        "encoder_width": 8,
        "decoder_width": 12,
    }
    config = ImageTokenizerConfig(
        **{**shape, "encoder_depths": (1,), "decoder_depths": (1, 1, 1), **settings}
    )
    return ImageTokenizer(config).eval()


def audio_tokenizer(seed: int = 0) -> AudioTokenizer:
    torch.manual_seed(seed)
    tokenizer = AudioTokenizer(
        AudioTokenizerConfig(
            hop=64, quantizer=QuantizerConfig(levels=(4, 3), depth=2), num_mels=10,
            encoder_width=8, encoder_depth=1, decoder_width=12, decoder_depths=(1, 1),
        )
    )  # fmt: skip
    tokenizer.front.fill()
    return tokenizer.eval()


def media(tokenizer: MediaTokenizer) -> torch.Tensor:
    noise = torch.Generator().manual_seed(5)
    if tokenizer.modality == "image":
        return torch.rand(2, 3, 21, 14, generator=noise)
    return torch.rand(2, 1, 333, generator=noise) * 2 - 1


BOTH = pytest.mark.parametrize("tokenizer", [image_tokenizer(), audio_tokenizer()])


@BOTH
def test_ours_satisfy_the_contract(tokenizer):
    assert isinstance(tokenizer, MediaTokenizer)
    codes = tokenizer.encode(media(tokenizer))
    assert codes.codes.dtype == torch.int64
    assert codes.codes.shape[:2] == (2, len(tokenizer.codebook_sizes))
    check_codes(codes.codes, tokenizer.codebook_sizes, codes.codes.ndim - 2, "its own")


@BOTH
def test_saved_and_loaded_gives_the_same_codes_media_and_fingerprint(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert type(loaded) is type(tokenizer)
    assert not loaded.training
    assert loaded.config == tokenizer.config
    assert loaded.fingerprint == tokenizer.fingerprint
    codes, again = tokenizer.encode(media(tokenizer)), loaded.encode(media(tokenizer))
    assert torch.equal(codes.codes, again.codes)
    assert torch.equal(tokenizer.decode(codes), loaded.decode(again))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["config.json", "model.safetensors"]


@BOTH
def test_weights_stored_in_bfloat16_load_as_float32_and_store_again_unchanged(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "first", torch.bfloat16)
    stored = load_file(tmp_path / "first" / "model.safetensors")
    assert {v.dtype for v in stored.values() if v.is_floating_point()} == {torch.bfloat16}
    loaded = load_tokenizer(tmp_path / "first")
    assert {v.dtype for v in loaded.parameters()} == {torch.float32}
    assert loaded.fingerprint != tokenizer.fingerprint
    loaded.save_pretrained(tmp_path / "second", torch.bfloat16)
    assert load_tokenizer(tmp_path / "second").fingerprint == loaded.fingerprint
    codes = loaded.encode(media(tokenizer))
    assert torch.isfinite(loaded.decode(codes)).all()


def test_the_fingerprint_is_of_what_is_set_and_not_of_what_could_be():
    """A setting added to the library later, left at its default, changes no fingerprint."""

    @dataclass(frozen=True)
    class Later(ImageTokenizerConfig):
        added: int = 3

    tokenizer = image_tokenizer()
    before = tokenizer.fingerprint
    settings = {f.name: getattr(tokenizer.config, f.name) for f in fields(tokenizer.config)}
    tokenizer.config = Later(**settings)
    assert tokenizer.fingerprint == before
    tokenizer.config = Later(**settings, added=4)
    assert tokenizer.fingerprint != before


def test_the_fingerprint_changes_with_any_weight_and_any_setting():
    tokenizer = image_tokenizer()
    before = tokenizer.fingerprint
    assert len(before) == 16
    assert image_tokenizer(seed=1).fingerprint != before
    assert image_tokenizer(decoder_depths=(1, 1, 0)).fingerprint != before
    with torch.no_grad():
        tokenizer.code_rows.weight[-1, -1] += 1e-6
    assert tokenizer.fingerprint != before


@BOTH
def test_loading_as_the_other_modality_is_refused(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    other = ImageTokenizer if tokenizer.modality == "audio" else AudioTokenizer
    with pytest.raises(ValueError, match=f"is for '{tokenizer.modality}', expected"):
        other.from_pretrained(tmp_path)


def test_what_is_not_a_tokenizer_is_refused_with_the_reason(tmp_path):
    with pytest.raises(ValueError, match=r"no readable config\.json"):
        load_tokenizer(tmp_path)
    config = tmp_path / "config.json"
    for content, reason in (
        ("{", "no readable config.json"),
        ("[]", "expected a JSON object"),
        ('{"modality": "smell"}', "names modality 'smell', expected 'image' or 'audio'"),
        ('{"modality": "image", "stems": 3}', r"unknown image tokenizer settings \['stems'\]"),
        ('{"modality": "audio", "levles": 3}', r"unknown audio tokenizer settings \['levles'\]"),
        ('{"modality": "image", "quantizer": 7}', "quantizer settings are 7, expected some of"),
        ('{"modality": "image", "quantizer": {"levels": 7}}', "holds a wrong value"),
        ('{"modality": "image", "stride": 10}', "at stride 10: a convolutional part has"),
        ('{"modality": "image", "decoder_depths": [3]}', r"depths \(3,\) at stride 12"),
        ('{"modality": "image", "encoder_depths": [3, 1]}', r"kind 'patch' has one"),
        ('{"modality": "image", "encoder": "cnn"}', "encoder 'cnn', expected 'patch', 'conv' or"),
        ('{"modality": "image", "preset": "huge"}', "preset 'huge', expected one of conv-small"),
        ('{"modality": "audio", "hop": 630}', "hop 630 is not a multiple of 4"),
    ):
        config.write_text(content)
        with pytest.raises(ValueError, match=reason):
            load_tokenizer(tmp_path)


def test_torn_missing_or_foreign_weights_are_refused(tmp_path):
    image_tokenizer().save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    for damaged in (whole[:-100], b"", b"PK\x03\x04 not safetensors"):
        weights.write_bytes(damaged)
        with pytest.raises(ValueError, match="cannot read the weights"):
            load_tokenizer(tmp_path)
    weights.unlink()
    with pytest.raises(ValueError, match="cannot read the weights"):
        load_tokenizer(tmp_path)
    weights.write_bytes(whole)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "decoder_width": 16}))
    with pytest.raises(ValueError, match=r"do not fit its config\.json"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("codes", "reason"),
    [
        (torch.zeros(1, 2, 3, 4), "dtype torch.float32, expected torch.int64"),
        (torch.zeros(1, 2, 3, 4, dtype=torch.int32), "dtype torch.int32, expected torch.int64"),
        (
            torch.zeros(1, 1, 3, 4, dtype=torch.int64),
            r"shape \(1, 1, 3, 4\), expected \(B, 2, H, W",
        ),
        (torch.zeros(1, 2, 3, dtype=torch.int64), r"shape \(1, 2, 3\), expected \(B, 2, H, W\)"),
        (torch.zeros(1, 2, 0, 4, dtype=torch.int64), "with no empty axis"),
        (torch.tensor([[[[6]], [[0]]]]), "code 6 at level 0 is out of range, expected 0 to 5"),
        (torch.tensor([[[[5]], [[9]]]]), "code 9 at level 1 is out of range, expected 0 to 8"),
        (torch.tensor([[[[0]], [[-1]]]]), "code -1 at level 1 is out of range"),
    ],
)
def test_codes_that_no_encoder_could_have_made_are_refused(codes, reason):
    with pytest.raises(ValueError, match=reason):
        check_codes(codes, (6, 9), 2, "image")


def test_the_largest_codes_of_every_level_are_in_range():
    check_codes(torch.tensor([[[5, 0], [8, 0]]]), (6, 9), 1, "audio")
    with pytest.raises(ValueError, match=r"expected \(B, 2, T\)"):
        check_codes(torch.zeros(1, 3, 4, dtype=torch.int64), (6, 9), 1, "audio")


@BOTH
def test_decode_refuses_codes_out_of_range(tokenizer):
    codes = tokenizer.encode(media(tokenizer))
    bad = codes.codes.clone()
    bad[1, -1].view(-1)[0] = tokenizer.codebook_sizes[-1]
    with pytest.raises(ValueError, match="is out of range, expected 0 to"):
        tokenizer.decode(Codes(bad, codes.size))
