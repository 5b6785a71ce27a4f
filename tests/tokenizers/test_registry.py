"""Tokenizers of others: by entry point of an installed distribution, or by registering."""

import importlib
import sys
import textwrap

import pytest
import torch

from unified_tokenizers import load_tokenizer, register_tokenizer, registry
from unified_tokenizers.base import ImageTokenizer
from unified_tokenizers.modules import BaseImageTokenizer
from unified_tokenizers.saved import SavedTokenizer

MODULE = """
from dataclasses import dataclass

import torch
from torch import nn

from unified_tokenizers.base import Codes
from unified_tokenizers.modules import BaseImageTokenizer
from unified_tokenizers.saved import SavedTokenizer


@dataclass(frozen=True)
class MeanConfig:
    levels: int = 5
    stride: int = 24


class MeanTokenizer(BaseImageTokenizer, SavedTokenizer):
    '''One code for the brightness of a square.'''

    model_type = "acme_mean"
    config_class = MeanConfig
    presets = {}

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.shades = nn.Parameter(torch.linspace(0, 1, config.levels))

    @property
    def stride(self):
        return self.config.stride

    @property
    def codebook_sizes(self):
        return (self.config.levels,)

    @torch.no_grad()
    def encode(self, media):
        side = self.stride
        pixels = media.float() / 255 if media.dtype == torch.uint8 else media
        means = nn.functional.avg_pool2d(pixels.mean(1, keepdim=True), side)
        codes = (means[..., None] - self.shades).abs().argmin(-1)
        return Codes(codes, tuple(media.shape[2:]))

    @torch.no_grad()
    def decode(self, codes):
        shades = self.shades[codes.codes].repeat_interleave(self.stride, 2)
        return shades.repeat_interleave(self.stride, 3).repeat(1, 3, 1, 1)
"""


