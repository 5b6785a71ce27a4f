"""An encoder and a connector before a language model: made, asked, trained, saved, opened again."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.grafted import (
    clip_folder,
    grafted,
    picture,
    picture_shards,
    text_tokenizer,
    tiny_llm,
)
from unified.__main__ import run
from unified.dataloading import Source
from unified.models.grafting.graft import Graft
from unified.models.model import UnifiedModel
from unified.training.config import OptimizerConfig, TrainConfig
from unified.training.train import train
from unified_base.training import loop
from unified_base.training.settings import ScheduleConfig

GREEDY = {"temperature": 0.0, "max_text_ids": 10}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A CLIP, a model that sees through it, and shards of pictures."""
    folder = tmp_path_factory.mktemp("grafted")
    clip_folder(folder / "clip")
    grafted(folder / "clip").save_pretrained(folder / "model")
    picture_shards(folder / "shards")
    return folder


def by_hand(model, pixels, number):
    """The ids of a greedy description, by transformers' own forward over embeddings."""
    from transformers import CLIPVisionModel

    hf, grammar, folder = model.hf.eval(), model.grammar, model.directory
    clip = CLIPVisionModel.from_pretrained(folder / "image_encoder").eval()
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil.from_pretrained(folder / "image_encoder")
    values = processor(pixels, return_tensors="pt")["pixel_values"]
    connector = model.embedders["image"].connector
    table = hf.get_input_embeddings()
    id_of = model.vocabulary.marker
    with torch.no_grad():
        features = clip(values, output_hidden_states=True).hidden_states[-2][:, 1:]
        vectors = connector.linear_2(torch.nn.functional.gelu(connector.linear_1(features)))
        before = torch.tensor([[id_of("<bos>"), id_of("<prompt>"), id_of("<image>")]])
        after = torch.tensor([[id_of("</image>"), id_of("<response>")]])
        embedded = torch.cat([table(before), vectors, table(after)], 1)
        ids, text = [], model.vocabulary.text_size
        for _ in range(number):
            logits = hf(inputs_embeds=embedded).logits[0, -1]
            best = int(logits[:text].argmax())
            end = id_of("<eos>")
            if ids and logits[end] > logits[best]:
                break
            ids.append(best)
            embedded = torch.cat([embedded, table(torch.tensor([[best]]))], 1)
    assert grammar.format.name == "pocket"
    return ids


@pytest.mark.parametrize("backend", ["transformers", "torch_static", "cpu"])
def test_a_description_is_that_of_a_forward_over_embeddings(folder, backend):
    model = UnifiedModel.from_pretrained(folder / "model", backend=backend)
    text = model.describe(picture(), **GREEDY)
    assert text == model.text_tokenizer.decode(by_hand(model, picture(), 10))
    assert text != model.describe(picture(7), **GREEDY)


def run_config(folder, output, **changes):
    source = Source(str(folder / "shards"))
    config = TrainConfig(
        output=str(output), init_from=str(folder / "model"), sources={"pairs": source},
        steps=2, seq_len=64, global_batch_size=2, micro_batch_size=2, streams=2,
        optimizer=OptimizerConfig(lr=0.02), schedule=ScheduleConfig(warmup_steps=1),
        precision="float32", threads=1, log_every=1, save_dtype="float32", device="cpu",
    )  # fmt: skip
    return replace(config, **changes)


def weights(folder):
    files = ("model.safetensors", "image_connector/model.safetensors",
             "image_encoder/model.safetensors")  # fmt: skip
    return [load_file(Path(folder) / file) for file in files]


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


def test_the_connector_alone_is_trained_and_comes_back(folder, tmp_path):
    trained = train(run_config(folder, tmp_path / "run", train="connector"))
    before, after = weights(folder / "model"), weights(trained)
    assert same(before[0], after[0])
    assert not same(before[1], after[1])
    assert same(before[2], after[2])
    model = UnifiedModel.from_pretrained(trained, backend="transformers")
    expected = by_hand(model, picture(), 10)
    assert model.describe(picture(), **GREEDY) == model.text_tokenizer.decode(expected)


def test_the_whole_is_trained_alike_on_features_stored_and_live(folder, tmp_path):
    live = weights(train(run_config(folder, tmp_path / "live")))
    stored = weights(train(run_config(folder, tmp_path / "stored", features="stored")))
    assert not same(live[0], weights(folder / "model")[0])
    for first, second in zip(live, stored):  # but for float16, in which features are stored
        assert first.keys() == second.keys()
        for name in first:
            assert torch.allclose(first[name], second[name], atol=2e-3), name


