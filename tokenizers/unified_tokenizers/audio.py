"""The audio tokenizer: sound <-> frames of codes.

A log-mel front (and perhaps one of shorter windows) and residual MLPs on code frames, a quantizer,
ConvNeXt blocks on frames and parts of them and an inverse-STFT head (Vocos, arXiv:2306.00814): no
transposed convolutions, whose upsampling leaves tones in the sound. The encoder looks at one code
frame (and the 27 ms on either side that its windows reach), so that the same sound gives the same
codes whatever comes before and after; the decoder looks far around.

A causal one is for conversation: its encoder sees the past alone, and more of it, so that codes
come with the last sample of their frame. Its decoder waits for one frame more, because windows that
end where their frame does hardly hear the end of it: sound is late by the two frames in all.

Legend: B batch, K codebooks, T code frames, S samples, D width.
"""

from __future__ import annotations

from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from unified_tokenizers.base import Codes
from unified_tokenizers.checks import check_audio_codes, check_waveform
from unified_tokenizers.layers import ConvNeXt1d, PixelMLP
from unified_tokenizers.modules import BaseAudioTokenizer
from unified_tokenizers.presets import AUDIO_PRESETS
from unified_tokenizers.quantizers import CodeRows, Quantized, Quantizer
from unified_tokenizers.saved import SavedTokenizer
from unified_tokenizers.spectral import InverseSTFT, LogMel
from unified_tokenizers.tokenizer_configs import AudioTokenizerConfig

__all__ = ["AudioTokenizerConfig", "VQAudioTokenizer"]


