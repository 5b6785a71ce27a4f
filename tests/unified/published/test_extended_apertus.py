"""Apertus 1.5, extended so that it can write pictures and sound, trains and opens again."""

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from unified import Sampling, SpanSampling, UnifiedModel
from unified.dataloading import Source
from unified.training.config import OptimizerConfig, TrainConfig
from unified.training.train import train
from unified_base.training.settings import ScheduleConfig
from unified_data.document import Document, Image, Slot, Text
from unified_data.shards import ShardWriter


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def extended(opened, tmp_path_factory):
    """The folder of an extended Apertus."""
    folder = tmp_path_factory.mktemp("apertus") / "extended"
    UnifiedModel.extend(opened["apertus"].directory).save_pretrained(folder)
    return folder


def lessons(folder):
    """Pictures to be written, which the published head has no rows for."""
    rng = np.random.default_rng(0)
    with ShardWriter(folder, "train", "drawings") as writer:
        for number in range(4):
            pixels = rng.integers(0, 256, (8, 6, 3)).astype(np.uint8)
            words = Text(f"draw a fox {number}", "prompt", 0.0)
            writer.write(f"d{number}", Document((words, Image(pixels, "response"))))
    return {"drawings": Source(str(folder / "*.tar"))}


@pytest.mark.parametrize("what", ["full", "new_rows"])
def test_an_extended_apertus_trains_and_reopens(what, extended, opened, tmp_path):
    config = TrainConfig(
        output=str(tmp_path / "run"), sources=lessons(tmp_path / "shards"),
        init_from=str(extended), train=what, steps=2, seq_len=400, global_batch_size=1,
        micro_batch_size=1, streams=1, optimizer=OptimizerConfig(lr=0.01),
        schedule=ScheduleConfig(warmup_steps=1), threads=1, save_dtype="float32",
    )  # fmt: skip
    folder = train(config)
    before, after = (load_file(path / "model.safetensors") for path in (extended, folder))
    assert set(before) == set(after)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert "lm_head.weight" in changed
    old = len(opened["apertus"].hf.lm_head.weight)
    if what == "new_rows":
        # The rows of codes, read and written; those of text are what they were.
        assert changed == {"lm_head.weight", "model.language_model.embed_tokens.weight"}
        assert all(torch.equal(before[name][:old], after[name][:old]) for name in changed)
    else:
        assert any("q_proj" in name for name in changed)
        assert not any("vision_tokenizer" in name or "audio_tokenizer" in name for name in changed)

    model = UnifiedModel.from_pretrained(folder)
    assert len(model.hf.lm_head.weight) == len(before["lm_head.weight"])
    assert "write" in model.tasks.able
    theirs = transformers.Apertus1p5ForConditionalGeneration.from_pretrained(folder).eval()
    ids = torch.tensor([[3, 4, 5]])
    with torch.no_grad():
        assert torch.equal(theirs(input_ids=ids).logits, model.hf.eval()(input_ids=ids).logits)
    document = Document((Text("a fox", "prompt"), Slot("text", role="response")))
    sampling = Sampling(text=SpanSampling(1.0), max_ids=400, max_text_ids=5)
    assert model.generate(document, sampling=sampling)[0].segments[-1].text
