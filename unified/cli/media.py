"""Commands of sound and of whole documents: speak, listen, reply, write; sample, inspect.

The verbs are those of `UnifiedModel`: each makes the same request and tells what comes of it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unified.cli.asking import answers, fill, with_thought
from unified.cli.options import (
    AnswerChosen,
    ArticleChosen,
    Chosen,
    Opening,
    ServerOpening,
    Size,
    TextChosen,
    Thought,
    VerbChosen,
)
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
from unified_base.text import quoted

if TYPE_CHECKING:
    from unified.matching.fetching import FetchChoice, Fetched
    from unified.matching.media_index import MediaIndex
    from unified_data.document import Audio, Dialogue

Output = Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="File to write.")]
ARTICLE_FILES = "F.html, F.md, F.json, F.epub, F.docx or F.pdf."
Number = Annotated[int, typer.Option("-n", "--number", min=1, max=999, help="How many.")]


def speak(
    output: Output,
    opening: ServerOpening,
    choices: VerbChosen,
    text: Annotated[str | None, typer.Argument(help="What to say.")] = None,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", help="Say what it shows, in the place of a text."),
    ] = None,
    voice: Annotated[
        str | None,
        typer.Option("--voice", help="Of those of the model (default: its own)."),
    ] = None,
    thought: Thought = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Text to speech, or a picture told aloud: a WAV file."""
    from unified.articles.outputs import check_format, check_writable, write_together

    check_format(output, (".wav",), "speech")
    check_writable(output)
    if text is not None or picture is None:
        text = prompt("text", prompt_from(text or ""), "say what to speak")
    from unified_base.images import load_image
    from unified_base.sounds import encode_wav

    pixels = None if picture is None else load_image(picture)
    inputs = {"text": text, "image": pixels, "voice": voice}
    answered = answers(
        opening, CommandQuestion("speak", inputs, choices, seed), lambda response: response
    )
    (response,) = answered.results
    audio: Audio = response.answer  # type: ignore[assignment]
    write_together({output: encode_wav(audio.waveform, audio.sample_rate)})
    values = {
        "path": str(output),
        "seconds": round(audio.waveform.shape[1] / audio.sample_rate, 3),
        "voice": answered.voice,
        "seed": seed,
        "thought": response.thought,
    }
    result(values, as_json, with_thought(str(output), response, thought))


