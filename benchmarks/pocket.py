"""What the pocket model shows: speed of the main job, and quality of each of its tasks.

    python benchmarks/pocket.py [--model NAME_OR_PATH] [--quick] [--sheet F.png]

Progress goes to stderr; the last line on stdout is one JSON object. The measures stand in
`unified.evaluation`; needs the development extra and espeak-ng.
The whole takes three minutes on two cores, --quick (a sample of everything) under two.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from _path import needs  # before all others


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket", help="a shipped model or a model's folder")
    parser.add_argument("--quick", action="store_true", help="a sample of everything")
    parser.add_argument(
        "--sheet", type=Path, metavar="F.png", help="the pictures drawn, to look at"
    )
    return parser


if __name__ == "__main__":  # --help and mistakes, before what follows is loaded: that takes seconds
    _parser().parse_args()
    needs("measure", "jiwer")

# isort: split
import base64
import io
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from statistics import fmean, median
from typing import Any

import numpy as np
import soundfile
from PIL import Image, ImageDraw, ImageFont

from unified.evaluation import pocket
from unified.evaluation.article_scores import write_articles
from unified.evaluation.judges import GlyphJudge, corpus_word_error_rate, word_recall
from unified.models.model import UnifiedModel
from unified.pocket.article_plan import ArticlePlan
from unified_base.version import __version__
from unified_data.pocket.articles import ArticleOutline
from unified_data.pocket.scenes import Scene, render
from unified_data.pocket.subjects import load_subjects
from unified_tokenizers.report import reconstruct_picture

PROMPT = "The giant panda"


@dataclass(frozen=True)
class Sizes:
    """How much of everything. subjects: to draw; questions: of each kind; articles: of others."""

    runs: int = 3
    subjects: int = len(load_subjects())
    scenes: int = 100
    described: int = 200
    questions: int = 25
    pictures: int = 300
    sounds: int = 60
    heard: int = 60
    spoken: int = 30
    articles: int = 10


QUICK = Sizes(1, 40, 20, 40, 5, 40, 9, 15, 6, 3)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def reporter(what: str) -> Callable[[int, int], None]:
    """Progress of one measure: a line that is drawn again, or on a file one line at the end."""

    def report(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{what}: {done} of {total}", end="", file=sys.stderr, flush=True)
        if done == total:
            say(f"\n{what}: done" if sys.stderr.isatty() else f"{what}: {total} done")

    return report


def share(values: Iterable[bool]) -> float:
    return round(fmean(values), 4)


def by(
    items: Iterable[Any], key: Callable[[Any], str], measure: Callable[[list[Any]], float]
) -> dict:
    """A measure of every group of items."""
    groups: defaultdict[str, list[Any]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return {name: round(measure(groups[name]), 4) for name in sorted(groups)}


# The main job, as people run it.


def time_article(model: str, page: Path) -> tuple[float, float]:
    """Seconds from the start of `unified write` to its end, and to the title's "#" on stderr."""
    command = [sys.executable, "-m", "unified", "write", PROMPT, "-o", str(page), "--model", model]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    first, seen = None, b""
    while chunk := os.read(process.stderr.fileno(), 65536):
        seen += chunk
        if first is None and b"#" in chunk:
            first = time.perf_counter() - began
    code = process.wait()
    total = time.perf_counter() - began
    if code != 0:
        raise SystemExit(f"`unified write` failed ({code}): {seen.decode(errors='replace')}")
    if first is None:
        say("the article has no title; its first text is taken to come at the end")
    return total, total if first is None else first


def media_of(page: Path) -> tuple[int, int]:
    """Pictures that can be decoded and sounds that can be heard in an HTML page."""
    pictures = sounds = 0
    for kind, data in re.findall(
        r"data:(image|audio)/\w+;base64,([\w+/=]+)", page.read_text("utf-8")
    ):
        stream = io.BytesIO(base64.b64decode(data))
        if kind == "image":
            Image.open(stream).load()
            pictures += 1
        else:
            wave, rate = soundfile.read(stream)
            # A second of speech and not of silence.
            sounds += len(wave) >= rate and float(np.sqrt(np.mean(wave**2))) > 0.01
    return pictures, sounds


