"""Trains and scores a tiny random model of each family and writes docs/models.md: which of them run, and why others do not.

    python tools/families.py            # all, and write the table
    python tools/families.py "Gemma 4"  # some of them, and only print

Needs torchvision, num2words and timm, which many processors want: `make families` makes an environment of its own for it.
"""
import contextlib
import io
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

import transformers  # noqa: E402 - the package is found by the line above
from tests.conftest import make_dataset  # noqa: E402
from tests.model.tried_families import TRIED, save_tried  # noqa: E402
from tests.run.conftest import blank_each, figures_made_by  # noqa: E402

from mcvqa.base.files import write_text  # noqa: E402
from mcvqa.config import Config, McvqaError  # noqa: E402
from mcvqa.model.coverage import adapter_coverage  # noqa: E402
from mcvqa.model.family_choice import takes_fast_path  # noqa: E402
from mcvqa.model.load import load_encoder  # noqa: E402
from mcvqa.run.steps import run  # noqa: E402

PAGE = ROOT / "docs" / "models.md"
EXPERTS = """## Mixtures of experts

With `quantization=4bit`, the experts of Qwen3-VL MoE, Qwen3.5 MoE and other families that the library stacks alike \
are stored in 4 bits like the linear layers: they are quantised while the model is loaded, one stack of experts after \
the other, and a pass dequantises only the experts that its tokens are sent to, 16 at a time. Weights of \
Qwen3-VL-30B-A3B then take 17.8 GiB instead of 57.9, and those of Qwen3.5-35B-A3B 20.4 instead of 65.4 (`mcvqa \
models`, `mcvqa check`). Adapters are on the linear layers; `target_modules=all-linear,experts` with `lora_dropout=0` \
adds them to each expert. With rank 4 those of Qwen3-VL-30B-A3B are 157 million weights, which with gradients and \
AdamW's moments take 2.3 GiB. Experts stay in 16 bits if their class has biases, transposed matrices or a computation \
of its own (Llama 4), and in folders that are published in 4 bits; a folder with experts already in 4 bits is refused. \
The notebook does not have such models.
"""
REFUSED_IN = 5.0  # seconds


@dataclass(frozen=True)
class Tried:
    """Attributes:
        path: 'fast', 'plain', or empty where the family is refused.
        said: which layers get adapters, or why it is refused.
    """

    name: str
    model_type: str
    path: str
    said: str
    seconds: float


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def try_family(name: str, scratch: Path) -> Tried:
    """One epoch and scoring on default settings, but for one split instead of folds."""
    folder = save_tried(name, scratch / "model")
    config = Config(
        data_dir=str(make_dataset(scratch / "data", 12, 4)), output_dir=str(scratch / "out"), model_id=folder, use_kfold=False,
        device="cpu", run_name="family")
    model_type = transformers.AutoConfig.from_pretrained(folder).model_type
    started = time.monotonic()
    try:
        with quiet(), figures_made_by(blank_each):  # to draw them takes longer than all the rest
            _, _, model_config = load_encoder(config)
            coverage = adapter_coverage(model_config, config)
            outcome = run(config)
        assert outcome.submission.exists()
    except McvqaError as error:
        return Tried(name, model_type, "", " ".join(str(error).replace(folder, name).split()), time.monotonic() - started)
    path = "fast" if takes_fast_path(model_config, config) else "plain"
    return Tried(name, model_type, path, ", ".join(coverage.names), time.monotonic() - started)


def table(found: list[Tried]) -> str:
    lines = ["| family | model_type | path | layers with adapters, or why not |", "|---|---|---|---|"]
    lines += [f"| {one.name} | `{one.model_type}` | {one.path or 'refused'} | {one.said.replace('|', '/')} |" for one in found]
    return "\n".join(lines)


def page(found: list[Tried]) -> str:
    trained = sum(bool(one.path) for one in found)
    return (
        "# Models\n\nMade by `make families` (tools/families.py) with transformers "
        f"{transformers.__version__}: a small model with random weights of each family, in the library's own classes, trained "
        f"for an epoch and scored on default settings, on the CPU, one split instead of folds. {trained} of {len(found)} run.\n\n"
        "*fast*: image features are computed once and option orders share their prompt; *plain*: every prompt goes through the "
        "model's own forward pass.\n\n" + table(found) + "\n\n" + EXPERTS
    )


def main(names: list[str]) -> None:
    found, faults = [], []
    for name in names or TRIED:
        with tempfile.TemporaryDirectory() as scratch:
            try:
                found.append(try_family(name, Path(scratch)))
            except Exception as error:  # not for people: a fault to be mended
                traceback.print_exc()
                faults.append(f"{name}: {type(error).__name__}: {error}")
                continue
        one = found[-1]
        print(f"{name}: {one.path or 'refused'} in {one.seconds:.1f} s: {one.said}", flush=True)
        assert one.path or one.seconds < REFUSED_IN, f"{name} was refused after {one.seconds:.0f} s"
    if faults:
        sys.exit("\n".join(["Faults, so no page is written:", *faults]))
    if not names:
        write_text(PAGE, page(found))


if __name__ == "__main__":
    main(sys.argv[1:])
