"""Which way does it move: small models that read videos as ids, and what a minute of video costs.

    python benchmarks/_grafting_video.py [--quick] [--arms causal,frames] [--decoder-steps 900]

The world of motion (48x48 pixels, nine frames at 8 a second; `unified_data.motion`), read by

- `causal`: a causal video tokenizer (groups of four frames), trained here on the world's videos;
- `frames`: an image tokenizer of the same shape, trained here on single frames, at 2 frames a
  second: as many positions.

Each arm's decoder is trained on questions with the very tokens that it is then asked, and asked of
held-out videos, of things on grounds that training never had, by the verb `ask`: `video_motion` is
the share of right answers of four, with Wilson's 95% interval. `video_seconds_per_minute`:
positions that a minute of video of this size takes, seconds to code it, and seconds to read it
(prefill) by that decoder. float32, one thread. A Markdown table and, on the last line, one JSON
object on stdout; progress on stderr.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import _path  # noqa: F401 (before all others)
import numpy as np
import torch
from _shared import machine, say

from unified.dataloading import Source
from unified.dataloading.tokenize import MediaEncoderSpec, tokenize_shards
from unified.evaluation.figures import wilson
from unified.models.model import UnifiedModel
from unified.training.config import OptimizerConfig, TrainConfig
from unified.training.train import train as train_decoder
from unified.vocabulary.text_tokenizer import TextTokenizer
from unified_base.images import save_png
from unified_base.training.settings import ScheduleConfig
from unified_data.document import Video
from unified_data.motion import (
    DIRECTIONS,
    FRAMES,
    KINDS,
    QUESTION,
    RATE,
    SIDE,
    build_motion,
    paint_motion,
    plan_motion,
)  # fmt: skip
from unified_tokenizers import FrameTokenizer, load_tokenizer
from unified_tokenizers.training import TokenizerTraining
from unified_tokenizers.training import train as train_tokenizer
from unified_tokenizers.training_config import TokenizerOptimizer

ARMS = ("frames", "causal")
_STRIDE, _GROUP, _SECONDS = 12, 4, 60
_SHAPE = {
    "stride": _STRIDE, "encoder_width": 96, "encoder_depths": [1], "decoder_width": 64,
    "decoder_depths": [1, 1, 1], "quantizer": {"kind": "fsq", "levels": [8, 6, 5]},
}  # fmt: skip
_DECODER = {
    "hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 3, "num_key_value_heads": 3,
    "head_dim": 32, "intermediate_size": 192, "max_position_embeddings": 4096,
}  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under two minutes, of one arm")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--tokenizer-steps", type=int, default=250)
    parser.add_argument("--decoder-steps", type=int, default=1_000)
    parser.add_argument("--lr", type=float, default=0.004, help="of the decoder")
    parser.add_argument("--videos", type=int, default=3_000, help="with a question, to train on")
    parser.add_argument("--asked", type=int, default=200, help="held-out videos")
    return parser


def _tokenizer(arm: str, work: Path, steps: int) -> Path:
    """The folder of an arm's video tokenizer, trained."""
    causal = arm == "causal"
    shape = {**_SHAPE, "frame_rate": RATE, "group": _GROUP} if causal else dict(_SHAPE)
    if not causal:
        frames = work / "frames"
        frames.mkdir()
        for number, motion in enumerate(plan_motion("draw", "train", 0, 0.1)):
            save_png(frames / f"{number}.png", paint_motion(motion).frames[number % FRAMES])
    config = TokenizerTraining(
        modality="video" if causal else "image",
        output=str(work / f"{arm}-tokenizer"),
        data=(str(work / "world" / "train-draw-*.tar") if causal else str(work / "frames"),),
        validation=(),
        steps=steps,
        batch_size=8 if causal else 24,
        limit=400,
        crop=3,
        optimizer=TokenizerOptimizer(lr=0.003),
        tokenizer=shape,
        log_every=max(1, steps // 4),
        save_every=steps,
        validate_every=10**6,
        precision="float32",
        save_dtype="float32",
        device="cpu",
    )
    folder = train_tokenizer(config)
    if causal:
        return folder
    FrameTokenizer(load_tokenizer(folder, "image"), 2.0).save_pretrained(work / "frame-tokenizer")
    return work / "frame-tokenizer"


def _fitting(arm: str, video: Video) -> Video:
    """A video at the arm's rate."""
    return video if arm == "causal" else Video.at_rate(video.frames[::4], 2.0)


def _answers(arm: str, model: UnifiedModel, asked: int) -> float:
    """The share of right answers about held-out videos."""
    right = 0
    for motion in plan_motion("ask", "heldout", 1, asked / 400)[:asked]:
        answer = model.ask(_fitting(arm, paint_motion(motion)), QUESTION, max_text_ids=4)
        right += answer.strip() == motion.direction
    return right / asked


def _cost(arm: str, model: UnifiedModel, tokenizer: Any) -> dict[str, float]:
    """What a minute of video takes: positions, and seconds to code and to read it."""
    rate = tokenizer.frame_rate
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    number = 1 + int(_SECONDS * rate)
    frames = np.stack([np.roll(pixels, at, 1) for at in range(number)])
    media = torch.from_numpy(frames).movedim(3, 0)[None]
    coding, reading = [], []
    codes = tokenizer.encode(media)
    video = Video.at_rate(frames, rate, "prompt", 0.0)
    ids = torch.tensor(model.sequencer.encode_prefix([video]).ids)[None]
    for _ in range(3):
        began = perf_counter()
        codes = tokenizer.encode(media)
        coding.append(perf_counter() - began)
        began = perf_counter()
        with torch.inference_mode():
            model.hf(input_ids=ids, logits_to_keep=1)
        reading.append(perf_counter() - began)
    return {
        "positions": ids.shape[1], "codes": codes.codes[0].numel(),
        "coding_seconds": round(float(np.median(coding)), 3),
        "reading_seconds": round(float(np.median(reading)), 3),
    }  # fmt: skip


def _arm(arm: str, work: Path, options: argparse.Namespace) -> dict[str, Any]:
    began = perf_counter()
    folder = _tokenizer(arm, work, options.tokenizer_steps)
    tokenizer = load_tokenizer(folder, "video")
    probe = _fitting(arm, paint_motion(plan_motion("draw", "heldout", 0, 0.01)[0]))
    media = torch.from_numpy(probe.frames).movedim(3, 0)[None]
    error = (tokenizer.decode(tokenizer.encode(media)) - media.float() / 255).square().mean()
    trained = perf_counter()
    say(f"{arm}: tokenizer after {trained - began:.0f} s, PSNR {-10 * error.log10():.1f} dB")
    shards = sorted((work / "world").glob("train-ask-*.tar"))
    if arm == "frames":
        shards = _resampled(work)
    tokenize_shards(shards, work / f"{arm}-codes", MediaEncoderSpec(others={"video": str(folder)}))
    torch.manual_seed(0)
    model = UnifiedModel.create(
        _DECODER, text_tokenizer=TextTokenizer.train([QUESTION, *DIRECTIONS] * 4, 280),
        tokenizers={"video": tokenizer}, format="video", max_grid=128,
    )  # fmt: skip
    model.save_pretrained(work / f"{arm}-begin")
    source = Source(str(work / f"{arm}-codes" / "*.tar"), 1.0)
    run = train_decoder(
        TrainConfig(
            output=str(work / f"{arm}-run"), init_from=str(work / f"{arm}-begin"),
            sources={"ask": source}, validation={}, steps=options.decoder_steps,
            seq_len=80, global_batch_size=24, micro_batch_size=24, streams=1,
            optimizer=OptimizerConfig(name="muon", lr=options.lr),
            schedule=ScheduleConfig(warmup_steps=max(1, options.decoder_steps // 20)),
            log_every=max(1, options.decoder_steps // 6), save_every=options.decoder_steps,
            validate_every=10**6, threads=1, precision="float32", device="cpu", compile=False,
        )
    )  # fmt: skip
    model = UnifiedModel.from_pretrained(run)
    learnt = perf_counter()
    share = _answers(arm, model, options.asked)
    say(f"{arm}: {share:.3f} right after {learnt - began:.0f} s")
    cost = _cost(arm, model, tokenizer)
    interval = [round(bound, 4) for bound in wilson(round(share * options.asked), options.asked)]
    return {
        "video_motion": round(share, 4), "video_motion_interval": interval,
        "psnr_db": round(float(-10 * error.log10()), 2),
        "video_seconds_per_minute": cost, "seconds": round(perf_counter() - began),
    }  # fmt: skip


def _resampled(work: Path) -> list[Path]:
    """The questions' shards, their videos at two frames a second."""
    from unified_data.document import Document
    from unified_data.shards import ShardWriter, read_samples

    with ShardWriter(work / "slow", "train", "ask") as writer:
        for path in sorted((work / "world").glob("train-ask-*.tar")):
            for key, document in read_samples(path):
                video, *rest = document.segments
                slow = Video(video.frames[::4], video.times[::4], video.role, video.loss)
                writer.write(key, Document((slow, *rest)))
    return sorted((work / "slow").glob("*.tar"))


def main() -> None:
    options = _parser().parse_args()
    torch.set_num_threads(1)
    arms = [arm for arm in options.arms.split(",") if arm]
    scale = 1.0
    if options.quick:
        arms, scale = arms[:1], 0.1
        options.tokenizer_steps, options.decoder_steps, options.asked = 20, 20, 20
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        build_motion(work / "world", scale=0.1 * scale, only=("draw",), workers=1)
        share = options.videos / KINDS["ask"]
        build_motion(work / "world", scale=share * scale, only=("ask",), workers=1)
        results = {arm: _arm(arm, work, options) for arm in arms}
    print("| arm | right | PSNR, dB | positions a minute | coding, s | reading, s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for arm, result in results.items():
        cost = result["video_seconds_per_minute"]
        print(
            f"| {arm} | {result['video_motion']:.3f} | {result['psnr_db']} | {cost['positions']:,}"
            f" | {cost['coding_seconds']} | {cost['reading_seconds']} |"
        )
    first = results[arms[0]]
    report = {
        "video_motion": first["video_motion"],
        "video_motion_interval": first["video_motion_interval"],
        "asked": options.asked,
        "video_seconds_per_minute": first["video_seconds_per_minute"],
        "arms": results,
        "quick": options.quick,
        "machine": machine(1, ("transformers", "av")),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
