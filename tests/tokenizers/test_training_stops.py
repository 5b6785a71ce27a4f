"""How a tokenizer's training ends early and goes on: signals, locks, full disks, damage."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from picture_training import SETTINGS, run
from PIL import Image
from safetensors.torch import load_file

from unified_base.locks import hold_folder
from unified_base.training import loop
from unified_base.training.checkpoint_files import drop_old
from unified_tokenizers import load_tokenizer
from unified_tokenizers.training import TokenizerTrainer, TokenizerTraining, train

pytestmark = pytest.mark.usefixtures("torch_threads")


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> TokenizerTraining:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(5):
        pixels = rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return run(folder, size=None)


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory) -> Path:
    """The folder of a run that was never stopped."""
    output = tmp_path_factory.mktemp("whole")
    train(replace(config, output=str(output)))
    return output


def weights(output, step=6):
    return load_file(
        output / "checkpoints" / f"step-{step:07d}" / "part-00000-of-00001.safetensors"
    )


def same(left, right):
    first, second = weights(left), weights(right)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(second[name], value), name


def checkpoints(output):
    return sorted(path.name for path in (output / "checkpoints").iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_step_saves_says_so_and_the_run_goes_on(
    config, whole, tmp_path, monkeypatch, capsys, number
):
    update = TokenizerTrainer._update_average

    def update_and_signal(trainer):
        update(trainer)
        if trainer.step == 2:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    run = replace(config, output=str(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr(TokenizerTrainer, "_update_average", update_and_signal)
        with pytest.raises(SystemExit) as ended:
            train(run)
    assert ended.value.code == 128 + number
    assert signal.getsignal(number) is before
    assert "stopped at step 2; go on with --resume" in capsys.readouterr().err
    assert checkpoints(tmp_path) == ["step-0000002"]
    stopped = load_tokenizer(tmp_path / "tokenizer").fingerprint
    train(run, resume=True)
    same(whole, tmp_path)
    assert load_tokenizer(tmp_path / "tokenizer").fingerprint != stopped


def test_the_command_exits_as_training_a_decoder_does(config, tmp_path):
    """A whole process, sent SIGTERM once it has begun."""
    (data,) = config.data
    file = tmp_path / "run.yaml"
    file.write_text(
        f"modality: image\noutput: {tmp_path / 'out'}\ndata: [{data}]\nvalidation: []\n"
        f"tokenizer: {SETTINGS}\nsteps: 1000000\nbatch_size: 4\noptimizer: {{lr: 0.01}}\n"
        "log_every: 1\n"
    )
    command = [sys.executable, "-m", "unified", "tokenizer", "train", str(file)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "loss" in line:
                break
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
    assert process.returncode == 128 + signal.SIGTERM
    (line,) = [line for line in rest.splitlines() if "stopped at step" in line]
    step = int(line.split("step ")[1].split(";")[0])
    assert checkpoints(tmp_path / "out") == [f"step-{step:07d}"]


def test_saving_by_time_changes_nothing_but_what_is_there(config, whole, tmp_path):
    run = replace(config, output=str(tmp_path), save_minutes=1e-9, save_every=1000)
    train(run)
    assert checkpoints(tmp_path) == ["step-0000005", "step-0000006"]  # one a step, two are kept
    same(whole, tmp_path)
    by_steps = replace(config, output=str(tmp_path / "b"), save_minutes=0, save_every=1000)
    train(by_steps)
    assert checkpoints(tmp_path / "b") == ["step-0000006"]


def test_a_run_killed_before_its_tokenizer_was_written_writes_it(config, whole, tmp_path):
    run = replace(config, output=str(tmp_path))
    train(run)
    fingerprint = load_tokenizer(tmp_path / "tokenizer").fingerprint
    for path in (tmp_path / "tokenizer").iterdir():
        path.unlink()
    train(run, resume=True)
    assert load_tokenizer(tmp_path / "tokenizer").fingerprint == fingerprint


def test_two_runs_in_one_folder_say_so(config, tmp_path):
    run = replace(config, output=str(tmp_path))
    script = (
        "import sys\nfrom unified_base.locks import hold_folder\n"
        "with hold_folder(sys.argv[1]):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=rf"another process \({process.pid}\) trains in"):
            train(run)
        assert not (tmp_path / "checkpoints").exists()
        process.communicate()
    with hold_folder(tmp_path):  # it went with its process
        pass


def test_a_folder_that_cannot_be_held_is_named(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot write to .*file"):
        train(replace(config, output=str(tmp_path / "file")))
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "lock")
    with pytest.raises(ValueError, match="lock is not a regular file"):
        train(replace(config, output=str(tmp_path / "pipe")))


def test_a_full_disk_is_named_and_what_was_saved_stays(config, whole, tmp_path, monkeypatch):
    """A limit on a file's size is a disk that is full for that file."""
    run = replace(config, output=str(tmp_path))
    save, before = loop.save_checkpoint, resource.getrlimit(resource.RLIMIT_FSIZE)

    def save_on_a_full_disk(folder, step, *rest):
        if step == 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        try:
            return save(folder, step, *rest)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "save_checkpoint", save_on_a_full_disk)
        with pytest.raises(
            ValueError, match=r"cannot write .*part-00000-of-00001\.safetensors: File too large"
        ):
            train(run)
    assert checkpoints(tmp_path) == ["step-0000003"]
    train(run, resume=True)
    same(whole, tmp_path)


