"""What the documents of the pocket world show, drawn from a seed: plans, scenes and sentences.

Splits: `train`, and `heldout`, about one combination in twenty by hash. The combination is a
scene's key, an article's plan, or a spoken sentence; a subject's lead is always in `train`, since
articles read it aloud.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from unified_data.pocket.articles import ArticleOutline, default_plan, random_plan
from unified_data.pocket.scenes import (
    BACKGROUNDS,
    COUNTS,
    LOCATIONS,
    Scene,
    compose,
    questions,
    split_of,
)
from unified_data.pocket.speech import DEFAULT_VOICE, VOICES, Voice
from unified_data.pocket.subjects import Subject, load_subjects
from unified_data.pocket.voices import draw_voice

__all__ = ["KINDS", "SPLITS", "plan_documents"]

KINDS = ("article", "draw", "describe", "ask", "speak", "listen", "text", "name", "say", "misread",
         "voices")  # fmt: skip
SPLITS = ("train", "heldout")

_ARTICLES_PER_SUBJECT = 8
_TWO, _COUNTED = 16_000, 6_000
# Large subjects are few among the scenes, hardest to draw, and what people ask for most: as they
# come, a tokenizer rebuilt them at 20 dB beside 25 to 29 dB for small ones (24 held-out pictures of
# each kind, so this weight was chosen with held-out pictures in view).
_LARGE, _LARGE_ON_WHITE = 8, 24
_COUNTS = {"describe": 7_000, "ask": 7_000, "speak": 10_000, "listen": 14_000, "misread": 4_000,
           "voices": 4_000}  # fmt: skip
# Voices of what is said of scenes, in turn: the default one every other time.
_TURNS = [v for other in VOICES if other != DEFAULT_VOICE for v in (DEFAULT_VOICE, other)]
_LEAST_HELDOUT = 2  # of each kind, however small the scale


def _share(number: int, split: str, scale: float) -> int:
    """How many of `number` documents fall to a split, at a scale."""
    heldout = max(_LEAST_HELDOUT, round(number * scale / 20))
    return heldout if split == "heldout" else max(1, round(number * scale) - heldout)


def _articles(
    kind: str, split: str, scale: float, rng: np.random.Generator
) -> list[ArticleOutline]:
    """In `train` one article in eight follows the subject's default plan; held-out plans are not
    in `train`. Pictures are of combinations in `train` throughout."""
    subjects = load_subjects()
    order = rng.permutation(len(subjects))
    plans: list[ArticleOutline] = []
    wanted = _share(_ARTICLES_PER_SUBJECT * len(subjects), split, scale)
    for turn in itertools.count():
        for index in order:
            if len(plans) == wanted:
                return plans
            subject = subjects[index]
            if split == "train" and turn % _ARTICLES_PER_SUBJECT == 0:
                plans.append(default_plan(subject, rng))
                continue
            fixed = default_plan(subject, rng).prompt
            while True:
                plan = random_plan(subject, rng)
                if plan.prompt != fixed and split_of(f"article|{plan.prompt}") == split:
                    break
            plans.append(plan)
    raise AssertionError


def _texts(kind: str, split: str, scale: float, rng: np.random.Generator) -> list[ArticleOutline]:
    """Articles without pictures or narration, their plans split as those of articles are."""
    plans: list[ArticleOutline] = []
    wanted = _share(_ARTICLES_PER_SUBJECT * len(load_subjects()), split, scale)
    choices = [[p for p in _silent(subject) if p[1] == split] for subject in load_subjects()]
    while len(plans) < wanted:
        for index in rng.permutation(len(choices))[: wanted - len(plans)]:
            if choices[index]:  # a few subjects have no held-out plan
                plans.append(choices[index][int(rng.integers(len(choices[index])))][0])
    return plans


def _silent(subject: Subject) -> Iterator[tuple[ArticleOutline, str]]:
    """Every order of two or more of a subject's sections, as a plan, with its split."""
    headings = [section.heading for section in subject.sections]
    for size in range(min(2, len(headings)), len(headings) + 1):
        for sections in itertools.permutations(headings, size):
            plan = ArticleOutline(subject, sections, (), None)
            yield plan, split_of(f"article|{plan.prompt}")


