"""Weights that were published as a pickle alone, to safetensors beside a config.json.

Never done on the way: a tokenizer is opened from safetensors, and a folder without any says that
there is this command. The pickle is read in a process of its own (see `convert_child`).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unified_base.hub import fetch_files, is_hub_name
from unified_base.text import quoted, safe
from unified_tokenizers.hub import pickles_in
from unified_tokenizers.loading import load_tokenizer
from unified_tokenizers.registry import stored_type
from unified_tokenizers.saved import saved_whole
from unified_tokenizers.saved_config import read_entries

__all__ = ["TYPES", "Converted", "convert_tokenizer"]

_SECONDS = 600
_BESIDE = ("config.json", "preprocessor_config.json", "processor_config.json")
TYPES = {
    "chameleon_vqgan": "ChameleonVQVAEConfig",
    "apertus1p5_vision_tokenizer": "Apertus1p5VisionTokenizerConfig",
    "wavtokenizer": "",
}
"""Codecs whose original checkpoints have no config.json, and whose published sizes are the defaults
of a class of transformers: Chameleon's vqgan.ckpt (Liquid's and Anole's too), Emu3.5's IBQ. Those
of WavTokenizer follow from its weights."""


@dataclass(frozen=True)
class Converted:
    """What was written.

    Attributes:
        folder: holds config.json and model.safetensors.
        tensors: number of tensors.
        left_out: entries of the pickle that are no tensors.
        fingerprint: of the tokenizer.
    """

    folder: Path
    tensors: int
    left_out: int
    fingerprint: str


def convert_tokenizer(
    source: str | Path, output: str | Path, model_type: str | None = None, seconds: int = _SECONDS
) -> Converted:
    """Read a pickle of weights and write a folder that `load_tokenizer` opens.

    Args:
        source: a .bin, .pt, .pth or .ckpt file, a folder with one, or a name on the Hugging Face
            hub, whose config.json and pickle are fetched.
        output: the folder to write; as a whole or not at all.
        model_type: one of `TYPES`, for a pickle without a config.json beside it.
        seconds: that reading may take.

    Raises:
        ValueError: no pickle or several; no config.json and no type; a pickle of other things than
            tensors, or one that needs more time or memory than it may; weights that do not fit.
    """
    if is_hub_name(source) and not Path(source).exists():
        source = fetch_files(
            str(source), (*_BESIDE, "*.bin", "*.pt", "*.pth", "*.ckpt")
        )  # asked for by name, here alone
    pickle = _pickle(Path(source))
    with saved_whole(output) as folder:
        _write_config(pickle.parent, folder, model_type)
        report = _run(pickle, folder / "model.safetensors", seconds)
        tokenizer = _open(folder)
        return Converted(Path(output), report["tensors"], report["left_out"], tokenizer.fingerprint)


def _pickle(source: Path) -> Path:
    if source.is_file():
        return source
    if not source.is_dir():
        raise ValueError(f"there is no file or folder {source}")
    pickles = pickles_in(source)
    if len(pickles) != 1:
        names = ", ".join(path.name for path in pickles) or "none"
        raise ValueError(f"{source} has {names} of .bin, .pt, .pth and .ckpt; name one file")
    return pickles[0]


def _write_config(source: Path, folder: Path, model_type: str | None) -> None:
    """config.json of the source with its type, or the defaults of `model_type`."""
    if model_type is not None:
        import transformers

        if model_type not in TYPES:
            raise ValueError(f"type {quoted(model_type)}, expected one of {', '.join(TYPES)}")
        entries: dict[str, Any] = {"model_type": model_type}
        if TYPES[model_type]:
            entries = getattr(transformers, TYPES[model_type])().to_dict()
    elif (source / "config.json").is_file():
        entries = read_entries(source / "config.json", "codec")
        entries.setdefault("model_type", stored_type(entries))
    else:
        raise ValueError(
            f"there is no config.json beside the weights in {source}; put it there, or give --type"
            f" ({', '.join(TYPES)})"
        )
    (folder / "config.json").write_text(json.dumps(entries, indent=2) + "\n", "utf-8")
    for name in _BESIDE[1:]:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def _run(pickle: Path, output: Path, seconds: int) -> dict[str, int]:
    child = Path(__file__).with_name("convert_child.py")
    # -I: neither PYTHONPATH nor the current folder has a say in what the child imports.
    command = [sys.executable, "-I", str(child), str(pickle), str(output), str(seconds)]
    try:
        finished = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, errors="replace", check=False
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"{pickle} was not read within {seconds} seconds") from None
    if finished.returncode:
        lines = finished.stderr.strip().splitlines()
        reason = safe(lines[-1])[:500] if lines else f"signal {-finished.returncode}"
        raise ValueError(f"cannot read the tensors of {pickle}: {reason}")
    report: dict[str, int] = json.loads(finished.stdout.strip().splitlines()[-1])
    return report


def _open(folder: Path) -> Any:
    """The tokenizer that was converted: it is opened before anything is left in its place."""
    try:
        return load_tokenizer(folder)
    except ValueError as error:
        raise ValueError(f"the weights were read, but do not make a tokenizer: {error}") from None
