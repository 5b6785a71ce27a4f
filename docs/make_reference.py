"""Write docs/reference/train.md, tokenizer_train.md and tower_train.md: every key of a run's file.

    python docs/make_reference.py

They are made of the configurations' dataclasses; a test compares them.
"""

from __future__ import annotations

from pathlib import Path

from unified.matching.space_config import SpaceTraining
from unified.matching.tower_config import TowerTraining
from unified.training.config import TrainConfig
from unified_base.config_help import as_markdown
from unified_tokenizers.training_config import TokenizerTraining

FOLDER = Path(__file__).parent / "reference"
_NOTE = """Made by `python docs/make_reference.py`; `unified {command} --help-config` prints it.
Any key may be replaced on the command line: `unified {command} run.yaml {example}`.
"""


_SPACE = """## Branches of a space

A file with the key `branches` trains encoders of sounds and point clouds against a tower that stays
what it is.
"""


def pages() -> dict[str, str]:
    """The text of each page by its file name."""
    return {
        "train.md": _page(
            "Configuration of `unified train`",
            "train", "optimizer.lr=1e-4 steps=20", as_markdown(TrainConfig),
        ),
        "tokenizer_train.md": _page(
            "Configuration of `unified tokenizer train`",
            "tokenizer train", "optimizer.lr=1e-3 batch_size=16", as_markdown(TokenizerTraining),
        ),
        "tower_train.md": _page(
            "Configuration of `unified tower train`",
            "tower train", "optimizer.lr=1e-3 steps=20",
            f"{as_markdown(TowerTraining)}\n{_SPACE}\n{as_markdown(SpaceTraining)}",
        ),
    }  # fmt: skip


def _page(title: str, command: str, example: str, table: str) -> str:
    return f"# {title}\n\n{_NOTE.format(command=command, example=example)}\n{table}\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, "utf-8")