@pytest.mark.parametrize(
    ("name", "options", "backends"),
    [
        ("visual-expert", {}, ("transformers", "torch_static")),
        ("adaption-prompts", {"layers": 1}, ("transformers", "torch_static")),
        ("gated-cross-attention", {"every": 2, "heads": 3}, ("transformers", "auto")),
        ("modality-adapters", {}, ("transformers", "auto")),
    ],
)
def test_modules_in_the_layers_are_trained_and_come_back(folder, tmp_path, name, options, backends):
    text = text_tokenizer()
    model = UnifiedModel.extend(
        tiny_llm(text), text_tokenizer=text, see=Graft(folder / "clip"), layers=name,
        layer_options=options,
    )  # fmt: skip
    model.save_pretrained(tmp_path / "model")
    config = run_config(folder, tmp_path / "run", train="connector", init_from=tmp_path / "model")
    trained = train(replace(config, init_from=str(tmp_path / "model")))
    before, after = weights(tmp_path / "model"), weights(trained)
    assert same(before[0], after[0])  # the plain checkpoint is what it was
    from safetensors.torch import load_file

    old, new = (
        load_file(Path(f) / "layer_graft.safetensors") for f in (tmp_path / "model", trained)
    )
    assert not same(old, new)
    assert not same(before[1], after[1]) or name == "gated-cross-attention"  # at gates of zero
    answers = {
        UnifiedModel.from_pretrained(trained, backend=backend).describe(picture(), **GREEDY)
        for backend in backends
    }
    assert len(answers) == 1
    with pytest.raises(ValueError, match="backend cpu does not compute"):
        UnifiedModel.from_pretrained(trained, backend="cpu").describe(picture())


def test_a_run_that_was_stopped_ends_with_the_same_connector(folder, tmp_path, monkeypatch):
    config = run_config(folder, tmp_path / "whole", train="connector", save_every=1)
    whole = weights(train(config))
    save = loop.save_checkpoint

    def save_and_stop(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    stopped = replace(config, output=str(tmp_path / "stopped"))
    with monkeypatch.context() as patched:
        patched.setattr(loop, "save_checkpoint", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train(stopped)
    torch.manual_seed(999)
    resumed = weights(train(stopped, resume=True))
    assert all(same(*pair) for pair in zip(whole, resumed))


def test_training_a_connector_that_is_not_there_is_refused(folder, tmp_path):
    text = text_tokenizer()
    UnifiedModel.extend(tiny_llm(text), text_tokenizer=text).save_pretrained(tmp_path / "blind")
    config = run_config(folder, tmp_path / "run", train="connector")
    with pytest.raises(ValueError, match="reads nothing through one"):
        train(replace(config, init_from=str(tmp_path / "blind")))


def test_the_command_line_gives_eyes(folder, tmp_path, capsys):
    text = text_tokenizer()
    tiny_llm(text).save_pretrained(tmp_path / "llm")
    text.save(tmp_path / "llm")
    seeing = ["--see", str(folder / "clip"), "--connector", "mlp,shuffle=2", "-o"]
    assert run(["extend", str(tmp_path / "llm"), *seeing, str(tmp_path / "eyes"), "--json"]) == 0
    printed = " ".join(capsys.readouterr().err.split())
    assert "image is read through clip_vision_model and mlp: 2x2 vectors each" in printed
    assert UnifiedModel.from_pretrained(tmp_path / "eyes").embedders["image"].fixed_grid == (2, 2)
    for options, words in (
        (["--connector", "mlp,shuffle=2"], "give --see or --hear"),
        (["--see", str(folder / "clip"), "--connector", "mlp,shuffle"], "expected OPTION=NUMBER"),
        (["--see", str(folder / "clip"), "--connector", "cnn"], "connector is 'cnn'"),
        (["--see", str(folder / "clip"), "--connector", "mlp,shuffle=3"], "blocks of side 3"),
        (["--see", str(tmp_path / "llm")], "preprocessor_config.json"),
        (["--hear", str(folder / "clip")], "the encoder for audio is one of image"),
    ):
        assert run(["extend", str(tmp_path / "llm"), *options, "-o", str(tmp_path / "no")]) == 2
        assert words in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "no").exists()
