"""WavTokenizer (arXiv:2408.16532): transformers' class, Apertus' encoder, the original checkpoints.

One codebook of 4,096 codes, 40 or 75 a second: EnCodec's encoder, and a decoder after Vocos with
attention. The original checkpoints (`feature_extractor.encodec...`, `backbone...`, `head...`, with
the discriminators of their training beside) open by their own names; their sizes, which only a YAML
file of the authors' states, follow from the shapes of the tensors.

Legend: B batch, C channels, K codebooks, T code frames, S samples.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from unified_base.text import quoted
from unified_tokenizers.adapters_audio import AudioCodecAdapter, CodecFacts
from unified_tokenizers.foreign_model import build_model
from unified_tokenizers.hub import tensors_inside
from unified_tokenizers.saved_config import read_entries

__all__ = ["WavTokenizerAdapter"]

_ENCODER = "feature_extractor.encodec.encoder.model."
_CODEBOOK = "feature_extractor.encodec.quantizer.vq.layers.0._codebook."
# The original's names, and transformers'. What matches none is of the training, or of a decoder of
# EnCodec's that the original makes and never calls.
_NAMES = (
    (re.compile(rf"^{re.escape(_ENCODER)}"), "encoder_model.encoder.layers."),
    (re.compile(rf"^{re.escape(_CODEBOOK)}"), "encoder_model.quantizer.codebook."),
    (re.compile(r"^backbone\."), "backbone."),
    (re.compile(r"^head\.out\."), "head.linear."),
)
_WEIGHT_NORM = {
    "weight_g": "parametrizations.weight.original0",
    "weight_v": "parametrizations.weight.original1",
}


class WavTokenizerAdapter(AudioCodecAdapter):
    """WavTokenizerModel, or its encoder alone: Apertus 1.5 holds that, and it cannot decode.

    Mono; one codebook. The model completes the last frame itself, by reflection; that is left to it
    so that codes are those that Apertus was trained on.
    """

    completes_frames = False

    model_class = "WavTokenizerPreTrainedModel"
    model_type = "wavtokenizer"
    whole_type = "apertus1p5"

    @classmethod
    def _is_type(cls, entries: dict[str, Any]) -> bool:
        types = (cls.model_type, "wavtokenizer_encoder", cls.whole_type)
        return entries.get("model_type") in types

    @classmethod
    def _load(cls, path: Path, model_type: str) -> tuple[Any, list[str]]:
        import transformers

        entries = read_entries(path / "config.json", "codec")
        inside = "audio_tokenizer" if model_type == cls.whole_type else ""
        if inside:
            entries = dict(entries.get("audio_config") or {})
        tensors = tensors_inside(path, inside)
        if any(name.startswith(_ENCODER) for name in tensors):
            entries = _stated(entries, _sizes(tensors), str(path / "config.json"))
            tensors = _renamed(tensors)
        whole = not inside and model_type == cls.model_type
        name = "WavTokenizerModel" if whole else "WavTokenizerEncoderModel"
        kind: Any = getattr(transformers, name)
        config = kind.config_class(**{k: v for k, v in entries.items() if k != "model_type"})
        return build_model(kind, config, tensors)

    @property
    def _encoder(self) -> Any:
        return getattr(self.model, "encoder_model", self.model)

    def _read_facts(self) -> CodecFacts:
        config = self.model.config
        return CodecFacts(config.sampling_rate, config.hop_length, 1, config.codebook_size, 1)

    def values_of(self, codes_TK: Tensor) -> Tensor:
        """Codes of the only codebook, int64 (T, 1), to their vectors (T, D)."""
        return self._encoder.quantizer.decode(codes_TK.T)[0].T

    def _to_codes(self, waveform_BCS: Tensor) -> Tensor:
        return self._encoder.encode(waveform_BCS, return_dict=True).audio_codes

    @property
    def cannot_decode(self) -> str | None:
        """Why codes cannot be decoded; None where they can."""
        if self._encoder is not self.model:
            return None
        return (
            "this checkpoint holds WavTokenizer's encoder alone: it can only encode; name the whole"
            " codec, such as swiss-ai/wavtokenizer-large-unify-40token, as the audio tokenizer"
        )

    def _to_waveform(self, codes_BKT: Tensor) -> Tensor:
        if self.cannot_decode is not None:
            raise ValueError(self.cannot_decode)
        return self.model.decode(codes_BKT, return_dict=True).audio_values


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The original's tensors by transformers' names; those of its training are left out."""
    renamed = {}
    for name, tensor in tensors.items():
        for pattern, start in _NAMES:
            if match := pattern.match(name):
                # A convolution lies in one that pads, which lies in one that normalises.
                rest = name[match.end() :].replace(".conv.conv.", ".conv.")
                stem, _, last = rest.rpartition(".")
                last = _WEIGHT_NORM.get(last, last)
                renamed[f"{start}{stem}.{last}" if stem else f"{start}{last}"] = tensor
    return renamed


