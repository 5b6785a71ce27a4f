"""Commands for one medium at a time: draw, describe, speak, listen; and sample, inspect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unified.cli.terminal import (
    AsJson,
    DecoderName,
    DecoderSteps,
    MaxRepeats,
    MaxTextIds,
    ModelName,
    Progress,
    Seed,
    check_decoder,
    follow,
    load_model,
    model_directory,
    note,
    result,
    sampling_with,
    warnings_as_notes,
)
from unified_base.arguments import prompt

if TYPE_CHECKING:
    from unified.engine.request import Sampling
    from unified.models.model import UnifiedModel
    from unified_data.document import Audio, Document, Image, Text

Output = Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="File to write.")]
Number = Annotated[int, typer.Option("-n", "--number", min=1, max=999, help="How many.")]


def draw(
    text: Annotated[str, typer.Argument(help='What to draw, for example "a giant panda".')],
    output: Output,
    number: Number = 1,
    decoder: DecoderName = "vq",
    steps: DecoderSteps = None,
    model: ModelName = "pocket",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Text to image: F.png, or F-1.png, F-2.png, ... with -n."""
    from unified.articles.outputs import check_format, check_writable, numbered, write_together

    check_format(output, (".png",), "a picture")
    paths = numbered(output, number)
    check_writable(paths[0])
    check_decoder(decoder, steps)
    from unified.pocket.captions import read_caption
    from unified.pocket.known_subjects import KnownSubjects
    from unified_base.images import encode_png
    from unified_data.pocket.tasks import draw_document, image_slot

    known = KnownSubjects.load(model_directory(model))
    if known is not None:
        caption = read_caption(text, known)
        if caption.note:
            note(caption.note)
        text = caption.text
    else:
        prompt("text", text, "say what to draw")
    loaded = load_model(model, decoder, steps)
    request = draw_document(text, image_slot())
    documents = _sample(loaded, request, number, seed)
    images: list[Image] = [document.segments[-1] for document in documents]  # type: ignore[misc]
    write_together({path: encode_png(image.pixels) for path, image in zip(paths, images)})
    names = [str(path) for path in paths]
    if number > 1:
        note(f"{number} pictures, numbered {names[0]} to {names[-1]}")
        distinct = len({image.pixels.tobytes() for image in images})
        if distinct < number:
            note(f"distinct pictures among them: {distinct}; other words give other pictures")
    seeds = [seed + i for i in range(number)]
    result({"paths": names, "caption": text, "seeds": seeds}, as_json, "\n".join(names))


def describe(
    picture: Annotated[Path, typer.Argument(help="PNG, JPEG, WebP, GIF or BMP.")],
    ask: Annotated[str | None, typer.Option("--ask", help="A question about the picture.")] = None,
    model: ModelName = "pocket",
    seed: Seed = 0,
    max_text_ids: MaxTextIds = None,
    max_repeats: MaxRepeats = None,
    as_json: AsJson = False,
) -> None:
    """Image to text: a description, or the answer to a question, on stdout."""
    from unified_base.images import load_image
    from unified_data.document import Image as DocumentImage
    from unified_data.document import Slot

    pixels = load_image(picture)
    if ask is not None:
        prompt("question", ask, 'ask something, for example "What is this?"')
    from unified.pocket.known_subjects import KnownSubjects
    from unified.sequence.preprocess import fit_picture
    from unified_data.pocket.scenes import SIDE
    from unified_data.pocket.tasks import ask_document, describe_document

    loaded = load_model(model)
    if KnownSubjects.load(model_directory(model)) is not None:
        height = width = SIDE
    else:
        stride = loaded.sequencer.tokenizer("image").stride
        height, width = (max(1, round(n / stride)) * stride for n in pixels.shape[:2])
    pixels, changed = fit_picture(pixels, height, width)
    if changed:
        note(changed)
    image, slot = DocumentImage(pixels), Slot("text")
    if ask is None:
        request = describe_document(image, slot)
    else:
        request = ask_document(image, [(ask, slot)])
    sampling = sampling_with(loaded, max_text_ids, max_repeats)
    answer = _text(_sample(loaded, request, 1, seed, sampling, answers=True)[0])
    values = {"picture": str(picture), "question": ask, "text": answer}
    result(values, as_json, answer)


