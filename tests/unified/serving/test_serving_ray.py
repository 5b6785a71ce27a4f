"""`unified serve --ray`: what is refused without a cluster, and two replicas on this machine."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from unified.__main__ import run
from unified.cli.main import parser
from unified.serving.ray_serving import Replicas, read_autoscale
from unified.serving.server_metrics import ServerMetrics
from unified_base.images import encode_png

ROOT = Path(__file__).parents[3]
KEY = "sixteen letters!"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--replicas", "2"], "--replicas and --autoscale are of --ray"),
        (["--autoscale", "1:2"], "--replicas and --autoscale are of --ray"),
        (["--ray", "--library", "x"], "--library is a folder that one process holds"),
        (["--ray", "--replicas", "2", "--autoscale", "1:2"], "give one of them"),
        (["--ray", "--autoscale", "2"], "--autoscale is '2', expected MIN:MAX, such as 1:4"),
        (["--ray", "--autoscale", "3:2"], "replicas from 3 to 2, expected 1 <= MIN <= MAX"),
        (["--ray", "--autoscale", "0:2"], "replicas from 0 to 2, expected 1 <= MIN <= MAX"),
        (["--ray", "--host", "0.0.0.0"], "give --api-key or UNIFIED_API_KEY"),
        (["--ray", "--api-key", " "], "the API key is empty"),
    ],
)
def test_what_does_not_go_together_is_refused_at_once(options, words, capsys, monkeypatch):
    monkeypatch.delenv("UNIFIED_API_KEY", raising=False)
    assert run(["serve", *options]) == 2
    assert words in capsys.readouterr().err


def test_ray_that_is_not_there_is_asked_for_in_one_line(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run(["serve", "--ray", "--port", "0"]) == 2
    assert "serving under Ray needs ray, which is not installed" in capsys.readouterr().err


def test_replicas_say_how_many_they_are():
    assert [str(Replicas()), str(Replicas(2, 2)), str(read_autoscale("1:4"))] == [
        "1 replica", "2 replicas", "1 to 4 replicas",
    ]  # fmt: skip


def test_metrics_of_a_replica_have_its_name_in_every_sample(server):
    metrics = ServerMetrics("r1")
    metrics.answered("/v1/models", 200)
    metrics.first("text", 0.3)
    counters = server.service.model.engine.counters
    text = metrics.text(server.service.queue, counters)
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(re.match(r'\w+\{replica="r1"[,}]', line) for line in samples)
    assert 'unified_requests_total{replica="r1",path="/v1/models",status="200"} 1' in samples
    assert 'unified_passes_total{replica="r1"} ' in text
    assert "replica=" not in ServerMetrics().text(server.service.queue, counters)


def test_the_commands_of_the_compose_file_are_ones_that_there_are():
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text("utf-8"))["services"]
    lines = []
    for service in services.values():
        words = service.get("command", [])
        if "entrypoint" in service:
            line = words[0].rpartition("&& ")[2]
            words = shlex.split(line.removeprefix("exec env RAY_ADDRESS=auto "))
        elif words:
            words = ["unified", *words]
        if words[:1] == ["unified"]:
            lines.append(words[1:])
    assert [words[0] for words in lines] == ["serve", "serve", "generate"]
    for words in lines:
        command = parser().commands[words[0]]
        command.make_context(words[0], list(words[1:]), resilient_parsing=False)


# Two replicas.


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """A function: a server with two replicas and where it is, once it answers."""
    pytest.importorskip("ray", reason="ray, an extra, is not installed")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    processes = []

    def call(*options):
        log = (tmp_path / f"log{len(processes)}").open("w+")
        with socket.create_server(("127.0.0.1", 0)) as trial:
            port = trial.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-m", "unified", "serve", "--ray", "--port", str(port), *options],
            stderr=log, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        processes.append((process, log))
        while "/v1, " not in (text := Path(log.name).read_text()):
            assert process.poll() is None, text
            time.sleep(0.2)
        return process, f"http://127.0.0.1:{port}", Path(log.name)

    yield call
    for process, log in processes:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(120)
        finally:
            process.kill()
            log.close()


def _ask(url, body=None, **headers):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}", **headers}
    return urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=300)


def _chat(url, **fields):
    messages = [{"role": "user", "content": "The giant panda. Three pictures"}]
    body = {"model": "pocket", "messages": messages, "stream": True, "seed": 1, **fields}
    return _ask(f"{url}/v1/chat/completions", body)


def _metrics(url):
    """The metrics of both replicas, by name."""
    texts = {}
    while len(texts) < 2:
        text = _ask(f"{url}/metrics").read().decode()
        texts[re.search(r'replica="(\w+)"', text)[1]] = text
    return texts


def _running(url):
    """Rows that both replicas sample now."""
    rows = re.compile(r"unified_rows_running\{.*\} (\d+)")
    return sum(int(rows.search(text)[1]) for text in _metrics(url).values())


@pytest.mark.slow
def test_two_replicas_answer_as_the_server_alone_does(begin, pocket):
    openai = pytest.importorskip("openai")
    process, url, log = begin("--replicas", "2", "--api-key", KEY, "--grace", "60")
    assert "2 replicas" in log.read_text()

    # Keys, hosts, and what is not there.
    for path, headers, status in (
        ("/v1/models", {"Authorization": "Bearer other"}, 401),
        ("/v1/models", {"Origin": "http://evil.example"}, 403),
        ("/v1/articles", {}, 404),
        ("/v1/articles/abc/segments/1", {}, 404),
        ("/v1/nothing", {}, 404),
    ):
        with pytest.raises(urllib.error.HTTPError) as refusal:
            _ask(url + path, **headers)
        assert refusal.value.code == status
        error = json.loads(refusal.value.read())["error"]
        assert ("replicas that share nothing" in error["message"]) == ("articles" in path)
    assert json.loads(urllib.request.urlopen(f"{url}/healthz").read())["status"] == "ok"

    # What a request gets, from whichever replica.
    expected = [encode_png(pixels) for pixels in pocket.draw("a cat", n=4, seed=3)]
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
        for number, png in enumerate(expected):
            answer = client.images.generate(prompt="a cat", extra_body={"seed": 3 + number})
            assert base64.b64decode(answer.data[0].b64_json) == png
    assert len(_metrics(url)) == 2

    # A stream comes as it is written: the first line long before the last id.
    with _chat(url) as answer:
        first = answer.readline()
        assert first.startswith(b"data: ")
        assert _running(url) == 1
        assert answer.read().strip().endswith(b"[DONE]")

    # Whoever leaves frees the row.
    with _chat(url, modalities=["text", "image"]) as answer:
        answer.readline()
    while _running(url):
        time.sleep(0.05)
    cancelled = 0
    for text in _metrics(url).values():
        cancelled += int(re.search(r'documents_total\{.*end="cancelled"\} (\d+)', text)[1])
    assert cancelled == 1

    # Asked to end it lets the stream end.
    with _chat(url) as answer:
        answer.readline()
        process.send_signal(signal.SIGTERM)
        assert answer.read().strip().endswith(b"[DONE]")
    assert process.wait(120) == 0


@pytest.mark.slow
def test_a_stream_for_which_there_is_no_time_is_told_why(begin):
    process, url, _ = begin("--autoscale", "1:2", "--grace", "0")
    with _chat(url, modalities=["text", "image"]) as answer:
        answer.readline()
        process.send_signal(signal.SIGTERM)
        lines = [line for line in answer.read().splitlines() if line.strip()]
    last = json.loads(lines[-1].removeprefix(b"data: "))
    assert last["error"]["code"] == "shutting_down"
    assert process.wait(120) == 0
