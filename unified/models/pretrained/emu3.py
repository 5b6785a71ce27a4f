"""Emu3-Gen and Emu3-Chat (arXiv:2409.18869), as transformers has them.

Source: the model cards of BAAI/Emu3-Gen and BAAI/Emu3-Chat, `emu3/mllm/processing_emu3.py` of
github.com/baaivision/Emu3, and transformers' Emu3Processor: quality words behind the prompt, a
negative prompt in its place for guidance, guidance 3.0 and top-k 2048; sizes of 518,400 pixels in
the proportion asked for; and "You are a helpful assistant. USER: PICTURE QUESTION. ASSISTANT:".
"""

from __future__ import annotations

from unified.engine.request import Sampling
from unified.engine.sampler import Guidance, SpanSampling
from unified.models.pretrained.base import Pretrained, named

PRETRAINED = Pretrained(
    name="emu3",
    source="huggingface.co/BAAI/Emu3-Gen, huggingface.co/BAAI/Emu3-Chat",
    checkpoints=("BAAI/Emu3-Gen-hf", "BAAI/Emu3-Chat-hf"),
    model_type="emu3",
    hf_class="Emu3ForConditionalGeneration",
    decoder="llama",
    markers={
        "<pad>": "@pad_token_id",
        "<bos>": "@bos_token_id",
        "<eos>": "@eos_token_id",
        "<boi>": "<|image start|>",
        "<img>": "<|image token|>",
        "<line>": "<|extra_200|>",
        "<frame>": "<|extra_201|>",
        "<eoi>": "<|image end|>",
    },
    codes={"image.0": named(lambda code: f"<|visual token {code:06d}|>")},
    inside=("image",),
    frozen=("vqmodel",),
    sampling=Sampling(image=SpanSampling(1.0, top_k=2048, guidance=Guidance(3.0)), max_ids=9216),
)
