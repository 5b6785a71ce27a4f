"""Untrained models whose positions hold several codes, and tokenizers of several levels."""

from functools import cache

import torch

from unified import TextTokenizer, UnifiedModel
from unified_tokenizers.audio import AudioTokenizerConfig, VQAudioTokenizer
from unified_tokenizers.image import ImageTokenizerConfig, VQImageTokenizer
from unified_tokenizers.quantizers import QuantizerConfig


@cache
def level_tokenizers():
    """(image, audio): 24x24 pixels in a place of 2 codes of 6, frames of a fifth second in 3 codes
    of 9."""
    torch.manual_seed(4)
    image = VQImageTokenizer(
        ImageTokenizerConfig(
            stride=24, quantizer=QuantizerConfig(levels=(3, 2), depth=2), encoder_width=8,
            decoder_width=8, encoder_depths=(1,), decoder_depths=(1, 0, 0),
        )
    )  # fmt: skip
    audio = VQAudioTokenizer(
        AudioTokenizerConfig(
            hop=3200, quantizer=QuantizerConfig(levels=(3, 3), depth=3), num_mels=8,
            encoder_width=8, encoder_depth=1, decoder_width=8, decoder_depths=(1, 0),
        )
    )  # fmt: skip
    audio.fill()
    return image.eval(), audio.eval()


def together_model(codes="depth", depth=None, format="pocket-together"):
    """A model of two layers whose positions hold 2 codes of a picture or 3 of a sound, and whose
    every sequence is another one. codes, depth, format: see `UnifiedModel.create`."""
    image, audio = level_tokenizers()
    torch.manual_seed(1)
    model = UnifiedModel.create(
        {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 12,
         "num_key_value_heads": 1, "intermediate_size": 32, "max_position_embeddings": 256,
         "tie_word_embeddings": True},
        text_tokenizer=TextTokenizer.train(["a cat, a dog. two cats"], 262), format=format,
        image_tokenizer=image, audio_tokenizer=audio, max_grid=9, codes=codes, depth=depth,
    )  # fmt: skip
    for parameter in model.hf.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model
