"""What a training leaves: a plain model's folder, with a card that says how it was made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unified.models.model import UnifiedModel
from unified.training.card import write_card
from unified.training.config import TrainConfig
from unified.training.initial_model import build_model
from unified.training.weights import choose_trained, merge_trained
from unified.training.worlds import save_world_files, tasks_of_world
from unified_base.training.dist import DistContext

__all__ = ["export", "plain_model"]


def plain_model(
    config: TrainConfig, dist: DistContext, values: Mapping[str, Tensor]
) -> UnifiedModel | None:
    """The run's model with trained weights (by the names they have in training), on the CPU.

    Built anew from what the run began with, so that what was frozen is as it was, whatever it was
    rounded to for the computation; adapters are merged. None in all processes but the first, yet
    each must call it: parts of tensors are put together.
    """
    whole = {name: _whole(value, dist.is_main) for name, value in values.items()}
    if not dist.is_main:
        return None
    with torch.random.fork_rng(devices=[]):
        model = build_model(config)
        choose_trained(
            model.hf, config.train, model.vocabulary.text_rows, asdict(config.lora),
            model.embedders,
        )  # fmt: skip
    parameters = {f"decoder.{n}": p for n, p in model.hf.named_parameters()}
    for kind, embedder in model.embedders.items():
        own = embedder.connector.named_parameters(f"vectors.connectors.{kind}")
        parameters |= dict(own)
    for name, value in whole.items():
        assert value is not None
        parameters[name].data = value
    merge_trained(model.hf)
    return model


def export(
    config: TrainConfig,
    dist: DistContext,
    values: Mapping[str, Tensor],
    step: int,
    ids: int,
    measured: Mapping[str, float],
    report: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write OUTPUT/model and its card, and upload it where the configuration says so.

    report: takes lines on what was measured for the model's folder.
    """
    folder = Path(config.output) / "model"
    model = plain_model(config, dist, values)
    if model is not None:
        name = folder.name

        def finish(folder: Path) -> None:
            if config.world is not None:
                save_world_files(config, model.sequencer, folder, report)
            write_card(folder, name, config, model, step, ids, measured)

        if config.world is not None:
            model.tasks, model.plugin = tasks_of_world(config.world), config.world
        model.save_pretrained(folder, config.save_dtype, finish)
        if config.push_to_hub is not None:
            _push(folder, config.push_to_hub)
    dist.barrier()
    return folder


def _whole(value: Any, wanted: bool) -> Tensor | None:
    if hasattr(value, "full_tensor"):
        value = value.full_tensor()
    return value.detach().cpu().clone() if wanted else None


def _push(folder: Path, repository: str) -> None:
    """Raises ValueError where the hub does not take it; the folder stays."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    try:
        api = HfApi()
        api.create_repo(repository, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder)
    except (HfHubHTTPError, LocalTokenNotFoundError, OSError, ValueError) as error:
        raise ValueError(
            f"the model is saved in {folder}, but {repository} on the hub did not take it:"
            f" {' '.join(str(error).split())[:200]}"
        ) from None
