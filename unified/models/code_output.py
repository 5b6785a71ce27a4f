"""How a model writes the ids of a position that holds several: declared in unified.json.

The first id of a position comes of the decoder's own head. The others come of a depth decoder
(`unified.engine.backends.depth_config`), whose weights lie in `depth_decoder.safetensors` beside
the plain checkpoint, or of parallel heads: the decoder's own head with the same hidden state. In
torch the depth decoder is a submodule of transformers' object, so that optimizers, EMA, FSDP2 and
checkpoints see it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from unified.engine.backends.depth_config import DepthConfig
from unified.formats.grammar import Grammar
from unified.formats.spec import Delayed, Format, Item, Marker, Repeat
from unified.formats.together import with_layouts
from unified.vocabulary.block import Ranges
from unified_base.meta_device import on_meta_device
from unified_base.text import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.nn import Module
    from transformers import PreTrainedConfig, PreTrainedModel

    from unified.engine.backends.depth_module import DepthDecoder

__all__ = [
    "LAYOUTS", "OUTPUTS", "CodesOutput", "add_codes_output", "attach_depth_decoder", "check_codes",
    "codes_output", "default_depth", "depth_decoder_of", "laid_out", "ranges_together",
    "without_depth_decoder",
]  # fmt: skip

OUTPUTS = ("depth", "heads")
LAYOUTS = ("row", *OUTPUTS)
"""How the levels of a modality may be laid out: in positions of their own, or in one with what
writes them."""
_SIZES = tuple(
    field.name
    for field in fields(DepthConfig)
    if field.name not in ("input_size", "num_ids", "ranges", "inv_freq")
)


@dataclass(frozen=True)
class CodesOutput:
    """What the ids of a position behind its first come of.

    output: "depth", "heads", or "model": modules of a published checkpoint, which no other has.
    depth: the depth decoder's sizes; None with others.
    """

    output: str
    depth: DepthConfig | None = None

    def __post_init__(self) -> None:
        if self.output not in (*OUTPUTS, "model"):
            raise ValueError(f"codes.output is {quoted(self.output)}, expected depth or heads")
        if (self.depth is not None) != (self.output == "depth"):
            raise ValueError(
                "codes.depth has the sizes of a depth decoder; expected it with output depth, and"
                f" with no other, found output {self.output}"
            )

    def to_json(self) -> dict[str, Any]:
        sizes = {} if self.depth is None else {"depth": self.depth.to_json()}
        return {"output": self.output, **sizes}

    @classmethod
    def from_json(cls, obj: Any, where: str = "codes") -> CodesOutput:
        """Raises ValueError, naming the key, for anything but what `to_json` gives."""
        if not isinstance(obj, Mapping) or not {"output"} <= set(obj) <= {"output", "depth"}:
            raise ValueError(f"{where} is {quoted(obj)}, expected output, and depth with it")
        depth = obj.get("depth")
        config = None if depth is None else DepthConfig.from_json(depth, f"{where}.depth")
        try:
            return cls(obj["output"], config)
        except ValueError as error:
            raise ValueError(str(error).replace("codes.", f"{where}.", 1)) from None


def ranges_together(grammar: Grammar) -> Ranges:
    """The ids that stand in positions of several, as sorted, disjoint ranges; fill markers too."""
    runs: set[tuple[int, int]] = set()
    for span in grammar.span_grammars.values():
        if span.num_together > 1:
            runs.update(run for block in span.blocks for run in block.runs)
            for marker in _markers_in_positions(span.items):
                id = grammar.vocabulary.marker(marker)
                runs.add((id, id + 1))
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(runs):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return tuple(merged)


def _markers_in_positions(items: tuple[Item, ...]) -> Iterator[str]:
    """The markers that share a position with another id."""
    for item, following in zip(items, (*items[1:], None)):
        if isinstance(item, Repeat):
            yield from _markers_in_positions(item.of)
        elif isinstance(item, Delayed) and item.together:
            yield from (*item.before, *item.after, *item.end)
        elif isinstance(item, Marker) and (
            item.depth or (isinstance(following, Marker) and following.depth)
        ):
            yield item.name


def default_depth(
    grammar: Grammar, config: PreTrainedConfig, sizes: Mapping[str, Any] | None = None
) -> DepthConfig:
    """The sizes of a depth decoder for a decoder of this config.

    Half the decoder's width, a quarter of its layers (at most 6) and heads of its width, which
    are CSM's proportions (2048 wide with 16 layers, 1024 wide with 4).

    sizes: fields of `DepthConfig` in their place, but for those that follow from the model.

    Raises ValueError for a field that there is not, or that follows from the model.
    """
    if unknown := sorted(set(sizes or ()) - set(_SIZES)):
        raise ValueError(f"depth has {quoted(unknown)}, expected some of {', '.join(_SIZES)}")
    text = config.get_text_config()
    D = int(text.hidden_size)
    half = max(2, D // 2)
    heads = int(getattr(text, "num_attention_heads", None) or 1)
    head_dim = int(getattr(text, "head_dim", None) or D // heads)
    head_dim = max(2, min(head_dim, half) // 2 * 2)
    num_heads = max(1, half // head_dim)
    default = DepthConfig(
        input_size=D,
        hidden_size=half,
        num_layers=max(1, min(6, int(text.num_hidden_layers) // 4)),
        num_heads=num_heads,
        num_kv_heads=num_heads,
        head_dim=head_dim,
        intermediate_size=4 * half,
        num_ids=grammar.num_together,
        ranges=ranges_together(grammar),
    )
    changes = dict(sizes or {})
    if "num_heads" in changes:
        changes.setdefault("num_kv_heads", changes["num_heads"])
    return replace(default, **changes)


def codes_output(
    grammar: Grammar,
    config: PreTrainedConfig,
    codes: str | None = None,
    depth: Mapping[str, Any] | None = None,
) -> CodesOutput | None:
    """The declaration of a new model; None where no position holds several ids.

    codes: "depth" or "heads"; None: depth where the format puts codes together. depth: sizes, see
    `default_depth`.

    Raises ValueError for a declaration that the format has no use for.
    """
    if codes is not None and codes not in OUTPUTS:
        raise ValueError(f"codes is {quoted(codes)}, expected depth or heads")
    if grammar.num_together == 1:
        if codes is not None or depth is not None:
            name = "depth" if codes is None else f"codes={codes}"
            raise ValueError(
                f"{name} is for positions of several codes, and in format '{grammar.format.name}'"
                " with these tokenizers every position holds one; choose a format whose codes are"
                " together, such as pocket-together, and a tokenizer of several levels"
            )
        return None
    if codes == "heads":
        if depth is not None:
            raise ValueError("depth has sizes of a depth decoder, and codes is heads; leave it out")
        return CodesOutput("heads")
    return CodesOutput("depth", default_depth(grammar, config, depth))


def laid_out(format: Format, layouts: Mapping[str, str | None]) -> tuple[Format, str | None]:
    """A format with the layout that is asked for, and what writes its codes: `codes` of
    `codes_output`.

    layouts: of `LAYOUTS` by modality; None leaves the format as it is.

    Raises ValueError for an unknown layout, two outputs, and media that the format has no spans of.
    """
    chosen = {modality: layout for modality, layout in layouts.items() if layout is not None}
    for modality, layout in chosen.items():
        if layout not in LAYOUTS:
            raise ValueError(
                f"{modality}_codes is {quoted(layout)}, expected one of {', '.join(LAYOUTS)}"
            )
        if not any(span.modality == modality for span in format.spans.values()):
            raise ValueError(
                f"{modality}_codes is {layout}, but format '{format.name}' has no {modality} spans"
            )
    outputs = sorted(set(chosen.values()) - {"row"})
    if len(outputs) > 1:
        listed = " and ".join(f"{modality}_codes {layout}" for modality, layout in chosen.items())
        raise ValueError(
            f"found {listed}: a model has one output for its codes; choose one of them"
        )
    together = {
        kind: chosen[span.modality] != "row"
        for kind, span in format.spans.items()
        if span.modality in chosen
    }
    return with_layouts(format, together), outputs[0] if outputs else None


def check_codes(codes: CodesOutput | None, grammar: Grammar, width: Any, where: str) -> None:
    """Raises ValueError, naming file and key, where a declaration is not of a model's format.

    width: of the decoder's hidden states. where: the file.
    """
    several, name = grammar.num_together, grammar.format.name
    if codes is None:
        if several > 1:
            raise ValueError(
                f"{where} has no codes, but format '{name}' puts up to {several} ids into a"
                " position: expected codes.output, depth or heads, to say what writes them; make"
                " the model with UnifiedModel.extend or .together"
            )
        return
    if several == 1:
        raise ValueError(
            f"{where}: codes.output is {codes.output}, but in format '{name}' every position holds"
            " one id; leave codes out, or take the format that the model was made with"
        )
    if (depth := codes.depth) is None:
        return
    expected = {"num_ids": several, "ranges": ranges_together(grammar)}
    if type(width) is int:
        expected["input_size"] = width
    for key, value in expected.items():
        if getattr(depth, key) != value:
            raise ValueError(
                f"{where}: codes.depth.{key} is {_plain(getattr(depth, key))}, expected"
                f" {_plain(value)}: {_REASONS[key]}"
            )


_REASONS = {
    "num_ids": "the most ids of a position in its format",
    "ranges": "the ids that its format puts together",
    "input_size": "the width of the decoder in config.json",
}


def _plain(value: Any) -> str:
    return str(value) if isinstance(value, int) else quoted([list(pair) for pair in value])


def depth_decoder_of(hf: Module) -> DepthDecoder | None:
    """The depth decoder of transformers' object; None where it has none."""
    from unified.engine.backends import depth_module

    return depth_module.depth_decoder_of(hf)


