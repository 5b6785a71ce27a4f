"""A model card made from the run: what it was trained on, how long, and what was measured."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from unified.dataloading import Source
from unified.models.model import UnifiedModel
from unified.training.config import TrainConfig
from unified_base.atomic import atomic_write
from unified_base.version import __version__

__all__ = ["write_card"]


def write_card(
    folder: Path,
    name: str,
    config: TrainConfig,
    model: UnifiedModel,
    step: int,
    ids: int,
    measured: Mapping[str, float],
) -> None:
    """Write FOLDER/README.md, as the Hugging Face hub shows it. name: of the folder it will be."""
    size = sum(p.numel() for p in model.hf.parameters())
    blocks = ", ".join(f"{block.name} ({block.size:,})" for block in model.vocabulary.blocks)
    began = config.init_from or "random weights"
    lines = [
        "---",
        "library_name: unified",
        "tags: [text, image, audio, any-to-any]",
        "pipeline_tag: any-to-any",
        "---",
        f"# {Path(config.output).name}",
        "",
        f"One decoder of {size / 1e6:,.1f} M weights over {model.vocabulary.size:,} ids of text,"
        f" pictures and sound, in the format `{model.grammar.format.name}`.",
        "",
        "```python",
        "from unified.models.model import UnifiedModel",
        "",
        f'model = UnifiedModel.from_pretrained("{config.push_to_hub or name}")',
        "```",
        "",
        "## Training",
        "",
        f"- Initialised from: {began}; trained: {config.train.replace('_', ' ')}.",
        f"- {step:,} steps, {ids:,} ids; {config.optimizer.name}, peak learning rate"
        f" {config.optimizer.lr:g}, schedule {config.schedule.name}, {config.precision}.",
        f"- Blocks of ids: {blocks}.",
        "",
        "| source | share of the ids |",
        "|---|---|",
    ]
    lines += [f"| {name} | {share:.1%} |" for name, share in _shares(config.sources)]
    if measured:
        lines += ["", "Validation losses, nats an id:", "", "| what | loss |", "|---|---|"]
        lines += [f"| {name} | {value:.3f} |" for name, value in measured.items()]
    settings = json.dumps(asdict(config), indent=1, ensure_ascii=False)
    lines += ["", f"Made with unified {__version__}. The run's settings:", ""]
    lines += ["```json", settings, "```", ""]
    atomic_write(folder / "README.md", "\n".join(lines).encode("utf-8"))


def _shares(
    sources: Mapping[str, Source], whole: float = 1.0, inside: str = ""
) -> Iterator[tuple[str, float]]:
    """Every source that has shards, and its share of all ids."""
    total = sum(source.share for source in sources.values())
    for name, source in sources.items():
        share = whole * source.share / total
        if source.sources:
            yield from _shares(source.sources, share, f"{inside}{name}/")
        else:
            yield f"{inside}{name}", share
