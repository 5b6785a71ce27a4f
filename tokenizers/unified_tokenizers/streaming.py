"""Audio coded and decoded in chunks of any size, with the result of doing it whole.

A convolutional tokenizer sees only so far before and after a code frame (`encode_context`,
`decode_context`). A stream holds back what is still to be seen, and computes every chunk with what
lies around it: nothing is faded or joined, so there is no seam to hear. A causal tokenizer of ours
gives codes with the last sample of their frame, and sound one code frame later. A codec without
bounds (contexts None: an LSTM, a transformer) gives everything at `finish`.

Legend: B batch, C channels, K codebooks, T code frames, S samples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from unified_tokenizers.arrays import decode_arrays
from unified_tokenizers.base import AudioTokenizer, Codes
from unified_tokenizers.checks import check_codes, check_waveform

if TYPE_CHECKING:  # torch takes 1.3 s to import, and streams of arrays need none
    from torch import Tensor

__all__ = ["ArrayDecodeStream", "DecodeStream", "EncodeStream"]

ChunkT = TypeVar("ChunkT", bound="Tensor | np.ndarray")


class _Stream(Generic[ChunkT]):
    """What all streams share: chunks held back, of which frames are computed in order.

    Args:
        tokenizer: what computes.
        context: frames before and after those computed that are computed along.
        size: entries of the chunks' last axis per frame.
    """

    def __init__(self, tokenizer: AudioTokenizer, context: tuple[int, int], size: int) -> None:
        self.tokenizer = tokenizer
        self._before, self._after = context
        self._size = size
        self._held: list[ChunkT] = []  # from frame `_start` on
        self._start = self._done = 0  # frames
        self._pushed = 0  # entries
        self._finished = False

    def _add(self, chunk: ChunkT, what: str) -> None:
        self._check_open()
        if self._held and len(chunk) != len(self._held[0]):
            raise ValueError(f"{len(chunk)} {what}, but the stream began with {len(self._held[0])}")
        self._held.append(chunk)
        self._pushed += chunk.shape[2]

    def _check_open(self) -> None:
        if self._finished:
            raise ValueError("the stream is finished; begin another one")

    def _close(self, what: str, task: str) -> None:
        self._check_open()
        self._finished = True
        if not self._held:
            raise ValueError(f"the stream has no {what}: there is nothing to {task}")

    def _take(self, stop: int) -> tuple[ChunkT, int, int]:
        """What frames `_done` to `stop` are computed from, and which of its frames they are."""
        size = self._size
        whole = _joined(self._held)
        window = whole[:, :, : (stop + self._after - self._start) * size]
        first, last = self._done - self._start, stop - self._start
        start = max(0, stop - self._before)
        # A copy, or the memory of all that was pushed stays.
        self._held = [_joined([whole[:, :, (start - self._start) * size :]])]
        self._start, self._done = start, stop
        return window, first, last


class EncodeStream(_Stream["Tensor"]):
    """Waveforms in chunks, codes as soon as they are certain.

    The codes of all calls, joined, are those of `tokenizer.encode` on all samples, joined. Codes
    come `tokenizer.encode_context[1]` samples after the end of their frame, or at the end where
    the context is None.
    """

    def __init__(self, tokenizer: AudioTokenizer) -> None:
        self._context = tokenizer.encode_context
        hop = tokenizer.hop
        before, after = self._context or (0, 0)
        super().__init__(tokenizer, (-(-before // hop), -(-after // hop)), hop)

    def push(self, waveform: Tensor) -> Tensor:
        """The next samples, (B, C, S) float in [-1, 1]; gives int64 codes (B, K, T), T >= 0.

        Raises:
            ValueError: what `tokenizer.encode` refuses, another B than before, or a stream that
                was finished.
        """
        self._add(check_waveform(waveform, self.tokenizer.channels), "waveforms")
        ready = 0 if self._context is None else (self._pushed - self._context[1]) // self._size
        return self._codes(max(ready, self._done))

    def finish(self) -> Tensor:
        """The codes held back: (B, K, T). The last frame is completed with silence.

        Raises ValueError for a stream without samples or one that was finished before.
        """
        self._close("samples", "encode")
        return self._codes(-(-self._pushed // self._size))

    @property
    def num_samples(self) -> int:
        """Samples pushed so far: the size of the `Codes` of the whole."""
        return self._pushed

    def _codes(self, stop: int) -> Tensor:
        """Codes of the frames from `_done` to `stop`."""
        if stop == self._done:
            shape = (len(self._held[0]), len(self.tokenizer.codebook_sizes), 0)
            return self._held[0].new_empty(shape).long()
        window, first, last = self._take(stop)
        return self.tokenizer.encode(window).codes[:, :, first:last]


class _DecodeStream(_Stream[ChunkT], ABC):
    """`DecodeStream`, of tensors or of arrays."""

    def __init__(self, tokenizer: AudioTokenizer) -> None:
        self._context = tokenizer.decode_context
        super().__init__(tokenizer, self._context or (0, 0), 1)

    def push(self, codes: ChunkT) -> ChunkT:
        """The next codes, int64 (B, K, T); gives float32 samples (B, C, S), S >= 0.

        Raises:
            ValueError: codes out of range or of another shape, another B than before, or a stream
                that was finished.
        """
        check_codes(codes, self.tokenizer.codebook_sizes, 1, "audio")
        self._add(codes, "rows of codes")
        ready = 0 if self._context is None else self._pushed - self._context[1]
        return self._samples(max(ready, self._done))

    def finish(self, num_samples: int | None = None) -> ChunkT:
        """The samples held back: (B, C, S).

        Args:
            num_samples: samples of the whole; without it, all of the last frame's.

        Raises:
            ValueError: a stream without codes, one that was finished before, or a number of samples
                that does not belong to the number of frames.
        """
        self._close("codes", "decode")
        hop, sent = self.tokenizer.hop, self._done * self.tokenizer.hop
        whole = self._pushed * hop
        if num_samples is not None and not whole - hop < num_samples <= whole:
            raise ValueError(
                f"{num_samples} samples do not have {self._pushed} frames at {hop} samples each"
            )
        last: Any = self._samples(self._pushed)
        rest: ChunkT = last if num_samples is None else last[:, :, : num_samples - sent]
        return rest

    def _samples(self, stop: int) -> ChunkT:
        """Samples of the frames from `_done` to `stop`."""
        if stop == self._done:
            return self._nothing((len(self._held[0]), self.tokenizer.channels, 0))
        window, first, last = self._take(stop)
        hop = self.tokenizer.hop
        samples: Any = self._decoded(window, window.shape[2] * hop)
        part: ChunkT = samples[:, :, first * hop : last * hop]
        return part

    @abstractmethod
    def _nothing(self, shape: tuple[int, int, int]) -> ChunkT:
        """Samples of this shape, of which one is 0."""

    @abstractmethod
    def _decoded(self, codes: ChunkT, num_samples: int) -> ChunkT:
        """Samples (B, C, `num_samples`) of codes (B, K, T)."""


class DecodeStream(_DecodeStream["Tensor"]):
    """Codes in chunks, samples as soon as they are certain.

    The samples of all calls, joined, are those of `tokenizer.decode` on all codes, joined. Samples
    come `tokenizer.decode_context[1]` code frames after their own, or at the end where the context
    is None.
    """

    def _nothing(self, shape: tuple[int, int, int]) -> Tensor:
        return self._held[0].new_empty(shape).float()

    def _decoded(self, codes: Tensor, num_samples: int) -> Tensor:
        return self.tokenizer.decode(Codes(codes, (num_samples,)))


class ArrayDecodeStream(_DecodeStream[np.ndarray]):
    """`DecodeStream` for arrays: of any tokenizer, and without torch where it can do without
    (`unified_tokenizers.arrays`)."""

    def _nothing(self, shape: tuple[int, int, int]) -> np.ndarray:
        return np.zeros(shape, np.float32)

    def _decoded(self, codes: np.ndarray, num_samples: int) -> np.ndarray:
        return decode_arrays(self.tokenizer, codes, (num_samples,))


def _joined(chunks: list[Any]) -> Any:
    """Chunks side by side, in memory of their own."""
    if isinstance(chunks[0], np.ndarray):
        return np.concatenate(chunks, 2)
    import torch

    return torch.cat(chunks, 2) if len(chunks) > 1 else chunks[0].clone()
