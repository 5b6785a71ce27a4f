"""The recipes of configs/systems with toys in the place of what they download: tiny parts, few media.

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
from unified.vocabulary.text_tokenizer import TextTokenizer
from unified_base.images import save_png
from unified_data.document import Audio, Document, Image, Slot, Text
from unified_data.shards import ShardWriter, write_index

SYSTEMS = Path(__file__).parents[2] / "configs" / "systems"
WORDS = ["user assistant what is in this picture? a red panda eats", "Describe the picture.",
         "a blue cat", "moves left", "Draw a picture: a video of one thing"]  # fmt: skip
# Sizes in the place of a part's own; those that a recipe names are replaced as well.
TOY_OPTIONS = {
    "qformer": {"queries": 3, "layers": 2, "heads": 2, "width": 8},
    "resampler": {"latents": 3, "depth": 1, "heads": 2, "head_width": 4},
    "adaption-prompts": {"prompts": 2, "layers": 1},
    "gated-cross-attention": {"every": 2, "heads": 3},
    "modality-adapters": {"rank": 2},
}
_CHAT = """{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"""
ENCODERS = ("--see", "--hear")


def commands(path: Path) -> list[list[str]]:
    """The commands in a recipe's comment, as words; a line that ends in a backslash goes on."""
    comment = "\n".join(re.findall(r"^#(.*)", path.read_text("utf-8"), re.M))
    lines = comment.replace("\\\n", " ").split("\n")
    return [shlex.split(line)[1:] for line in lines if line.startswith("   unified ")]


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
        clip_folder(folder / "clip", layers=2)
        self.shards("captions", lambda at: (Image(picture(at), "prompt", 0.0), caption(at)))
        self.shards("web", lambda at: (Text(WORDS[2]), Image(picture(at)), Text(WORDS[at % 5])))
        save_png(folder / "photo.png", picture(9))

    def shards(self, name, segments, number=4) -> None:
        """Shards of documents, by their number."""
        with ShardWriter(self.folder / name, "train", name) as writer:
            for at in range(number):
                writer.write(f"d{at}", Document(tuple(segments(at))))
        write_index(self.folder / name, writer.shards)

    def extended(self, command: list[str], output: Path) -> list[str]:
        """`unified extend` with toys."""
        words = ["extend", str(self.folder / "llm")]
        for option, value in zip(command[2::2], command[3::2], strict=True):
            if option == "-o":
                value = str(output)
            elif option in ENCODERS:
                value = str(self.folder / self.encoder(value))
            elif option in ("--connector", "--layers"):
                value = toy_options(value)
            words += [option, value]
        return words

    def encoder(self, name: str) -> str:
        """The folder of the toy of an encoder."""
        return "clip"

    def run_file(self, path: Path, folder: Path) -> Path:
        """A run's file with two steps on the toys' media."""
        entries = yaml.safe_load(path.read_text("utf-8"))
        entries |= {
            "output": str(folder / "run"), "init_from": str(folder / "start"), "steps": 2,
            "seq_len": 160, "global_batch_size": 2, "micro_batch_size": 2, "streams": 2,
            "workers": 0, "threads": 1, "precision": "float32", "device": "cpu", "compile": False,
            "log_every": 1, "parallel": "data", "schedule": {"warmup_steps": 1},
        }  # fmt: skip
        self._sources(entries["sources"])
        run = folder / "run.yaml"
        run.write_text(yaml.safe_dump(entries), "utf-8")
        return run

    def _sources(self, sources) -> None:
        for source in sources.values():
            if "sources" in source:
                self._sources(source["sources"])
            else:
                source["shards"] = str(self.folder / Path(source["shards"]).name)

    def verb(self, command: list[str], model: Path, folder: Path) -> list[str]:
        """The command that asks the model, of the toys' media."""
        words = [str(self.folder / word) if (self.folder / word).is_file() else word
                 for word in command]  # fmt: skip
        words[words.index("--model") + 1] = str(model)
        if "-o" in words:
            at = words.index("-o") + 1
            words[at] = str(folder / words[at])
        return [*words, "--max-text-ids", "3", "--json"]


def picture(seed=0, height=40, width=31) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def caption(at: int) -> Text:
    return Text(WORDS[at % 3], "response", 1.0)


def _language_model(folder: Path) -> None:
    """A causal language model of two layers, with the template of a chat."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from tokenizers import AddedToken, Tokenizer

    folder.mkdir()
    text = TextTokenizer.train(WORDS, 290)
    text.save(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken(f"<|im_{n}|>", special=True) for n in ("start", "end")])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": _CHAT,
                "eos_token": "<|im_end|>"}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=text.size + 2, hidden_size=24, intermediate_size=40, num_hidden_layers=2,
        num_attention_heads=3, num_key_value_heads=1, head_dim=8, max_position_embeddings=512,
        bos_token_id=None, eos_token_id=text.size + 1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
