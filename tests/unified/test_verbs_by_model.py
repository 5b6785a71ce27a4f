"""Every verb on every model: what was asked for, or the one line in which the model refuses.

A model joins by a line in MODELS, what it cannot do by its words in REFUSED; a cell that is refused
for another reason, or that does its work although it stands there, fails. The models are tiny and
untrained, laid out as their authors' checkpoints are.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from unified.__main__ import run
from unified.tasks.task import VERBS
from unified_base.images import load_image, save_png
from unified_base.sounds import load_audio, save_wav

HERE = Path(__file__).parent
PUBLISHED = ("emu3", "chameleon", "janus", "janus-pro", "liquid", "orpheus", "apertus")
MODELS = ("pocket", "extended", "chat", *PUBLISHED)

# Processors that make small pictures, so that untrained models of few positions can read them.
PROCESSORS = {
    "emu3": {"min_pixels": 64, "max_pixels": 256, "spatial_factor": 2},
    "apertus": {"min_pixels": 64, "max_pixels": 256, "spatial_factor": 2},
    "chameleon": {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}},
}
# Sizes, where a model may draw any and an untrained one would draw large ones.
SIZES = {"emu3": "16x16", "extended": "48x24", "chat": "48x24"}
# Budgets of ids that untrained models of fewer positions have.
BUDGETS = {"chameleon": 2048, "extended": 150, "chat": 150}

NO_CODEC = "comes without its {} codec"
REFUSED: dict[str, dict[str, str]] = {
    "write": {
        "emu3": "Emu3 writes no articles", "janus": "Janus writes no articles",
        "janus-pro": "Janus writes no articles", "liquid": "Liquid writes no articles",
        "orpheus": "Orpheus reads texts aloud", "apertus": "cannot write",
        "chameleon": "the checkpoint holds no decoder of its image codec",
    },
    "draw": {
        "chameleon": "the checkpoint holds no decoder of its image codec",
        "liquid": NO_CODEC.format("image"), "orpheus": "Orpheus has no pictures",
        "apertus": "cannot draw",
    },
    "describe": {
        "janus": "a vision tower of its own", "janus-pro": "a vision tower of its own",
        "liquid": "the text tokenizer has no <start_of_turn>",
        "orpheus": "Orpheus has no pictures",
    },
    "ask": {
        "janus": "a vision tower of its own", "janus-pro": "a vision tower of its own",
        "liquid": "the text tokenizer has no <start_of_turn>",
        "orpheus": "Orpheus has no pictures",
    },
    "speak": {
        **dict.fromkeys(PUBLISHED, "has no sound"), "orpheus": NO_CODEC.format("audio"),
        "apertus": "cannot speak",
    },
    "listen": {
        **{kind: "has no sound" for kind in PUBLISHED if kind != "apertus"},
        "orpheus": "does not listen",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def published():
    """The module that makes tiny checkpoints laid out as the published ones are."""
    path = HERE / "published" / "conftest.py"
    spec = importlib.util.spec_from_file_location("checkpoints_for_verbs", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there for their module
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules[spec.name]


@dataclass
class Case:
    """What verbs are given: a folder with a picture and a sound; the models by name."""

    folder: Path
    models: dict[str, str]


@pytest.fixture(scope="module")
def case(tmp_path_factory, published, tiny_tokenizers, cli_llm):
    folder = tmp_path_factory.mktemp("verbs")
    pixels = np.full((30, 50, 3), 200, np.uint8)
    pixels[10:20, 20:40] = (200, 30, 30)
    save_png(folder / "picture.png", pixels)
    sound = (np.sin(np.arange(1_600) / 9.0)[None] * 0.3).astype(np.float32)
    save_wav(folder / "sound.wav", sound, 16_000)
    models = {"pocket": "pocket"}
    codecs = []
    for tokenizer in tiny_tokenizers:
        tokenizer.save_pretrained(folder / tokenizer.modality)
        codecs += [f"--{tokenizer.modality}", str(folder / tokenizer.modality)]
    for name, format in (("extended", "pocket"), ("chat", "chat")):
        models[name] = str(folder / name)
        arguments = ["extend", str(cli_llm), *codecs, "--format", format, "--max-grid", "8"]
        assert run([*arguments, "-o", models[name]]) == 0
    for kind in PUBLISHED:
        models[kind] = str(published.make(kind, folder / kind).folder)
        if kind in PROCESSORS:
            path = folder / kind / "preprocessor_config.json"
            path.write_text(json.dumps(PROCESSORS[kind]))
    return Case(folder, models)


def arguments(case, verb, model, output):
    size = ["--size", SIZES[model]] if model in SIZES else []
    budget = ["--set", f"max_ids={BUDGETS[model]}"] if model in BUDGETS else []
    few = ["--max-text-ids", "6", *budget]
    return {
        "write": [
            "write",
            "The cat",
            "--images",
            "1",
            "--no-audio",
            *size,
            *budget,
            "-o",
            f"{output}.json",
        ],
        "draw": ["draw", "a cat", *size, "-o", f"{output}.png"],
        "describe": ["describe", str(case.folder / "picture.png"), *few],
        "ask": ["ask", str(case.folder / "picture.png"), "What is this?", *few],
        "speak": ["speak", "a cat", "--set", "max_audio_frames=2", "-o", f"{output}.wav"],
        "listen": ["listen", str(case.folder / "sound.wav"), *few],
    }[verb]


def check(verb, out, output):
    """That what was asked for is there."""
    if verb == "draw":
        assert load_image(output.with_suffix(".png")).ndim == 3
    elif verb == "speak":
        assert load_audio(output.with_suffix(".wav"))[0].size
    elif verb == "write":
        segments = json.loads(output.with_suffix(".json").read_text("utf-8"))["segments"]
        assert sum(segment["type"] == "image" for segment in segments) == 1
    else:
        assert out.strip()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_does_its_work_or_the_model_says_why_not(case, verb, model, tmp_path, capsys):
    output = tmp_path / "answer"
    capsys.readouterr()
    code = run([*arguments(case, verb, model, output), "--model", case.models[model]])
    captured = capsys.readouterr()
    assert "a fault of ours" not in captured.err, captured.err
    reason = REFUSED.get(verb, {}).get(model)
    if reason is None:
        assert code == 0, captured.err
        check(verb, captured.out, output)
        return
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert (code, len(errors)) == (2, 1), captured.err
    assert reason in errors[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("model", MODELS)
def test_tasks_tells_of_every_verb_what_happens(case, model, capsys):
    capsys.readouterr()
    assert run(["tasks", "--json", "--model", case.models[model]]) == 0
    tasks = json.loads(capsys.readouterr().out)["tasks"]
    assert tuple(tasks) == VERBS
    for verb, entry in tasks.items():
        reason = REFUSED.get(verb, {}).get(model)
        if reason is None:
            assert entry["able"], entry
            assert entry["source"]
        elif (verb, model) == ("write", "chameleon"):
            assert entry["able"]  # articles without pictures
        elif not reason.startswith("cannot"):
            assert reason in entry["reason"]


@pytest.mark.parametrize("model", MODELS)
def test_info_works_for_every_model_that_opens(case, model, capsys):
    capsys.readouterr()
    assert run(["info", "--json", "--model", case.models[model]]) == 0
    description = json.loads(capsys.readouterr().out)
    assert description["vocabulary"]["size"] > 0
    assert run(["info", "--model", case.models[model]]) == 0