@pytest.mark.slow
def test_a_disk_that_is_full_of_curves_is_one_line(config, tmp_path):
    """The command, on a disk that takes no more of what TensorBoard writes."""
    (data,) = config.data
    file = tmp_path / "run.yaml"
    file.write_text(
        f"modality: image\noutput: {tmp_path / 'out'}\ndata: [{data}]\nvalidation: [{data}]\n"
        f"tokenizer: {SETTINGS}\nsteps: 500\nbatch_size: 4\noptimizer: {{lr: 0.01}}\n"
        "log_every: 1\nsave_every: 50\n"
    )
    script = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, resource.RLIM_INFINITY))\n"
        "from unified.__main__ import run\nsys.exit(run(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", script, "tokenizer", "train", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert last.startswith(f"error: cannot write {tmp_path / 'out'}")
    assert "File too large; free some space, then go on with --resume" in last
    assert not list((tmp_path / "out").rglob("*.partial"))


@pytest.mark.slow
def test_a_bit_that_changes_is_found_when_a_run_goes_on(config, whole, tmp_path):
    run = replace(config, output=str(tmp_path))
    train(run)
    for name in ("state.json", "part-00000-of-00001.safetensors"):
        path = tmp_path / "checkpoints" / "step-0000006" / name
        content = path.read_bytes()
        bits = random.Random(1).sample(range(8 * len(content)), 5)
        for bit in bits:
            data = bytearray(content)
            data[bit // 8] ^= 1 << bit % 8
            path.write_bytes(data)
            with pytest.raises(ValueError, match=rf"step-0000006/{name} is damaged"):
                train(run, resume=True)
        path.write_bytes(content)


def test_what_a_killed_run_left_half_written_is_removed(config, whole, tmp_path, capsys):
    run = replace(config, output=str(tmp_path))
    torn = tmp_path / "checkpoints" / "step-0000009.partial"
    torn.mkdir(parents=True)
    (torn / "part-00000-of-00001.safetensors").write_bytes(bytes(100))
    train(run)
    assert "step-0000009.partial was not complete and has been removed" in capsys.readouterr().err
    assert checkpoints(tmp_path) == ["step-0000003", "step-0000006"]


def test_checkpoints_that_a_killed_run_had_not_dropped_are(config, whole, tmp_path):
    run = replace(config, output=str(tmp_path))
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    for step in (1, 2):
        shutil.copytree(
            tmp_path / "checkpoints" / "step-0000003", tmp_path / "checkpoints" / f"step-{step:07d}"
        )
    before = checkpoints(tmp_path)
    with pytest.raises(ValueError, match="holds a run already"):
        train(run)
    assert checkpoints(tmp_path) == before
    train(run, resume=True)
    assert checkpoints(tmp_path) == ["step-0000003", "step-0000006"]
    same(tmp_path, whole)


def test_folders_that_are_no_checkpoints_do_not_push_out_whole_ones(tmp_path):
    for step in (1, 2, 3, 4):
        (tmp_path / f"step-{step:07d}").mkdir()
        if step < 4:
            (tmp_path / f"step-{step:07d}" / "state.json").touch()
    drop_old(tmp_path, 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-0000003", "step-0000004"]
