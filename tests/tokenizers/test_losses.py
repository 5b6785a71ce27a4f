"""Losses and adversaries: what they are zero for, what they see, and how they are balanced."""

import pytest
import torch
from safetensors.torch import save_file

from unified_tokenizers.discriminators import (
    Adversary,
    AdversarySettings,
    audio_discriminator,
    feature_matching,
    image_discriminator,
)
from unified_tokenizers.losses import (
    AudioLoss,
    ImageLoss,
    Intelligibility,
    multi_resolution_stft,
)
from unified_tokenizers.measures import stoi
from unified_tokenizers.perceptual import LPIPS_FILE, Lpips


def pictures(seed: int, height: int = 21, width: int = 34) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(seed))


def sounds(seed: int, samples: int = 4096) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(2, samples, generator=rng) - 0.5


@pytest.mark.parametrize("name", ["l1", "l2", "slopes", "laplacian", "focal_frequency"])
def test_a_loss_of_pictures_is_zero_for_the_same_and_weighed(name):
    first, second = pictures(0), pictures(1)
    loss, double = ImageLoss({name: 1.0}), ImageLoss({name: 2.0})
    assert loss(first, first) == 0
    assert loss(first, second) > 0.01
    torch.testing.assert_close(double(first, second), 2 * loss(first, second))
    near = first + 0.1 * (second - first)
    assert loss(near, first) < 0.2 * loss(second, first)
    moved = near.clone().requires_grad_()
    loss(moved, first).backward()
    assert moved.grad.isfinite().all()
    assert moved.grad.abs().sum() > 0


@pytest.fixture(scope="module")
def perceptual_weights(tmp_path_factory):
    """Random weights of LPIPS as the original saves them, doubles and normalisation included."""
    torch.manual_seed(0)
    state = {name: value.clone() for name, value in Lpips().state_dict().items()}
    for name in list(state):
        if name.startswith("lin"):
            state[name].abs_()  # the original's are never negative
            state[f"lins.{name[3:].partition('.')[0]}.{name.partition('.')[2]}"] = state[
                name
            ].clone()
    state["scaling_layer.shift"] = torch.zeros(1, 3, 1, 1)
    path = tmp_path_factory.mktemp("lpips") / "vgg.safetensors"
    save_file(state, path)
    return path


def test_the_perceptual_loss_reads_weights_from_disk_and_no_network(
    perceptual_weights, monkeypatch, tmp_path
):
    monkeypatch.delenv(LPIPS_FILE, raising=False)
    with pytest.raises(ValueError, match="UNIFIED_LPIPS is None, expected a safetensors file"):
        ImageLoss({"l1": 1.0, "lpips": 1.0})
    monkeypatch.setenv(LPIPS_FILE, str(perceptual_weights))
    loss = ImageLoss({"lpips": 2.0})
    first, second = pictures(0, 32, 48), pictures(1, 32, 48)
    assert loss(first, first) == 0
    moved = second.clone().requires_grad_()
    loss(moved, first).backward()
    assert moved.grad.abs().sum() > 0
    near = first + 0.1 * (second - first)
    assert 0 < loss(near, first) < loss(second, first)
    assert not any(p.requires_grad for p in loss.parameters())
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    monkeypatch.setenv(LPIPS_FILE, str(tmp_path / "bad.safetensors"))
    with pytest.raises(ValueError, match="does not hold the weights of LPIPS"):
        ImageLoss({"lpips": 1.0})


def test_losses_of_pictures_add_up():
    first, second = pictures(0), pictures(1)
    both = ImageLoss({"l1": 0.5, "laplacian": 3.0})(first, second)
    parts = 0.5 * ImageLoss({"l1": 1})(first, second) + 3 * ImageLoss({"laplacian": 1})(
        first, second
    )
    torch.testing.assert_close(both, parts)


def test_what_each_loss_of_pictures_sees():
    flat = torch.full((1, 3, 32, 32), 0.5)
    lighter = flat + 0.1
    stripes = flat + 0.1 * torch.tensor([1.0, -1.0]).repeat(16)
    for name, expected in (("l1", 0.1), ("l2", 0.01)):
        for seen in (lighter, stripes):
            torch.testing.assert_close(ImageLoss({name: 1.0})(seen, flat), torch.tensor(expected))
    assert ImageLoss({"slopes": 1.0})(lighter, flat) < 1e-6
    torch.testing.assert_close(ImageLoss({"slopes": 1.0})(stripes, flat), torch.tensor(0.2))
    # A ground of another colour is in the coarsest of four bands alone, stripes in the finest.
    torch.testing.assert_close(ImageLoss({"laplacian": 1.0})(lighter, flat), torch.tensor(0.025))
    torch.testing.assert_close(
        ImageLoss({"laplacian": 1.0})(stripes, flat), torch.tensor(0.025), atol=1e-2, rtol=0
    )
    # One wrong frequency weighs fully: of the sum of squares, the mean over 32 x 17 frequencies.
    energy = 32 * 32 * 0.01
    torch.testing.assert_close(
        ImageLoss({"focal_frequency": 1.0})(stripes, flat), torch.tensor(energy / (32 * 17))
    )


