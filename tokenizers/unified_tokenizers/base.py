"""The contract of every media tokenizer: media -> codes -> media.

Legend: B batch, K codebooks (levels), T frames, H W code grid, S samples, D width.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Unpack, runtime_checkable

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unified_base.config import parse_config
from unified_base.foreign import foreign
from unified_base.safetensors_files import check_weights
from unified_base.structured import read_json
from unified_base.text import quoted
from unified_base.whole_folder import whole_folder

if TYPE_CHECKING:
    from unified_tokenizers.hub import HubOptions

__all__ = [
    "Codes",
    "MediaTokenizer",
    "SavedTokenizer",
    "load_tokenizer",
    "save_exactly",
    "saved_whole",
]


@dataclass(frozen=True, eq=False)
class Codes:
    """What `encode` gives and `decode` takes.

    Attributes:
        codes: int64 (B, K, *grid): (B, K, H, W) for images, (B, K, T) for audio.
        size: (height, width) in pixels, or (num_samples,), of the media that was encoded:
            `decode` gives back exactly this.
    """

    codes: Tensor
    size: tuple[int, ...]


@runtime_checkable
class MediaTokenizer(Protocol):
    """What the rest of the library may ask of a tokenizer."""

    modality: str

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes in each of the K codebooks."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex, 16 characters) of configuration and weights."""

    def encode(self, media: Tensor) -> Codes:
        """Media of one shape to codes."""

    def decode(self, codes: Codes) -> Tensor:
        """Codes to media of exactly `codes.size`."""

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write config.json and model.safetensors."""


class SavedTokenizer(nn.Module):
    """Saving, loading and fingerprints, shared by our own tokenizers.

    A subclass sets `modality`, `config_class` and `presets`, takes its configuration dataclass as
    only argument and keeps it in `self.config`.
    """

    modality: str
    config_class: type[Any]
    presets: dict[str, dict[str, Any]]
    config: Any

    def save_pretrained(
        self, folder: str | os.PathLike[str], dtype: torch.dtype | None = None
    ) -> None:
        """Write `config.json` and `model.safetensors` into `folder`.

        Args:
            dtype: store floating-point weights in this type (loading casts back to float32).
        """
        assert is_dataclass(self.config)
        assert not isinstance(self.config, type)
        state = {
            name: (value.to(dtype) if dtype and value.is_floating_point() else value).contiguous()
            for name, value in self.state_dict().items()
        }
        config = {"modality": self.modality, **asdict(self.config)}
        with saved_whole(folder) as path:
            save_file(state, path / "model.safetensors")
            (path / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> SavedTokenizer:
        """Load what `save_pretrained` wrote, in float32 and evaluation mode.

        Raises:
            ValueError: files missing, torn, of another modality, or of other shapes.
        """
        path = Path(folder)
        entries = read_entries(path / "config.json", "tokenizer")
        modality = entries.pop("modality", None)
        if modality != cls.modality:
            raise ValueError(
                f"the tokenizer in {path} is for {quoted(modality)}, expected {cls.modality!r}"
            )
        config = cls.parse_config(entries, str(path / "config.json"))
        where = f"the tokenizer in {path}"
        problem, numbers = None, 1 << 22
        try:
            numbers = check_weights(path, "model.safetensors")
        except ValueError as error:  # said below: what config.json has wrong comes first
            problem = ValueError(f"cannot read the weights of {where}: {error}")
        _check_sizes(asdict(config), numbers, str(path / "config.json"))
        tokenizer = cls(config)
        if problem is not None:
            raise problem
        with foreign(f"cannot read the weights of {where}"):
            state = load_file(path / "model.safetensors")
        try:
            tokenizer.load_state_dict(
                {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
            )
        except RuntimeError as error:
            summary = " ".join(str(error).split())[:300]
            raise ValueError(
                f"the weights in {path} do not fit its config.json: {summary}"
            ) from None
        return tokenizer.eval()

    @classmethod
    def parse_config(
        cls, entries: dict[str, Any], where: str = "the settings of a tokenizer"
    ) -> Any:
        """The configuration dataclass from plain entries; lists become tuples.

        An entry `preset` stands for the entries of that name, which the others then replace.
        `where` is for errors: ValueError for unknown entries and a quantizer that cannot be.
        """
        if "preset" in entries:
            name = entries["preset"]
            if not isinstance(name, str) or name not in cls.presets:
                raise ValueError(f"preset {quoted(name)}, expected one of {', '.join(cls.presets)}")
            entries = {**cls.presets[name], **entries}
            del entries["preset"]
        return parse_config(cls.config_class, entries, where)

    @property
    def fingerprint(self) -> str:
        """SHA-256 (first 16 hex characters) of the configuration and of every weight."""
        digest = hashlib.sha256(json.dumps(_changed(self.config), sort_keys=True).encode())
        for name, value in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def _check_sizes(entries: Any, numbers: int, where: str, name: str = "") -> None:
    """Raises ValueError for sizes that no tokenizer with so many weights has."""
    if isinstance(entries, dict):
        for inner, entry in entries.items():
            _check_sizes(entry, numbers, where, inner)
    elif isinstance(entries, list | tuple):
        for entry in entries:
            _check_sizes(entry, numbers, where, name)
    elif isinstance(entries, int) and not isinstance(entries, bool):
        few = max(numbers, 1 << 16)
        most = 1 << 20
        if "depth" in name or name == "groups":
            most = 256
        elif name == "num_mels":
            most = 4096
        elif "width" in name or name == "stride":  # there are layers from it to it
            most = math.isqrt(few)
        elif name in ("codes", "dim"):
            most = min(most, few)
        if not 0 <= entries <= most:
            raise ValueError(
                f"{where}: {name} is {quoted(entries)}, expected 0 to {most:,} with {numbers:,}"
                " weights"
            )


def _changed(config: Any) -> dict[str, Any]:
    """What a configuration sets to other than the default: a setting added to the library later
    leaves the fingerprints of tokenizers that do without it as they are. Settings of training
    change no code, nor do their defaults."""
    found: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if not field.metadata.get("training") and not _alike(value, field.default):
            found[field.name] = _changed(value) if is_dataclass(value) else value
    return found


def _alike(one: Any, other: Any) -> bool:
    """Whether two settings are the same but for those of training inside them."""
    if not is_dataclass(one) or type(one) is not type(other):
        return bool(one == other)
    return all(
        _alike(getattr(one, field.name), getattr(other, field.name))
        for field in fields(one)
        if not field.metadata.get("training")
    )


def read_entries(path: Path, owner: str) -> dict[str, Any]:
    """The JSON object in a file of an `owner`, as errors call it.

    Raises:
        ValueError: the file is missing, or holds something else.
    """
    try:
        entries: dict[str, Any] = read_json(path)
    except ValueError as error:
        raise ValueError(
            f"no readable {path.name} of a {owner} in {path.parent}: {error}"
        ) from None
    return entries


def saved_whole(folder: str | os.PathLike[str]) -> AbstractContextManager[Path]:
    """A folder to write a tokenizer into, which takes the place of `folder` as a whole when the
    block ends well; files of other names stay."""
    return whole_folder(folder, "config.json", keep=lambda name: True)


def load_tokenizer(name_or_path: str | os.PathLike[str], **hub: Unpack[HubOptions]) -> Any:
    """Load a tokenizer as its config.json says: one of ours, or a pretrained codec of transformers
    or diffusers (see `unified_tokenizers.adapters`).

    Args:
        name_or_path: a folder, or a name on the Hugging Face hub such as "facebook/encodec_24khz".
        hub: `subfolder`, `revision`, `cache_dir`, `local_files_only`; see `hub.HubOptions`.

    Raises:
        ValueError: neither a folder nor on the hub; files missing, torn, of an unknown kind, or of
            other shapes.
    """
    from unified_tokenizers.hub import checkpoint_folder

    folder = checkpoint_folder(name_or_path, **hub)
    entries = read_entries(folder / "config.json", "tokenizer")
    if "modality" not in entries and {"model_type", "_class_name"} & set(entries):
        from unified_tokenizers.adapters import load_codec

        return load_codec(folder)
    modality = entries.get("modality")
    if modality == "image":
        from unified_tokenizers.image import ImageTokenizer

        return ImageTokenizer.from_pretrained(folder)
    if modality == "audio":
        from unified_tokenizers.audio import AudioTokenizer

        return AudioTokenizer.from_pretrained(folder)
    raise ValueError(
        f"{folder / 'config.json'} names modality {quoted(modality)}, expected 'image' or 'audio'"
    )


def save_exactly(tokenizer: Any, folder: str | os.PathLike[str]) -> None:
    """Write a tokenizer so that its weights, and its fingerprint, come back: in bfloat16 where that
    changes nothing, and of a codec of others as its library does."""
    if isinstance(tokenizer, SavedTokenizer):
        values = [v for v in tokenizer.state_dict().values() if v.is_floating_point()]
        if all(torch.equal(v.bfloat16().to(v.dtype), v) for v in values):
            tokenizer.save_pretrained(folder, dtype=torch.bfloat16)
            return
    tokenizer.save_pretrained(folder)
