"""Every system of configs/systems, at toy size from its file: made, trained, opened, asked."""

import re

import pytest
import torch

from tests.helpers.toy_systems import SYSTEMS, Toys, commands
from unified.__main__ import run

FILES = sorted(SYSTEMS.glob("*.yaml"))


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    return Toys(tmp_path_factory.mktemp("toys"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_system_is_made_trained_opened_and_asked(path, toys, tmp_path, capsys):
    threads = torch.get_num_threads()
    steps = commands(path)
    verb = steps[-1]
    try:
        for command in steps:
            if command[0] == "extend":
                assert run(toys.extended(command, tmp_path / "start")) == 0, capsys.readouterr().err
        assert run(["train", str(toys.run_file(path, tmp_path))]) == 0, capsys.readouterr().err
    finally:
        torch.set_num_threads(threads)
    capsys.readouterr()
    assert run(toys.verb(verb, tmp_path / "run/model", tmp_path)) == 0, capsys.readouterr().err
    assert capsys.readouterr().out.startswith("{")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_recipe_names_its_paper_and_its_own_folders(path):
    first, second, *_ = path.read_text("utf-8").split("\n")
    assert re.match(r"# \S.* \((arXiv:\d{4}\.\d{5}|https://\S+)\).*: .+\.$", first)
    assert re.match(r"# Not here: .+", second)
    outputs = [word for words in commands(path) for word in words if word.startswith("runs/")]
    assert all(word.split("/")[2].startswith(path.stem) for word in outputs)
