"""Audio coded and decoded in chunks of any size, with the result of doing it whole.

A convolutional tokenizer sees only so far to either side of a code frame (`encode_context`,
`decode_context`). A stream holds back what is still to be seen, and computes every chunk with what
lies around it: nothing is faded or joined, so there is no seam to hear.

Legend: B batch, K codebooks, T code frames, S samples.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from unified_tokenizers.base import Codes, check_codes, check_waveform

__all__ = ["DecodeStream", "EncodeStream", "StreamingTokenizer"]


class StreamingTokenizer(Protocol):
    """What a stream asks of an audio tokenizer."""

    @property
    def hop(self) -> int:
        """Samples per code frame."""

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes in each of the K codebooks."""

    @property
    def encode_context(self) -> int:
        """Samples on either side of a code frame that its codes depend on."""

    @property
    def decode_context(self) -> int:
        """Code frames on either side of a frame that its samples depend on."""

    def encode(self, media: Tensor) -> Codes:
        """Waveforms (B, 1, S) to codes."""

    def decode(self, codes: Codes) -> Tensor:
        """Codes to waveforms."""


class EncodeStream:
    """Waveforms in chunks, codes as soon as they are certain.

    The codes of all calls, joined, are those of `tokenizer.encode` on all samples, joined. Codes
    come `tokenizer.encode_context` samples after the end of their frame.
    """

    def __init__(self, tokenizer: StreamingTokenizer) -> None:
        self.tokenizer = tokenizer
        self._context = -(-tokenizer.encode_context // tokenizer.hop)  # in frames
        self._held: Tensor | None = None  # samples from frame `_start` on
        self._start = self._done = self._samples = 0
        self._finished = False

    def push(self, waveform: Tensor) -> Tensor:
        """The next samples, (B, 1, S) float in [-1, 1]; gives int64 codes (B, K, T), T >= 0.

        Raises:
            ValueError: what `tokenizer.encode` refuses, another B than before, or a stream that
                was finished.
        """
        waveform = check_waveform(waveform, 1)
        self._check_open()
        if self._held is not None and len(waveform) != len(self._held):
            raise ValueError(
                f"{len(waveform)} waveforms, but the stream began with {len(self._held)}"
            )
        self._held = waveform if self._held is None else torch.cat([self._held, waveform], 2)
        self._samples += waveform.shape[2]
        ready = (self._samples - self.tokenizer.encode_context) // self.tokenizer.hop
        return self._codes(max(ready, self._done))

    def finish(self) -> Tensor:
        """The codes held back: (B, K, T). The last frame is completed with silence.

        Raises ValueError for a stream without samples or one that was finished before.
        """
        self._check_open()
        self._finished = True
        if self._held is None:
            raise ValueError("the stream has no samples: there is nothing to encode")
        return self._codes(-(-self._samples // self.tokenizer.hop))

    @property
    def num_samples(self) -> int:
        """Samples pushed so far: the size of the `Codes` of the whole."""
        return self._samples

    def _check_open(self) -> None:
        if self._finished:
            raise ValueError("the stream is finished; begin another one")

    def _codes(self, stop: int) -> Tensor:
        """Codes of the frames from `_done` to `stop`."""
        assert self._held is not None
        if stop == self._done:
            shape = (len(self._held), len(self.tokenizer.codebook_sizes), 0)
            return self._held.new_empty(shape, dtype=torch.int64)
        hop = self.tokenizer.hop
        end = (stop + self._context - self._start) * hop
        codes = self.tokenizer.encode(self._held[:, :, :end]).codes
        codes = codes[:, :, self._done - self._start : stop - self._start]
        self._done = stop
        start = max(0, stop - self._context)
        self._held = self._held[:, :, (start - self._start) * hop :]
        self._start = start
        return codes


class DecodeStream:
    """Codes in chunks, samples as soon as they are certain.

    The samples of all calls, joined, are those of `tokenizer.decode` on all codes, joined. Samples
    come `tokenizer.decode_context` code frames after their own.
    """

    def __init__(self, tokenizer: StreamingTokenizer) -> None:
        self.tokenizer = tokenizer
        self._held: Tensor | None = None  # codes from frame `_start` on
        self._start = self._done = self._frames = 0
        self._finished = False

    def push(self, codes: Tensor) -> Tensor:
        """The next codes, int64 (B, K, T); gives float32 samples (B, 1, S), S >= 0.

        Raises:
            ValueError: codes out of range or of another shape, another B than before, or a stream
                that was finished.
        """
        check_codes(codes, self.tokenizer.codebook_sizes, 1, "audio")
        self._check_open()
        if self._held is not None and len(codes) != len(self._held):
            raise ValueError(f"codes of {len(codes)}, but the stream began with {len(self._held)}")
        self._held = codes if self._held is None else torch.cat([self._held, codes], 2)
        self._frames += codes.shape[2]
        return self._samples(max(self._frames - self.tokenizer.decode_context, self._done))

    def finish(self, num_samples: int | None = None) -> Tensor:
        """The samples held back: (B, 1, S).

        Args:
            num_samples: samples of the whole; without it, all of the last frame's.

        Raises:
            ValueError: a stream without codes, one that was finished before, or a number of samples
                that does not belong to the number of frames.
        """
        self._check_open()
        hop = self.tokenizer.hop
        self._finished = True
        if self._held is None:
            raise ValueError("the stream has no codes: there is nothing to decode")
        whole = self._frames * hop
        if num_samples is not None and not whole - hop < num_samples <= whole:
            raise ValueError(
                f"{num_samples} samples do not have {self._frames} frames at {hop} samples each"
            )
        sent = self._done * hop
        last = self._samples(self._frames)
        return last if num_samples is None else last[:, :, : num_samples - sent]

    def _check_open(self) -> None:
        if self._finished:
            raise ValueError("the stream is finished; begin another one")

    def _samples(self, stop: int) -> Tensor:
        """Samples of the frames from `_done` to `stop`."""
        assert self._held is not None
        if stop == self._done:
            return torch.empty(len(self._held), 1, 0, device=self._held.device)
        hop, context = self.tokenizer.hop, self.tokenizer.decode_context
        window = self._held[:, :, : stop + context - self._start]
        made = self.tokenizer.decode(Codes(window, (window.shape[2] * hop,)))
        made = made[:, :, (self._done - self._start) * hop : (stop - self._start) * hop]
        self._done = stop
        start = max(0, stop - context)
        self._held = self._held[:, :, start - self._start :]
        self._start = start
        return made
