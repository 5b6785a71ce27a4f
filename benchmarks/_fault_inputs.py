"""What the commands of `_fault_cases` read: tiny untrained models, small data."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from unified_base.images import save_png
from unified_base.sounds import save_wav

SAMPLE = Path(__file__).parents[1] / "data" / "sample"
_DECODER = {
    "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 12,
    "num_key_value_heads": 1, "intermediate_size": 32, "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}  # fmt: skip


@dataclass(frozen=True)
class Inputs:
    """Where they lie."""

    folder: Path

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def llm(self) -> Path:
        return self.folder / "llm"

    @property
    def picture(self) -> Path:
        return self.folder / "picture.png"

    @property
    def sound(self) -> Path:
        return self.folder / "sound.wav"

    @property
    def request(self) -> Path:
        return self.folder / "request.json"

    def run_file(self, name: str, output: Path) -> Path:
        """The file of a run, writing to `output`; it lies beside the inputs."""
        entries = yaml.safe_load((self.folder / f"{name}.yaml").read_text("utf-8"))
        path = self.folder / f"{name}-{output.parent.parent.name}.yaml"
        path.write_text(yaml.safe_dump({**entries, "output": str(output)}), "utf-8")
        return path


def make_inputs(folder: Path) -> Inputs:
    inputs = Inputs(folder)
    torch.manual_seed(5)
    _make_model(inputs)
    _make_llm(inputs.llm)
    rng = np.random.default_rng(1)
    save_png(inputs.picture, rng.integers(0, 256, (96, 96, 3), np.uint8))
    save_wav(inputs.sound, rng.uniform(-0.5, 0.5, (1, 8000)).astype(np.float32), 16_000)
    slots = [
        {"type": "text", "text": "draw two cats"},
        {"type": "slot", "modality": "image"},
        {"type": "slot", "modality": "image"},
    ]
    inputs.request.write_text(json.dumps({"segments": slots}), "utf-8")
    (folder / "pictures").mkdir()
    for number in range(3):
        save_png(folder / "pictures" / f"{number}.png", rng.integers(0, 256, (96, 96, 3), np.uint8))
        (folder / "pictures" / f"{number}.txt").write_text(f"picture {number}", "utf-8")
    for name, entries in _runs(inputs).items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(entries), "utf-8")
    return inputs


def _make_model(inputs: Inputs) -> None:
    from unified.engine.request import Sampling
    from unified.models.model import UnifiedModel
    from unified.pocket.known_subjects import KnownSubjects
    from unified.vocabulary.text_tokenizer import TextTokenizer
    from unified_data.pocket.subjects import load_subjects
    from unified_tokenizers.audio import AudioTokenizerConfig, VQAudioTokenizer
    from unified_tokenizers.image import ImageTokenizerConfig, VQImageTokenizer
    from unified_tokenizers.quantizers import QuantizerConfig

    image = ImageTokenizerConfig(
        stride=32, quantizer=QuantizerConfig(levels=(3, 3)), encoder_width=8, decoder_width=16,
        encoder_depths=(1,), decoder_depths=(1, 1, 1),
    )  # fmt: skip
    audio = AudioTokenizerConfig(
        quantizer=QuantizerConfig(levels=(3, 3), depth=2), num_mels=16, encoder_width=8,
        encoder_depth=1, decoder_width=16, decoder_depths=(1, 1),
    )  # fmt: skip
    model = UnifiedModel.create(
        _DECODER,
        text_tokenizer=TextTokenizer.train([s.lead for s in load_subjects()[:9]], 280),
        image_tokenizer=VQImageTokenizer(image).eval(),
        audio_tokenizer=VQAudioTokenizer(audio).eval(),
    )
    model.sampling = Sampling(max_ids=260, max_audio_frames=20)
    model.save_pretrained(inputs.model)
    KnownSubjects.of(load_subjects()).save(inputs.model)
    # Another of the same vocabulary, whose weights a second save must not be mixed with.
    for parameter in model.hf.parameters():
        parameter.data = parameter.data + 1
    model.save_pretrained(inputs.folder / "other")


def _make_llm(folder: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    from unified.vocabulary.text_tokenizer import TextTokenizer

    text = TextTokenizer.train(["a cat and a dog"] * 3, 270)
    text.save(folder)
    shape = LlamaConfig(
        vocab_size=text.size + 6, hidden_size=20, intermediate_size=28, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=200,
    )  # fmt: skip
    LlamaForCausalLM(shape).bfloat16().save_pretrained(folder)


def _runs(inputs: Inputs) -> dict[str, dict[str, Any]]:
    shutil.copytree(SAMPLE, inputs.folder / "sample")
    sample = inputs.folder / "sample"
    train = {
        "init_from": str(inputs.model),
        "sources": {"draw": {"shards": f"{sample}/heldout-draw-*.tar"}},
        "steps": 4,
        "seq_len": 400,
        "global_batch_size": 2,
        "micro_batch_size": 2,
        "streams": 2,
        "schedule": {"warmup_steps": 1},
        "optimizer": {"lr": 0.01},
        "log_every": 1,
        "save_every": 2,
        "keep_checkpoints": 1,
        "threads": 1,
        "save_dtype": "float32",
        "world": "pocket",
    }
    tokenizer = {
        "modality": "image",
        "data": [str(inputs.folder / "pictures")],
        "validation": [str(inputs.folder / "pictures")],
        "crop": 32,
        "steps": 4,
        "batch_size": 2,
        "optimizer": {"lr": 0.01},
        "schedule": {"warmup_steps": 1},
        "save_every": 2,
        "log_every": 1,
        "threads": 1,
        "save_dtype": "float32",
        "tokenizer": {
            "stride": 4,
            "quantizer": {"levels": [4, 3, 3]},
            "encoder_width": 8,
            "decoder_width": 16,
            "encoder_depths": [1],
            "decoder_depths": [1, 0, 0],
        },
    }
    return {"train": train, "tokenizer": tokenizer}