def measure_main_job(model: str, sizes: Sizes) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "panda.html"
        times = []
        for run in range(sizes.runs):
            times.append(time_article(model, page))
            total, first = times[-1]
            say(f"article {run + 1} of {sizes.runs}: {total:.1f} s, first text {first:.1f} s")
        pictures, narrations = media_of(page)
    totals, firsts = zip(*times)
    return {
        "article_seconds": round(median(totals), 2),
        "first_text_seconds": round(median(firsts), 2),
        "pictures": pictures,
        "narrations": narrations,
    }


# One task at a time.


def measure_pictures(
    model: UnifiedModel, sizes: Sizes, judge: GlyphJudge
) -> tuple[dict[str, Any], list[pocket.Drawing]]:
    subjects = list(load_subjects())
    chosen = np.random.default_rng(0).permutation(len(subjects))[: sizes.subjects]
    single = [Scene("one", subjects[i]) for i in sorted(chosen)]
    twice = [Scene("counted", subjects[i], "green", count=2) for i in sorted(chosen)]
    two = [scene for scene in pocket.heldout("draw") if scene.kind == "two"][: sizes.scenes]
    scenes = single + twice + two
    drawn = pocket.draw(model, judge, scenes, reporter("draw"))
    true = [pocket.judge_scene(judge, scene, render(scene)) for scene in scenes]
    coded = [
        pocket.judge_scene(judge, s, reconstruct_picture(model.image_tokenizer, render(s))[0])
        for s in scenes
    ]
    say("draw: judged")
    result: dict[str, Any] = {}
    for kind, what in (("one", "draw"), ("counted", "twice"), ("two", "scene")):
        for name, drawings in (("", drawn), ("judge_", true), ("coded_judge_", coded)):
            right = [drawing.right for drawing in drawings if drawing.scene.kind == kind]
            result[f"{name}{what}_accuracy"] = share(right)
    both = [drawing for drawing in drawn if drawing.scene.kind == "two" and drawing.right]
    return {
        **result,
        "scene_relation_accuracy": share(d.in_place for d in both) if both else None,
        "draw_wrong": {
            d.scene.subject.name: d.named[0].name
            for d in drawn
            if d.scene.kind == "one" and not d.right
        },
    }, drawn


def measure_reading(model: UnifiedModel, sizes: Sizes) -> dict[str, Any]:
    scenes = [s for s in pocket.heldout("draw") if s.kind in ("one", "placed")][: sizes.described]
    described = pocket.describe(model, scenes, reporter("describe"))
    asked = pocket.questions_of_each_kind(sizes.questions)
    answered = pocket.ask(model, asked, reporter("ask"))
    return {
        "describe_accuracy": share(answer.named for answer in described),
        "describe_accuracy_by_kind": by(
            described, lambda a: a.scene.kind, lambda g: fmean(a.named for a in g)
        ),
        "describe_exact": share(answer.exact for answer in described),
        "ask_accuracy": by(
            answered,
            lambda a: pocket.question_kind(a.question),
            lambda g: fmean(a.exact for a in g),
        ),
    }


def measure_tokenizers(model: UnifiedModel, sizes: Sizes) -> dict[str, Any]:
    pictures = [render(scene) for scene in pocket.heldout("draw")[: sizes.pictures]]
    psnr = pocket.image_psnr(model.image_tokenizer, pictures)
    say(f"image tokenizer: {len(pictures)} pictures done")
    sentences = pocket.heldout("speak")[: sizes.sounds]
    sounds = [pocket.true_sound(*pair) for pair in sentences]
    stoi = pocket.audio_stoi(model.audio_tokenizer, sounds)
    preserved = pocket.codes_kept(model.audio_tokenizer, sounds)
    say(f"audio tokenizer: {len(sentences)} sentences done")
    return {
        "image_psnr_db": round(psnr, 2),
        "audio_stoi": round(stoi, 4),
        "audio_codes_kept": [round(share, 4) for share in preserved],
    }


