"""The command line on an untrained model: every command from its arguments to its files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import soundfile

from unified_base.images import load_image, save_png
from unified_base.sounds import load_audio
from unified_data.document import Document, Image, Slot, Text
from unified_data.pocket.subjects import load_subjects

# What the commands do.


def test_write_makes_a_page_and_shows_the_text_as_it_comes(unified, tmp_path):
    page = tmp_path / "panda.html"
    code, out, err = unified("write", "The giant panda, two pictures", "-o", page)
    assert (code, out) == (0, f"{page}\n")
    text = page.read_text()
    assert text.count("<img ") == 2
    assert text.count("<audio ") == 1
    assert "[picture 2 of 2: 96x96]" in err
    assert "[sound 1: " in err
    assert "asked for were Appearance, Home" in err  # an untrained model does as it likes
    assert [p.name for p in tmp_path.iterdir()] == ["panda.html"]


def test_write_is_the_same_for_a_seed_and_prints_json(unified, tmp_path):
    outputs = []
    for seed in (3, 3, 4):
        code, out, _ = unified(
            "write", "The cat", "-o", tmp_path / "c.html", "--images", 1, "--no-audio",
            "--seed", seed, "--json",
        )  # fmt: skip
        values = json.loads(out)
        assert code == 0
        assert values["path"] == str(tmp_path / "c.html")
        assert (values["pictures"], values["narrations"], values["seed"]) == (1, 0, seed)
        assert values["seconds"] > 0
        outputs.append((tmp_path / "c.html").read_bytes())
    assert outputs[0] == outputs[1]
    assert outputs[0] != outputs[2]


@pytest.mark.parametrize("extension", ["md", "json"])
def test_write_in_other_formats(unified, tmp_path, extension):
    code, _, _ = unified("write", "The cat, one picture", "-o", tmp_path / f"c.{extension}")
    assert code == 0
    if extension == "json":
        obj = json.loads((tmp_path / "c.json").read_text())
        prompt, *rest = Document.from_json(obj, tmp_path).segments
        assert prompt.text.startswith("Write: The cat. Sections: ")
        assert sum(isinstance(segment, Image) for segment in rest) == 1
    else:
        assert (tmp_path / "c-media/picture-1.png").exists()


def test_python_has_the_same_names(cli_model):
    from unified.models.model import UnifiedModel

    loaded = UnifiedModel.from_pretrained(cli_model)
    with pytest.warns(UserWarning, match="asked for were"):
        document = loaded.write("The cat", images=1, audio=False)
    assert sum(isinstance(segment, Image) for segment in document) == 1
    with pytest.raises(ValueError, match="does not know"):
        loaded.write("The unicorn")


def test_draw_one_and_several(unified, tmp_path):
    code, out, _ = unified("draw", "a cat", "-o", tmp_path / "f.png")
    assert (code, out) == (0, f"{tmp_path / 'f.png'}\n")
    code, out, err = unified("draw", "a cat", "-o", tmp_path / "g.png", "-n", 3, "--json")
    values = json.loads(out)
    assert code == 0
    assert [os.path.basename(p) for p in values["paths"]] == ["g-1.png", "g-2.png", "g-3.png"]
    assert values["seeds"] == [0, 1, 2]
    assert "g-1.png to" in err
    assert "distinct" not in err  # an untrained model repeats nothing
    pictures = [load_image(path) for path in values["paths"]]
    assert pictures[0].shape == (96, 96, 3)
    assert np.array_equal(pictures[0], load_image(tmp_path / "f.png"))  # seed 0 whatever shares


def test_draw_says_so_where_several_pictures_are_the_same(unified, tmp_path):
    # The shipped model has one way to draw a cat, whatever the seed.
    code, out, err = unified("draw", "a cat", "-o", tmp_path / "f.png", "-n", 2, on=None)
    pictures = [load_image(path) for path in out.split()]
    assert (code, len(pictures)) == (0, 2)
    assert np.array_equal(*pictures)
    assert "note: distinct pictures among them: 1; other words give" in err


def test_draw_takes_the_nearest_caption_and_says_so(unified, tmp_path):
    code, out, err = unified(
        "draw", "a fluffy cat sitting on two houses, pink background", "-o", tmp_path / "f.png",
        "--json",
    )  # fmt: skip
    assert code == 0
    assert json.loads(out)["caption"] == "a cat above a house on a pink ground"
    assert "left out: two of one kind beside another thing, fluffy, sitting" in err


def test_describe_and_ask(unified, picture):
    code, out, _ = unified("describe", picture)
    assert code == 0
    assert out.endswith("\n")
    code, out, _ = unified("describe", picture, "--ask", "What is this?", "--json")
    assert code == 0
    assert json.loads(out)["question"] == "What is this?"


def test_describe_fits_other_sizes_and_says_so(unified, tmp_path):
    save_png(tmp_path / "wide.png", np.zeros((50, 200, 3), np.uint8))
    code, _, err = unified("describe", tmp_path / "wide.png")
    assert code == 0
    assert "200x50 was fitted into 96x96 pixels with white margins" in err


def test_speak_and_listen(unified, tmp_path):
    wav = tmp_path / "s.wav"
    code, out, _ = unified("speak", "It is a cat.", "-o", wav, "--voice", "amy")
    assert (code, out) == (0, f"{wav}\n")
    waveform, rate = load_audio(wav)
    assert (waveform.shape[0], rate) == (1, 16_000)
    code, out, err = unified("listen", wav)
    assert code == 0
    assert "resampled" not in err


def test_listen_converts_stereo_and_other_rates_and_says_so(unified, tmp_path):
    noise = np.random.default_rng(0).uniform(-1, 1, (4410, 2))
    soundfile.write(tmp_path / "s.wav", noise, 44_100)
    code, _, err = unified("listen", tmp_path / "s.wav")
    assert code == 0
    assert "2 channels were mixed down to one" in err
    assert "resampled from 44,100 to 16,000 Hz" in err


def test_sample_fills_slots(unified, tmp_path):
    request = Document((Text("![a cat]", role="prompt"), Slot("image", 96, 96, role="response")))
    (tmp_path / "in.json").write_text(json.dumps(request.to_json(tmp_path, "in")))
    code, out, _ = unified("sample", tmp_path / "in.json", "-o", tmp_path / "out.json", "-n", 2)
    assert code == 0
    assert out.split() == [str(tmp_path / f"out-{i}.json") for i in (1, 2)]
    for path in out.split():
        with open(path) as file:
            filled = Document.from_json(json.load(file), tmp_path)
        assert filled.segments[0].text == "![a cat]"
        assert isinstance(filled.segments[1], Image)


def test_subjects_and_info(unified):
    code, out, _ = unified("subjects")
    assert code == 0
    assert len(out.splitlines()) == len(load_subjects())
    assert any(line.split() == ["giant", "panda", "mammal", "🐼"] for line in out.splitlines())
    code, out, _ = unified("subjects", "--json")
    entry = next(e for e in json.loads(out) if e["name"] == "giant panda")
    assert entry["sections"][0] == "Appearance"
    code, out, _ = unified("info", "--json")
    info = json.loads(out)
    assert code == 0
    blocks = info["vocabulary"]["blocks"]
    assert [b["name"] for b in blocks] == [
        "text", "markers", "size", "image.0", "audio.0", "audio.1",
    ]  # fmt: skip
    assert all(a["stop"] == b["start"] for a, b in pairwise(blocks))
    assert info["weights"]["decoder"]["parameters"] > 0
    code, out, _ = unified("info")
    assert code == 0
    assert info["vocabulary"]["hash"] in "".join(out.split())


def test_a_model_without_a_list_of_subjects_gets_the_prompt_as_it_is(
    unified, refused, cli_model, tmp_path
):
    plain = tmp_path / "plain"
    plain.symlink_to(cli_model)  # the same files ...
    other = tmp_path / "other"
    other.mkdir()
    for path in cli_model.iterdir():  # ... without subjects.json
        if path.name != "subjects.json":
            (other / path.name).symlink_to(path)
    code, _, _ = unified("write", "Anything", "-o", tmp_path / "a.json", "--images", 1, on=other)
    obj = json.loads((tmp_path / "a.json").read_text())
    assert code == 0
    assert obj["segments"][0]["text"] == "Anything"
    refused(unified("subjects", on=other), "no subjects.json")


def test_inspect_shows_documents_and_points_at_offences(unified, cli_model, tmp_path):
    code, _, _ = unified("write", "The cat, one picture", "-o", tmp_path / "c.json")
    code, out, _ = unified("inspect", tmp_path / "c.json", "--json")
    report = json.loads(out)
    assert code == 0
    assert report["valid"]
    spans = [span["kind"] for span in report["spans"]]
    assert (spans.count("image"), spans.count("audio")) == (1, 1)
    ids = [id for span in report["spans"] for id in span["ids"]]
    (tmp_path / "ids.json").write_text(json.dumps(ids[:-1]))
    code, out, err = unified("inspect", tmp_path / "ids.json")
    assert code == 2
    assert f"{len(ids) - 1} ids in" in out
    assert f"position {len(ids) - 1}: " in err


def test_data_build_makes_shards(unified, refused, tmp_path):
    world = tmp_path / "world"
    code, out, err = unified(
        "data", "build", "pocket", "-o", world, "--only", "describe", "--scale", "0.0005",
        "--workers", 1, on=None,
    )  # fmt: skip
    assert (code, out) == (0, f"{world}\n")
    assert "documents in 2 shards" in err
    assert json.loads((world / "index.json").read_text())["world"] == "pocket"
    refused(unified("data", "build", "pocket", "-o", world, "--only", "film", on=None), "'film'")
    command = ("data", "build", "world", "-o", tmp_path / "w", "--scale", "0.0003", "--workers", 1)
    assert "in 6 shards" in unified(*command, "--only", "draw,ask", on=None)[2]
    refused(unified(*command, "--only", "draw,film", on=None), "'film'")


def test_a_tokenizer_is_evaluated_and_shown(unified, refused, cli_model, tmp_path):
    data = tmp_path / "pictures"
    data.mkdir()
    rng = np.random.default_rng(0)
    for number, (height, width) in enumerate([(70, 90), (33, 60), (96, 96)]):
        pixels = np.kron(rng.integers(0, 256, (height // 3, width // 3, 3)), np.ones((3, 3, 1)))
        save_png(data / f"{number}.png", pixels.astype(np.uint8))
    command = ("tokenizer", "evaluate", cli_model, data, "--against", "webp", "--limit", 2)
    code, out, err = unified(*command, "--plot", tmp_path / "plot.png", "--json", on=None)
    assert code == 0, err
    report = json.loads(out)
    assert report["pictures"] == 2
    assert len(report["against"]["webp"]) == 8
    assert load_image(tmp_path / "plot.png").shape[2] == 3
    code, out, _ = unified("tokenizer", "evaluate", cli_model / "image_tokenizer", data, on=None)
    assert code == 0
    assert "entropy-coded" in out
    refused(
        unified("tokenizer", "evaluate", cli_model, data, "--against", "opus", on=None),
        "no codec 'opus' for image",
    )

    pair = tmp_path / "pair.png"
    code, out, err = unified(
        "tokenizer", "reconstruct", data / "0.png", "-o", pair, "--tokenizer", cli_model, on=None
    )
    assert (code, out) == (0, f"{pair}\n")
    assert np.array_equal(load_image(pair)[:69, :90], load_image(data / "0.png"))
    assert load_image(pair).shape == (69, 181, 3)
    assert "bits a pixel" in err


def test_a_sound_is_reconstructed_and_evaluated(unified, cli_model, tmp_path):
    wave = 0.3 * np.sin(np.arange(24_000) / 9) * np.sin(np.arange(24_000) / 4000)
    soundfile.write(tmp_path / "s.wav", np.stack([wave, wave], 1), 24_000)
    command = ("tokenizer", "reconstruct", tmp_path / "s.wav", "-o", tmp_path / "t.wav")
    code, out, err = unified(*command, "--tokenizer", cli_model, "--json", on=None)
    assert code == 0, err
    assert json.loads(out)["codes"] == 2 * 25
    assert "resampled from 24,000" in err
    restored, rate = load_audio(tmp_path / "t.wav")
    assert (restored.shape, rate) == ((1, 16_000), 16_000)
    soundfile.write(tmp_path / "u.wav", wave, 16_000)
    command = ("tokenizer", "evaluate", cli_model, tmp_path / "u.wav", "--audio", "--json")
    code, out, err = unified(*command, on=None)
    assert code == 0, err
    assert json.loads(out)["seconds"] == 1.5


def test_training_needs_its_configuration(unified, refused, tmp_path):
    for command in (("train",), ("tokenizer", "train")):
        refused(unified(*command, tmp_path / "none.yaml", on=None), "there is no configuration")


# The program itself.

COMMANDS = [
    (), ("write",), ("draw",), ("edit",), ("describe",), ("speak",), ("listen",), ("reply",),
    ("sample",),
    ("inspect",), ("subjects",), ("info",), ("train",), ("tokenizer", "train"),
    ("tokenizer", "evaluate"), ("tokenizer", "reconstruct"), ("data", "build", "pocket"),
    ("data", "build", "world"),
]  # fmt: skip


def test_help_of_every_command_is_instant():
    """Nothing heavy is imported, and few modules in all: they are what the time goes to."""
    calls = "\n".join(f"assert run([*{list(c)!r}, '--help']) == 0" for c in COMMANDS)
    program = (
        f"import sys\nfrom unified.__main__ import run\n{calls}\n"
        "heavy = {'torch', 'transformers', 'numpy', 'PIL', 'yaml', 'tokenizers', 'rich'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "assert len(sys.modules) < 500, len(sys.modules)\n"
        "assert len([m for m in sys.modules if m.startswith('unified')]) < 80\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
    result = subprocess.run(
        [sys.executable, "-m", "unified", "write", "--help"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "--images" in result.stdout


def test_ctrl_c_ends_the_program_with_130_and_no_file(cli_model, tmp_path):
    """Interrupted when the first of many pictures is there."""
    folder = tmp_path / "out"
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "unified", "draw", "a cat", "-n", "500", "--model", str(cli_model),
         "-o", str(folder / "x.png")],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    assert process.stderr.readline().startswith("[picture 1 of 500")  # it has begun
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.endswith("interrupted\n")
    assert list(folder.iterdir()) == []


def test_tasks_tells_what_a_model_can_be_asked(unified, cli_model):
    code, out, _ = unified("tasks", "--json")
    description = json.loads(out)
    assert code == 0
    verbs = ["write", "draw", "edit", "describe", "ask", "ground", "speak", "listen", "reply"]
    assert list(description["tasks"]) == verbs
    speak = description["tasks"]["speak"]
    assert speak["voices"] == ["amy", "ben", "cole"]
    assert speak["sampling"]["audio"]["temperature"] == 0.7
    assert description["tasks"]["draw"]["sizes"] == "96x96 alone"
    code, out, _ = unified("tasks")
    assert code == 0
    assert "draw      ![{text}] -> image\n" in out
    assert "voices:   amy, ben, cole\n" in out
    assert "sizes:    any, made to fit 96x96 alone\n" in out  # of describe


def test_ask_is_describe_with_a_question(unified, picture):
    answers = [
        unified("ask", picture, "What is this?")[:2],
        unified("describe", picture, "--ask", "What is this?")[:2],
    ]
    assert answers[0] == answers[1]
    assert answers[0][0] == 0


def test_a_prompt_may_come_from_stdin(unified, tmp_path, monkeypatch):
    import io

    for command, name in (("write", "a.json"), ("draw", "a.png"), ("speak", "a.wav")):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a cat\n")))
        code, out, err = unified(command, "-", "-o", tmp_path / name, "--json")
        assert code == 0, err
        if command == "draw":
            assert json.loads(out)["caption"] == "a cat"


def test_settings_of_the_command_line_are_those_of_python(unified, cli_model, tmp_path):
    from unified import UnifiedModel

    model = UnifiedModel.from_pretrained(cli_model)
    options = ["--temperature", 1.5, "--top-k", 3, "--set", "image.top_p=0.9", "--guidance", 2,
               "--negative", "a dog"]  # fmt: skip
    assert unified("draw", "a cat", "-o", tmp_path / "a.png", *options)[0] == 0
    pixels = model.draw("a cat", temperature=1.5, top_k=3, settings={"image.top_p": 0.9},
                        guidance=2, negative="a dog")[0]  # fmt: skip
    assert np.array_equal(load_image(tmp_path / "a.png"), pixels)
    assert not np.array_equal(model.draw("a cat")[0], pixels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "97x50"], "pictures of 97x50 cannot be had here, expected 96x96 alone"),
        (["--size", "big"], "size is 'big', expected WIDTHxHEIGHT"),
        (["--negative", "a dog"], "there is no guidance: give guidance above 1"),
        (["--temperature", "-1"], "image: temperature is -1.0"),
        (["--top-p", "2"], "top_p is 2.0"),
        (["--set", "image.topk=3"], "did you mean image.top_k?"),
        (["--set", "image.top_k"], "expected KIND.KEY=VALUE"),
        (["--set", "max_ids=1", "--set", "max_ids=2"], "stands twice"),
        (["--image-tokenizer", "/nowhere"], "/nowhere"),
    ],
)
def test_what_cannot_be_chosen_is_refused_in_one_line(unified, refused, tmp_path, options, message):
    refused(unified("draw", "a cat", "-o", tmp_path / "a.png", *options), message)
    assert not list(tmp_path.iterdir())
