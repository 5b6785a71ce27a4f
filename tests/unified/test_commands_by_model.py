"""Every command on every model: it does its work, or says in one line why this model cannot.

A new command joins by a line in COMMANDS, a new model by a line in MODELS; what a model cannot do
stands in REFUSED, with words of the reason. A cell that is refused for another reason, or that does
its work although it stands there, fails, so the table says what holds.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shipped
from published_module import published_checkpoints
from world_model import save_world_diffusion, save_world_model

from unified import UnifiedModel
from unified.__main__ import run
from unified.tasks.task import VERBS
from unified_base.images import load_image, save_png
from unified_base.sounds import load_audio, save_wav
from unified_data.document import Document, Image, Slot, Text
from unified_data.shards import ShardWriter, write_index

HERE = Path(__file__).parent
SIDE = 96


@pytest.fixture(scope="module")
def published():
    """The module that makes tiny checkpoints laid out as the published ones are."""
    with published_checkpoints("published_checkpoints") as module:
        yield module


# Models: what makes one in a folder. pocket is the shipped one.


def _pocket(folder, case):
    return "pocket"


def _world(folder, case):
    """Codes of several levels in a position, the tasks of the world, and a diffusion decoder."""
    save_world_diffusion(save_world_model(folder / "model"))
    return folder / "model"


def _extended(folder, case):
    """A small language model with an image and an audio tokenizer, as `unified extend` makes it."""
    image, audio = case.tokenizers
    for tokenizer in (image, audio):
        tokenizer.save_pretrained(folder / tokenizer.modality)
    tokenizers = ["--image", folder / image.modality, "--audio", folder / audio.modality]
    arguments = ["extend", case.llm, *tokenizers, "--max-grid", "8", "-o", folder / "model"]
    assert run([str(argument) for argument in arguments]) == 0
    return folder / "model"


def _published(kind):
    def make(folder, case):
        return case.published.make(kind, folder).folder

    return make


IN_POSITIONS = ("csm", "higgs-audio-v2", "musicgen", "dia")  # of several codes each
PUBLISHED = ("emu3", "chameleon", "janus", "liquid", "orpheus", *IN_POSITIONS)
MODELS: dict[str, Callable[..., Any]] = {
    "pocket": _pocket,
    "world": _world,
    "extended": _extended,
    **{kind: _published(kind) for kind in PUBLISHED},
}


# Commands: the arguments, and what proves that the work was done.


@dataclass
class Inputs:
    """What commands are given. output: a path that is new for each cell."""

    folder: Path
    output: Path

    @property
    def picture(self):
        return self.folder / "picture.png"

    def suite(self):
        """The file of a suite of one case."""
        path = self.output.with_suffix(".yaml")
        path.write_text("parts:\n  seeing: {cases: 1, conditions: [plain]}\n")
        return path

    def train(self, model):
        """The file of a run of two steps that begins with a model."""
        path = self.output.with_suffix(".yaml")
        run_file = {
            "output": str(self.output),
            "init_from": str(model),
            "steps": 2,
            "seq_len": 640,
            "global_batch_size": 1,
            "optimizer": {"lr": 0.001},
            "schedule": {"warmup_steps": 1},
            "log_every": 1,
            "precision": "float32",
            "streams": 1,
            "threads": 1,
            "sources": {"texts": {"shards": str(self.folder / "texts")}},
        }
        path.write_text(json.dumps(run_file))  # which is YAML, too
        return path


def _says_something(out, inputs):
    assert out.strip()


def _opens_together(out, inputs):
    opened = UnifiedModel.from_pretrained(inputs.output)
    assert opened.grammar.num_together == opened.codes.depth.num_ids > 1


def _is_json(out, inputs):
    assert json.loads(out)


def _made_picture(out, inputs):
    assert load_image(inputs.output.with_suffix(".png")).ndim == 3


def _made_sound(out, inputs):
    assert load_audio(inputs.output.with_suffix(".wav"))[0].size


def _made_page(out, inputs):
    assert "<html" in inputs.output.with_suffix(".html").read_text("utf-8")


def _filled(out, inputs):
    path = inputs.output.with_suffix(".json")
    filled = Document.from_json(json.loads(path.read_text()), path.parent)
    assert not filled.has_slots


def _coded(out, inputs):
    assert json.loads((inputs.output / "index.json").read_text())["shards"]


def _trained(out, inputs):
    assert any(inputs.output.rglob("model.safetensors"))


def format_of(model):
    """The name of a model's format."""
    name = Path(str(model)).name
    return name if name in PUBLISHED else "pocket"


