"""The command that makes the materials which the documentation's examples need."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from unified.cli.terminal import AsJson, note, result

_README = "README.md"
_TEXT = """# Materials to try `unified` on

Made by `unified demo`. Every example of the documentation runs in this folder.

| here | is |
|---|---|
| `pictures` | {pictures} pictures of 96x96 pixels, each with its caption in a text file beside it |
| `captions.csv` | the same pairs as a table |
| `sounds`, `speech.csv` | {sounds} recordings with their transcripts, as files and as a table |
| `questions.json` | questions about the pictures, in the form of LLaVA's data |
| `preferences.jsonl` | for captions and pictures what is right and what is not, for DPO |
| `articles.jsonl`, `articles` | texts with pictures among them, in the form of OBELICS |
| `tiny-llm` | a language model in Llama's layout with random weights and a chat template |
| `configs` | runs: `configs/demo` for what is here, the others to begin with for your own |

Pictures are composed from Noto Color Emoji (OFL 1.1); speech is by espeak-ng.
"""


def demo(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder to make, or an empty one.")
    ],
    as_json: AsJson = False,
) -> None:
    """Materials to try the commands on: pictures, sounds, a tiny language model, runs."""
    from unified_base.whole_folder import whole_folder
    from unified_data import demo as materials

    with whole_folder(folder, _README) as work:
        scenes = materials.write_pictures(work)
        num_sounds = materials.write_sounds(work)
        materials.write_questions(work, scenes)
        materials.write_preferences(work, scenes)
        materials.write_articles(work)
        from unified.cli.demo_llm import write_tiny_llm

        write_tiny_llm(work / "tiny-llm")
        shutil.copytree(configs_folder(), work / "configs")
        text = _TEXT.format(pictures=len(scenes), sounds=num_sounds)
        (work / _README).write_text(text, "utf-8")
    note(f"what is there, and what for: {folder / _README}")
    values = {"path": str(folder), "pictures": len(scenes), "sounds": num_sounds}
    result(values, as_json, str(folder))


def configs_folder() -> Path:
    """The example configurations: beside this file where the package is installed, else in the
    checkout."""
    here = Path(__file__).resolve()
    folders = (here.parent / "configs", here.parents[2] / "configs")
    return next(folder for folder in folders if folder.is_dir())
