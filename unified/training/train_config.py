"""What a training run of a decoder is configured by; `config` reads it.

The string under a field is its documentation: `unified train --help-config` and
docs/reference/train.md are made of it. A unit stands in brackets at its end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from unified.dataloading import Source
from unified_base.training.settings import AdamWConfig, ScheduleConfig

__all__ = [
    "RENAMED",
    "Alarms",
    "Lora",
    "OptimizerConfig",
    "Preferences",
    "SampleLogging",
    "TrainConfig",
]


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(AdamWConfig):
    """The optimizer."""

    name: str = "adamw"
    """`adamw`, or `muon` (arXiv:2502.16982) for the layers' matrices and AdamW for the rest."""


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters, of `train: lora`."""

    rank: int = 16
    """Rank of the adapters."""
    alpha: float = 32.0
    """The adapters' output is scaled by alpha / rank."""
    dropout: float = 0.0
    """Share of the adapters' inputs that is dropped."""
    targets: str | tuple[str, ...] = "all-linear"
    """`all-linear`, or names of modules (peft's `target_modules`)."""
    depth: str = "full"
    """What of a depth decoder is trained: `full`, or `lora` (adapters of its linear layers)."""


@dataclass(frozen=True)
class SampleLogging:
    """Documents with slots that are filled now and then and shown in TensorBoard."""

    every: int
    """How often. [steps]"""
    documents: tuple[str, ...] = ()
    """Paths of documents in JSON, with slots."""
    texts: tuple[str, ...] = ()
    """Prompts, answered by segments of any kind."""
    max_ids: int = 1024
    """Most ids that an answer may have. [ids]"""


@dataclass(frozen=True)
class Alarms:
    """When the loss monitor warns, and when it stops the run."""

    spike: float = 2.0
    """A loss this many times the median of the last 50 steps is an alarm."""
    output_norm: float = 4.0
    """An output norm this many times the median of the first 50 steps after warm-up is one."""
    stop: tuple[str, ...] = ("nan",)
    """Of `nan`, `spike` and `output_norm`, those that stop the run; the checkpoint is of the last
    step before, with the position in the data from before the step that raised the alarm."""
    skip_on_resume: bool = False
    """When a run that an alarm stopped is resumed: drop the batch that raised it. Otherwise the
    step is done again with the same data."""


@dataclass(frozen=True)
class Preferences:
    """Direct preference optimisation (DPO, arXiv:2305.18290)."""

    beta: float = 0.1
    """How strongly the policy is held to the reference."""
    pairs: int = 8
    """Preference pairs of an optimizer step, over all processes. [pairs]"""
    modality_weights: dict[str, float] = field(default_factory=dict)
    """Weights of the log-probabilities, such as `{audio: 0}` for text and pictures alone."""


