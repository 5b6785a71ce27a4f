"""The command `unified serve`: where it listens, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from unified.__main__ import run
from unified.serving.http_server import check_binding, listen


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.org"])
def test_it_listens_for_others_with_a_key_alone(host, capsys, monkeypatch):
    monkeypatch.delenv("UNIFIED_API_KEY", raising=False)
    assert run(["serve", "--host", host]) == 2
    assert "give --api-key or UNIFIED_API_KEY" in capsys.readouterr().err
    check_binding(host, "a key")


def test_an_empty_key_is_none(capsys):
    assert run(["serve", "--api-key", " "]) == 2
    assert "empty" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "localhost", "::1"])
def test_this_machine_needs_no_key(host):
    check_binding(host, None)


def test_a_port_that_is_taken_is_told_with_what_to_do():
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(ValueError, match=f"port {port}: .* choose another --port"):
            listen("127.0.0.1", port)


def _begin(grace):
    """A server's process and where it listens, which it says once it does."""
    return subprocess.Popen(
        [sys.executable, "-m", "unified", "serve", "--port", "0", "--grace", str(grace)],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip


def _url(process):
    line = process.stderr.readline()
    where = re.search(r"http://127\.0\.0\.1:\d+/v1", line)
    assert where, line + process.stderr.read()
    return where[0]


def _stream(url):
    body = {"model": "pocket", "stream": True, "seed": 1,
            "messages": [{"role": "user", "content": "The giant panda"}]}  # fmt: skip
    request = urllib.request.Request(
        f"{url}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    return urllib.request.urlopen(request, timeout=300)


def test_asked_to_end_it_lets_answers_end_or_says_why_not():
    """SIGTERM in the midst of a stream: with time left the stream becomes complete, without it is
    told why it does not; either way the process ends well."""
    processes = [_begin(60), _begin(0)]
    try:
        lines = []
        for process in processes:
            answer = _stream(_url(process))
            first = answer.readline()
            process.send_signal(signal.SIGTERM)
            lines.append([first, *answer.read().splitlines()])
        patient, hurried = [[line for line in each if line.strip()] for each in lines]
        assert patient[-1] == b"data: [DONE]"
        last = json.loads(hurried[-1].removeprefix(b"data: "))
        assert last["error"]["code"] == "shutting_down"
        assert "within the 0 seconds" in last["error"]["message"]
        assert [process.wait(60) for process in processes] == [0, 0]
        assert next(process.stderr.read().strip() for process in processes) == ""
    finally:
        for process in processes:
            process.kill()
            process.stderr.close()
            process.wait()
