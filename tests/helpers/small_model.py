"""The parts of a unified model that is made in an instant."""

import torch

from unified import TextTokenizer
from unified_tokenizers.audio import AudioTokenizerConfig, VQAudioTokenizer
from unified_tokenizers.image import ImageTokenizerConfig, VQImageTokenizer
from unified_tokenizers.quantizers import QuantizerConfig

TEXT = TextTokenizer.train(["a cat and a dog", "the dog is red"], 275)
DECODER = {
    "hidden_size": 20,
    "intermediate_size": 28,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 260,
    "tie_word_embeddings": True,
}


def media(seed: int = 0):
    torch.manual_seed(seed)
    image = ImageTokenizerConfig(
        quantizer=QuantizerConfig(levels=(4, 3)),
        encoder_width=4,
        decoder_width=8,
        encoder_depths=(1,),
        decoder_depths=(1, 1, 1),
    )
    audio = AudioTokenizerConfig(
        quantizer=QuantizerConfig(levels=(3, 3), depth=2), num_mels=8, encoder_width=4,
        encoder_depth=1, decoder_width=8, decoder_depths=(1, 1),
    )  # fmt: skip
    return {
        "image_tokenizer": VQImageTokenizer(image).eval(),
        "audio_tokenizer": VQAudioTokenizer(audio).eval(),
    }