def _drawings(kind: str, split: str, scale: float, rng: np.random.Generator) -> list[Scene]:
    singles = [
        scene
        for scene in _single_scenes()
        if scene.split == split
        for _ in range(_weight(scene) if split == "train" else 1)
    ]
    wanted = max(1, round(len(singles) * scale))
    scenes: list[Scene] = []
    while len(scenes) < wanted:
        order = rng.permutation(len(singles))[: wanted - len(scenes)]
        scenes += [singles[i] for i in order]
    for scene_kind, number in (("two", _TWO), ("counted", _COUNTED)):
        for _ in range(_share(number, split, scale)):
            scenes.append(_scene(rng, scene_kind, split))
    return scenes


def _weight(scene: Scene) -> int:
    """How often a picture of one subject comes in `train`."""
    if scene.kind != "one":
        return 1
    return _LARGE_ON_WHITE if scene.background == "white" else _LARGE


def _single_scenes() -> Iterator[Scene]:
    """Every picture of one subject: large or at each location, on every background."""
    for subject in load_subjects():
        for background in BACKGROUNDS:
            yield Scene("one", subject, background)
            for location in LOCATIONS:
                yield Scene("placed", subject, background, location=location)


def _scene(rng: np.random.Generator, kind: str, split: str) -> Scene:
    """A random scene of a kind whose combination is in a split."""
    while True:
        scene = compose(rng, kind)  # type: ignore[arg-type]
        if scene.split == split:
            return scene


def _any_scene(rng: np.random.Generator, split: str) -> Scene:
    kind = ("one", "placed", "two", "counted")[int(rng.choice(4, p=[0.3, 0.25, 0.3, 0.15]))]
    return _scene(rng, kind, split)


def _pictures(kind: str, split: str, scale: float, rng: np.random.Generator) -> list[Any]:
    """Scenes to describe, or scenes with one to three of their questions, in any order."""
    scenes = [_any_scene(rng, split) for _ in range(_share(_COUNTS[kind], split, scale))]
    if kind == "describe":
        return scenes
    payloads = []
    for scene in scenes:
        asked = questions(scene, rng)
        order = rng.permutation(len(asked))[: int(rng.integers(1, 4))]
        payloads.append((scene, [asked[i] for i in order]))
    return payloads


# What people say of a picture; {} is the caption, which names one thing or several.
_SINGULAR = (
    "This is {}.",
    "Here is {}.",
    "There is {}.",
    "I can see {}.",
    "The picture shows {}.",
    "In the picture there is {}.",
    "Someone has drawn {}.",
    "We are looking at {}.",
)
_PLURAL = (
    "These are {}.",
    "Here are {}.",
    "There are {}.",
    "I can see {}.",
    "The picture shows {}.",
    "In the picture there are {}.",
    "Someone has drawn {}.",
    "We are looking at {}.",
)


def scene_sentence(scene: Scene, rng: np.random.Generator) -> str:
    """A sentence to be spoken that says what a scene shows; one in three is the bare caption.

    Short ones teach which sound is which word at the least cost.
    """
    if rng.random() < 1 / 3:
        return f"{scene.caption[0].upper()}{scene.caption[1:]}."
    frames = _PLURAL if scene.kind == "counted" else _SINGULAR
    return frames[int(rng.integers(len(frames)))].format(scene.caption)


def _sentences(
    kind: str, split: str, scale: float, rng: np.random.Generator
) -> list[tuple[str, str]]:
    """(sentence, voice): three in four say what a scene shows, the others are facts and leads.

    In `train` up to half of the latter are leads: at scale 1 every lead in every voice. Of what is
    said of scenes half is in the default voice.
    """
    wanted = _share(_COUNTS[kind], split, scale)
    subjects, voices = load_subjects(), list(VOICES)
    facts = [s for subject in subjects for s in subject.sentences[1:]]
    groups = [[s for s in facts if split_of(f"speech|{s}") == split]]
    if split == "train":
        groups.insert(0, [subject.lead for subject in subjects])
    pairs: list[tuple[str, str]] = []
    for i, group in enumerate(groups, start=1):
        both = [(sentence, voice) for sentence in group for voice in voices]
        share = round(0.25 * wanted * i / len(groups)) - len(pairs)
        pairs += [both[j] for j in rng.permutation(len(both))[:share]]
    while len(pairs) < wanted:
        sentence = scene_sentence(_any_scene(rng, "train"), rng)
        if split_of(f"speech|{sentence}") == split:
            pairs.append((sentence, _TURNS[len(pairs) % len(_TURNS)]))
    return pairs


