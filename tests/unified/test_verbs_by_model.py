"""Every verb on every model: what was asked for, or the one line in which the model refuses.

A model joins by a line in MODELS, what it cannot do by its words in REFUSED; a cell that is refused
for another reason, or that does its work although it stands there, fails. The models are tiny and
untrained, laid out as their authors' checkpoints are.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

import codes_checkpoints
import numpy as np
import pytest
import shipped
from published_module import published_checkpoints
from small_together import together_model
from world_model import save_world_model

from unified.__main__ import run
from unified.tasks.task import VERBS
from unified.vocabulary.text_tokenizer import TextTokenizer
from unified_base.images import load_image, save_png
from unified_base.sounds import load_audio, save_wav

HERE = Path(__file__).parent
PUBLISHED = (
    "emu3", "chameleon", "janus", "janus-pro", "liquid", "orpheus", "apertus", "moshi", "qwen-omni",
)  # fmt: skip
# Published ones with the codec that they come without, or that their checkpoint may hold.
WITH_CODEC = ("orpheus-snac", "liquid-vq", "anole")
EXTENDED = ("extended", "extended-qwen2", "extended-qwen3", "chat")
TOGETHER = ("together", "together-heads")  # 2 codes of a picture and 3 of a sound in a position
IN_POSITIONS = ("csm", "higgs-audio-v2", "musicgen", "dia")  # with their codecs
MODELS = ("pocket", "world", *EXTENDED, *TOGETHER, *PUBLISHED, *WITH_CODEC, *IN_POSITIONS)

# Sizes, where a model may draw any and an untrained one would draw large ones.
SIZES = {"emu3": "16x16", **dict.fromkeys((*EXTENDED, *TOGETHER), "48x24")}
# Budgets of ids that untrained models of fewer positions have.
BUDGETS = {"chameleon": 2048, "anole": 2048, **dict.fromkeys((*EXTENDED, *TOGETHER), 150)}

# Unguided: a third of the work for pictures of 1,024 ids. Sampled: the likeliest text is blank.
MORE = {
    ("draw", "anole"): ["--set", "image.guidance=1"],
    ("write", "anole"): ["--set", "image.guidance=1"],
    ("draw", "liquid-vq"): ["--set", "image.guidance=1"],
    ("describe", "liquid-vq"): ["--temperature", "1"],
    ("ask", "liquid-vq"): ["--temperature", "1"],
}

# Why those of several codes in a position do nothing but speak, with words for each verb.
SPEAKERS = {
    "csm": {"write": "reads texts aloud", "listen": "does not listen", "": "CSM has no pictures"},
    "higgs-audio-v2": {
        "write": "no head for text", "ask": "answers none", "listen": "no head for text to write",
        "": "Higgs Audio has no pictures",
    },
    "musicgen": {
        **dict.fromkeys(("write", "ask", "listen"), "makes music and writes no text"),
        "": "MusicGen has no pictures",
    },
    "dia": {
        **dict.fromkeys(("write", "ask", "listen"), "reads dialogues aloud and writes no text"),
        "": "Dia has no pictures",
    },
}  # fmt: skip
NO_EDITS = "nothing says how this model is asked to change a picture"
NO_CODEC = "comes without its {} codec"
REFUSED: dict[str, dict[str, str]] = {
    "write": {
        "emu3": "Emu3 writes no articles", "janus": "Janus writes no articles",
        "janus-pro": "Janus writes no articles", "liquid": "Liquid writes no articles",
        "liquid-vq": "Liquid writes no articles", "orpheus": "Orpheus reads texts aloud",
        "orpheus-snac": "Orpheus reads texts aloud", "apertus": "cannot write",
        "chameleon": "the checkpoint holds no decoder of its image codec",
        "moshi": "Moshi hears and answers", "qwen-omni": "thinker is not computed",
    },
    "draw": {
        "moshi": "Moshi has no pictures", "qwen-omni": "thinker is not computed",
        "chameleon": "the checkpoint holds no decoder of its image codec",
        "liquid": NO_CODEC.format("image"), "orpheus": "Orpheus has no pictures",
        "orpheus-snac": "Orpheus has no pictures", "apertus": "cannot draw",
    },
    "edit": {
        **{name: NO_EDITS for name in MODELS if name != "world"},
    },
    "describe": {
        "moshi": "Moshi has no pictures", "qwen-omni": "thinker is not computed",
        "liquid": "the text tokenizer has no <start_of_turn>",
        "orpheus": "Orpheus has no pictures", "orpheus-snac": "Orpheus has no pictures",
    },
    "ask": {
        "moshi": "Moshi hears and answers", "qwen-omni": "thinker is not computed",
        "liquid": "the text tokenizer has no <start_of_turn>",
        "orpheus": "Orpheus has no pictures", "orpheus-snac": "Orpheus has no pictures",
    },
    "speak": {
        **{kind: "has no sound" for kind in PUBLISHED if kind != "qwen-omni"},
        "orpheus": NO_CODEC.format("audio"),
        "apertus": "cannot speak", "liquid-vq": "has no sound", "anole": "has no sound",
        "moshi": "Moshi hears and answers",
    },
    "listen": {
        **{kind: "has no sound" for kind in PUBLISHED if kind != "apertus"},
        "moshi": "Moshi writes its own words", "qwen-omni": "thinker is not computed",
        "orpheus": "does not listen", "orpheus-snac": "does not listen",
        "liquid-vq": "has no sound", "anole": "has no sound",
    },
    "ground": dict.fromkeys(MODELS, "cannot ground"),
    "reply": {
        **{kind: "it does not listen while it speaks" for kind in MODELS if kind != "moshi"},
        "qwen-omni": "thinker is not computed",
    },
}  # fmt: skip
if "edit" in shipped.TASKS.able:
    del REFUSED["edit"]["pocket"]
for _verb in set(VERBS) - {"speak", "reply", "edit", "ground"}:
    REFUSED[_verb] |= {name: words.get(_verb, words[""]) for name, words in SPEAKERS.items()}


@pytest.fixture(scope="module")
def published():
    """The module that makes tiny checkpoints laid out as the published ones are."""
    with published_checkpoints("checkpoints_for_verbs") as module:
        yield module


@pytest.fixture(scope="module")
def codecs():
    """The module that makes tiny codecs for those checkpoints."""
    spec = importlib.util.spec_from_file_location("codecs", HERE / "codecs_of_published.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class Case:
    """What verbs are given: a folder with a picture and a sound; options that open the models."""

    folder: Path
    models: dict[str, list[str]]


def with_codecs(folder, published, codecs):
    """Options that open the published models that have a codec."""
    codecs.make_anole(published, folder / "anole")
    codecs.make_liquid_with_turns(published, folder / "liquid-vq")
    vq, snac = codecs.save_chameleon_vq(folder / "vq"), codecs.save_snac(folder / "snac")
    (vq / "preprocessor_config.json").write_text(json.dumps(published.CHAMELEON))
    dac = codes_checkpoints.save_dac(folder / "dac")
    higgs = codes_checkpoints.save_higgs_codec(folder / "higgs-codec")
    return {
        "dia": ["--model", str(folder / "dia"), "--audio-tokenizer", str(dac)],
        "higgs-audio-v2": [
            "--model", str(folder / "higgs-audio-v2"), "--audio-tokenizer", str(higgs),
        ],
        "anole": ["--model", str(folder / "anole")],
        "liquid-vq": ["--model", str(folder / "liquid-vq"), "--image-tokenizer", str(vq)],
        "orpheus-snac": ["--model", str(folder / "orpheus"), "--audio-tokenizer", str(snac)],
    }  # fmt: skip


@pytest.fixture(scope="module")
def case(tmp_path_factory, published, codecs, tiny_tokenizers, cli_llm):
    folder = tmp_path_factory.mktemp("verbs")
    pixels = np.full((30, 50, 3), 200, np.uint8)
    pixels[10:20, 20:40] = (200, 30, 30)
    save_png(folder / "picture.png", pixels)
    sound = (np.sin(np.arange(1_600) / 9.0)[None] * 0.3).astype(np.float32)
    save_wav(folder / "sound.wav", sound, 16_000)
    models = {"pocket": ["--model", "pocket"]}
    media = []
    for tokenizer in tiny_tokenizers:
        tokenizer.save_pretrained(folder / tokenizer.modality)
        media += [f"--{tokenizer.modality}", str(folder / tokenizer.modality)]
    for name in EXTENDED:
        llm, kind = cli_llm, name.removeprefix("extended-")
        if kind != name:
            text = TextTokenizer.train(["a cat and a dog"] * 3, 270)
            llm = codecs.save_qwen(kind, text, folder / kind)
        format = "chat" if name == "chat" else "pocket"
        arguments = ["extend", str(llm), *media, "--format", format, "--max-grid", "8"]
        assert run([*arguments, "-o", str(folder / name)]) == 0
        models[name] = ["--model", str(folder / name)]
    for name in TOGETHER:
        codes = "heads" if name.endswith("heads") else "depth"
        together_model(codes).save_pretrained(folder / name)
        models[name] = ["--model", str(folder / name)]
    models["world"] = ["--model", str(save_world_model(folder / "world"))]
    for kind in (*PUBLISHED, *IN_POSITIONS):
        models[kind] = ["--model", str(published.make(kind, folder / kind).folder)]
    models |= with_codecs(folder, published, codecs)
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
        "edit": [
            "edit", str(case.folder / "picture.png"), "make the ground red", *size, *budget,
            "-o", f"{output}.png",
        ],
        "describe": ["describe", str(case.folder / "picture.png"), *few],
        "ask": ["ask", str(case.folder / "picture.png"), "What is this?", *few],
        "ground": ["ground", str(case.folder / "picture.png"), "the cat", *few],
        "speak": ["speak", "a cat", "--set", "max_audio_frames=2", "-o", f"{output}.wav"],
        "listen": ["listen", str(case.folder / "sound.wav"), *few],
        "reply": [
            "reply",
            str(case.folder / "sound.wav"),
            "--seconds",
            "0.11",
            "-o",
            f"{output}.wav",
        ],
    }[verb]  # fmt: skip


def check(verb, out, output):
    """That what was asked for is there."""
    if verb in ("draw", "edit"):
        assert load_image(output.with_suffix(".png")).ndim == 3
    elif verb in ("speak", "reply"):
        assert load_audio(output.with_suffix(".wav"))[0].size
    elif verb == "write":
        segments = json.loads(output.with_suffix(".json").read_text("utf-8"))["segments"]
        assert sum(segment["type"] == "image" for segment in segments) == 1
    else:
        assert out.strip()


# A thousand codes of a picture of 512 pixels, ten seconds each.
SLOW = {("draw", "liquid-vq"), ("draw", "anole"), ("write", "anole")}


@pytest.mark.parametrize(
    ("verb", "model"),
    [
        pytest.param(verb, model, marks=[pytest.mark.slow] if (verb, model) in SLOW else [])
        for verb in VERBS
        for model in MODELS
    ],
)
def test_a_verb_does_its_work_or_the_model_says_why_not(case, verb, model, tmp_path, capsys):
    output = tmp_path / "answer"
    capsys.readouterr()
    more = MORE.get((verb, model), [])
    code = run([*arguments(case, verb, model, output), *more, *case.models[model]])
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
    assert run(["tasks", "--json", *case.models[model]]) == 0
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
    folder = case.models[model][:2]  # it has no options of codecs
    assert run(["info", "--json", *folder]) == 0
    description = json.loads(capsys.readouterr().out)
    assert description["vocabulary"]["size"] > 0
    assert run(["info", *folder]) == 0