def measure_speech(model: UnifiedModel, sizes: Sizes) -> dict[str, Any]:
    def errors(heard: Sequence[pocket.Transcription]) -> float:
        return corpus_word_error_rate((h.sentence, h.text) for h in heard)

    heard = pocket.listen(model, pocket.heldout("listen")[: sizes.heard], reporter("listen"))
    sentences = pocket.heldout("speak")[: sizes.spoken]
    returned = pocket.speak_and_listen(model, sentences, reporter("speak, then listen"))
    return {
        "listen_wer": round(errors(heard), 4),
        "listen_wer_by_voice": by(heard, lambda h: h.voice, errors),
        "listen_wer_by_kind": by(heard, lambda h: h.kind, errors),
        "speak_recall": round(fmean(word_recall(h.sentence, h.text) for h in returned), 4),
        "speak_recall_by_kind": by(
            returned,
            lambda h: h.kind,
            lambda group: fmean(word_recall(h.sentence, h.text) for h in group),
        ),
    }


def measure_articles(model: UnifiedModel, sizes: Sizes) -> dict[str, Any]:
    """Bare titles of random subjects, then held-out plans, whose sections are in any order."""
    others = [subject for subject in load_subjects() if f"The {subject.name}" != PROMPT]
    chosen = np.random.default_rng(0).permutation(len(others))[: sizes.articles]
    titles = [
        ArticlePlan(s, tuple(section.heading for section in s.sections), 3, True)
        for s in (others[i] for i in chosen)
    ]
    plans: list[ArticleOutline] = pocket.heldout("article")[: sizes.articles]
    wished = [ArticlePlan(p.subject, p.sections, len(p.scenes), p.voice is not None) for p in plans]
    written = write_articles(model, titles + wished, reporter("articles"))
    bare, planned = written[: len(titles)], written[len(titles) :]
    return {
        "on_subject": share(article.on_subject for article in bare),
        "off_subject": [a.plan.subject.name for a in bare if not a.on_subject],
        "sections_in_order": share(article.in_order for article in written),
        "heldout_plans_on_subject": share(article.on_subject for article in planned),
    }


def weights_mb(model: UnifiedModel) -> float:
    """Megabytes (10^6 bytes) of decoder and tokenizer weights."""
    assert model.directory is not None
    files = model.directory.rglob("*.safetensors")
    return round(sum(file.stat().st_size for file in files) / 1e6, 2)


def machine() -> dict[str, Any]:
    names = ("torch", "numpy", "transformers")
    return {
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "processor": processor(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "unified": __version__,
        **{name: version(name) for name in names},
    }


def processor() -> str:
    """The processor's name where the system tells it."""
    try:
        match = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        match = None
    return match[1] if match else platform.processor() or platform.machine()


def save_sheet(path: Path, drawings: Sequence[pocket.Drawing], columns: int = 12) -> None:
    """The pictures drawn, in a grid with their captions; what is judged wrong stands in red."""
    width, height = 124, 140
    rows = -(-len(drawings) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(10)
    for number, drawing in enumerate(drawings):
        row, column = divmod(number, columns)
        x, y = column * width, row * height
        sheet.paste(Image.fromarray(drawing.pixels), (x + 14, y + 4))
        text = drawing.scene.caption
        if not drawing.right:
            text += f" = {', '.join(subject.name for subject in drawing.named)}?"
        lines = textwrap.wrap(text, 22)[:3]
        color = "black" if drawing.right else "#c00000"
        pen.text((x + 4, y + 102), "\n".join(lines), fill=color, font=font, spacing=1)
    sheet.save(path)


def main() -> None:
    options = _parser().parse_args()
    sizes = QUICK if options.quick else Sizes()
    began = time.perf_counter()
    results = measure_main_job(options.model, sizes)
    model = UnifiedModel.from_pretrained(options.model)
    pictures, drawings = measure_pictures(model, sizes, GlyphJudge())
    if options.sheet:
        save_sheet(options.sheet, drawings)
        say(f"wrote {options.sheet}")
    results |= pictures
    results |= measure_reading(model, sizes)
    results |= measure_tokenizers(model, sizes)
    results |= measure_speech(model, sizes)
    results |= measure_articles(model, sizes)
    results["weights_mb"] = weights_mb(model)
    results["sample"] = "quick" if options.quick else "full"
    results["benchmark_seconds"] = round(time.perf_counter() - began, 1)
    results["machine"] = machine()
    print(json.dumps(results, ensure_ascii=False))


if __name__ == "__main__":
    main()
