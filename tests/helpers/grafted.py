"""A tiny language model that sees through a tiny CLIP, and shards of pictures with words."""

from pathlib import Path

import numpy as np
import torch

from unified.models.grafting.graft import Graft
from unified.models.model import UnifiedModel
from unified.vocabulary.text_tokenizer import TextTokenizer

WORDS = ["what is in this picture? a red panda eats", "Describe the picture.", "a blue cat"]
WIDTH = 24  # of the language model


def clip_folder(folder, side=28, patch=7, layers=3) -> Path:
    """A CLIP vision model with random weights, as transformers saves it."""
    from transformers import CLIPVisionConfig, CLIPVisionModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    torch.manual_seed(1)
    config = CLIPVisionConfig(
        hidden_size=20, intermediate_size=24, num_hidden_layers=layers, num_attention_heads=2,
        image_size=side, patch_size=patch,
    )  # fmt: skip
    CLIPVisionModel(config).save_pretrained(folder)
    size = {"height": side, "width": side}
    CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=size).save_pretrained(folder)
    return folder


def tiny_llm(text, seed=0):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=text.size, hidden_size=WIDTH, intermediate_size=40, num_hidden_layers=2,
        num_attention_heads=3, num_key_value_heads=1, head_dim=8, max_position_embeddings=256,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def text_tokenizer() -> TextTokenizer:
    return TextTokenizer.train(WORDS, 290)


def grafted(encoder, connector="mlp", **options) -> UnifiedModel:
    text = text_tokenizer()
    graft = Graft(encoder, connector, options)
    return UnifiedModel.extend(tiny_llm(text), text_tokenizer=text, see=graft)


def picture(seed=0, height=40, width=31) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def picture_shards(folder, number=5) -> Path:
    """Pictures with captions, as documents."""
    from unified_data.document import Document, Image, Text
    from unified_data.shards import ShardWriter, write_index

    with ShardWriter(folder, "train", "pairs") as writer:
        for at in range(number):
            caption = Text(WORDS[at % 3], "response", 1.0)
            writer.write(f"p{at}", Document((Image(picture(at), "prompt", 0.0), caption)))
    write_index(folder, writer.shards)
    return Path(folder)
