"""Lists recommended models and the memory needed to train adapters on them (`mcvqa models`)."""
from dataclasses import dataclass

from mcvqa.model.device import GIB
from mcvqa.model.families.registry import FAMILIES
from mcvqa.model.size import ACTIVATION_MEMORY, NF4_BYTES


@dataclass(frozen=True)
class KnownModel:
    """Describes a model on the hub, of a family that tools/families.py trains.

    Attributes:
        name: name on the hub.
        model_type: as in its config.json.
        weights: in billions, counted on an empty model of its layer sizes (tests/model/model_sizes.py).
        kept: billions of weights that stay in 16 bits with 4-bit loading: embeddings, the vision tower.
    """

    name: str
    model_type: str
    weights: float
    kept: float

    def memory(self, *, four_bit: bool) -> float:
        """Estimate the GiB for the weights, and for activations and training state of the adapters (see choose_weights)."""
        packed = (self.weights - self.kept) * (NF4_BYTES if four_bit else 2)
        return (packed + 2 * self.kept) * 1e9 / GIB + ACTIVATION_MEMORY / GIB

    def described(self, memory: int) -> str:
        """Make a line of the table.

        Args:
            memory: bytes of GPU memory; 0: no GPU.
        """
        path = "fast" if self.model_type in FAMILIES else "plain"
        small, full = (self.memory(four_bit=four_bit) for four_bit in (True, False))
        fits = "" if not memory else "16 bits" if full * GIB <= memory else "4 bits" if small * GIB <= memory else "too large"
        return f"{self.name:50} {path:6} {small:8.1f} {full:8.1f}  {fits}".rstrip()


KNOWN_MODELS = (
    KnownModel("Qwen/Qwen2-VL-2B-Instruct", "qwen2_vl", 2.21, 0.90),
    KnownModel("Qwen/Qwen2.5-VL-3B-Instruct", "qwen2_5_vl", 3.75, 0.98),
    KnownModel("Qwen/Qwen2.5-VL-7B-Instruct", "qwen2_5_vl", 8.29, 1.77),
    KnownModel("Qwen/Qwen3-VL-2B-Instruct", "qwen3_vl", 2.13, 0.72),
    KnownModel("Qwen/Qwen3-VL-4B-Instruct", "qwen3_vl", 4.44, 0.80),
    KnownModel("Qwen/Qwen3-VL-8B-Instruct", "qwen3_vl", 8.77, 1.82),
    KnownModel("Qwen/Qwen3-VL-32B-Instruct", "qwen3_vl", 33.36, 2.15),
    KnownModel("Qwen/Qwen3-VL-30B-A3B-Instruct", "qwen3_vl_moe", 31.07, 1.17),
    KnownModel("Qwen/Qwen3.5-4B", "qwen3_5", 4.54, 0.97),
    KnownModel("Qwen/Qwen3.5-9B", "qwen3_5", 9.41, 2.49),
    KnownModel("Qwen/Qwen3.5-27B", "qwen3_5", 27.36, 3.01),
    KnownModel("Qwen/Qwen3.5-35B-A3B", "qwen3_5_moe", 35.11, 1.49),
    KnownModel("google/gemma-3-4b-it", "gemma3", 4.30, 1.09),
    KnownModel("google/gemma-3-12b-it", "gemma3", 12.19, 1.43),
    KnownModel("OpenGVLab/InternVL3_5-8B-HF", "internvl", 8.53, 1.58),
    KnownModel("llava-hf/llava-onevision-qwen2-7b-ov-hf", "llava_onevision", 8.03, 1.50),
    KnownModel("HuggingFaceTB/SmolVLM2-2.2B-Instruct", "smolvlm", 2.25, 0.64),
    KnownModel("mistralai/Mistral-Small-3.1-24B-Instruct-2503", "mistral3", 24.01, 1.78),
)


def list_models(memory: int) -> str:
    """Format the table as text.

    Args:
        memory: bytes of GPU memory; 0: no GPU.
    """
    here = f"{memory / GIB:.0f} GiB here" if memory else "no GPU here"
    return "\n".join([
        f"{'model':50} {'path':6} {'4 bits':>8} {'16 bits':>8}  {here}", *(model.described(memory) for model in KNOWN_MODELS), "",
        "GiB for weights and activations; mcvqa check estimates any model from its config.json.",
        "fast: image features are computed once; plain: every prompt is computed in full.",
        "Tested model families: docs/models.md. Choose a model with --set model_id=NAME",
    ])
