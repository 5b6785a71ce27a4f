"""Worker processes: their results, what ends them, and that they end with their parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from written_things import small_image_tokenizer

from unified.__main__ import run
from unified_base.processes import in_processes

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "data" / "sample"


def square(number):
    return number * number


def bad(number):
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 7:
        raise ValueError("seven")
    return number


def test_workers_give_results_and_name_what_ended_them():
    assert [r for _, r in in_processes(square, range(9), 2, method="fork", ordered=True)] == [
        n * n for n in range(9)
    ]
    with pytest.raises(ValueError, match=r"was ended \(signal SIGKILL\) while it worked on 5; ah"):
        list(in_processes(bad, range(6), 2, method="fork", advice="ah"))
    with pytest.raises(ValueError, match=r"^seven$"):
        list(in_processes(bad, [1, 7], 2, method="fork"))


WAITING = """
import os, sys, time, threading
sys.path[:0] = {path!r}
from unified_base.processes import in_processes
import tests_of_workers as t

if __name__ == "__main__":
    for _ in in_processes(t.asleep, [1, 2, 3], 2, method="{method}"):
        pass
"""


# Before the second worker begins, only the signal that lets nothing be tidied up matters.
@pytest.mark.parametrize(
    ("method", "children", "number"),
    [
        *((method, 2, number) for method in ("fork", "spawn")
          for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)),
        ("spawn", 1, signal.SIGKILL),
    ],
)  # fmt: skip
def test_workers_end_with_their_parent(method, children, number, tmp_path):
    (tmp_path / "tests_of_workers.py").write_text(
        "import time\n\n\ndef asleep(number):\n    time.sleep(60)\n"
    )
    script = tmp_path / "waiting.py"
    path = [str(tmp_path), str(ROOT / "base")]
    script.write_text(WAITING.format(path=path, method=method))
    parent = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL)
    workers = wait_for_children(parent, children)
    parent.send_signal(number)
    assert parent.wait(20) != 0
    gone, alive = psutil.wait_procs(workers, timeout=20)
    for process in alive:
        process.kill()
    assert not alive
    assert len(gone) >= children


@pytest.mark.slow
def test_a_killed_command_leaves_no_worker_and_the_next_one_nothing_behind(cli_folder, tmp_path):
    shards = [str(SAMPLE / f"heldout-{kind}-00000.tar") for kind in ("draw", "describe", "ask")]
    line = ["data", "tokenize", *shards, "--image", str(cli_folder), "-o", str(tmp_path / "C")]
    command = [sys.executable, "-m", "unified", *line]
    parent = subprocess.Popen([*command, "--workers", "2"], stderr=subprocess.DEVNULL, cwd=ROOT)
    workers = wait_for_children(parent, 2)
    parent.kill()
    parent.wait(20)
    _, alive = psutil.wait_procs(workers, timeout=60)
    for process in alive:
        process.kill()
    assert not alive
    assert run([*line, "--workers", "1"]) == 0
    names = [f"heldout-{kind}-00000" for kind in ("ask", "describe", "draw")]
    assert sorted(os.listdir(tmp_path / "C")) == sorted(
        ["index.json", *(f"{n}{end}" for n in names for end in (".json", ".tar", ".tar.sums"))]
    )


@pytest.fixture(scope="module")
def cli_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    small_image_tokenizer().save_pretrained(folder)
    return folder


def wait_for_children(parent, number):
    """The processes of a process, once there are so many (multiprocessing's tracker left out)."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and parent.poll() is None:
        try:
            children = psutil.Process(parent.pid).children(recursive=True)
            left = [c for c in children if "resource_tracker" not in " ".join(c.cmdline())]
        except psutil.NoSuchProcess:
            continue
        if len(left) >= number:
            return left
        time.sleep(0.005)
    raise AssertionError(f"the command had no {number} workers")
