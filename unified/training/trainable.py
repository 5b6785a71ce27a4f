"""Which published models cannot be trained here, told before any of their weights are read."""

from __future__ import annotations

from pathlib import Path

from unified.models.hf_checkpoint import read_json
from unified.models.pretrained import pretrained_models

__all__ = ["check_trainable"]


def check_trainable(init_from: str | None) -> None:
    """Raises ValueError, saying what is missing, for a published model that cannot be trained yet.

    init_from: a folder, of which config.json is read, or a name on the hub, of which nothing is
    fetched; None passes, and so does a folder without a config.json.
    """
    if init_from is None:
        return
    path = Path(init_from) / "config.json"
    kind = read_json(path).get("model_type") if path.is_file() else None
    for pretrained in pretrained_models().values():
        same = kind == pretrained.model_type or init_from in pretrained.checkpoints
        if same and pretrained.cannot_train is not None:
            raise ValueError(
                f"init_from {init_from} is {pretrained.name}, which is sampled and not trained yet:"
                f" {pretrained.cannot_train}"
            )
