"""Options that many commands share, and the two groups of them: of opening a model, of sampling.

A command names a group by a parameter: `opening: Opening` becomes `--model`, `--device`, ... and
`choices: Chosen` becomes `--guidance`, `--temperature`, ...; it gets what was given as one object.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from unified.cli.terminal import (
    DECODERS,
    MaxRepeats,
    MaxTextIds,
    ModelName,
    model_directory,
)

if TYPE_CHECKING:
    from unified.models.model import UnifiedModel
    from unified.models.model_spec import ModelSpec
    from unified.tasks.choices import Choices

__all__ = [
    "AnswerChosen",
    "ArticleChosen",
    "Chosen",
    "Opening",
    "ServerOpening",
    "Size",
    "TextChosen",
    "Thought",
    "VerbChosen",
    "command",
]

_CODEC = "Its folder, or its name on the hub; for models that come without one."
ImageTokenizerName = Annotated[
    str | None,
    typer.Option("--image-tokenizer", metavar="NAME_OR_PATH", help=f"Of pictures. {_CODEC}"),
]
AudioTokenizerName = Annotated[
    str | None,
    typer.Option("--audio-tokenizer", metavar="NAME_OR_PATH", help=f"Of sound. {_CODEC}"),
]
DeviceName = Annotated[
    str,
    typer.Option("--device", metavar="NAME", help="Of torch: cpu, cuda, cuda:1, mps."),
]
DtypeName = Annotated[
    str,
    typer.Option(
        "--dtype",
        metavar="NAME",
        help="Of the weights: float32, bfloat16, float16, int8, int4, or auto.",
    ),
]
BackendName = Annotated[
    str,
    typer.Option(
        "--backend", metavar="NAME", help="What samples: cpu, torch_static, transformers, or auto."
    ),
]
NoServer = Annotated[
    bool,
    typer.Option(
        "--no-server",
        help="Open the model here, though a running server has it (UNIFIED_SERVER= does, too).",
    ),
]
Size = Annotated[
    str | None,
    typer.Option(
        "--size", metavar="WxH", help="Of pictures, in pixels (default: the model's own)."
    ),
]
Thought = Annotated[
    bool,
    typer.Option("--thought", help="Show what the model wrote before its answer, in front of it."),
]
Guidance = Annotated[
    float | None,
    typer.Option("--guidance", metavar="SCALE", help="Classifier-free guidance; 1: none."),
]
Negative = Annotated[
    str | None,
    typer.Option("--negative", metavar="TEXT", help="What guidance has in place of the prompt."),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        "--temperature", metavar="T", help="Of what the command makes; 0 takes the likeliest."
    ),
]
TopK = Annotated[
    int | None, typer.Option("--top-k", metavar="K", help="Of the K likeliest ids alone.")
]
TopP = Annotated[
    float | None,
    typer.Option("--top-p", metavar="P", help="Of the likeliest that hold this probability alone."),
]
Shots = Annotated[
    Path | None,
    typer.Option(
        "--shots",
        metavar="PATH",
        help="Answered examples, put before what is asked: documents (.json, .jsonl, shards), or "
        "media with their texts beside them.",
    ),
]
MaxThoughtIds = Annotated[
    int | None,
    typer.Option(
        "--max-thought-ids",
        metavar="N",
        min=1,
        help="Of what it writes before its answer, at most.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KIND.KEY=VALUE",
        help="Any sampling parameter: image.temperature=0.9, max_ids=4096; repeatable.",
    ),
]


@dataclass(frozen=True)
class Opening:
    """Which model to open."""

    model: ModelName = "pocket"
    image_tokenizer: ImageTokenizerName = None
    audio_tokenizer: AudioTokenizerName = None
    device: DeviceName = "cpu"
    dtype: DtypeName = "auto"
    backend: BackendName = "auto"

    @property
    def directory(self) -> Path:
        """The folder of the model, which can be read before the model is loaded."""
        return model_directory(self.model)

    def load(self, decoder: str = "vq", steps: int | None = None) -> UnifiedModel:
        """The model, its pictures decoded by a decoder of `DECODERS`.

        Its weights are read once it samples, so that what cannot be asked is refused at once.
        """
        from unified.cli.tokenizer import open_tokenizer
        from unified.models.model import UnifiedModel

        names = {"image": self.image_tokenizer, "audio": self.audio_tokenizer}
        codecs: dict[str, Any] = {
            f"{modality}_tokenizer": open_tokenizer(name, modality)
            for modality, name in names.items()
            if name is not None
        }
        model = UnifiedModel.from_pretrained(
            self.model,
            device=self.device,
            dtype=self.dtype,
            read_weights=False,
            backend=self.backend,
            **codecs,
        )
        if DECODERS[decoder]:
            model.use_diffusion(steps=8 if steps is None else steps, scale=DECODERS[decoder])
        return model

    def spec(self, decoder: str = "vq", steps: int | None = None) -> ModelSpec:
        """The same in names, for other processes to open. Raises ValueError for a tokenizer that is
        not there."""
        from unified.cli.tokenizer import tokenizer_folder
        from unified.models.model_spec import ModelSpec

        names = {"image": self.image_tokenizer, "audio": self.audio_tokenizer}
        image, audio = (
            None if name is None else str(tokenizer_folder(name, modality)[0])
            for modality, name in names.items()
        )
        return ModelSpec(
            self.model, self.device, self.dtype, self.backend, image, audio, DECODERS[decoder],
            8 if steps is None else steps,
        )  # fmt: skip


@dataclass(frozen=True)
class ServerOpening(Opening):
    """Which model to open, unless a running server has it already."""

    no_server: NoServer = False


@dataclass(frozen=True)
class Chosen:
    """What was chosen about the sampling; see `unified.tasks.choices.Choices`."""

    guidance: Guidance = None
    negative: Negative = None
    temperature: Temperature = None
    top_k: TopK = None
    top_p: TopP = None
    settings: Settings = None

    @property
    def choices(self) -> Choices:
        """As the verbs take them. Raises ValueError for a `--set` that is none."""
        from unified.tasks.choices import Choices
        from unified.tasks.settings import read_settings

        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if values.get("shots") is not None:
            from unified.tasks.shot_files import read_shots

            values["shots"] = read_shots(values["shots"])
        return Choices(**{**values, "settings": read_settings(self.settings or ())})  # type: ignore[typeddict-item]


@dataclass(frozen=True)
class VerbChosen(Chosen):
    """Of a verb: with what stands before what is asked, and before the answer."""

    shots: Shots = None
    max_thought_ids: MaxThoughtIds = None


@dataclass(frozen=True)
class TextChosen(Chosen):
    """With what ends a text."""

    max_text_ids: MaxTextIds = None
    max_repeats: MaxRepeats = None


@dataclass(frozen=True)
class AnswerChosen(TextChosen, VerbChosen):
    """Of a verb that answers with a text."""


@dataclass(frozen=True)
class ArticleChosen(VerbChosen):
    """With what ends a text inside an article."""

    max_repeats: MaxRepeats = None


GROUPS = (
    Opening, ServerOpening, Chosen, VerbChosen, TextChosen, AnswerChosen, ArticleChosen,
)  # fmt: skip


def command(function: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters of a group are options one by one, in the group's place."""
    hints = get_type_hints(function, include_extras=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, type[Any]] = {}
    for parameter in inspect.signature(function).parameters.values():
        kind = hints[parameter.name]
        if kind not in GROUPS:
            parameters.append(parameter.replace(annotation=kind))
            continue
        groups[parameter.name] = kind
        of_group = get_type_hints(kind, include_extras=True)
        parameters += [
            inspect.Parameter(
                field.name, parameter.kind, default=field.default, annotation=of_group[field.name]
            )
            for field in fields(kind)
        ]

    def run(**values: Any) -> None:
        for name, kind in groups.items():
            names = [field.name for field in fields(kind)]
            values[name] = kind(**{each: values.pop(each) for each in names})
        function(**values)

    # Parameters without a default come first, as a signature wants them.
    parameters.sort(key=lambda parameter: parameter.default is not inspect.Parameter.empty)
    run.__name__, run.__doc__ = function.__name__, function.__doc__
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run
