"""The recipes of configs/systems with toys in the place of what they download.

A recipe's comment holds its commands, which are run as they stand but for names and sizes.
"""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import torch
import yaml

from tests.helpers.grafted import clip_folder
from tests.helpers.small_model import media
from tests.helpers.small_tower import ENTRIES, fill, small_tower
from unified.vocabulary.text_tokenizer import TextTokenizer
from unified_base.images import save_png
from unified_base.sounds import save_wav
from unified_base.videos import save_video
from unified_data.document import (
    Audio,
    Box,
    Document,
    Image,
    Label,
    PointCloud,
    Region,
    Slot,
    Text,
    Video,
    WorldState,
)
from unified_data.shards import ShardWriter, write_index

SYSTEMS = Path(__file__).parents[2] / "configs" / "systems"
WORDS = ["user assistant what is in this picture? a red panda eats", "Describe the picture.",
         "a blue cat", "moves left", "Draw a picture: a video of one thing"]  # fmt: skip
# Sizes in the place of a part's own; those that a recipe names are replaced as well.
TOY_OPTIONS = {
    "qformer": {"queries": 3, "layers": 2, "heads": 2, "width": 8},
    "resampler": {"latents": 3, "depth": 1, "heads": 2, "head_width": 4},
    "merge": {"vectors": 5, "neighbours": 2},
    "adaption-prompts": {"prompts": 2, "layers": 1},
    "gated-cross-attention": {"every": 2, "heads": 3},
    "modality-adapters": {"rank": 2},
}
TOY_PARTS = {"whisper": "hearing", "hubert": "hearing", "tokenizers/image": "image",
             "tokenizers/speech": "audio", "tower": "tower"}  # fmt: skip
_CHAT = """{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"""


def commands(path: Path) -> list[list[str]]:
    """The commands in a recipe's comment, as words; a line that ends in a backslash goes on."""
    comment = "\n".join(re.findall(r"^#(.*)", path.read_text("utf-8"), re.M))
    lines = comment.replace("\\\n", " ").split("\n")
    return [shlex.split(line)[1:] for line in lines if line.startswith("   unified ")]


def introduction(path: Path) -> str:
    """What a recipe's comment says before its commands, in one line."""
    lines = re.findall(r"^# (\S.*)", path.read_text("utf-8"), re.M)
    return " ".join(line for line in lines if not line.startswith("shards/"))


def toy_options(text: str) -> str:
    """`qformer,queries=32` with the sizes of a toy."""
    name, *pairs = text.split(",")
    options = dict(pair.split("=") for pair in pairs) | TOY_OPTIONS.get(name, {})
    return ",".join([name, *(f"{key}={value}" for key, value in options.items())])


