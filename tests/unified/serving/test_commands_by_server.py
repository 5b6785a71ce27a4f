"""Commands that a running server answers: the same bytes as alone, and when it is not asked."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from running_server import running_server

from unified.__main__ import run
from unified.cli.options import Opening
from unified.engine.events import ImageRow
from unified.serving.article_library import ArticleLibrary
from unified.serving.model_identity import identity_of

HEAVY = {"torch", "transformers", "numba", "asyncio", "fastapi", "unified.models.model"}


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    """The runtime folder of this file's commands and servers."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("run")
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        patch.delenv("UNIFIED_SERVER", raising=False)
        patch.delenv("UNIFIED_API_KEY", raising=False)
        yield folder


@pytest.fixture(scope="module")
def server(pocket, runtime, tmp_path_factory):
    """A server with a key, which the commands do not know."""
    with (
        ArticleLibrary(tmp_path_factory.mktemp("articles")) as library,
        running_server(
            pocket, library=library, api_key="secret", identity=identity_of(Opening())
        ) as running,
    ):
        yield running


@pytest.fixture
def not_here(monkeypatch):
    """A function: from now on this process must not open a model by itself."""

    def forbid():
        def load(*arguments):
            raise AssertionError("the command opened the model itself")

        monkeypatch.setattr(Opening, "load", load)

    return forbid


@pytest.fixture(scope="module")
def media(tmp_path_factory, runtime):
    folder = tmp_path_factory.mktemp("media")
    assert run(["--quiet", "draw", "a cat", "-o", str(folder / "cat.png"), "--no-server"]) == 0
    assert run(["--quiet", "speak", "a cat", "-o", str(folder / "cat.wav"), "--no-server"]) == 0
    return folder


