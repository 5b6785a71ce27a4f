"""Chameleon's VQ model with our decoder: the original's, alone and inside other checkpoints."""

import json
import re

import diffusers
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from unified_tokenizers import load_tokenizer
from unified_tokenizers.base import Codes

# The names of diffusers' decoder and those of the original; `up` is counted the other way round.
TAMING = {
    r"mid_block\.resnets\.0": "mid.block_1", r"mid_block\.resnets\.1": "mid.block_2",
    r"mid_block\.attentions\.0": "mid.attn_1", r"up_blocks\.0": "up.2", r"up_blocks\.1": "up.1",
    r"up_blocks\.2": "up.0", r"resnets": "block", r"attentions": "attn",
    r"upsamplers\.0": "upsample", r"group_norm": "norm", r"to_(q|k|v)": r"\1",
    r"to_out\.0": "proj_out", r"conv_shortcut": "nin_shortcut", r"conv_norm_out": "norm_out",
}  # fmt: skip


@pytest.mark.parametrize(
    ("prefix", "attention"),
    [("", True), ("", False), ("vqmodel.", True), ("model.vqmodel.", True)],
)
@torch.no_grad()
def test_chameleons_decoder_is_that_of_the_original_vqgan(tmp_path, prefix, attention):
    """diffusers has the same decoder, of its own code and under other names."""
    kind = "AttnUpDecoderBlock2D" if attention else "UpDecoderBlock2D"
    torch.manual_seed(3)
    reference = diffusers.VQModel(
        down_block_types=["DownEncoderBlock2D"] * 3, block_out_channels=[32, 64, 96],
        up_block_types=[kind, kind, "UpDecoderBlock2D"], latent_channels=5, vq_embed_dim=3,
        num_vq_embeddings=20, mid_block_add_attention=attention,
    ).eval()  # fmt: skip
    config = transformers.ChameleonVQVAEConfig(
        base_channels=32, channel_multiplier=[1, 2, 3], num_res_blocks=1, latent_channels=5,
        embed_dim=3, num_embeddings=20, resolution=16, attn_resolutions=[8, 4],
        attn_type="vanilla" if attention else "none",
    )  # fmt: skip
    for weight in reference.parameters():
        weight.add_(torch.randn(weight.shape) * 0.1)
    tensors = transformers.ChameleonVQVAE(config).state_dict()
    tensors["quantize.embedding.weight"] = reference.quantize.embedding.weight.data
    for name, value in reference.state_dict().items():
        if name.startswith("post_quant_conv."):
            tensors[name] = value
        elif name.startswith("decoder."):
            for theirs, original in TAMING.items():
                name = re.sub(rf"\b{theirs}\b", original, name)
            linear = re.search(r"\.(q|k|v|proj_out)\.weight$", name)
            tensors[name] = value[..., None, None] if linear else value
    save_file(
        {prefix + name: value.contiguous() for name, value in tensors.items()},
        tmp_path / "model.safetensors",
        metadata={"format": "pt"},
    )
    config.save_pretrained(tmp_path)

    codec = load_tokenizer(tmp_path)
    codes = torch.randint(20, (2, 1, 4, 6))
    vectors = reference.quantize.get_codebook_entry(codes.flatten(), (2, 4, 6, 3))
    wanted = reference.decode(vectors, force_not_quantize=True).sample
    decoded = codec.model.decoder(codec.model.post_quant_conv(vectors))
    torch.testing.assert_close(decoded, wanted, atol=1e-5, rtol=1e-5)
    assert wanted.std() > 0.1
    # White went in as 0.989: what comes out is turned back by the same rule.
    pixels = codec.decode(Codes(codes, (16, 24)))
    torch.testing.assert_close(
        pixels, ((wanted + 1) / (255 * 0.0078)).clamp(0, 1), atol=1e-5, rtol=0
    )
    assert torch.equal(codec.decode(Codes(codes, (16, 24))), pixels)
    assert torch.equal(codec.decode(Codes(codes, (14, 21))), pixels[:, :, :14, :21])


def test_it_opens_from_the_checkpoint_of_a_model_that_uses_it(tmp_path):
    """Such as Liquid, a Gemma: its config.json names the VQ model, its weights hold it."""
    config = transformers.ChameleonVQVAEConfig(
        base_channels=32, channel_multiplier=[1, 1], num_res_blocks=1, latent_channels=4,
        embed_dim=3, num_embeddings=20, resolution=16,
    )  # fmt: skip
    alone, inside = tmp_path / "alone", tmp_path / "inside"
    transformers.ChameleonVQVAE(config).save_pretrained(alone)
    inside.mkdir()
    state = load_file(alone / "model.safetensors")
    tensors = {f"model.vqmodel.{name}": value for name, value in state.items()}
    language = {"model.embed_tokens.weight": torch.zeros(4, 4)}
    save_file({**tensors, **language}, inside / "model.safetensors", metadata={"format": "pt"})
    entries = {"model_type": "gemma", "vq_config": config.to_dict()}
    (inside / "config.json").write_text(json.dumps(entries))
    codec = load_tokenizer(inside, "image")
    assert codec.codebook_sizes == (20,)
    assert codec.fingerprint == load_tokenizer(alone, "image").fingerprint