class Toys:
    """Folders of tiny parts and of a few media of each kind.

    Attributes:
        folder: of all.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        _language_model(folder / "llm")
        clip_folder(folder / "clip", layers=1)
        _hearing(folder / "hearing")
        for name, tokenizer in media().items():
            tokenizer.save_pretrained(folder / name.removesuffix("_tokenizer"))
        for name, segments in DOCUMENTS.items():
            self._write_shards(name, segments)
        small_tower().save_pretrained(folder / "tower")
        fill(folder / "pairs", 5)
        np.save(folder / "chair.npy", cloud(9).points)
        save_png(folder / "photo.png", picture(9))
        save_wav(folder / "sound.wav", sound(9).waveform, 16_000)
        save_video(folder / "clip.gif", video(9).frames, video(9).times)
        for name, segments in ASKED.items():
            asked = json.dumps(Document(segments).to_json(folder, name))
            (folder / f"{name}.json").write_text(asked, "utf-8")

    def _write_shards(self, name, segments, number=4) -> None:
        with ShardWriter(self.folder / name, "train", name) as writer:
            for at in range(number):
                writer.write(f"d{at}", Document(tuple(segments(at))))
        write_index(self.folder / name, writer.shards)

    def extended(self, command: list[str], output: Path) -> list[str]:
        """`unified extend` with toys."""
        words = ["extend", str(self.folder / "llm")]
        for option, value in zip(command[2::2], command[3::2], strict=True):
            media, equals, rest = value.partition("=")
            of_one = bool(equals) and "," not in media
            if option == "-o":
                value = str(output)
            elif option == "--read":
                value = re.sub(r"=([^,]+)", lambda m: f"={self.part(m[1])}", value, count=1)
            elif option in ("--see", "--hear", "--image", "--audio"):
                value = self.part(value)
            elif option in ("--connector", "--layers"):
                value = f"{media}={toy_options(rest)}" if of_one else toy_options(value)
            elif option == "--boxes":
                value = "9"
            words += [option, value]
        return words

    def part(self, name: str) -> str:
        """The toy in the place of a published part, by what its name says."""
        if name.isdecimal():
            return name
        toy = next((toy for word, toy in TOY_PARTS.items() if word in name), "clip")
        return str(self.folder / toy)

    def run_file(self, path: Path, folder: Path) -> Path:
        """A run's file with two steps on the toys' media."""
        entries = yaml.safe_load(path.read_text("utf-8"))
        entries |= {
            "output": str(folder / "run"), "steps": 2, "threads": 1, "precision": "float32",
            "device": "cpu", "log_every": 1, "schedule": {"warmup_steps": 1},
        }  # fmt: skip
        if "sources" in entries:
            entries |= TOY_RUN
            self._sources(entries["sources"])
            if "init_from" in entries:
                entries["init_from"] = str(folder / "start")
        else:
            entries |= {"batch_size": 2, "data": [self._data(entries["data"][0])]}
            entries["validation"] = entries["data"]
            if "init_from" in entries:
                kind = "image" if "modality" in entries else "tower"
                entries["init_from"] = str(self.folder / kind)
        if "model" in entries:
            entries |= {"model": SHAPE, "text_vocab_size": 290}
            entries["image_tokenizer"] = str(self.folder / "image")
        for part in entries.keys() & TOY_SHAPES.keys():
            toy = TOY_SHAPES[part]
            declared = entries[part] if part == "branches" else toy
            entries[part] = {name: toy[name] for name in declared}
        if "tower" in entries:
            entries |= {"vocabulary": 270, "max_text_ids": 20, "size": 32}
        run = folder / "run.yaml"
        run.write_text(json.dumps(entries, indent=1), "utf-8")  # which is YAML
        return run

    def _sources(self, sources) -> None:
        for source in sources.values():
            if "sources" in source:
                self._sources(source["sources"])
            else:
                source["shards"] = self._data(source["shards"])

    def _data(self, name: str) -> str:
        return str(self.folder / Path(name).name)

    def verb(self, command: list[str], model: Path, folder: Path) -> list[str]:
        """The command that asks the model, of the toys' media."""
        words = [str(self.folder / word) if (self.folder / word).is_file() else word
                 for word in command]  # fmt: skip
        scorer = str(self.folder / "tower")
        replaced = {"--size": "24x24", "--scorer": scorer, **dict.fromkeys(MODELS, str(model))}
        for option, value in replaced.items():
            if option in words:
                words[words.index(option) + 1] = value
        if "-o" in words:
            at = words.index("-o") + 1
            words[at] = str(folder / words[at])
        few = ["--max-text-ids", "3"] if "--model" in words and words[0] != "draw" else []
        return [*words, *few, "--json"]


MODELS = ("--model", "--tower", "--tokenizer")
"""Options that name what was trained."""
TOY_RUN = {
    "seq_len": 160, "global_batch_size": 2, "micro_batch_size": 2, "streams": 2, "workers": 0,
    "compile": False, "parallel": "data",
}  # fmt: skip
TOY_SHAPES = {
    "tower": ENTRIES["clip"],
    "diffusion": {"scales": [1], "patch": 4, "widths": [32, 32]},
    "branches": {
        "audio": {
            "model_type": "audio-spectrogram-transformer", "hidden_size": 16, "num_mel_bins": 32,
            "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
            "max_length": 48, "frequency_stride": 16, "time_stride": 16,
        },
        "points": {
            "points": 20, "groups": 4, "neighbours": 5, "width": 8, "depth": 1, "heads": 2,
        },
    },
}  # fmt: skip
SHAPE = {
    "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3,
    "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 512,
}  # fmt: skip


