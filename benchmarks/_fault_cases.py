"""The commands that write, as cases for `_fault_points`: a new one joins by one line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _fault_inputs import Inputs
from _fault_points import Case, Snapshot, all_or_nothing

Whole = Callable[[Path, Snapshot, Snapshot, Snapshot], bool]
LOGS = r"events\.out\.tfevents.*|lock"


def cases(inputs: Inputs) -> list[Case]:
    """All of them; "over another" replaces what the same command, with another seed, wrote."""

    def case(name: str, line: str, whole: Whole = all_or_nothing) -> Case:
        """Of a command line; {} is the case's folder, {model} and the like the inputs."""
        return Case(name, _Command(inputs, shlex.split(line)), None, whole)

    article = 'write "The giant panda" --model {model} -o'
    seeded = [
        case("draw", "draw 'two cats' --model {model} -o {}/F.png"),
        case("draw -n 3", "draw 'a cat' --model {model} -n 3 -o {}/F.png", each_file),
        case("speak", "speak hello --model {model} -o {}/F.wav"),
        case("write html", f"{article} {{}}/F.html"),
        case("write md", f"{article} {{}}/F.md", bundles("F")),
        case("write json", f"{article} {{}}/F.json", bundles("F")),
        case("sample -n 2", "sample {request} --model {model} -n 2 -o {}/F.json",
             bundles("F-1", "F-2")),
        case("data build", "data build pocket -o {}/W --scale 0.002 --workers 1 --only draw"
             " --only text"),
        case("data show", "data show {sample} -n 5 -o {}/F.html"),
    ]  # fmt: skip
    return [
        *seeded,
        *(Case(f"{c.name}, over another", c.work, _seeded(c), c.whole) for c in seeded),
        Case("model", _save(inputs.model)),
        Case("model, over another", _save(inputs.model), _save(inputs.folder / "other")),
        case("data import", "data import folder {pictures} -o {}/D"),
        case("extend", "extend {llm} --image {model} --max-grid 7 -o {}/M"),
        case("demo", "demo {}/D"),
        case("grammar export", "grammar export pocket --model {model} -o {}/F.lark"),
        case("reconstruct", "tokenizer reconstruct {picture} --tokenizer {model} -o {}/F.png"),
        case("evaluate", "tokenizer evaluate {model} {pictures} --plot {}/F.png"),
        case("data tokenize", "data tokenize {sample}/heldout-draw-00000.tar"
             " {sample}/heldout-speak-00000.tar --model {model} --workers 1 -o {}/C", codes),
        *_runs(inputs),
    ]  # fmt: skip


class _Command:
    def __init__(self, inputs: Inputs, line: list[str]) -> None:
        self.inputs, self.line = inputs, line

    def __call__(self, folder: Path) -> int:
        from unified.__main__ import run

        known = {name: self.inputs.folder / name for name in ("model", "llm", "pictures", "sample")}
        known |= {"picture": self.inputs.picture, "request": self.inputs.request}
        return run([part.format(folder, **known) for part in self.line])


def _seeded(case: Case) -> Callable[[Path], Any]:
    """The same command with another seed."""
    assert isinstance(case.work, _Command)
    return _Command(case.work.inputs, [*case.work.line, "--seed", "5"])


def _save(source: Path) -> Callable[[Path], Any]:
    def work(folder: Path) -> int:
        from unified.models.model import UnifiedModel

        try:
            UnifiedModel.from_pretrained(source).save_pretrained(folder / "M")
        except ValueError as error:
            print(f"error: {error}")
            return 2
        return 0

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
        from unified.models.model import UnifiedModel

        UnifiedModel.from_pretrained(folder)
    else:
        from unified_tokenizers import load_tokenizer

        load_tokenizer(folder)
