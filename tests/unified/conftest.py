"""What several test files share: tiny untrained models and tokenizers, and the command line."""

import json

import numpy as np
import pytest
from together_samplers import small_together, together_sampler  # noqa: F401 (fixtures)

from unified.__main__ import run
from unified.pocket.known_subjects import KnownSubjects
from unified_base.images import save_png
from unified_data.pocket.subjects import load_subjects


@pytest.fixture(scope="session")
def tiny_tokenizers():
    """(image, audio): 96x96 pixels in 4x4 codes of 12, speech in 5 frames a second of 2 x 9."""
    import torch

    from unified_tokenizers.audio import AudioTokenizerConfig, VQAudioTokenizer
    from unified_tokenizers.image import ImageTokenizerConfig, VQImageTokenizer
    from unified_tokenizers.quantizers import QuantizerConfig

    torch.manual_seed(3)
    image = VQImageTokenizer(
        ImageTokenizerConfig(
            stride=24, quantizer=QuantizerConfig(levels=(4, 3)), encoder_width=8, decoder_width=8,
            encoder_depths=(1,), decoder_depths=(1, 0, 0),
        )
    )  # fmt: skip
    audio = VQAudioTokenizer(
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

    from unified.engine.request import Sampling
    from unified.models.model import UnifiedModel
    from unified.pocket.plugin import pocket_tasks
    from unified.vocabulary.text_tokenizer import TextTokenizer
    from unified_tokenizers.audio import AudioTokenizerConfig, VQAudioTokenizer
    from unified_tokenizers.diffusion import DiffusionConfig, DiffusionDecoder
    from unified_tokenizers.image import ImageTokenizerConfig, VQImageTokenizer
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
    model = UnifiedModel.create(
        sizes,
        text_tokenizer=TextTokenizer.train([s.lead for s in load_subjects()[:9]], 280),
        image_tokenizer=VQImageTokenizer(picture).eval(),
        audio_tokenizer=VQAudioTokenizer(sound).eval(),
    )
    model.sampling = Sampling(max_ids=260, max_audio_frames=20)
    model.tasks, model.plugin = pocket_tasks(), "pocket"
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    diffusion = DiffusionConfig((9,), 32, scales=(1, 2), patch=16, widths=(32, 32), code_width=4)
    decoder = DiffusionDecoder(diffusion)
    for layer in decoder.leave.values():  # untrained it adds nothing
        torch.nn.init.normal_(layer.weight, std=0.3)
    decoder.save_pretrained(folder / "image_tokenizer" / "diffusion")
    KnownSubjects.of(load_subjects()).save(folder)
    return folder


@pytest.fixture(scope="session")
def streaming_model(tiny_tokenizers):
    """An untrained model of 256 positions whose every sequence is another one."""
    import torch

    from unified import TextTokenizer, UnifiedModel

    image, audio = tiny_tokenizers
    torch.manual_seed(1)
    model = UnifiedModel.create(
        {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 12,
         "num_key_value_heads": 1, "intermediate_size": 32, "max_position_embeddings": 256},
        text_tokenizer=TextTokenizer.train(["a cat, a dog. two cats"], 262),
        image_tokenizer=image, audio_tokenizer=audio, max_grid=9,
    )  # fmt: skip
    for parameter in model.hf.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture(scope="session")
def cli_llm(tmp_path_factory):
    """The folder of an untrained language model with a chat template."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tokenizers import AddedToken
    from unified.vocabulary.text_tokenizer import COMPANIONS, TextTokenizer

    template = (
        "{%- for m in messages -%}{{- '<s>' + m.role + '\\n' + m.content + '</s>' -}}{%- endfor -%}"
    )
    folder = tmp_path_factory.mktemp("llm")
    backend = TextTokenizer.train(["a cat and a dog"] * 3, 270)._tokenizer
    backend.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": template}
    text = TextTokenizer(backend, {COMPANIONS[0]: json.dumps(config).encode()})
    text.save(folder)
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=text.size + 6, hidden_size=20, intermediate_size=28, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=200,
    )  # fmt: skip
    LlamaForCausalLM(shape).bfloat16().save_pretrained(folder)
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
    from unified.engine.backends.cpu.config import LlamaCpuConfig, default_inv_freq
    from unified.engine.backends.cpu.decoder import LlamaCpuDecoder
    from unified.engine.engine import Engine

    def make(grammar, spread=0.4, tied=True):
        config = LlamaCpuConfig(
            hidden_size=16, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=6,
            intermediate_size=20, vocab_size=grammar.vocabulary.size, max_position_embeddings=300,
            norm_eps=1e-6, inv_freq=default_inv_freq(1e4, 6), qk_norm=True,
            tie_word_embeddings=tied,
        )  # fmt: skip
        rng = np.random.default_rng(5)
        weights = {
            name: rng.normal(1.0 if "norm" in name else 0.0, spread, shape).astype(np.float32)
            for name, shape in config.shapes().items()
        }
        return Engine(LlamaCpuDecoder(config, weights), grammar)

    return make


@pytest.fixture(scope="session")
def small_pocket():
    """The pocket format over few ids: 19 of text in 24 rows, 7 codes, and 5 + 6 of sound."""
    from unified.formats.grammar import Grammar
    from unified.formats.load import load_format
    from unified.vocabulary.vocabulary import Vocabulary

    vocabulary = Vocabulary.build(
        text_size=19, text_rows=24, markers=load_format("pocket").markers, max_grid=4,
        image=((7,), "image"), audio=((5, 6), "audio"),
    )  # fmt: skip
    return Grammar.load("pocket", vocabulary)


@pytest.fixture(scope="session")
def training_case(tiny_tokenizers, tmp_path_factory):
    """A small run on the sample's documents, as `TrainConfig` has it: 6 steps of 4 rows."""
    from pathlib import Path

    from unified.dataloading import Source
    from unified.training.config import OptimizerConfig, TrainConfig
    from unified_base.training.settings import ScheduleConfig

    sample = Path(__file__).parents[2] / "data" / "sample"
    folder = tmp_path_factory.mktemp("training")
    for tokenizer in tiny_tokenizers:
        tokenizer.save_pretrained(folder / tokenizer.modality)
    return TrainConfig(
        output=str(folder / "whole"),
        sources={
            "draw": Source(str(sample / "heldout-draw-*.tar"), 0.6),
            "article": Source(str(sample / "heldout-article-*.tar"), 0.4),
        },
        validation={"describe": Source(str(sample / "heldout-describe-*.tar"))},
        image_tokenizer=str(folder / "image"),
        audio_tokenizer=str(folder / "audio"),
        model={
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 8,
            "intermediate_size": 24,
            "max_position_embeddings": 4096,
            "tie_word_embeddings": True,
        },
        text_vocab_size=280,
        max_grid=8,
        steps=6,
        seq_len=230,
        global_batch_size=4,
        micro_batch_size=2,
        streams=12,
        optimizer=OptimizerConfig(lr=0.01, name="muon"),
        schedule=ScheduleConfig(warmup_steps=2),
        log_every=1,
        save_every=3,
        validate_every=3,
        threads=1,
        save_dtype="float32",
        modality_weights={"text": 2.0, "audio": 0.5},
        world="pocket",
        precision="float32",
    )


@pytest.fixture(scope="session")
def finished_training(training_case):
    """The folder of the model that the run of `training_case` made."""
    import torch

    from unified.training.train import train

    before = torch.get_num_threads()
    try:
        return train(training_case)
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_sequencer(tiny_tokenizers):
    """The pocket format over the tiny tokenizers and a text tokenizer of 270 ids."""
    from unified.formats.grammar import Grammar
    from unified.formats.load import load_format
    from unified.sequence.sequencer import Sequencer
    from unified.vocabulary.text_tokenizer import TextTokenizer
    from unified.vocabulary.vocabulary import Vocabulary

    image, audio = tiny_tokenizers
    text = TextTokenizer.train(["a cat on a blue ground", "two cats", "the giant panda"], 270)
    vocabulary = Vocabulary.build(
        text.size, text.size, load_format("pocket").markers, 9,
        image=(image.codebook_sizes, image.fingerprint),
        audio=(audio.codebook_sizes, audio.fingerprint),
    )  # fmt: skip
    return Sequencer(vocabulary, Grammar.load("pocket", vocabulary), text, image, audio)


@pytest.fixture(scope="session")
def stored_codes(tiny_sequencer):
    """What a folder of codes of the tiny tokenizers says."""
    from unified.dataloading.stored_codes import CodesOf, StoredCodes

    tokenizers = (tiny_sequencer.image_tokenizer, tiny_sequencer.audio_tokenizer)
    return StoredCodes({tokenizer.modality: CodesOf.of(tokenizer) for tokenizer in tokenizers})


@pytest.fixture(scope="session")
def write_codes(stored_codes):
    """A function: code shards NAME.tar, ... with lists of documents (lists of segments)."""
    import tarfile

    from unified_data.shards import ShardInfo, add_sample, write_index

    def write(folder, shards, **meta):
        folder.mkdir(parents=True, exist_ok=True)
        infos = []
        for name, documents in shards.items():
            path = folder / f"{name}.tar"
            with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
                for number, document in enumerate(documents):
                    key = f"{name}-{number:04d}"
                    add_sample(tar, key, *stored_codes.to_parts(key, document))
            size = path.stat().st_size
            infos.append(ShardInfo(path.name, "train", name, len(documents), size))
        write_index(folder, infos, **{**stored_codes.to_json(), **meta})
        return folder

    return write


@pytest.fixture(scope="session")
def random_documents():
    """A function: stored documents of a seed: texts, pictures of 12 codes, sounds of 2 x 9, in the
    roles and with the weights that a prompt and its response have."""
    from unified.formats.coded import CodedAudio, CodedImage
    from unified_data.document import Text

    def segment(rng, kind, role, loss):
        if kind == "text":
            words = rng.choice(["cat", "panda", "two", "ground", "blue"], rng.integers(1, 9))
            return Text(" ".join(words), role, loss)
        if kind == "image":
            h, w = rng.integers(1, 5, 2)
            return CodedImage(rng.integers(0, 12, (1, h, w)), role, loss)
        return CodedAudio(rng.integers(0, 9, (2, rng.integers(1, 9))), role, loss)

    def documents(number, seed=0):
        rng = np.random.default_rng(seed)
        generated = []
        for _ in range(number):
            kinds = rng.choice(["text", "image", "audio"], rng.integers(2, 6))
            first, *rest = kinds
            generated.append(
                [
                    segment(rng, str(first), "prompt", 0.0),
                    *(segment(rng, str(kind), "response", 1.0) for kind in rest),
                ]
            )
        return generated

    return documents


@pytest.fixture(scope="session")
def dense_losses():
    """A function: the losses of ids[1:] in nats, float (L - 1,), from all logits of a plain forward
    of one document. allowed: the ranges where each id stands."""
    import torch

    def losses(decoder, ids, allowed):
        ids = torch.as_tensor(np.asarray(ids, np.int64))
        logits = decoder(input_ids=ids[None]).logits[0, :-1]
        mask = torch.full_like(logits, -torch.inf)
        for row, ranges in zip(mask, allowed[1:]):
            for start, stop in ranges:
                row[start:stop] = 0
        return torch.nn.functional.cross_entropy(logits + mask, ids[1:], reduction="none")

    return losses