def picture(seed=0, height=40, width=31) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def seen(at=0) -> Image:
    return Image(picture(at), "prompt", 0.0)


def video(at=0) -> Video:
    frames = np.stack([picture(10 * at + step, 32, 45) for step in range(3)])
    return Video.at_rate(frames, 2.0, "prompt", 0.0)


def sound(at=0) -> Audio:
    waveform = np.random.default_rng(at).uniform(-0.3, 0.3, (1, 1600)).astype(np.float32)
    return Audio(waveform, 16_000, "prompt", 0.0)


def state(at=0) -> WorldState:
    values = np.random.default_rng(at).standard_normal((2, 9)).astype(np.float32)
    return WorldState(values, "prompt", 0.0)


def region(at=0) -> Region:
    mask = np.zeros((40, 31), bool)
    mask[10 : 25 + at, 8:20] = True
    return Region(picture(at), mask, "prompt", 0.0)


def cloud(at=0) -> PointCloud:
    return PointCloud(np.random.default_rng(at).standard_normal((23, 3)).astype(np.float32))


def question(words="what is it?") -> Text:
    return Text(words, "prompt", 0.0)


def caption(at=0) -> Text:
    return Text(WORDS[at % 3], "response", 1.0)


DOCUMENTS = {
    "captions": lambda at: (seen(at), caption(at)),
    "draws": lambda at: (question("![a cat]"), Image(picture(at, 36, 48), "response")),
    "questions": lambda at: (seen(at), question(), caption(at)),
    "videos": lambda at: (video(at), caption(at)),
    "sounds": lambda at: (sound(at), caption(at)),
    "tables": lambda at: (state(at), question("go where?"), caption(at)),
    "regions": lambda at: (region(at), question(), caption(at)),
    "boxes": lambda at: (
        seen(at), question("Find: cat"), Text("cat", "response"),
        Box(3, 4, 20, 30, 31, 40, "response"),
    ),
    "turns": lambda at: (sound(at), Label(("query", "noise")[at % 2], "response"), caption(at)),
    "heard": lambda at: (sound(at), Image(picture(at))),
    "clouds": lambda at: (cloud(at), Image(picture(at)), Text(WORDS[2])),
    "text": lambda at: (Text(WORDS[at % 5]),),
    "web": lambda at: (Text(WORDS[2]), Image(picture(at, 36, 48)), Text(WORDS[at % 5])),
}  # fmt: skip
"""By the name of their shards in recipes."""
ASKED = {
    "table": (state(9), question("go where?"), Slot("text", role="response")),
    "region": (region(9), question(), Slot("text", role="response")),
    "turn": (sound(9), Slot("label", role="response"), Slot("text", role="response")),
    "page": (Text("a blue cat"), Slot("image"), Slot("text")),
}


def _hearing(folder: Path) -> None:
    """An encoder of sounds that reads samples."""
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    torch.manual_seed(2)
    config = HubertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
        conv_dim=(8, 8), conv_stride=(10, 8), conv_kernel=(10, 8), num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    HubertModel(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)


def _language_model(folder: Path) -> None:
    """A causal language model of two layers, with the template of a chat."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from tokenizers import AddedToken, Tokenizer

    folder.mkdir()
    text = TextTokenizer.train(WORDS, 290)
    text.save(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    markers = [AddedToken(f"<|im_{name}|>", special=True) for name in ("start", "end")]
    tokenizer.add_special_tokens(markers)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": _CHAT,
                "eos_token": "<|im_end|>"}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=text.size + 2, bos_token_id=None, eos_token_id=text.size + 1, **SHAPE
    )
    LlamaForCausalLM(config).save_pretrained(folder)
