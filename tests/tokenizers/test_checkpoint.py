"""Checkpoints: everything comes back bit for bit, nothing unfinished is taken for whole."""

import json

import pytest
import torch
from torch import nn

from unified_tokenizers.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint


def parts(seed: int):
    """A network with matrices and vectors, and the two kinds of optimizer that we train with."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 3))
    matrices = [p for p in network.parameters() if p.ndim == 2]
    vectors = [p for p in network.parameters() if p.ndim == 1]
    optimizers = {
        "muon": torch.optim.Muon(matrices, lr=0.01, adjust_lr_fn="match_rms_adamw"),
        "adamw": torch.optim.AdamW(
            [{"params": vectors[:2], "weight_decay": 0.1}, {"params": vectors[2:]}],
            lr=0.01, betas=(0.9, 0.98),
        ),
    }  # fmt: skip
    return network, optimizers


def steps(network, optimizers, first: int, last: int) -> None:
    for step in range(first, last):
        inputs = torch.randn(4, 5, generator=torch.Generator().manual_seed(step))
        network(inputs).square().mean().backward()
        for optimizer in optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = 0.01 / (1 + step)
            optimizer.step()
            optimizer.zero_grad()


def test_a_restored_run_goes_on_bit_for_bit(tmp_path):
    network, optimizers = parts(seed=0)
    steps(network, optimizers, 0, 3)
    path = save_checkpoint(tmp_path, 3, {"network": network}, optimizers, {"note": [1, 0.1, None]})
    steps(network, optimizers, 3, 6)

    other, its_optimizers = parts(seed=99)
    step, extra = load_checkpoint(path, {"network": other}, its_optimizers)
    assert (step, extra) == (3, {"note": [1, 0.1, None]})
    steps(other, its_optimizers, 3, 6)
    for name, value in network.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_a_checkpoint_is_safetensors_and_json_and_nothing_else(tmp_path):
    network, optimizers = parts(seed=0)
    steps(network, optimizers, 0, 1)
    path = save_checkpoint(tmp_path, 12, {"network": network}, optimizers, {})
    assert path.name == "step-0000012"
    assert sorted(p.name for p in path.iterdir()) == ["state.json", "state.safetensors"]
    assert json.loads((path / "state.json").read_text())["step"] == 12
    assert int.from_bytes((path / "state.safetensors").read_bytes()[:8], "little") < 10_000


def test_the_last_two_are_kept_and_the_last_is_found(tmp_path):
    network, optimizers = parts(seed=0)
    assert latest_checkpoint(tmp_path / "nothing yet") is None
    for step in (5, 10, 100):
        save_checkpoint(tmp_path, step, {"network": network}, optimizers, {})
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["step-0000010", "step-0000100"]
    assert latest_checkpoint(tmp_path) == tmp_path / "step-0000100"


def test_saving_the_same_step_again_replaces_it(tmp_path):
    network, optimizers = parts(seed=0)
    save_checkpoint(tmp_path, 5, {"network": network}, optimizers, {"try": 1})
    path = save_checkpoint(tmp_path, 5, {"network": network}, optimizers, {"try": 2})
    assert load_checkpoint(path, {"network": network}, optimizers)[1] == {"try": 2}


def test_unfinished_checkpoints_are_passed_over_and_replaced(tmp_path):
    network, optimizers = parts(seed=0)
    whole = save_checkpoint(tmp_path, 5, {"network": network}, optimizers, {})
    torn = tmp_path / "step-0000010.partial"  # stopped before it was renamed
    torn.mkdir()
    (torn / "state.json").write_text("{")
    without_json = tmp_path / "step-0000020"  # copied by hand, and not all of it
    without_json.mkdir()
    (without_json / "state.safetensors").write_bytes(b"\0" * 100)
    assert latest_checkpoint(tmp_path) == whole
    path = save_checkpoint(tmp_path, 10, {"network": network}, optimizers, {}, keep=9)
    assert latest_checkpoint(tmp_path) == path
    assert not torn.exists()


def test_a_failure_while_writing_leaves_the_checkpoint_before_it(tmp_path):
    network, optimizers = parts(seed=0)
    whole = save_checkpoint(tmp_path, 5, {"network": network}, optimizers, {})
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path, 10, {"network": network}, optimizers, {"not plain": object()})
    assert latest_checkpoint(tmp_path) == whole


def test_damaged_and_foreign_checkpoints_are_refused(tmp_path):
    network, optimizers = parts(seed=0)
    path = save_checkpoint(tmp_path, 5, {"network": network}, optimizers, {})
    with pytest.raises(ValueError, match="is of another network than the configuration's"):
        load_checkpoint(path, {"network": nn.Linear(5, 7)}, {})
    for name in ("state.safetensors", "state.json"):
        whole = (path / name).read_bytes()
        (path / name).write_bytes(whole[:-20])
        with pytest.raises(ValueError, match=rf"{name} is damaged .* the checkpoint before it"):
            load_checkpoint(path, {"network": network}, optimizers)
        (path / name).write_bytes(whole)
