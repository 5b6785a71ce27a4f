"""Audio codecs of transformers as tokenizers: EnCodec, DAC, Mimi, and what all such share.

They get whole frames: sound is completed with silence to a multiple of the hop before encoding, and
`decode` cuts it off again. On whole frames codes and sound are those of the model called directly.
Codecs with a second encoder for what is said are in `adapters_semantic`, WavTokenizer in
`adapters_wavtokenizer`, SNAC in `adapters_snac`.

Of these DAC alone is made of convolutions, with a receptive field that ends: streams
(`unified_tokenizers.streaming`) give its frames as they become certain. EnCodec's LSTM and Mimi's
transformer let a frame depend on all of a recording: theirs come at the end.

Legend: B batch, C channels, K codebooks, T code frames, S samples.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unified_tokenizers.adapters import CodecAdapter
from unified_tokenizers.base import Codes
from unified_tokenizers.checks import check_audio_codes, check_waveform
from unified_tokenizers.foreign_model import build_model
from unified_tokenizers.hub import tensors_inside
from unified_tokenizers.layers import receptive_field
from unified_tokenizers.modules import BaseAudioTokenizer
from unified_tokenizers.saved_config import read_entries

if TYPE_CHECKING:
    from transformers import EncodecModel

__all__ = [
    "AudioCodecAdapter",
    "CodecFacts",
    "DacAdapter",
    "EncodecAdapter",
    "MimiAdapter",
    "bandwidth_for",
    "most_for_bandwidths",
]


@dataclass(frozen=True)
class CodecFacts:
    """What a model's config says: Hz, samples per frame, channels, codes, codebooks."""

    sample_rate: int
    hop: int
    channels: int
    codebook_size: int
    most_codebooks: int
    fewest_codebooks: int = 1

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise ValueError(f"{name} is {value} by config.json, expected 1 or more")


