"""Data-parallel training: two processes, one result, codebooks in step."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from unified_tokenizers import load_tokenizer

PROGRAM = """
import json, os, sys
from pathlib import Path
import torch
from torch import distributed
from unified_base.training.dist import DistContext
from unified_tokenizers import training
torch.set_num_threads(1)
config = training.load_config(Path(sys.argv[1]))
seen = []
check = DistContext.check_in_step
def also_look(self, module, step):
    check(self, module, step)
    book = next(module.quantizer._codebooks())
    mine = torch.cat([book.embed.flatten(), book.cluster_size.flatten()])
    every = [torch.empty_like(mine) for _ in range(2)]
    distributed.all_gather(every, mine)
    seen.append(bool(torch.equal(*every)) and len(mine.unique()) > 20)
    if step == config.steps and self.rank == 1:
        with torch.no_grad():
            book.embed[0, 3, 0] += 1e-6
    if step == config.steps:
        try:
            check(self, module, step)
        except ValueError as error:
            seen.append(str(error))
DistContext.check_in_step = also_look
training.train(config)
Path(sys.argv[2] + os.environ["RANK"]).write_text(json.dumps(seen))
"""


@pytest.mark.slow
def test_two_processes_keep_their_codebooks_in_step(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    for index in range(12):
        coarse = rng.integers(0, 256, (2, 3, 3), dtype=np.uint8)
        Image.fromarray(coarse.repeat(8, 0).repeat(8, 1)).save(tmp_path / "data" / f"{index}.png")
    run = {
        "modality": "image",
        "output": str(tmp_path / "run"),
        "data": [str(tmp_path / "data")],
        "validation": [],
        "steps": 6,
        "batch_size": 4,
        "optimizer": {"lr": 0.01},
        "schedule": {"warmup_steps": 2},
        "save_every": 3,
        "save_dtype": "float32",
        "adversary": {"weight": 0.5, "start": 2, "width": 4},
        "tokenizer": {
            "stride": 4,
            "encoder_width": 8,
            "decoder_width": 16,
            "encoder_depths": [1],
            "decoder_depths": [1, 0, 0],
            "quantizer": {"kind": "vq", "codes": 16, "dim": 2, "revive": 0.5},
        },
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run))
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        str(tmp_path / "program.py"),
        str(tmp_path / "run.yaml"),
        str(tmp_path / "seen-"),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads(Path(f"{tmp_path}/seen-{rank}").read_text()) for rank in range(2))
    assert first[:2] == second[:2] == [True, True]
    for told in (first, second):
        assert "the processes have drifted apart at step 6" in told[2]
    assert "here first in quantizer." in second[2]
    assert "here first" not in first[2]
    # Only one process says and saves anything.
    assert done.stderr.count("step 6: validation psnr_db") == 1
    state = load_file(
        tmp_path / "run" / "checkpoints" / "step-0000006" / "part-00000-of-00002.safetensors"
    )
    saved = load_tokenizer(tmp_path / "run" / "tokenizer")
    embed = saved.state_dict()["quantizer.parts.0._codebook.embed"]
    assert torch.equal(state["ema/quantizer.parts.0._codebook.embed"], embed)
