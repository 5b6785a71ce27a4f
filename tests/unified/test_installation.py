"""Libraries that do not fit together or are missing: one line that mends, and all else goes on."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path

import pytest

from unified.cli import installation

ROOT = Path(__file__).parents[2]
SYMBOL = "libtorchaudio.so: undefined symbol: torch_dtype_new"
BROKEN = f"raise OSError({SYMBOL!r})\n"
# As where it was never installed: nothing finds it.
ABSENT = """
import importlib.machinery, importlib.metadata
find, version = importlib.machinery.PathFinder.find_spec, importlib.metadata.version
def find_spec(name, path=None, target=None):
    return None if name.split(".")[0] == "torchaudio" else find(name, path, target)
def version_of(name):
    if name == "torchaudio":
        raise importlib.metadata.PackageNotFoundError(name)
    return version(name)
importlib.machinery.PathFinder.find_spec = find_spec
importlib.metadata.version = version_of
"""
# One process for all commands: (exit code, what stood on stderr) of each, as JSON.
COMMANDS = """
import contextlib, io, json, sys
from unified.__main__ import run
ends = []
for words in json.loads(sys.argv[1]):
    stderr = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(stderr):
        code = run(words)
    ends.append([code, stderr.getvalue()])
print(json.dumps(ends))
"""


@pytest.fixture
def folder(tmp_path):
    """A folder that stands before all others on the path of `_run`'s processes."""
    path = tmp_path / "first"
    path.mkdir()
    return path


def _run(folder, *commands):
    """(exit code, stderr) of every command line, in a process whose path begins with `folder`."""
    ours = [str(ROOT / name) for name in ("", "tokenizers", "data", "base")]
    path = os.pathsep.join([str(folder), *ours])
    words = json.dumps([[str(word) for word in command] for command in commands])
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, words], check=False, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("state", ["broken", "absent"])
def test_what_needs_no_torchaudio_goes_on_without(folder, cli_model, tmp_path, state):
    if state == "broken":
        (folder / "torchaudio.py").write_text(BROKEN)
    else:
        (folder / "sitecustomize.py").write_text(ABSENT)
    model = ("--model", cli_model)
    ends = _run(
        folder,
        ["--help"],
        ["grammar", "list"],
        ["subjects"],
        ["data", "check", ROOT / "data" / "sample"],
        ["draw", "a cat", "-o", tmp_path / "cat.png", *model],
        ["write", "The cat", "-o", tmp_path / "cat.html", *model],
        ["speak", "A cat.", "-o", tmp_path / "cat.wav", *model],
        ["describe", tmp_path / "cat.png", *model],
    )
    assert [code for code, _ in ends] == [0] * len(ends), ends
    assert not any("torchaudio" in stderr for _, stderr in ends)


@pytest.mark.slow
def test_what_needs_torchaudio_says_in_one_line_how_to_mend_it(folder, cli_model, tmp_path):
    (folder / "torchaudio.py").write_text(BROKEN)
    run = tmp_path / "run.yaml"
    run.write_text(
        f"modality: audio\noutput: {tmp_path / 'out'}\ntokenizer: {{preset: speech-16k}}\n"
        f"data: ['{ROOT}/data/sample/train-speak-*.tar']\nsteps: 1\nbatch_size: 1\n"
        f"validation: ['{ROOT}/data/sample/heldout-speak-*.tar']\noptimizer: {{lr: 0.001}}\n"
    )
    drawing = ("draw", "a cat", "-o", tmp_path / "cat.png", "--model", cli_model)
    ends = _run(folder, [*drawing, "--decoder", "diffusion"], ["tokenizer", "train", run])
    for code, stderr in ends:
        assert code == 2, stderr
        (line,) = [line for line in stderr.splitlines() if line.startswith("error:")]
        assert stderr.splitlines()[-1] == line
        assert f"torchaudio {metadata.version('torchaudio').split('+')[0]}" in line
        assert f"beside torch {metadata.version('torch').split('+')[0]}" in line
        assert SYMBOL in line
        _check_command(line, "torchaudio")


