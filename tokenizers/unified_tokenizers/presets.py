"""Shapes of tokenizers by name: `preset: conv-base` in a configuration stands for its entries."""

from __future__ import annotations

from typing import Any

__all__ = ["AUDIO_PRESETS", "IMAGE_PRESETS", "VIDEO_PRESETS"]

IMAGE_PRESETS: dict[str, dict[str, Any]] = {
    "conv-small": {
        "encoder": "conv", "encoder_width": 256, "encoder_depths": (2, 2, 1),
        "decoder": "conv", "decoder_width": 256, "decoder_depths": (3, 2, 1),
    },
    "conv-base": {
        "encoder": "conv", "encoder_width": 512, "encoder_depths": (4, 3, 2),
        "decoder": "conv", "decoder_width": 512, "decoder_depths": (6, 4, 2),
    },
    "conv-large": {
        "encoder": "conv", "encoder_width": 768, "encoder_depths": (6, 4, 3),
        "decoder": "conv", "decoder_width": 1024, "decoder_depths": (10, 6, 3),
    },
    "vit-small": {
        "encoder": "vit", "encoder_width": 256, "encoder_depths": (4,),
        "decoder": "vit", "decoder_width": 256, "decoder_depths": (6,),
    },
    "vit-base": {
        "encoder": "vit", "encoder_width": 512, "encoder_depths": (8,),
        "decoder": "vit", "decoder_width": 768, "decoder_depths": (12,),
    },
    "vit-large": {
        "encoder": "vit", "encoder_width": 768, "encoder_depths": (12,),
        "decoder": "vit", "decoder_width": 1024, "decoder_depths": (24,),
    },
}  # fmt: skip
"""Of `ImageTokenizerConfig`."""

_16K: dict[str, Any] = {"sample_rate": 16_000, "short_window": 384}
_24K: dict[str, Any] = {
    "sample_rate": 24_000, "hop": 480, "num_mels": 100, "short_window": 576,
    "encoder_width": 320, "decoder_width": 512, "decoder_depths": (3, 6),
}  # fmt: skip
_GROUPED: dict[str, Any] = {"kind": "fsq", "levels": (8, 5, 5, 5)}
_SINGLE: dict[str, Any] = {"kind": "fsq", "levels": (8, 8, 8, 5, 5, 5)}
_RESIDUAL: dict[str, Any] = {"kind": "simvq", "codes": 1024, "dim": 8}

AUDIO_PRESETS: dict[str, dict[str, Any]] = {
    # 747 bit/s in 75 codes, 4.6M parameters.
    "speech-16k": {**_16K, "hop": 640, "quantizer": {**_GROUPED, "groups": 3}},
    # 750 bit/s in 75 codes, 4.6M.
    "speech-16k-residual": {**_16K, "hop": 640, "quantizer": {**_RESIDUAL, "depth": 3}},
    # 798 bit/s in 50 codes, 23.9M.
    "speech-16k-single": {**_16K, "hop": 320, "quantizer": _SINGLE},
    # 1993 bit/s in 200 codes, 14.0M.
    "speech-24k": {**_24K, "quantizer": {**_GROUPED, "groups": 4}},
    # 2000 bit/s in 200 codes, 14.0M.
    "speech-24k-residual": {**_24K, "quantizer": {**_RESIDUAL, "depth": 4}},
    # 798 bit/s in 50 codes, 44.7M.
    "speech-24k-single": {**_24K, "quantizer": _SINGLE},
    # 997 bit/s in 100 codes, 4.1M.
    "stream-16k": {**_16K, "hop": 320, "causal": True, "quantizer": {**_GROUPED, "groups": 2}},
    # 798 bit/s in 50 codes, 23.9M.
    "stream-16k-single": {**_16K, "hop": 320, "causal": True, "quantizer": _SINGLE},
    # 1993 bit/s in 200 codes, 14.0M.
    "stream-24k": {**_24K, "causal": True, "quantizer": {**_GROUPED, "groups": 4}},
    # 798 bit/s in 50 codes, 44.7M.
    "stream-24k-single": {**_24K, "causal": True, "quantizer": _SINGLE},
}
"""Of `AudioTokenizerConfig`. Those named stream are causal, their frames of 20 ms: sound is 40 ms
late."""

VIDEO_PRESETS: dict[str, dict[str, Any]] = {
    # 8 frames a second in groups of 4: 2 frames of codes a second behind the first.
    "video-small": {
        "frame_rate": 8.0, "stride": 8, "group": 4,
        "encoder": "patch", "encoder_width": 192, "encoder_depths": (2,), "time_depth": 1,
        "decoder_width": 192, "decoder_depths": (2, 1, 1),
    },
    "video-base": {
        "frame_rate": 8.0, "stride": 8, "group": 4,
        "encoder": "conv", "encoder_width": 384, "encoder_depths": (3, 2, 1), "time_depth": 2,
        "decoder_width": 384, "decoder_depths": (4, 3, 1),
    },
}  # fmt: skip
"""Of `VideoTokenizerConfig`."""
