"""Settings of a tokenizer's training that cannot be."""

import pytest
from picture_training import SETTINGS, run

from unified_tokenizers.training import train
from unified_tokenizers.training_config import load_config

pytestmark = pytest.mark.usefixtures("torch_threads")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"fit": "squeeze"}, "fit is 'squeeze', expected one of crop, resize, bucket"),
        ({"size": 0}, "size is 0, expected 1 to 8192 pixels a side"),
        ({"size": [16, -4]}, "expected 1 to 8192 pixels a side"),
        ({"max_corrupt": -1}, "max_corrupt is -1, expected 0 or more"),
        ({"save_minutes": -0.5}, "save_minutes is -0.5, expected 0 or more"),
        ({"steps": 0}, "steps is 0, expected at least 1"),
        ({"batch_size": 0}, "batch_size is 0, expected at least 1"),
        ({"optimizer": {"lr": float("nan")}}, "optimizer.lr is nan, expected 0 or more"),
        ({"optimizer": {"lr": 0}}, "optimizer.lr is 0, expected a number above 0"),
        (
            {"optimizer": {"lr": 1, "max_grad_norm": 0}},
            "optimizer.max_grad_norm is 0, expected a number above 0",
        ),
        ({"seed": -1}, "seed is -1, expected 0 or more"),
        ({"threads": 10**9}, "threads is 1000000000, expected at most 1,024"),
        ({"batch_size": 10**9}, "batch_size is 1000000000, expected at most 65,536"),
        ({"crop": 65_537}, "crop is 65537, expected at most 65,536"),
        ({"seed": 2**32}, "seed is 4294967296, expected at most 4,294,967,295"),
        ({"ema_decay": 1.5}, "ema_decay is 1.5, expected at most 1"),
        ({"memory_gb": float("inf")}, "memory_gb is inf, expected at most 65,536"),
        ({"losses": {"l1": float("inf")}}, "l1 has the weight inf, expected at most 1,000,000,000"),
        ({"adversary": {"weight": 1, "start": 10**17}}, "start is 10+, expected at most 1,000,000"),
        *(
            ({name: 10**17}, f"{name} is 1[0e+]+(17|.0)?, expected at most ")
            for name in (
                "steps",
                "limit",
                "log_every",
                "save_every",
                "max_corrupt",
                "save_minutes",
                "optimizer.lr",
                "optimizer.weight_decay",
                "optimizer.max_grad_norm",
                "schedule.warmup_steps",
                "cycle",
                "memory_gb",
            )
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path, changes, reason):
    import yaml

    entries = {
        "modality": "image", "output": "x", "data": ["a"], "validation": [], "tokenizer": SETTINGS,
        "steps": 3, "batch_size": 2, "optimizer": {"lr": 0.002}, "size": [8, 12], "fit": "resize",
    }  # fmt: skip
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(entries))
    assert load_config(path).size == (8, 12)
    dotted = [f"{name}={value}" for name, value in changes.items() if "." in name]
    plain = {name: value for name, value in changes.items() if "." not in name}
    path.write_text(yaml.safe_dump({**entries, **plain}))
    with pytest.raises(ValueError, match=reason):
        load_config(path, dotted)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"size": 18}, r"size is 18x18 \(height, width\), expected multiples of 4 pixels"),
        ({"size": (16, 20), "fit": "bucket"}, "`fit: bucket` has shapes of its own"),
    ],
)
def test_sizes_that_do_not_go_with_the_tokenizer_are_refused(mixed, tmp_path, changes, reason):
    with pytest.raises(ValueError, match=reason):
        train(run(mixed, tmp_path, **changes))
