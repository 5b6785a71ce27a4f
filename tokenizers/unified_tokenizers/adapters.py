"""Codecs pretrained by others, from transformers and diffusers, behind our tokenizers' contract.

`load_codec` picks the adapter for a checkpoint folder; the adapters themselves are in
`adapters_audio` and `adapters_image`. Their libraries are imported when a checkpoint is loaded and
not before: they cost seconds.
"""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from unified_tokenizers.base import Codes

__all__ = ["CodecAdapter", "load_codec"]

# model_type in config.json (diffusers: _class_name) -> module and class of the adapter. The short
# names of the image models are whole checkpoints (language model and all) of which the VQ model
# alone is read.
_ADAPTERS = {
    "encodec": ("adapters_audio", "EncodecAdapter"),
    "dac": ("adapters_audio", "DacAdapter"),
    "mimi": ("adapters_audio", "MimiAdapter"),
    "xcodec": ("adapters_audio", "XcodecAdapter"),
    "emu3_vqgan": ("adapters_image", "Emu3Adapter"),
    "emu3": ("adapters_image", "Emu3Adapter"),
    "chameleon_vqgan": ("adapters_image", "ChameleonAdapter"),
    "chameleon": ("adapters_image", "ChameleonAdapter"),
    "janus_vqgan": ("adapters_image", "JanusAdapter"),
    "janus": ("adapters_image", "JanusAdapter"),
    "VQModel": ("adapters_image", "VqModelAdapter"),
}

# What our constructor was told, beside config.json, which belongs to transformers.
_SETTINGS_FILE = "unified_codec.json"

# Entries of a config that say how a model was stored, not what it computes.
_BOOKKEEPING = {
    "_commit_hash", "_diffusers_version", "_name_or_path", "_use_default_values", "architectures",
    "dtype", "torch_dtype", "transformers_version",
}  # fmt: skip


def load_codec(folder: str | os.PathLike[str], **settings: Any) -> Any:
    """Load the pretrained codec in `folder`, as the model_type in its config.json says.

    Args:
        folder: a local checkpoint folder of transformers or diffusers: config.json, safetensors.
        settings: for the adapter, such as `num_codebooks` for audio.

    Raises:
        ValueError: no config.json, an unknown model_type, or what the adapter refuses.
    """
    path = Path(folder)
    model_type = stored_type(path)
    if model_type not in _ADAPTERS:
        raise ValueError(
            f"{path / 'config.json'} names model_type {model_type!r}, expected one of"
            f" {', '.join(_ADAPTERS)}"
        )
    module, name = _ADAPTERS[model_type]
    adapter = getattr(import_module(f"unified_tokenizers.{module}"), name)
    return adapter.from_pretrained(path, **settings)