def _check_command(line, package):
    """The line ends with pip's command; it installs `package` as constraints.txt has it."""
    words = shlex.split(line[line.index(sys.executable) :])
    assert words[:4] == [sys.executable, "-m", "pip", "install"]
    assert package in words
    constraints = Path(words[words.index("-c") + 1])
    assert f"\n{package}==" in constraints.read_text("utf-8")


@pytest.fixture
def imported(tmp_path, monkeypatch):
    """imported(package, source, wants): what misfit says where importing that source fails."""

    def imported(package, source, wants=()):
        (tmp_path / package).mkdir(exist_ok=True)
        (tmp_path / package / "__init__.py").write_text(source, "utf-8")
        info = tmp_path / f"{package}-1.2.dist-info"
        info.mkdir(exist_ok=True)
        needs = "".join(f"Requires-Dist: {name}\n" for name in wants)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n{needs}", "utf-8"
        )
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(Exception) as raised:
            import_module(package)
        return installation.misfit(raised.value)

    return imported


def _pinned(monkeypatch, **versions):
    monkeypatch.setattr(installation, "_pins", lambda: versions)


def test_a_name_that_another_package_no_longer_has(imported, monkeypatch):
    _pinned(monkeypatch, somebodys="1.3", transformers="4.0")
    line = imported("somebodys", "from transformers import NoSuchCache\n", ["transformers"])
    version = metadata.version("transformers")
    assert line.startswith(f"somebodys 1.2 does not load beside transformers {version} (ImportErr")
    assert line.endswith("somebodys transformers")
    assert "--force-reinstall" not in line
    assert "\n" not in line


def test_a_package_that_refuses_a_version(imported, monkeypatch):
    _pinned(monkeypatch, numpy="1.0", somebodys="1.2")
    source = "def check():\n    raise ImportError('needs NumPy 1.0 or less')\ncheck()\n"
    line = imported("somebodys", source, ["numpy>=1", "einops; extra == 'more'"])
    assert f"does not load beside numpy {metadata.version('numpy')} (ImportError: needs" in line
    assert line.endswith("somebodys numpy")


def test_a_binary_for_another_version_and_what_is_wrapped_on_its_way(imported, monkeypatch):
    _pinned(monkeypatch)
    source = (
        "try:\n    raise ValueError('numpy.dtype size changed\\n\\x1b[31m may indicate')\n"
        "except ValueError as error:\n    raise RuntimeError('Failed to import') from error\n"
    )
    line = imported("somebodys", source)
    assert "somebodys 1.2 does not load (ValueError: numpy.dtype size changed \\x1b[31m" in line
    assert "--force-reinstall --no-deps" in line


def test_a_package_that_ours_needs_is_missing(monkeypatch):
    error = ModuleNotFoundError("No module named 'einops'", name="einops")
    installed = metadata.version

    def version(name):
        if name == "einops":
            raise metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(metadata, "version", version)
    line = installation.misfit(error)
    assert line.startswith("einops is not installed; install it: ")
    _check_command(line, "einops")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("sample 3 has no text"),
        FileNotFoundError(2, "No such file or directory", "cat.png"),
        ModuleNotFoundError("No module named 'flash_attn'", name="flash_attn"),
        ImportError("cannot import name 'x' from 'unified.cli.main'", name="unified.cli.main"),
    ],
)
def test_other_errors_are_left_alone(error):
    assert installation.misfit(error) is None


def test_an_extra_that_is_missing_keeps_its_own_words():
    def need_ray():
        try:
            raise ModuleNotFoundError("No module named 'ray'", name="ray")
        except ModuleNotFoundError:
            raise ValueError("ray is not installed: ...") from None

    with pytest.raises(ValueError, match="ray is not installed") as raised:
        need_ray()
    assert installation.misfit(raised.value) is None
