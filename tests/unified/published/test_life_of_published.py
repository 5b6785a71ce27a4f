"""Published models are moved, trained, saved and reopened; transformers loads what was saved."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from unified import Sampling, SpanSampling, UnifiedModel
from unified.dataloading import Source
from unified.training.config import Lora, OptimizerConfig, TrainConfig
from unified.training.train import train
from unified_base.training.settings import ScheduleConfig
from unified_data.document import Document, Image, Slot, Text
from unified_data.shards import ShardWriter

KINDS = ["emu3", "chameleon", "janus", "janus-pro", "liquid", "orpheus", "apertus"]
CODEC = ("vqmodel", "vision_tokenizer", "audio_tokenizer", "vision_model", "model.aligner")


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def lesson(kind, seed):
    """A document to learn from, as the model is asked."""
    words = Text(f"a fox {seed}", loss=0.0)
    if kind == "emu3":
        return Document((words, Image(picture(6, 8, seed))))
    if kind == "chameleon":
        prompt = Text(f"a fox {seed}", "prompt", 0.0)
        return Document((prompt, Image(picture(64, 64, seed), "response")))
    if kind == "janus":
        return Document((words, Image(picture(48, 48, seed))))
    if kind == "janus-pro":
        prompt = Text(f": a fox {seed}\n\n", "prompt", 0.0)
        return Document((prompt, Image(picture(48, 48, seed), "response")))
    if kind == "apertus":
        seen = Image(picture(8, 6, seed), "prompt", 0.0)
        prompt = Text("Describe this image.", "prompt", 0.0)
        return Document((seen, prompt, Text(f"a fox {seed}", "response")))
    if kind == "orpheus":
        return Document((Text("tara: hello", "prompt", 0.0), Text(f"fox {seed}", "response")))
    return Document((Text(f"a fox {seed} and an owl"),))


def trained(kind, checkpoint, folder, what):
    with ShardWriter(folder / "shards", "train", "lesson") as writer:
        for number in range(4):
            writer.write(f"d{number}", lesson(kind, number))
    config = TrainConfig(
        output=str(folder / "run"),
        sources={"lesson": Source(str(folder / "shards" / "*.tar"))},
        init_from=str(checkpoint.folder),
        train=what,
        lora=Lora(rank=2, alpha=4.0),
        steps=2,
        seq_len={"chameleon": 1100, "janus": 640, "janus-pro": 640, "apertus": 400}.get(kind, 256),
        global_batch_size=1,
        micro_batch_size=1,
        streams=1,
        optimizer=OptimizerConfig(lr=0.01),
        schedule=ScheduleConfig(warmup_steps=1),
        threads=1,
        save_dtype="float32",
    )
    return train(config)


def shaped(name):
    return any(part in name for part in CODEC)


def check_published(kind, checkpoint, folder):
    """transformers' own class loads the folder, and computes what our model computes."""
    before, after = (load_file(path / "model.safetensors") for path in (checkpoint.folder, folder))
    assert set(before) == set(after)
    for name in filter(shaped, before):
        assert torch.equal(before[name].float(), after[name].float()), name
    hf, report = type(checkpoint.hf).from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    model = UnifiedModel.from_pretrained(folder)
    ids = torch.tensor([[3, 7, 11, 20]])
    with torch.no_grad():
        expected = hf.eval()(input_ids=ids).logits
        assert torch.equal(model.hf.eval()(input_ids=ids).logits, expected)
    decoder = model.decoder()
    cache = decoder.new_cache(1, 8)
    states = decoder.forward(cache, [0], [ids[0].tolist()])
    logits = decoder.logits(states, ((0, 200),))
    assert np.allclose(logits, expected[0, :, :200].numpy(), atol=2e-4)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_a_published_model_saves_in_its_own_layout(kind, checkpoints, tmp_path):
    model = UnifiedModel.from_pretrained(checkpoints[kind].folder)
    model.save_pretrained(tmp_path / "saved")
    again = check_published(kind, checkpoints[kind], tmp_path / "saved")
    assert again.vocabulary.hash == model.vocabulary.hash
    assert again.sampling == model.sampling
    assert again.tasks == model.tasks
    assert again.published.pretrained is model.published.pretrained
    # Reopened by its files alone, as any checkpoint of this kind is.
    (tmp_path / "saved" / "unified.json").unlink()
    plain = UnifiedModel.from_pretrained(tmp_path / "saved")
    assert plain.vocabulary.hash == model.vocabulary.hash


