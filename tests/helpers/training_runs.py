"""Trainings in several processes, and their checkpoints compared."""

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import torch
import yaml

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