def _names(kind: str, split: str, scale: float, rng: np.random.Generator) -> list[tuple[str, str]]:
    """(sentence, voice): what a subject is called and nothing more, `A cat.` and `Three cats.`

    Names are few among the words of sentences: after 1,600 steps on sentences alone a decoder
    wrote down every word that it heard but the names, and it was names that it spoke wrong.
    """
    pairs: list[tuple[str, str]] = []
    for subject in load_subjects():
        phrases = [subject.phrase, *(f"{word} {subject.plural}" for word in COUNTS.values())]
        sentences = [f"{phrase[0].upper()}{phrase[1:]}." for phrase in phrases]
        mine = [s for s in sentences if split_of(f"speech|{s}") == split]
        pairs += [(sentence, voice) for sentence in mine for voice in VOICES]
    return [pairs[i] for i in rng.permutation(len(pairs))[: max(1, round(len(pairs) * scale))]]


def _misread(
    kind: str, split: str, scale: float, rng: np.random.Generator
) -> list[tuple[str, str, str]]:
    """(sentence, what is said instead, voice): another subject's name in its place, the rest right.

    A decoder that reads aloud and gets a name wrong must go on with what stands after it. One that
    has only seen speech without mistakes goes on as its own words would have it: at step 1,800 of
    the pocket decoder's second stage "A small wolf at the bottom right." was read as "A small chess
    pawn at the top right on a grey ground." With these among what it learns, the name it should say
    is still the likeliest by far: mistakes are spread over all other names.
    """
    subjects = load_subjects()
    planned: list[tuple[str, str, str]] = []
    wanted = _share(_COUNTS[kind], split, scale)
    while len(planned) < wanted:
        scene = _any_scene(rng, "train")
        other = subjects[int(rng.integers(len(subjects)))]
        if scene.caption.endswith((scene.subject.phrase, scene.subject.plural)):
            continue  # nothing comes after the name
        if other in scene.subjects:
            continue
        seed = int(rng.integers(2**32))
        mistaken = replace(scene, subject=other)
        sentence, misread = (
            scene_sentence(drawn, np.random.default_rng(seed)) for drawn in (scene, mistaken)
        )
        if all(split_of(f"speech|{text}") == split for text in (sentence, misread)):
            planned.append((sentence, misread, _TURNS[len(planned) % len(_TURNS)]))
    return planned


def _voices(
    kind: str, split: str, scale: float, rng: np.random.Generator
) -> list[tuple[str, Voice, bool]]:
    """(sentence, voice, whether it is read word by word): every other one is, as in the world."""
    sentences = _sentences("voices", split, scale, rng)
    return [(text, draw_voice(split, rng), i % 2 == 0) for i, (text, _) in enumerate(sentences)]


_PLANNERS: dict[str, Callable[[str, str, float, np.random.Generator], list[Any]]] = {
    "article": _articles,
    "draw": _drawings,
    "describe": _pictures,
    "ask": _pictures,
    "speak": _sentences,
    "listen": _sentences,
    "text": _texts,
    "name": _names,
    "say": _names,
    "misread": _misread,
    "voices": _voices,
}


def plan_documents(kind: str, split: str, seed: int = 0, scale: float = 1.0) -> list[Any]:
    """What each document of a kind and split shows, in the order of its shards.

    article, text: `ArticleOutline`; draw, describe: `Scene`;
    ask: (scene, [(question, answer), ...]); speak, listen, name, say: (sentence, voice);
    misread: (sentence, what is said instead, voice);
    voices: (sentence, `Voice`, whether word by word).

    Raises ValueError for another kind or split.
    """
    if kind not in KINDS or split not in SPLITS:
        raise ValueError(
            f"kind and split are {kind!r} and {split!r}, expected one of {', '.join(KINDS)}"
            f" and one of {', '.join(SPLITS)}"
        )
    rng = np.random.default_rng([seed, KINDS.index(kind), SPLITS.index(split)])
    payloads = _PLANNERS[kind](kind, split, scale, rng)
    return [payloads[i] for i in rng.permutation(len(payloads))]
