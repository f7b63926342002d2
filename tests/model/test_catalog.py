"""`mcvqa models`: what fits where."""
import pytest

from mcvqa.config import Config
from mcvqa.model.catalog import KNOWN_MODELS, list_models
from mcvqa.model.device import GIB
from mcvqa.model.size import measure_model
from tests.model.model_sizes import SIZES


def test_what_fits_the_gpu_is_said_for_each_model():
    lines = {line.split()[0]: line for line in list_models(15 * GIB).splitlines() if "/" in line.split(" ")[0]}
    assert lines.keys() >= {model.name for model in KNOWN_MODELS}
    assert lines["Qwen/Qwen2.5-VL-3B-Instruct"].split()[1:] == ["fast", "6.3", "10.0", "16", "bits"]
    assert lines["Qwen/Qwen3-VL-8B-Instruct"].endswith("4 bits") and lines["Qwen/Qwen3-VL-32B-Instruct"].endswith("too large")
    assert "plain" in lines["google/gemma-3-4b-it"] and "no GPU here" in list_models(0)


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[] if name == "Qwen/Qwen3-VL-8B-Instruct" else pytest.mark.nightly) for name in SIZES
])
def test_the_sizes_are_those_of_the_models_configuration(name):
    known = next(model for model in KNOWN_MODELS if model.name == name)
    size = measure_model(SIZES[name](), Config())
    assert known.weights == pytest.approx((size.language_linears + size.experts + size.rest) / 1e9, abs=0.01)
    assert known.kept == pytest.approx(size.rest / 1e9, abs=0.01)


def test_every_model_of_the_list_is_counted():
    assert {model.name for model in KNOWN_MODELS} == SIZES.keys()
    assert "?" not in list_models(15 * GIB)
