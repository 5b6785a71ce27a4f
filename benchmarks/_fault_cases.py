"""The commands that write, as cases for `_fault_points`: a new one joins by one line."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _fault_inputs import Inputs
from _fault_points import Case, Snapshot

Whole = Callable[[Path, Snapshot, Snapshot, Snapshot], bool]
LOGS = r"events\.out\.tfevents.*|lock"


def cases(inputs: Inputs) -> list[Case]:
    """All of them; "over" replaces what an earlier command, with other settings, wrote."""
    alone = [
        command("draw", inputs, ["draw", "two cats", "-o", "{}/F.png", "--model", "{model}"]),
        command(
            "draw -n 3",
            inputs,
            ["draw", "a cat", "-n", "3", "-o", "{}/F.png", "--model", "{model}"],
            each_file,
        ),  # fmt: skip
        command(
            "write html",
            inputs,
            ["write", "The giant panda", "-o", "{}/F.html", "--model", "{model}"],
        ),  # fmt: skip
        command("speak", inputs, ["speak", "hello", "-o", "{}/F.wav", "--model", "{model}"]),
        command(
            "write md",
            inputs,
            ["write", "The giant panda", "-o", "{}/F.md", "--model", "{model}"],
            bundles("F"),
        ),  # fmt: skip
        command(
            "write json",
            inputs,
            ["write", "The giant panda", "-o", "{}/F.json", "--model", "{model}"],
            bundles("F"),
        ),  # fmt: skip
        command(
            "sample -n 2",
            inputs,
            ["sample", "{request}", "-n", "2", "-o", "{}/F.json", "--model", "{model}"],
            bundles("F-1", "F-2"),
        ),  # fmt: skip
        command(
            "data build",
            inputs,
            [
                "data",
                "build",
                "pocket",
                "-o",
                "{}/W",
                "--scale",
                "0.002",
                "--workers",
                "1",
                "--only",
                "draw",
                "--only",
                "text",
            ],
        ),  # fmt: skip
        command("data show", inputs, ["data", "show", "{sample}", "-o", "{}/F.html", "-n", "5"]),
    ]
    over = [
        Case(f"{case.name}, over another", case.work, _seeded(case), case.whole, case.ignored)
        for case in alone  # fmt: skip
    ]
    return [
        *alone,
        *over,
        Case("model", _save(inputs.model)),
        Case("model, over another", _save(inputs.model), _save(inputs.folder / "other")),
        command("data import", inputs, ["data", "import", "folder", "{pictures}", "-o", "{}/D"]),
        command(
            "extend",
            inputs,
            ["extend", "{llm}", "--image", "{model}", "--max-grid", "7", "-o", "{}/M"],
        ),  # fmt: skip
        command(
            "grammar export",
            inputs,
            ["grammar", "export", "pocket", "-o", "{}/F.lark", "--model", "{model}"],
        ),  # fmt: skip
        command(
            "tokenizer reconstruct",
            inputs,
            ["tokenizer", "reconstruct", "{picture}", "-o", "{}/F.png", "--tokenizer", "{model}"],
        ),  # fmt: skip
        command(
            "tokenizer evaluate",
            inputs,
            ["tokenizer", "evaluate", "{model}", "{pictures}", "--plot", "{}/F.png"],
        ),  # fmt: skip
        command(
            "data tokenize",
            inputs,
            [
                "data",
                "tokenize",
                "{sample}/heldout-draw-00000.tar",
                "{sample}/heldout-speak-00000.tar",
                "--model",
                "{model}",
                "--workers",
                "1",
                "-o",
                "{}/C",
            ],
            codes,
        ),  # fmt: skip
        *_runs(inputs),
    ]


def command(
    name: str, inputs: Inputs, line: list[str], whole: Whole | None = None, ignored: str = r"(?!)"
) -> Case:
    """A case of a command line; {} is its folder, {model} and the like the inputs."""
    work = _Command(inputs, line)
    return Case(name, work, None, whole, ignored) if whole else Case(name, work, ignored=ignored)


class _Command:
    def __init__(self, inputs: Inputs, line: list[str]) -> None:
        self.inputs, self.line = inputs, line

    def __call__(self, folder: Path) -> int:
        from unified.__main__ import run

        known = {
            name: self.inputs.folder / name for name in ("model", "llm", "pictures", "sample")
        } | {"picture": self.inputs.picture, "request": self.inputs.request}
        return run([part.format(folder, **known) for part in self.line])


def _seeded(case: Case) -> Callable[[Path], Any]:
    """The same command with another seed."""
    assert isinstance(case.work, _Command)
    return _Command(case.work.inputs, [*case.work.line, "--seed", "5"])


def _save(source: Path) -> Callable[[Path], Any]:
    def work(folder: Path) -> None:
        from unified.model import UnifiedModel

        UnifiedModel.from_pretrained(source).save_pretrained(folder / "M")

    return work


def _runs(inputs: Inputs) -> list[Case]:
    def train(folder: Path) -> int:
        from unified.__main__ import run

        return run(["train", str(inputs.run_file("train", folder / "R")), "--resume"])

    def tokenizer(folder: Path) -> int:
        from unified.__main__ import run

        file = inputs.run_file("tokenizer", folder / "R")
        return run(["tokenizer", "train", str(file), "--resume"])

    return [
        Case("train", train, None, run_folder("model"), LOGS),
        Case("tokenizer train", tokenizer, None, run_folder("tokenizer"), LOGS),
    ]


# When what a killed command left is whole.


def each_file(folder: Path, now: Snapshot, before: Snapshot, after: Snapshot) -> bool:
    """Files that have nothing to do with each other: each is as it was, or as it is to be."""
    return before.keys() <= now.keys() and all(
        content in (before.get(name), after.get(name)) for name, content in now.items()
    )


def bundles(*stems: str) -> Whole:
    """Files that name others: with the one that stands stands all that was written with it."""

    def whole(folder: Path, now: Snapshot, before: Snapshot, after: Snapshot) -> bool:
        for stem in stems:
            (main,) = (name for name in after if re.fullmatch(rf"{stem}\.(md|json)", name))
            wanted = after if now.get(main) == after[main] else before
            ours = [n for n in wanted if re.match(rf"{stem}(\.|-media/.)", n)]
            if now.get(main) != wanted.get(main) or any(now.get(n) != wanted[n] for n in ours):
                return False
        return True

    return whole


def codes(folder: Path, now: Snapshot, before: Snapshot, after: Snapshot) -> bool:
    """Shards of codes come one after the other; what is there is whole, the index last."""
    from unified_data.shards import read_index

    shards = [name for name in now if name.endswith(".tar")]
    if any(now[name] != after[name] for name in shards):
        return False
    if (folder / "C" / "index.json").exists():
        return all(f"C/{row.file}" in shards for row in read_index(folder / "C")["shards"])
    return True


def run_folder(result: str) -> Whole:
    """Checkpoints by their names are whole; the result is not there, or whole."""

    def whole(folder: Path, now: Snapshot, before: Snapshot, after: Snapshot) -> bool:
        run = folder / "R"
        for checkpoint in run.glob("checkpoints/step-???????"):
            if not (checkpoint / "state.json").is_file():
                return False
            name = f"R/checkpoints/{checkpoint.name}/"
            if name in after and any(
                now.get(n) != d for n, d in after.items() if n.startswith(name)
            ):
                return False
        if not (run / result).is_dir():
            return True
        try:
            _open(run / result)
        except ValueError:
            return False
        return True

    return whole


def _open(folder: Path) -> None:
    if folder.name == "model":
        from unified.model import UnifiedModel

        UnifiedModel.from_pretrained(folder)
    else:
        from unified_tokenizers import load_tokenizer

        load_tokenizer(folder)


def clear(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
