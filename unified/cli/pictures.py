"""Commands of pictures: draw, edit, describe, ask.

The verbs are those of `UnifiedModel`: each makes the same request and tells what comes of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unified.cli.asking import answers, with_thought
from unified.cli.options import AnswerChosen, ServerOpening, Size, Thought, VerbChosen
from unified.cli.question import CommandQuestion
from unified.cli.terminal import (
    AsJson,
    DecoderName,
    DecoderSteps,
    Seed,
    check_decoder,
    note,
    prompt_from,
    result,
    warnings_as_notes,
)
from unified_base.arguments import prompt

if TYPE_CHECKING:
    import numpy as np

    from unified.matching.tower import Tower
    from unified.tasks.response import Response
    from unified_data.document import Audio, Image, Video

Output = Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="File to write.")]
Number = Annotated[int, typer.Option("-n", "--number", min=1, max=999, help="How many.")]
_PICTURES = "PNG, JPEG, WebP, GIF or BMP."
_SEEN = _PICTURES + " Or a video: MP4, MOV, WebM or MKV."
Frames = Annotated[
    int | None,
    typer.Option("--frames", min=1, max=4096, help="Of a video: so many, spread over it."),
]
Language = Annotated[
    str | None,
    typer.Option(
        "--language", metavar="NAME", help="Of the answer, such as zh (models of several)."
    ),
]
Check = Annotated[
    bool,
    typer.Option(
        "--check", help="Ask the model about every thing that it named, and correct what it denies."
    ),
]


def draw(
    output: Output,
    opening: ServerOpening,
    choices: VerbChosen,
    text: Annotated[
        str | None, typer.Argument(help='What to draw, for example "a giant panda".')
    ] = None,
    spoken: Annotated[
        Path | None, typer.Option("--spoken", help="A sound that says it, in the place of a text.")
    ] = None,
    number: Number = 1,
    best_of: Annotated[
        int | None,
        typer.Option(
            "--best-of", metavar="K", min=1, max=999, help="Draw K, write the -n that fit best."
        ),
    ] = None,
    scorer: Annotated[
        Path | None,
        typer.Option("--scorer", metavar="DIR", help="Of --best-of: a tower's folder."),
    ] = None,
    size: Size = None,
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames", min=1, max=4096, help="A video of so many, as .mp4, .gif or .webp."
        ),
    ] = None,
    decoder: DecoderName = "vq",
    steps: DecoderSteps = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Text to image: F.png, or F-1.png, F-2.png, ... with -n; to a video with --frames."""
    paths = _paths(output, number, video=frames is not None)
    check_decoder(decoder, steps)
    if text is not None or spoken is None:
        text = prompt_from(text or "")
    if frames is not None and best_of is not None:
        raise ValueError("--best-of is of pictures; leave --frames out, or --best-of")
    tower = _scorer(best_of, scorer, number, text)
    heard = _sound(spoken)
    inputs: dict[str, Any] = {"text": text, "audio": heard, "size": size}
    if frames is not None:
        inputs["frames"] = frames
    count = number if best_of is None else best_of
    question = CommandQuestion("draw", inputs, choices, seed, count, decoder, steps)
    if tower is None:
        _draw(opening, question, paths, as_json)
    else:
        _draw_best(opening, question, paths, as_json, tower)