def _stated(entries: dict[str, Any], sizes: dict[str, Any], where: str) -> dict[str, Any]:
    """A config's entries and those that follow from the tensors. ValueError where they differ."""
    for name, size in sizes.items():
        if entries.get(name, size) != size:
            raise ValueError(
                f"{where}: {name} is {quoted(entries[name])}, but of the weights beside it {size}"
            )
    return {**entries, **sizes}


def _sizes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Entries of a WavTokenizerConfig from the shapes of the original's tensors.

    Raises ValueError for tensors that are missing, or a head of another hop than the encoder's.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    # The encoder's convolutions in order: the first, those that lower the rate, of stride r and
    # kernel 2r, and the last.
    pattern = re.compile(rf"^{re.escape(_ENCODER)}(\d+)\.conv\.conv\.weight_v$")
    numbered = {int(match[1]): name for name in shapes if (match := pattern.match(name))}
    convolutions = [shapes[numbered[number]] for number in sorted(numbered)]
    if len(convolutions) < 3:
        raise ValueError(
            f"the weights hold {len(convolutions)} convolutions {_ENCODER}N.conv.conv.weight_v,"
            " expected 3 at least: not WavTokenizer's"
        )
    first, *strided, last = convolutions

    def shape(name: str) -> tuple[int, ...]:
        if name not in shapes:
            raise ValueError(f"the weights lack {name} of WavTokenizer")
        return shapes[name]

    # The decoder of EnCodec's has an LSTM too.
    recurrent = [n for n in shapes if n.startswith(_ENCODER) and ".lstm.weight_ih_l" in n]
    ratios = [kernel // 2 for _, _, kernel in reversed(strided)]
    bins = shape("head.out.weight")[0]
    if bins != 4 * math.prod(ratios) + 2:
        raise ValueError(
            f"head.out.weight of WavTokenizer has {bins} rows, expected"
            f" {4 * math.prod(ratios) + 2} for the {math.prod(ratios)} samples a code that its"
            " encoder has"
        )
    residual = shape(f"{_ENCODER}1.block.1.conv.conv.weight_v")
    codebook = shape(f"{_CODEBOOK}embed")
    return {
        "audio_channels": first[1], "num_filters": first[0], "kernel_size": first[2],
        "upsampling_ratios": ratios, "compress": first[0] // residual[0],
        "residual_kernel_size": residual[2], "last_kernel_size": last[2], "hidden_size": last[0],
        "num_lstm_layers": len(recurrent),
        "codebook_size": codebook[0], "codebook_dim": codebook[1],
        "decoder_hidden_size": shape("backbone.embed.weight")[0],
        "decoder_intermediate_size": shape("backbone.convnext.0.pwconv1.weight")[0],
        "decoder_num_layers": sum(name.endswith(".pwconv1.weight") for name in shapes),
        "adanorm_num_embeddings": shape("backbone.norm.scale.weight")[0],
    }  # fmt: skip
