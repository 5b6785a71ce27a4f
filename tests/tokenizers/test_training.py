"""Training a tokenizer: what it reads, how it stops and goes on, and that it learns."""

import io
import re
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from unified_base.training import loop
from unified_tokenizers import load_tokenizer
from unified_tokenizers.diffusion_tokenizer import DiffusionTokenizer
from unified_tokenizers.image import VQImageTokenizer
from unified_tokenizers.losses import ImageLoss
from unified_tokenizers.training import TokenizerTraining, load_config, train
from unified_tokenizers.training_config import TokenizerOptimizer, TokenizerSchedule

IMAGE = {
    "stride": 4, "quantizer": {"levels": [4, 3, 3]}, "encoder_width": 8, "decoder_width": 16,
    "encoder_depths": [1], "decoder_depths": [1, 0, 0],
}  # fmt: skip
AUDIO = {
    "hop": 64, "quantizer": {"levels": [4, 4], "depth": 2}, "num_mels": 8, "encoder_width": 8,
    "encoder_depth": 1, "decoder_width": 8, "decoder_depths": [1, 0],
}  # fmt: skip


pytestmark = pytest.mark.usefixtures("torch_threads")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder and a tar of the same 7 pictures of 8x12 pixels; recordings of unequal lengths."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("pictures", "sounds"):
        (folder / name).mkdir()
    rng = np.random.default_rng(0)
    with tarfile.open(folder / "pictures.tar", "w") as archive:
        for index in range(7):
            coarse = rng.integers(0, 256, (2, 3, 3), dtype=np.uint8)
            stream = io.BytesIO()
            Image.fromarray(coarse.repeat(4, 0).repeat(4, 1)).save(stream, "PNG")
            (folder / "pictures" / f"{index}.png").write_bytes(stream.getvalue())
            (folder / "pictures" / f"{index}.txt").write_text(f"number {index}")
            member = tarfile.TarInfo(f"{index}.0.png")
            member.size = stream.tell()
            stream.seek(0)
            archive.addfile(member, stream)
    for index, samples in enumerate((700, 1024, 2500)):
        tone = 9000 * np.sin(np.arange(samples) * (0.1 + 0.1 * index))
        soundfile.write(folder / "sounds" / f"{index}.flac", tone.astype(np.int16), 16_000)
        (folder / "sounds" / f"{index}.txt").write_text("abc"[: index + 1])
    return folder


def run(media: Path, output: Path, modality: str = "image", **changes) -> TokenizerTraining:
    source = str(media / ("pictures" if modality == "image" else "sounds"))
    config = TokenizerTraining(
        modality=modality, output=str(output), data=(source,), validation=(source,),
        tokenizer=IMAGE if modality == "image" else AUDIO,
        steps=6, batch_size=4, optimizer=TokenizerOptimizer(lr=0.01),
        schedule=TokenizerSchedule(warmup_steps=2), save_every=3, log_every=1, crop=8,
    )  # fmt: skip
    if "diffusion" in changes:
        torch.manual_seed(6)
        VQImageTokenizer(VQImageTokenizer.parse_config(IMAGE)).save_pretrained(media / "start")
        changes["init_from"] = str(media / "start")
    return replace(config, **changes)


def state(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "checkpoints" / "step-0000006" / "part-00000-of-00001.safetensors")


ADVERSARY = {"weight": 0.5, "start": 2, "warmup": 3, "width": 4}
DIFFUSION = {"patch": 2, "widths": [32, 32], "code_width": 3}
MUON = TokenizerOptimizer(lr=0.01, name="muon")
REVIVED = {"kind": "vq", "codes": 24, "dim": 2, "revive": 0.5}


