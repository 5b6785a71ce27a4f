"""What several test files share: tiny untrained media tokenizers that fit the pocket world."""

import pytest


@pytest.fixture(scope="session")
def tiny_tokenizers():
    """(image, audio): 96x96 pixels in 4x4 codes of 12, speech in 5 frames a second of 2 x 9."""
    import torch

    from unified_tokenizers.audio import AudioTokenizer, AudioTokenizerConfig
    from unified_tokenizers.image import ImageTokenizer, ImageTokenizerConfig

    torch.manual_seed(3)
    image = ImageTokenizer(
        ImageTokenizerConfig(
            stem=12, levels=(4, 3), encoder_width=8, decoder_width=8, encoder_depth=1,
            decoder_depths=(1, 0, 0),
        )
    )  # fmt: skip
    audio = AudioTokenizer(
        AudioTokenizerConfig(
            hop=3200, levels=(3, 3), num_mels=8, encoder_width=8, encoder_depth=1,
            decoder_width=8, decoder_depths=(1, 0),
        )
    )  # fmt: skip
    audio.front.fill()
    return image.eval(), audio.eval()
