"""Spectra: log-mel features, the mel loss, and the inverse transform of a predicted spectrum.

Legend: B batch, S samples, T frames, F frequency bins, M mel bins.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["InverseSTFT", "LogMel", "MultiScaleMelLoss", "resampled"]


def resampled(waveform: Tensor, rate: int, target: int) -> Tensor:
    """A waveform (..., S) at another sample rate, (..., ceil(S * target / rate)): torchaudio's
    windowed sinc with its defaults, which published codecs use."""
    # This is the one file that imports torchaudio: it refuses a torch built for another CUDA.
    from torchaudio.functional import resample

    return resample(waveform, rate, target)


def _filterbank(num_fft: int, num_mels: int, sample_rate: int) -> Tensor:
    from torchaudio.functional import melscale_fbanks

    return melscale_fbanks(
        num_fft // 2 + 1,
        0.0,
        sample_rate / 2,
        num_mels,
        sample_rate,
        norm="slaney",
        mel_scale="slaney",
    )


class LogMel(nn.Module):
    """Log-mel spectrogram: (B, S) in [-1, 1] to (B, S / hop, num_mels); S a multiple of `hop`.

    Frame t is centred on samples [t * hop, (t + 1) * hop) or, if causal, ends with them; outside
    there is silence.

    Attributes:
        context: samples before and after a frame's own that its window reaches.
    """

    window: Tensor
    bank: Tensor

    def __init__(
        self, sample_rate: int, num_fft: int, hop: int, num_mels: int, causal: bool = False
    ) -> None:
        super().__init__()
        self.num_fft, self.hop = num_fft, hop
        margin = num_fft - hop
        self.context = (margin, 0) if causal else (margin // 2, margin - margin // 2)
        self.register_buffer("window", torch.hann_window(num_fft), persistent=False)
        self.register_buffer("bank", torch.zeros(num_fft // 2 + 1, num_mels), persistent=True)
        self._rate = sample_rate

    def fill(self) -> LogMel:
        """Compute the filterbank; loading weights brings it along, so only training calls this."""
        self.bank.copy_(_filterbank(self.num_fft, self.bank.shape[1], self._rate))
        return self

    def forward(self, waveform_BS: Tensor) -> Tensor:
        assert waveform_BS.shape[1] % self.hop == 0
        padded = F.pad(waveform_BS, self.context)
        spectrum = torch.stft(
            padded, self.num_fft, self.hop, window=self.window, center=False, return_complex=True
        )
        power = torch.view_as_real(spectrum).square().sum(-1)
        mel = torch.einsum("bft,fm->btm", (power + 1e-12).sqrt(), self.bank)
        return mel.clamp_min(1e-5).log()


class InverseSTFT(nn.Module):
    """Spectrum to waveform with `same` padding, as Vocos has it (arXiv:2306.00814).

    Windows overlap: the samples of a spectrum depend on the others whose windows reach them, two
    before and two after it where a window is four hops long.
    """

    window: Tensor

    def __init__(self, num_fft: int, hop: int) -> None:
        super().__init__()
        self.num_fft, self.hop = num_fft, hop
        self.register_buffer("window", torch.hann_window(num_fft), persistent=False)

    def forward(self, spectrum_BFT: Tensor) -> Tensor:
        """Complex (B, num_fft / 2 + 1, T) to (B, T * hop)."""
        frames = torch.fft.irfft(spectrum_BFT, self.num_fft, dim=1) * self.window[:, None]
        num_frames = frames.shape[-1]
        length = (num_frames - 1) * self.hop + self.num_fft
        fold = {
            "output_size": (1, length),
            "kernel_size": (1, self.num_fft),
            "stride": (1, self.hop),
        }
        waveform = F.fold(frames, **fold)[:, 0, 0]
        squares = self.window.square()[None, :, None].expand(1, -1, num_frames)
        envelope = F.fold(squares.contiguous(), **fold)[0, 0, 0]
        margin = self.num_fft - self.hop
        start, stop = margin // 2, length - (margin - margin // 2)
        return waveform[:, start:stop] / envelope[start:stop]


class MultiScaleMelLoss(nn.Module):
    """Mean absolute difference of log-mel spectra at several window lengths, after DAC.

    arXiv:2306.06546 names the windows; no weights to download, unlike learned speech losses.
    """

    def __init__(
        self,
        sample_rate: int,
        windows: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048),
        mels: tuple[int, ...] = (10, 20, 40, 80, 120, 160),
    ) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            LogMel(sample_rate, window, window // 4, num).fill()
            for window, num in zip(windows, mels, strict=True)
        )

    def forward(self, predicted_BS: Tensor, target_BS: Tensor) -> Tensor:
        """Mean over the scales, a scalar; both (B, S) float32, S a multiple of 512."""
        total = predicted_BS.new_zeros(())
        for scale in self.scales:
            total = total + (scale(predicted_BS) - scale(target_BS)).abs().mean()
        return total / len(self.scales)
