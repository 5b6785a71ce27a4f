"""Qwen3-Omni's code2wav as a tokenizer: codes to sound, at 24 kHz and 12.5 frames a second.

No encoder was published with it, so that it decodes alone. Its convolutions drop samples at the end
of a sound, as DAC with an odd stride does; they are completed with silence.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from torch import Tensor, arange

from unified_tokenizers.adapters_audio import AudioCodecAdapter, CodecFacts
from unified_tokenizers.foreign_model import build_model
from unified_tokenizers.hub import tensors_inside
from unified_tokenizers.saved_config import read_entries

__all__ = ["Code2WavAdapter"]

_SAMPLE_RATE = 24_000  # of the published model, whose config does not say it
_CHUNK, _BEFORE = 300, 25  # frames decoded at a time, and those before them, as transformers does


class Code2WavAdapter(AudioCodecAdapter):
    """Qwen3OmniMoeCode2Wav, of a whole checkpoint of Qwen3-Omni."""

    model_class = "Qwen3OmniMoeCode2Wav"
    model_type = "qwen3_omni_moe_code2wav"
    whole_type = "qwen3_omni_moe"

    @classmethod
    def _load(cls, path: Path, model_type: str) -> tuple[Any, list[str]]:
        import transformers

        kind: Any = transformers.Qwen3OmniMoeCode2Wav
        part = "code2wav" if model_type == cls.whole_type else ""
        entries: Any = read_entries(path / "config.json", "codec")
        entries = entries.get(f"{part}_config") if part else entries
        if not isinstance(entries, dict):
            raise ValueError(f"{path / 'config.json'} has no code2wav_config")
        config = kind.config_class(**{k: v for k, v in entries.items() if k != "model_type"})
        return build_model(kind, config, tensors_inside(path, part))

    def save_settings(self, path: Path) -> None:
        """See `CodecAdapter.save_settings`; with the model_type that transformers' config lacks."""
        super().save_settings(path)
        entries = {**read_entries(path / "config.json", "codec"), "model_type": self.model_type}
        (path / "config.json").write_text(json.dumps(entries, indent=2) + "\n", "utf-8")

    def _read_facts(self) -> CodecFacts:
        config = self.model.config
        hop = math.prod((*config.upsample_rates, *config.upsampling_ratios))
        levels = config.num_quantizers
        return CodecFacts(_SAMPLE_RATE, hop, 1, config.codebook_size, levels, levels)

    def values_of(self, codes_TK: Tensor) -> Tensor:
        """Codes of all codebooks, int64 (T, K), to the mean of their vectors (T, D)."""
        offsets = self.model.config.codebook_size * arange(
            codes_TK.shape[1], device=codes_TK.device
        )
        vectors: Tensor = self.model.code_embedding(codes_TK + offsets).mean(1)
        return vectors

    def _to_codes(self, waveform_BCS: Tensor) -> Tensor:
        raise ValueError(
            "code2wav turns codes into sound and has no encoder: Qwen3-Omni hears through a tower"
            " of its own, which is not read here"
        )

    def _to_waveform(self, codes_BKT: Tensor) -> Tensor:
        waveform: Tensor = self.model.chunked_decode(codes_BKT, _CHUNK, _BEFORE)
        return waveform
