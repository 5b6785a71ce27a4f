"""`unified extend`: a language model becomes a unified one that plain transformers loads."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from unified import SpanSampling, UnifiedModel
from unified.__main__ import run
from unified.tasks.asking import Inputs, Turn
from unified.tasks.size_rule import SizeRule
from unified.tasks.task_file import read_tasks
from unified_data.document import Audio, Box, Document, Image, Text


@pytest.fixture(scope="module")
def llm(cli_llm):
    return cli_llm


@pytest.fixture
def extend(llm, cli_model, capsys):
    """Run the command: (exit code, stdout, stderr)."""

    def call(*arguments, on=llm):
        code = run(["extend", str(on), *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_a_language_model_gets_the_tokenizers_of_a_model(extend, cli_model, tmp_path):
    output = tmp_path / "unified"
    code, out, err = extend("--image", cli_model, "--audio", cli_model, "--max-grid", 7,
                            "-o", output, "--json")  # fmt: skip
    assert code == 0, err
    report = json.loads(out)
    model = UnifiedModel.from_pretrained(output)
    text_ids = model.vocabulary.text_size
    assert report == {
        "path": str(output), "model_type": "llama", "format": "pocket", "dtype": "bfloat16",
        "codes": None,
        "text_ids": text_ids, "text_rows": text_ids + 6, "new_rows": 10 + 7 + 9 + 9 + 9,
        "vocabulary": model.vocabulary.hash,
    }  # fmt: skip
    assert f"llama in bfloat16: {text_ids} text ids in {text_ids + 6} rows, and 44 new rows" in err
    plain = AutoModelForCausalLM.from_pretrained(output)
    assert plain.dtype == torch.bfloat16
    assert plain.config.vocab_size == model.vocabulary.size


def test_options_reach_the_model_and_a_seed_gives_it_again(extend, cli_model, tmp_path):
    def rows(name, *more):
        code, out, err = extend("--image", cli_model, "--init", "normal", "--dtype", "float32",
                                "-o", tmp_path / name, *more)  # fmt: skip
        assert (code, out) == (0, f"{tmp_path / name}\n"), err
        model = AutoModelForCausalLM.from_pretrained(tmp_path / name)
        return model.get_input_embeddings().weight

    first = rows("a", "--seed", 3)
    assert first.dtype == torch.float32
    assert torch.equal(first, rows("b", "--seed", 3))
    assert not torch.equal(first, rows("c"))
    code, _, err = extend("--image", cli_model, "--format", "chat", "-o", tmp_path / "chat")
    assert code == 0, err
    assert UnifiedModel.from_pretrained(tmp_path / "chat").grammar.format.name == "chat"


def test_mistakes_are_told_in_one_line(extend, refused, cli_model, llm, tmp_path):
    output = ("-o", tmp_path / "new")
    occupied = tmp_path / "taken"
    occupied.mkdir()
    (occupied / "letter.txt").write_text("dear")
    refused(extend("-o", occupied), "taken exists already and is not empty; choose another folder")
    refused(extend("-o", llm), "exists already and is not empty")
    refused(extend(*output, on="no-such-model"), "no model 'no-such-model': expected")
    refused(extend(*output, "--init", "random"), "initialise is 'random', expected one of mean-")
    refused(extend(*output, "--dtype", "int4"), "dtype is 'int4', expected one of float32")
    refused(extend(*output, "--format", "emu"), "no format 'emu'")
    refused(extend(*output, "--audio", cli_model / "image_tokenizer"), "tokenizer is for image")
    assert not (tmp_path / "new").exists()


def test_a_name_on_the_hub_without_a_network_is_told_in_one_line(
    extend, refused, tmp_path, monkeypatch
):
    import huggingface_hub

    def unreachable(*_, **__):
        raise OSError("no\nway there")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    message = "the Hugging Face hub gave OSError for revision 'main': no way there"
    refused(extend("-o", tmp_path / "new", on="someone/some-llm"), message)


@pytest.mark.parametrize("format", ["pocket", "chat"])
def test_an_extended_model_says_how_it_is_asked(extend, cli_model, llm, tmp_path, format):
    output = tmp_path / format
    code, _, err = extend("--image", cli_model, "--format", format, "-o", output)
    assert code == 0, err
    tasks = read_tasks(output)
    assert tasks.able == ("write", "draw", "describe", "ask")
    assert (
        tasks.task("draw").words
        == {"pocket": "![{text}]", "chat": "Draw a picture: {text}"}[format]
    )
    assert tasks.task("draw").size == SizeRule(multiple_of=32, max_side=64 * 32)
    model = UnifiedModel.from_pretrained(output)
    with pytest.raises(ValueError, match=r"cannot speak: format .* has no sound"):
        model.speak("A cat.")
    # What the folder says is what is asked: changed there, before a training, it stays changed.
    source = (output / "tasks.yaml").read_text("utf-8")
    (output / "tasks.yaml").write_text(source.replace("{text}", "{text}!"), "utf-8")
    changed = UnifiedModel.from_pretrained(output)
    assert (
        changed.request("draw", text="a cat")
        .document.segments[0]
        .text.endswith({"pocket": "![a cat!]", "chat": ": a cat!"}[format])
    )
    changed.save_pretrained(tmp_path / "again")
    assert read_tasks(tmp_path / "again") == read_tasks(output)


def test_in_chat_format_the_ids_asked_are_those_of_the_template(extend, cli_model, llm, tmp_path):
    output = tmp_path / "chat"
    assert extend("--image", cli_model, "--format", "chat", "-o", output)[0] == 0
    model = UnifiedModel.from_pretrained(output)
    prompt, slot = model.request("draw", text="a {dog}").document.segments
    ids = model.sequencer.encode_prefix([prompt], slot).ids.tolist()
    tokenizer = AutoTokenizer.from_pretrained(llm)
    turns = [{"role": "user", "content": "Draw a picture: a {dog}"},
             {"role": "assistant", "content": "@"}]  # fmt: skip
    text = tokenizer.apply_chat_template(turns, tokenize=False).partition("@")[0]
    theirs = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert [id for id in ids if id < model.vocabulary.text_size] == theirs


def test_texts_are_sampled_as_the_language_model_says(extend, cli_model, llm, tmp_path):
    from shutil import copytree

    for name, settings, expected in (
        ("warm", {"do_sample": True, "temperature": 0.6, "top_p": 0.9},
         SpanSampling(0.6, top_k=50, top_p=0.9)),
        ("greedy", {"do_sample": False, "temperature": 0.6, "repetition_penalty": 1.2},
         SpanSampling(repetition_penalty=1.2)),
        ("all", {"do_sample": True, "top_k": 0}, SpanSampling(1.0)),
    ):  # fmt: skip
        folder = copytree(llm, tmp_path / name)
        (folder / "generation_config.json").write_text(json.dumps(settings))
        output = tmp_path / f"{name}-extended"
        code, _, err = extend("--image", cli_model, "-o", output, on=folder)
        assert code == 0, err
        assert UnifiedModel.from_pretrained(output).sampling.text == expected


@pytest.mark.parametrize("format", ["pocket", "chat"])
def test_what_is_asked_is_what_is_trained_on_id_for_id(extend, cli_model, tmp_path, format):
    output = tmp_path / format
    code, _, err = extend(
        "--image", cli_model, "--audio", cli_model, "--format", format, "-o", output
    )
    assert code == 0, err
    model = UnifiedModel.from_pretrained(output)
    picture = Image(np.full((32, 64, 3), 9, np.uint8))
    sound = Audio(np.zeros((1, 3_200), np.float32), model.audio_tokenizer.sample_rate)
    pairs = {
        "write": (Inputs(text="Cats", images=1), [Text("# Cats"), picture]),
        "draw": (Inputs(text="a cat"), picture),
        "describe": (Inputs(image=picture), "a cat"),
        "ask": (Inputs(image=picture, question="Who?", turns=(Turn("A dog?", "No."),)), "A cat."),
        "speak": (Inputs(text="It is.", voice="ben"), sound),
        "listen": (Inputs(audio=sound), "It is."),
    }
    for verb, (inputs, answer) in pairs.items():
        asked = model.tasks.document(verb, inputs)
        *prompt, slot = asked.segments
        ids = model.sequencer.encode_prefix(prompt, slot).ids
        trained = model.sequencer.encode(model.tasks.document(verb, inputs, answer))
        assert trained.ids[: len(ids)].tolist() == ids.tolist(), verb
        last = len(ids) if verb != "ask" else 0  # the answer of an earlier turn is learnt, too
        assert not trained.loss[:last].any(), verb
        assert trained.loss[len(ids) :].any(), verb


@pytest.mark.parametrize(("format", "name"), [("pocket", "grounded"), ("chat", "chat")])
def test_an_extended_model_may_have_places(extend, cli_model, tmp_path, format, name):
    output = tmp_path / format
    code, _, err = extend(
        "--image", cli_model, "--format", format, "--boxes", "16", "-o", output
    )  # fmt: skip
    assert code == 0, err
    model = UnifiedModel.from_pretrained(output)
    assert model.grammar.format.name == name
    assert set(model.grammar.format.spans) == {"image", "box", "point"}
    assert model.sequencer.tokenizers["box"].bins == 16
    assert model.tasks.able == ("write", "draw", "describe", "ask", "ground")
    box = Box(0, 0, 8, 4, 16, 16, "response")
    ids = model.sequencer.encode(Document((Text("a fox", "prompt"), box))).ids
    assert model.sequencer.decode(ids).segments[1] == box