Command = tuple[Callable[[Any, Inputs], list[Any]], Callable[[str, Inputs], None]]
COMMANDS: dict[str, Command] = {
    "info": (lambda m, i: ["info", "--json", "--model", m], _is_json),
    "info for people": (lambda m, i: ["info", "--model", m], _says_something),
    "subjects": (lambda m, i: ["subjects", "--model", m], _says_something),
    "draw by diffusion": (
        lambda m, i: ["draw", "a cat", "-o", f"{i.output}.png", "--decoder", "diffusion",
                      "--steps", 1, "--model", m], _made_picture),
    "sample": (lambda m, i: ["sample", i.folder / "request.json", "-o", f"{i.output}.json",
                             "--model", m], _filled),
    "inspect": (lambda m, i: ["inspect", i.folder / "text.json", "--json", "--model", m], _is_json),
    "inspect a picture": (lambda m, i: ["inspect", i.folder / "drawn.json", "--json", "--model", m],
                          _is_json),
    "grammar export": (lambda m, i: ["grammar", "export", format_of(m), "--model", m],
                       _says_something),
    "grammar check": (lambda m, i: ["grammar", "check", format_of(m), i.folder / "ids.json",
                                    "--model", m], _says_something),
    "data tokenize": (lambda m, i: ["data", "tokenize", i.folder / "pictures", "-o", i.output,
                                    "--workers", 1, "--model", m], _coded),
    "tokenizer reconstruct": (lambda m, i: ["tokenizer", "reconstruct", i.picture, "-o",
                                            f"{i.output}.png", "--tokenizer", m], _made_picture),
    "extend": (lambda m, i: ["extend", m, "-o", i.output, "--image", i.folder / "image"],
               lambda out, i: _trained(out, i)),
    "tasks": (lambda m, i: ["tasks", "--model", m], _says_something),
    "together": (lambda m, i: ["together", m, "-o", i.output], _opens_together),
    "estimate": (lambda m, i: ["estimate", i.train(m), "--json"], _is_json),
    "evaluate": (lambda m, i: ["evaluate", m, "--suite", i.suite(), "--json"], _is_json),
    "train": (lambda m, i: ["train", i.train(m)], _trained),
}  # fmt: skip
# Why not.
NO_ROLES = "has no roles; leave role 'prompt' out"
NOT_TRAINED = "cross-attention inside packed documents is missing"
NO_PICTURES = "there is no image tokenizer"
FIXED_32, FIXED_48 = "the format's grids are 32x32", "expected 48 x 48"
AS_A_WHOLE = "trained as it is"
NO_DIFFUSION = "has no diffusion decoder"
TOGETHER = "codes are together already"
REFUSED: dict[str, dict[str, str]] = {
    "subjects": dict.fromkeys(("extended", *PUBLISHED), "it has no plug-in"),
    "draw by diffusion": {
        "extended": NO_DIFFUSION,
        **({} if shipped.HAS_DIFFUSION else {"pocket": NO_DIFFUSION}),
        **dict.fromkeys(("emu3", "chameleon", "janus"), NO_DIFFUSION),
        **dict.fromkeys(("liquid", "orpheus", *IN_POSITIONS), "this model has no image tokenizer"),
    },
    "sample": {
        **dict.fromkeys(("emu3", "janus", "liquid", "csm", "musicgen", "dia"), NO_ROLES),
        "higgs-audio-v2": "no rows for text",
    },
    "inspect a picture": {
        "chameleon": FIXED_32, "janus": FIXED_48, "liquid": NO_PICTURES, "orpheus": NO_PICTURES,
        **dict.fromkeys(IN_POSITIONS, NO_PICTURES),
    },
    "grammar check": {
        **dict.fromkeys(MODELS, "position 0: expected <bos>, found text code 0"),
        "chameleon": "position 0: expected <s>", "orpheus": "position 0: expected <soh>",
        "musicgen": "position 1: the sequence ends where text", "dia": "position 0: expected text",
    },
    "data tokenize": {
        "janus": FIXED_48, **dict.fromkeys(("csm", "musicgen"), NO_PICTURES),
        **dict.fromkeys(("liquid", "orpheus", "higgs-audio-v2", "dia"), "has no media tokenizers"),
    },
    "tokenizer reconstruct": {
        "chameleon": "it can only encode", "janus": FIXED_48,
        "liquid": "names model_type 'gemma'", "orpheus": "names model_type 'llama'",
        **dict.fromkeys(("csm", "musicgen"), "is a tokenizer for audio"),
        "higgs-audio-v2": "names model_type 'higgs_audio_v2'", "dia": "names model_type 'dia'",
    },
    "together": {
        **dict.fromkeys(("emu3", "chameleon", "janus", "liquid"), "codes have one level"),
        **dict.fromkeys(("world", *IN_POSITIONS), TOGETHER),
        **({"pocket": TOGETHER} if shipped.TOGETHER else {}),
    },
    "estimate": dict.fromkeys(("musicgen", "dia"), NOT_TRAINED),
    "train": dict.fromkeys(("musicgen", "dia"), NOT_TRAINED),
    "extend": {
        **dict.fromkeys(("pocket", "world", "extended"), "is a unified model already"),
        **dict.fromkeys(("emu3", "chameleon", "janus", "csm", "higgs-audio-v2"), AS_A_WHOLE),
        **dict.fromkeys(("musicgen", "dia"), "all its ids: extending is for language models"),
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def case(tmp_path_factory, published, tiny_tokenizers):
    """The inputs of all cells, and the models as they are made."""

    class Case:
        pass

    case = Case()
    case.published, case.tokenizers = published, tiny_tokenizers
    case.folder = folder = tmp_path_factory.mktemp("matrix")
    pixels = np.full((SIDE, SIDE, 3), 200, np.uint8)
    pixels[20:60, 30:70] = (200, 30, 30)
    save_png(folder / "picture.png", pixels)
    save_wav(folder / "sound.wav", np.sin(np.arange(8_000) / 9.0)[None] * 0.3, 16_000)
    tiny_tokenizers[0].save_pretrained(folder / "image")
    documents = {
        "text": Document((Text("a red fox"),)),
        "drawn": Document((Text("a red fox"), Image(pixels))),
        "request": Document((Text("a red fox", "prompt"), Slot("text", role="response"))),
    }
    for name, document in documents.items():
        (folder / f"{name}.json").write_text(json.dumps(document.to_json(folder, name)))
    (folder / "ids.json").write_text("[0]")
    for name, document in (("texts", documents["text"]), ("pictures", documents["drawn"])):
        with ShardWriter(folder / name, "train", name) as writer:
            for number in range(40):
                writer.write(f"k{number}", document)
        write_index(folder / name, writer.shards)
    case.llm = published.make("orpheus", folder / "llm").folder
    case.models = {
        name: make(folder / "models" / name, case)
        for name, make in MODELS.items()
        if (folder / "models" / name).mkdir(parents=True) is None
    }
    return case


# Its loops are compiled for the first time: twenty seconds.
SLOW = {("draw by diffusion", "world")}


@pytest.mark.parametrize(
    ("command", "model"),
    [
        pytest.param(command, model, marks=[pytest.mark.slow] if (command, model) in SLOW else [])
        for command in COMMANDS
        for model in MODELS
    ],
)
def test_a_command_does_its_work_or_says_why_not(case, command, model, tmp_path, capsys):
    arguments, check = COMMANDS[command]
    inputs = Inputs(case.folder, tmp_path / "made")
    capsys.readouterr()
    code = run([str(argument) for argument in arguments(case.models[model], inputs)])
    captured = capsys.readouterr()
    assert "a fault of ours" not in captured.err, captured.err
    assert "Traceback" not in captured.err
    reason = REFUSED.get(command, {}).get(model)
    if reason is None:
        assert code == 0, captured.err
        check(captured.out, inputs)
        return
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert (code, len(errors)) == (2, 1), captured.err
    assert reason in errors[0]


def test_the_table_names_only_commands_and_models_that_there_are():
    assert set(REFUSED) <= set(COMMANDS)
    assert {model for models in REFUSED.values() for model in models} <= set(MODELS)
    # A command without a cell that does its work proves nothing, but that it refuses.
    without = {name for name in COMMANDS if set(REFUSED.get(name, ())) == set(MODELS)}
    assert without == {"grammar check"}


def _commands(group, before=()):
    """The command lines of an application, without their arguments."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*before, name))
        else:
            yield " ".join((*before, name))


def test_every_command_that_takes_a_model_is_in_the_table(tmp_path):
    from typer.main import get_command

    from unified.cli.main import app

    group = get_command(app)
    whole = set(_commands(group))
    # They know no model: what they read is in the matrices of readers and of tokenizers.
    without = {"data build pocket", "data build world", "data build charts", "data import",
               "data check", "data show",
               "grammar list", "grammar show", "data build motion",
               # Of towers, not of models: tests/unified/matching. Bulk: test_generate.
               "tower train", "tower classify", "tower choose", "index", "search",
               "generate",
               "tokenizer train", "tokenizer evaluate",
               "tokenizer convert", "demo", "export",
               # They serve until they are asked to end: tests/unified/serving.
               "serve", "studio",
               # Of verbs there is a table of its own, `test_verbs_by_model`.
               *VERBS}  # fmt: skip
    inputs = Inputs(tmp_path / "x", tmp_path / "x")  # some write a file beside it
    files = ("estimate", "train", "codes")  # they name their model in a run's file
    named = {
        " ".join(map(str, make("m", inputs)[:2]))
        for name, (make, _) in COMMANDS.items()
        if name not in files
    }
    missing = {command for command in whole - without
               if not any((line + " ").startswith(command + " ") for line in named)}  # fmt: skip
    assert missing == {"codes", "estimate", "train"}