class AudioCodecAdapter(CodecAdapter, BaseAudioTokenizer):
    """Waveforms (B, C, S) to codes (B, K, T), T = ceil(S / hop), and back.

    Args:
        model: the loaded model; it is turned to float32 and evaluation mode.
        num_codebooks: how many of the residual codebooks to use, all of them by default.

    Raises:
        ValueError: a model of another class, or a number of codebooks that it does not have.
    """

    completes_frames = True
    """Whether the last frame is completed with silence before the model sees it; else the model, or
    its published feature extractor, completes it in its own way."""

    def __init__(self, model: nn.Module, num_codebooks: int | None = None) -> None:
        super().__init__(model)
        self.facts = facts = self._read_facts()
        self.num_codebooks = facts.most_codebooks if num_codebooks is None else num_codebooks
        if not facts.fewest_codebooks <= self.num_codebooks <= facts.most_codebooks:
            raise ValueError(
                f"num_codebooks is {num_codebooks}, expected {facts.fewest_codebooks} to"
                f" {facts.most_codebooks} for this {self.model_class}"
            )
        self.settings = {"num_codebooks": self.num_codebooks}

    @abstractmethod
    def _read_facts(self) -> CodecFacts:
        """What the config of the model says."""

    @abstractmethod
    def _to_codes(self, waveform_BCS: Tensor) -> Tensor:
        """Whole frames to at least `num_codebooks` codebooks of codes (B, K, T)."""

    @abstractmethod
    def _to_waveform(self, codes_BKT: Tensor) -> Tensor:
        """Codes to (B, C, about T * hop)."""

    @property
    def sample_rate(self) -> int:
        """Samples per second of what is encoded and decoded, Hz."""
        return self.facts.sample_rate

    @property
    def hop(self) -> int:
        """Samples per code frame."""
        return self.facts.hop

    @property
    def channels(self) -> int:
        """Channels of what is encoded and decoded: 1 mono, 2 stereo."""
        return self.facts.channels

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes in each of the codebooks used."""
        return (self.facts.codebook_size,) * self.num_codebooks

    def values_of(self, codes_TK: Tensor) -> Tensor:
        """Codes of all codebooks, int64 (T, K), to the sum of their vectors (T, D)."""
        # EnCodec and X-Codec have the codebooks first.
        return self.model.quantizer.decode(codes_TK.T[:, None])[0].T

    @torch.no_grad()
    def encode(self, media: Tensor) -> Codes:
        """Waveforms to codes.

        Args:
            media: (B, C, S) float32 in [-1, 1] at `sample_rate`. The last frame is completed with
                silence for encoding, and `decode` cuts it off again.

        Returns:
            Codes with int64 codes (B, K, ceil(S / hop)).

        Raises:
            ValueError: another shape or dtype, empty, or values that are not finite.
        """
        waveform = check_waveform(media, self.channels).to(self.device)
        num_samples = media.shape[2]
        if self.completes_frames:
            waveform = F.pad(waveform, (0, -num_samples % self.hop))
        with self.encode_precision():
            codes = self._to_codes(waveform)
        frames = -(-num_samples // self.hop)
        if codes.shape[2] != frames:
            raise ValueError(
                f"this {self.model_class} gives {codes.shape[2]} code frames for {num_samples:,}"
                f" samples, expected {frames}, one for each {self.hop}: its config.json is of"
                " another hop than its encoders have"
            )
        # Residual codebooks: the first ones are the same however many follow.
        codes = codes[:, : self.num_codebooks].long().contiguous()
        return Codes(codes.to(media.device), (num_samples,))

    @torch.no_grad()
    def decode(self, codes: Codes) -> Tensor:
        """Codes to waveforms: float32 (B, C, codes.size[0]) in [-1, 1].

        Raises:
            ValueError: codes out of range or of a wrong shape, or a length that does not belong
                to the number of frames.
        """
        check_audio_codes(codes, self.codebook_sizes, self.hop)
        num_samples = codes.size[0]
        with self.decode_precision():
            waveform = self._to_waveform(codes.codes.to(self.device)).float()[..., :num_samples]
        # DAC with an odd stride gives a few samples less than T * hop.
        waveform = F.pad(waveform, (0, num_samples - waveform.shape[2]))
        return waveform.clamp(-1, 1).to(codes.codes.device).contiguous()


class EncodecAdapter(AudioCodecAdapter):
    """EncodecModel, such as facebook/encodec_24khz.

    Raises:
        ValueError: beside those of `AudioCodecAdapter`, a model that cuts sound into chunks or
            scales it (facebook/encodec_48khz): the scales belong to its code and are no codes.
    """

    model_class = "EncodecModel"
    model_type = "encodec"
    whole_type = "musicgen"  # which holds one as `audio_encoder`

    @classmethod
    def _load(cls, path: Path, model_type: str) -> tuple[Any, list[str]]:
        if model_type != cls.whole_type:
            return super()._load(path, model_type)
        import transformers

        entries = read_entries(path / "config.json", "codec").get("audio_encoder")
        if not isinstance(entries, dict):
            raise ValueError(f"{path / 'config.json'} has no audio_encoder")
        config = transformers.EncodecConfig(
            **{key: value for key, value in entries.items() if key != "model_type"}
        )
        return build_model(transformers.EncodecModel, config, tensors_inside(path, "audio_encoder"))

    def _read_facts(self) -> CodecFacts:
        config = self.model.config
        if config.normalize or config.chunk_length_s is not None:
            raise ValueError(
                f"this EncodecModel has normalize={config.normalize} and"
                f" chunk_length_s={config.chunk_length_s}, expected normalize=False and"
                " chunk_length_s=None: codes alone do not hold the scale of each chunk"
            )
        return CodecFacts(
            config.sampling_rate, config.hop_length, config.audio_channels, config.codebook_size,
            most_for_bandwidths(self.model),
        )  # fmt: skip

    def _to_codes(self, waveform_BCS: Tensor) -> Tensor:
        bandwidth = bandwidth_for(self.model, self.num_codebooks)
        # One chunk, so the first of the chunks' axis is all.
        return self.model.encode(waveform_BCS, bandwidth=bandwidth, return_dict=True).audio_codes[0]

    def _to_waveform(self, codes_BKT: Tensor) -> Tensor:
        return self.model.decode(codes_BKT[None], [None], return_dict=True).audio_values


class DacAdapter(AudioCodecAdapter):
    """DacModel, such as descript/dac_16khz.

    With an odd stride among `downsampling_ratios` the model's own decoder falls a few samples short
    of whole frames; the end is then completed with silence.
    """

    model_class = "DacModel"
    model_type = "dac"

    def _read_facts(self) -> CodecFacts:
        config = self.model.config
        # Not config.hop_length: checkpoints may store another one than the strides make.
        hop = math.prod(config.downsampling_ratios)
        return CodecFacts(config.sampling_rate, hop, 1, config.codebook_size, config.n_codebooks)

    @property
    def encode_context(self) -> tuple[int, int]:
        """Samples before and after a code frame that its codes depend on."""
        first, last = receptive_field(self.model.encoder, 0, 0)
        return -first, last - (self.hop - 1)

    @property
    def decode_context(self) -> tuple[int, int]:
        """Code frames before and after a frame that its samples depend on."""
        first, last = receptive_field(self.model.decoder, 0, self.hop - 1)
        return -first, last

    def values_of(self, codes_TK: Tensor) -> Tensor:
        """Codes of all codebooks, int64 (T, K), to the sum of their vectors (T, D)."""
        return self.model.quantizer.from_codes(codes_TK.T[None])[0][0].T

    def _to_codes(self, waveform_BCS: Tensor) -> Tensor:
        return self.model.encode(
            waveform_BCS, n_quantizers=self.num_codebooks, return_dict=True
        ).audio_codes

    def _to_waveform(self, codes_BKT: Tensor) -> Tensor:
        # (B, S): the model drops the channel.
        return self.model.decode(audio_codes=codes_BKT, return_dict=True).audio_values[:, None]


class MimiAdapter(AudioCodecAdapter):
    """MimiModel, such as kyutai/mimi: the first codebooks are semantic and cannot be left out."""

    model_class = "MimiModel"
    model_type = "mimi"
    # Of whole checkpoints that hold one: where it is configured, and the name of the part.
    _INSIDE: ClassVar[dict[str, tuple[str, str]]] = {
        "csm": ("codec_config", "codec_model"),
        "moshi": ("audio_encoder_config", "audio_encoder"),
    }

    @classmethod
    def _is_type(cls, entries: dict[str, Any]) -> bool:
        return entries.get("model_type") in (cls.model_type, *cls._INSIDE)

    @classmethod
    def stored_settings(cls, folder: Path) -> dict[str, Any]:
        """See `CodecAdapter.stored_settings`; Moshi uses the first of its codebooks alone."""
        entries = read_entries(folder / "config.json", "codec")
        own = {"num_codebooks": entries["num_codebooks"]} if "num_codebooks" in entries else {}
        return {**own, **super().stored_settings(folder)}

    @classmethod
    def _load(cls, path: Path, model_type: str) -> tuple[Any, list[str]]:
        if model_type not in cls._INSIDE:
            return super()._load(path, model_type)
        import transformers

        name, part = cls._INSIDE[model_type]
        entries = read_entries(path / "config.json", "codec").get(name)
        if not isinstance(entries, dict):
            raise ValueError(f"config.json has no {name}")
        config = transformers.MimiConfig(**{k: v for k, v in entries.items() if k != "model_type"})
        return build_model(transformers.MimiModel, config, tensors_inside(path, part))

    def _read_facts(self) -> CodecFacts:
        config = self.model.config
        # 12.5 frames per second: the other way round it would be rounded.
        hop = round(config.sampling_rate / config.frame_rate)
        return CodecFacts(
            config.sampling_rate, hop, config.audio_channels, config.codebook_size,
            config.num_quantizers, config.num_semantic_quantizers,
        )  # fmt: skip

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> MimiAdapter:
        # Mimi's codebooks keep a quotient of two buffers in a plain attribute, which torch neither
        # moves to another device nor casts; None makes them compute it again.
        for module in self.modules():
            if getattr(module, "_embed", None) is not None:
                module._embed = None  # type: ignore[assignment]
        super()._apply(fn, recurse)
        return self

    def values_of(self, codes_TK: Tensor) -> Tensor:
        """Codes of all codebooks, int64 (T, K), to the sum of their vectors (T, D)."""
        return self.model.quantizer.decode(codes_TK.T[None])[0].T

    def _to_codes(self, waveform_BCS: Tensor) -> Tensor:
        return self.model.encode(
            waveform_BCS, num_quantizers=self.num_codebooks, return_dict=True
        ).audio_codes

    def _to_waveform(self, codes_BKT: Tensor) -> Tensor:
        return self.model.decode(codes_BKT, return_dict=True).audio_values


def _codebooks_for(model: EncodecModel, bandwidth: float) -> int:
    wanted = model.quantizer.get_num_quantizers_for_bandwidth(bandwidth)
    return min(wanted, model.config.num_quantizers)


def most_for_bandwidths(model: EncodecModel) -> int:
    """Codebooks at the highest bandwidth that the model accepts."""
    return max(_codebooks_for(model, bandwidth) for bandwidth in model.config.target_bandwidths)


def bandwidth_for(model: EncodecModel, num_codebooks: int) -> float:
    """The lowest bandwidth of the model, in kbit/s, that gives so many codebooks or more."""
    enough = [
        bandwidth
        for bandwidth in model.config.target_bandwidths
        if _codebooks_for(model, bandwidth) >= num_codebooks
    ]
    return min(enough)
