"""What several test files share: tiny untrained models and tokenizers, and the command line."""

import numpy as np
import pytest

from unified.__main__ import run
from unified.subjects import KnownSubjects
from unified_data.files import save_png
from unified_data.pocket.subjects import load_subjects


@pytest.fixture(scope="session")
def tiny_tokenizers():
    """(image, audio): 96x96 pixels in 4x4 codes of 12, speech in 5 frames a second of 2 x 9."""
    import torch

    from unified_tokenizers.audio import AudioTokenizer, AudioTokenizerConfig
    from unified_tokenizers.image import ImageTokenizer, ImageTokenizerConfig
    from unified_tokenizers.quantizers import QuantizerConfig

    torch.manual_seed(3)
    image = ImageTokenizer(
        ImageTokenizerConfig(
            stride=24, quantizer=QuantizerConfig(levels=(4, 3)), encoder_width=8, decoder_width=8,
            encoder_depths=(1,), decoder_depths=(1, 0, 0),
        )
    )  # fmt: skip
    audio = AudioTokenizer(
        AudioTokenizerConfig(
            hop=3200, quantizer=QuantizerConfig(levels=(3, 3), depth=2), num_mels=8,
            encoder_width=8, encoder_depth=1, decoder_width=8, decoder_depths=(1, 0),
        )
    )  # fmt: skip
    audio.fill()
    return image.eval(), audio.eval()


@pytest.fixture(scope="session")
def cli_model(tmp_path_factory):
    """The folder of an untrained model that knows the pocket world's subjects, with an untrained
    diffusion decoder."""
    import torch

    from unified.model import UnifiedModel
    from unified.requests import Sampling
    from unified.text import TextTokenizer
    from unified_tokenizers.audio import AudioTokenizer, AudioTokenizerConfig
    from unified_tokenizers.diffusion import DiffusionConfig, DiffusionDecoder
    from unified_tokenizers.image import ImageTokenizer, ImageTokenizerConfig
    from unified_tokenizers.quantizers import QuantizerConfig

    torch.manual_seed(5)
    picture = ImageTokenizerConfig(
        stride=32, quantizer=QuantizerConfig(levels=(3, 3)), encoder_width=8, decoder_width=16,
        encoder_depths=(1,), decoder_depths=(1, 1, 1),
    )  # fmt: skip
    sound = AudioTokenizerConfig(
        quantizer=QuantizerConfig(levels=(3, 3), depth=2), num_mels=16, encoder_width=8,
        encoder_depth=1, decoder_width=16, decoder_depths=(1, 1),
    )  # fmt: skip
    sizes = {
        "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 12,
        "num_key_value_heads": 1, "intermediate_size": 32, "max_position_embeddings": 512,
        "tie_word_embeddings": True,
    }  # fmt: skip
    made = UnifiedModel.create(
        sizes,
        text_tokenizer=TextTokenizer.train([s.lead for s in load_subjects()[:9]], 280),
        image_tokenizer=ImageTokenizer(picture).eval(),
        audio_tokenizer=AudioTokenizer(sound).eval(),
    )
    made.sampling = Sampling(max_ids=260, max_audio_frames=20)
    folder = tmp_path_factory.mktemp("model")
    made.save_pretrained(folder)
    diffusion = DiffusionConfig((9,), 32, scales=(1, 2), patch=16, widths=(32, 32), code_width=4)
    decoder = DiffusionDecoder(diffusion)
    for layer in decoder.leave.values():  # untrained it adds nothing
        torch.nn.init.normal_(layer.weight, std=0.3)
    decoder.save_pretrained(folder / "image_tokenizer" / "diffusion")
    KnownSubjects.of(load_subjects()).save(folder)
    return folder


@pytest.fixture
def unified(cli_model, capsys):
    """Run a command on the model: (exit code, stdout, stderr)."""

    def call(*arguments, on=cli_model):
        options = ["--model", str(on)] if on else []
        code = run([*map(str, arguments), *options])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    save_png(path, np.full((96, 96, 3), 200, np.uint8))
    return path


@pytest.fixture
def refused():
    """Call it with what `unified` gave: exit code 2, nothing on stdout, and one line that says what
    is wrong, the message in it."""

    def check(outcome, message):
        code, out, err = outcome
        assert code == 2, err
        assert out == ""
        assert message in err
        (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
        assert message in line
        assert "Traceback" not in err

    return check


@pytest.fixture(scope="session")
def random_sampler():
    """A function: a sampler of two small layers with random weights over a grammar."""
    from unified.decoder import SlimDecoder
    from unified.sampling import Sampler
    from unified.slim_config import SlimConfig, rope_of

    def make(grammar, spread=0.4, tied=True):
        config = SlimConfig(
            width=16, num_layers=2, num_heads=2, num_kv_heads=1, head_width=6, ffn_width=20,
            vocab_size=grammar.vocabulary.size, max_ids=300, norm_eps=1e-6, rope=rope_of(1e4, 6),
            qk_norm=True, tied=tied,
        )  # fmt: skip
        rng = np.random.default_rng(5)
        weights = {
            name: rng.normal(1.0 if "norm" in name else 0.0, spread, shape).astype(np.float32)
            for name, shape in config.shapes().items()
        }
        return Sampler(SlimDecoder(config, weights), grammar)

    return make


@pytest.fixture(scope="session")
def small_pocket():
    """The pocket format over few ids: 19 of text in 24 rows, 7 codes, and 5 + 6 of sound."""
    from unified.format_spec import load_format
    from unified.grammar import Grammar
    from unified.vocabulary import Vocabulary

    vocabulary = Vocabulary.build(
        text_size=19, text_rows=24, markers=load_format("pocket").markers, max_grid=4,
        image=((7,), "image"), audio=((5, 6), "audio"),
    )  # fmt: skip
    return Grammar.load("pocket", vocabulary)
