"""Pictures of several codes a place, from a folder of pictures to a drawn one: the tokenizer's
training, its numpy form, a decoder with a depth decoder that learns them, and what it draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from picture_training import run
from PIL import Image as PillowImage
from tokenized_shards import write

from unified.dataloading import Source
from unified.models.model import UnifiedModel
from unified.training.config import OptimizerConfig, TrainConfig
from unified.training.train import train as train_decoder
from unified_base.training.settings import ScheduleConfig
from unified_data.document import Document, Image, Text
from unified_tokenizers import load_tokenizer
from unified_tokenizers.arrays import decode_arrays, encode_arrays
from unified_tokenizers.loading_arrays import load_array_tokenizer
from unified_tokenizers.numpy_image import NumpyImageTokenizer
from unified_tokenizers.training import train as train_tokenizer

SHAPE = {
    "stride": 4, "encoder_width": 8, "decoder_width": 16, "encoder_depths": [1],
    "decoder_depths": [1, 0, 0],
}  # fmt: skip
# Three codebooks side by side, each for its third of the channels (UniTok, arXiv:2502.20321); two
# residual ones (arXiv:2203.01941); and both.
QUANTIZERS = {
    "side by side": ({"kind": "vq", "codes": 11, "dim": 2, "groups": 3}, (11, 11, 11)),
    "residual fsq": ({"kind": "fsq", "levels": [3, 3], "depth": 2}, (9, 9)),
    "both": ({"kind": "vq", "codes": 5, "dim": 2, "groups": 2, "depth": 2}, (5, 5, 5, 5)),
}
CAPTIONS = ("a cat", "a dog")


@pytest.fixture(autouse=True)
def _threads():
    """A run sets torch's number of threads for its process: put it back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def coarse(seed: int) -> np.ndarray:
    """Squares of 4x4 pixels, 2 x 3 of them."""
    squares = np.random.default_rng(seed).integers(0, 256, (2, 3, 3), dtype=np.uint8)
    return squares.repeat(4, 0).repeat(4, 1)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(6):
        PillowImage.fromarray(coarse(seed)).save(folder / f"{seed}.png")
    return folder


@pytest.mark.parametrize("name", QUANTIZERS)
@pytest.mark.slow
def test_what_is_trained_opens_without_torch_and_is_drawn_together(name, pictures, tmp_path):
    entries, sizes = QUANTIZERS[name]
    folder = train_tokenizer(
        run(pictures, tmp_path / "tokenizer", tokenizer={**SHAPE, "quantizer": entries}, size=8)
    )
    module, tokenizer = load_tokenizer(folder), load_array_tokenizer(folder)
    assert type(tokenizer) is NumpyImageTokenizer
    assert tokenizer.codebook_sizes == module.codebook_sizes == sizes
    media = np.stack([coarse(seed).transpose(2, 0, 1) for seed in range(2)])  # (2, 3, 8, 12)
    codes = encode_arrays(tokenizer, media)
    assert codes.shape == (2, len(sizes), 2, 3)
    expected = module.decode(module.encode(torch.from_numpy(media)))
    decoded = decode_arrays(tokenizer, codes, (8, 12))
    np.testing.assert_allclose(decoded, expected.numpy(), atol=2e-5)
    # Every codebook says something: another code of it makes another picture.
    for level, size in enumerate(sizes):
        other = codes.copy()
        other[:, level] = (other[:, level] + 1) % size
        assert np.abs(decode_arrays(tokenizer, other, (8, 12)) - decoded).max() > 1e-4

    # Two captions with a picture each, learnt by heart.
    (shard,) = write(
        tmp_path / "shards",
        {
            "draw": [
                Document((Text(f"![{caption}]", "prompt"), Image(coarse(seed), "response")))
                for seed, caption in enumerate(CAPTIONS)
            ]
        },
    )
    finished = train_decoder(config_of(str(shard), str(folder), str(tmp_path / "decoder")))
    model = UnifiedModel.from_pretrained(finished)
    assert model.grammar.num_together == len(sizes)
    assert model.codes is not None
    assert model.codes.output == "depth"
    for seed, caption in enumerate(CAPTIONS):
        (drawn,) = model.draw(caption, temperature=0.0, size=(12, 8))
        restored = (decoded[seed].transpose(1, 2, 0) * 255).round()
        assert drawn.shape == (8, 12, 3)
        assert np.abs(drawn.astype(float) - restored).max() <= 1
    # Six positions, not eighteen, between the markers and sizes.
    document = Document((Text("![a cat]", "prompt"), Image(coarse(0), "response")))
    sequence = model.sequencer.encode(document)
    assert np.bincount(sequence.depth)[1:].tolist() == [6] * (len(sizes) - 1)


def config_of(shard: str, image_tokenizer: str, output: str) -> TrainConfig:
    return TrainConfig(
        output=output, sources={"draw": Source(shard)}, image_tokenizer=image_tokenizer,
        format="pocket-together", codes="depth",
        depth={"hidden_size": 16, "num_layers": 1, "num_heads": 2, "head_dim": 8,
               "intermediate_size": 32},
        model={"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
               "num_key_value_heads": 1, "head_dim": 16, "intermediate_size": 48,
               "max_position_embeddings": 256, "tie_word_embeddings": True},
        text_vocab_size=265, max_grid=4, steps=60, seq_len=60, global_batch_size=2,
        micro_batch_size=2, optimizer=OptimizerConfig(lr=0.01),
        schedule=ScheduleConfig(warmup_steps=5), log_every=30, save_every=60, threads=1,
        save_dtype="float32", precision="float32",
    )  # fmt: skip
