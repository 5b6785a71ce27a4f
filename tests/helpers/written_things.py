"""What writers write in tests: pictures, articles, an image tokenizer."""

import numpy as np
import torch

from unified_data.document import Document, Image, Text


def picture(number: int) -> Image:
    return Image(np.full((24, 24, 3), number, np.uint8))


def article(start: int, number: int) -> Document:
    pictures = [part for i in range(number) for part in (picture(start + i), Text(f"no. {i}"))]
    return Document((Text(f"An article {start}"), *pictures))


def small_image_tokenizer():
    from unified_tokenizers.image import ImageTokenizerConfig, VQImageTokenizer
    from unified_tokenizers.quantizers import QuantizerConfig

    torch.manual_seed(3)
    quantizer = QuantizerConfig(levels=(4, 3))
    return VQImageTokenizer(
        ImageTokenizerConfig(
            stride=24, quantizer=quantizer, encoder_width=8, decoder_width=8, encoder_depths=(1,),
            decoder_depths=(1, 0, 0),
        )
    ).eval()  # fmt: skip