@pytest.mark.parametrize(
    ("modality", "changes"),
    [
        ("image", {}),
        ("audio", {}),
        ("image", {"adversary": ADVERSARY, "tokenizer": {**IMAGE, "quantizer": REVIVED}}),
        ("audio", {"adversary": ADVERSARY, "losses": {"mel": 1.0, "stft": 0.5}}),
        pytest.param("image", {"tokenizer": None, "diffusion": DIFFUSION}, marks=pytest.mark.slow),
        pytest.param("image", {"alignment": {"kind": "words", "alone": 2}}, marks=pytest.mark.slow),
        ("audio", {"alignment": {"kind": "ctc", "alone": 4}}),
        ("image", {"optimizer": MUON, "alignment": {"kind": "words", "alone": 2}}),
    ],
)
def test_a_resumed_run_is_bit_equal_to_one_never_stopped(
    data, tmp_path, monkeypatch, modality, changes
):
    folder = train(run(data, tmp_path / "whole", modality, **changes))
    whole = state(tmp_path / "whole")

    save = loop.save_checkpoint

    def save_and_stop(*arguments, **more):
        save(*arguments, **more)
        raise KeyboardInterrupt

    config = run(data, tmp_path / "stopped", modality, **changes)
    with monkeypatch.context() as patched:
        patched.setattr(loop, "save_checkpoint", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    # A run killed while it wrote the next one leaves this behind.
    (tmp_path / "stopped" / "checkpoints" / "step-0000006.partial").mkdir()
    torch.manual_seed(12345)
    again = train(config, resume=True)

    resumed = state(tmp_path / "stopped")
    assert resumed.keys() == whole.keys()
    assert {name.split("/")[0] for name in whole} >= {"model", "ema", "optimizer"}
    for name, value in whole.items():
        assert torch.equal(resumed[name], value), name
    assert load_tokenizer(folder).fingerprint == load_tokenizer(again).fingerprint


def test_a_diffusion_decoder_is_saved_beside_its_tokenizer(data, tmp_path):
    """And the tokenizer stays what it was, though the decoder is stored in bfloat16."""
    rng = np.random.default_rng(1)
    for index in range(3):
        large = Image.fromarray(rng.integers(0, 256, (8, 16, 3), dtype=np.uint8))
        large.save(tmp_path / f"{index}.png")
    config = run(
        data, tmp_path / "run", tokenizer=None, diffusion={**DIFFUSION, "scales": [1, 2]},
        steps=4, save_every=4, save_dtype="bfloat16",
    )  # fmt: skip
    folder = train(replace(config, data=(str(tmp_path),), validation=()))
    tokenizer = DiffusionTokenizer.from_pretrained(folder, steps=2, scale=2)
    assert tokenizer.fingerprint == load_tokenizer(data / "start").fingerprint
    small = torch.rand(1, 3, 4, 6)
    assert tokenizer.decode(tokenizer.encode(small)).shape == (1, 3, 8, 12)
    stored = load_file(folder / "diffusion" / "model.safetensors")
    assert stored["leave.2.weight"].dtype == torch.bfloat16
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert "validation/psnr_db_x2_8_steps" in events.Tags()["scalars"]
    assert "validation/x1_original_above_8_steps" in events.Tags()["images"]
    with pytest.raises(ValueError, match=r"size is 8x12 .* expected multiples of 8 pixels"):
        train(replace(config, output=str(tmp_path / "no"), size=(8, 12)))


def test_a_tar_trains_exactly_as_the_folder_it_was_made_of(data, tmp_path):
    short = {"steps": 2, "save_every": 2}
    first = train(run(data, tmp_path / "a", **short))
    second = train(run(data, tmp_path / "b", data=(str(data / "*.tar"),), **short))
    assert load_tokenizer(first).fingerprint == load_tokenizer(second).fingerprint


def test_the_seed_decides_the_weights(data, tmp_path):
    short = {"steps": 1, "save_every": 1}
    folders = [train(run(data, tmp_path / str(n), seed=n // 2, **short)) for n in range(3)]
    first, same, other = (load_tokenizer(folder).fingerprint for folder in folders)
    assert first == same != other


@pytest.mark.parametrize("modality", ["image", "audio"])
def test_the_loss_falls_on_a_batch_seen_again_and_again(data, tmp_path, capsys, modality):
    steps = {"image": 60, "audio": 40}[modality]
    config = run(
        data,
        tmp_path,
        modality,
        steps=steps,
        batch_size=7,
        save_every=steps,
        schedule=TokenizerSchedule(warmup_steps=5),
    )
    train(config)
    losses = [float(x) for x in re.findall(r"loss (\d+\.\d+)", capsys.readouterr().err)]
    assert len(losses) >= steps
    assert losses[steps - 1] < 0.6 * losses[0]


def test_what_is_saved_is_the_average_of_the_weights(data, tmp_path):
    folder = train(run(data, tmp_path, save_dtype="float32"))
    saved = load_file(folder / "model.safetensors")
    checkpoint = state(tmp_path)
    different = False
    for name, value in saved.items():
        assert torch.equal(checkpoint[f"ema/{name}"], value), name
        different |= not torch.equal(checkpoint[f"model/{name}"], value)
    assert different


def test_curves_and_reconstructions_reach_tensorboard(data, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(run(data, tmp_path, steps=3))
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    tags = events.Tags()
    assert {"train/loss", "train/codes_used", "validation/psnr_db"} <= set(tags["scalars"])
    assert tags["images"] == ["validation/original_above_reconstruction"]
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3]
    used = [event.value for event in events.Scalars("train/codes_used")]
    assert all(0 < share <= 1 for share in used)


def test_the_discriminator_learns_from_its_start_on(data, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    adversary = {"weight": 0.5, "start": 3, "warmup": 2, "width": 4}
    train(run(data, tmp_path, adversary=adversary, save_every=1))
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train/discriminator")] == [4, 5, 6]
    added = [event.value for event in events.Scalars("train/adversarial")]
    assert added[0] == 0  # nothing at first: it is ignorant
    assert added[1] != 0

    before, after = (
        load_file(
            tmp_path / "checkpoints" / f"step-000000{step}" / "part-00000-of-00001.safetensors"
        )
        for step in (5, 6)
    )
    judging = [name for name in after if name.startswith("discriminator/")]
    assert judging
    assert all(not torch.equal(before[name], after[name]) for name in judging)


def test_an_alarm_when_codes_fall_out_of_use(data, tmp_path, monkeypatch, capsys):
    quantize = VQImageTokenizer.quantize
    calls = []

    def collapsing(self, features):
        quantized = quantize(self, features)
        if self.training:
            calls.append(1)
        return (
            quantized._replace(codes=quantized.codes * 0)
            if len(calls) > 3 and self.training
            else quantized
        )

    monkeypatch.setattr(VQImageTokenizer, "quantize", collapsing)
    train(run(data, tmp_path))
    message = " ".join(capsys.readouterr().err.split())
    assert (
        message.count("alarm: codebook 0 uses 3% of its codes, less than half of what it did") == 3
    )


def test_an_existing_run_is_never_overwritten(data, tmp_path):
    config = run(data, tmp_path, steps=1, save_every=1)
    before = load_tokenizer(train(config)).fingerprint
    with pytest.raises(ValueError, match="holds a run already; go on with --resume"):
        train(replace(config, seed=5))
    assert load_tokenizer(train(config, resume=True)).fingerprint == before


def test_a_run_that_goes_on_with_other_settings_says_so(data, tmp_path, capsys):
    config = run(data, tmp_path, steps=1, save_every=1)
    train(config)
    train(config, resume=True)
    assert "other settings" not in capsys.readouterr().err
    train(replace(config, steps=2, seed=5), resume=True)
    message = " ".join(capsys.readouterr().err.split())
    assert "going on from step 1 with other settings: seed 0 -> 5; steps 1 -> 2" in message


@pytest.mark.parametrize("modality", ["image", "audio"])
def test_what_decodes_can_be_trained_alone_and_codes_stay(data, tmp_path, modality):
    first = train(run(data, tmp_path / "first", modality, steps=2, save_every=2))
    settings = {"init_from": str(first), "freeze_encoder": True, "cycle": 1.0}
    config = run(data, tmp_path / "second", modality, steps=2, save_every=2, **settings)
    before, after = load_tokenizer(first), load_tokenizer(train(config))
    assert before.fingerprint != after.fingerprint
    for name, value in before.named_parameters():
        unchanged = torch.equal(value, after.get_parameter(name))
        assert unchanged == name.startswith(after.encoding), name
    for part in after.encoding:
        assert any(name.startswith(part) for name, _ in before.named_parameters())


def test_a_start_of_another_shape_is_refused(data, tmp_path):
    first = train(run(data, tmp_path / "first", steps=1, save_every=1))
    other = run(data, tmp_path / "second", init_from=str(first))
    with pytest.raises(ValueError, match="has the settings"):
        train(replace(other, tokenizer={**IMAGE, "decoder_width": 24}))


def test_a_loss_that_is_not_finite_stops_the_run_before_it_is_saved(data, tmp_path, monkeypatch):
    loss = ImageLoss.forward
    monkeypatch.setattr(ImageLoss, "forward", lambda *media_pair: loss(*media_pair) * float("inf"))
    with pytest.raises(ValueError, match=r"loss inf, gradient norm .* at step 0"):
        train(run(data, tmp_path, save_every=1))
    assert not (tmp_path / "checkpoints").exists()
    assert not (tmp_path / "tokenizer").exists()


def test_resuming_with_another_shape_is_refused(data, tmp_path):
    config = run(data, tmp_path, steps=1, save_every=1)
    train(config)
    other = replace(config, tokenizer={**IMAGE, "decoder_width": 24})
    with pytest.raises(ValueError, match="is of another model than the configuration's"):
        train(other, resume=True)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tokenizer": {"stems": 3}}, "tokenizer: unknown entry stems"),
        ({"data": ("nowhere-*.tar",)}, "nothing matches nowhere"),
        ({"modality": "audio", "tokenizer": AUDIO, "crop": 9}, "crop 9 frames of 64 samples"),
    ],
)
def test_a_run_that_cannot_work_is_refused(data, tmp_path, changes, reason):
    with pytest.raises(ValueError, match=reason):
        train(run(data, tmp_path, **changes))


ENTRIES = {
    "modality": "image", "output": "runs/x", "data": ["a"], "validation": [],
    "tokenizer": {"stride": 8}, "steps": 3, "batch_size": 2, "optimizer": {"lr": 0.002},
}  # fmt: skip


def test_a_configuration_file_is_read_as_it_stands(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({**ENTRIES, "seed": 4}))
    config = load_config(path)
    assert config.data == ("a",)
    assert config.validation == ()
    assert (config.steps, config.seed, config.tokenizer) == (3, 4, {"stride": 8})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"stepz": 3}, "unknown entry stepz; did you mean steps"),
        ({"steps": None}, "the entry 'steps' is missing"),
        ({"steps": 1.5}, "steps is 1.5, expected a whole number"),
        ({"optimizer": {"lr": "fast"}}, "optimizer.lr is 'fast', expected a number"),
        (
            {"optimizer": {"lr": 1, "max_grad_norm": True}},
            "optimizer.max_grad_norm is True, expected a number",
        ),
        ({"data": 3}, "data is 3, expected a list"),
        ({"tokenizer": 3}, "tokenizer is 3, expected a mapping"),
        ({"diffusion": {}}, r"diffusion \{\}, expected one of them"),
        ({"tokenizer": None, "diffusion": {}}, "for the image tokenizer in 'init_from'"),
        (
            {"tokenizer": None, "diffusion": {}, "init_from": "t", "cycle": 1},
            r"no use for \['cycle'\]",
        ),
        ({"modality": "smell"}, "modality is 'smell', expected 'image', 'audio' or 'video'"),
        ({"optimizer": {"lr": 1, "name": "sgd"}}, "optimizer.name is 'sgd', expected 'adamw' or"),
        ({"precision": "half"}, "precision is 'half', expected 'auto', 'bfloat16' or 'float32'"),
        ({"save_dtype": "int8"}, "save_dtype is 'int8', expected 'float32' or 'bfloat16'"),
        ({"losses": {"mel": 1.0}}, r"losses are \['mel'\], expected some of l1, l2"),
        ({"losses": {"l1": -1}}, "the loss l1 has the weight -1.0, expected more than 0"),
        ({"adversary": {"weight": 0.1}}, "adversary: the entry 'start' is missing"),
        (
            {"adversary": {"weight": 0.1, "start": "5"}},
            "adversary: start is '5', expected a whole number",
        ),
    ],
)
def test_wrong_entries_are_refused_by_name(tmp_path, changes, reason):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({**ENTRIES, **changes}))
    with pytest.raises(ValueError, match=reason) as caught:
        load_config(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "holds NoneType, expected a mapping"),
        ("- 1", "holds list, expected a mapping"),
        ("a: [", "is not YAML"),
        ("steps: !!python/object/apply:os.getcwd []", "has the tag"),
        ("modality: image", "the entry 'output' is missing"),
    ],
)
def test_files_that_are_no_configuration_are_refused(tmp_path, text, reason):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=reason):
        load_config(path)
    with pytest.raises(ValueError, match="cannot read"):
        load_config(tmp_path / "missing.yaml")
