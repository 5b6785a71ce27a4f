"""The unified model: a causal language model, a vocabulary, a format and media tokenizers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unified.engine.backends.base import Decoder
from unified.engine.request import Sampling
from unified.models import hf_checkpoint as checkpoint
from unified.models.code_output import CodesOutput
from unified.models.extend import create_decoder, extend_decoder
from unified.models.extend_published import extend_published
from unified.models.files import (
    FILE_NAME,
    load_diffusion,
    load_model,
    loaded_tokenizer,
    model_directory,
    save_model,
)
from unified.models.generation_settings import text_settings
from unified.models.grafting.graft import Graft, all_grafts, attends_to_media, put_into_layers
from unified.models.model_parts import ModelParts
from unified.models.model_tasks import copy_plugin_files, plugin_of, tasks_of
from unified.models.opening import LanguageModel, check_weights_device
from unified.models.published import Published, open_published, saved_published
from unified.models.put_together import put_together
from unified.models.streams import Streams
from unified.sequence.sequencer import Sequencer
from unified.tasks.task_table import Tasks
from unified.vocabulary.text_tokenizer import TextTokenizer
from unified_base.arguments import seed_of, whole

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unified_tokenizers.base import AudioTokenizer, ImageTokenizer, MediaTokenizer


class UnifiedModel(ModelParts, Streams):
    """Reads and writes documents of text, pictures and sound.

    Any number of threads may sample from one model at once: each of them gets what it would get
    alone. Training `hf`, moving it or `use_diffusion` are for when nobody does.

    directory: where it was loaded from, None for a new one.
    published: which published model it is, None for one of ours.
    sampling: the defaults; every method takes others.
    plugin: the name of what reads a user's words before a task does, None for nothing.
    codes: what writes the codes of positions that hold several; None where none does.
    """

    def __init__(
        self,
        sequencer: Sequencer,
        sampling: Sampling,
        *,
        hf: PreTrainedModel | None = None,
        language_model: LanguageModel | None = None,
        directory: Path | None = None,
        tasks: Tasks | None = None,
        plugin: str | None = None,
        published: Published | None = None,
        codes: CodesOutput | None = None,
    ) -> None:
        """Made by `from_pretrained`, `create` and `extend`. hf or language_model."""
        self.sequencer = sequencer
        self.sampling = sampling
        self.directory = directory
        self.published = published
        self.plugin = plugin
        self.codes = codes
        self._tasks = tasks_of(sequencer, None) if tasks is None else tasks
        super().__init__()
        self._language_model = language_model or LanguageModel(
            hf, pretrained=None if published is None else published.pretrained
        )
        self._language_model.before_another = self._forget_engine
        self._language_model.bidirectional = bool(sequencer.grammar.format.bidirectional)
        for embedder in self.embedders.values():
            if embedder.is_inside:
                embedder.bind(self._language_model)

    # What it is made of.

    @property
    def hf(self) -> Any:
        """The decoder as transformers' object: to train it, to save it, or for what else it can.

        Of its published class (AutoModelForCausalLM of ours), in the type its weights have. On the
        CPU they are views of the stored files until something writes to them. From the first use
        on, sampling follows the weights of this object.
        """
        return self._language_model.hf

    def decoder(self) -> Decoder:
        """The decoder for sampling, made once and again only where `hf` has changed.

        Its `backend` is "cpu", "torch_static" or "transformers", see `from_pretrained`.
        """
        return self._language_model.decoder()

    @property
    def device(self) -> str:
        """Where the decoder's weights are, such as "cpu" or "cuda:0"."""
        return self._language_model.device

    def to(self, device: str | None = None, dtype: str | None = None) -> UnifiedModel:
        """Move the decoder and the media tokenizers, and give the decoder's weights a type.

        Args:
            device: any device of torch, such as "cuda" or "cpu"; None: where they are. On "meta"
                the decoder has no weights (media tokenizers stay where they are); on the way back
                they are read from the folder again, without what was trained and not saved.
            dtype: "float32", "bfloat16" or "float16"; "int8" or "int4", see `from_pretrained`;
                None: as they are.

        Raises:
            ValueError: a device or type that is not there; the way back from "meta" of a model
                that was not loaded from a folder.
        """
        self._drop_engine()
        self._language_model.to(device, dtype)
        return self._move_tokenizers(device)

    def _move_tokenizers(self, device: str | None) -> UnifiedModel:
        if device in (None, "meta"):
            return self
        for part in (self.image_tokenizer, self.audio_tokenizer, *self.embedders.values()):
            if part is not None:
                part.to(device)
        return self

    # Making, loading and saving.

    @classmethod
    def create(
        cls,
        config: Mapping[str, Any],
        *,
        text_tokenizer: TextTokenizer,
        image_tokenizer: ImageTokenizer | None = None,
        audio_tokenizer: AudioTokenizer | None = None,
        format: str | Path = "pocket",
        max_grid: int = 64,
        tokenizers: Mapping[str, MediaTokenizer] | None = None,
        codes: str | None = None,
        depth: Mapping[str, Any] | None = None,
    ) -> UnifiedModel:
        """A Qwen3 decoder with random weights (torch's global seed) over a new vocabulary.

        config: fields of transformers' Qwen3Config; vocab_size follows from the tokenizers.
        max_grid: the largest side of a picture in codes.
        tokenizers: of other modalities, by name (`unified.sequence.modality`).
        codes: what writes the codes of a position behind its first where the format puts several
        together: "depth", a depth decoder (also None), or "heads", the decoder's own head.
        depth: sizes of the depth decoder, such as {"num_layers": 2}
        (`unified.engine.backends.depth_config`); others are the defaults.
        Raises ValueError for a field that Qwen3Config or DepthConfig does not have, or does not
        take, and for codes where the format puts none together.
        """
        sequencer, hf, declared = create_decoder(
            config, text_tokenizer, image_tokenizer, audio_tokenizer, format, max_grid, tokenizers,
            codes, depth,
        )  # fmt: skip
        return cls(sequencer, Sampling(), hf=hf, codes=declared)

    @classmethod
    def extend(
        cls,
        llm: str | Path | PreTrainedModel,
        *,
        text_tokenizer: TextTokenizer | None = None,
        image_tokenizer: ImageTokenizer | None = None,
        audio_tokenizer: AudioTokenizer | None = None,
        format: str | Path = "pocket",
        max_grid: int = 64,
        initialise: str = "mean-covariance",
        dtype: str | None = None,
        tokenizers: Mapping[str, MediaTokenizer] | None = None,
        device: str | None = None,
        image_codes: str | None = None,
        audio_codes: str | None = None,
        depth: Mapping[str, Any] | None = None,
        see: str | Path | Graft | None = None,
        hear: str | Path | Graft | None = None,
        read: Mapping[str, str | Path | Graft] | None = None,
        layers: str | None = None,
        layer_options: Mapping[str, int] | None = None,
        bidirectional: Sequence[str] = (),
    ) -> UnifiedModel:
        """Give a language model pictures and sound: rows for new ids are appended.

        llm: a checkpoint's folder, a name on the Hugging Face hub, or a loaded causal LM, which is
        changed in place. text_tokenizer: the LLM's; None reads it from the folder.
        format: "chat" for the layout of its chat template (`unified.formats.chat_format`), and
        "chat-tools" for that with calls of tools and gaps.
        initialise: how new rows begin, see `unified.models.init_rows`; torch's global seed.
        dtype: of the weights, "float32", "bfloat16" or "float16"; None: as they are stored.
        tokenizers: of other modalities, by name (`unified.sequence.modality`).
        device: of torch, where a folder's weights are loaded and new rows made; media tokenizers
        go there too. None: the CPU, or where a loaded LLM is.
        image_codes, audio_codes: the levels of a code in positions of their own ("row"), or in one,
        written by a depth decoder ("depth") or by the decoder's head ("heads"); None: as the format
        says. depth: sizes of the depth decoder, see `create`.
        see, hear: encoders through which pictures and sounds are read as vectors, in the place of
        codes or beside them (`unified.models.grafting.graft.Graft`; docs/grafting.md). read: those
        of other media, by modality: video, region, state, and image with tiles. layers: what is put
        into the decoder's layers for them, by name; layer_options: of it. bidirectional: roles and
        kinds of spans of vectors whose positions see one another, such as ("prompt",).

        Its texts are sampled as its generation_config.json says, and it is asked in the words of
        `unified.tasks.defaults`: `tasks` may be changed before it is trained.

        Of a published model that reads media and cannot write them (Apertus 1.5) the head alone
        gets rows, for the ids that it has; its format and tasks are its own.

        Every row the LLM had, padding included, keeps its place and value, so its logits over
        them stay what they were. Warns of what differs from the LLM's own tokenizer and template.

        Raises ValueError for what is no causal LM of text, or lacks parts of one; for a text
        tokenizer that cannot give texts back; and for a chat template that no format can say.
        """
        check_weights_device(device)
        layouts = {"image": image_codes, "audio": audio_codes}
        grafts = all_grafts(see, hear, read)
        if isinstance(llm, str | Path) and not grafts:
            extended = extend_published(
                llm, image_tokenizer, audio_tokenizer, format, initialise, dtype, device, layouts
            )
            if extended is not None:
                opened, hf = extended
                return cls(
                    opened.sequencer, opened.sampling, hf=hf, tasks=opened.tasks,
                    published=opened.published,
                )._move_tokenizers(device)  # fmt: skip
        sequencer, hf, declared, notes = extend_decoder(
            llm, text_tokenizer, image_tokenizer, audio_tokenizer, format, max_grid, initialise,
            dtype, tokenizers, device, layouts, depth, grafts, attends_to_media(layers, grafts),
            bidirectional,
        )  # fmt: skip
        if layers is not None:
            put_into_layers(hf, layers, layer_options or {})
        sampling, note = text_settings(hf)
        for text in (*notes, *([] if note is None else [note])):
            warnings.warn(text, stacklevel=2)
        return cls(sequencer, sampling, hf=hf, codes=declared)._move_tokenizers(device)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path = "pocket",
        *,
        device: str = "cpu",
        dtype: str = "auto",
        image_tokenizer: ImageTokenizer | str | Path | None = None,
        audio_tokenizer: AudioTokenizer | str | Path | None = None,
        read_weights: bool = True,
        backend: str = "auto",
    ) -> UnifiedModel:
        """Load "pocket", the model shipped with this package, or the one in a folder or on the hub.

        Beside models of ours: checkpoints of Emu3, Chameleon, Anole, Janus, Liquid and Orpheus (see
        `unified.models.published`). While it opens, one copy of its weights is in memory.

        Args:
            name_or_path: "pocket", a folder, or a name on the Hugging Face hub.
            device: any device of torch, for the decoder and the media tokenizers; see `to`.
            dtype: of the decoder's weights, "float32", "bfloat16" or "float16"; "auto": as they
                are stored. "int8": quantized, for sampling: on the CPU while they are read, `hf`
                stays as it is stored; what torch steps by torchao. "int4": by torchao, on
                the CPU and CUDA. Such a model is neither trained nor saved.
            image_tokenizer: for models that come without their codec, or in place of it; a folder
                or a name is loaded.
            audio_tokenizer: likewise.
            read_weights: False leaves the decoder's weights unread until something is sampled.
            backend: what samples: "cpu" (compiled loops), "torch_static" (batched, on any device),
                "transformers" (anything else), or "auto": the first of these that can.

        Raises:
            ValueError: a folder without a model, damaged files, a device or type that is not there,
                a backend that the model cannot use, or parts that do not belong together: a decoder
                of another vocabulary, another text or media tokenizer.
        """
        directory = model_directory(name_or_path)
        codecs = {
            "image": loaded_tokenizer(image_tokenizer, "image"),
            "audio": loaded_tokenizer(audio_tokenizer, "audio"),
        }
        if (directory / FILE_NAME).exists() or not (directory / "config.json").exists():
            sequencer, sampling, language_model, codes = load_model(
                directory, device, dtype, read_weights, codecs, backend
            )
            where = directory / FILE_NAME
            published = saved_published(checkpoint.read_json(where), where)
            tasks, plugin = tasks_of(sequencer, directory), plugin_of(directory)
        else:
            opened = open_published(directory, codecs["image"], codecs["audio"])
            sequencer, sampling = opened.sequencer, opened.sampling
            published = opened.published
            language_model = LanguageModel.open(
                directory, published.pretrained, device, dtype, read_weights, backend
            )
            tasks, plugin = tasks_of(sequencer, directory, opened.tasks), None
            codes = opened.codes
        model = cls(
            sequencer,
            sampling,
            language_model=language_model,
            directory=directory,
            tasks=tasks,
            plugin=plugin,
            published=published,
            codes=codes,
        )
        return model._move_tokenizers(device)

    def together(
        self,
        codes: str = "depth",
        depth: Mapping[str, Any] | None = None,
        modalities: Collection[str] | None = None,
    ) -> UnifiedModel:
        """This model with the levels of a code in one position instead of in a row.

        Its decoder is that of the other, object and all: this one is not to be used any further.
        The depth decoder has yet to be trained, by `unified train` with `train: depth` first and
        `train: full` then; with "heads" all of it is.

        codes, depth: see `create`. modalities: whose, such as ("audio",); None: all of several
        levels.

        Raises ValueError for a model whose codes are together already, or of one level.
        """
        self._drop_engine()
        sequencer, declared = put_together(self.sequencer, self.hf, codes, depth, modalities)
        return UnifiedModel(
            sequencer, self.sampling, hf=self.hf, directory=self.directory, tasks=self._tasks,
            plugin=self.plugin, published=self.published, codes=declared,
        )  # fmt: skip

    def use_diffusion(self, steps: int = 8, scale: int = 1, seed: int = 0) -> None:
        """From now on let the diffusion decoder beside the image tokenizer decode pictures.

        steps: 1 to 50. scale: 1, or 2 for pictures of twice the side. seed: of its noise.

        Raises ValueError for a model that was not loaded from a folder, a folder without a
        diffusion decoder, and for steps or a scale that it does not have.
        """
        if self.directory is None or self.image_tokenizer is None:
            raise ValueError(
                "a diffusion decoder lies in the folder of an image tokenizer; this model "
                + ("has no image tokenizer" if self.directory else "was not loaded from a folder")
            )
        steps, scale, seed = (
            whole("steps", steps, 1, 50),
            whole("scale", scale, 1, 2),
            seed_of(seed),
        )
        self.sequencer.tokenizers["image"] = load_diffusion(
            self.directory, self.image_tokenizer, steps=steps, scale=scale, seed=seed
        )

    def save_pretrained(
        self,
        directory: str | Path,
        dtype: str | None = "float32",
        finish: Callable[[Path], None] | None = None,
    ) -> None:
        """Write the model directory; files of other names in it stay, but not another's weights.

        dtype: "float32", "bfloat16" or "float16", of the decoder's stored weights; None: as they
        are. A media tokenizer is stored in bfloat16 if that is exact, so that its fingerprint
        stays. The folder changes as a whole, whenever the process ends (`whole_folder`).
        finish: called with the folder before it takes its place, to put more into it.

        Raises ValueError where it cannot be written, or another process writes to it.
        """

        def complete(folder: Path) -> None:
            copy_plugin_files(self.plugin, self.directory, folder)
            if finish is not None:
                finish(folder)

        save_model(
            directory, self.hf, self.sequencer, self.sampling, dtype, complete, self.plugin,
            self._tasks, self.published, self.codes,
        )  # fmt: skip