def speak(
    text: Annotated[str, typer.Argument(help="What to say.")],
    output: Output,
    voice: Annotated[str, typer.Option("--voice", help="amy, ben or cole.")] = "ben",
    model: ModelName = "pocket",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Text to speech: a WAV file."""
    from unified.articles.outputs import check_format, check_writable, write_together

    check_format(output, (".wav",), "speech")
    check_writable(output)
    prompt("text", text, "say what to speak")
    from unified_base.sounds import encode_wav
    from unified_data.document import Slot
    from unified_data.pocket.tasks import speak_document

    request = speak_document(" ".join(text.split()), voice, Slot("audio"))
    document = _sample(load_model(model), request, 1, seed)[0]
    audio: Audio = document.segments[-1]  # type: ignore[assignment]
    write_together({output: encode_wav(audio.waveform, audio.sample_rate)})
    seconds = audio.waveform.shape[1] / audio.sample_rate
    values = {"path": str(output), "seconds": round(seconds, 3), "voice": voice, "seed": seed}
    result(values, as_json, str(output))


def listen(
    sound: Annotated[Path, typer.Argument(help="WAV, FLAC, Ogg, MP3, AIFF, AU or CAF.")],
    model: ModelName = "pocket",
    seed: Seed = 0,
    max_text_ids: MaxTextIds = None,
    max_repeats: MaxRepeats = None,
    as_json: AsJson = False,
) -> None:
    """Speech to text, on stdout."""
    from unified_base.sounds import load_audio
    from unified_data.document import Audio, Slot

    with warnings_as_notes():
        waveform, rate = load_audio(sound)
    from unified.sequence.preprocess import fit_sound
    from unified_data.pocket.tasks import listen_document

    loaded = load_model(model)
    target = loaded.sequencer.tokenizer("audio").sample_rate
    waveform, changes = fit_sound(waveform, rate, target)
    for change in changes:
        note(change)
    request = listen_document(Audio(waveform, target), Slot("text"))
    sampling = sampling_with(loaded, max_text_ids, max_repeats)
    heard = _text(_sample(loaded, request, 1, seed, sampling, answers=True)[0])
    result({"sound": str(sound), "text": heard}, as_json, heard)


def sample(
    document: Annotated[Path, typer.Argument(help="A document (JSON) with slots.")],
    output: Output,
    number: Number = 1,
    model: ModelName = "pocket",
    seed: Seed = 0,
    max_text_ids: MaxTextIds = None,
    max_repeats: MaxRepeats = None,
    as_json: AsJson = False,
) -> None:
    """Fill a document's slots: OUT.json with its media beside it, or OUT-1.json, ... with -n."""
    from unified.articles.outputs import check_format, check_writable, numbered, save_documents

    check_format(output, (".json",), "a document")
    paths = numbered(output, number)
    check_writable(paths[0])
    from unified.sequence.inspect import read_file
    from unified_data.document import Document

    request = read_file(document)
    if not isinstance(request, Document):
        raise ValueError(f"{document} is a list of ids, expected a document with slots")
    if not request.has_slots:
        raise ValueError(f"{document} has no slots, so there is nothing to sample; add one")
    loaded = load_model(model)
    sampling = sampling_with(loaded, max_text_ids, max_repeats)
    documents = _sample(loaded, request, number, seed, sampling)
    save_documents(dict(zip(paths, documents)))
    names = [str(path) for path in paths]
    seeds = [seed + i for i in range(number)]
    result({"paths": names, "seeds": seeds}, as_json, "\n".join(names))


def inspect(
    file: Annotated[Path, typer.Argument(help="A document (.json) or ids (.json, .npy).")],
    every_id: Annotated[bool, typer.Option("--all", help="Every id of every span.")] = False,
    model: ModelName = "pocket",
    as_json: AsJson = False,
) -> None:
    """A document or a sequence of ids: its spans coloured by modality, positions, ids."""
    from unified.sequence.inspect import inspect_document, inspect_ids, print_inspection, read_file
    from unified_data.document import Document

    found = read_file(file)
    sequencer = load_model(model).sequencer
    if isinstance(found, Document):
        inspection = inspect_document(found, sequencer)
    else:
        inspection = inspect_ids(found, sequencer)
    if as_json:
        result(inspection.to_json(), True, "")
    else:
        from unified_base.terminal import console

        print_inspection(inspection, console(), every_id)
    if inspection.error:
        raise ValueError(f"{file} is no document of this model: {inspection.error}")


def _sample(
    model: UnifiedModel,
    request: Document,
    number: int,
    seed: int,
    sampling: Sampling | None = None,
    answers: bool = False,
) -> list[Document]:
    """`number` samples with the seeds seed, seed + 1, ... answers: see `Progress`."""
    from unified_base.arguments import seeds_from
    from unified_data.document import Slot

    pictures = sum(isinstance(s, Slot) and s.modality == "image" for s in request) * number
    progress = Progress(number, pictures or None, answers)
    events = model.stream([request] * number, sampling, seeds_from(seed, number))
    return follow(events, progress)


def _text(document: Document) -> str:
    answer: Text = document.segments[-1]  # type: ignore[assignment]
    return answer.text
