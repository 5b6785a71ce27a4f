"""Opening a model: memory while its weights are read, the decoder after `hf`, the start of a draw.

    python benchmarks/opening.py [--quick] [--bytes 1e9]

For each backend and type of weights a checkpoint of about --bytes random numbers is written and
opened in a process of its own, which has opened a tiny one of the same kind before: libraries and
buffers of a first use are not counted. cpu is a Llama in compiled loops, transformers a GPT-2.

peak_over_stored: by backend and dtype, the largest resident memory while the model is opened and
its decoder made, above that before, over the bytes of its tensors. Resident is everything that the
process has in memory, private and shared: pages of mapped files count as soon as they are touched
(VmHWM of /proc/self/status, reset before). after_hf_over_stored: the same once `hf` was made and
the decoder asked for again; cpu has its packed weights and the pages of the mapped files then.
second_call_seconds_after_hf: seconds that `decoder()` takes then, the largest median of all cases.
open_seconds: to open. draw_start_seconds: from the start of a new process to the first row of a
picture of the pocket model.

Progress goes to stderr; the last line on stdout is one JSON object.
"""

from __future__ import annotations

import _path  # noqa: F401 (before all others)

# isort: split
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

BACKENDS = ("cpu", "transformers")
DTYPES = ("float32", "bfloat16", "float16")
CALLS = 9
WIDTH, ROWS = 1024, 32_000
DRAW = """
from unified.models.model import UnifiedModel
from unified.engine.events import ImageRow
model = UnifiedModel.from_pretrained("pocket")
request = model.request("draw", text="a cat")
for event in model.stream([request.document], request.sampling):
    if isinstance(event, ImageRow):
        print("row", flush=True)
        break
"""


def say(text: str) -> None:
    """A line of progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def write_checkpoint(folder: Path, backend: str, dtype: str, size: float) -> None:
    """A checkpoint of about `size` bytes of random weights; a tiny one for 0."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

    kind = getattr(torch, dtype)
    width, rows = (WIDTH, ROWS) if size else (64, 96)
    layer = (12 if backend == "transformers" else 12.5) * width**2 * kind.itemsize
    layers = max(2, int((size - rows * width * kind.itemsize) / layer))
    if backend == "transformers":
        config: Any = GPT2Config(
            n_embd=width, n_head=width // 32, n_layer=layers, vocab_size=rows, bos_token_id=1,
            eos_token_id=2,
        )  # fmt: skip
    else:
        config = LlamaConfig(
            hidden_size=width, intermediate_size=7 * width // 2, num_hidden_layers=layers,
            num_attention_heads=width // 32, num_key_value_heads=width // 64,
            vocab_size=rows, tie_word_embeddings=True,
        )  # fmt: skip
    config.dtype = kind
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    weights = {
        name: (torch.ones(p.shape) if p.dim() == 1 else torch.randn(p.shape) * 0.02).to(kind)
        for name, p in model.named_parameters()
    }
    folder.mkdir()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)


def memory(name: str) -> int:
    """Bytes by a name of /proc/self/status: VmRSS now, VmHWM at most since `reset_peak`."""
    (line,) = [
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith(f"{name}:")
    ]
    return int(line.split()[1]) << 10


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def measure(tiny: Path, folder: Path) -> dict[str, Any]:
    """Open a checkpoint, in this process, and ask for its decoder before and after `hf`."""
    from unified.models.opening import LanguageModel
    from unified_base.safetensors_files import read_header

    def use(model: LanguageModel) -> None:
        decoder = model.decoder()
        hidden_states = decoder.forward(decoder.new_cache(1, 4), [0], [[1, 2]])
        decoder.logits(hidden_states, ((0, 9),))

    warm = LanguageModel.open(tiny)
    use(warm)
    assert warm.hf is not None
    del warm
    header = read_header(folder / "model.safetensors").values()
    stored = sum(tensor.stop - tensor.start for tensor in header)
    before = memory("VmRSS")
    reset_peak()
    began = time.perf_counter()
    model = LanguageModel.open(folder)
    use(model)
    seconds = time.perf_counter() - began
    peak = memory("VmHWM") - before
    first = model.decoder()
    assert model.hf is not None
    calls, spent = [], []
    for _ in range(CALLS + 1):
        began, began_cpu = time.perf_counter(), time.process_time()
        assert model.decoder() is first
        calls.append(time.perf_counter() - began)
        spent.append(time.process_time() - began_cpu)
    return {
        "backend": type(first).__name__,
        "stored": stored,
        "peak": peak / stored,
        "after_hf": (memory("VmRSS") - before) / stored,
        "open_seconds": seconds,
        "second_call": median(calls[1:]),
        "second_call_cpu": median(spent[1:]),
    }


