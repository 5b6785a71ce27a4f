"""CSM on any device, by the object that transformers has of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unified.engine.backends.base import Ranges
from unified.engine.backends.depth_module import DepthDecoder
from unified.engine.backends.stepped_model import SteppedModel
from unified.engine.backends.torch_positions import NO_ID
from unified.models.csm_decoder import CsmSizes, depth_weights, head_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["CsmModel"]


class CsmModel(SteppedModel):
    """The backbone, which reads texts and frames of codes; its head for the first code of a frame.

    The other codes are those of a `DepthDecoder` with the weights of the published one, whose table
    is projected once and not at every step. Ids are those of `csm_decoder`.
    """

    def __init__(self, hf: PreTrainedModel) -> None:
        """hf: a CsmForConditionalGeneration; it is put in evaluation mode."""
        self._sizes = CsmSizes.from_hf(hf.config.to_dict())
        super().__init__(hf)
        self._versions = self._depth_versions()
        self.depth = self._depth_decoder()
        self._takes_sums = True  # `inputs` are embeddings always

    @property
    def module(self) -> Any:
        parts: Any = self.hf
        return parts.backbone_model

    def _embedding_rows(self) -> int:
        return self._sizes.vocab_size

    def _find_head(self, config: Any) -> Any:
        parts: Any = self.hf
        return parts.lm_head

    def _depth_versions(self) -> list[tuple[int, int]]:
        """What changes with the weights that the depth decoder here is a copy of."""
        parts: Any = self.hf
        return [(p.data_ptr(), p._version) for p in parts.depth_decoder.parameters()]

    @torch.no_grad()
    def _depth_decoder(self) -> DepthDecoder:
        from unified.models.hf_checkpoint import weights_of

        # Those of the backbone may be quantized.
        needed = weights_of(
            self.hf, keep=lambda name: "layers" not in name or name.startswith("depth")
        )
        weights = depth_weights(self._sizes, needed)
        words = {"uint16": torch.bfloat16, "int16": torch.float16}
        tensors = {}
        for name, weight in weights.items():
            tensor = torch.from_numpy(weight[:].copy())
            kind = words.get(str(weight.dtype))
            tensors[name] = tensor if kind is None else tensor.view(kind)
        module = DepthDecoder(self._sizes.depth).to(self.hf.dtype)
        module.load_state_dict(tensors)
        return module.to(self.hf.device).eval().requires_grad_(False)

    def has_rows(self) -> bool:
        return self._versions == self._depth_versions()

    def inputs(self, ids: Tensor) -> dict[str, Tensor]:
        """Embeddings (B, T, E): both kinds are looked up and one is chosen, since a recorded CUDA
        graph has no branches."""
        parts: Any = self.hf
        sizes, several = self._sizes, ids[..., None] if ids.dim() == 2 else ids  # (B, T, K)
        codes = (several - sizes.text_rows).clamp_min(0)
        rows = codes // sizes.codebook_size * sizes.codebook_rows + codes % sizes.codebook_size
        of_codes = parts.backbone_model.embed_tokens.embed_audio_tokens(rows)
        of_text = parts.embed_text_tokens(several.clamp(0, sizes.text_rows - 1))
        embedded = torch.where((several >= sizes.text_rows)[..., None], of_codes, of_text)
        embedded = torch.where((several == NO_ID)[..., None], 0, embedded)
        return {"inputs_embeds": embedded.sum(-2)}

    @torch.inference_mode()
    def logits(self, states: Tensor, ranges: Ranges) -> Tensor:
        """See `SteppedModel.logits`; of the codes of the first codebook."""
        return super().logits(states, head_rows(self._sizes, ranges))
