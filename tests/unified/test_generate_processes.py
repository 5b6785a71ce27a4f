"""`unified generate` in processes: killed for good, by several workers, and under Ray."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from unified.generating.generate import generate_shards
from unified_data.document import Document, Slot, Text

NUMBER, SIZE = 40, 4


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lines")
    rows = []
    for number in range(NUMBER):
        words = Text(f"![{'abcdefgh'[number % 8]}]", "prompt", 0.0)
        slot = Slot("image", height=96, width=32 * (1 + number % 3), role="response")
        rows.append(json.dumps(Document((words, slot)).to_json(folder, "none")) + "\n")
    rows[7] = '{"segments": []}\n'
    (folder / "docs.jsonl").write_text("".join(rows))
    return folder / "docs.jsonl"


@pytest.fixture(scope="module")
def run(cli_model, lines):
    def call(output, **options):
        return generate_shards([lines], output, model=cli_model, per_shard=SIZE, **options)

    return call


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "out"
    summary = run(folder)
    assert (summary["documents"], summary["unfilled"]) == (NUMBER - 1, 1)
    return _bytes(folder)


def _bytes(folder):
    """Every file but the lock, whose content is a process's number."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_where_it_was(cli_model, lines, whole, tmp_path):
    """SIGKILL after a number of lines that differs each time: no finished shard is filled again."""
    folder, random_lines = tmp_path / "out", random.Random(3)
    command = [
        sys.executable, "-m", "unified", "generate", str(lines), "-o", str(folder), "--json",
        "--model", str(cli_model), "--per-shard", str(SIZE), "--max-rows", "2",
    ]  # fmt: skip
    before: dict[str, int] = {}
    for _ in range(3):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        for _ in range(random_lines.randint(1, 3)):
            process.stderr.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
        finished = {
            path.name: path.stat().st_mtime_ns
            for path in folder.glob("*.tar")
            if Path(f"{path}.json").exists()
        }
        assert finished.items() >= before.items()
        assert not (folder / "index.json").exists()
        before = finished
    assert 0 < len(before) < NUMBER / SIZE
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["done_before"] == len(before)
    assert _bytes(folder) == whole
    assert not [path for path in os.listdir(folder) if path.endswith(".partial")]


@pytest.mark.slow
def test_several_workers_fill_what_a_single_one_fills(run, whole, tmp_path):
    told = []
    summary = run(tmp_path / "out", workers=2, tell=told.append)
    assert _bytes(tmp_path / "out") == whole
    assert (summary["documents"], len(told)) == (NUMBER - 1, NUMBER // SIZE)


@pytest.mark.slow
def test_actors_of_ray_fill_what_a_single_process_fills(run, whole, tmp_path):
    """Two actors with an engine each; the first shards are done already."""
    ray = pytest.importorskip("ray", reason="ray, an extra, is not installed")
    folder = tmp_path / "out"

    class Enough(Exception):  # noqa: N818
        pass

    def stop(total, filled, unfilled):
        if filled == SIZE + 1:
            raise Enough

    with pytest.raises(Enough):
        run(folder, progress=stop)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        summary = run(folder, ray=True, workers=2)
        assert ray.is_initialized()  # whose it is ends it
    finally:
        ray.shutdown()
    assert summary["done_before"] == 1
    assert _bytes(folder) == whole


@pytest.mark.slow
def test_ray_is_begun_and_ended_where_there_is_none(run, whole, tmp_path, monkeypatch):
    """And an actor's mistake of the user's is told as one: another model under the same name."""
    ray = pytest.importorskip("ray", reason="ray, an extra, is not installed")
    from unified.models.model_spec import ModelSpec

    real = ModelSpec.fingerprint
    monkeypatch.setattr(
        ModelSpec, "fingerprint", lambda *arguments: {**real(*arguments), "files": "other"}
    )
    with pytest.raises(ValueError, match=r"has another model under the name .* the same files"):
        run(tmp_path / "out", ray=True)
    assert not ray.is_initialized()
