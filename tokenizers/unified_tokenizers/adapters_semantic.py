"""Codecs that hear what is said as well: X-Codec, Higgs Audio v2, X-Codec 2, NeuCodec.

HuBERT or wav2vec2-BERT hears the same sound as the acoustic encoder; its features are quantized
with the acoustic ones. It needs all of a recording, so streams give codes and sound at the end.

X-Codec (arXiv:2408.17175) and Higgs Audio v2's tokenizer have residual codebooks. X-Codec 2
(arXiv:2502.04128) and NeuCodec (arXiv:2509.09550) have one of finite scalar quantization, and see
what their feature extractors of transformers make of a recording: log-mel features, normalised over
all of it, and one sample of silence more.

Legend: B batch, C channels, K codebooks, T code frames, S samples.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from torch import Tensor

from unified_base.text import quoted
from unified_tokenizers.adapters_audio import (
    AudioCodecAdapter,
    CodecFacts,
    bandwidth_for,
    most_for_bandwidths,
)
from unified_tokenizers.saved_config import read_entries
from unified_tokenizers.spectral import resampled

__all__ = ["HiggsAudioAdapter", "NeuCodecAdapter", "Xcodec2Adapter", "XcodecAdapter"]

_SEMANTIC_HOP = 320
"""Samples of a frame of wav2vec2-BERT's: the feature extractors have it as a constant."""


class XcodecAdapter(AudioCodecAdapter):
    """XcodecModel, such as hf-audio/xcodec-hubert-librispeech; mono."""

    model_class = "XcodecModel"
    model_type = "xcodec"

    def _read_facts(self) -> CodecFacts:
        config = self.model.config
        return CodecFacts(
            config.sample_rate, config.hop_length, 1, config.codebook_size,
            most_for_bandwidths(self.model),
        )  # fmt: skip

    def _to_codes(self, waveform_BCS: Tensor) -> Tensor:
        bandwidth = bandwidth_for(self.model, self.num_codebooks)
        return self.model.encode(waveform_BCS, bandwidth=bandwidth, return_dict=True).audio_codes

    def _to_waveform(self, codes_BKT: Tensor) -> Tensor:
        return self.model.decode(codes_BKT, return_dict=True).audio_values


class HiggsAudioAdapter(XcodecAdapter):
    """HiggsAudioV2TokenizerModel, such as eustlb/higgs-audio-v2-tokenizer; mono.

    X-Codec at 24 kHz, 25 frames a second, with codes of a lower dimension; HuBERT hears 16 kHz.
    """

    model_class = "HiggsAudioV2TokenizerModel"
    model_type = "higgs_audio_v2_tokenizer"


class Xcodec2Adapter(AudioCodecAdapter):
    """Xcodec2Model, such as hf-audio/xcodec2: mono, one codebook.

    Codes are those of its feature extractor and model. That extractor adds a sample before it
    completes the last frame, so whole frames get one of silence after them: it is seen, and its
    code, which `audio_codes_mask` marks as none of the recording's, is left out.
    """

    completes_frames = False

    model_class = "Xcodec2Model"
    model_type = "xcodec2"
    extractor_class = "Xcodec2FeatureExtractor"

    @classmethod
    def _load(cls, path: Path, model_type: str) -> tuple[Any, list[str]]:
        model, missing = super()._load(path, model_type)
        stated = path / "preprocessor_config.json"
        if stated.exists():
            cls._check_extractor(read_entries(stated, "codec"), _encoder_rate(model), str(stated))
        return model, missing

    @staticmethod
    def _check_extractor(entries: dict[str, Any], rate: int, where: str) -> None:
        """Refuse an extractor that is another model's. What else it states changes no code."""
        for name, expected in (("hop_length", _SEMANTIC_HOP), ("sampling_rate", rate)):
            if entries.get(name, expected) != expected:
                raise ValueError(
                    f"{where}: {name} is {quoted(entries[name])}, but the model beside it has"
                    f" {expected}"
                )

    def _read_facts(self) -> CodecFacts:
        import transformers

        config = self.model.config
        hop = math.prod(config.downsampling_ratios)
        if hop != _SEMANTIC_HOP:
            raise ValueError(
                f"downsampling_ratios {list(config.downsampling_ratios)} have the product {hop},"
                f" expected {_SEMANTIC_HOP}: so long are the frames of the semantic encoder"
            )
        levels = list(config.quantization_levels)
        if min(levels) < 2:
            raise ValueError(f"quantization_levels are {levels}, expected 2 or more each")
        self._encoder_rate = _encoder_rate(self.model)
        self._extractor: Any = getattr(transformers, self.extractor_class)(
            sampling_rate=self._encoder_rate, hop_length=hop
        )
        return CodecFacts(self._decoder_rate(), config.hop_length, 1, math.prod(levels), 1)

    def _decoder_rate(self) -> int:
        return self.model.config.sampling_rate

    def values_of(self, codes_TK: Tensor) -> Tensor:
        """Codes of the only codebook, int64 (T, 1), to their vectors (T, D)."""
        return self.model.quantizer.from_codes(codes_TK)

    def _to_codes(self, waveform_BCS: Tensor) -> Tensor:
        # On the CPU whatever the model is on: codes do not depend on the device.
        features = self._extractor(
            list(waveform_BCS[:, 0].cpu()), sampling_rate=self._encoder_rate, return_tensors="pt"
        )
        codes = self.model.encode(**features.to(self.device), return_dict=True).audio_codes
        return codes[:, :, : -(-waveform_BCS.shape[2] // _SEMANTIC_HOP)]

    def _to_waveform(self, codes_BKT: Tensor) -> Tensor:
        return self.model.decode(codes_BKT, return_dict=True).audio_values


class NeuCodecAdapter(Xcodec2Adapter):
    """NeuCodecModel, such as neuphonic/neucodec: mono, one codebook.

    It decodes to 24 kHz what it encoded at 16 kHz. The rate of this tokenizer is that of what
    comes out; what is encoded is resampled, as the published package does with recordings of other
    rates. The model drops a last frame that is not whole: here it is completed with silence first.
    """

    completes_frames = True

    model_class = "NeuCodecModel"
    model_type = "neucodec"
    extractor_class = "NeuCodecFeatureExtractor"

    def _decoder_rate(self) -> int:
        return self.model.config.output_sampling_rate

    def _to_codes(self, waveform_BCS: Tensor) -> Tensor:
        return super()._to_codes(resampled(waveform_BCS, self.sample_rate, self._encoder_rate))


def _encoder_rate(model: Any) -> int:
    """Hz that the encoders of X-Codec 2 or NeuCodec hear."""
    config = model.config
    return getattr(config, "input_sampling_rate", None) or config.sampling_rate
