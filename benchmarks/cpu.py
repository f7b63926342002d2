"""Measures the speed of a CPU with `tiny`, alternating this version and an earlier one: encoding, image features and scoring.

    python benchmarks/cpu.py [--before 8788cc0] [--rounds 5] [--out benchmarks]

The earlier version's package is taken from git, the model and the rows are the same for both. Each round is a process of its
own, which does everything twice and tells the second time. Writes OUT/cpu.json and the section of OUT/RESULTS.md between its
two marks: medians of the rounds.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from statistics import median

from engine import origin, write_section
from mcvqa.scenes.dataset import generate_demo

ROWS, FIRST = 300, "8788cc0"  # the first version that scored: features on disk, orders packed, prompts padded
HERE = Path(__file__).resolve().parents[1]
ROUND = """
import json, sys, tempfile, time
from pathlib import Path
from mcvqa.config import load_config
from mcvqa.data.images import ImageFolder, survey_images
from mcvqa.data.questions import read_questions
from mcvqa.model.device import plan_device
from mcvqa.model.load import load_base
from mcvqa.model.rows import RowMaker
from mcvqa.model.vision.features import FeatureStore
from mcvqa.model.vision.patches import ImageInputs
from mcvqa.scoring.score import score_questions
data, model = map(Path, sys.argv[1:])
questions = read_questions(data / "train.csv").questions
config = load_config(preset="demo").replace(  # with all that bears on it, as presets differ between versions
    model_id=str(model), device="cpu", precision="float32", quantization="none", image_size=112, lora_r=8, use_tta=False,
    eval_batch_size=32)
four = config.replace(use_tta=True, tta_orders=4, tta_scales=(1.0,))
base = load_base(config, plan_device(config))
records = survey_images(ImageFolder(data), [q.image for q in questions])
images = ImageInputs(records, base.processor, image_size=config.image_size, patch=base.patch, merge=base.merge)
for _ in range(2):
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(Path(folder), base, images)
        maker = RowMaker(base.encoder, images, store, *([base.pad_id] if hasattr(base, "pad_id") else []))
        moments = [time.perf_counter()]
        for step in (
            lambda: [maker.row(q) for q in questions],
            lambda: store.fill(base, dict.fromkeys(q.image for q in questions)),
            lambda: score_questions(base.model, base, maker, questions, config, {}),
            lambda: score_questions(base.model, base, maker, questions, four, {}),
        ):
            step()
            moments.append(time.perf_counter())
print("SECONDS", json.dumps([b - a for a, b in zip(moments, moments[1:])]))
"""


def one_round(package: Path, data: Path) -> list[float]:
    """Seconds for encoding, features, scoring in one order and in four; scoring encodes too."""
    command = [sys.executable, "-c", ROUND, str(data), str(HERE / "src" / "mcvqa" / "tiny")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(package)})
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.rpartition("SECONDS ")[2])


def described(found: dict) -> str:
    names = "encoding alone", "image features alone", "features and scoring, one order", "features and scoring, four orders"
    lines = [f"`{found['command']}` at commit {found['commit']}, {found['date']}, {found['threads']} threads.", "",
             f"| rows/s | {found['before']} | now | times |", "|---|---|---|---|"]
    for name, before, now in zip(names, found["rates"]["before"], found["rates"]["now"], strict=True):
        lines.append(f"| {name} | {before:.0f} | {now:.0f} | {now / before:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default=FIRST, help="commit of the earlier version")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rounds: dict[str, list[list[float]]] = dict(before=[], now=[])
    with tempfile.TemporaryDirectory() as temporary:
        data, earlier = Path(temporary) / "data", Path(temporary) / "earlier"
        generate_demo(data, ROWS, 8, seed=5, size=112, style="shifted")
        earlier.mkdir()
        packed = subprocess.run(["git", "-C", str(HERE), "archive", options.before, "src"], stdout=subprocess.PIPE, check=True)
        subprocess.run(["tar", "-x", "-C", str(earlier)], input=packed.stdout, check=True)
        for n in range(options.rounds):
            for name, package in (("before", earlier / "src"), ("now", HERE / "src")):
                rounds[name].append(one_round(package, data))
                print(n, name, *(f"{value:.2f}" for value in rounds[name][-1]), flush=True)
    rates = {}
    for name, each in rounds.items():
        encoding, features, one, four = (median(values) for values in zip(*each, strict=True))
        rates[name] = [ROWS / seconds for seconds in (encoding, features, features + one, features + four)]
    threads = os.environ.get("OMP_NUM_THREADS", os.cpu_count())
    found = origin(None) | dict(date=str(date.today()), before=options.before, threads=threads, seconds=rounds, rates=rates)
    (options.out / "cpu.json").write_text(json.dumps(found, indent=1) + "\n")
    text = described(found)
    write_section(options.out / "RESULTS.md", "cpu", text)
    print(text)