def edit(
    picture: Annotated[Path, typer.Argument(help=_PICTURES)],
    text: Annotated[str, typer.Argument(help='What to change: "make the ground red".')],
    output: Output,
    opening: ServerOpening,
    choices: VerbChosen,
    number: Number = 1,
    size: Size = None,
    decoder: DecoderName = "vq",
    steps: DecoderSteps = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """A picture in which a wish is granted: F.png, or F-1.png, F-2.png, ... with -n."""
    paths = _paths(output, number)
    check_decoder(decoder, steps)
    wish = prompt("text", prompt_from(text), 'say what to change, for example "remove the hat"')
    from unified_base.images import load_image

    pixels = load_image(picture)
    inputs = {"image": pixels, "text": wish, "size": size}
    question = CommandQuestion("edit", inputs, choices, seed, number, decoder, steps)
    _draw(opening, question, paths, as_json)


def describe(
    picture: Annotated[Path, typer.Argument(help=_SEEN)],
    opening: ServerOpening,
    choices: AnswerChosen,
    question: Annotated[
        str | None, typer.Option("--ask", help="A question about the picture.")
    ] = None,
    language: Language = None,
    check: Check = False,
    thought: Thought = False,
    frames: Frames = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Image or video to text: a description, or the answer to a question, on stdout."""
    if check and question is not None:
        raise ValueError("--check is of descriptions; leave --ask out")
    _look(
        picture, opening, choices, question, None, (), language, check, thought, frames, seed,
        as_json,
    )  # fmt: skip


def ask(
    picture: Annotated[Path, typer.Argument(help=_SEEN)],
    opening: ServerOpening,
    choices: AnswerChosen,
    question: Annotated[str | None, typer.Argument(help='For example "What is this?".')] = None,
    spoken: Annotated[
        Path | None, typer.Option("--spoken", help="A sound that asks it, in the place of words.")
    ] = None,
    example: Annotated[
        list[str] | None,
        typer.Option(
            "--example",
            metavar="NAME=FILE",
            help="A picture of what is called so, shown before (few-shot); repeatable.",
        ),
    ] = None,
    box: Annotated[
        str | None,
        typer.Option("--box", metavar="X0,Y0,X1,Y1", help="What the question is about, in pixels."),
    ] = None,
    language: Language = None,
    thought: Thought = False,
    frames: Frames = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """The answer to a question about a picture or a video, on stdout."""
    if question is None and spoken is None:
        raise ValueError('there is no question; ask something, for example "What is this?"')
    _look(
        picture, opening, choices, question, spoken, tuple(example or ()), language, False,
        thought, frames, seed, as_json, box,
    )  # fmt: skip


def _look(
    picture: Path,
    opening: ServerOpening,
    choices: AnswerChosen,
    question: str | None,
    spoken: Path | None,
    named: tuple[str, ...],
    language: str | None,
    check: bool,
    thought: bool,
    frames: int | None,
    seed: int,
    as_json: bool,
    box: str | None = None,
) -> None:
    from unified.cli.grounding import box_from
    from unified_base.images import load_image

    video = _video(picture, frames)
    pixels = load_image(picture) if video is None else None
    if question is not None:
        question = prompt_from(question)
        prompt("question", question, 'ask something, for example "What is this?"')
    examples = tuple((name, load_image(path)) for name, path in map(_named, named))
    if box is not None and pixels is None:
        raise ValueError(f"--box is of a picture, and {picture} is a video; leave it out")
    about = {} if box is None or pixels is None else {"box": box_from(box, pixels)}
    heard = _sound(spoken)
    if check and video is not None:
        raise ValueError("--check is of pictures; leave it out")
    looked_at = {"image": pixels} if video is None else {"video": video}
    asked = CommandQuestion(
        "describe" if question is None and heard is None else "ask",
        {
            **looked_at, "question": question, "audio": heard, "examples": examples,
            "language": language, **about,
        },
        choices, seed, check=check,
    )  # fmt: skip
    answered = answers(opening, asked, lambda response: response)
    response = answered.results[0]
    values: dict[str, Any] = {
        "picture": str(picture),
        "question": question,
        "text": response.text,
        "thought": response.thought,
        "known": response.known,
    }
    plain = response.text
    if check and response.known:
        assert pixels is not None  # `describe` refuses videos
        from unified.models.checking import check_description

        assert answered.model is not None
        checked = check_description(answered.model, pixels, response.text, seed, language)
        plain = checked.text
        values |= {
            "text": checked.text,
            "said": response.text,
            "corrections": [correction.to_json() for correction in checked.corrections],
        }
        for line in checked.notes:
            note(line)
    result(values, as_json, with_thought(plain, response, thought))


def _draw(
    opening: ServerOpening, question: CommandQuestion, paths: list[Path], as_json: bool
) -> None:
    """Sample as many pictures or videos as there are paths, and write them together."""
    from unified.articles.outputs import write_together
    from unified_base.images import encode_png
    from unified_base.videos import encode_video
    from unified_data.document import Video

    def encode(response: Response) -> bytes:
        answer: Image | Video = response.document.segments[-1]  # type: ignore[assignment]
        if isinstance(answer, Video):
            return encode_video(paths[0].suffix, answer.frames, answer.times)
        return encode_png(answer.pixels)

    number = len(paths)
    answered = answers(opening, question, encode)
    pictures = answered.results
    write_together(dict(zip(paths, pictures)))
    names = [str(path) for path in paths]
    if number > 1:
        what = "videos" if "frames" in question.inputs else "pictures"
        note(f"{number} {what}, numbered {names[0]} to {names[-1]}")
        distinct = len(set(pictures))
        if distinct < number:
            note(f"distinct {what} among them: {distinct}; other words give other {what}")
    seeds = [question.seed + i for i in range(number)]
    values = {"paths": names, "caption": answered.text, "seeds": seeds}
    result(values, as_json, "\n".join(names))


def _draw_best(
    opening: ServerOpening, question: CommandQuestion, paths: list[Path], as_json: bool,
    tower: Tower,
) -> None:  # fmt: skip
    """Sample as many pictures as are asked for, and write as many as there are paths, the best
    first."""
    from unified.articles.outputs import write_together
    from unified.matching.best_of import rank
    from unified_base.images import encode_png

    answered = answers(opening, question, _pixels)
    pictures, text, seed = answered.results, answered.text, question.seed
    assert text is not None  # or there was no scorer
    ranked = rank(tower, text, pictures)
    best = ranked[: len(paths)]
    write_together({path: encode_png(pictures[each.number]) for path, each in zip(paths, best)})
    for path, each in zip(paths, best):
        note(f"{path} is of seed {seed + each.number}, score {each.score:.3f}")
    note(f"scores of {len(pictures)} pictures: {', '.join(f'{each.score:.3f}' for each in ranked)}")
    names = [str(path) for path in paths]
    values = {
        "paths": names, "caption": text, "seeds": [seed + each.number for each in best],
        "scores": [each.score for each in best], "scorer": tower.fingerprint,
        "candidates": [{"seed": seed + each.number, "score": each.score} for each in ranked],
    }  # fmt: skip
    result(values, as_json, "\n".join(names))


def _pixels(response: Response) -> np.ndarray:
    image: Image = response.document.segments[-1]  # type: ignore[assignment]
    return image.pixels


def _scorer(
    best_of: int | None, folder: Path | None, number: int, text: str | None
) -> Tower | None:
    """The tower of --best-of. Raises ValueError for options that do not go together."""
    if best_of is None:
        if folder is not None:
            raise ValueError(f"--scorer {folder} is for --best-of K; say how many to draw")
        return None
    from unified.matching.best_of import check_best_of
    from unified.matching.tower import Tower

    check_best_of(best_of, number, folder, text)
    assert folder is not None
    return Tower.from_pretrained(folder)


def _video(path: Path, frames: int | None) -> Video | None:
    """The video in a file that is one by its name; None for another file. frames: so many of it.

    Raises ValueError for frames of a picture.
    """
    from unified_base.media_source import VIDEO_ENDINGS

    animated = path.suffix.lower() in (".gif", ".webp", ".apng") and frames is not None
    if not path.name.lower().endswith(VIDEO_ENDINGS) and not animated:
        if frames is not None:
            raise ValueError(
                f"--frames is of videos, and {path} is a picture by its name; leave it out"
            )
        return None
    from unified_base.frame_times import FrameChoice
    from unified_data.document import Video

    return Video.load(path, FrameChoice(frames))


def _paths(output: Path, number: int, video: bool = False) -> list[Path]:
    from unified.articles.outputs import check_format, check_writable, numbered
    from unified_base.videos import VIDEO_WRITTEN

    if video:
        check_format(output, VIDEO_WRITTEN, "a video")
    else:
        check_format(output, (".png",), "a picture")
    paths = numbered(output, number)
    check_writable(paths[0])
    return paths


def _sound(path: Path | None) -> Audio | None:
    if path is None:
        return None
    from unified_base.sounds import load_audio
    from unified_data.document import Audio

    with warnings_as_notes():
        return Audio(*load_audio(path))


def _named(argument: str) -> tuple[str, Path]:
    """The name and the file of an example. Raises ValueError for another form."""
    name, equals, path = argument.partition("=")
    if not equals or not name.strip() or not path:
        raise ValueError(f"--example is {argument!r}, expected NAME=FILE such as dax=toy.png")
    return name.strip(), Path(path)
