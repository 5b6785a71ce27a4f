"""Encoders of pictures and sounds: any of transformers by its folder or name, safetensors only.

Legend: B media, H W pixels, h w patches, S samples, F vectors of an encoder, E their width.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unified.models.grafting.encoder_base import FeatureEncoder
from unified.models.hf_checkpoint import load_config, read_json
from unified_base.foreign import foreign
from unified_base.quiet import no_progress_bars
from unified_base.safetensors_files import check_weights
from unified_base.sounds import conform
from unified_base.text import quoted
from unified_data.document import Audio, Image, Media

__all__ = ["PictureEncoder", "SoundEncoder", "TransformersEncoder", "load_encoder"]

ENCODER_FILE = "encoder.json"
_PREPROCESSOR = "preprocessor_config.json"
# Of whole checkpoints, the class of the part that sees.
_PARTS = {
    "clip": "CLIPVisionModel", "clip_vision_model": "CLIPVisionModel",
    "siglip": "SiglipVisionModel", "siglip_vision_model": "SiglipVisionModel",
}  # fmt: skip
# LLaVA reads the last layer but one of CLIP (arXiv:2304.08485); others give their last states.
_LAYERS = {"clip": -2, "clip_vision_model": -2}
_SOUND_TYPES = ("whisper", "wav2vec2", "hubert", "wavlm", "unispeech-sat", "data2vec-audio")


class TransformersEncoder(FeatureEncoder):
    """A frozen model of transformers whose hidden states are a medium's features.

    Attributes:
        model: in evaluation mode, without gradients.
        processor: of transformers, which prepares media.
        layer: whose hidden states; None: what the model returns.
    """

    def __init__(self, model: Any, processor: Any, layer: int | None) -> None:
        config = model.config
        super().__init__(int(getattr(config, "hidden_size", None) or config.d_model))
        self.model = model.eval().requires_grad_(False)
        self.processor = processor
        self.layer = layer
        layers = int(getattr(config, "num_hidden_layers", None) or config.encoder_layers)
        if layer is not None and not -layers - 1 <= layer <= layers:
            raise ValueError(
                f"layer is {layer}, expected -{layers + 1} to {layers}: the encoder has {layers}"
                " layers"
            )

    @property
    def label(self) -> str:
        return str(self.model.config.model_type)

    @property
    def fingerprint(self) -> str:
        from unified_tokenizers.modules import weights_digest

        entries = {"layer": self.layer, "processor": self._settings()}
        return weights_digest(json.dumps(entries, sort_keys=True), self.model.state_dict())

    def _settings(self) -> Mapping[str, Any]:
        return {
            name: value
            for name, value in json.loads(self.processor.to_json_string()).items()
            if not name.endswith(("_type", "_class")) and not name.startswith("_")
        }

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)
        (folder / ENCODER_FILE).write_text(json.dumps({"layer": self.layer}) + "\n", "utf-8")

    def _states(self, outputs: Any) -> Tensor:
        states: Tensor = outputs[0] if self.layer is None else outputs.hidden_states[self.layer]
        return states

    def _run(self, inputs: dict[str, Tensor]) -> Tensor:
        options = {} if self.layer is None else {"output_hidden_states": True}
        return self._states(self.model(**inputs, **options, return_dict=True))


class PictureEncoder(TransformersEncoder):
    """A vision transformer that reads patches in rows: CLIP, SigLIP, DINOv2, DINOv3, ViT.

    What stands before the patches (a class token, registers) is left out.
    """

    modality = "image"
    prepared = "uint8"
    mean: Tensor
    std: Tensor

    def __init__(self, model: Any, processor: Any, layer: int | None = None) -> None:
        super().__init__(model, processor, layer)
        self.patch = int(model.config.patch_size)
        mean, std, factor = (
            getattr(processor, name) for name in ("image_mean", "image_std", "rescale_factor")
        )
        scale = 1 / factor if processor.do_rescale else 1.0
        if not processor.do_normalize:
            mean, std = (0.0,), (1.0,)
        for name, values in (("mean", mean), ("std", std)):
            value = torch.tensor(values, dtype=torch.float32)[:, None, None] * scale
            self.register_buffer(name, value, persistent=False)

    def prepare(self, segment: Media) -> np.ndarray:
        if not isinstance(segment, Image):
            raise ValueError(f"the encoder reads pictures, found a {segment.modality}")
        with foreign("the picture cannot be prepared for the encoder"):
            values = self.processor(
                segment.pixels, return_tensors="np", do_rescale=False, do_normalize=False,
                input_data_format="channels_last",
            )["pixel_values"][0]  # fmt: skip
        pixels: np.ndarray = np.ascontiguousarray(np.clip(np.round(values), 0, 255), np.uint8)
        return pixels

    def grid(self, shape: Sequence[int]) -> tuple[int, ...]:
        height, width = shape[-2:]
        if height % self.patch or width % self.patch:
            raise ValueError(
                f"a picture of {width}x{height} pixels does not divide into patches of"
                f" {self.patch}x{self.patch}"
            )
        return height // self.patch, width // self.patch

    @property
    def fixed_grid(self) -> tuple[int, ...] | None:
        side = getattr(self.processor, "crop_size", None) if self._crops else self.processor.size
        height, width = (side or {}).get("height"), (side or {}).get("width")
        return None if height is None or width is None else self.grid((height, width))

    @property
    def _crops(self) -> bool:
        return bool(getattr(self.processor, "do_center_crop", False))

    @torch.no_grad()
    def forward(self, media: Tensor) -> Tensor:
        h, w = self.grid(media.shape)
        pixels = (media.to(self.mean) - self.mean) / self.std
        states = self._run({"pixel_values": pixels.to(self.model.dtype)})
        leading = states.shape[1] - h * w
        if leading < 0:
            raise ValueError(
                f"the encoder gives {states.shape[1]} vectors for {h}x{w} patches, expected one for"
                " each at least; it is no vision transformer of patches in rows"
            )
        return states[:, leading:].float().unflatten(1, (h, w))


class SoundEncoder(TransformersEncoder):
    """An encoder of speech: Whisper's, of 30 seconds, or one that reads samples (wav2vec 2)."""

    modality = "audio"

    def __init__(self, model: Any, processor: Any, layer: int | None = None) -> None:
        super().__init__(model, processor, layer)
        self.rate = int(processor.sampling_rate)
        self._spectra = hasattr(processor, "n_samples")

    def prepare(self, segment: Media) -> np.ndarray:
        if not isinstance(segment, Audio):
            raise ValueError(f"the encoder reads sounds, found a {segment.modality}")
        waveform = conform(segment.waveform, segment.sample_rate, self.rate, 1)
        if self._spectra and waveform.shape[1] > self.processor.n_samples:
            raise ValueError(
                f"the sound lasts {waveform.shape[1] / self.rate:.1f} s, the encoder hears at most"
                f" {self.processor.n_samples / self.rate:.1f} s; cut it into parts"
            )
        return np.ascontiguousarray(waveform, np.float32)

    def grid(self, shape: Sequence[int]) -> tuple[int, ...]:
        fixed = self.fixed_grid
        if fixed is not None:
            return fixed
        frames = int(self.model._get_feat_extract_output_lengths(torch.tensor(shape[-1])))
        if frames < 1:
            raise ValueError(f"a sound of {shape[-1]} samples is too short for the encoder")
        return (frames,)

    @property
    def fixed_grid(self) -> tuple[int, ...] | None:
        return (int(self.model.config.max_source_positions),) if self._spectra else None

    @torch.no_grad()
    def forward(self, media: Tensor) -> Tensor:
        inputs = self.processor(
            list(media[:, 0].cpu().numpy()), sampling_rate=self.rate,
            return_tensors="pt",
        )  # fmt: skip
        name = self.processor.model_input_names[0]
        values = inputs[name].to(self.model.device, self.model.dtype)
        return self._run({name: values}).float()