@pytest.mark.parametrize(
    "command",
    [
        ["write", "The giant panda. One picture", "-o", "out.html", "--seed", "3"],
        ["write", "The fox", "--images", "1", "--no-audio", "-o", "out.json", "--json"],
        ["draw", "two cats", "-n", "2", "-o", "out.png", "--guidance", "2", "--set",
         "image.top_k=9", "--json"],
        ["speak", "a cat", "-o", "out.wav", "--json"],
        ["describe", "MEDIA/cat.png"],
        ["ask", "MEDIA/cat.png", "What is this?", "--thought", "--json"],
        ["listen", "MEDIA/cat.wav", "--json"],
        pytest.param(
            ["draw", "a cat", "-o", "out.png", "--decoder", "diffusion-2x"],
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda command: command[0],
)  # fmt: skip
def test_a_server_gives_the_bytes_that_the_command_itself_writes(
    command, server, media, tmp_path, monkeypatch, capfd, not_here
):
    """Files, stdout and stderr."""
    command = [word.replace("MEDIA", str(media)) for word in command]
    told = {}
    for way in ("alone", "server"):
        folder = tmp_path / way
        folder.mkdir()
        monkeypatch.chdir(folder)
        if way == "server":
            not_here()
        assert run([*command, *(["--no-server"] if way == "alone" else [])]) == 0
        out, err = capfd.readouterr()
        if "--decoder" in command:  # torch and others talk while they are loaded
            err = ""
        if out.startswith("{"):
            values = json.loads(out)
            assert values.pop("seconds", 0) >= 0
            out = json.dumps(values) if command[0] == "write" else out
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
        told[way] = (out, err, files)
    assert told["server"] == told["alone"]
    if command[0] in ("write", "draw", "speak"):
        assert told["alone"][2]


def test_who_looks_on_sees_the_rows_so_far(server, tmp_path, monkeypatch, not_here):
    seen = []

    def show(self, event):
        if isinstance(event, ImageRow):
            seen.append((event.y, event.picture().shape))

    monkeypatch.setattr("unified.cli.asking_server.stderr_is_terminal", lambda: True)
    monkeypatch.setattr("unified.cli.terminal.Progress.show", show)
    not_here()
    assert run(["draw", "two cats", "-o", str(tmp_path / "cats.png")]) == 0
    rows = [y for y, _ in seen]
    stride = 96 // len(rows)
    assert rows == list(range(len(rows)))
    # Of some rows the picture is that of a row before: decoding must not slow the sampling down.
    assert all(shape[0] <= (y + 1) * stride and shape[1:] == (96, 3) for y, shape in seen)
    assert seen[0][1][0] == stride


def test_a_command_that_a_server_answers_loads_no_model(server, tmp_path):
    program = (
        "import json, sys\n"
        "from unified.__main__ import run\n"
        "assert run(['--quiet', 'write', 'The cat', '--images', '1', '-o', 'cat.html']) == 0\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    modules = set(json.loads(done.stdout.splitlines()[-1]))
    assert "unified.cli.server_connection" in modules
    assert not HEAVY & modules
    assert (tmp_path / "cat.html").stat().st_size > 10_000


@pytest.mark.parametrize("off", [["--no-server"], []], ids=["option", "environment"])
def test_a_server_is_not_asked_where_it_is_switched_off(
    off, server, tmp_path, monkeypatch, not_here
):
    if not off:
        monkeypatch.setenv("UNIFIED_SERVER", "")
    not_here()
    with pytest.raises(AssertionError, match="opened the model itself"):
        run(["--debug", "draw", "a cat", "-o", str(tmp_path / "cat.png"), *off])


def _other(folder: Path) -> Path:
    """Another model, as far as is looked at before it is opened."""
    folder.mkdir()
    (folder / "unified.json").write_text("{}", "utf-8")
    return folder


@pytest.mark.parametrize(
    "options", [["--model", "OTHER"], ["--dtype", "int8"], ["--device", "cuda"]], ids=str
)
def test_a_server_with_another_model_is_passed_by(options, server, tmp_path, not_here):
    other = _other(tmp_path / "other")
    options = [word.replace("OTHER", str(other)) for word in options]
    not_here()
    with pytest.raises(AssertionError, match="opened the model itself"):
        run(["--debug", "draw", "a cat", "-o", str(tmp_path / "cat.png"), *options])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "OTHER"], "its model is pocket, not"),
        (["--dtype", "int8"], "its dtype is auto, not int8"),
        (["--check"], "--check is not for servers"),
    ],
)
def test_a_named_server_with_another_model_is_an_error(
    options, words, server, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("UNIFIED_SERVER", server.url)
    monkeypatch.setenv("UNIFIED_API_KEY", "secret")
    other = _other(tmp_path / "other")
    options = [word.replace("OTHER", str(other)) for word in options]
    assert run(["write", "The cat", "-o", str(tmp_path / "cat.html"), *options]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert "--no-server" in told
    assert len(told.splitlines()) == 1
    assert not (tmp_path / "cat.html").exists()


def test_a_named_server_answers_who_has_its_key(server, tmp_path, monkeypatch, capsys, not_here):
    not_here()
    command = ["draw", "a cat", "-o", str(tmp_path / "cat.png")]
    monkeypatch.setenv("UNIFIED_SERVER", server.url.removesuffix("/v1"))
    assert run(command) == 2
    assert "needs its key" in capsys.readouterr().err
    monkeypatch.setenv("UNIFIED_API_KEY", "secret")
    assert run(command) == 0
    assert run(["draw", "a zorblax", "-o", str(tmp_path / "zorblax.png")]) == 2
    error = capsys.readouterr().err
    assert "zorblax" in error
    assert "server" not in error  # it is what the command itself says


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://localhost", "http://", "http://a:b"])
def test_a_server_has_an_address_of_http(url, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("UNIFIED_SERVER", url)
    assert run(["draw", "a cat", "-o", str(tmp_path / "cat.png")]) == 2
    assert "expected an address such as http://127.0.0.1:8000" in capsys.readouterr().err


def _waiting(server) -> int:
    return len(server.service._live)


def test_interrupted_it_frees_its_rows_of_the_server(server, tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-m", "unified", "draw", "a cat", "-n", "16", "-o", "cat.png"],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        while child.poll() is None and not _waiting(server):
            time.sleep(0.005)
        child.send_signal(signal.SIGINT)
        assert child.stderr is not None
        assert child.stderr.read().splitlines()[-1] == "interrupted"
        assert child.wait(60) == 130
    finally:
        child.kill()
        child.wait()
    until = time.monotonic() + 60
    while _waiting(server) and time.monotonic() < until:
        time.sleep(0.01)
    assert not _waiting(server)
    assert not list(tmp_path.iterdir())


def _listening(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    path.chmod(0o600)
    return listening


def test_sockets_of_dead_servers_and_of_others_are_left_out(tmp_path, monkeypatch):
    from unified.serving.private_socket import connect, private_socket, running_sockets

    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    notes: list[str] = []
    with private_socket(notes.append):
        folder = tmp_path / "unified"
        assert folder.stat().st_mode & 0o777 == 0o700
        (ours,) = running_sockets()
        assert ours.stat().st_mode & 0o777 == 0o600
        dead, open_to_all, linked = folder / "1.sock", folder / "2.sock", folder / "3.sock"
        _listening(dead).close()
        _listening(open_to_all).close()
        open_to_all.chmod(0o666)
        linked.symlink_to(ours)
        assert set(running_sockets()) == {ours, dead}
        assert connect(dead, 1.0) is None
        assert not dead.exists()
        connection = connect(ours, 1.0)
        assert connection is not None
        connection.close()
        folder.chmod(0o755)
        assert running_sockets() == []
        with private_socket(notes.append) as refused:
            assert refused is None
        assert "not this user's alone" in notes[0]
        folder.chmod(0o700)
    assert not ours.exists()


def test_a_server_that_breaks_off_is_made_up_for(pocket, runtime, tmp_path, monkeypatch, capsys):
    """It says that it lives, begins to answer, and dies."""
    folder = tmp_path / "unified"
    folder.mkdir(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    listening = _listening(folder / "1.sock")
    listening.listen()

    def answer():
        connection, _ = listening.accept()
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ndat")
        connection.close()

    thread = threading.Thread(target=answer)
    thread.start()
    assert run(["draw", "a cat", "-o", str(tmp_path / "cat.png")]) == 0
    thread.join()
    listening.close()
    assert "did not answer, so this process does" in capsys.readouterr().err
    assert (tmp_path / "cat.png").exists()


def test_a_folder_that_was_written_to_is_another_model(tmp_path):
    folder = _other(tmp_path / "mine")
    before = identity_of(Opening(str(folder)))
    assert before.difference(identity_of(Opening(os.path.relpath(folder)))) is None
    (folder / "unified.json").write_text("{ }", "utf-8")
    after = identity_of(Opening(str(folder)))
    assert "were written after" in str(before.difference(after))
    assert "its model is" in str(before.difference(identity_of(Opening(str(tmp_path)))))
