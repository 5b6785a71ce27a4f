"""Commands of towers and indices: training a tower, asking it, indexing media, searching them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unified.cli.model import Changes, Config, Resume, existing, help_config
from unified.cli.options import Opening
from unified.cli.terminal import AsJson, Seed, note, prompt_from, result, warnings_as_notes
from unified_base.text import counted

if TYPE_CHECKING:
    import numpy as np

    from unified.matching.media_index import Hit, MediaIndex
    from unified.matching.space import Space
    from unified_data.document import Media

TowerName = Annotated[
    Path,
    typer.Option("--tower", metavar="DIR", help="A tower's folder: trained here, CLIP or SigLIP."),
]
Device = Annotated[
    str, typer.Option("--device", metavar="NAME", help="Of torch: cpu, cuda, cuda:1, mps.")
]
_TOLD = 8


def _train_keys() -> str:
    from unified.matching.space_config import SpaceTraining
    from unified.matching.tower_config import TowerTraining
    from unified_base.config_help import as_text

    return f"{as_text(TowerTraining)}\n\nWith branches, of a space:\n\n{as_text(SpaceTraining)}"


def train(
    config: Config,
    changes: Changes = None,
    resume: Resume = False,
    keys: Annotated[bool, help_config(_train_keys)] = False,
) -> None:
    """Train a tower of pictures and texts, or a space's branches, from one configuration file."""
    from unified.matching.tower_training import main

    with warnings_as_notes():
        main(existing(config), resume, changes or ())


