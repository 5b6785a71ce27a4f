"""`VQAudioTokenizer` computed with numpy: sound <-> codes without torch.

Legend: B batch, K codebooks, T code frames, S samples, D width, F frequency bins.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from unified_tokenizers.checks import check_codes, check_samples, check_sound_array
from unified_tokenizers.numpy_layers import (
    Floats,
    NumpyConvNeXt,
    NumpyLinear,
    NumpyMLP,
    NumpyNorm,
    TensorTable,
)
from unified_tokenizers.numpy_quantizer import NumpyCodeRows, NumpyQuantizer
from unified_tokenizers.numpy_tokenizer import NumpyTokenizer
from unified_tokenizers.presets import AUDIO_PRESETS
from unified_tokenizers.tokenizer_configs import AudioTokenizerConfig

__all__ = ["NumpyAudioTokenizer"]


class NumpyAudioTokenizer(NumpyTokenizer):
    """Satisfies `base.AudioTokenizer` and `arrays.ArrayTokenizer`."""

    modality = "audio"
    config_class = AudioTokenizerConfig
    presets = AUDIO_PRESETS
    module_class = ("audio", "VQAudioTokenizer")
    encode_places: ClassVar = {
        "front": 4,
        "short_front": 4,
        "fold": 1,
        "encoder": 1,
        "to_quantizer": 1,
    }
    decode_places: ClassVar = {
        "from_quantizer": 1, "blocks_1": 1, "grow": 1, "blocks_2": 2, "grow_4": 2, "blocks_4": 4,
        "head": 4,
    }  # fmt: skip
    config: AudioTokenizerConfig

    def _build(self, table: TensorTable) -> None:
        config = self.config
        if config.hop % 4 or len(config.decoder_depths) not in (2, 3):
            raise ValueError("hop and depths that no tokenizer has")
        mels, step, causal = config.num_mels, config.hop // 4, config.causal
        self.fronts = [_LogMel(table, "front", 1024, step, mels, causal)]
        if config.short_window:
            short = _LogMel(table, "short_front", config.short_window, step, mels // 2, causal)
            self.fronts.append(short)
            mels += mels // 2
        width, dims = config.encoder_width, config.quantizer.width
        self.fold = NumpyLinear(table, "fold", 4 * mels, width)
        self.encoder = [
            _frames(table, f"encoder.{at}", width, causal)
            if causal or config.encoder == "conv"
            else NumpyMLP(table, f"encoder.{at}", width)
            for at in range(config.encoder_depth)
        ]
        self.before_quantizer = NumpyNorm(table, "to_quantizer.0", width)
        self.to_quantizer = NumpyLinear(table, "to_quantizer.1", width, dims)
        self.quantizer = NumpyQuantizer(config.quantizer, table, "quantizer")
        self._build_decoder(table)

    def _build_decoder(self, table: TensorTable) -> None:
        config, width = self.config, self.config.decoder_width
        self.from_quantizer = NumpyLinear(table, "from_quantizer", config.quantizer.width, width)
        self.code_rows = NumpyCodeRows(table, self.codebook_sizes, width)
        self.blocks = [
            [_frames(table, f"blocks_{2**at}.{i}", width, config.causal) for i in range(depth)]
            for at, depth in enumerate(config.decoder_depths)
        ]
        names = ("grow", "grow_4")[: len(self.blocks) - 1]
        self.grow = [NumpyLinear(table, name, width, 2 * width) for name in names]
        hop = config.hop // (4 if len(self.blocks) == 3 else 2)
        self.before_head = NumpyNorm(table, "head.0", width)
        self.head = NumpyLinear(table, "head.1", width, 4 * hop + 2)
        self.inverse = _InverseSTFT(4 * hop, hop)

    @property
    def sample_rate(self) -> int:
        """Samples per second of what is encoded and decoded, Hz."""
        return self.config.sample_rate

    @property
    def channels(self) -> int:
        """Channels of what is encoded and decoded: 1 mono."""
        return 1

    @property
    def hop(self) -> int:
        """Samples per code frame."""
        return self.config.hop

    @property
    def frame_rate(self) -> float:
        """Code frames per second."""
        return self.sample_rate / self.hop

    @property
    def bits_per_second(self) -> float:
        """Bits of the codes per second of sound, before entropy coding."""
        return self.frame_rate * sum(math.log2(size) for size in self.codebook_sizes)

    @property
    def encode_context(self) -> tuple[int, int] | None:
        """Samples before and after a code frame that its codes depend on; causal: none after.

        None with a level: it is measured on the whole.
        """
        return self.config.encode_context if self.config.level is None else None

    @property
    def decode_context(self) -> tuple[int, int]:
        """Code frames before and after a frame that its samples depend on; causal: one after."""
        return self.config.decode_context

    def _num_codes(self, media: np.ndarray) -> int:
        return -(-media.shape[-1] // self.hop)

    def _encode(self, media: np.ndarray) -> np.ndarray:
        waveform_BS, hop = self.config.levelled(check_sound_array(media)[:, 0]), self.hop
        padded = np.pad(waveform_BS, ((0, 0), (0, -waveform_BS.shape[1] % hop)))
        before, after = self.config.encode_context
        context = (-(-before // hop), -(-after // hop))
        chunks = []
        for first, start, stop, last in self.config.chunks(padded.shape[1] // hop, context):
            codes_BTK = self.quantizer.codes_of(self._features(padded[:, first * hop : last * hop]))
            chunks.append(codes_BTK[:, start - first : stop - first])
        return np.ascontiguousarray(np.concatenate(chunks, 1).transpose(0, 2, 1))

    def _features(self, waveform_BS: Floats) -> Floats:
        """Waveforms (B, S), S a multiple of `hop`, to (B, T, dims) before quantization."""
        mel = np.concatenate([front(waveform_BS) for front in self.fronts], 2)
        folded = mel.reshape(len(mel), mel.shape[1] // 4, -1) * np.float32(0.25) + np.float32(1)
        x = self.fold(folded)[:, None]  # (B, 1, T, D)
        for block in self.encoder:
            x = block(x)
        return self.to_quantizer(self.before_quantizer(x))[:, 0]

    def _decode(self, codes: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
        check_codes(codes, self.codebook_sizes, 1, "audio")
        check_samples(codes.shape[2], size[0], self.hop)
        codes_BTK, chunks = codes.transpose(0, 2, 1), []
        for first, start, stop, last in self.config.chunks(codes.shape[2], self.decode_context):
            samples = np.clip(self._waveform(codes_BTK[:, first:last]), -1, 1)
            chunks.append(samples[:, (start - first) * self.hop : (stop - first) * self.hop])
        return np.ascontiguousarray(np.concatenate(chunks, 1)[:, None, : size[0]])

    def _waveform(self, codes_BTK: np.ndarray) -> Floats:
        """Codes to waveforms (B, T * hop), not clipped."""
        values = self.quantizer.values_of(codes_BTK)
        x = (self.from_quantizer(values) + self.code_rows(codes_BTK))[:, None]  # (B, 1, T, D)
        for at, blocks in enumerate(self.blocks):
            if at:  # each frame becomes two
                x = self.grow[at - 1](x).reshape(len(x), 1, -1, x.shape[-1])
            for block in blocks:
                x = block(x)
        log_magnitude, phase = np.split(self.head(self.before_head(x))[:, 0], 2, -1)  # (B, T, F)
        magnitude = np.exp(np.minimum(log_magnitude, 7))
        spectrum = np.empty(magnitude.shape, np.complex64)
        spectrum.real, spectrum.imag = magnitude * np.cos(phase), magnitude * np.sin(phase)
        return self.inverse(spectrum)


def _frames(table: TensorTable, name: str, width: int, causal: bool) -> NumpyConvNeXt:
    return NumpyConvNeXt(table, name, width, 7, frames=True, causal=causal)


def _window(size: int) -> Floats:
    """Hann's, periodic."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)


