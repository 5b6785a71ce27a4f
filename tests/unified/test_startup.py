"""What commands of the shipped model load: sampling needs no torch, and media are the same."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from unified.models.model import UnifiedModel
from unified_tokenizers.arrays import ArrayTokenizer, decode_by_tensors, encode_by_tensors
from unified_tokenizers.loading import load_tokenizer

# What takes a second each, and sampling on the CPU needs none of.
HEAVY = {
    "torch", "transformers", "diffusers", "accelerate", "peft", "torchaudio", "einx", "einops",
    "vector_quantize_pytorch", "torchao", "scipy.linalg", "numba.np.arraymath", "sympy", "asyncio",
}  # fmt: skip


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """The modules of one process that has run a command of every verb, one after the other."""
    UnifiedModel.from_pretrained("pocket").draw("a cat")  # compiles what is not on disk yet
    folder = tmp_path_factory.mktemp("commands")
    commands = [
        ["draw", "a cat", "-n", "2", "-o", "cat.png"],
        ["describe", "cat-1.png"],
        ["ask", "cat-1.png", "What is this?"],
        ["speak", "a cat", "-o", "cat.wav"],
        ["listen", "cat.wav"],
        ["write", "The giant panda", "--images", "1", "-o", "panda.html"],
        ["info"],
    ]
    program = (
        "import json, sys\n"
        "from unified.__main__ import run\n"
        f"assert not any([run(['--quiet', *command]) for command in {commands!r}])\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True
    )
    assert {path.name for path in folder.iterdir()} == {
        "cat-1.png", "cat-2.png", "cat.wav", "panda.html",
    }  # fmt: skip
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_every_verb_of_the_shipped_model_runs_without_torch(imported):
    assert "numba" in imported
    assert not HEAVY & imported


@pytest.fixture(scope="module")
def shipped():
    return UnifiedModel.from_pretrained("pocket", read_weights=False)


def _random_codes(tokenizer, number, *grid):
    """int64 (number, K, *grid), of any code of each of the K codebooks."""
    rng = np.random.default_rng(7)
    levels = [rng.integers(0, size, (number, *grid)) for size in tokenizer.codebook_sizes]
    return np.stack(levels, 1)


def test_the_shipped_pictures_are_those_of_torch(shipped):
    """Of 24 pictures of random codes: a number in 10,000 is another one of 256, by one."""
    tokenizer = shipped.image_tokenizer
    assert isinstance(tokenizer, ArrayTokenizer)
    module = load_tokenizer(shipped.directory / "image_tokenizer", "image")
    assert tokenizer.fingerprint == module.fingerprint
    side = 96 // tokenizer.stride
    codes = _random_codes(module, 24, side, side)
    ours = np.round(tokenizer.decode_arrays(codes, (96, 96)) * 255)
    torchs = np.round(decode_by_tensors(module, codes, (96, 96)) * 255)
    assert np.abs(ours - torchs).max() <= 1
    assert (ours != torchs).mean() < 2e-4
    media = ours.astype(np.uint8)
    assert (tokenizer.encode_arrays(media) != encode_by_tensors(module, media)).mean() < 1e-3


def test_the_shipped_sounds_are_those_of_torch(shipped):
    tokenizer = shipped.audio_tokenizer
    module = load_tokenizer(shipped.directory / "audio_tokenizer", "audio")
    assert tokenizer.fingerprint == module.fingerprint
    codes = _random_codes(module, 2, 40)
    size = (40 * tokenizer.hop,)
    ours = tokenizer.decode_arrays(codes, size)
    torchs = decode_by_tensors(module, codes, size)
    np.testing.assert_allclose(ours, torchs, atol=1e-5)
    assert (tokenizer.encode_arrays(torchs) != encode_by_tensors(module, torchs)).mean() < 1e-3
