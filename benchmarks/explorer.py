"""Measures the explorer with many rows: how long it takes to write, how large it is, and how fast it is in Chromium.

    python benchmarks/explorer.py --out OUT [--rows 10000] [--write]

Rows, scores and photographs are made at random: 640 x 480 pixels of noise at several scales, about as hard to compress as
photographs are; OUT keeps them. Chromium is started anew for each round. "Opens" is the time from the start of the navigation
until rows are painted, and until all thumbnails are loaded; a filter takes from the event until the frame with its result.
Other programs lengthen these times, but not the processor time of the page's main thread, which is measured beside them.
With --write the figures go to explorer.json and to a section of RESULTS.md beside this file.
"""
import argparse
import json
import os
import shutil
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from engine import origin, write_section
from mcvqa.data.questions import Question
from mcvqa.insight.evidence import Judged, Neighbours, RowEvidence, gather_evidence
from mcvqa.insight.explorer import ExploredRun, write_explorer
from mcvqa.insight.label_noise import estimate_label_noise
from mcvqa.insight.tags import tagged
from mcvqa.scoring.scores import Scores, log_softmax

HERE = Path(__file__).resolve().parent
ROUNDS = 3
COLORS = ("red", "green", "blue", "yellow", "black", "white", "파란색", "노란색")
TEXTS = (
    "What color is the car that is parked in front of the second house?", "How many people are waiting at the bus stop?",
    "사진 속 간판에 적힌 글자는 무엇입니까?", "Which of these objects is closest to the camera?",
    "강아지는 어느 쪽에 앉아 있습니까?",
)
TIMED = """async ([selector, value]) => {
  const element = document.querySelector(selector)
  const start = performance.now()
  if (element.type === 'checkbox') element.click()
  else {
    element.value = value
    element.dispatchEvent(new Event(element.tagName === 'SELECT' ? 'change' : 'input', {bubbles: true}))
  }
  await new Promise(done => requestAnimationFrame(() => setTimeout(done)))
  return performance.now() - start
}"""
ACTIONS = {
    "wrong answers": ('[value="wrong"]', ""), "one kind more": ('[data-facet="kind"] input', ""),
    "one fold more": ('[data-facet="fold"] input', ""), "all kinds again": ('[data-facet="kind"] input', ""),
    "all folds again": ('[data-facet="fold"] input', ""), "all answers again": ('[value="wrong"]', ""),
    "search a word": ("#search", "house"), "search two": ("#search", "house 12"), "search nothing": ("#search", ""),
    "confidence from 40 %": ("#least", "40"), "confidence from 0 %": ("#least", "0"),
    "sort by margin": ("#sort", "by_least_margin"), "sort by id": ("#sort", "by_id"),
    "sort by label": ("#sort", "by_label_wrong"),
}


