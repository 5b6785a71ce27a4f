"""The command line on bad input: exit code 2, one line that says why, nothing half-written."""

from __future__ import annotations

import json
import os
import struct
import zlib

import numpy as np
import pytest
import soundfile

from unified_base.images import save_png


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "the prompt is empty"),
        ("   ", "the prompt is empty"),
        ("The red panda", "the nearest of the 265 subjects it knows: giant panda"),
        ("The cat. Its rules", "under Rules; there is Appearance"),
    ],
)
def test_write_refuses_a_prompt(unified, refused, tmp_path, prompt, message):
    refused(unified("write", prompt, "-o", tmp_path / "x.html"), message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [("write", "The cat"), ("draw", "a cat"), ("speak", "A cat.")])
def test_an_output_is_checked_before_a_model_is_loaded(unified, refused, tmp_path, command):
    nothing = tmp_path / "no-model"
    (tmp_path / "file").write_text("")
    for path, message in [
        (tmp_path / "x.odt", "from '.odt'"),
        (tmp_path / "x", "no extension"),
        (tmp_path / f"none/x.{_extension(command[0])}", "create it first"),
        (tmp_path / f"file/x.{_extension(command[0])}", "cannot write"),
    ]:
        refused(unified(*command, "-o", path, on=nothing), message)


def _extension(command):
    return {"write": "html", "draw": "png", "speak": "wav"}[command]


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no folder that nobody can write to")
def test_a_folder_that_cannot_be_written_to(unified, refused):
    refused(unified("write", "The cat", "-o", "/proc/x.html"), "cannot write /proc/x.html")


def test_draw_and_speak_refuse_what_they_cannot_do(unified, refused, tmp_path):
    out = ("-o", tmp_path / "f.png")
    refused(unified("draw", "", *out), "the text is empty")
    refused(unified("draw", "a unicorn", *out), "does not know 'unicorn'")
    out = ("-o", tmp_path / "f.wav")
    refused(unified("speak", " ", *out), "the text is empty")
    refused(unified("speak", "A cat.", "--voice", "zoe", *out), "no voice 'zoe'")
    refused(unified("speak", "A cat. " * 200, *out), "budget")
    assert list(tmp_path.iterdir()) == []


def test_describe_refuses_broken_pictures(unified, refused, picture, tmp_path):
    refused(unified("describe", tmp_path / "none.png"), "No such file")
    (tmp_path / "text.png").write_text("not a picture")
    refused(unified("describe", tmp_path / "text.png"), "not a readable PNG")
    noise = np.random.default_rng(1).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    save_png(tmp_path / "noise.png", noise)
    data = (tmp_path / "noise.png").read_bytes()
    (tmp_path / "torn.png").write_bytes(data[: len(data) // 2])
    refused(unified("describe", tmp_path / "torn.png"), "cut off")
    # A whole header that promises 50,000x50,000 pixels: refused before anything is decoded.
    header = b"IHDR" + struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (tmp_path / "huge.png").write_bytes(data[:8] + chunk + data[33:])
    refused(unified("describe", tmp_path / "huge.png"), "64,000,000")
    refused(unified("describe", picture, "--ask", " "), "question is empty")


def test_listen_refuses_broken_sounds(unified, refused, tmp_path):
    def sound(name, samples, rate=16_000, subtype="FLOAT"):
        soundfile.write(tmp_path / name, samples, rate, subtype=subtype)
        return tmp_path / name

    refused(unified("listen", tmp_path / "none.wav"), "No such file")
    refused(unified("listen", sound("empty.wav", np.zeros(0))), "empty")
    refused(unified("listen", sound("nan.wav", np.array([0.0, np.nan, 0.1]))), "NaN")
    hours = sound("hours.wav", np.zeros(36_001 * 80, np.int16), 80, "PCM_U8")
    refused(unified("listen", hours), "36,001 s long")
    (tmp_path / "text.wav").write_text("not a sound")
    refused(unified("listen", tmp_path / "text.wav"), "cannot be read")


def test_sample_and_inspect_refuse_what_is_no_document(unified, refused, tmp_path):
    out = ("-o", tmp_path / "out.json")
    for text, message in [
        ("{", "neither JSON"),
        ('{"segments": [{"type": "film"}]}', "segment 0: type is 'film'"),
        ('{"segments": [{"type": "image", "file": "../x.png"}]}', "climbs"),
        ('{"segments": [{"type": "text", "text": "a"}]}', "no slots"),
        ("[1, 2]", "list of ids"),
    ]:
        (tmp_path / "in.json").write_text(text)
        refused(unified("sample", tmp_path / "in.json", *out), message)
    assert [p.name for p in tmp_path.iterdir()] == ["in.json"]


def test_a_corrupt_or_mismatched_model_is_refused(unified, refused, cli_model, tmp_path):
    from shutil import copytree

    torn = tmp_path / "torn"
    copytree(cli_model, torn)
    weights = torn / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    refused(unified("draw", "a cat", "-o", tmp_path / "f.png", on=torn), "model.safetensors")
    other = tmp_path / "other"
    copytree(cli_model, other)
    manifest = json.loads((other / "unified.json").read_text())
    theirs = manifest["vocabulary_hash"]
    config = json.loads((other / "config.json").read_text())
    config["unified_vocabulary"] = "0" * 64
    (other / "config.json").write_text(json.dumps(config))
    outcome = unified("draw", "a cat", "-o", tmp_path / "f.png", on=other)
    refused(outcome, "0" * 16)
    assert theirs[:16] in outcome[2]  # both are named
    refused(unified("info", on=tmp_path / "none"), "there is no model")
    assert not (tmp_path / "f.png").exists()


def test_an_interrupted_command_leaves_nothing(unified, tmp_path, monkeypatch):
    from unified.engine import events
    from unified.models.model import UnifiedModel

    def stream(self, documents, *request):
        yield events.TextPiece(0, "# The c")
        raise KeyboardInterrupt

    monkeypatch.setattr(UnifiedModel, "stream", stream)
    code, out, err = unified("write", "The cat", "-o", tmp_path / "x.html")
    assert (code, out) == (130, "")
    assert err.endswith("# The c\ninterrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_what_a_model_writes_cannot_command_the_terminal(unified, tmp_path, monkeypatch):
    from unified.engine import events
    from unified.models.model import UnifiedModel

    def stream(self, documents, *request):
        yield events.TextPiece(0, "\x1b]0;title\x07")
        raise ValueError("that is all")

    monkeypatch.setattr(UnifiedModel, "stream", stream)
    _, _, err = unified("write", "The cat", "-o", tmp_path / "x.html")
    assert "\x1b" not in err
    assert "\x07" not in err


def test_our_own_faults_are_one_line_and_exit_code_1(unified, tmp_path, monkeypatch):
    from unified.models.model import UnifiedModel

    def broken(name, **codecs):
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(UnifiedModel, "from_pretrained", broken)
    code, _, err = unified("draw", "a cat", "-o", tmp_path / "f.png")
    assert code == 1
    assert err == (
        "error: RuntimeError: two lines -- this is a fault of ours; --debug shows the traceback\n"
    )
    with pytest.raises(RuntimeError):
        unified("draw", "a cat", "-o", tmp_path / "f.png", "--debug")


def test_wrong_usage_exits_with_2(unified):
    for arguments in [
        ("draw",),
        ("paint", "x"),
        ("write", "The cat", "-o", "x.html", "--images", -1),
    ]:
        assert unified(*arguments, on=None)[0] == 2
