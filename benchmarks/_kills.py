"""A run killed again and again, and one never killed: the same weights, bit for bit, or not.

The run is the command itself, `unified train`, in a process that gets SIGKILL: at a random moment
of its training, or as soon as a checkpoint is being written.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from _shared import say
from safetensors.torch import load_file

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "data" / "sample"
STEPS = 60


def configuration(folder: Path, output: Path, save_every: int) -> Path:
    """The file of a run of 60 steps that begins with the model in `folder`/start."""
    entries = {
        "output": str(output),
        "init_from": str(folder / "start"),
        "sources": {
            "draw": {"shards": str(SAMPLE / "train-draw-*.tar"), "share": 2, "noise": 0.1},
            "speech": {
                "share": 1,
                "sources": {
                    "speak": {"shards": str(SAMPLE / "train-speak-*.tar"), "drop_prompt": 0.3},
                    "name": {"shards": str(SAMPLE / "train-name-*.tar"), "orders": "both"},
                },
            },
        },
        "steps": STEPS,
        "seq_len": 700,
        "global_batch_size": 4,
        "micro_batch_size": 2,
        "streams": 12,
        "optimizer": {"name": "muon", "lr": 0.002},
        "schedule": {"warmup_steps": 5},
        "ema_decay": 0.95,
        "log_every": 1,
        "save_every": save_every,
        "threads": 1,
        "save_dtype": "float32",
        "workers": 1,
    }
    path = folder / f"{output.name}.yaml"
    path.write_text(yaml.safe_dump(entries), "utf-8")
    return path


def make_start(folder: Path) -> None:
    """A small untrained model, over the shipped model's tokenizers."""
    from unified.models.model import UnifiedModel

    pocket = UnifiedModel.from_pretrained("pocket")
    torch.manual_seed(1)
    shape = {
        "hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 3,
        "num_key_value_heads": 1, "head_dim": 32, "intermediate_size": 192,
        "max_position_embeddings": 2048, "tie_word_embeddings": True,
    }  # fmt: skip
    UnifiedModel.create(
        shape, text_tokenizer=pocket.text_tokenizer, image_tokenizer=pocket.image_tokenizer,
        audio_tokenizer=pocket.audio_tokenizer,
    ).save_pretrained(folder / "start")  # fmt: skip


def command(config: Path, processes: int) -> list[str]:
    train = ["-m", "unified", "train", str(config), "--resume"]
    if processes == 1:
        return [sys.executable, *train]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [sys.executable, *torchrun, *train]


def run_whole(config: Path, processes: int) -> None:
    done = subprocess.run(command(config, processes), capture_output=True, text=True, timeout=900)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])


def kill_once(config: Path, processes: int, rng: random.Random, writing: bool) -> tuple[bool, bool]:
    """Start the run, kill it; (whether it was still running, whether a checkpoint was half there).

    Waits until training has begun: what is killed before is killed by any of the tests.
    """
    output = Path(yaml.safe_load(config.read_text("utf-8"))["output"])
    log = output.with_suffix(".log")
    with log.open("wb") as file:
        run = subprocess.Popen(
            command(config, processes), stdout=file, stderr=file, start_new_session=True
        )
    deadline = time.monotonic() + 300
    while run.poll() is None and f"/{STEPS}" not in log.read_text("utf-8", "replace"):
        if time.monotonic() > deadline:
            raise RuntimeError(f"the run did not begin: {log.read_text()[-2000:]}")
        time.sleep(0.01)
    wait = time.monotonic() + rng.uniform(0, 1.5)
    checkpoints = output / "checkpoints"
    while run.poll() is None and time.monotonic() < wait + (20 if writing else 0):
        if writing and time.monotonic() > wait and list(checkpoints.glob("*.partial")):
            time.sleep(rng.uniform(0, 0.01))
            break
        time.sleep(0.0005)
    alive = run.poll() is None
    # torchrun's processes are no group of its own: all that were started with this file.
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(config).encode() in cmdline.read_bytes():
                os.kill(int(cmdline.parent.name), signal.SIGKILL)
        except OSError:  # it has ended meanwhile
            continue
    run.wait()
    return alive, bool(list(checkpoints.glob("*.partial")))


def weights(output: Path) -> dict[str, Any]:
    folder = output / "checkpoints" / f"step-{STEPS:07d}"
    return {path.name: load_file(path) for path in sorted(folder.glob("part-*"))}


def equal(first_folder: Path, other: Path) -> bool:
    """Weights, averages and optimizers' state, bit for bit."""
    first, second = weights(first_folder), weights(other)
    return first.keys() == second.keys() and all(
        first[part].keys() == second[part].keys()
        and all(torch.equal(value, second[part][name]) for name, value in first[part].items())
        for part in first
    )


def kills(folder: Path, number: int, processes: int, parallel: str = "data") -> dict[str, Any]:
    """Kill a run so often and let it end; what became of it.

    kills: those that met a running process. while_saving: those that left half a checkpoint.
    bit_equal: whether the end is that of a run never killed.
    """
    rng = random.Random(number + processes)
    outputs = [folder / f"{name}-{processes}-{parallel}" for name in ("whole", "killed")]
    configs = [configuration(folder, output, save_every=2) for output in outputs]
    if parallel != "data":
        for config in configs:
            entries = yaml.safe_load(config.read_text("utf-8"))
            config.write_text(yaml.safe_dump({**entries, "parallel": parallel}), "utf-8")
    run_whole(configs[0], processes)
    done = saving = 0
    while done < number:
        alive, half = kill_once(configs[1], processes, rng, writing=done % 2 == 0)
        if not alive:
            log = outputs[1].with_suffix(".log").read_text("utf-8", "replace")
            raise RuntimeError(f"the run ended by itself after {done} kills: {log[-800:]}")
        done, saving = done + 1, saving + half
        steps = sorted(p.name for p in (outputs[1] / "checkpoints").glob("step-???????"))
        say(f"kill {done} ({processes} processes): last whole {steps[-1:]}, half written: {half}")
    run_whole(configs[1], processes)
    return {"kills": done, "while_saving": saving, "bit_equal": equal(*outputs)}
