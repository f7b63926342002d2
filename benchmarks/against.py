"""Compares ours with what users would otherwise pick, one after the other on one GPU: same rows, model sizes and memory (a T4's).

    python benchmarks/against.py --family qwen2_5_vl --source QWEN_FOLDER --questions train.csv [--out benchmarks]
    python benchmarks/against.py --family qwen2_5_vl ... --peers able generate --add      # a further call on the same machine

Makes a folder of real sizes (make_model.py) and a photograph for each row (whole.py), runs benchmarks/engine.py and each peer of
peers.py in a process of its own, and writes OUT/against.json (GPU, versions, commit, every figure) and the section of
OUT/RESULTS.md between its two marks. Ours runs with gpu_profile=t4: float16, no FlashAttention, 15 GiB; with checkpointing, as
the peers do, and as it plans by itself. Each call measures ours again; ratios are of rates in one call.
"""
import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

from engine import origin, write_section
from make_model import make_model
from mcvqa.base.versions import installed_version
from peers import PEERS
from whole import make_data

SIZES = {"qwen2_5_vl": "qwen2.5-vl-3b", "qwen3_vl": "qwen3-vl-4b", "qwen3_5": "qwen3.5-4b"}
OURS = [
    "gpu_profile=t4", "quantization=4bit", "image_size=384", "num_epochs=5", "lora_r=8", "batch_size=16", "grad_accum_steps=1"]
WAYS = {"ours, with checkpointing": ["gradient_checkpointing=always"], "ours": []}
LIBRARIES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "trl", "unsloth")
ROWS = 384  # ours; a peer has its own --rows
FEWER_ROWS = {"notebook": 64, "generate": 96}  # one row at a time
MORE_MEMORY = {"able": 24}  # GiB; 16 rows do not fit otherwise: the logits of all positions alone take 2.7
PEER_SECONDS = 280  # a peer that takes longer is stopped, and said to have no figure


def results_of(name: str, script: str, arguments: list[str], limit: float | None = None) -> list[dict[str, Any]]:
    """The RESULT lines of a script beside this one; what it said last, where there are none."""
    command, started = [sys.executable, str(Path(__file__).with_name(script)), *arguments], time.time()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
        printed, last = done.stdout, (done.stderr or done.stdout).strip().splitlines()[-1:]
    except subprocess.TimeoutExpired:
        printed, last = "", [f"no result after {limit:.0f} s"]
    found = [json.loads(line.removeprefix("RESULT ")) for line in printed.splitlines() if line.startswith("RESULT ")]
    print(f"{name}: {time.time() - started:.0f} s, {json.dumps(found or last)}", flush=True)
    return found or [dict(error=" ".join(last))]


def measure(model: str, csv: Path, ways: list[str], peers: list[str], changes: list[str]) -> dict[str, list[dict[str, Any]]]:
    common = ["--model", model, "--csv", str(csv)]
    ours = {
        name: results_of(
            name, "engine.py", [*common, "--rows", str(ROWS), "--orders", "1", "--as-planned", "--set", *OURS, *way, *changes])
        for name, way in WAYS.items() if name in ways
    }
    return ours | {
        peer: results_of(
            peer, "peers.py",
            [peer, *common, "--rows", str(FEWER_ROWS.get(peer, 320)), "--memory", str(MORE_MEMORY.get(peer, 15))], PEER_SECONDS)
        for peer in peers
    }


def rate(results: list[dict[str, Any]], part: str) -> float:
    """The best of this part; 0 where it has none."""
    return max((found["per_second"] for found in results if found.get("part") == part), default=0.0)


def described(calls: list[dict[str, Any]]) -> str:
    """The table of RESULTS.md."""
    lines = []
    for call in calls:
        versions = ", ".join(f"{name} {number}" for name, number in call["versions"].items())
        made = f"`{call['command']}` at commit {call['commit']}, {call['date']}, {call['machine']}; {versions}."
        lines += [made, "", "| | what | rows/s | peak GiB | ours is faster |", "|---|---|---|---|---|"]
        ours = [found for name in WAYS for found in call["results"].get(name, [])]
        for name, results in call["results"].items():
            for found in results:
                what, faster = found.get("part", found.get("error", "")), ""
                if name in PEERS and "part" in found:
                    against = "scoring, 1 order" if name in ("able-scoring", "generate") else "training"
                    what, faster = against, f"{rate(ours, against) / found['per_second']:.1f} times"
                what = f"{what} ({found['plan']})" if "plan" in found else what
                lines.append(f"| {name} | {what} | {found.get('per_second', '')} | {found.get('peak_gib', '')} | {faster} |")
        lines.append("")
    return "\n".join(lines).strip()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=SIZES, default="qwen2_5_vl")
    parser.add_argument("--source", type=Path, required=True, help="a folder of any Qwen-VL: its tokenizer and image processor")
    parser.add_argument("--questions", type=Path, required=True, help="rows with answers; their photographs are not needed")
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS), help="ours")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=[peer for peer in PEERS if peer != "trl-split"])
    parser.add_argument("--set", nargs="*", default=[], help="other settings of ours, name=value")
    parser.add_argument("--add", action="store_true", help="to what OUT/against.json holds")
    parser.add_argument("--commit", help="where there is no git")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    file = given.out / "against.json"
    calls = json.loads(file.read_text(encoding="utf-8")) if given.add else []
    with tempfile.TemporaryDirectory() as folder:
        make_model(SIZES[given.family], given.source, Path(folder) / "model")
        make_data(Path(folder) / "data", dict.fromkeys(("train", "test"), 512), given.questions)
        results = measure(f"{folder}/model", Path(folder) / "data" / "train.csv", given.ways, given.peers, given.set)
    versions = {name: found for name in LIBRARIES if (found := installed_version(name))}
    calls.append(origin(given.commit) | dict(date=str(date.today()), versions=versions, results=results))
    file.write_text(json.dumps(calls, indent=1) + "\n", encoding="utf-8")
    write_section(given.out / "RESULTS.md", "against", described(calls))
    print(described(calls))
