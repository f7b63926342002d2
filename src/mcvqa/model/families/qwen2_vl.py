"""Qwen2-VL (arXiv:2409.12191): every layer of the tower attends to the whole image; its MLPs have no gate."""
from mcvqa.model.families.family import Family
from mcvqa.model.fast.block import layer_blocks

QWEN2_VL = Family("qwen2_vl", blocks=layer_blocks, vision_linears=("qkv", "proj", "fc1", "fc2"))