class CodecAdapter(nn.Module, ABC):
    """A model of transformers or diffusers with the methods of `base.MediaTokenizer`.

    A subclass sets the four attributes, passes the model on to `__init__` and leaves in `settings`
    the keyword arguments that make it again.

    Attributes:
        modality: "audio" or "image".
        model_class: name of the class in its library.
        model_type: of that class alone in config.json.
        whole_type: of a whole checkpoint that holds the model as `vqmodel`, or "".
        model: the model, in float32 and evaluation mode.
    """

    modality: str
    model_class: str
    model_type: str
    whole_type: str = ""
    model: Any
    settings: dict[str, Any]

    def __init__(self, model: Any) -> None:
        super().__init__()
        if self.model_class not in {base.__name__ for base in type(model).__mro__}:
            raise ValueError(
                f"{type(self).__name__} got a {type(model).__name__}, expected a {self.model_class}"
            )
        self.model = model
        self.settings = {}
        # Quantization decides between neighbouring codes, and in training mode quantizer dropout
        # would change them.
        self.float().eval()

    def train(self, mode: bool = True) -> CodecAdapter:
        """Stays in evaluation mode: a pretrained codec is frozen here."""
        return super().train(False)

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str], **settings: Any) -> Any:
        """Load a local checkpoint, in float32 and evaluation mode.

        Args:
            folder: holds config.json and safetensors, sharded or not; nothing is downloaded.
            settings: arguments of the constructor; they win over those stored in `folder`.

        Raises:
            ValueError: files missing or torn, another model_type, or weights missing or of other
                shapes (transformers itself fills missing weights with random numbers).
        """
        path = Path(folder)
        model_type = stored_type(path)
        known = [name for name in (cls.model_type, cls.whole_type) if name]
        if model_type not in known:
            raise ValueError(
                f"{path / 'config.json'} names model_type {model_type!r}, expected"
                f" {' or '.join(map(repr, known))}"
            )
        try:
            model, missing = cls._load(path, str(model_type))
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            summary = " ".join(str(error).split())[:300]
            raise ValueError(f"cannot load the {cls.model_class} in {path}: {summary}") from None
        # The mask embedding of HuBERT is for its training alone; checkpoints may lack it.
        missing = sorted(k for k in missing if not k.endswith("masked_spec_embed"))
        if missing:
            raise ValueError(
                f"the weights in {path} lack {len(missing)} tensors of {cls.model_class}, such as"
                f" {missing[0]}"
            )
        return cls(model, **{**cls.stored_settings(path), **settings})

    @classmethod
    def _load(cls, path: Path, model_type: str) -> tuple[Any, list[str]]:
        """The model in a folder, and the names of the weights that its files lack."""
        import transformers

        extra: dict[str, Any] = {}
        if model_type == cls.whole_type:
            config = transformers.AutoConfig.from_pretrained(path, local_files_only=True)
            # Newer checkpoints keep the VQ model one level deeper.
            extra = {"config": config.vq_config, "key_mapping": {r"^(model\.)?vqmodel\.": ""}}
        model, report = getattr(transformers, cls.model_class).from_pretrained(
            path,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            **extra,
        )
        return model, list(report["missing_keys"])

    @classmethod
    def stored_settings(cls, folder: Path) -> dict[str, Any]:
        """Constructor arguments that `save_pretrained` wrote into `folder`, if any."""
        path = folder / _SETTINGS_FILE
        return read_entries(path) if path.exists() else {}

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write config.json and model.safetensors of the model, and our settings beside them."""
        path = Path(folder)
        # transformers would undo the renaming that took the VQ model out of a whole checkpoint.
        self.model.save_pretrained(path, save_original_format=not self.whole_type)
        self.save_settings(path)

    def save_settings(self, path: Path) -> None:
        """Write what our constructor was told, for `from_pretrained`."""
        (path / _SETTINGS_FILE).write_text(json.dumps(self.settings, indent=2) + "\n", "utf-8")

    @property
    def fingerprint(self) -> str:
        """SHA-256 (first 16 hex characters) of configuration, settings and every weight."""
        config = _without_bookkeeping(self._config_entries())
        entries = json.dumps([config, self.settings], sort_keys=True, default=str)
        digest = hashlib.sha256(entries.encode())
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def _config_entries(self) -> dict[str, Any]:
        """What the model's configuration sets."""
        return self.model.config.to_diff_dict()

    @property
    @abstractmethod
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes in each codebook."""

    @abstractmethod
    def encode(self, media: Tensor) -> Codes:
        """Media of one shape to codes."""

    @abstractmethod
    def decode(self, codes: Codes) -> Tensor:
        """Codes to media of exactly `codes.size`."""


def stored_type(folder: Path) -> Any:
    """What config.json names: the model_type of transformers, the _class_name of diffusers."""
    entries = read_entries(folder / "config.json")
    return entries.get("model_type", entries.get("_class_name"))


def read_entries(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ValueError: the file is missing, or holds something else.
    """
    try:
        entries = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"no readable {path.name} of a codec in {path.parent}: {error}") from None
    if not isinstance(entries, dict):
        raise ValueError(f"{path} is not a codec's: expected a JSON object")
    return entries


def _without_bookkeeping(entries: Any) -> Any:
    if isinstance(entries, dict):
        return {k: _without_bookkeeping(v) for k, v in entries.items() if k not in _BOOKKEEPING}
    return entries
