"""Several processes: data-parallel and FSDP2 are one process; another number of them goes on."""

import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import yaml

from unified.training.config import OptimizerConfig
from unified.training.train import train
from unified_base.training.checkpoint import read_latest


def plain(value):
    """A configuration as YAML has it."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def run_file(config, path) -> Path:
    entries = {name: value for name, value in plain(asdict(config)).items() if value is not None}
    for name in ("sources", "validation"):
        entries[name] = {
            key: {"shards": source["shards"], "share": source["share"]}
            for key, source in entries[name].items()
        }
    path.write_text(yaml.safe_dump(entries), "utf-8")
    return path


def torchrun(config, tmp_path, *options, processes=2) -> str:
    """`torchrun -m unified train`, the command itself; what it said."""
    path = run_file(config, tmp_path / "run.yaml")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
         str(processes), "-m", "unified", "train", str(path), *options],
        capture_output=True, text=True, timeout=200, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return " ".join(done.stderr.split())


def held(config, prefix) -> dict[str, torch.Tensor]:
    saved = read_latest(Path(config.output) / "checkpoints")
    return {name: saved.read(f"{prefix}{name}") for name in saved.names(prefix)}


def check_close(reference, other, tolerance) -> None:
    """Gradients as the optimizers' averages have them, to `tolerance` of their size; weights to a
    twentieth of an update, since AdamW makes whole updates of gradients that are mere rounding."""
    for name, value in held(reference, "optimizer/").items():
        bound = tolerance * float(value.abs().max())
        actual = held(other, "optimizer/")[name]
        assert torch.allclose(actual, value, rtol=0, atol=max(bound, 1e-9)), name
    for name, value in held(reference, "weights/").items():
        actual = held(other, "weights/")[name]
        assert torch.allclose(actual, value, rtol=0, atol=0.05 * reference.optimizer.lr), name


@pytest.mark.parametrize(("parallel", "optimizer"), [("data", "muon"), ("fsdp", "adamw")])
def test_two_processes_are_one(parallel, optimizer, training_case, finished_training, tmp_path):
    """Sums over processes are rounded in another order, nothing else. Then one process goes on
    with what two have saved."""
    config = replace(
        training_case,
        output=str(tmp_path / "two"),
        parallel=parallel,
        optimizer=OptimizerConfig(lr=0.01, name=optimizer),
        steps=3,
        ema_decay=0.9,
        validation={},
        world=None,
    )
    single = replace(config, output=str(tmp_path / "one"))
    train(single)
    torchrun(config, tmp_path)
    saved = read_latest(tmp_path / "two" / "checkpoints")
    parts = len(list(saved.folder.glob("part-*")))
    assert parts == (2 if parallel == "fsdp" else 1)
    # Muon's updates come of bfloat16 iterations and differ by percent; the gradients of the next
    # steps follow them (5e-4 of their size with torch 2.14).
    check_close(single, config, 1e-4 if optimizer == "adamw" else 2e-3)
    longer = replace(config, steps=5, save_every=5)
    train(longer, resume=True)
    train(replace(single, steps=5, save_every=5), resume=True)
    check_close(single, longer, 1e-2)
