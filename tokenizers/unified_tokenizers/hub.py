"""Checkpoints by name or folder: fetched from the Hugging Face hub where they are not here.

JSON and safetensors alone, never a pickle; of a language model with a VQ model inside, that alone.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TypedDict

from safetensors import safe_open
from torch import Tensor

from unified_base.hub import fetch_files, is_hub_name
from unified_base.safetensors_files import read_header, shard_names

__all__ = [
    "SETTINGS_FILE",
    "HubOptions",
    "check_readable",
    "checkpoint_folder",
    "pickles_in",
    "tensors_inside",
]

SETTINGS_FILE = "unified_codec.json"
"""What an adapter's constructor was told, beside config.json, which belongs to the library."""

# All that is ever fetched: no name is a pickle's. The weights follow once the index is known.
_ENTRIES = ("config.json", "preprocessor_config.json", "processor_config.json", SETTINGS_FILE)
_WEIGHTS = ("model.safetensors", "diffusion_pytorch_model.safetensors")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_INDEXES = tuple(f"{name}.index.json" for name in _WEIGHTS)
# A codec among the tensors of a whole checkpoint; newer ones keep it one level deeper.
_INSIDE = re.compile(r"(model\.)?(vqmodel|visual|vision_tokenizer|audio_tokenizer)\.")


class HubOptions(TypedDict, total=False):
    """Where a checkpoint is; all may be left out.

    Attributes:
        subfolder: of the checkpoint, such as "vqvae" or "movq" in a pipeline of diffusers.
        revision: branch, tag or commit on the hub; "main" if left out.
        cache_dir: where fetched files are kept; if left out, where HF_HUB_CACHE says.
        local_files_only: take what was fetched before and ask no network, as HF_HUB_OFFLINE=1 does.
    """

    subfolder: str
    revision: str | None
    cache_dir: str | Path | None
    local_files_only: bool


def checkpoint_folder(
    name_or_path: str | os.PathLike[str],
    *,
    subfolder: str = "",
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Path:
    """The local folder of a checkpoint, fetched from the Hugging Face hub if it is not here.

    JSON and safetensors alone are fetched; of a whole checkpoint with a VQ model inside, those
    shards alone that hold it.

    Args:
        name_or_path: a folder; where there is none, a string "organisation/name" is a name on the
            hub. A `Path` is never one.
        subfolder, revision, cache_dir, local_files_only: see `HubOptions`.

    Raises:
        ValueError: no such folder; a revision of a local folder; or the hub has no such checkpoint,
            is out of reach, or holds no safetensors.
    """
    if Path(name_or_path).is_dir():
        if revision is not None:
            raise ValueError(f"{name_or_path} is a local folder: it has no revision {revision!r}")
        return Path(name_or_path, subfolder)
    if not isinstance(name_or_path, str) or not is_hub_name(name_or_path):
        raise ValueError(
            f"there is no folder {name_or_path}, expected one, or the name of a checkpoint on the"
            " Hugging Face hub such as facebook/encodec_24khz"
        )

    def fetch(names: tuple[str, ...], revision: str | None) -> Path:
        inside = [f"{subfolder}/{name}" if subfolder else name for name in names]
        return fetch_files(
            name_or_path, inside, revision=revision, cache_dir=cache_dir,
            local_files_only=local_files_only,
        )  # fmt: skip

    snapshot = fetch(_ENTRIES + _INDEXES, revision)
    folder = snapshot / subfolder
    if not (folder / "config.json").exists():
        raise ValueError(
            f"{name_or_path} has no config.json in {subfolder or 'its first folder'!r} ({folder});"
            " a pipeline of diffusers keeps its VQ model in a subfolder such as 'vqvae' or 'movq'"
        )
    shards = _shards(folder)
    # The commit by its name: the branch may have moved on since.
    fetch(shards or _WEIGHTS, snapshot.name)
    lacking = [name for name in shards or _WEIGHTS if not (folder / name).exists()]
    if lacking and (shards or len(lacking) == len(_WEIGHTS)):
        raise ValueError(
            f"{name_or_path} has no {' nor '.join(lacking)} in {folder}; only safetensors are read,"
            " never pickles: choose a revision that has them, fetch it where there is a network, or"
            f" make safetensors of a pickle with `unified tokenizer convert {name_or_path} -o DIR`"
        )
    return folder


def _shards(folder: Path) -> tuple[str, ...]:
    """Files that the index in a folder names, those of the codec where there is one inside;
    none without an index."""
    indexes = [folder / name for name in _INDEXES if (folder / name).exists()]
    if not indexes:
        return ()
    files = shard_names(indexes[0])
    return tuple(
        sorted({file for name, file in files.items() if _INSIDE.match(name)} or set(files.values()))
    )


def pickles_in(folder: Path) -> list[Path]:
    """Files of a folder that may be pickled weights."""
    return sorted(path for path in folder.iterdir() if path.suffix in _PICKLES)


def check_readable(folder: Path) -> None:
    """Raises ValueError for a folder whose weights are a pickle, and no safetensors."""
    pickles = pickles_in(folder)
    if pickles and not any(folder.glob("*.safetensors")):
        raise ValueError(
            f"{folder} holds weights as a pickle only ({pickles[0].name}), which is never opened:"
            f" `unified tokenizer convert {folder} -o DIR` makes safetensors of it in a process of"
            " its own"
        )


def tensors_inside(folder: Path, part: str = "") -> dict[str, Tensor]:
    """The tensors of a codec by their names in it.

    part: of a whole checkpoint, where the codec is in it, such as "vqmodel"; without it the folder
    is the codec's own, of which a part that is named so is taken nevertheless.
    """
    inside = re.compile(rf"(model\.)?{part}\.") if part else _INSIDE
    tensors: dict[str, Tensor] = {}
    for shard in _shards(folder) or _WEIGHTS[:1]:
        names = list(read_header(folder / shard))
        with safe_open(folder / shard, "pt") as file:
            chosen = [name for name in names if inside.match(name)]
            for name in chosen if chosen or part else names:
                tensors[inside.sub("", name, count=1)] = file.get_tensor(name)
    return tensors