def test_losses_of_sound():
    first, second = sounds(0), sounds(1)
    assert multi_resolution_stft(first, first) == 0
    assert multi_resolution_stft(first, 0.5 * first) == pytest.approx(1 + 0.6931, abs=0.01)
    both = AudioLoss({"mel": 2.0, "stft": 0.5}, 16_000)(first, second)
    parts = 2 * AudioLoss({"mel": 1.0}, 16_000)(first, second)
    torch.testing.assert_close(both, parts + 0.5 * multi_resolution_stft(first, second))


def speech_like(seconds: float = 2.0, rate: int = 16_000) -> torch.Tensor:
    """Bands of noise that swell and fade, a few times a second, each in its own way."""
    time = torch.arange(round(seconds * rate)) / rate
    rng = torch.Generator().manual_seed(0)
    noise = torch.fft.rfft(torch.randn(time.numel(), generator=rng))
    frequencies = torch.linspace(0, rate / 2, noise.numel())
    total = torch.zeros_like(time)
    for band, low in enumerate((200, 600, 1800)):
        part = torch.fft.irfft(noise * ((frequencies > low) & (frequencies < 2 * low)))
        total += part * (2 * torch.pi * (2 + 1.3 * band) * time).sin().square()
    return 0.1 * total[None]


def test_intelligibility_goes_with_stoi_and_is_blind_to_loudness():
    clean = speech_like()
    loss = Intelligibility(16_000)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    assert float(loss(clean, clean)) < 1e-3
    assert float(loss(0.3 * clean, clean)) < 3e-3
    noisy = [clean + amount * noise for amount in (0.01, 0.03, 0.1)]
    distances = [1 - float(loss(noised, clean)) for noised in noisy]
    theirs = [stoi(clean[0].numpy(), noised[0].numpy(), 16_000) for noised in noisy]
    assert distances[0] > distances[1] + 0.05 > distances[2] + 0.1
    assert distances[:2] == pytest.approx(theirs[:2], abs=0.12)
    assert theirs[0] > theirs[1] > theirs[2]
    # Silence has nothing to be understood; neither it nor a short sound gives a slope that is NaN.
    assert loss(noise, torch.zeros_like(noise)) == 0
    short = clean[:, :700].clone().requires_grad_()
    loss(0 * short, clean[:, :700]).backward()
    assert short.grad.isfinite().all()


@pytest.mark.parametrize(
    ("create", "media"), [(image_discriminator, pictures), (audio_discriminator, sounds)]
)
def test_a_discriminator_judges_each_alone_and_learns(create, media):
    torch.manual_seed(0)
    discriminator = create(4)
    real, fake = media(0), 0.3 * media(1) + 0.2
    together = discriminator(real)
    for row in range(2):
        alone = discriminator(real[row : row + 1])
        for first, several in zip(alone, together):
            for mine, ours in zip(first, several):
                torch.testing.assert_close(mine[0], ours[row], atol=1e-5, rtol=1e-4)
    assert feature_matching(together, together) == 0

    settings = AdversarySettings(weight=1, start=0, width=4, learning_rate=0.005)
    adversary = Adversary(settings, "image" if real.ndim == 4 else "audio")
    losses = []
    for _ in range(30):
        losses.append(float(adversary.learn(real, fake)))
        adversary.step()
    assert losses[-1] < 0.7 * losses[0]


def test_an_adversary_is_balanced_at_the_last_layer_and_grows():
    torch.manual_seed(1)
    adversary = Adversary(AdversarySettings(weight=0.25, start=10, warmup=4, width=4), "image")
    assert [adversary.active(step) for step in (0, 9, 10, 11)] == [False, False, True, True]
    layer = torch.nn.Conv2d(3, 3, 1)
    real = pictures(0)
    output = layer(pictures(1))
    second = (output - real).abs().mean()
    (theirs,) = torch.autograd.grad(second, layer.weight, retain_graph=True)
    for step, grown in ((10, 0.0), (11, 0.25), (14, 1.0), (99, 1.0)):
        added = adversary.loss(real, output, second, layer.weight, step)
        (ours,) = torch.autograd.grad(added, layer.weight, retain_graph=True)
        torch.testing.assert_close(ours.norm(), 0.25 * grown * theirs.norm(), rtol=1e-4, atol=1e-7)
    assert all(p.grad is None for p in adversary.discriminator.parameters())
    assert all(p.requires_grad for p in adversary.discriminator.parameters())
