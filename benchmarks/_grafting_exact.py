"""What holds without training, and what vectors cost: of grafting.py, or alone.

    python benchmarks/_grafting_exact.py [--quick]

- step0_equal: of all connectors and modules in layers, how many leave the logits of text alone the
  same bits as the language model's own, before any training;
- parity: cases in which a published layout that sees (small random checkpoints) answers by the
  verb what transformers' own model writes, of the test suite's files;
- embeds_overhead: what a training step (forward, backward and AdamW) of a decoder of the pocket
  kind takes longer where 36 of every 64 positions are vectors of an MLP connector, beside the same
  step of ids; the median of pairs in turn.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import _path  # noqa: F401 (before all of ours)

ROOT = Path(__file__).parents[1]
PARITY = (
    "tests/unified/test_grafting_published.py",
    "tests/unified/published/test_seeing_published.py",
)
_LAYERS: dict[str, dict[str, int]] = {
    "visual-expert": {}, "adaption-prompts": {"prompts": 3, "layers": 1},
    "gated-cross-attention": {"every": 2, "heads": 4}, "modality-adapters": {"rank": 4},
}  # fmt: skip
_CONNECTORS: dict[str, dict[str, int]] = {
    "linear": {}, "mlp": {"shuffle": 2},
    "qformer": {"queries": 5, "layers": 2, "heads": 2, "width": 16},
    "resampler": {"depth": 2, "heads": 2, "head_width": 4},
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer pairs of steps")
    quick = parser.parse_args().quick
    print(json.dumps({**step0(), **parity(), **overhead(quick)}))


def step0() -> dict[str, Any]:
    """`step0_equal`: by name, whether logits of text are the same bits."""
    import torch

    from unified import TextTokenizer, UnifiedModel
    from unified.models.grafting.connector_table import CONNECTORS
    from unified.models.grafting.graft import Graft
    from unified.models.grafting.layer_table import LAYER_GRAFTS, make_layer_graft

    text = TextTokenizer.train(["what is in this picture?"] * 4, 290)
    ids = torch.tensor([[5, 9, 2, 17, 4], [1, 1, 8, 3, 30]])
    equal: dict[str, bool] = {}
    with tempfile.TemporaryDirectory() as scratch, torch.no_grad():
        encoder = _encoder(Path(scratch))
        for name in LAYER_GRAFTS:
            hf = _llm(text.size)
            before = hf(input_ids=ids, use_cache=False).logits
            make_layer_graft(name, hf, **_LAYERS.get(name, {})).install(hf)
            equal[name] = bool(torch.equal(hf(input_ids=ids, use_cache=False).logits, before))
        for name in CONNECTORS:
            hf = _llm(text.size)
            before = hf(input_ids=ids, use_cache=False).logits
            graft = Graft(encoder, name, _CONNECTORS.get(name, {}))
            model = UnifiedModel.extend(hf, text_tokenizer=text, see=graft)
            after = model.hf(input_ids=ids, use_cache=False).logits
            equal[name] = bool(torch.equal(after[..., : text.size], before))
    return {"step0_equal": f"{sum(equal.values())} of {len(equal)}", "step0": equal}


def _llm(rows: int, width: int = 32, layers: int = 2) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=rows, hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=4, head_dim=width // 4,
        max_position_embeddings=512,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def _encoder(folder: Path) -> Path:
    from transformers import ViTConfig, ViTModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    config = ViTConfig(
        hidden_size=24, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        image_size=48, patch_size=8,
    )  # fmt: skip
    ViTModel(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 48, "width": 48}).save_pretrained(folder)
    return folder


def parity() -> dict[str, Any]:
    """`parity`: cases whose answers are transformers' own, of those that ran."""
    files = [path for path in PARITY if (ROOT / path).exists()]
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", "-k",
                   "as_transformers_does or describe or seeing", *files]  # fmt: skip
        subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL)
        cases = list(ElementTree.parse(report).iter("testcase"))
    equal = {case.get("name", ""): not len(case) for case in cases}
    return {"parity": f"{sum(equal.values())} of {len(equal)}", "parity_cases": equal}


def overhead(quick: bool = False) -> dict[str, Any]:
    """`embeds_overhead`: the share that a step takes longer with vectors among its positions."""
    import torch
    from _shared import interleaved, machine

    from unified.models.grafting.connector_table import make_connector
    from unified.training.embedded_batch import EmbeddedGroup, Vectorizer

    torch.set_num_threads(1)
    batch, length, vectors, width = 4, 256, 36, 384
    hf = _llm(4_096, width, 2 if quick else 8).train()
    connector = make_connector("mlp", 192, width)

    class _Parts:
        """What `Vectorizer` asks an embedder for; features are stored, so no encoder runs."""

        def __init__(self) -> None:
            self.connector, self.encoder = connector, None

    vectorizer = Vectorizer({"image": _Parts()})  # type: ignore[dict-item]
    weights = [*hf.parameters(), *connector.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=1e-5, foreach=True)
    ids = torch.randint(0, 4_096, (batch, length))
    starts = torch.arange(2, batch * length, 64)
    at = starts[:, None] + torch.arange(vectors)
    features = torch.randn(len(starts), 6, 6, 192).half()
    group = EmbeddedGroup("image", features, at)
    labels = ids.clone()
    labels.view(-1)[at.flatten()] = -100

    def step(groups: tuple[EmbeddedGroup, ...]) -> None:
        embedded = hf.get_input_embeddings()(ids)
        if groups:
            embedded = vectorizer.put_into(embedded, groups)
        hf(inputs_embeds=embedded, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)

    repeats = 3 if quick else 15
    plain, seeing = interleaved([lambda: step(()), lambda: step((group,))], repeats)
    ratios = sorted(after / before for before, after in zip(plain, seeing))
    return {
        "embeds_overhead": round(ratios[len(ratios) // 2] - 1, 4),
        "embeds_overhead_range": [round(ratios[0] - 1, 4), round(ratios[-1] - 1, 4)],
        "step_seconds": round(sorted(plain)[repeats // 2], 3), "pairs": repeats,
        "machine": machine(1, ("torch", "transformers")),
    }  # fmt: skip


if __name__ == "__main__":
    main()