def listen(
    sound: Annotated[Path, typer.Argument(help="WAV, FLAC, Ogg, MP3, AIFF, AU or CAF.")],
    opening: ServerOpening,
    choices: AnswerChosen,
    thought: Thought = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Speech to text, on stdout."""
    from unified_base.sounds import load_audio
    from unified_data.document import Audio

    with warnings_as_notes():
        waveform, rate = load_audio(sound)
    question = CommandQuestion("listen", {"audio": Audio(waveform, rate)}, choices, seed)
    (response,) = answers(opening, question, lambda response: response).results
    values = {"sound": str(sound), "text": response.text, "thought": response.thought}
    result(values, as_json, with_thought(response.text, response, thought))


def reply(
    output: Output,
    opening: Opening,
    choices: Chosen,
    sound: Annotated[
        Path | None,
        typer.Argument(help="What is said to it (default: nothing): WAV, FLAC, Ogg, MP3, ..."),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds",
            help="Of the whole (default: the sound, and the model's own time behind it).",
        ),
    ] = None,
    both: Annotated[
        bool, typer.Option("--both", help="Both voices, a channel each: the model's, the other.")
    ] = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Speech to speech: an answer spoken while the sound is heard, as a WAV file."""
    from unified.articles.outputs import check_format, check_writable, write_together

    check_format(output, (".wav",), "speech")
    check_writable(output)
    from unified_base.sounds import encode_wav, load_audio
    from unified_data.document import Audio

    heard = None
    if sound is not None:
        with warnings_as_notes():
            heard = Audio(*load_audio(sound))
    asked = choices.choices
    model = opening.load()
    request = model.request_reply(heard, seconds, **asked)
    answer: Dialogue = fill(model, request, 1, seed)[0].segments[-1]  # type: ignore[assignment]
    voices = answer.waveform if both else answer.waveform[:1]
    write_together({output: encode_wav(voices, answer.sample_rate)})
    dialogue = model.sequencer.dialogue
    assert dialogue is not None  # or it would have been refused
    values = {
        "path": str(output),
        "text": dialogue.text_of(answer),
        "seconds": round(voices.shape[1] / answer.sample_rate, 3),
        "sound": None if sound is None else str(sound),
        "seed": seed,
    }
    result(values, as_json, str(output))


def write(
    prompt_: Annotated[
        str,
        typer.Argument(
            metavar="PROMPT",
            help='A title, perhaps with wishes: "The giant panda. First its looks, then its home; '
            'two pictures".',
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FILE", help=ARTICLE_FILES),
    ],
    opening: ServerOpening,
    choices: ArticleChosen,
    images: Annotated[
        int | None,
        typer.Option("--images", min=0, help="How many pictures (default: as the model likes)."),
    ] = None,
    no_audio: Annotated[bool, typer.Option("--no-audio", help="No narration.")] = False,
    size: Size = None,
    decoder: DecoderName = "vq",
    steps: DecoderSteps = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Ask the model whether each picture shows what stands by it."),
    ] = False,
    fetch: Annotated[
        Path | None,
        typer.Option(
            "--fetch",
            metavar="FILE",
            help="Of `tower choose`: pictures of its index where they fit better.",
        ),
    ] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Write an illustrated, narrated article."""
    started = time.perf_counter()
    from unified.articles.outputs import check_article_file, prepare_article_file

    check_article_file(output)
    check_decoder(decoder, steps)
    fetching = None if fetch is None else _fetching(fetch)
    words = prompt_from(prompt_)
    inputs = {"text": words, "images": images, "sounds": 0 if no_audio else None, "size": size}
    question = CommandQuestion(
        "write", inputs, choices, seed, 1, decoder, steps, check,
        prepare=lambda: prepare_article_file(output),
    )  # fmt: skip
    answered = answers(opening, question, lambda response: response.document)
    (document,) = answered.results
    fetched: tuple[Fetched, ...] = ()
    if fetching is not None:
        from unified.matching.fetching import fetch_pictures

        document, fetched, lines = fetch_pictures(document, *fetching)
        for each in fetched:
            note(f"fetched for {quoted(each.text, 60)}: {each.hit.where}")
        for line in lines:
            note(line)
    corrections: list[dict[str, Any]] = []
    if check:
        from unified.models.checking import check_article

        assert answered.model is not None
        checked = check_article(answered.model, document, seed)
        document = checked.document
        for line in checked.notes:
            note(line)
        corrections = [each.to_json() for _, text in checked.captions for each in text.corrections]
    from unified.articles.blocks import headings_of
    from unified.articles.outputs import save_article
    from unified_base.version import __version__

    details = {
        "Prompt": words.strip(),
        "Model": f"{opening.model} (vocabulary {answered.vocabulary[:12]})",
        "Seed": str(seed),
        "Made with": f"unified {__version__}",
    }
    for line in save_article(output, document, details):
        note(line)
    values: dict[str, Any] = {
        "path": str(output),
        "seconds": round(time.perf_counter() - started, 3),
        "sections": list(headings_of(document)),
        "pictures": answered.pictures,
        "narrations": answered.sounds,
        "seed": seed,
    }
    if check:
        values["corrections"] = corrections
    if fetching is not None:
        values["fetched"] = [each.to_json() for each in fetched]
    result(values, as_json, str(output))


def _fetching(file: Path) -> tuple[MediaIndex, FetchChoice]:
    """The index that a choice was learnt for, and the choice."""
    from unified.matching.fetching import FetchChoice
    from unified.matching.media_index import MediaIndex

    choice = FetchChoice.load(file)
    index = MediaIndex.open(choice.index)
    choice.check(index)  # before anything is written
    return index, choice


def sample(
    document: Annotated[Path, typer.Argument(help="A document (JSON) with slots.")],
    output: Output,
    opening: Opening,
    choices: TextChosen,
    number: Number = 1,
    infill: Annotated[
        bool, typer.Option("--infill", help="Fill a gap with what stands behind it in view.")
    ] = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Fill a document's slots: OUT.json with its media beside it, or OUT-1.json, ... with -n."""
    from unified.articles.outputs import check_format, check_writable, numbered, save_documents

    check_format(output, (".json",), "a document")
    paths = numbered(output, number)
    check_writable(paths[0])
    from unified.sequence.infilling import gap_of
    from unified.sequence.inspect import read_file
    from unified_data.document import Document

    request = read_file(document)
    if not isinstance(request, Document):
        raise ValueError(f"{document} is a list of ids, expected a document with slots")
    if not request.has_slots:
        raise ValueError(f"{document} has no slots, so there is nothing to sample; add one")
    asked = choices.choices
    model = opening.load()
    gap = gap_of(request, model.sequencer.grammar.format) if infill else None
    laid_out = request if gap is None else gap.document
    documents = fill(model, model.request_document(laid_out, **asked), number, seed)
    if gap is not None:
        documents = [gap.restore(filled) for filled in documents]
    save_documents(dict(zip(paths, documents)))
    names = [str(path) for path in paths]
    seeds = [seed + i for i in range(number)]
    result({"paths": names, "seeds": seeds}, as_json, "\n".join(names))


def inspect(
    file: Annotated[Path, typer.Argument(help="A document (.json) or ids (.json, .npy).")],
    opening: Opening,
    every_id: Annotated[bool, typer.Option("--all", help="Every id of every span.")] = False,
    as_json: AsJson = False,
) -> None:
    """A document or a sequence of ids: its spans coloured by modality, positions, ids."""
    from unified.sequence.inspect import inspect_document, inspect_ids, print_inspection, read_file
    from unified_data.document import Document

    content = read_file(file)
    sequencer = opening.load().sequencer
    if isinstance(content, Document):
        inspection = inspect_document(content, sequencer)
    else:
        inspection = inspect_ids(content, sequencer)
    if as_json:
        result(inspection.to_json(), True, "")
    else:
        from unified_base.terminal import console

        print_inspection(inspection, console(), every_id)
    if inspection.error:
        raise ValueError(f"{file} is no document of this model: {inspection.error}")
