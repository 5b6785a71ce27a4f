"""The commands about formats."""

import json

import pytest

from unified.formats.load import shipped_formats


def test_the_list_holds_every_shipped_format(unified):
    code, out, _ = unified("grammar", "list", on=None)
    assert (code, tuple(out.split())) == (0, shipped_formats())


@pytest.mark.parametrize("name", shipped_formats())
def test_a_format_is_shown_on_one_page(unified, name):
    code, out, err = unified("grammar", "show", name, on=None)
    assert code == 0, err
    assert out.startswith(f"{name}: ")
    assert len(out.splitlines()) < 32
    assert max(map(len, out.splitlines())) <= 120


def test_what_a_page_says_of_emu3(unified):
    _, out, _ = unified("grammar", "show", "emu3", on=None)
    assert '<boi> h:digits "*" w:digits <img> (image{w} <line>){h} <frame> <eoi>' in out
    assert "w of image: decimal digits, at most 3" in out


def test_positions_are_drawn_as_columns(unified):
    _, out, _ = unified("grammar", "show", "moshi", on=None)
    rows = [line.split() for line in out.splitlines() if line.startswith(("text ", "speaker "))]
    assert rows[1:4] == [
        ["text", "<text>", "[0]", "[1]", "[2]", "<text>"],
        ["speaker", "0", "<speaker.0>", "[0]", "[1]", "[2]", "<speaker.0>"],
        ["speaker", "1", "<speaker.1>", "<speaker.1>", "[0]", "[1]", "[2]"],
    ]
    _, out, _ = unified("grammar", "show", "csm", on=None)
    assert out.splitlines()[-3] == "level 0  <eos>  [0]  [1]  [2]  0  <bos>"
    _, out, _ = unified("grammar", "show", "pocket", on=None)
    assert "column" not in out


def test_a_long_text_of_a_format_is_cut_short_on_its_page(unified):
    _, out, _ = unified("grammar", "show", "apertus", on=None)
    assert '<system> "You are Apertus 1.5 Omni, a..." </system>' in out
    assert '<developer> "Deliberation: disabled\\nToo..." </developer>' in " ".join(out.split())


def test_ids_are_checked_with_position_and_reason(unified, refused, cli_model, tmp_path):
    from unified.formats.grammar import Grammar
    from unified.models.files import load_model

    sequencer, *_ = load_model(cli_model)
    grammar: Grammar = sequencer.grammar
    say = grammar.vocabulary.marker
    good = [say("<bos>"), 5, say("<text>"), 7, say("<eos>")]
    (tmp_path / "good.json").write_text(json.dumps(good))
    command = ("grammar", "check", "pocket", tmp_path / "good.json", "--model", cli_model)
    code, out, err = unified(*command, "--json", on=None)
    assert code == 0, err
    assert json.loads(out) == {"valid": True, "ids": 5, "segments": {"text": 2}}
    (tmp_path / "bad.json").write_text(json.dumps(good[:2] + good[3:4] + [say("<text>")] * 2))
    command = ("grammar", "check", "pocket", tmp_path / "bad.json", "--model", cli_model)
    refused(unified(*command, on=None), "position 4: expected text (ids 0..279), found <text>")
    refused(
        unified("grammar", "check", "emu3", tmp_path / "good.json", "--model", cli_model, on=None),
        "format emu3 does not fit the vocabulary of model",
    )
    code, _, err = unified("grammar", "export", "emu3", on=None)
    assert code == 2
    assert err.endswith("; --model names a model whose ids it lays out\n")
    refused(unified("grammar", "show", "emu4", on=None), "no format 'emu4'; shipped formats: anole")


def test_a_grammar_is_written_for_other_engines(unified, refused, cli_model, tmp_path):
    target = tmp_path / "pocket.lark"
    command = ("grammar", "export", "pocket", "--model", cli_model, "--max-side", 3)
    code, _, err = unified(*command, "-o", target, on=None)
    assert code == 0, err
    assert "wrote" in err
    assert target.read_text().splitlines()[1].startswith("start: <[")
    assert unified(*command, on=None)[1] == target.read_text()
    refused(unified(*command, "--to", "gbnf", on=None), "no export to 'gbnf', expected llguidance")
