"""Published models that see, small and random, in the layouts that transformers saves."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.helpers.grafted import WORDS
from tokenizers import AddedToken
from unified.vocabulary.text_tokenizer import TextTokenizer

LLAMA = {
    "model_type": "llama", "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
    "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 8,
}  # fmt: skip


@dataclass
class Seeing:
    folder: Path
    hf: Any
    text: TextTokenizer
    processor: Any


def special_tokenizer(*tokens: str) -> TextTokenizer:
    """A text tokenizer with special tokens."""
    backend = TextTokenizer.train([*WORDS, "USER: \nWhat is it? ASSISTANT:"], 330)._tokenizer
    backend.encode_special_tokens = False
    backend.add_special_tokens([AddedToken(name, special=True) for name in tokens])
    return TextTokenizer(backend)


def randomize(model, seed=0) -> None:
    """Weights whose output depends on every position."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                scale = 0.4 if "embed" in name else 1.5 * weight[0].numel() ** -0.5
                weight.copy_(torch.randn(weight.shape, generator=rng) * scale)


def clip_processor(side):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    size = {"height": side, "width": side}
    return CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=size)


def llava(folder) -> Seeing:
    """LLaVA-1.5: pictures of 28x28 pixels as 16 vectors."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    text = special_tokenizer("<pad>", "<s>", "</s>", "<image>")
    tokens = text.tokens
    config = LlavaConfig(
        vision_config={
            "model_type": "clip_vision_model", "hidden_size": 20, "intermediate_size": 24,
            "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 28, "patch_size": 7,
        },
        text_config={
            **LLAMA, "vocab_size": text.size + 3, "max_position_embeddings": 256,
            "bos_token_id": tokens["<s>"], "eos_token_id": tokens["</s>"],
        },
        image_token_id=tokens["<image>"], image_seq_length=16,
    )  # fmt: skip
    model = LlavaForConditionalGeneration(config).eval()
    randomize(model)
    with torch.no_grad():
        model.lm_head.weight[tokens["</s>"]] = 0.0  # or it would end at once
    model.save_pretrained(folder)
    text.save(folder)
    processor = clip_processor(28)
    processor.save_pretrained(folder)
    return Seeing(Path(folder), model, text, processor)


def llava_onevision(folder) -> Seeing:
    """LLaVA-OneVision: tiles of 28x28 pixels, at most 2x2 of them."""
    from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration
    from transformers.models.llava_onevision import image_processing_pil_llava_onevision as tiling

    text = special_tokenizer("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>")
    tokens, grids = text.tokens, [[28, 28], [28, 56], [56, 28], [56, 56]]
    config = LlavaOnevisionConfig(
        vision_config={
            "model_type": "siglip_vision_model", "hidden_size": 20, "intermediate_size": 24,
            "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28, "patch_size": 7,
            "vision_use_head": False,
        },
        text_config={
            **LLAMA, "model_type": "qwen2", "vocab_size": text.size + 3,
            "max_position_embeddings": 512, "eos_token_id": tokens["<|im_end|>"],
        },
        image_token_index=tokens["<image>"], image_grid_pinpoints=grids,
    )  # fmt: skip
    model = LlavaOnevisionForConditionalGeneration(config).eval()
    randomize(model)
    with torch.no_grad():
        model.lm_head.weight[tokens["<|im_end|>"]] = 0.0  # or it would end at once
    model.save_pretrained(folder)
    text.save(folder)
    processor = tiling.LlavaOnevisionImageProcessorPil(
        size={"height": 28, "width": 28}, image_grid_pinpoints=grids
    )
    processor.save_pretrained(folder)
    return Seeing(Path(folder), model, text, processor)
