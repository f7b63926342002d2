"""Lists the families with an optimized path by model_type, and describes all others from their modules.

A new family takes a file in this folder and an entry here (docs/add-a-family.md); tests/model/test_families.py then compares its
logits, gradients and packed orders with the library's.
"""
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from mcvqa.model.families.family import Family, FamilyError
from mcvqa.model.families.qwen2_5_vl import QWEN2_5_VL
from mcvqa.model.families.qwen2_vl import QWEN2_VL
from mcvqa.model.families.qwen3_5 import QWEN3_5
from mcvqa.model.families.qwen3_vl import QWEN3_VL

FAMILIES = {"qwen2_5_vl": QWEN2_5_VL, "qwen2_vl": QWEN2_VL, "qwen3_5": QWEN3_5, "qwen3_vl": QWEN3_VL}


def plain_family(model_type: str, language: str, linears: Iterable[str]) -> Family:
    """Describe a family without an optimized path.

    Args:
        model_type: as in the model's config.json.
        language: path of the language model.
        linears: paths of all linear layers of the model.

    Raises:
        FamilyError: the language model is not a stack of layers with linear projections.
    """
    numbered = re.compile(rf"{re.escape(language)}{re.escape('.') if language else ''}(\D+?)\.\d+\.(.+)")
    matches = [match for path in linears if (match := numbered.fullmatch(path))]
    if not matches:
        raise FamilyError(
            f"Models of type {model_type!r} cannot be trained here: their language model ({language or 'the model itself'}) is "
            f"not a stack of layers with linear projections. Models of type {', '.join(FAMILIES)}, and most others, can."
        )
    (layers, _), = Counter(match[1] for match in matches).most_common(1)
    inside = tuple(dict.fromkeys(match[2] for match in matches if match[1] == layers))
    family = Family(model_type, None, language, layers, inside)
    return replace(family, unquantised=tuple(path for path in linears if not path.startswith(family.decoder_layers)))