def load_encoder(folder: Path, layer: int | None = None) -> TransformersEncoder:
    """The encoder in a folder: of a whole checkpoint (CLIP, SigLIP, Whisper) the part that sees or
    hears.

    Args:
        folder: with config.json, safetensors, and preprocessor_config.json as transformers has it.
        layer: whose hidden states; None: as saved with the encoder, or as LLaVA reads CLIP, or the
            model's output.

    Raises ValueError for files missing or broken, weights missing, and what is no encoder.
    """
    import transformers

    config = load_config(folder)
    kind = str(config.model_type)
    if not (folder / _PREPROCESSOR).exists():
        raise ValueError(
            f"{folder} has no {_PREPROCESSOR}, which says how media are prepared for the encoder;"
            " take the whole folder of the checkpoint"
        )
    if layer is None and (folder / ENCODER_FILE).exists():
        layer = _stored_layer(folder / ENCODER_FILE)
    elif layer is None:
        layer = _LAYERS.get(kind)
    model = _load_model(folder, config, kind)
    sound = kind in _SOUND_TYPES
    auto: Any = transformers.AutoFeatureExtractor if sound else transformers.AutoImageProcessor
    with foreign(f"the {_PREPROCESSOR} in {folder} cannot be used"):
        processor = auto.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if sound:
        return SoundEncoder(model, processor, layer)
    if type(getattr(model.config, "patch_size", None)) is not int:
        raise ValueError(f"{folder} holds a {kind}, expected a vision transformer or an encoder of"
                         f" speech ({', '.join(_SOUND_TYPES)})")  # fmt: skip
    return PictureEncoder(model, processor, layer)


def _stored_layer(path: Path) -> int | None:
    entries = read_json(path)
    layer = entries.get("layer")
    if "layer" not in entries or not (layer is None or type(layer) is int):
        raise ValueError(f"{path} is {quoted(entries)}, expected layer, a whole number or null")
    return layer


def _load_model(folder: Path, config: Any, kind: str) -> Any:
    import transformers

    from unified_tokenizers.foreign_model import check_size, forget_kernels

    part = _PARTS.get(kind)
    alone = kind == "whisper" and "WhisperEncoder" in (config.architectures or ())
    if alone:
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        loader: Any = WhisperEncoder
    else:
        loader = getattr(transformers, part) if part else transformers.AutoModel
    inner = getattr(config, "vision_config", config) if part else config
    forget_kernels(config)
    numbers = check_weights(folder, "model.safetensors")
    make = loader._from_config if part or alone else loader.from_config
    check_size(lambda: make(copy.deepcopy(inner)), numbers, f"encoder {folder}")
    with foreign(f"encoder {folder} cannot be loaded"), no_progress_bars():
        model, report = loader.from_pretrained(
            folder, config=inner, dtype=torch.float32, use_safetensors=True, local_files_only=True,
            trust_remote_code=False, output_loading_info=True,
        )  # fmt: skip
    if kind == "whisper" and not alone:
        model = model.encoder
        missing = sorted(name for name in report["missing_keys"] if "encoder." in name)
    else:
        missing = sorted(n for n in report["missing_keys"] if not n.endswith("masked_spec_embed"))
    if missing:
        raise ValueError(f"encoder {folder} lacks {len(missing)} weights, such as {missing[0]}")
    return model
