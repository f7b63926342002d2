"""The families with an optimised path, by their model_type, and what is known of all others from their parts alone.

A new family is one more file beside this one and one more entry here (docs/add-a-family.md); tests/model/test_families.py then
compares its logits, gradients and packed orders with the library's.
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
    """A family without an optimised path, from the parts of one of its models.

    Args:
        language: path of its language model.
        linears: paths of all linear layers of the model.

    Raises:
        FamilyError: the language model is not a stack of layers with projections, so nothing is known about what to train.
    """
    numbered = re.compile(rf"{re.escape(language)}{re.escape('.') if language else ''}(\D+?)\.\d+\.(.+)")
    found = [match for path in linears if (match := numbered.fullmatch(path))]
    if not found:
        raise FamilyError(
            f"Models of type {model_type!r} cannot be trained here: their language model ({language or 'the model itself'}) "
            f"is not a stack of layers with linear projections. Models of type {', '.join(FAMILIES)} can, and most others."
        )
    (layers, _), = Counter(match[1] for match in found).most_common(1)
    inside = tuple(dict.fromkeys(match[2] for match in found if match[1] == layers))
    family = Family(model_type, None, language, layers, inside)
    return replace(family, unquantised=tuple(path for path in linears if not path.startswith(family.decoder_layers)))
