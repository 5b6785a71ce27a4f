"""The contract, for every tokenizer of the library: ours, and the adapters around others' codecs.

What one has of its own is tested in its own file; that of the shared checks is in test_base.py.
"""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.nn import functional as F

from unified_tokenizers import load_tokenizer
from unified_tokenizers.base import AudioTokenizer, Codes, ImageTokenizer, MediaTokenizer
from unified_tokenizers.checks import check_codes


def _beside(name: str) -> ModuleType:
    """A test file beside this one, for the tiny models that it makes."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ours, images, sounds = map(_beside, ("test_base", "test_adapters_image", "test_adapters_audio"))
apertus, snac = map(_beside, ("test_adapters_apertus", "test_snac"))
semantic, glm = map(_beside, ("test_adapters_semantic", "test_adapters_glm"))

VIT = {"encoder": "vit", "decoder": "vit", "encoder_width": 32, "decoder_width": 32}
OURS = {
    "patch": lambda: ours.image_tokenizer(),
    "conv": lambda: ours.image_tokenizer(encoder="conv", encoder_depths=(1, 1, 1)),
    "vit": lambda: ours.image_tokenizer(**VIT, encoder_depths=(1,), decoder_depths=(1,)),
    "audio": lambda: ours.audio_tokenizer(),
    "audio conv": lambda: ours.audio_tokenizer(encoder="conv"),
}
# Each has its tiny models in MAKERS, and `save(name, folder)`.
ADAPTERS = (apertus, snac, semantic, glm)
TABLE = [
    *OURS,
    *images.CONFIGS,
    *sounds.MAKERS,
    *(name for file in ADAPTERS for name in file.MAKERS),
]


def save(name: str, folder: Path) -> Path:
    """Random weights whose codes differ from place to place."""
    if name in sounds.MAKERS:
        return sounds.save(sounds.MAKERS[name](), folder)
    for file in ADAPTERS:
        if name in file.MAKERS:
            return file.save(name, folder)
    if name in OURS:
        tokenizer = OURS[name]()
        with torch.no_grad():
            tokenizer.to_quantizer[1].weight.mul_(5)
    else:
        tokenizer = load_tokenizer(images.save(images.fresh(name), folder))
        images.spread_codebook(tokenizer)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Every tokenizer of the table, saved and loaded when a test first asks for it."""
    root, opened = tmp_path_factory.mktemp("tokenizers"), {}

    def load(name: str):
        if name not in opened:
            opened[name] = load_tokenizer(save(name, root / name))
        return opened[name]

    return load


@pytest.fixture(params=TABLE)
def tokenizer(request, loaded):
    return loaded(request.param)


def unit(tokenizer) -> int:
    """Pixels of a side, or samples, to a code."""
    return tokenizer.stride if tokenizer.modality == "image" else tokenizer.hop


def whole(tokenizer) -> tuple[int, ...]:
    """A size of whole codes that every tokenizer takes."""
    return (16, 16) if tokenizer.modality == "image" else (12 * tokenizer.hop,)


def media(tokenizer, batch: int, size: tuple[int, ...]) -> torch.Tensor:
    if tokenizer.modality == "image":
        return images.pictures(batch, *size).float() / 255
    return sounds.sound(batch, *size)


def can_decode(tokenizer, codes: Codes) -> bool:
    """Whether it decodes; what can only encode refuses, with its reason."""
    if tokenizer.cannot_decode is None:
        return True
    with pytest.raises(ValueError, match=re.escape(tokenizer.cannot_decode)):
        tokenizer.decode(codes)
    return False


def test_it_has_what_the_library_asks_for(tokenizer):
    assert isinstance(tokenizer, MediaTokenizer)
    protocol = ImageTokenizer if tokenizer.modality == "image" else AudioTokenizer
    assert isinstance(tokenizer, protocol)
    assert not tokenizer.training
    codes = tokenizer.encode(media(tokenizer, 2, whole(tokenizer))).codes
    check_codes(codes, tokenizer.codebook_sizes, 2 if tokenizer.modality == "image" else 1, "its")
    assert len(codes.unique()) > 3


