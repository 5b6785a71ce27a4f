"""SNAC checkpoints as tokenizers, such as hubertsiuzdak/snac_24khz, once they are safetensors.

Its levels have different rates: of snac_24khz a coarse code stands for 2,048 samples, a middle one
for 1,024, a fine one for 512. A code frame here is the shortest period in which all levels (and
windows of attention) are whole, and its codes come as levels of their own, in depth-first order: a
coarse code, then each finer one that begins at its time with those finer still. Of snac_24khz these
are 7: coarse, middle, fine, fine, middle, fine, fine, which is how Orpheus lays them out.

Legend: B batch, K codes of a frame, T code frames, L frames of one level, S samples.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from unified_base.config import parse_config
from unified_base.safetensors_files import check_weights
from unified_tokenizers.adapters_audio import AudioCodecAdapter, CodecFacts
from unified_tokenizers.foreign_model import check_size
from unified_tokenizers.layers import receptive_field
from unified_tokenizers.saved import saved_whole
from unified_tokenizers.saved_config import read_entries
from unified_tokenizers.snac_model import SnacConfig, SnacModel

__all__ = ["SnacAdapter"]

# Of torch's older weight norm, which some checkpoints were saved with, and of the newer.
_WEIGHT_NORM = {
    "weight_g": "parametrizations.weight.original0",
    "weight_v": "parametrizations.weight.original1",
}


class SnacAdapter(AudioCodecAdapter):
    """`SnacModel` with the codes of a frame as levels; mono.

    Args:
        model: the loaded model.
        num_codebooks: codes of a frame; all of them, if given.
        noise: whether `decode` adds the decoder's noise, of a fixed seed: the same codes give the
            same sound. Without it the sound is a little duller and can be streamed.

    Raises:
        ValueError: a model of another class, or another number of codebooks.
    """

    model_class = "SnacModel"
    model_type = "snac"

    def __init__(self, model: SnacModel, num_codebooks: int | None = None, noise: bool = True):
        self._slots = list(_depth_first(model.config)) if isinstance(model, SnacModel) else []
        super().__init__(model, num_codebooks)
        self.noise = noise and model.config.noise
        self.settings = {"noise": noise}

    @classmethod
    def _load(cls, path: Path, model_type: str) -> tuple[Any, list[str]]:
        entries = read_entries(path / "config.json", "codec")
        names = {field.name for field in fields(SnacConfig)}
        known = {key: value for key, value in entries.items() if key in names}
        config = parse_config(SnacConfig, known, str(path / "config.json"))
        numbers = check_weights(path, "model.safetensors")
        check_size(lambda: SnacModel(config), numbers, str(path))
        model = SnacModel(config)
        tensors = {
            _current_name(name): tensor.float()
            for name, tensor in load_file(path / "model.safetensors").items()
        }
        missing, unknown = model.load_state_dict(tensors, strict=False)
        if unknown:
            raise ValueError(f"the weights hold {unknown[0]}, which SNAC does not have")
        return model, list(missing)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write config.json and model.safetensors by the published names, our settings beside."""
        state = {name: value.contiguous() for name, value in self.model.state_dict().items()}
        with saved_whole(folder) as path:
            save_file(state, path / "model.safetensors")
            config = json.dumps(self._config_entries(), indent=2)
            (path / "config.json").write_text(config + "\n", "utf-8")
            self.save_settings(path)

    def fingerprint_settings(self) -> dict[str, Any]:
        """None: noise changes no code."""
        return {}

    def _config_entries(self) -> dict[str, Any]:
        return asdict(self.model.config)

    def _read_facts(self) -> CodecFacts:
        config, number = self.model.config, len(self._slots)
        hop = config.hop_length * config.frames_per_period
        return CodecFacts(config.sampling_rate, hop, 1, config.codebook_size, number, number)

    @property
    def encode_context(self) -> tuple[int, int] | None:
        """Samples before and after a code frame that its codes depend on; None: no bound."""
        config = self.model.config
        if config.attn_window_size is not None:
            return None
        first, last = receptive_field(self.model.encoder, 0, config.frames_per_period - 1)
        return -first, last - (self.hop - 1)

    @property
    def decode_context(self) -> tuple[int, int] | None:
        """Code frames before and after a frame that its samples depend on; None: no bound."""
        config = self.model.config
        if self.noise or config.attn_window_size is not None:
            return None
        first, last = receptive_field(self.model.decoder, 0, self.hop - 1)
        return -(first // config.frames_per_period), last // config.frames_per_period

    @torch.no_grad()
    def code_vectors(self) -> tuple[Tensor, ...]:
        """The vector of every code of each of the K slots: tensors (C, D) of mean 0."""
        vectors = []
        for level in self.model.quantizer.quantizers:
            values = level.out_proj(level.codebook.weight.T[None])[0].T.cpu()
            vectors.append(values - values.mean(0))
        return tuple(vectors[level] for level, _ in self._slots)

    def _to_codes(self, waveform_BCS: Tensor) -> Tensor:
        levels = self.model.encode(waveform_BCS)
        frames = waveform_BCS.shape[2] // self.hop
        grouped = [codes.view(len(codes), frames, -1) for codes in levels]  # (B, T, L / T)
        return torch.stack([grouped[level][:, :, offset] for level, offset in self._slots], 1)

    def _to_waveform(self, codes_BKT: Tensor) -> Tensor:
        strides = self.model.config.vq_strides
        slots: list[list[Tensor]] = [[] for _ in strides]
        for slot, (level, _) in enumerate(self._slots):
            slots[level].append(codes_BKT[:, slot])
        # Slots of one level come in order of time.
        levels = [torch.stack(codes, 2).flatten(1) for codes in slots]
        generator = torch.Generator().manual_seed(0) if self.noise else None
        return self.model.decode(levels, generator)


def _depth_first(config: SnacConfig) -> Iterator[tuple[int, int]]:
    """(level, number within the level) of every code of a frame."""
    strides, frames = config.vq_strides, config.frames_per_period

    def inside(level: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
        if level == len(strides):
            return
        for at in range(start, stop, strides[level]):
            yield level, at // strides[level]
            yield from inside(level + 1, at, at + strides[level])

    return inside(0, 0, frames)


def _current_name(name: str) -> str:
    stem, _, last = name.rpartition(".")
    return f"{stem}.{_WEIGHT_NORM[last]}" if last in _WEIGHT_NORM else name
