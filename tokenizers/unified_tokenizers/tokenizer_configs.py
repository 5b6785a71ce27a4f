"""Shapes of our tokenizers, how far their parts see, and the pieces that large media are coded in.

Without torch: who only looks codes up, or decodes with numpy, needs none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from unified_base.level import level_gain
from unified_tokenizers.quantizer_config import QuantizerConfig

__all__ = [
    "AudioTokenizerConfig", "ImageTokenizerConfig", "VideoTokenizerConfig", "conv_context",
]  # fmt: skip

# A larger picture is coded in bands. Whole, one of 4096x4096 pixels at stride 12 would have
# 1,368 x 1,368 x 240 numbers in a single layer of the decoder: 1.8 GB.
_BAND_PIXELS = 2**20
# A longer recording is coded in chunks of so many frames, each with what lies around it.
_CHUNK_FRAMES = 1500


def conv_context(depths: tuple[int, ...]) -> int:
    """Rows of codes on each side that `ConvEncoder` and `ConvDecoder` reach to.

    Half a kernel of 5 for each block on codes, of 3 on halves and quarters of them.
    """
    on_codes, on_halves, on_quarters = depths
    return 2 * on_codes + -(-(2 * on_halves + on_quarters) // 4)


@dataclass(frozen=True)
class ImageTokenizerConfig:
    """Shape of an image tokenizer.

    Attributes:
        stride: side in pixels of the square that a code covers; for convolutional parts a multiple
            of 4.
        quantizer: which one, and its shape.
        encoder: `patch` (residual MLPs on each square alone), `conv` (ConvNeXt) or `vit`.
        encoder_width: channels of the encoder, at codes.
        encoder_depths: how many MLPs, or transformer blocks; of `conv` three: blocks on codes, on
            halves and on quarters of them.
        decoder: `conv` or `vit`.
        decoder_width: channels at codes.
        decoder_depths: as those of the encoder.
    """

    stride: int = 12
    quantizer: QuantizerConfig = field(default=QuantizerConfig("fsq", levels=(8, 8, 6, 5)))
    encoder: str = "patch"
    encoder_width: int = 320
    encoder_depths: tuple[int, ...] = (3,)
    decoder: str = "conv"
    decoder_width: int = 320
    decoder_depths: tuple[int, ...] = (4, 3, 1)

    @property
    def encode_context(self) -> int | None:
        """Rows and columns on each side of a code, in codes, that it depends on; None: all."""
        if self.encoder == "conv":
            return conv_context(self.encoder_depths)
        return 0 if self.encoder == "patch" else None

    @property
    def decode_context(self) -> int | None:
        """Rows and columns of codes on each side of one that its pixels depend on; None: all."""
        return conv_context(self.decoder_depths) if self.decoder == "conv" else None

    def bands(
        self, rows: int, columns: int, context: int | None
    ) -> Iterator[tuple[int, int, int, int]]:
        """Rows of codes worked on at once: (start, stop, and with their context start and stop)."""
        band = max(1, _BAND_PIXELS // (columns * self.stride**2)) if context is not None else rows
        for start in range(0, rows, band):
            stop, around = min(rows, start + band), context or 0
            yield start, stop, max(0, start - around), min(rows, stop + around)


@dataclass(frozen=True)
class AudioTokenizerConfig:
    """Shape of an audio tokenizer.

    Attributes:
        sample_rate: Hz.
        hop: samples per code frame; a multiple of 4.
        quantizer: which one, and its shape.
        num_mels: bins of the log-mel front, which has four frames per code frame.
        short_window: samples of a second front's window, with half as many bins, that tells when a
            sound begins: the first one's, of 1,024, tells its pitch. 0 is none.
        encoder: `mlp` (residual MLPs on each code frame alone) or `conv` (ConvNeXt blocks that see
            three frames to either side each; six back if causal, whichever it is).
        encoder_width, encoder_depth: channels, and blocks on code frames.
        decoder_width, decoder_depths: channels, and blocks on code frames, on halves of them and,
            where there are three, on quarters; a spectrum comes of each of the last.
        causal: codes depend on no sample after their frame, and sound on one code frame after it.
        level: dB below full scale, -60 to 0, to which every waveform is brought before it is
            encoded, by the level of what is heard in all of it (`unified_base.level`): a clip at
            half the volume has the same codes, and what is decoded has this level. None: codes
            tell how loud a sound is. With a level every code depends on the whole waveform, so that
            a stream gives its codes at the end.
    """

    sample_rate: int = 16_000
    hop: int = 640
    quantizer: QuantizerConfig = field(default=QuantizerConfig("fsq", levels=(8, 5, 5, 5), depth=2))
    num_mels: int = 80
    short_window: int = 0
    encoder: str = "mlp"
    encoder_width: int = 192
    encoder_depth: int = 3
    decoder_width: int = 320
    decoder_depths: tuple[int, ...] = (2, 4)
    causal: bool = False
    level: float | None = None

    def __post_init__(self) -> None:
        if self.level is not None and not -60 <= self.level <= 0:
            raise ValueError(f"level is {self.level} dB, expected -60 to 0, or null for none")
        if self.level is not None:  # -26 and -26.0 are one tokenizer, of one fingerprint
            object.__setattr__(self, "level", float(self.level))

    def levelled(self, waveform_BS: np.ndarray) -> np.ndarray:
        """Waveforms, float32 (B, S), at `level`; as they are where there is none."""
        if self.level is None:
            return waveform_BS
        return waveform_BS * level_gain(waveform_BS, self.sample_rate, self.level)[:, None].astype(
            np.float32
        )

    @property
    def mel_context(self) -> tuple[int, int]:
        """Samples before and after a frame of the log-mel front that its window reaches."""
        margin = 1024 - self.hop // 4
        return (margin, 0) if self.causal else (margin // 2, margin - margin // 2)

    @property
    def encode_context(self) -> tuple[int, int]:
        """Samples before and after a code frame that its codes depend on; causal: none after.

        Of waveforms that are at `level` already.
        """
        before, after = self.mel_context  # the other front's windows are shorter
        if self.causal:
            before += 6 * self.encoder_depth * self.hop
        elif self.encoder == "conv":
            before += 3 * self.encoder_depth * self.hop
            after += 3 * self.encoder_depth * self.hop
        return max(0, before), max(0, after)

    @property
    def decode_context(self) -> tuple[int, int]:
        """Code frames before and after a frame that its samples depend on; causal: one after."""
        first, *others = self.decoder_depths

        def frames(block: int) -> int:
            reach = 2  # spectra whose windows overlap, on either side
            for depth in reversed(others):
                reach = -(-(reach + block * depth) // 2)
            return reach + block * first

        # A block's kernel is of 7 frames.
        return (frames(6), frames(0)) if self.causal else (frames(3), frames(3))

    def chunks(self, frames: int, context: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
        """The chunks [start, stop) that a recording is coded in, each within its context
        [first, last): (first, start, stop, last), in frames."""
        for start in range(0, frames, _CHUNK_FRAMES):
            stop = min(frames, start + _CHUNK_FRAMES)
            yield max(0, start - context[0]), start, stop, min(frames, stop + context[1])


@dataclass(frozen=True)
class VideoTokenizerConfig:
    """Shape of a video tokenizer.

    Attributes:
        frame_rate: frames per second of what is encoded and decoded.
        stride: side in pixels of the square that a code covers, a multiple of 4.
        group: frames that share codes, but for the first, which has its own: 1, 2, 4 or 8.
        quantizer: which one, and its shape.
        encoder: of each frame: `patch` (residual MLPs on each square alone) or `conv` (ConvNeXt).
        encoder_width: channels of the encoder, at codes.
        encoder_depths: how many MLPs; of `conv` three: blocks on codes, on halves and on quarters.
        time_depth: causal blocks at each number of frames, in the encoder and in the decoder.
        decoder_width: channels at codes.
        decoder_depths: of the convolutional decoder of each frame, three as those of `conv`.
    """

    frame_rate: float = 8.0
    stride: int = 8
    group: int = 4
    quantizer: QuantizerConfig = field(default=QuantizerConfig("fsq", levels=(8, 8, 6, 5)))
    encoder: str = "patch"
    encoder_width: int = 192
    encoder_depths: tuple[int, ...] = (2,)
    time_depth: int = 1
    decoder_width: int = 192
    decoder_depths: tuple[int, ...] = (2, 1, 1)

    def __post_init__(self) -> None:
        if not 0 < self.frame_rate <= 1_000:
            raise ValueError(
                f"frame_rate is {self.frame_rate}, expected more than 0 and at most 1,000 a second"
            )
        if self.group not in (1, 2, 4, 8):
            raise ValueError(f"group is {self.group} frames, expected 1, 2, 4 or 8")
        if self.encoder not in ("patch", "conv"):
            raise ValueError(f"encoder {self.encoder!r}, expected 'patch' or 'conv'")
        number = 3 if self.encoder == "conv" else 1
        if len(self.encoder_depths) != number:
            raise ValueError(
                f"depths {self.encoder_depths}: a part of kind {self.encoder!r} has {number}"
            )
        object.__setattr__(self, "frame_rate", float(self.frame_rate))
