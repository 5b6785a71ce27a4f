"""Published models that draw and see: what they see is what transformers' own forward reads."""

import numpy as np
import pytest
import torch
import transformers
from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil

from tokenizers import Tokenizer


def hf_ids(checkpoint, text):
    """transformers' ids of a text whose special tokens are theirs."""
    tokenizer = Tokenizer.from_file(str(checkpoint.folder / "tokenizer.json"))
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    return fast(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("kind", ["janus", "janus-pro"])
def test_janus_sees_as_transformers_does(kind, checkpoints, opened):
    """The prompt of the chat template with the vectors of transformers' own forward, greedily."""
    model, checkpoint = opened[kind], checkpoints[kind]
    hf, tokens = checkpoint.hf, checkpoint.text.tokens
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    processor = JanusImageProcessorPil(size={"height": 96, "width": 96})
    values = processor(pixels, return_tensors="pt")["pixel_values"]
    turns = ("<|User|>: ", "\nWhat is it?\n\n<|Assistant|>:") if kind == "janus-pro" else (
        "User: ", "\nWhat is it?\n\nAssistant:"
    )  # fmt: skip
    before, after = (hf_ids(checkpoint, words) for words in turns)
    placeholder, bos = tokens["<image_placeholder>"], model.vocabulary.marker("<bos>")
    hf.config.image_token_id = placeholder
    begin, end = tokens["<begin_of_image>"], tokens["<end_of_image>"]
    ids = torch.tensor([[bos, *before, begin, *[placeholder] * 576, end, *after]])
    text = [id for start, stop in model.vocabulary.text_ranges for id in range(start, stop)]
    own = []
    with torch.no_grad():
        for _ in range(3):
            logits = hf(input_ids=ids, pixel_values=values).logits[0, -1]
            ends = [model.vocabulary.marker("<eos>")] * bool(own)
            own.append(max([*text, *ends], key=lambda id: float(logits[id])))
            ids = torch.cat([ids, torch.tensor([[own[-1]]])], 1)
    written = [id for id in own if id in set(text)]
    choices = {"temperature": 0, "max_text_ids": 3}
    assert model.ask(pixels, "What is it?", **choices) == model.text_tokenizer.decode(written)
