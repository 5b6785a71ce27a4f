"""Reads one pickle of tensors and writes them as safetensors: a process of its own, with limits.

Run by `unified_tokenizers.convert` as a script, with PICKLE OUT SECONDS. It imports nothing of this
library, reads with `weights_only=True` (which builds tensors and plain containers and calls nothing
that the pickle names), and gets no more memory than a few times the file and no more CPU time than
it is told. What was read is printed as JSON: the number of tensors, and what was left out.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

_SPARE = 1 << 29
_COPIES = 4
# Where training loops put the weights inside a checkpoint.
_INSIDE = ("state_dict", "model", "module", "model_state_dict", "ema", "generator")


def limit(path: Path, seconds: int) -> None:
    """Bound this process, on Linux: what it uses now, copies of the file, and a little more."""
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    memory = pages * os.sysconf("SC_PAGE_SIZE") + _COPIES * path.stat().st_size + _SPARE
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def tensors_of(content: Any) -> tuple[dict[str, Any], int]:
    """The tensors by name, and how many entries beside them were left out."""
    import torch

    for name in _INSIDE:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
            break
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, expected tensors by name")
    tensors = {
        name: value.detach().contiguous().clone()
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, torch.Tensor) and not value.is_sparse
    }
    if not tensors:
        raise ValueError("it holds no tensors by name")
    return tensors, len(content) - len(tensors)


def main(source: Path, output: Path, seconds: int) -> None:
    """Convert `source` into `output`; errors are one line on stderr."""
    import torch
    from safetensors.torch import save_file

    if sys.platform == "linux":
        limit(source, seconds)
    try:
        content = torch.load(source, map_location="cpu", weights_only=True)
        tensors, left_out = tensors_of(content)
        save_file(tensors, output)
    except Exception as error:  # whatever torch meets in a stranger's file
        sys.exit(f"{type(error).__name__}: {' '.join(str(error).split())[:400]}")
    print(json.dumps({"tensors": len(tensors), "left_out": left_out}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
