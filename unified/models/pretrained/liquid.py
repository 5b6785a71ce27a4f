"""Liquid (arXiv:2412.04332): Gemma with 8,192 rows for Chameleon's codes behind its own.

Source: `evaluation/inference_t2i.py`, `inference_i2t.py` and `T2I_Eval/genaibench_generation.py` of
github.com/FoundationVision/Liquid: " Generate an image based on this description." behind the
prompt, `<unconditional>` alone in the other branch, guidance 7, temperature 0.99, top-k 4096, top-p
0.96; questions in Gemma's turns, the picture before them. It comes without its codec.
"""

from __future__ import annotations

from unified.engine.request import Sampling
from unified.engine.sampler import Guidance, SpanSampling
from unified.models.pretrained.base import BEHIND, Pretrained
from unified.models.pretrained.chameleon import DECODER

_CODES = 8192

PRETRAINED = Pretrained(
    name="liquid",
    source="github.com/FoundationVision/Liquid: evaluation/inference_t2i.py, inference_i2t.py",
    checkpoints=("Junfeng5/Liquid_V1_7B",),
    model_type="gemma",
    needs=("<boi>", "<eoi>", "<unconditional>"),
    markers={
        name: name for name in ("<pad>", "<bos>", "<eos>", "<boi>", "<eoi>", "<unconditional>")
    },
    codes={"image.0": BEHIND},
    sizes=lambda checkpoint: {"image.0": _CODES},
    rows_behind=True,
    codecs={"image": DECODER},
    sampling=Sampling(image=SpanSampling(0.99, top_k=4096, top_p=0.96, guidance=Guidance(7.0))),
)
