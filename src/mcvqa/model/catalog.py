"""Models worth a try, with the memory that training their adapters takes: what `mcvqa models` prints."""
from dataclasses import dataclass

from mcvqa.model.device import GIB
from mcvqa.model.families.registry import FAMILIES
from mcvqa.model.load import ROOM_FOR_ACTIVATIONS


@dataclass(frozen=True)
class KnownModel:
    """A model on the hub, of a family that tools/families.py trains.

    Attributes:
        name: on the hub.
        model_type: as in its config.json.
        weights: billions of them, from memory but for Qwen2.5-VL-3B, which a test compares with its configuration.
        kept: billions that stay in 16 bits where the others get 4: embeddings, the vision tower, experts.
    """

    name: str
    model_type: str
    weights: float
    kept: float

    def memory(self, *, four_bit: bool) -> float:
        """GiB for the weights, and for activations and training state of the adapters (see choose_weights)."""
        packed = (self.weights - self.kept) * (4.5 / 8 if four_bit else 2)
        return (packed + 2 * self.kept) * 1e9 / GIB + ROOM_FOR_ACTIVATIONS / GIB


KNOWN_MODELS = (
    KnownModel("Qwen/Qwen2-VL-2B-Instruct", "qwen2_vl", 2.2, 0.9),
    KnownModel("Qwen/Qwen2.5-VL-3B-Instruct", "qwen2_5_vl", 3.8, 1.0),
    KnownModel("Qwen/Qwen2.5-VL-7B-Instruct", "qwen2_5_vl", 8.3, 1.8),
    KnownModel("Qwen/Qwen3-VL-2B-Instruct", "qwen3_vl", 2.1, 0.7),
    KnownModel("Qwen/Qwen3-VL-4B-Instruct", "qwen3_vl", 4.4, 0.8),
    KnownModel("Qwen/Qwen3-VL-8B-Instruct", "qwen3_vl", 8.8, 1.8),
    KnownModel("Qwen/Qwen3-VL-32B-Instruct", "qwen3_vl", 33.4, 2.2),
    KnownModel("Qwen/Qwen3-VL-30B-A3B-Instruct", "qwen3_vl_moe", 31.1, 29.7),
    KnownModel("google/gemma-3-4b-it", "gemma3", 4.3, 1.1),
    KnownModel("google/gemma-3-12b-it", "gemma3", 12.2, 1.4),
    KnownModel("OpenGVLab/InternVL3_5-8B-HF", "internvl", 8.5, 1.6),
    KnownModel("llava-hf/llava-onevision-qwen2-7b-ov-hf", "llava_onevision", 8.0, 1.5),
    KnownModel("HuggingFaceTB/SmolVLM2-2.2B-Instruct", "smolvlm", 2.2, 0.6),
    KnownModel("mistralai/Mistral-Small-3.1-24B-Instruct-2503", "mistral3", 24.0, 1.8),
)


def list_models(memory: int) -> str:
    """A table. Args: memory: bytes of the GPU here; 0: there is none."""
    here = f"{memory / GIB:.0f} GiB here" if memory else "no GPU here"
    lines = [f"{'model':50} {'path':6} {'4 bits':>8} {'16 bits':>8}  {here}"]
    for model in KNOWN_MODELS:
        small, full = (model.memory(four_bit=four_bit) for four_bit in (True, False))
        fits = "" if not memory else "16 bits" if full * GIB <= memory else "4 bits" if small * GIB <= memory else "too large"
        path = "fast" if model.model_type in FAMILIES else "plain"
        lines.append(f"{model.name:50} {path:6} {small:8.1f} {full:8.1f}  {fits}".rstrip())
    return "\n".join([
        *lines, "", "GiB for weights and activations; fast: image features are computed once; plain: every prompt runs whole.",
        "Families that were tried: docs/models.md. Choose one with --set model_id=NAME",
    ])
