"""Encoders and connectors in a model's folder: KIND_encoder/, KIND_connector/ and unified.json."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unified.models.hf_checkpoint import read_json
from unified.sequence.continuous import Embedder
from unified_base.quiet import no_progress_bars
from unified_base.safetensors_files import check_weights
from unified_base.text import quoted
from unified_data.segments import modalities

if TYPE_CHECKING:
    from torch import nn

    from unified.models.grafting.connectors import Connector
    from unified.models.grafting.embedder import EmbedderParts, MediaEmbedder
    from unified.models.grafting.layer_grafts import LayerGraft

__all__ = [
    "EMBEDS_KEY", "LAYERS_KEY", "LOOKING_BACK", "check_layers", "describe_embedders",
    "install_stored_layers", "load_embedders", "save_embedders", "save_layers",
]  # fmt: skip

EMBEDS_KEY = "embeds"
"""Of unified.json: kind -> its modality."""
LAYERS_KEY, LAYERS_FILE = "layers", "layer_graft.safetensors"
"""Of unified.json: what is installed in the decoder's layers, and the file of its weights."""
LOOKING_BACK = ("gated-cross-attention", "modality-adapters")
"""Of them, by name, those that backend transformers alone samples (`LayerGraft.looks_back`)."""
_CONNECTOR_FILE, _WEIGHTS = "connector.json", "model.safetensors"
_KEYS = {"name", "input_width", "output_width", "options"}


def describe_embedders(embedders: Mapping[str, Embedder]) -> dict[str, Any]:
    """The entry of unified.json; none of a model that has none."""
    entry = {k: e.modality for k, e in embedders.items() if not getattr(e, "is_inside", False)}
    return {EMBEDS_KEY: entry} if entry else {}


def save_embedders(embedders: Mapping[str, Embedder], folder: Path) -> None:
    """Write encoders and connectors below a model's folder."""
    from safetensors.torch import save_file

    from unified.models.grafting.embedder import MediaEmbedder
    from unified.models.grafting.published_parts import InsideEmbedder

    for kind, embedder in embedders.items():
        assert isinstance(embedder, MediaEmbedder)
        if isinstance(embedder, InsideEmbedder):  # its weights are the checkpoint's own
            embedder.save_settings(folder)
            continue
        encoder, connector = embedder.parts
        with no_progress_bars():
            encoder.save(folder / f"{kind}_encoder")
        own = folder / f"{kind}_connector"
        own.mkdir(exist_ok=True)
        (own / _CONNECTOR_FILE).write_text(
            json.dumps(connector.describe(), indent=1) + "\n", "utf-8"
        )
        state = {
            name: value.detach().cpu().contiguous()
            for name, value in connector.state_dict().items()
        }
        save_file(state, own / _WEIGHTS, metadata={"format": "pt"})


def load_embedders(
    entry: Any, folder: Path, width: int, where: str, attended: Container[str] = ()
) -> dict[str, MediaEmbedder]:
    """The embedders that a model's unified.json names; their weights are read when they are needed.

    Args:
        entry: of unified.json, None where it has none.
        folder: the model's.
        width: of the decoder's embeddings.
        where: for errors.
        attended: kinds of spans whose media the decoder's layers attend to.

    Raises ValueError for an entry that is none, and a connector of another decoder.
    """
    if entry is None:
        return {}
    from unified.models.grafting.embedder import MediaEmbedder

    if not isinstance(entry, dict) or not all(
        isinstance(kind, str) and modality in modalities() for kind, modality in entry.items()
    ):
        raise ValueError(
            f"{where}: {EMBEDS_KEY} is {quoted(entry)}, expected kinds of spans with their modality"
        )
    embedders = {}
    for kind, modality in entry.items():
        own = folder / f"{kind}_connector" / _CONNECTOR_FILE
        described = _read_connector(own)
        if described["output_width"] != width:
            raise ValueError(
                f"{own}: output_width is {described['output_width']}, but the decoder's embeddings"
                f" have {width} numbers; take both from the same model"
            )
        make = partial(_load_parts, folder, kind, described)
        embedders[kind] = MediaEmbedder(kind, modality, make, kind in attended)
    return embedders


