"""Giving a language model eyes or ears: an encoder and a connector before its layers."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from unified.formats.parser import parse_format, write_format
from unified.formats.spec import Format
from unified.models.files import model_directory

if TYPE_CHECKING:
    from unified.models.grafting.embedder import MediaEmbedder
    from unified.models.grafting.encoder_base import FeatureEncoder

__all__ = [
    "Graft", "add_spans", "all_grafts", "as_graft", "attends_to_media", "make_embedders",
    "put_into_layers",
]  # fmt: skip


@dataclass(frozen=True)
class Graft:
    """What a language model shall see or hear through.

    Attributes:
        encoder: a folder, a name on the Hugging Face hub, or one that is loaded; of states, the
            numbers of a row.
        connector: by name (`connector_table`); it begins with random weights.
        options: of the connector, such as {"shuffle": 2}.
        layer: of the encoder whose hidden states are read; None: see `load_encoder`.
        reading: options of how media are read, such as {"frames": 8}; see `open_encoder`.
    """

    encoder: str | Path | FeatureEncoder
    connector: str = "mlp"
    options: Mapping[str, Any] = field(default_factory=dict)
    layer: int | None = None
    reading: Mapping[str, int] = field(default_factory=dict)


def as_graft(value: str | Path | Graft) -> Graft:
    """A graft, or the encoder of one with what is usual."""
    return value if isinstance(value, Graft) else Graft(value)


def all_grafts(
    see: str | Path | Graft | None,
    hear: str | Path | Graft | None,
    read: Mapping[str, str | Path | Graft] | None,
) -> dict[str, Graft]:
    """The grafts by modality. Raises ValueError where one modality has two."""
    named = {n: as_graft(g) for n, g in (("image", see), ("audio", hear)) if g is not None}
    others = {name: as_graft(graft) for name, graft in (read or {}).items()}
    if twice := sorted(named.keys() & others.keys()):
        raise ValueError(f"{twice[0]} has two encoders; give one (see, hear or read)")
    return named | others


def make_embedders(
    grafts: Mapping[str, Graft], width: int, tokenizers: Container[str], attended: bool = False
) -> dict[str, MediaEmbedder]:
    """Embedders by kind of span, with connectors of random weights (torch's global generator).

    Args:
        grafts: by modality.
        width: of the decoder's embeddings.
        tokenizers: the modalities that have codes as well: their kind is `seen_image`, that of
            others the modality itself.
        attended: whether the decoder's layers attend to the vectors, which stand nowhere then.

    Raises ValueError for what is no encoder of the modality, and an unknown connector.
    """
    if not grafts:
        return {}
    from unified.models.grafting.connector_table import make_connector
    from unified.models.grafting.embedder import MediaEmbedder
    from unified.models.grafting.encoder_table import open_encoder

    embedders = {}
    for modality, graft in grafts.items():
        encoder = graft.encoder
        if isinstance(encoder, str | Path):
            source = encoder if modality == "state" else model_directory(encoder)
            encoder = open_encoder(source, modality, graft.layer, **graft.reading)
        if encoder.modality != modality:
            raise ValueError(
                f"the encoder for {modality} is one of {encoder.modality}; give it for that"
            )
        connector = make_connector(graft.connector, encoder.width, width, **graft.options)
        if (grid := encoder.fixed_grid) is not None:
            connector.grid(grid)  # refused before anything else is made
        kind = f"seen_{modality}" if modality in tokenizers else modality
        embedders[kind] = MediaEmbedder(kind, modality, (encoder, connector.eval()), attended)
    return embedders


def add_spans(format: Format, embedders: Mapping[str, MediaEmbedder]) -> Format:
    """A format with a span of continuous positions for each embedder, between two markers."""
    if not embedders:
        return format
    top = yaml.safe_load(format.source)
    for kind, embedder in embedders.items():
        begin, end = f"<{kind}>", f"</{kind}>"
        top["markers"] += [name for name in (begin, end) if name not in top["markers"]]
        item = {"embeds": kind, **({"attended": True} if embedder.attended else {})}
        repeat: list[Any] = [item]
        for count in reversed(embedder.fixed_grid or ("open",)):
            repeat = [{"repeat": count, "of": repeat}]
        items = [{"marker": begin}, *repeat, {"marker": end}]
        modality = {} if kind == embedder.modality else {"modality": embedder.modality}
        top["spans"][kind] = {**modality, "items": items}
    return parse_format(write_format(top))


def attends_to_media(layers: str | None, grafts: Mapping[str, Graft]) -> bool:
    """Whether modules by this name attend to what is read through encoders.

    Raises ValueError where they do and there is nothing to attend to.
    """
    if layers is None:
        return False
    from unified.models.grafting.layer_table import LAYER_GRAFTS

    attends = layers in LAYER_GRAFTS and LAYER_GRAFTS[layers].attends
    if attends and not grafts:
        raise ValueError(
            f"layers is {layers}, which attends to what an encoder reads; give see or hear, too"
        )
    return attends


def put_into_layers(hf: Any, name: str, options: Mapping[str, int]) -> None:
    """Put modules by name into the layers of a decoder (`layer_grafts`), which begin as nothing.

    Raises ValueError for an unknown name or option, and layers that are not like Llama's.
    """
    from unified.models.grafting.layer_grafts import attach_layer_graft
    from unified.models.grafting.layer_table import make_layer_graft

    attach_layer_graft(hf, make_layer_graft(name, hf, **options))
