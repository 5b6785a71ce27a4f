"""Which class opens a tokenizer's folder, by what its config.json names.

Ours, adapters of published codecs, and anybody's.

A tokenizer of others joins by an entry point of an installed distribution in the group
`unified.tokenizers`, or by `register_tokenizer`; both under the `model_type` that its
`save_pretrained` writes into config.json. The class satisfies `unified_tokenizers.base` and has
`from_pretrained(folder)`; deriving from `saved.SavedTokenizer` and a class of `modules` gives it
all of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from inspect import getattr_static
from typing import Any, cast

from unified_base.foreign import foreign
from unified_base.text import quoted
from unified_tokenizers.base import (
    AudioTokenizer,
    ImageTokenizer,
    MediaTokenizer,
    VideoTokenizer,
)

__all__ = [
    "GROUP",
    "check_tokenizer",
    "holds_several",
    "register_tokenizer",
    "stored_type",
    "tokenizer_class",
]

GROUP = "unified.tokenizers"
"""The group of entry points: `NAME = "package.module:Class"` under
[project.entry-points."unified.tokenizers"] in a pyproject.toml."""

# model_type in config.json (diffusers: _class_name) -> module and class. The short names of the
# image models, csm, moshi, musicgen and qwen3_omni_moe are whole checkpoints (language model and
# all); the codec alone is read of them.
_BUILT_IN = {
    "encodec": ("adapters_audio", "EncodecAdapter"),
    "musicgen": ("adapters_audio", "EncodecAdapter"),
    "dac": ("adapters_audio", "DacAdapter"),
    "mimi": ("adapters_audio", "MimiAdapter"),
    "csm": ("adapters_audio", "MimiAdapter"),
    "moshi": ("adapters_audio", "MimiAdapter"),
    "xcodec": ("adapters_semantic", "XcodecAdapter"),
    "higgs_audio_v2_tokenizer": ("adapters_semantic", "HiggsAudioAdapter"),
    "xcodec2": ("adapters_semantic", "Xcodec2Adapter"),
    "neucodec": ("adapters_semantic", "NeuCodecAdapter"),
    "emu3_vqgan": ("adapters_image", "Emu3Adapter"),
    "emu3": ("adapters_image", "Emu3Adapter"),
    "chameleon_vqgan": ("adapters_image", "ChameleonAdapter"),
    "chameleon": ("adapters_image", "ChameleonAdapter"),
    "janus_vqgan": ("adapters_image", "JanusAdapter"),
    "janus": ("adapters_image", "JanusAdapter"),
    "apertus1p5_vision_tokenizer": ("adapters_apertus", "IbqAdapter"),
    "wavtokenizer": ("adapters_wavtokenizer", "WavTokenizerAdapter"),
    "wavtokenizer_encoder": ("adapters_wavtokenizer", "WavTokenizerAdapter"),
    "snac": ("adapters_snac", "SnacAdapter"),
    "qwen3_omni_moe": ("adapters_code2wav", "Code2WavAdapter"),
    "qwen3_omni_moe_code2wav": ("adapters_code2wav", "Code2WavAdapter"),
    "glm_image": ("adapters_glm", "GlmImageAdapter"),
    "VQModel": ("adapters_diffusers", "VqModelAdapter"),
    "locations": ("locations", "LocationTokenizer"),
    "labels": ("label_codes", "LabelTokenizer"),
    "frames": ("frames", "FrameTokenizer"),
    "tiles": ("tiled", "TiledTokenizer"),
}
# Whole checkpoints with several tokenizers inside.
_SEVERAL = {
    "apertus1p5": {
        "image": _BUILT_IN["apertus1p5_vision_tokenizer"],
        "audio": _BUILT_IN["wavtokenizer_encoder"],
    },
}
_registered: dict[str, type[MediaTokenizer]] = {}


def register_tokenizer(model_type: str, tokenizer_class: type[MediaTokenizer]) -> None:
    """Let `load_tokenizer` open folders whose config.json names `model_type`.

    Args:
        model_type: what the class's `save_pretrained` writes into config.json as "model_type".
        tokenizer_class: satisfies `base.ImageTokenizer` or `base.AudioTokenizer`.

    Raises:
        ValueError: a name that is empty, or that belongs to another class; a class without
            `from_pretrained`.
    """
    if not isinstance(model_type, str) or not model_type:
        raise ValueError(f"a tokenizer's model_type is {quoted(model_type)}, expected a name")
    if model_type in _BUILT_IN or model_type in _SEVERAL:
        raise ValueError(f"model_type {model_type!r} belongs to an adapter of this library")
    other = _registered.get(model_type)
    if other is not None and other is not tokenizer_class:
        raise ValueError(f"model_type {model_type!r} is registered already, by {other.__name__}")
    if not callable(getattr(tokenizer_class, "from_pretrained", None)):
        raise ValueError(f"{tokenizer_class!r} has no from_pretrained(folder): it cannot be opened")
    _registered[model_type] = tokenizer_class


def tokenizer_class(model_type: Any, where: str, modality: str | None = None) -> type[Any]:
    """The class for what a config.json names; `where` is that file, for errors.

    modality: which tokenizer, where a checkpoint holds several.

    Raises:
        ValueError: a checkpoint holds several and modality is left out; nobody registered the name;
            two distributions did; or the module of an entry point cannot be imported.
    """
    if isinstance(model_type, str) and model_type in _SEVERAL:
        if modality is None:
            raise ValueError(
                f"{where} is of a checkpoint with several tokenizers: say which, as in"
                " load_tokenizer(name, 'image')"
            )
        return _class_of(_SEVERAL[model_type][modality])
    if isinstance(model_type, str) and model_type in _BUILT_IN:
        return _class_of(_BUILT_IN[model_type])
    if isinstance(model_type, str) and model_type in _registered:
        return _registered[model_type]
    if isinstance(model_type, str) and (point := _entry_point(model_type)) is not None:
        with foreign(f"cannot import the tokenizer {point.value} of entry point {point.name!r}"):
            return point.load()
    others = {*_registered, *(point.name for point in entry_points(group=GROUP))}
    known = [*_BUILT_IN, *_SEVERAL, *sorted(others)]
    raise ValueError(
        f"{where} names model_type {quoted(model_type)}, expected one of {', '.join(known)}; for a"
        f" tokenizer of others install the package with the entry point {quoted(model_type)} in the"
        f" group {GROUP!r}, or call register_tokenizer first"
    )


def stored_type(entries: Mapping[str, Any]) -> Any:
    """What a config.json names: the model_type of transformers, the _class_name of diffusers.

    The published config.json of SNAC names nothing; its keys tell. A language model that uses
    a VQ model, and holds it, names that in its vq_config.
    """
    snac = {"vq_strides", "encoder_rates", "decoder_rates"} <= set(entries)
    model_type = entries.get("model_type", entries.get("_class_name", "snac" if snac else None))
    inside = entries.get("vq_config")
    if isinstance(inside, Mapping) and model_type not in list(_BUILT_IN):
        inner = inside.get("model_type")
        return inner if inner in list(_BUILT_IN) else model_type
    return model_type


def holds_several(entries: Mapping[str, Any]) -> bool:
    """Whether a config.json is of a whole checkpoint with tokenizers of several modalities."""
    return entries.get("model_type") in _SEVERAL


def _class_of(home: tuple[str, str]) -> type[Any]:
    return getattr(import_module(f"unified_tokenizers.{home[0]}"), home[1])


def _entry_point(name: str) -> EntryPoint | None:
    points = {point.value: point for point in entry_points(group=GROUP, name=name)}
    if len(points) > 1:
        raise ValueError(
            f"{len(points)} installed packages have an entry point {name!r} in the group {GROUP!r}:"
            f" {', '.join(sorted(points))}; uninstall all but one"
        )
    return next(iter(points.values()), None)


def check_tokenizer(tokenizer: object, model_type: str | None) -> MediaTokenizer:
    """A tokenizer that satisfies the contract.

    Raises ValueError for one of a modality that is none, or that lacks members of its protocol.
    """
    modality = getattr(tokenizer, "modality", None)
    own: dict[str, type[Any]] = {
        "image": ImageTokenizer, "audio": AudioTokenizer, "video": VideoTokenizer,
    }  # fmt: skip
    name = f"the tokenizer {type(tokenizer).__name__} of model_type {quoted(model_type)}"
    if not isinstance(modality, str) or not modality:
        raise ValueError(
            f"{name} has modality {quoted(modality)}, expected 'image', 'audio', or another's name"
        )
    protocol = own.get(modality, MediaTokenizer)
    members = {member for base in protocol.__mro__ for member in vars(base) if member[0] != "_"}
    # Statically: to ask for the fingerprint would hash every weight.
    nothing = object()
    missing = sorted(
        member for member in members if getattr_static(tokenizer, member, nothing) is nothing
    )
    if missing:
        raise ValueError(f"{name} lacks {', '.join(missing)} of base.{protocol.__name__}")
    return cast("MediaTokenizer", tokenizer)