def run_case(folder: Path, backend: str, dtype: str, size: float) -> dict[str, Any]:
    """`measure` in a process of its own."""
    for name, number in (("tiny", 0.0), ("model", size)):
        write_checkpoint(folder / name, backend, dtype, number)
    command = [sys.executable, __file__, "--measure", folder / "tiny", folder / "model"]
    done = subprocess.run(command, env=_environment(), stdout=subprocess.PIPE, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    say(
        f"{backend} {dtype}: peak {result['peak']:.3f} of {result['stored'] / 1e6:,.0f} MB, "
        f"{result['after_hf']:.3f} after hf, decoder() {result['second_call'] * 1e3:.1f} ms"
    )
    return result


def draw_start() -> float:
    """Seconds from the start of a process to the first row of a picture."""
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", DRAW], env=_environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - began
    if line != "row\n" or process.returncode:
        raise SystemExit(f"the process that draws failed with exit code {process.returncode}")
    return seconds


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="checkpoints of 200 MB, fewer draws")
    parser.add_argument("--bytes", type=float, help="of a checkpoint (default: 1e9; 2e8 if quick)")
    parser.add_argument("--measure", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not Path("/proc/self/clear_refs").exists():
        parser.error("needs Linux, which tells a process its peak of resident memory")
    if options.measure:
        print(json.dumps(measure(*options.measure)))
        return
    # After --help and mistakes: these take seconds to load.
    from _shared import machine

    from unified.engine.backends.cpu.compiling import compile_kernels
    from unified.engine.backends.cpu.threads import ThreadPool

    began, load = time.perf_counter(), os.getloadavg()
    size = options.bytes or (2e8 if options.quick else 1e9)
    compile_kernels()
    cases: dict[str, dict[str, dict[str, Any]]] = {backend: {} for backend in BACKENDS}
    for backend in BACKENDS:
        for dtype in DTYPES:
            with tempfile.TemporaryDirectory() as folder:
                cases[backend][dtype] = run_case(Path(folder), backend, dtype, size)
    draw_start()  # unmeasured: files come from the disk
    starts = [draw_start() for _ in range(2 if options.quick else 5)]
    say(f"draw: {median(starts):.2f} s to the first row")

    def by_case(key: str, digits: int) -> dict[str, dict[str, float]]:
        return {
            backend: {dtype: round(result[key], digits) for dtype, result in results.items()}
            for backend, results in cases.items()
        }

    every = [result for results in cases.values() for result in results.values()]
    print(json.dumps({
        "peak_over_stored": by_case("peak", 3),
        "after_hf_over_stored": by_case("after_hf", 3),
        "second_call_seconds_after_hf": round(max(r["second_call"] for r in every), 4),
        "second_call_cpu_seconds": by_case("second_call_cpu", 4),
        "open_seconds": by_case("open_seconds", 2),
        "draw_start_seconds": round(median(starts), 2),
        "stored_bytes": by_case("stored", 0),
        "load_before": [round(x, 2) for x in load],
        "sample": "quick" if options.quick else "full",
        "benchmark_seconds": round(time.perf_counter() - began, 1),
        "machine": machine(
            ThreadPool.shared().threads, ("transformers", "safetensors", "numba", "numpy")
        ),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