@dataclass(frozen=True)
class TrainConfig:
    """One training run of a decoder."""

    output: str
    """Folder for checkpoints, curves, codes and the finished model."""
    sources: dict[str, Source]
    """What is trained on, by name."""
    steps: int
    """Optimizer steps of the run. [steps]"""
    seq_len: int
    """Length of a packed sequence. [positions]"""
    global_batch_size: int
    """Sequences of an optimizer step, over all processes. [sequences]"""
    optimizer: OptimizerConfig
    """The optimizer; `lr` must be given."""
    validation: dict[str, Source] = field(default_factory=dict)
    """What is only measured, by name."""
    init_from: str | None = None
    """A model to begin with: a folder, `pocket`, or a name on the hub. Without it, a decoder with
    random weights is made of `model`, `text_vocab_size`, `format` and the tokenizers."""
    model: dict[str, Any] | None = None
    """Shape of a new decoder, in the words of transformers' Qwen3Config. With `init_from`, it
    begins with that model's rows and layers."""
    image_tokenizer: str | None = None
    """Folder of a trained image tokenizer; with `init_from` only beside `model`."""
    audio_tokenizer: str | None = None
    """Folder of a trained audio tokenizer; with `init_from` only beside `model`."""
    format: str = "pocket"
    """Span grammar of a new decoder: a name or a YAML file."""
    codes: str | None = None
    """Where the format of a new decoder puts several codes into a position: `depth` (a depth
    decoder writes all but the first) or `heads` (the decoder's own rows do)."""
    depth: dict[str, Any] | None = None
    """Sizes of the depth decoder of `codes: depth`; what is left out follows from `model`."""
    reinit_modalities: tuple[str, ...] = ()
    """`image`, `audio` or both: embedding rows that begin anew, since their tokenizer's codes are
    not those of `init_from`."""
    text_vocab_size: int = 4096
    """Ids of a text tokenizer that is learnt from the sources' text. [ids]"""
    max_grid: int = 64
    """Largest side of a picture. [codes]"""
    micro_batch_size: int = 1
    """Sequences of one forward pass; bounds memory, changes nothing else but rounding.
    [sequences]"""
    train: str = "full"
    """`full`, `new_rows` (those for ids that are new), `lora` (adapters and the new rows), each
    with the depth decoder and connectors, if there are any; `depth` (the depth decoder alone), or
    `connector` (the connectors of what is read as vectors alone)."""
    features: str = "live"
    """Of media that are read as vectors: `live`, the frozen encoder runs in every step; `stored`,
    once before the run, its features kept in float16."""
    lora: Lora = field(default_factory=Lora)
    """The adapters of `train: lora`."""
    preferences: Preferences | None = None
    """Train on preference pairs, by DPO, instead of by cross-entropy."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """The learning rate over the run."""
    modality_weights: dict[str, float] = field(default_factory=dict)
    """Factors on the loss of each modality's ids, such as `{text: 2, audio: 0.5}`."""
    level_weights: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Factors on the loss of the codes of each codebook level, such as `{audio: [1, 0.5, 0.5]}`."""
    depth_fraction: float = 1.0
    """Share of the positions with several codes at which those behind the first are learnt (CSM's
    authors took 1 in 16); drawn in every sequence, and weighed so that the loss is that of all on
    average."""
    z_loss: float = 0.0
    """Weight of the squared log-normaliser (arXiv:2204.02311)."""
    router_loss: float | None = None
    """Weight of the loss that balances the routers of a mixture of experts (arXiv:2101.03961).
    Empty: what the model's configuration says."""
    ema_decay: float | None = None
    """Decay per step of a moving average of the weights, which is then what is measured and
    saved."""
    precision: str = "auto"
    """`bfloat16` or `float32`, of the computation; the trained weights are float32. `auto`:
    bfloat16 where the processor or the GPU has products of such numbers, else float32, many times
    as fast there; a resumed run keeps what it began with."""
    attention: str | None = None
    """Attention implementation: `documents`, or a name of transformers'; empty: the first that
    keeps the documents of a sequence apart."""
    activation_checkpointing: bool = False
    """Keep of every layer its input alone, and compute the rest again for its gradient."""
    compile: bool | Literal["auto"] = "auto"
    """Whether torch.compile fuses what a layer does; it needs a C++ compiler on the CPU. `auto`:
    what a short measurement in the first step says, of runs of more than 20 minutes."""
    parallel: str = "data"
    """`data` or `fsdp` (FSDP2), how several processes share a run."""
    streams: int = 48
    """Virtual shards of the data's order; the number of processes must divide it."""
    workers: int = 0
    """Processes that prepare data, for each training process."""
    max_corrupt: int = 100
    """Corrupt samples that may be skipped before the run stops. [samples]"""
    seed: int = 0
    """Of weights, order and all that is drawn."""
    device: str = "auto"
    """`auto`: an accelerator where there is one; `cpu`."""
    threads: int = 2
    """CPU threads of a training process, and processes that code the documents before it."""
    log_every: int = 20
    """How often figures are logged. [steps]"""
    save_every: int = 200
    """How often a checkpoint is written. [steps]"""
    save_minutes: float = 10.0
    """A checkpoint after so many minutes without one; 0: by steps alone. [minutes]"""
    validate_every: int = 200
    """How often `validation` is measured. [steps]"""
    validation_documents: int = 128
    """Measured of each validation source, at most. [documents]"""
    keep_checkpoints: int = 2
    """The last checkpoints that stay."""
    samples: SampleLogging | None = None
    """Prompts that are answered now and then, for the log."""
    alarms: Alarms = field(default_factory=Alarms)
    """When to warn, and when to stop."""
    save_dtype: str = "bfloat16"
    """`bfloat16` or `float32`, of the finished model's weights."""
    wandb: str | None = None
    """Project to log to, if Weights & Biases is installed."""
    push_to_hub: str | None = None
    """Repository on the hub that the finished model is uploaded to."""
    shape: dict[str, Any] | None = None
    """Shape of the decoder in `init_from`, in the words of its config.json, and `old_rows`, those
    it had before it was extended: for `unified estimate` where `init_from` is not at hand."""
    world: str | None = None
    """`pocket` or `world`: the model's folder gets that world's tasks, plug-in and subjects."""


RENAMED = {
    "betas": "optimizer.betas",
    "clip": "optimizer.max_grad_norm",
    "cooldown": "schedule.cooldown",
    "ema": "ema_decay",
    "final_rate": "schedule.final_lr_ratio",
    "fresh": "reinit_modalities",
    "heldout": "validation",
    "heldout_documents": "validation_documents",
    "keep": "keep_checkpoints",
    "lanes": "streams",
    "learning_rate": "optimizer.lr",
    "length": "seq_len",
    "max_broken": "max_corrupt",
    "rows": "global_batch_size",
    "rows_at_once": "micro_batch_size",
    "start": "init_from",
    "store": "save_dtype",
    "text_size": "text_vocab_size",
    "warmup": "schedule.warmup_steps",
    "weight_decay": "optimizer.weight_decay",
}
"""Keys as they were called before 0.2, and as they are called now."""
