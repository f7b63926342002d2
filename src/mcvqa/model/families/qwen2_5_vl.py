"""Qwen2.5-VL (arXiv:2502.13923): most layers of the tower attend to windows of the image; its MLPs are gated and its norms are
RMSNorm, as in the language model."""
from mcvqa.model.families.family import Family
from mcvqa.model.fast.block import layer_blocks

QWEN2_5_VL = Family("qwen2_5_vl", blocks=layer_blocks, vision_linears=("qkv", "proj", "gate_proj", "up_proj", "down_proj"))