def classify(
    medium: Annotated[
        Path,
        typer.Argument(help="A picture; of a space a sound, or a point cloud (.npy), as well."),
    ],
    classes: Annotated[
        list[str], typer.Argument(metavar="CLASS...", help='In words: "a fox" "a car".')
    ],
    tower: TowerName,
    template: Annotated[
        str,
        typer.Option("--template", help='What is said of a class: "a photo of {}".'),
    ] = "{}",
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Which of some classes a medium is of, none of which the tower was trained for."""
    from unified.matching.space import Space, is_space
    from unified.matching.tower import Tower
    from unified_base.images import load_image

    if is_space(tower):
        segment = _medium(medium)
        likeliest = Space.from_pretrained(tower, device).classify(segment, classes, template)
    else:
        pixels = load_image(medium)
        likeliest = Tower.from_pretrained(tower, device).classify(pixels, classes, template)
    values = {
        "medium": str(medium),
        "classes": [{"name": name, "probability": round(p, 6)} for name, p in likeliest],
    }
    result(values, as_json, "\n".join(f"{p:.3f}  {name}" for name, p in likeliest))


def _medium(path: Path) -> Media:
    """A picture, a sound or a point cloud, by the file's ending."""
    from unified_base.arrays import read_npy
    from unified_base.images import load_image
    from unified_base.media_source import media_kind
    from unified_base.sounds import load_audio
    from unified_data.document import Audio, Image, PointCloud

    if path.suffix.lower() == ".npy":
        return PointCloud(read_npy(path).astype("float32"))
    if media_kind(path.name) == "audio":
        return Audio(*load_audio(path))
    return Image(load_image(path))


def index(
    data: Annotated[list[str], typer.Argument(metavar="DATA...", help="Shards, folders or files.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="INDEX", help="Folder.")],
    tower: TowerName,
    max_broken: Annotated[
        int,
        typer.Option("--max-broken", min=0, help="Broken pictures to leave out; more is an error."),
    ] = 0,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Index the pictures of shards and folders, to be found by `search`.

    An index that is there is brought up to date, and one whose building was stopped goes on.
    """
    from rich.progress import Progress, TextColumn

    from unified.matching.build_index import build_index
    from unified.matching.tower import Tower
    from unified_base.terminal import console

    broken: list[Any] = []
    opened = Tower.from_pretrained(tower, device)
    columns = (TextColumn("{task.fields[done]} pictures"),)
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("", done=0, total=None)

        def report(done: int) -> None:
            bar.update(task, done=done)

        built = build_index(
            output, data, opened, str(tower.resolve()), report, broken.append, max_broken
        )
    for medium in broken[:_TOLD]:
        note(f"left out {medium}")
    if built.broken:
        note(f"{counted(built.broken, 'broken picture')} left out")
    note(
        f"{counted(built.media, 'picture')} in {counted(built.parts, 'part')},"
        f" {built.computed:,} of them computed now"
    )
    values = {
        "path": str(output), "fingerprint": opened.fingerprint, **built._asdict(),
    }  # fmt: skip
    result(values, as_json, str(output))


def choose(
    data: Annotated[
        list[str],
        typer.Argument(metavar="DATA...", help="Shards or folders of pictures with their texts."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="choice.json.")],
    folder: Annotated[
        Path, typer.Option("--index", metavar="INDEX", help="A folder of `unified index`.")
    ],
    opening: Opening,
    limit: Annotated[
        int, typer.Option("--limit", min=10, help="Pictures to learn from, at most.")
    ] = 200,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Learn when `write --fetch` takes a picture of an index in the place of a drawn one."""
    from rich.progress import Progress, TextColumn

    from unified.articles.outputs import check_format, check_writable, write_together
    from unified.matching.fetch_learning import learn_choice, texts_with_pictures
    from unified.matching.media_index import MediaIndex
    from unified_base.terminal import console

    check_format(output, (".json",), "a choice")
    check_writable(output)
    index = MediaIndex.open(folder)
    model = opening.load()

    def draw(text: str, number: int) -> np.ndarray:
        return model.draw(text, seed=seed + number)[0]

    columns = (TextColumn("{task.fields[done]} pictures"),)
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("", done=0, total=None)
        choice, _ = learn_choice(
            index, texts_with_pictures(data, limit), draw,
            lambda done: bar.update(task, done=done),
        )  # fmt: skip
    write_together({output: choice.to_bytes()})
    note(
        f"the index has the better picture for {choice.fetched} of {choice.examples} texts;"
        f" {choice.right} of them are decided right by a choice that has not seen them"
    )
    values = {
        "path": str(output), "examples": choice.examples, "fetched": choice.fetched,
        "right": choice.right,
    }  # fmt: skip
    result(values, as_json, str(output))


def search(
    folder: Annotated[Path, typer.Argument(metavar="INDEX", help="A folder of `unified index`.")],
    query: Annotated[
        str,
        typer.Argument(
            metavar="TEXT|PICTURE|SOUND", help='Words, or a medium\'s file: "a fox", f.png, f.wav.'
        ),
    ],
    number: Annotated[int, typer.Option("-n", "--number", min=1, help="How many.")] = 10,
    tower: Annotated[
        Path | None,
        typer.Option(
            "--tower",
            metavar="DIR",
            help="Where the index's own is now; a space of it, for sounds.",
        ),
    ] = None,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """The pictures of an index that fit a text or a sound, or are most like a picture."""
    from unified.matching.media_index import MediaIndex
    from unified.matching.space import Space, is_space
    from unified.matching.tower import Tower

    header = MediaIndex.read_header(folder)
    path = Path(header.tower) if tower is None else tower
    space = Space.from_pretrained(path, device) if is_space(path) else None
    opened = Tower.from_pretrained(path, device) if space is None else space.tower
    hits = _hits(MediaIndex.open(folder, opened), query, number, space)
    values = {"index": str(folder), "query": query, "hits": [hit.to_json() for hit in hits]}
    result(values, as_json, "\n".join(f"{hit.score:.3f}  {hit.where}" for hit in hits))


def _hits(opened: MediaIndex, query: str, number: int, space: Space | None) -> list[Hit]:
    """A query whose name ends as a picture's is a file; anything else is text."""
    from unified_base.arguments import prompt
    from unified_base.images import load_image
    from unified_base.media_source import media_kind

    kind = media_kind(query)
    if kind == "audio":
        if space is None:
            raise ValueError(
                f"{query} is a sound, and the tower of {opened.folder} knows pictures and texts;"
                " give a space of that tower that knows sounds (--tower)"
            )
        return opened.search(space.embed([_medium(Path(query))])[0], number)
    if kind == "image":
        return opened.search_picture(load_image(Path(query)), number)
    words = prompt("text", prompt_from(query), "say what to look for")
    return opened.search_text(words, number)