def install(folder, name: str, entry: str, module: str = MODULE):
    """A distribution as pip leaves it: a module, METADATA and entry_points.txt."""
    package = name.replace("-", "_")
    (folder / f"{package}.py").write_text(textwrap.dedent(module))
    information = folder / f"{package}-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[unified.tokenizers]\n{entry}\n")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on sys.path; modules that come from it are forgotten afterwards."""
    before = set(sys.modules)
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    yield folder
    for name in set(sys.modules) - before:
        if name.startswith("acme"):
            del sys.modules[name]


@pytest.fixture(autouse=True)
def fresh_registry(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})


def acme(site):
    install(site, "acme-mean", "acme_mean = acme_mean:MeanTokenizer")
    acme_mean = importlib.import_module("acme_mean")
    return acme_mean.MeanTokenizer(acme_mean.MeanConfig())


def test_a_tokenizer_of_an_installed_distribution_opens(site, tmp_path):
    tokenizer = acme(site)
    tokenizer.save_pretrained(tmp_path / "saved")
    again = load_tokenizer(tmp_path / "saved", "image", dtype="bfloat16")
    assert type(again) is type(tokenizer)
    assert isinstance(again, ImageTokenizer)
    assert again.fingerprint == tokenizer.fingerprint
    media = torch.randint(0, 256, (1, 3, 48, 72), generator=torch.Generator().manual_seed(0))
    codes = tokenizer.encode(media.byte())
    assert torch.equal(again.encode(media.byte()).codes, codes.codes)
    assert again.decode(codes).shape == (1, 3, 48, 72)


def test_a_model_saved_with_it_reopens(site, tmp_path):
    from unified.models.model import UnifiedModel
    from unified.vocabulary.text_tokenizer import TextTokenizer

    tokenizer = acme(site)
    decoder = {
        "hidden_size": 20, "intermediate_size": 28, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
        "max_position_embeddings": 260, "tie_word_embeddings": True,
    }  # fmt: skip
    text = TextTokenizer.train(["a shade and a shade"], 270)
    model = UnifiedModel.create(decoder, text_tokenizer=text, image_tokenizer=tokenizer)
    model.save_pretrained(tmp_path / "model")
    again = UnifiedModel.from_pretrained(tmp_path / "model")
    assert type(again.image_tokenizer) is type(tokenizer)
    assert again.image_tokenizer.fingerprint == tokenizer.fingerprint
    (picture,) = again.draw("a shade", seed=1)
    assert picture.shape[0] % 24 == picture.shape[1] % 24 == 0
    assert len({tuple(square) for square in picture[::24, ::24].reshape(-1, 3).tolist()}) <= 5


def test_a_name_that_nobody_registered_says_which_entry_point_is_missing(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "acme_mean", "modality": "image"}')
    with pytest.raises(ValueError, match="names model_type 'acme_mean', expected one of") as caught:
        load_tokenizer(tmp_path)
    line = str(caught.value)
    assert "install the package with the entry point 'acme_mean' in the group" in line
    assert "'unified.tokenizers'" in line
    assert "\n" not in line


def test_two_distributions_with_one_name_are_refused(site, tmp_path):
    acme(site).save_pretrained(tmp_path / "saved")
    install(site, "acme-other", "acme_mean = acme_other:Other", "Other = 1")
    with pytest.raises(ValueError, match="2 installed packages have an entry point 'acme_mean'"):
        load_tokenizer(tmp_path / "saved")


def test_a_distribution_that_cannot_be_imported_is_one_line(site, tmp_path):
    install(site, "acme-broken", "acme_broken = acme_broken:Gone", "import nowhere_at_all")
    (tmp_path / "config.json").write_text('{"model_type": "acme_broken"}')
    with pytest.raises(ValueError, match=r"cannot import .* of entry point 'acme_broken': Module"):
        load_tokenizer(tmp_path)


class Shade(BaseImageTokenizer, SavedTokenizer):
    model_type = "shade"

    codebook_sizes = (2,)
    stride = 4
    fingerprint = "0" * 16

    @classmethod
    def from_pretrained(cls, folder):
        return cls()

    def encode(self, media):
        raise NotImplementedError

    def decode(self, codes):
        raise NotImplementedError


def test_a_registered_class_opens_and_a_name_belongs_to_one(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "shade"}')
    register_tokenizer("shade", Shade)
    register_tokenizer("shade", Shade)
    assert type(load_tokenizer(tmp_path)) is Shade
    with pytest.raises(ValueError, match="'shade' is registered already, by Shade"):
        register_tokenizer("shade", type("Other", (Shade,), {}))
    for name in ("encodec", "apertus1p5"):
        with pytest.raises(ValueError, match=f"'{name}' belongs to an adapter of this library"):
            register_tokenizer(name, Shade)
    with pytest.raises(ValueError, match="model_type is '', expected a name"):
        register_tokenizer("", Shade)
    with pytest.raises(ValueError, match="has no from_pretrained"):
        register_tokenizer("none", object)


def test_what_a_tokenizer_lacks_is_named(tmp_path):
    class Half:
        modality = "audio"
        codebook_sizes = (2,)
        sample_rate = 8000

        @classmethod
        def from_pretrained(cls, folder):
            return cls()

    register_tokenizer("half", Half)
    (tmp_path / "config.json").write_text('{"model_type": "half"}')
    with pytest.raises(ValueError, match=r"lacks .*decode, .*hop, .* of base\.AudioTokenizer"):
        load_tokenizer(tmp_path)
    Half.modality = ""
    with pytest.raises(ValueError, match="has modality '', expected 'image', 'audio', or another"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_of_another_modality_than_asked_for_is_refused(tmp_path):
    register_tokenizer("shade", Shade)
    (tmp_path / "config.json").write_text('{"model_type": "shade"}')
    with pytest.raises(ValueError, match="is for image, expected one for audio"):
        load_tokenizer(tmp_path, "audio")


def test_a_device_or_dtype_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"decodes in float32, bfloat16, float16, not in torch\.i"):
        Shade().to(dtype=torch.int64)
    with pytest.raises(ValueError, match="cannot move a tokenizer to nowhere"):
        Shade().to("nowhere")
