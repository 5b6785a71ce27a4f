"""Vectors of codes: what a code adds to what the decoder gets, whatever the other codebooks say."""

import pytest
import torch
import transformers

from unified_tokenizers.adapters_audio import DacAdapter, EncodecAdapter, MimiAdapter
from unified_tokenizers.adapters_image import ChameleonAdapter
from unified_tokenizers.audio import AudioTokenizerConfig, VQAudioTokenizer
from unified_tokenizers.image import ImageTokenizerConfig, VQImageTokenizer
from unified_tokenizers.modules import BaseImageTokenizer
from unified_tokenizers.quantizers import QuantizerConfig

SOUND = {"num_mels": 8, "encoder_width": 8, "encoder_depth": 1, "decoder_width": 8,
         "decoder_depths": (1, 1)}  # fmt: skip
PICTURE = {"encoder_width": 8, "decoder_width": 8, "encoder_depths": (1,),
           "decoder_depths": (1, 0, 0)}  # fmt: skip


@pytest.mark.parametrize(
    "config",
    [
        QuantizerConfig(levels=(4, 3), depth=3),
        QuantizerConfig("vq", codes=9, dim=5, depth=2, groups=2),
        QuantizerConfig("simvq", codes=7, dim=3, groups=2),
        QuantizerConfig("bsq", codes=8),
    ],
    ids=lambda config: config.kind,
)
def test_values_are_the_sum_of_the_vectors_of_their_codes(config):
    torch.manual_seed(0)
    tokenizer = VQAudioTokenizer(AudioTokenizerConfig(quantizer=config, **SOUND)).eval()
    for codebook in tokenizer.quantizer._codebooks():
        codebook.embed.normal_()
    vectors = tokenizer.code_vectors()
    sizes = tokenizer.codebook_sizes
    assert [tuple(v.shape) for v in vectors] == [(size, config.width) for size in sizes]
    codes = torch.stack([torch.randint(size, (20,)) for size in sizes], -1)
    values = tokenizer.quantizer.values_of(codes[None])[0]
    added = torch.stack([v[c] for v, c in zip(vectors, codes.T)]).sum(0)
    torch.testing.assert_close(values - values.mean(0), added - added.mean(0))
    for rows in vectors:
        torch.testing.assert_close(rows.mean(0), torch.zeros(config.width))


def test_pictures_and_a_codec_of_others_give_theirs():
    image = VQImageTokenizer(
        ImageTokenizerConfig(quantizer=QuantizerConfig(levels=(4, 3)), **PICTURE)
    )
    (rows,) = image.code_vectors()
    assert len(rows.unique(dim=0)) == 12
    vq = {"base_channels": 32, "channel_multiplier": [1, 1], "num_res_blocks": 1, "embed_dim": 4,
          "latent_channels": 4, "num_embeddings": 10, "resolution": 64}  # fmt: skip
    chameleon = transformers.ChameleonVQVAE(transformers.ChameleonVQVAEConfig(**vq))
    (rows,) = ChameleonAdapter(chameleon).code_vectors()
    weight = chameleon.quantize.embedding.weight
    torch.testing.assert_close(rows, (weight - weight.mean(0)).detach())


def test_residual_codecs_of_others_give_what_each_codebook_adds():
    common = {"sampling_rate": 16_000, "codebook_size": 16}
    encodec = transformers.EncodecModel(
        transformers.EncodecConfig(
            **common, upsampling_ratios=[4, 2], hidden_size=8, num_filters=4, num_lstm_layers=1,
            target_bandwidths=[8.0, 16.0],
        )
    )  # fmt: skip
    dac = transformers.DacModel(
        transformers.DacConfig(
            **common, downsampling_ratios=[2, 4], encoder_hidden_size=4, decoder_hidden_size=16,
            n_codebooks=3, codebook_dim=4,
        )
    )  # fmt: skip
    mimi = transformers.MimiModel(
        transformers.MimiConfig(
            **common, upsampling_ratios=[4, 2], hidden_size=16, num_filters=4, codebook_dim=8,
            vector_quantization_hidden_dimension=8, num_quantizers=4, num_semantic_quantizers=2,
            upsample_groups=16, num_hidden_layers=1, intermediate_size=32, num_attention_heads=2,
            num_key_value_heads=2, sliding_window=8,
        )
    )  # fmt: skip
    for model, adapter in ((encodec, EncodecAdapter), (dac, DacAdapter), (mimi, MimiAdapter)):
        for key, buffer in model.named_buffers():
            if key.endswith((".embed", ".embed_sum")):
                buffer.normal_()
        tokenizer = adapter(model)
        vectors = tokenizer.code_vectors()
        assert [len(v) for v in vectors] == [16] * len(tokenizer.codebook_sizes)
        assert all(len(v.unique(dim=0)) == 16 for v in vectors)
    embedded = encodec.quantizer.layers[1].codebook.embed
    torch.testing.assert_close(
        EncodecAdapter(encodec).code_vectors()[1], embedded - embedded.mean(0)
    )


def test_a_tokenizer_that_does_not_give_its_vectors_says_so():
    class Own(BaseImageTokenizer):
        codebook_sizes = (3,)
        stride = 8

    with pytest.raises(ValueError, match="a Own does not give the vectors of its codes"):
        Own().code_vectors()
