"""The video tokenizer: frames <-> a grid of codes in time, rows and columns; causal in time.

Each frame is encoded by the parts of the image tokenizer, then joined in time by causal
convolutions (MAGVIT-v2, arXiv:2310.05737): the first frame has codes of its own, as a picture has,
and every `group` frames after it share theirs. No code depends on a later frame, and no pixel on a
later code, so that videos are coded as they come (`video_pieces`).

Legend: B batch, C channels, T frames, H W pixels, K codebooks, t h w code grid, D width.
"""

from __future__ import annotations

from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from unified_tokenizers.base import Codes
from unified_tokenizers.checks import check_video_codes, check_videos
from unified_tokenizers.image_parts import ConvDecoder, ConvEncoder, PatchEncoder
from unified_tokenizers.modules import BaseVideoTokenizer
from unified_tokenizers.presets import VIDEO_PRESETS
from unified_tokenizers.quantizers import CodeRows, Quantized, Quantizer
from unified_tokenizers.saved import SavedTokenizer
from unified_tokenizers.tokenizer_configs import VideoTokenizerConfig
from unified_tokenizers.video_parts import TimeStack, TimeState

__all__ = ["VQVideoTokenizer", "VideoTokenizerConfig"]

# A longer video is coded in pieces of about so many pixels.
_PIECE_PIXELS = 2**22


