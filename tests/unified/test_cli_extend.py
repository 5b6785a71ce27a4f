"""`unified extend`: a language model becomes a unified one that plain transformers loads."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from unified import TextTokenizer, UnifiedModel
from unified.__main__ import run
from unified.vocabulary.text_tokenizer import COMPANIONS

CHAT = "{%- for m in messages -%}{{- '<s>' + m.role + '\n' + m.content + '</s>' -}}{%- endfor -%}"


@pytest.fixture(scope="module")
def llm(tmp_path_factory):
    from tokenizers import AddedToken

    folder = tmp_path_factory.mktemp("llm")
    backend = TextTokenizer.train(["a cat and a dog"] * 3, 270)._tokenizer
    backend.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": CHAT}
    text = TextTokenizer(backend, {COMPANIONS[0]: json.dumps(config).encode()})
    text.save(folder)
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=text.size + 6, hidden_size=20, intermediate_size=28, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=200,
    )  # fmt: skip
    LlamaForCausalLM(shape).bfloat16().save_pretrained(folder)
    return folder


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
    found = json.loads(out)
    model = UnifiedModel.from_pretrained(output)
    text_ids = model.vocabulary.text_size
    assert found == {
        "path": str(output), "model_type": "llama", "format": "pocket", "dtype": "bfloat16",
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
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "letter.txt").write_text("dear")
    refused(extend("-o", taken), "taken exists already and is not empty; choose another folder")
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
