"""`unified demo`: materials that every command takes, the same each time, whole or not at all."""

from __future__ import annotations

import errno
import json

import pytest
import torch

from unified.__main__ import run
from unified_data.demo import NUM_PICTURES
from unified_data.importers.import_shards import import_shards
from unified_data.pocket.scenes import parse_caption


def _demo(capsys, *arguments):
    code = run(["demo", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def materials(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "materials"
    assert run(["demo", str(folder)]) == 0
    return folder


def _files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_materials_are_the_same_each_time_and_small(materials, tmp_path, capsys):
    code, out, err = _demo(capsys, tmp_path / "again", "--json")
    assert code == 0, err
    assert json.loads(out) == {
        "path": str(tmp_path / "again"), "pictures": NUM_PICTURES, "sounds": 12,
    }  # fmt: skip
    files = _files(materials)
    assert _files(tmp_path / "again") == files
    assert sum(map(len, files.values())) < 4_000_000


def test_the_readme_names_what_is_there(materials):
    text = (materials / "README.md").read_text("utf-8")
    for path in materials.iterdir():
        assert path.name == "README.md" or f"`{path.name}`" in text


@pytest.mark.parametrize(
    ("kind", "source", "media", "documents"),
    [
        ("pairs", "captions.csv", "pictures", NUM_PICTURES),
        ("folder", "pictures", None, NUM_PICTURES),
        ("pairs", "speech.csv", "sounds", 12),
        ("folder", "sounds", None, 12),
        ("llava", "questions.json", "pictures", NUM_PICTURES),
        ("preferences", "preferences.jsonl", "pictures", 2 * NUM_PICTURES),
        ("obelics", "articles.jsonl", "articles", 12),
    ],
)
def test_an_importer_takes_all_of_it(materials, tmp_path, kind, source, media, documents):
    images = None if media is None else materials / media
    report = import_shards(kind, materials / source, tmp_path / "shards", images)
    assert (report["samples"], report["skipped"]) == (documents, 0)
    assert "ignored" not in report


def test_a_caption_says_what_its_picture_shows(materials):
    from unified_base.images import load_image
    from unified_data.pocket.scenes import render

    for path in sorted((materials / "pictures").glob("*.png")):
        scene = parse_caption(path.with_suffix(".txt").read_text("utf-8"))
        assert scene is not None
        assert (load_image(path) == render(scene)).all()


def test_the_language_model_is_one_of_transformers(materials):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(materials / "tiny-llm")
    text = AutoTokenizer.from_pretrained(materials / "tiny-llm")
    assert model.config.model_type == "llama"
    assert model.get_input_embeddings().weight.shape == (2048, 64)
    assert len(text) == 2002
    turns = [{"role": "user", "content": "The giant panda"}]
    ids = text.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
    assert text.decode(ids) == (
        "<|im_start|>user\nThe giant panda<|im_end|>\n<|im_start|>assistant\n"
    )
    assert len(text.encode("The giant panda eats bamboo.")) <= 12  # of 29 characters
    assert model(input_ids=torch.tensor([ids])).logits.isfinite().all()


def test_the_configurations_are_all_there(materials):
    from unified.cli.demo import configs_folder

    assert _files(materials / "configs") == _files(configs_folder())
    assert (materials / "configs" / "demo" / "pretrain.yaml").is_file()


def test_a_folder_with_something_in_it_is_refused(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    code, out, err = _demo(capsys, tmp_path)
    assert (code, out) == (2, "")
    assert "there is something already" in err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_disk_that_fills_leaves_nothing(tmp_path, capsys, monkeypatch):
    def fill(folder):
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "model.safetensors"))

    monkeypatch.setattr("unified.cli.demo_llm.write_tiny_llm", fill)
    code, out, err = _demo(capsys, tmp_path / "demo")
    assert (code, out) == (2, "")
    assert "disk" in err or "space" in err
    assert list(tmp_path.iterdir()) == []
