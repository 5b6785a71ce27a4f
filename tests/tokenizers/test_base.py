"""Saving, loading from a folder or the Hugging Face hub, fingerprints, codes out of range.

What every tokenizer of the library promises is in test_contract.py.
"""

import json
import shutil
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from unified_tokenizers import VQAudioTokenizer, VQImageTokenizer, load_tokenizer
from unified_tokenizers.audio import AudioTokenizerConfig
from unified_tokenizers.base import MediaTokenizer
from unified_tokenizers.checks import check_codes
from unified_tokenizers.image import ImageTokenizerConfig
from unified_tokenizers.quantizers import QuantizerConfig


def image_tokenizer(seed: int = 0, **settings) -> VQImageTokenizer:
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
    return VQImageTokenizer(config).eval()


def audio_tokenizer(seed: int = 0, **settings) -> VQAudioTokenizer:
    torch.manual_seed(seed)
    tokenizer = VQAudioTokenizer(
        AudioTokenizerConfig(
            hop=64, quantizer=QuantizerConfig(levels=(4, 3), depth=2), num_mels=10,
            encoder_width=8, encoder_depth=1, decoder_width=12, decoder_depths=(1, 1), **settings,
        )
    )  # fmt: skip
    tokenizer.fill()
    return tokenizer.eval()


def media(tokenizer: MediaTokenizer) -> torch.Tensor:
    noise = torch.Generator().manual_seed(5)
    if tokenizer.modality == "image":
        return torch.rand(2, 3, 21, 14, generator=noise)
    return torch.rand(2, 1, 333, generator=noise) * 2 - 1


BOTH = pytest.mark.parametrize("tokenizer", [image_tokenizer(), audio_tokenizer()])


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


def test_settings_of_training_alone_leave_the_fingerprint():
    """Their defaults may change with the library; what a tokenizer codes does not."""
    tokenizer = image_tokenizer()
    before, config = tokenizer.fingerprint, tokenizer.config
    trained = replace(config.quantizer, decay=0.9, revive=0.1, commitment=1.0, entropy=0.2)
    tokenizer.config = replace(config, quantizer=trained)
    assert tokenizer.fingerprint == before
    # Where the whole quantizer is the default one, too.
    tokenizer.config = default = ImageTokenizerConfig()
    plain = tokenizer.fingerprint
    tokenizer.config = replace(default, quantizer=replace(default.quantizer, revive=0.1))
    assert tokenizer.fingerprint == plain
    tokenizer.config = replace(config, quantizer=replace(config.quantizer, groups=2))
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
    other = VQImageTokenizer if tokenizer.modality == "audio" else VQAudioTokenizer
    with pytest.raises(ValueError, match=f"is for '{tokenizer.modality}', expected"):
        other.from_pretrained(tmp_path)


def test_what_is_not_a_tokenizer_is_refused_with_the_reason(tmp_path):
    with pytest.raises(ValueError, match=r"no readable config\.json"):
        load_tokenizer(tmp_path)
    config = tmp_path / "config.json"
    for content, reason in (
        ("{", "no readable config.json"),
        ("[]", "holds list, expected an object"),
        ('{"modality": "smell"}', "names modality 'smell', expected 'image', 'audio' or 'video'"),
        ('{"modality": "image", "stems": 3}', "unknown entry stems; expected some of stride"),
        ('{"modality": "audio", "levles": 3}', "unknown entry levles; did you mean"),
        ('{"modality": "image", "quantizer": 7}', "quantizer is 7, expected a mapping of entries"),
        (
            '{"modality": "image", "quantizer": {"levels": 7}}',
            "quantizer.levels is 7, expected a list",
        ),
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


COMMIT = "89abcdef0123456789abcdef0123456789abcdef"


def cache(tmp_path: Path, tokenizer, name: str = "models--org--pixels") -> dict:
    """A tokenizer as huggingface_hub keeps what it fetched; the options to look there only."""
    local = tmp_path / "hub" / name
    tokenizer.save_pretrained(local / "snapshots" / COMMIT)
    (local / "refs").mkdir()
    for branch in ("main", "v2"):
        (local / "refs" / branch).write_text(COMMIT)
    return {"cache_dir": tmp_path / "hub", "local_files_only": True}


@BOTH
def test_a_name_on_the_hub_loads_as_its_folder_does(tokenizer, tmp_path):
    hub = cache(tmp_path, tokenizer)
    for revision in (None, "v2", COMMIT):
        loaded = load_tokenizer("org/pixels", revision=revision, **hub)
        assert type(loaded) is type(tokenizer)
        assert loaded.fingerprint == tokenizer.fingerprint


def test_a_local_folder_wins_and_a_path_is_never_a_name_on_the_hub(tmp_path, monkeypatch):
    hub = cache(tmp_path, image_tokenizer())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="there is no folder org/pixels, expected one, or the"):
        load_tokenizer(Path("org/pixels"), **hub)
    local = image_tokenizer(seed=1)
    local.save_pretrained("org/pixels")
    for folder in ("org/pixels", Path("org/pixels"), str(tmp_path / "org" / "pixels")):
        assert load_tokenizer(folder, **hub).fingerprint == local.fingerprint
    with pytest.raises(ValueError, match="org/pixels is a local folder: it has no revision 'v2'"):
        load_tokenizer("org/pixels", revision="v2", **hub)


def test_a_name_that_is_nowhere_says_what_was_tried_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hub = cache(tmp_path, image_tokenizer())
    for name, revision in (("org/none", None), ("org/pixels", "v3")):
        with pytest.raises(ValueError, match=f"cannot load '{name}'") as caught:
            load_tokenizer(name, revision=revision, **hub)
        message = str(caught.value)
        assert "\n" not in message
        assert f"there is no folder {tmp_path / name}" in message
        assert f"for revision {revision or 'main'!r}" in message
        assert f"`hf download {name} --local-dir FOLDER`" in message
    for name in ("/no/such/folder", "./org/none", "one-word", "org/name/deeper", "~/x"):
        with pytest.raises(ValueError, match=r"there is no folder .*, expected one, or the name"):
            load_tokenizer(name, **hub)


def test_a_checkpoint_without_safetensors_is_refused(tmp_path):
    hub = cache(tmp_path, image_tokenizer())
    snapshot = tmp_path / "hub" / "models--org--pixels" / "snapshots" / COMMIT
    shutil.move(snapshot / "model.safetensors", snapshot / "pytorch_model.bin")
    with pytest.raises(ValueError, match="only safetensors are read, never pickles"):
        load_tokenizer("org/pixels", **hub)
