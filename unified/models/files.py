"""A model's directory: reading it, with every part checked against the others, and writing it.

It holds a plain Hugging Face causal-LM checkpoint (config.json, model.safetensors),
tokenizer.json and what transformers keeps beside it, one folder for each media tokenizer,
tasks.yaml (how it is asked), and unified.json: the vocabulary and its hash, the format's YAML, the
sampling defaults, and perhaps the name of a plug-in and what writes the codes of positions that
hold several (`unified.models.code_output`; a depth decoder has depth_decoder.safetensors).
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unified.engine.request import Sampling
from unified.formats.grammar import Grammar
from unified.formats.parser import parse_format
from unified.formats.spec import Format
from unified.formats.text_to_text_format import check_encoded
from unified.models import hf_checkpoint as checkpoint
from unified.models.code_output import CodesOutput, check_codes, without_depth_decoder
from unified.models.depth_files import save_depth_decoder
from unified.models.grafting.graft_files import (
    EMBEDS_KEY,
    LAYERS_KEY,
    check_layers,
    describe_embedders,
    load_embedders,
    save_embedders,
    save_layers,
)
from unified.models.opening import LanguageModel
from unified.models.quantized import is_quantized
from unified.models.stored_weights import check_dtype
from unified.sequence.modality import modalities_in
from unified.sequence.sequencer import Sequencer
from unified.tasks.task_file import TASKS_FILE, write_tasks
from unified.tasks.task_table import Tasks
from unified.vocabulary.text_tokenizer import TextTokenizer
from unified.vocabulary.vocabulary import Vocabulary, VocabularyMismatchError
from unified_base.quiet import no_progress_bars
from unified_base.text import quoted
from unified_base.whole_folder import whole_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unified.models.grafting.layer_grafts import LayerGraft
    from unified.models.published import Published
    from unified_tokenizers.base import ImageTokenizer, MediaTokenizer
    from unified_tokenizers.base import Modality as MediaKind

__all__ = [
    "FILE_NAME", "load_diffusion", "load_model", "loaded_tokenizer", "model_directory",
    "read_words", "save_model",
]  # fmt: skip

FILE_NAME = "unified.json"
# In config.json too, so that a decoder of another vocabulary is noticed.
HASH_KEY = "unified_vocabulary"


def model_directory(name_or_path: str | Path) -> Path:
    """Where a model lies: "pocket", the shipped one, a folder, or a name on the Hugging Face hub,
    which is fetched. Raises ValueError for none of them."""
    if str(name_or_path) == "pocket":
        return Path(str(resources.files("unified.pocket") / "checkpoint"))
    path = Path(name_or_path)
    if not path.is_dir():
        from unified.models.published import fetch

        return fetch(str(name_or_path))
    return path


def read_words(directory: Path) -> tuple[Vocabulary, Format, Sampling]:
    """Vocabulary, format and sampling defaults of the model in a folder, its decoder unread.

    Of a published checkpoint they are worked out from its tokenizer and config.json. Raises
    ValueError for a folder without a model, or with a damaged one.
    """
    path = directory / FILE_NAME
    if not path.exists() and (directory / "config.json").exists():
        from unified.models.published import open_published

        opened = open_published(directory)
        sequencer = opened.sequencer
        return sequencer.vocabulary, sequencer.grammar.format, opened.sampling
    manifest = checkpoint.read_json(path)
    try:
        return (
            Vocabulary.from_json(manifest["vocabulary"]),
            parse_format(manifest["format"]),
            Sampling.from_json(manifest["sampling"]),
        )
    except KeyError as missing:
        raise ValueError(f"{path} has no {missing}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def load_model(
    directory: Path,
    device: str = "cpu",
    dtype: str = "auto",
    read: bool = True,
    codecs: Mapping[str, MediaTokenizer | None] | None = None,
    backend: str = "auto",
) -> tuple[Sequencer, Sampling, LanguageModel, CodesOutput | None]:
    """The parts of the model in a folder; see `UnifiedModel.from_pretrained`.

    codecs: tokenizers by modality, in the place of those in the folder.
    """
    from unified.models.published import (
        codecs_inside,
        inside_embedders,
        missing_of,
        saved_published,
    )

    manifest = checkpoint.read_json(directory / FILE_NAME)
    expected = {"vocabulary", "vocabulary_hash", "format", "sampling"}
    where = directory / FILE_NAME
    published = saved_published(manifest, where)
    if set(manifest) - {"plugin", "pretrained", "codes", EMBEDS_KEY, LAYERS_KEY} != expected:
        raise ValueError(f"{where} has {quoted(sorted(manifest))}, expected {sorted(expected)}")
    for name in ("format", "vocabulary_hash"):
        if not isinstance(manifest[name], str):
            raise ValueError(f"{where}: {name} is {quoted(manifest[name])}, expected text")
    try:
        vocabulary = Vocabulary.from_json(manifest["vocabulary"])
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if manifest["vocabulary_hash"] != vocabulary.hash:
        raise VocabularyMismatchError(
            f"{where} says vocabulary {quoted(manifest['vocabulary_hash'])}, but its blocks are"
            f" vocabulary {vocabulary.hash}; it was changed by hand"
        )
    config = checkpoint.read_config(directory)
    made_for = config.get(HASH_KEY)
    if made_for != vocabulary.hash:
        raise VocabularyMismatchError(
            f"the decoder in {directory} was made for vocabulary {quoted(made_for)}, its "
            f"{FILE_NAME} holds vocabulary {vocabulary.hash}; take both from the same model"
        )
    if published is None and config.get("vocab_size") != vocabulary.size:
        raise VocabularyMismatchError(
            f"the decoder in {directory} has {config.get('vocab_size')} rows, vocabulary "
            f"{vocabulary.hash} has {vocabulary.size} ids"
        )
    try:
        grammar = Grammar.from_text(manifest["format"], vocabulary)
    except ValueError as error:
        raise type(error)(f"model {directory}: {error}") from None
    if checkpoint.has_encoder(config):
        try:
            check_encoded(grammar.format)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    codes = None
    if "codes" in manifest:
        codes = CodesOutput.from_json(manifest["codes"], f"{where}: codes")
    width = (config.get("text_config") or config).get("hidden_size") or config.get("d_model")
    check_codes(codes, grammar, width, str(where))
    if codes is not None and (codes.output == "model") != (
        published is not None and published.pretrained.codes_output == "model"
    ):
        raise ValueError(
            f"{where}: codes.output is {codes.output}, which does not fit pretrained"
            f" {quoted(manifest.get('pretrained'))}: model stands for modules of a published"
            " checkpoint that writes its codes itself"
        )
    pretrained = None if published is None else published.pretrained
    depth = None if codes is None else codes.depth
    layers = check_layers(manifest.get(LAYERS_KEY), str(where))
    language_model = LanguageModel.open(
        directory, pretrained, device, dtype, read, backend, depth, layers,
        bool(grammar.format.bidirectional),
    )  # fmt: skip
    media: dict[str, Any] = {
        modality: codec for modality, codec in (codecs or {}).items() if codec is not None
    }
    attended = {kind for kind, span in grammar.format.spans.items() if span.attended}
    embedders: dict[str, Any] = {
        **load_embedders(manifest.get(EMBEDS_KEY), directory, width or 0, str(where), attended),
        **(inside_embedders(published.pretrained, directory, vocabulary) if published else {}),
    }
    for modality in modalities_in(vocabulary):
        if modality in embedders:
            continue
        folder = directory / f"{modality}_tokenizer"
        if modality in media:
            continue
        if published is not None and modality in published.inside:
            media.update(codecs_inside(directory, (modality,)))
        elif published is not None and not folder.is_dir():
            continue  # it came without its codec, and was saved so
        else:
            media[modality] = _load_media(folder)
    try:
        sequencer = Sequencer(
            vocabulary,
            grammar,
            TextTokenizer.load(directory),
            missing=missing_of(published.pretrained, config, media) if published else None,
            others=media,
            embedders=embedders,
        )
        sampling = Sampling.from_json(manifest["sampling"], "sampling")
    except ValueError as error:
        raise type(error)(f"model {directory}: {error}") from None
    return sequencer, sampling, language_model, codes


def save_model(
    directory: str | Path,
    hf: PreTrainedModel,
    sequencer: Sequencer,
    sampling: Sampling,
    dtype: str | None,
    finish: Callable[[Path], None] | None = None,
    plugin: str | None = None,
    tasks: Tasks | None = None,
    published: Published | None = None,
    codes: CodesOutput | None = None,
) -> None:
    """Write a model's folder as a whole; see `UnifiedModel.save_pretrained`.

    finish: called with the folder before it takes its place, to put more into it.
    plugin: the name of what reads a user's words. tasks: None leaves the folder's own.
    published: what the model was published as: its folder then has the layout of that checkpoint.
    codes: what writes the codes of positions that hold several.
    """
    import torch

    from unified.models.published import codec_inside

    if dtype is not None:
        check_dtype(dtype)
    if is_quantized(hf):
        raise ValueError(
            "the model's weights are quantized, and what they were is lost: it cannot be saved;"
            " open it with dtype auto, float32, bfloat16 or float16 first"
        )
    vocabulary = sequencer.vocabulary
    with whole_folder(directory, FILE_NAME, keep=_stays) as folder:
        if dtype and any(p.dtype != getattr(torch, dtype) for p in hf.parameters()):
            hf = copy.deepcopy(hf).to(getattr(torch, dtype))
        setattr(hf.config, HASH_KEY, vocabulary.hash)
        with without_depth_decoder(hf) as depth, without_layers(hf) as layer_graft:
            with no_progress_bars(), codec_inside(hf, published, sequencer):
                hf.save_pretrained(folder)
            if codes is not None and codes.output == "depth":
                assert depth is not None
                save_depth_decoder(depth, folder)
        sequencer.text_tokenizer.save(folder)
        inside = published.inside if published else ()
        for modality, tokenizer in sequencer.tokenizers.items():
            if modality not in inside:
                _save_media(tokenizer, folder / f"{modality}_tokenizer")
        save_embedders(sequencer.embedders, folder)
        manifest = {
            "vocabulary": vocabulary.to_json(),
            "vocabulary_hash": vocabulary.hash,
            "format": sequencer.grammar.source,
            "sampling": sampling.to_json(),
            **({} if plugin is None else {"plugin": plugin}),
            **({} if codes is None else {"codes": codes.to_json()}),
            **describe_embedders(sequencer.embedders),
            **save_layers(layer_graft, folder),
        }
        if published is not None:
            manifest["pretrained"] = published.to_json()
        (folder / FILE_NAME).write_text(
            json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        if tasks is not None:
            (folder / TASKS_FILE).write_text(write_tasks(tasks), encoding="utf-8")
        if finish is not None:
            finish(folder)


@contextmanager
def without_layers(hf: PreTrainedModel) -> Iterator[LayerGraft | None]:
    """See `without_layer_graft`."""
    from unified.models.grafting.layer_grafts import without_layer_graft

    with without_layer_graft(hf) as graft:
        yield graft


def _stays(name: str) -> bool:
    """Whether a file that a new model did not replace stays: all but another decoder's weights,
    which transformers might take for the new one's."""
    return not re.fullmatch(
        r"(model|pytorch_model|adapter_model|depth_decoder|layer_graft)\b[^/]*", name
    )