class _LogMel:
    """`spectral.LogMel`: (B, S) in [-1, 1] to (B, S / step, mels)."""

    def __init__(
        self, table: TensorTable, name: str, size: int, step: int, mels: int, causal: bool
    ) -> None:
        self.window, self.size, self.step = _window(size), size, step
        self.bank_FM = table.get(f"{name}.bank", size // 2 + 1, mels)
        margin = size - step
        if margin < 0:
            raise ValueError(f"windows of {size} samples do not reach over {step}")
        self.context = (margin, 0) if causal else (margin // 2, margin - margin // 2)

    def __call__(self, waveform_BS: Floats) -> Floats:
        padded = np.pad(waveform_BS, ((0, 0), self.context))
        frames = sliding_window_view(padded, self.size, 1)[:, :: self.step] * self.window
        spectrum = np.fft.rfft(frames)  # (B, T, F)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        mel = np.sqrt(power + 1e-12).astype(np.float32) @ self.bank_FM
        logarithm: Floats = np.log(np.maximum(mel, np.float32(1e-5)))
        return logarithm


class _InverseSTFT:
    """`spectral.InverseSTFT`: complex64 (B, T, size / 2 + 1) to waveforms (B, T * hop)."""

    def __init__(self, size: int, hop: int) -> None:
        self.window, self.size, self.hop = _window(size), size, hop

    def __call__(self, spectrum_BTF: np.ndarray) -> Floats:
        frames = np.fft.irfft(spectrum_BTF, self.size).astype(np.float32) * self.window
        number = frames.shape[1]
        squares = np.broadcast_to(np.square(self.window), (1, number, self.size))
        whole, envelope = self._added_up(frames), self._added_up(squares)[0]
        start = (self.size - self.hop) // 2
        stop = start + number * self.hop
        waveform: Floats = whole[:, start:stop] / envelope[start:stop]
        return waveform

    def _added_up(self, frames_BTN: Floats) -> Floats:
        """Frames of four hops, each a hop after the one before, added up: (B, (T + 3) hop)."""
        B, T, _ = frames_BTN.shape
        hops = self.size // self.hop
        total = np.zeros((B, T + hops - 1, self.hop), np.float32)
        parts = frames_BTN.reshape(B, T, hops, self.hop)
        for at in range(hops):
            total[:, at : at + T] += parts[:, :, at]
        return total.reshape(B, -1)
