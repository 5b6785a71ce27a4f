"""A language model extended to media, and decoders of given settings."""

import pytest
import torch
from small_model import DECODER, TEXT, media
from transformers import GPT2Config, GPT2LMHeadModel, Qwen3Config, Qwen3ForCausalLM

from unified import Sampling, SpanSampling, TextTokenizer, UnifiedModel
from unified_data.document import Audio, Document, Image, Slot, Text

WARM = SpanSampling(1.0)


def language_model(kind: str):
    """A small LLM with more rows than its tokenizer has ids, as many have."""
    torch.manual_seed(2)
    rows = TEXT.size + 5
    if kind == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(vocab_size=rows, n_positions=90, n_embd=12, n_layer=1, n_head=2)
        ).eval()
    tied = {**DECODER, "tie_word_embeddings": kind == "tied", "vocab_size": rows}
    return Qwen3ForCausalLM(Qwen3Config(**tied)).eval()


@pytest.mark.parametrize("kind", ["tied", "untied", "gpt2"])
def test_extension_leaves_old_rows_and_text_logits_unchanged(kind, tmp_path):
    hf = language_model(kind)
    ids = torch.randint(TEXT.size, (2, 17))
    before = hf(ids).logits.detach()
    rows = hf.get_input_embeddings().weight.detach().clone()
    hf.save_pretrained(tmp_path)
    TEXT.save(tmp_path)

    model = UnifiedModel.extend(tmp_path, **media(), max_grid=9)
    table = model.hf.get_input_embeddings().weight
    assert model.vocabulary.text_size == TEXT.size
    assert model.vocabulary.text_rows == len(rows) == model.vocabulary.block("markers").start
    assert len(table) == model.vocabulary.size
    assert torch.equal(table[: len(rows)], rows)
    after = model.hf(ids).logits[..., : len(rows)]
    torch.testing.assert_close(after, before, rtol=0, atol=1e-6)
    assert (model.hf.get_output_embeddings().weight is table) == (kind != "untied")
    new = table[len(rows) :].detach()
    assert torch.isfinite(new).all()
    assert len(new.unique(dim=0)) == len(new)

    sampling = Sampling(WARM, WARM, WARM, max_ids=60)
    (document,) = model.generate(Document((Slot("any", num_images=1),)), sampling=sampling)
    assert sum(isinstance(s, Image) for s in document) == 1
    model.save_pretrained(tmp_path / "extended")
    loaded = UnifiedModel.from_pretrained(tmp_path / "extended")
    slot = Document((Text("a"), Slot("audio")))
    assert isinstance(loaded.generate(slot, sampling=sampling)[0].segments[1], Audio)


def test_extension_takes_a_loaded_model_and_its_tokenizer():
    hf = language_model("tied")
    with pytest.raises(ValueError, match="give text_tokenizer"):
        UnifiedModel.extend(hf, **media())
    larger = TextTokenizer.train(["many other words " * 3, "and more of them, and more"], 290)
    with pytest.raises(ValueError, match="belongs to another model"):
        UnifiedModel.extend(hf, text_tokenizer=larger, **media())
    assert UnifiedModel.extend(hf, text_tokenizer=TEXT, **media()).hf is hf


def test_unknown_decoder_settings_are_refused():
    with pytest.raises(ValueError, match="hiden_size; leave it out"):
        UnifiedModel.create({"hiden_size": 8}, text_tokenizer=TEXT, **media())
    with pytest.raises(ValueError, match="vocab_size, which follows"):
        UnifiedModel.create({"vocab_size": 8}, text_tokenizer=TEXT, **media())
    for changes, message in (
        ({"layer_types": ["full_attention"]}, "does not hold together"),
        ({"num_hidden_layers": "two"}, "num_hidden_layers is 'two', expected a whole number"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000, expected at most 8,192"),
        ({"hidden_size": 10**12}, "hidden_size is 1000000000000, expected at most"),
        ({"hidden_size": 2**31 - 1, "intermediate_size": 2**31 - 1}, "cannot be made"),
    ):
        with pytest.raises(ValueError, match=message):
            UnifiedModel.create({**DECODER, **changes}, text_tokenizer=TEXT, **media())