def loaded_tokenizer(tokenizer: str | Path | MediaTokenizer | None, modality: MediaKind) -> Any:
    """A media tokenizer, loaded where its folder or name stands for it."""
    if not isinstance(tokenizer, str | Path):
        return tokenizer
    import unified_tokenizers

    load: Any = unified_tokenizers.load_tokenizer  # of either kind
    return load(tokenizer, modality)


def _load_media(directory: Path) -> MediaTokenizer:
    from unified_tokenizers.loading_arrays import load_array_tokenizer

    return load_array_tokenizer(directory)


def load_diffusion(directory: Path, tokenizer: ImageTokenizer, **settings: int) -> ImageTokenizer:
    """The image tokenizer of a model, decoding through the diffusion decoder in its folder."""
    from unified_tokenizers.diffusion_tokenizer import DiffusionTokenizer

    if isinstance(tokenizer, DiffusionTokenizer):
        tokenizer = tokenizer.tokenizer
    folder = directory / "image_tokenizer"
    if not folder.is_dir():
        raise ValueError(f"{directory} has no diffusion decoder (it would be {folder}/diffusion)")
    return DiffusionTokenizer.beside(folder, tokenizer, None, **settings)


def _save_media(tokenizer: MediaTokenizer, directory: Path) -> None:
    from unified_tokenizers.diffusion_tokenizer import FOLDER, DiffusionTokenizer
    from unified_tokenizers.saved import save_exactly

    if isinstance(tokenizer, DiffusionTokenizer):
        save_exactly(tokenizer.tokenizer, directory)
        save_exactly(tokenizer.decoder, directory / FOLDER)
    else:
        save_exactly(tokenizer, directory)
