"""Every system of configs/systems, at toy size from its file: made, trained, opened, asked."""

import re

import pytest
import torch

from tests.helpers.toy_systems import SYSTEMS, Toys, commands, introduction
from unified.__main__ import run
from unified.formats.chat_format import chat_format
from unified.models import extend

FILES = sorted(SYSTEMS.glob("*.yaml"))
MADE = ("model", "tower", "space", "tokenizer")
RECIPE = r"\S.* \(([^()]+, )?(arXiv:\d{4}\.\d{5}|https://\S+)\).*: .+\. Not here: .+\.$"


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    return Toys(tmp_path_factory.mktemp("toys"))


@pytest.fixture(scope="module")
def layouts():
    return {}


@pytest.fixture(autouse=True)
def _one_template(monkeypatch, layouts):
    """The toy's chat template is rendered once, in its other process, and not for every system."""

    def once(text, config=None, *options):
        if options not in layouts:
            layouts[options] = chat_format(text, config, *options)
        return layouts[options]

    monkeypatch.setattr(extend, "chat_format", once)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_system_is_made_trained_opened_and_asked(path, toys, tmp_path, capsys):
    threads = torch.get_num_threads()
    steps = commands(path)
    verb = steps[-1]
    try:
        for command in steps:
            if command[0] == "extend":
                assert run(toys.extended(command, tmp_path / "start")) == 0, capsys.readouterr().err
        (train,) = [command for command in steps if command[-1] == f"configs/systems/{path.name}"]
        file = toys.run_file(path, tmp_path)
        assert run([*train[:-1], str(file)]) == 0, capsys.readouterr().err
    finally:
        torch.set_num_threads(threads)
    capsys.readouterr()
    (model,) = [folder for folder in (tmp_path / "run").iterdir() if folder.name in MADE]
    asked = run(toys.verb(verb, model, tmp_path))
    assert asked == 0, capsys.readouterr().err
    assert capsys.readouterr().out.startswith("{")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_recipe_names_its_paper_and_its_own_folders(path):
    assert re.match(RECIPE, introduction(path))
    for words in commands(path):
        own = [words[at + 1] for at, word in enumerate(words[:-1]) if word in ("-o", "--model")]
        assert all(word.startswith(f"runs/systems/{path.stem}/") for word in own if "/" in word
                   and not word.startswith("shards/"))  # fmt: skip
