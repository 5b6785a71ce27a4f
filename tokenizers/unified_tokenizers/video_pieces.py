"""Videos coded as they come: pieces of any length, with the codes and pixels of the whole.

Legend: B batch, K codebooks, T frames, H W pixels, t h w code grid.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unified_tokenizers.checks import check_codes, check_videos
from unified_tokenizers.video import VQVideoTokenizer
from unified_tokenizers.video_parts import TimeState

__all__ = ["VideoDecodeStream", "VideoEncodeStream"]


class VideoEncodeStream:
    """Frames in, codes out: those of each group once all its frames are there."""

    def __init__(self, tokenizer: VQVideoTokenizer) -> None:
        self.tokenizer = tokenizer
        self._state = TimeState()
        self._waiting: Tensor | None = None
        self._begun = False

    def push(self, frames: Tensor) -> Tensor:
        """Frames (B, 3, T, H, W), as `encode` takes them; codes (B, K, t, h, w), t perhaps 0.

        Raises ValueError as `encode`, and for frames of another size than those before.
        """
        pixels = self.tokenizer.padded(check_videos(frames).to(self.tokenizer.device))
        if self._waiting is not None:
            if self._waiting.shape[3:] != pixels.shape[3:] or len(self._waiting) != len(pixels):
                raise ValueError(
                    f"frames have shape {tuple(frames.shape)}, those before are of another size"
                )
            pixels = torch.cat([self._waiting, pixels], dim=2)
        group = self.tokenizer.group
        alone = 0 if self._begun else 1
        ready = alone + (pixels.shape[2] - alone) // group * group
        self._waiting = pixels[:, :, ready:]
        return self._coded(pixels[:, :, :ready])

    def finish(self) -> Tensor:
        """The codes of the frames that are left, the last of which is repeated to fill its group.

        Raises ValueError where no frame came.
        """
        if self._waiting is None:
            raise ValueError("no frame came; expected one at least")
        left = self._waiting
        missing = -left.shape[2] % self.tokenizer.group if left.shape[2] else 0
        full = torch.cat([left, left[:, :, -1:].expand(-1, -1, missing, -1, -1)], dim=2)
        self._waiting = left[:, :, :0]
        return self._coded(full)

    def _coded(self, pixels_BCTHW: Tensor) -> Tensor:
        if pixels_BCTHW.shape[2]:
            self._begun = True
            return self.tokenizer.encode_piece(pixels_BCTHW, self._state)
        levels, stride = len(self.tokenizer.codebook_sizes), self.tokenizer.stride
        grid = [side // stride for side in pixels_BCTHW.shape[3:]]
        return torch.zeros(len(pixels_BCTHW), levels, 0, *grid, dtype=torch.int64)


class VideoDecodeStream:
    """Codes in, frames out: of the first frame of codes one, of each other a group."""

    def __init__(self, tokenizer: VQVideoTokenizer) -> None:
        self.tokenizer = tokenizer
        self._state = TimeState()

    def push(self, codes: Tensor) -> Tensor:
        """Codes int64 (B, K, t, h, w), t at least 1; frames float32 (B, 3, T, H, W) in [0, 1].

        Raises ValueError for codes that no encoder could have made.
        """
        check_codes(codes, self.tokenizer.codebook_sizes, 3, "video")
        return self.tokenizer.decode_piece(codes.to(self.tokenizer.device), self._state)
