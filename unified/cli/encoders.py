"""Encoders and connectors as a command is given them: names with options behind commas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unified_base.text import quoted

__all__ = ["make_grafts", "named"]


def make_grafts(
    encoders: Mapping[str, str | None],
    read: Sequence[str],
    connectors: Sequence[str],
    layer: int | None,
) -> dict[str, Any]:
    """What `UnifiedModel.extend` takes of encoders.

    Args:
        encoders: by modality, of --see and --hear.
        read: "video=ENCODER,frames=8" each.
        connectors: "mlp,shuffle=2", of all media, or "video=merge,vectors=64", of one.
        layer: of --encoder-layer.

    Raises ValueError for what is written otherwise, two of one modality, and connectors of none.
    """
    from unified.models.grafting.graft import Graft

    readers = {m: (e, dict[str, int]()) for m, e in encoders.items() if e is not None}
    for text in read:
        modality, _, encoder = text.partition("=")
        if not encoder or "," in modality:
            raise ValueError(
                f"--read {text}: expected MEDIA=ENCODER, such as"
                " video=openai/clip-vit-large-patch14,frames=8"
            )
        if modality in readers:
            raise ValueError(f"--read {text}: {modality} has an encoder already; give one")
        readers[modality] = named("--read", encoder)
    if not readers and (connectors or layer is not None):
        raise ValueError("--connector and --encoder-layer are of an encoder: give --see or --hear")
    usual: tuple[str, dict[str, int]] = ("mlp", {})
    own: dict[str, tuple[str, dict[str, int]]] = {}
    for text in connectors:
        modality, _, rest = text.partition("=")
        if not rest or "," in modality:
            usual = named("--connector", text)
        elif modality not in readers:
            raise ValueError(f"--connector {text}: {modality} is read through no encoder")
        else:
            own[modality] = named("--connector", rest)
    grafts = {}
    for modality, (encoder, reading) in readers.items():
        name, options = own.get(modality, usual)
        # A state's encoder has no layers.
        depth = None if modality == "state" else layer
        grafts[modality] = Graft(encoder, name, options, depth, reading)
    return {"read": grafts} if grafts else {}


def named(option: str, text: str) -> tuple[str, dict[str, int]]:
    """A name and its options: "mlp" or "mlp,shuffle=2"."""
    name, *pairs = text.split(",")
    options: dict[str, int] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if not key or not value.isdecimal():
            raise ValueError(
                f"{option} {text}: {quoted(pair)}, expected OPTION=NUMBER, such as mlp,shuffle=2"
            )
        options[key] = int(value)
    return name, options