# %% rows
def make_grounds() -> list[np.ndarray]:
    """Noise whose amplitude falls with its frequency, as that of photographs does; twice as wide and high as a photograph."""
    random, grounds = np.random.default_rng(0), []
    for _ in range(8):
        ground = np.zeros((960, 1280, 3), np.float32)
        for cells, strength in ((6, 90), (24, 45), (80, 22), (320, 9)):
            grain = Image.fromarray(random.integers(0, 256, (cells * 3 // 4 + 1, cells, 3), dtype=np.uint8))
            ground += (np.asarray(grain.resize((1280, 960), Image.Resampling.BICUBIC), np.float32) - 128) * (strength / 128)
        grounds.append((ground + 128).clip(0, 255).astype(np.uint8))
    return grounds


def make_photographs(folder: Path, count: int) -> None:
    """Each a piece of its own of one of the grounds."""
    folder.mkdir(parents=True, exist_ok=True)
    grounds = make_grounds()

    def make(number: int) -> None:
        file = folder / f"{number:05d}.jpg"
        if not file.exists():
            random = np.random.default_rng(number)
            top, left = random.integers(480), random.integers(640)
            Image.fromarray(grounds[number % len(grounds)][top : top + 480, left : left + 640]).save(file, quality=85)

    with ThreadPoolExecutor() as pool:
        list(pool.map(make, range(count)))


def made_rows(count: int) -> list[Question]:
    random, made = np.random.default_rng(0), []
    for number in range(count):
        choices = tuple(random.permutation(COLORS)[: random.integers(2, 5)].tolist())
        text = f"{TEXTS[random.integers(len(TEXTS))]} ({number})"
        answer = int(random.integers(len(choices)))
        made.append(Question(f"train_{number:05d}", f"{number:05d}.jpg", text, choices, answer, source="train"))
    return made


def evidence_of(questions: list[Question]) -> list[RowEvidence]:
    """Scores in two orders that are right three times out of four."""
    random, n = np.random.default_rng(1), len(questions)
    counts = np.array([len(q.choices) for q in questions])
    exists = np.arange(counts.max()) < counts[:, None]
    logits = random.normal(0, 1, (n, 2, counts.max())) + random.normal(0, 1, (n, 1, counts.max()))
    logits[np.arange(n), :, [q.answer for q in questions]] += 2.5
    logprobs = log_softmax(np.where(exists[:, None], logits, -np.inf)).astype(np.float32)
    orders = np.where(exists, np.arange(counts.max()), -1).astype(np.int8)[:, None].repeat(2, 1)
    scores = Scores(np.array([q.id for q in questions]), logprobs, orders, np.ones(2, np.float32))
    noise = estimate_label_noise([scores], np.array([q.answer for q in questions]))
    prior = np.where(exists, -np.log(counts)[:, None], -np.inf)
    folds = (np.arange(n) % 5).tolist()
    judged = Judged((scores,), scores.mean()[None], 1.0)
    return tagged(gather_evidence(questions, "train", folds, prior, Neighbours(questions, {}), {}, judged, noise))


# %% made and opened
def make_page(out: Path, count: int) -> dict[str, Any]:
    photographs = out / "photographs"
    make_photographs(photographs, count)
    questions = made_rows(count)
    rows = evidence_of(questions)
    files = {q.image: photographs / q.image for q in questions}
    explored = ExploredRun("benchmark", "tiny", "0.750 ± 0.004", "", rows, files, {image: image for image in files})
    started, busy = time.perf_counter(), time.process_time()
    write_explorer(out / "explore.html", explored)
    return {"seconds": time.perf_counter() - started, "processor_seconds": time.process_time() - busy,
            "megabytes": (out / "explore.html").stat().st_size / 1e6}


def opened(page: Page, file: Path) -> dict[str, float]:
    """Milliseconds until rows are painted, and until all is loaded."""
    page.goto(file.absolute().as_uri(), wait_until="load", timeout=120_000)
    page.wait_for_function("document.querySelector('#list .thumb')?.naturalWidth > 0")
    return page.evaluate("""() => ({
      painted: performance.getEntriesByName('first-contentful-paint')[0].startTime,
      loaded: performance.getEntriesByType('navigation')[0].loadEventEnd,
    })""")


class Processor:
    """Milliseconds of processor time of the page's main thread, which other programs on the machine do not lengthen."""

    def __init__(self, page: Page) -> None:
        self.session = page.context.new_cdp_session(page)
        self.session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def read(self) -> float:
        metrics = self.session.send("Performance.getMetrics")["metrics"]
        return 1000 * next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")


def measured(file: Path) -> dict[str, Any]:
    """Medians over the rounds, in milliseconds."""
    times = defaultdict[str, list[float]](list)
    processor_times = defaultdict[str, list[float]](list)
    with sync_playwright() as playwright:
        for _ in range(ROUNDS):
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 850}, locale="en-US")
            processor = Processor(page)
            for name, figure in opened(page, file).items():
                times[name].append(figure)
            processor_times["loaded"].append(processor.read())
            for name, (selector, value) in ACTIONS.items():
                before = processor.read()
                times[name].append(page.evaluate(TIMED, [selector, value]))
                processor_times[name].append(processor.read() - before)
            browser.close()
    return {kind: {name: round(median(found), 1) for name, found in figures.items()}
            for kind, figures in (("milliseconds", times), ("processor_milliseconds", processor_times))}


def table_of(figures: dict[str, Any]) -> str:
    wall, processor = figures["milliseconds"], figures["processor_milliseconds"]
    rows = [("the page with its first rows", wall["painted"], None),
            ("all thumbnails loaded", wall["loaded"], processor["loaded"]),
            *((name, wall[name], processor[name]) for name in ACTIONS)]
    head = (
        f"`{figures['command']}` at commit {figures['commit']}, {date.today()}, Chromium on two cores, load average "
        f"{figures['load']:.0f}: {figures['rows']:,} rows with a photograph each make {figures['megabytes']:.0f} MB in "
        f"{figures['seconds']:.0f} s ({figures['processor_seconds']:.0f} s of processor time). Medians of {ROUNDS}:"
    )
    cells = [f"| {name} | {time:.0f} ms | {'' if busy is None else f'{busy:.0f} ms'} |" for name, time, busy in rows]
    return "\n".join((head, "", "| shown | wall clock | processor time, main thread |", "|---|---|---|", *cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for photographs and page")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--write", action="store_true", help="write explorer.json and RESULTS.md beside this file")
    options = parser.parse_args()
    figures = {"rows": options.rows, **make_page(options.out, options.rows), **measured(options.out / "explore.html")}
    figures |= {"load": os.getloadavg()[0], **origin(None)}
    print(json.dumps(figures, indent=1))
    if options.write:
        (HERE / "explorer.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        write_section(HERE / "RESULTS.md", "explorer", table_of(figures))


if __name__ == "__main__":
    main()