class VQVideoTokenizer(SavedTokenizer, BaseVideoTokenizer):
    """Videos of any size and length to (B, K, t, h, w) codes, t = 1 + ceil((T - 1) / group)."""

    modality: Literal["video"] = "video"
    config_class = VideoTokenizerConfig
    presets = VIDEO_PRESETS
    # What encodes: how the names of its parameters begin.
    encoding = ("encoder.", "join.", "to_quantizer.")

    def __init__(self, config: VideoTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        width, inner = config.encoder_width, config.decoder_width
        self.encoder: nn.Module
        if config.encoder == "conv":
            self.encoder = ConvEncoder(width, config.stride, config.encoder_depths)
        else:
            self.encoder = PatchEncoder(width, config.stride, config.encoder_depths[0])
        self.join = TimeStack(width, config.group, config.time_depth, grows=False)
        self.to_quantizer = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, config.quantizer.width)
        )
        self.quantizer = Quantizer(config.quantizer)
        self.from_quantizer = nn.Linear(config.quantizer.width, inner)
        self.code_rows = CodeRows(config.quantizer.codebook_sizes, inner)
        self.split = TimeStack(inner, config.group, config.time_depth, grows=True)
        self.decoder = ConvDecoder(inner, config.stride, config.decoder_depths)

    @property
    def stride(self) -> int:
        """Side in pixels of the square that one code covers."""
        return self.config.stride

    @property
    def group(self) -> int:
        """Frames that share codes, but for the first, which has its own."""
        return self.config.group

    @property
    def frame_rate(self) -> float:
        """Frames per second of what is encoded and decoded."""
        return self.config.frame_rate

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes in each of the K codebooks."""
        return self.config.quantizer.codebook_sizes

    @property
    def last_weight(self) -> Tensor:
        """The weight of the decoder's last layer, where losses are balanced."""
        return self.decoder.to_pixels.weight

    def hidden(self, pixels_BCTHW: Tensor, state: TimeState | None = None) -> Tensor:
        """Videos in [0, 1] (B, 3, T, H, W), sides multiples of `stride`, T = 1 + n * group, to the
        encoder's output (B, t, h, w, D). state: of the pieces before, after which T = n * group."""
        batch = len(pixels_BCTHW)
        frames = rearrange(pixels_BCTHW, "b c t h w -> (b t) c h w")
        grid = rearrange(self.encoder(frames * 2 - 1), "(b t) h w d -> b t h w d", b=batch)
        return self.join(grid, state or TimeState())

    def features(self, pixels_BCTHW: Tensor) -> Tensor:
        """Videos as `hidden` takes them to (B, t, h, w, dims)."""
        return self.to_quantizer(self.hidden(pixels_BCTHW))

    def quantize(self, features_BTHWD: Tensor) -> Quantized:
        """Features to values (B, t, h, w, D), codes (B, K, t, h, w) and the quantizer's loss."""
        frames, height = features_BTHWD.shape[1:3]
        flat = rearrange(features_BTHWD, "b t h w d -> b (t h w) d")
        values, codes, loss = self.quantizer(flat)
        return Quantized(
            rearrange(values, "b (t h w) d -> b t h w d", t=frames, h=height),
            rearrange(codes, "b (t h w) k -> b k t h w", t=frames, h=height),
            loss,
        )

    def videos(
        self, values_BTHWD: Tensor, codes_BKTHW: Tensor, state: TimeState | None = None
    ) -> Tensor:
        """Codes and their values to videos (B, 3, T, H, W), near [0, 1] but not clipped."""
        rows = self.code_rows(rearrange(codes_BKTHW, "b k t h w -> b t h w k"))
        grid = self.split(self.from_quantizer(values_BTHWD) + rows, state or TimeState())
        pictures = self.decoder(rearrange(grid, "b t h w d -> (b t) h w d"))
        return rearrange(pictures, "(b t) c h w -> b c t h w", b=len(grid)) * 0.5 + 0.5

    def values_of(self, codes_TK: Tensor) -> Tensor:
        """Codes of all codebooks, int64 (N, K), to their values (N, dims)."""
        return self.quantizer.values_of(codes_TK[None])[0]

    @torch.no_grad()
    def encode_piece(self, pixels_BCTHW: Tensor, state: TimeState) -> Tensor:
        """The codes (B, K, t, h, w) of a piece of videos, float32 in [0, 1], as `hidden` takes
        them."""
        with self.encode_precision():
            return self.quantize(self.to_quantizer(self.hidden(pixels_BCTHW, state))).codes

    @torch.no_grad()
    def decode_piece(self, codes_BKTHW: Tensor, state: TimeState) -> Tensor:
        """The frames of a piece of codes: float32 (B, 3, T, H, W) in [0, 1]."""
        with self.decode_precision():
            frames, height = codes_BKTHW.shape[2:4]
            flat = self.quantizer.values_of(rearrange(codes_BKTHW, "b k t h w -> b (t h w) k"))
            values = rearrange(flat, "b (t h w) d -> b t h w d", t=frames, h=height)
            return self.videos(values, codes_BKTHW, state).float().clamp(0, 1)

    @torch.no_grad()
    def encode(self, media: Tensor) -> Codes:
        """Videos to codes.

        Args:
            media: (B, 3, T, H, W), uint8, or floating point in [0, 1]. Sides need not be multiples
                of `stride`, nor T one more than a multiple of `group`: the last column, row and
                frame are repeated for encoding, and `decode` cuts them off again.

        Returns:
            Codes with int64 codes (B, K, 1 + ceil((T - 1) / group), ceil(H / stride),
            ceil(W / stride)), and size (T, H, W).

        Raises:
            ValueError: another shape or dtype, an empty video, values outside [0, 1], or values
                that are not finite.
        """
        check_videos(media)
        frames, height, width = media.shape[2:]
        state, parts = TimeState(), []
        for start, stop in self._pieces(1 + -(-(frames - 1) // self.group), height, width):
            # Frames of these codes; those behind the last are copies of it.
            first = 0 if start == 0 else 1 + (start - 1) * self.group
            wanted = torch.arange(first, 1 + (stop - 1) * self.group).clamp_max(frames - 1)
            piece = check_videos(media[:, :, wanted]).to(self.device)
            parts.append(self.encode_piece(self.padded(piece), state))
        return Codes(torch.cat(parts, 2).to(media.device), (frames, height, width))

    def padded(self, pixels_BCTHW: Tensor) -> Tensor:
        """Videos whose last row and column are repeated until sides are multiples of `stride`."""
        height, width = pixels_BCTHW.shape[3:]
        pad = (0, -width % self.stride, 0, -height % self.stride)
        flat = rearrange(pixels_BCTHW, "b c t h w -> (b t) c h w")
        padded = F.pad(flat, pad, mode="replicate")
        return rearrange(padded, "(b t) c h w -> b c t h w", b=len(pixels_BCTHW))

    @torch.no_grad()
    def decode(self, codes: Codes) -> Tensor:
        """Codes to videos: float32 (B, 3, *codes.size) in [0, 1].

        Raises:
            ValueError: codes out of range or of a wrong shape, or a size that does not belong
                to the grid.
        """
        check_video_codes(codes, self.codebook_sizes, self.stride, self.group)
        frames, height, width = codes.size
        state, parts = TimeState(), []
        for start, stop in self._pieces(codes.codes.shape[2], height, width):
            piece = codes.codes[:, :, start:stop].to(self.device)
            parts.append(self.decode_piece(piece, state))
        pixels = torch.cat(parts, 2).to(codes.codes.device)
        return pixels[:, :, :frames, :height, :width].contiguous()

    def _pieces(self, number: int, height: int, width: int) -> list[tuple[int, int]]:
        """The pieces [start, stop), in frames of codes, that a video is coded in."""
        step = max(1, _PIECE_PIXELS // (height * width * self.group))
        return [(start, min(number, start + step)) for start in range(0, number, step)]