@pytest.mark.parametrize(
    ("size", "hops"),
    [((16, 16), 12), ((1, 1), 0), ((3, 2), 0.9), ((5, 18), 5.1), ((13, 7), 1), ((16, 21), 6.9)],
)
def test_every_size_comes_back_exactly(tokenizer, size, hops):
    if tokenizer.modality == "audio":
        size = (max(1, int(hops * tokenizer.hop)),)
    original = media(tokenizer, 2, size)
    if type(tokenizer).__name__ == "JanusAdapter" and size != (16, 16):
        with pytest.raises(ValueError, match=f"{size[0]} x {size[1]} pixels.*expected 16 x 16"):
            tokenizer.encode(original)
        return
    codes = tokenizer.encode(original)
    grid = tuple(-(-side // unit(tokenizer)) for side in size)
    assert codes.size == size
    assert codes.codes.dtype == torch.int64
    assert codes.codes.shape == (2, len(tokenizer.codebook_sizes), *grid)
    # Pictures are completed with their last row and column, sound with silence.
    short = [places * unit(tokenizer) - side for places, side in zip(grid, size, strict=True)]
    pad = [amount for side in reversed(short) for amount in (0, side)]
    mode = "replicate" if tokenizer.modality == "image" else "constant"
    completed = tokenizer.encode(F.pad(original, pad, mode))
    own_way = not getattr(tokenizer, "completes_frames", True)  # of the model, or its processor
    assert own_way or torch.equal(completed.codes, codes.codes)
    if not can_decode(tokenizer, codes):
        return
    decoded = tokenizer.decode(codes)
    assert decoded.shape == original.shape
    assert decoded.dtype == torch.float32
    assert decoded.min() >= (0 if tokenizer.modality == "image" else -1)
    assert decoded.max() <= 1
    assert torch.equal(tokenizer.decode(codes), decoded)
    cut = tokenizer.decode(completed)[(..., *(slice(side) for side in size))]
    assert own_way or torch.equal(cut, decoded)


def test_a_batch_gives_what_each_gives_alone(tokenizer):
    together = media(tokenizer, 3, whole(tokenizer))
    codes = tokenizer.encode(together)
    alone = [tokenizer.encode(row[None]) for row in together]
    assert torch.equal(torch.cat([row.codes for row in alone]), codes.codes)
    if not can_decode(tokenizer, codes):
        return
    for row, decoded in zip(alone, tokenizer.decode(codes), strict=True):
        torch.testing.assert_close(tokenizer.decode(row)[0], decoded, atol=5e-4, rtol=0)


def test_autocast_around_encode_changes_no_code(tokenizer):
    original = media(tokenizer, 2, whole(tokenizer))
    with torch.autocast("cpu", torch.bfloat16):
        inside = tokenizer.encode(original).codes
    assert torch.equal(inside, tokenizer.encode(original).codes)


def test_dtype_is_of_decoding_alone(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    exact = load_tokenizer(tmp_path)
    half = load_tokenizer(tmp_path, device="cpu", dtype="bfloat16")
    assert half.device == torch.device("cpu")
    original = media(tokenizer, 2, whole(tokenizer))
    codes = half.encode(original)
    assert torch.equal(codes.codes, exact.encode(original).codes)
    assert half.fingerprint == exact.fingerprint
    if not can_decode(half, codes):
        return
    decoded, wanted = half.decode(codes), exact.decode(codes)
    assert decoded.dtype == torch.float32
    assert not torch.equal(decoded, wanted)
    assert (decoded - wanted).abs().mean() < 0.05
    assert torch.equal(half.to(torch.float32).decode(codes), wanted)


def test_saved_and_loaded_it_is_the_same_and_one_weight_makes_another(tokenizer, tmp_path):
    before = tokenizer.fingerprint
    assert len(before) == 16
    tokenizer.save_pretrained(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    again = load_tokenizer(tmp_path)
    assert type(again) is type(tokenizer)
    assert not again.training
    assert again.fingerprint == before
    original = media(tokenizer, 2, whole(tokenizer))
    codes = tokenizer.encode(original)
    assert torch.equal(again.encode(original).codes, codes.codes)
    if can_decode(again, codes):
        assert torch.equal(again.decode(codes), tokenizer.decode(codes))
    with torch.no_grad():
        list(again.parameters())[-1].view(-1)[0] += 1e-3
    assert again.fingerprint != before


def test_bad_media_are_refused(tokenizer):
    good = media(tokenizer, 1, whole(tokenizer))
    name = "pictures" if tokenizer.modality == "image" else "waveforms"
    cases = [
        (good[0], f"{name} have shape .*, expected"),
        (good.repeat(1, 2, *[1] * (good.ndim - 2)), f"{name} have shape .*, expected"),
        (good[:0], "not empty"),
        (good[..., :0], "not empty"),
        (good.long(), f"{name} have dtype torch.int64, expected .*floating point"),
    ]
    for value in ("nan", "inf", "-inf"):
        bad = good.clone()
        bad.view(-1)[7] = float(value)
        cases.append((bad, "not finite"))
    if tokenizer.modality == "image":
        cases.append((good + 1, r"pixels range from .*, expected \[0, 1\]"))
    for bad, reason in cases:
        with pytest.raises(ValueError, match=reason):
            tokenizer.encode(bad)


def test_codes_that_it_could_not_have_made_are_refused(tokenizer):
    size = whole(tokenizer)
    good = tokenizer.encode(media(tokenizer, 2, size)).codes
    cases = [
        (good.float(), size, "dtype torch.float32, expected torch.int64"),
        (good.int(), size, "dtype torch.int32, expected torch.int64"),
        (good[0], size, "codes have shape .*, expected"),
        (good[..., :0], size, "with no empty axis"),
        (good[:, :0], size, "codes have shape .*, expected"),
        (good.repeat(1, 2, *[1] * (good.ndim - 2)), size, "codes have shape .*, expected"),
        (good, tuple(side + 1 for side in size), "do(es)? not have"),
        (good, tuple(side - unit(tokenizer) for side in size), "do(es)? not have"),
    ]
    for level, codebook in enumerate(tokenizer.codebook_sizes):
        for code in (codebook, -1):
            bad = good.clone()
            bad[1, level].view(-1)[3] = code
            cases.append((bad, size, f"code {code} at level {level} is out of range, expected 0"))
    for codes, claimed, reason in cases:
        with pytest.raises(ValueError, match=reason):
            tokenizer.decode(Codes(codes, claimed))
