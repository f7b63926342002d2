"""Ours and what users would otherwise pick, in turn on one GPU: the same rows, the same model sizes, a T4's memory.

    python benchmarks/against.py --model FOLDER --peers peers.py --csv train.csv [--out benchmarks]

Runs benchmarks/engine.py and each peer in a process of its own, writes OUT/against.json (GPU, versions, commit, every figure)
and the section of OUT/RESULTS.md between its two marks. Ours runs with gpu_profile=t4: float16, no FlashAttention, 15 GiB.
"""
import argparse
import json
import subprocess
import sys
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from engine import origin, write_section

OURS = [
    "gpu_profile=t4", "quantization=4bit", "image_size=384", "num_epochs=6", "lora_r=8", "batch_size=16", "grad_accum_steps=1",
    "eval_batch_size=32", "gradient_checkpointing=always",  # as the peers do
]
PEERS = {
    "Unsloth": ["unsloth", "--batch", "16"], "TRL": ["trl", "--batch", "16"], "notebook": ["notebook"],
    "generate()": ["generate"],
}


def results_of(name: str, command: list[str]) -> list[dict[str, Any]]:
    """The RESULT lines of a command; what it said last, where there are none."""
    started = time.time()
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    found = [json.loads(line.removeprefix("RESULT ")) for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not found:
        found = [dict(error=(done.stderr or done.stdout).strip().splitlines()[-1:])]
    print(f"{name}: {time.time() - started:.0f} s, {json.dumps(found)}", flush=True)
    return found


def described(found: dict[str, Any]) -> str:
    """The table of RESULTS.md."""
    lines = ["| | training rows/s | peak GiB | scoring rows/s (1, 4, 24 orders) | photographs/s |", "|---|---|---|---|---|"]
    ours = [part for part in found["results"]["ours"] if "part" in part]
    once = " | ".join(
        ", ".join(str(part["per_second"]) for part in ours if part["part"].startswith(name)) for name in ("scoring", "images")
    )
    for part in ours:
        if part["part"] == "training":
            peak, validation = part.get("peak_gib", ""), part.get("validation_gib", 0)
            peak = f"{peak} ({validation} with a validation)" if peak and validation > peak else peak
            lines.append(f"| ours ({part['plan']}) | {part['per_second']} | {peak} | {once} |")
            once = " | "
    for name in [name for name in PEERS if name in found["results"]]:
        result = found["results"][name][0]
        rate, peak = result.get("rows_per_s", result.get("error", "")), result.get("peak_reserved_GiB", "")
        lines.append(f"| {name} | {'' if name == 'generate()' else rate} | {peak} | {rate if name == 'generate()' else ''} | |")
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    made = f"`{found['command']}` at commit {found['commit']}, {found['date']}, {found['machine']}; {versions}."
    return "\n".join([made, "", *lines])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--peers", type=Path, required=True, help="peers.py; its rows must be there already (peers.py data)")
    parser.add_argument("--csv", type=Path, required=True, help="the peers' rows, with paths relative to it")
    parser.add_argument("--seconds", type=int, default=12, help="of timed work of each peer")
    parser.add_argument("--set", nargs="*", default=[], help="other settings of ours, name=value")
    parser.add_argument("--commit", help="where there is no git")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    engine = [str(Path(__file__).parent / "engine.py"), "--model", options.model, "--csv", str(options.csv)]
    libraries = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "trl", "unsloth")
    versions = {name: version(name) for name in libraries}  # before the long part: what is missing ends it here
    results = {"ours": results_of("ours", [*engine, "--set", *OURS, *options.set])} | {
        name: results_of(name, [str(options.peers), *call, "--model", options.model, "--seconds", str(options.seconds)])
        for name, call in PEERS.items()
    }
    found = origin(options.commit) | dict(date=str(date.today()), versions=versions, results=results)
    (options.out / "against.json").write_text(json.dumps(found, indent=1) + "\n")
    text = described(found)
    write_section(options.out / "RESULTS.md", "against", text)
    print(text)