# Whole and by LoRA one each of the two ways that codes are written; the others take seconds each.
TRAINED = (("orpheus", "full"), ("orpheus", "lora"), ("chameleon", "full"), ("chameleon", "lora"))


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        pytest.param(kind, what, marks=[] if (kind, what) in TRAINED else [pytest.mark.slow])
        for kind in KINDS
        for what in ("full", "lora")
    ],
)
def test_a_published_model_trains_and_reopens(kind, what, checkpoints, tmp_path):
    folder = trained(kind, checkpoints[kind], tmp_path, what)
    before = load_file(checkpoints[kind].folder / "model.safetensors")
    after = load_file(folder / "model.safetensors")
    changed = [name for name in before if not torch.equal(before[name], after[name].float())]
    assert any("q_proj" in name for name in changed)
    assert not any(map(shaped, changed))
    if what == "full" and kind.startswith("janus"):
        assert any("generation_head.vision_head" in name for name in changed)
        assert any("generation_embeddings" in name for name in changed)
    model = check_published(kind, checkpoints[kind], folder)
    roles = ("prompt", "response") if "response" in model.grammar.roles else (None, None)
    document = Document((Text("a fox", roles[0]), Slot("text", role=roles[1])))
    sampling = Sampling(text=SpanSampling(1.0), max_ids=300, max_text_ids=6)
    (done,) = model.generate(document, sampling=sampling)
    assert isinstance(done.segments[0], Text)


@pytest.mark.parametrize("kind", [*KINDS, "moshi", "qwen-omni"])
def test_a_published_model_goes_to_meta_and_back(kind, checkpoints):
    model = UnifiedModel.from_pretrained(checkpoints[kind].folder)
    expected = {name: value.clone() for name, value in model.hf.state_dict().items()}
    model.to("meta")
    assert {value.device.type for value in model.hf.parameters()} == {"meta"}
    with pytest.raises(ValueError, match="meta"):
        model.generate(Document((Text("a"), Slot("text"))))
    model.to("cpu")
    for name, value in model.hf.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_the_loss_of_janus_is_that_of_both_its_heads(checkpoints):
    """Codes by the generation head on embeddings through the aligner, text by the language head."""
    from unified.training.micro_batch import MicroBatch
    from unified.training.train_module import TrainModule

    hf = transformers.JanusForConditionalGeneration.from_pretrained(checkpoints["janus"].folder)
    rows = len(hf.get_input_embeddings().weight)
    ids = torch.tensor([[3, 4, rows + 2, rows + 7, rows + 1, 9]])
    codes = ids[:, 2:5] - rows
    embedded = torch.cat(
        [hf.get_input_embeddings()(ids[:, :2]),
         hf.prepare_embeddings_for_image_generation(codes),
         hf.get_input_embeddings()(ids[:, 5:])], 1
    )  # fmt: skip
    hidden = hf.model.language_model(inputs_embeds=embedded).last_hidden_state[0]
    text = torch.nn.functional.cross_entropy(hf.lm_head(hidden[:1]), ids[0, 1:2])
    head = hf.model.generation_head
    of_codes = [
        torch.nn.functional.cross_entropy(head(hidden[at - 1 : at]), ids[0, at : at + 1] - rows)
        for at in (2, 3, 4)
    ]
    module = TrainModule(hf, "eager")
    size = len(hf.model.generation_embeddings.weight)
    groups = [(((0, rows),), 1), (((rows, rows + size),), 3)]
    output = module(
        MicroBatch(
            input_ids=ids,
            position_ids=torch.arange(6)[None],
            document_spans=torch.tensor([[0, 6]], dtype=torch.int32),
            predict_from=torch.tensor([0, 1, 2, 3]),
            labels=ids[0, 1:5],
            weights=torch.ones(4),
            modality=torch.zeros(4, dtype=torch.int64),
            document=torch.zeros(4, dtype=torch.int64),
            groups=tuple(groups),
            keys=("d",),
            num_positions=6,
            num_ids=6,
        )
    )
    expected = torch.stack([text, *of_codes]).detach()
    assert torch.allclose(output.losses, expected, atol=1e-4)
    output.total.backward()
    assert hf.model.generation_head.proj_out.weight.grad.abs().sum() > 0
    assert hf.model.generation_aligner.fc1.weight.grad.abs().sum() > 0


def test_a_pretrained_model_that_is_not_known_is_named(checkpoints, tmp_path):
    model = UnifiedModel.from_pretrained(checkpoints["liquid"].folder)
    model.save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved" / "unified.json"
    manifest = json.loads(path.read_text())
    for entry in ({"name": "strange", "inside": []}, {"name": "liquid", "inside": ["image"]}, 3):
        path.write_text(json.dumps({**manifest, "pretrained": entry}))
        with pytest.raises(ValueError, match=r"pretrained is .*, expected"):
            UnifiedModel.from_pretrained(tmp_path / "saved")
    shutil.rmtree(tmp_path / "saved")