def _read_connector(path: Path) -> dict[str, Any]:
    entry = read_json(path)
    widths = [entry.get(name) for name in ("input_width", "output_width")]
    if (
        set(entry) != _KEYS
        or not isinstance(entry["options"], dict)
        or not all(type(width) is int and 0 < width <= 1 << 20 for width in widths)
    ):
        raise ValueError(f"{path} is {quoted(entry)}, expected {', '.join(sorted(_KEYS))}")
    return entry


def _load_parts(folder: Path, kind: str, described: Mapping[str, Any]) -> EmbedderParts:
    from unified.models.grafting.encoder_table import stored_encoder

    encoder = stored_encoder(folder / f"{kind}_encoder")
    if encoder.width != described["input_width"]:
        raise ValueError(
            f"the encoder in {folder / f'{kind}_encoder'} gives features of width {encoder.width},"
            f" its connector was made for {described['input_width']}; take both from one model"
        )
    return encoder, _load_connector(folder / f"{kind}_connector", described)


def _load_connector(folder: Path, described: Mapping[str, Any]) -> Connector:
    import torch
    from safetensors.torch import load_file

    from unified.models.grafting.connector_table import make_connector
    from unified_tokenizers.foreign_model import check_size

    def make() -> Connector:
        return make_connector(
            described["name"], described["input_width"], described["output_width"],
            **described["options"],
        )  # fmt: skip

    numbers = check_weights(folder, _WEIGHTS)
    check_size(make, numbers, f"connector {folder}")
    with torch.random.fork_rng(devices=[]):
        connector = make()
    _load_exactly(connector, load_file(folder / _WEIGHTS), str(folder))
    return connector.eval()


def check_layers(entry: Any, where: str) -> dict[str, Any] | None:
    """The entry of unified.json about modules in the decoder's layers; None where it has none."""
    if entry is None:
        return None
    sound = isinstance(entry, dict) and set(entry) == {"name", "options"}
    if not sound or not isinstance(entry["name"], str) or not isinstance(entry["options"], dict):
        raise ValueError(f"{where}: {LAYERS_KEY} is {quoted(entry)}, expected name and options")
    checked: dict[str, Any] = entry
    return checked


def save_layers(graft: LayerGraft | None, folder: Path) -> dict[str, Any]:
    """Write the weights of modules in the layers; returns their entry of unified.json."""
    from safetensors.torch import save_file

    if graft is None:
        return {}
    state = {name: v.detach().cpu().contiguous() for name, v in graft.state_dict().items()}
    save_file(state, folder / LAYERS_FILE, metadata={"format": "pt"})
    return {LAYERS_KEY: {"name": graft.name, "options": dict(graft.options)}}


def install_stored_layers(hf: Any, folder: Path, entry: Mapping[str, Any]) -> None:
    """Install the modules that a model's folder has for its layers.

    Raises ValueError for a file that is missing, or of other modules.
    """
    import torch
    from safetensors.torch import load_file

    from unified.models.grafting.layer_grafts import attach_layer_graft
    from unified.models.grafting.layer_table import make_layer_graft

    check_weights(folder, LAYERS_FILE)
    with torch.random.fork_rng(devices=[]):
        graft = make_layer_graft(entry["name"], hf, **entry["options"])
    _load_exactly(graft, load_file(folder / LAYERS_FILE), str(folder / LAYERS_FILE))
    attach_layer_graft(hf, graft)


def _load_exactly(module: nn.Module, state: Mapping[str, Any], where: str) -> None:
    """Raises ValueError unless the weights are those of the module, name by name."""
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    held = {name: tuple(value.shape) for name, value in state.items()}
    if expected != held:
        odd = sorted(set(expected.items()) ^ set(held.items()))[0][0]
        raise ValueError(
            f"the weights in {where} are not those that are declared: {odd} differs; copy the"
            " folder again"
        )
    module.load_state_dict(state)