class VQAudioTokenizer(SavedTokenizer, BaseAudioTokenizer):
    """Mono waveforms (B, 1, S) to codes (B, K, T), T = ceil(S / hop), and back."""

    modality: Literal["audio"] = "audio"
    config_class = AudioTokenizerConfig
    presets = AUDIO_PRESETS
    numpy_class = ("numpy_audio", "NumpyAudioTokenizer")
    # What encodes: how the names of its parameters begin.
    encoding = ("fold.", "encoder.", "to_quantizer.")

    def __init__(self, config: AudioTokenizerConfig) -> None:
        super().__init__()
        if config.hop % 4:
            raise ValueError(f"hop {config.hop} is not a multiple of 4 samples")
        if config.short_window and not config.hop // 4 <= config.short_window < 1024:
            raise ValueError(
                f"short_window is {config.short_window} samples, expected {config.hop // 4} (the"
                " distance of its windows) to 1023, or 0 for none"
            )
        if len(config.decoder_depths) not in (2, 3):
            raise ValueError(f"decoder_depths are {config.decoder_depths}, expected two or three")
        self.config = config
        width, causal = config.encoder_width, config.causal
        rate, frame, mels = config.sample_rate, config.hop // 4, config.num_mels
        self.front = LogMel(rate, 1024, frame, mels, causal)
        if config.short_window:
            self.short_front = LogMel(rate, config.short_window, frame, mels // 2, causal)
            mels += mels // 2
        self.fold = nn.Linear(4 * mels, width)
        if config.encoder not in ("mlp", "conv"):
            raise ValueError(f"encoder {config.encoder!r}, expected 'mlp' or 'conv'")
        around = causal or config.encoder == "conv"
        self.encoder = nn.Sequential(
            *(
                ConvNeXt1d(width, causal=causal) if around else PixelMLP(width)
                for _ in range(config.encoder_depth)
            )
        )
        dims = config.quantizer.width
        self.to_quantizer = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dims))
        self.quantizer = Quantizer(config.quantizer)

        width = config.decoder_width
        self.from_quantizer = nn.Linear(dims, width)
        self.code_rows = CodeRows(config.quantizer.codebook_sizes, width)
        on_frames, on_halves, *on_quarters = config.decoder_depths
        self.blocks_1 = _blocks(width, on_frames, causal)
        self.grow = nn.Linear(width, 2 * width)
        self.blocks_2 = _blocks(width, on_halves, causal)
        if on_quarters:
            self.grow_4 = nn.Linear(width, 2 * width)
            self.blocks_4 = _blocks(width, on_quarters[0], causal)
        hop = config.hop // (4 if on_quarters else 2)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * hop + 2))
        self.inverse = InverseSTFT(4 * hop, hop)

    def fill(self) -> VQAudioTokenizer:
        """Compute the fronts' filters; loading weights brings them along, so only training does."""
        for module in self.modules():
            if isinstance(module, LogMel):
                module.fill()
        return self

    @property
    def sample_rate(self) -> int:
        """Samples per second of what is encoded and decoded, Hz."""
        return self.config.sample_rate

    @property
    def hop(self) -> int:
        """Samples per code frame."""
        return self.config.hop

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes in each of the K codebooks."""
        return self.config.quantizer.codebook_sizes

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

    @property
    def last_weight(self) -> Tensor:
        """The weight of the decoder's last layer, where losses are balanced."""
        layer = self.head[1]
        assert isinstance(layer, nn.Linear)
        return layer.weight

    def hidden(self, waveform_BS: Tensor) -> Tensor:
        """Waveforms (B, S), S a multiple of `hop`, to the encoder's output (B, T, D)."""
        with torch.autocast(waveform_BS.device.type, enabled=False):
            mel = self.front(waveform_BS.float())
            if self.config.short_window:
                mel = torch.cat([mel, self.short_front(waveform_BS.float())], 2)
        x = self.fold(rearrange(mel, "b (t f) m -> b t (f m)", f=4) * 0.25 + 1.0)
        return self.encoder(x)

    def features(self, waveform_BS: Tensor) -> Tensor:
        """Waveforms (B, S), S a multiple of `hop`, to (B, T, dims) before quantization."""
        return self.to_quantizer(self.hidden(waveform_BS))

    def quantize(self, features_BTD: Tensor) -> Quantized:
        """Features to values (B, T, D), codes (B, K, T) and the quantizer's loss."""
        values, codes, loss = self.quantizer(features_BTD)
        return Quantized(values, rearrange(codes, "b t k -> b k t"), loss)

    def waveform(self, values_BTD: Tensor, codes_BKT: Tensor) -> Tensor:
        """Codes and their values to waveforms (B, T * hop), not clipped."""
        rows = self.code_rows(rearrange(codes_BKT, "b k t -> b t k"))
        x = self.from_quantizer(values_BTD) + rows
        x = self.blocks_1(x)
        x = self.blocks_2(rearrange(self.grow(x), "b t (p d) -> b (t p) d", p=2))
        if len(self.config.decoder_depths) == 3:
            x = self.blocks_4(rearrange(self.grow_4(x), "b t (p d) -> b (t p) d", p=2))
        # Exponentials and phases in float32: bfloat16 leaves audible noise.
        log_magnitude, phase = rearrange(self.head(x).float(), "b t (c f) -> c b f t", c=2)
        with torch.autocast(x.device.type, enabled=False):
            magnitude = log_magnitude.clamp(max=7.0).exp()
            return self.inverse(torch.polar(magnitude, phase))

    def values_of(self, codes_TK: Tensor) -> Tensor:
        """Codes of all codebooks, int64 (T, K), to their values (T, dims)."""
        return self.quantizer.values_of(codes_TK[None])[0]

    @torch.no_grad()
    def encode(self, media: Tensor) -> Codes:
        """Waveforms to codes.

        Args:
            media: (B, 1, S) float32 in [-1, 1] at `sample_rate`. The last frame is completed
                with silence for encoding, and `decode` cuts it off again.

        Returns:
            Codes with int64 codes (B, K, ceil(S / hop)).

        Raises:
            ValueError: another shape or dtype, empty, or values that are not finite.
        """
        waveform = check_waveform(media, 1)[:, 0]
        if self.config.level is not None:
            # By numpy: the same gain wherever the weights are.
            waveform = torch.from_numpy(self.config.levelled(waveform.float().cpu().numpy()))
        waveform = waveform.to(self.device)
        num_samples = media.shape[2]
        padded = F.pad(waveform, (0, -num_samples % self.hop))
        before, after = self.config.encode_context
        context = (-(-before // self.hop), -(-after // self.hop))
        with self.encode_precision():
            chunks = []
            for first, start, stop, last in self.config.chunks(
                padded.shape[1] // self.hop, context
            ):
                part = padded[:, first * self.hop : last * self.hop]
                codes = self.quantize(self.features(part)).codes
                chunks.append(codes[:, :, start - first : stop - first])
        return Codes(torch.cat(chunks, 2).to(media.device), (num_samples,))

    @torch.no_grad()
    def decode(self, codes: Codes) -> Tensor:
        """Codes to waveforms: float32 (B, 1, codes.size[0]) in [-1, 1].

        Raises:
            ValueError: codes out of range or of a wrong shape, or a length that does not belong
                to the number of frames.
        """
        check_audio_codes(codes, self.codebook_sizes, self.hop)
        chunks = []
        with self.decode_precision():
            for first, start, stop, last in self.config.chunks(
                codes.codes.shape[2], self.decode_context
            ):
                part = codes.codes[:, :, first:last].to(self.device)
                values = self.quantizer.values_of(rearrange(part, "b k t -> b t k"))
                samples = self.waveform(values, part).float().clamp(-1, 1)
                chunks.append(samples[:, (start - first) * self.hop : (stop - first) * self.hop])
        waveform = torch.cat(chunks, 1)[:, None, : codes.size[0]]
        return waveform.to(codes.codes.device).contiguous()


def _blocks(width: int, depth: int, causal: bool) -> nn.Sequential:
    return nn.Sequential(*(ConvNeXt1d(width, causal=causal) for _ in range(depth)))