def add_codes_output(hf: PreTrainedModel, codes: CodesOutput | None) -> None:
    """Give transformers' object what a declaration says: a new depth decoder."""
    if codes is not None and codes.depth is not None:
        attach_depth_decoder(hf, codes.depth)


def attach_depth_decoder(
    hf: PreTrainedModel, config: DepthConfig, weights: Mapping[str, Any] | None = None
) -> DepthDecoder:
    """Give transformers' object a depth decoder, in the place of one that it has.

    weights: tensors by the names of its parameters; None draws them by torch's global generator.
    It goes to the model's device; new weights have the model's type, others keep theirs.
    """
    import torch

    from unified.engine.backends.depth_module import DEPTH_DECODER, DepthDecoder

    with on_meta_device():
        module = DepthDecoder(config)
    if weights is not None:
        module.load_state_dict(dict(weights), assign=True)
    else:
        if hf.device.type != "meta":
            module.to_empty(device="cpu").reset_parameters()
        module.to(hf.dtype)
    if hf.device.type != "meta":
        module.row_of_id = torch.from_numpy(config.rows)
        module.to(hf.device)
    module.train(hf.training)
    setattr(hf, DEPTH_DECODER, module)
    return module


@contextmanager
def without_depth_decoder(hf: PreTrainedModel) -> Iterator[DepthDecoder | None]:
    """Take the depth decoder out of transformers' object, which then is the plain causal LM."""
    from unified.engine.backends.depth_module import DEPTH_DECODER

    module = depth_decoder_of(hf)
    if module is None:
        yield None
        return
    delattr(hf, DEPTH_DECODER)
    try:
        yield module
    finally:
        setattr(hf, DEPTH_DECODER, module)
