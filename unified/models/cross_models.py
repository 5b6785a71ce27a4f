"""MusicGen and Dia as a `CrossModel` each, with the modules of transformers' objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers.activations import ACT2FN

from unified.models.cross_model import Attention, CrossLayer, CrossModel, CrossShape, TextEncoder

__all__ = ["DiaModel", "MusicgenModel"]


class MusicgenModel(CrossModel):
    """T5's encoder, and a decoder of parallel heads. Level k's table has a row more than its head,
    of the padding before and behind its codes."""

    def __init__(self, hf: Any) -> None:
        """hf: a MusicgenForConditionalGeneration."""
        config = hf.config.decoder
        width, heads = config.hidden_size, config.num_attention_heads
        each = (heads, heads, width // heads)
        encoder = TextEncoder(
            hf.text_encoder, getattr(hf, "enc_to_dec_proj", None),
            hf.config.text_encoder.eos_token_id,
        )  # fmt: skip
        super().__init__(
            hf, encoder, CrossShape(config.num_hidden_layers, width, *each, *each),
            hf.config.text_encoder.vocab_size, config.num_codebooks, config.vocab_size + 1,
            config.max_position_embeddings,
        )  # fmt: skip
        self._decoder: Any = hf.decoder.model.decoder
        self._heads: Any = hf.decoder.lm_heads
        self.norm = self._decoder.layer_norm
        self.eps = self._decoder.layer_norm.eps
        self.covered = config.activation_function == "gelu" and not config.scale_embedding
        for part in self._decoder.layers:
            own, text = part.self_attn, part.encoder_attn
            self.layers.append(
                CrossLayer(
                    norm=part.self_attn_layer_norm,
                    own=Attention(own.q_proj, own.k_proj, own.v_proj, own.out_proj),
                    text_norm=part.encoder_attn_layer_norm,
                    text=Attention(text.q_proj, text.k_proj, text.v_proj, text.out_proj),
                    mlp_norm=part.final_layer_norm,
                    up=part.fc1, activation=part.activation_fn, down=part.fc2, gated=False,
                )
            )  # fmt: skip

    def tables(self) -> Sequence[Tensor]:
        return [table.weight for table in self._decoder.embed_tokens]

    def heads(self) -> Sequence[Tensor]:
        return [head.weight for head in self._heads]

    def position_table(self) -> Tensor:
        table: Tensor = self._decoder.embed_positions.weights
        return table


class DiaModel(CrossModel):
    """An encoder of bytes, and a decoder of parallel heads over nine levels."""

    scale = 1.0

    def __init__(self, hf: Any) -> None:
        """hf: a DiaForConditionalGeneration."""
        config = hf.config.decoder_config
        shape = CrossShape(
            config.num_hidden_layers, config.hidden_size, config.num_attention_heads,
            config.num_key_value_heads, config.head_dim, config.cross_num_attention_heads,
            config.cross_num_key_value_heads, config.cross_head_dim,
        )  # fmt: skip
        super().__init__(
            hf, TextEncoder(hf.model.encoder), shape, hf.config.encoder_config.vocab_size,
            config.num_channels, config.vocab_size, config.max_position_embeddings,
        )  # fmt: skip
        self._decoder: Any = hf.model.decoder
        self._head: Any = hf.logits_dense
        self.norm = self._decoder.norm
        self.eps = config.norm_eps
        self.covered = config.hidden_act == "silu" and (
            self._decoder.rotary_emb.rope_type == "default"
        )
        for part in self._decoder.layers:
            own, text, mlp = part.self_attention, part.cross_attention, part.mlp
            self.layers.append(
                CrossLayer(
                    norm=part.pre_sa_norm,
                    own=Attention(own.q_proj, own.k_proj, own.v_proj, own.o_proj),
                    text_norm=part.pre_ca_norm,
                    text=Attention(text.q_proj, text.k_proj, text.v_proj, text.o_proj),
                    mlp_norm=part.pre_mlp_norm,
                    up=mlp.gate_up_proj, activation=ACT2FN[config.hidden_act], down=mlp.down_proj,
                    gated=True,
                )
            )  # fmt: skip

    def tables(self) -> Sequence[Tensor]:
        return list(self._decoder.embeddings.embed.weight.split(self.rows))

    def heads(self) -> Sequence[Tensor]:
        return list(self._head.weight.split(self.rows))

    def angles(self) -> Tensor:
        angles: Tensor = self._decoder.rotary_emb.inv_freq
        return angles
