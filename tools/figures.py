"""Draws the figures of docs/concepts and docs/architecture.md as SVG, from what the code itself computes.

    python tools/figures.py [NAME ...]   # rooms label-alignment option-orders folds time-budget; all without a name

Each file holds light and dark colours and follows the page that shows it.
"""
import sys
from html import escape
from pathlib import Path

import numpy as np

from imports import module_graph, part_graph, reduced
from mcvqa.base.budget import Pace, RowCounts, Work, reduced_plans, seconds_needed
from mcvqa.config import Config
from mcvqa.data.folds import assign_folds
from mcvqa.data.questions import Question
from mcvqa.scoring.orders import option_orders

FIGURES = Path(__file__).parents[1] / "docs" / "figures"
COLOURS = {  # name -> light, dark
    "ground": ("#ffffff", "#16191d"), "ink": ("#1f2328", "#e6e8eb"), "faint": ("#6b7280", "#9aa3ad"),
    "line": ("#c4cad1", "#3d444d"), "box": ("#f3f5f8", "#22272e"), "mark": ("#d9480f", "#ff922b"),
    "c0": ("#cfe3ff", "#1d4a80"), "c1": ("#d5f0d8", "#235c33"), "c2": ("#ffe5b8", "#7a5310"), "c3": ("#f3d6f5", "#6b2f70"),
}
FONT = "system-ui, 'Noto Sans KR', 'Apple SD Gothic Neo', 'Malgun Gothic', sans-serif"


class Svg:
    """A picture in user units of a pixel; colours are the names of COLOURS."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.width, self.height, self.title = width, height, title
        self.parts: list[str] = []

    def box(self, x: float, y: float, width: float, height: float, fill: str, edge: str = "line") -> None:
        self.parts.append(f'<rect class="f-{fill} s-{edge}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="4"/>')

    def text(
        self, x: float, y: float, said: str, size: int = 14, ink: str = "ink", anchor: str = "middle", weight: int = 400,
    ) -> None:
        style = f'font-size="{size}" text-anchor="{anchor}"' + f' font-weight="{weight}"' * (weight != 400)
        self.parts.append(f'<text class="f-{ink}" x="{x:g}" y="{y:g}" {style} xml:space="preserve">{escape(said)}</text>')

    def line(self, points: list[tuple[float, float]], ink: str = "faint", *, arrow: bool = False, dashed: bool = False) -> None:
        more = ' marker-end="url(#arrow)"' * arrow + ' stroke-dasharray="5 4"' * dashed
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self.parts.append(f'<polyline class="s-{ink}" points="{path}" fill="none" stroke-width="1.5"{more}/>')

    def __str__(self) -> str:
        def rules(which: int) -> str:
            return "".join(f".f-{n}{{fill:{c[which]}}}.s-{n}{{stroke:{c[which]}}}" for n, c in COLOURS.items())

        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
            f'height="{self.height}" font-family="{FONT}" role="img">\n<title>{escape(self.title)}</title>\n'
            f"<style>{rules(0)}@media (prefers-color-scheme:dark){{{rules(1)}}}</style>\n"
            '<marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path class="f-faint" d="M0 0L8 4L0 8z"/></marker>\n'
            f'<rect class="f-ground" width="{self.width}" height="{self.height}"/>\n' + "\n".join(self.parts) + "\n</svg>\n"
        )


# %% rooms
ROOMS = {
    "cli": "the command line", "answer": "the model after training", "run": "tasks, workers, ten steps",
    "insight": "evidence, audit, explorer", "report": "metrics, pages, submission", "training": "one fold: steps, averages",
    "ensemble": "combine and calibrate", "scoring": "every question, every order", "model": "prompts, images, fast layers",
    "scenes": "generated pictures", "search": "trials of settings", "data": "files to questions, folds",
    "base": "files, errors, time", "config": "every setting",
}


def rooms() -> Svg:
    """The parts of the package; each stands below all that import it, and under them where it is alone on its floor."""
    graph = reduced(part_graph(module_graph()))
    users = {name: [user for user, imported in graph.items() if name in imported] for name in graph}
    floor_of: dict[str, int] = {}

    def floor(name: str) -> int:
        return floor_of.setdefault(name, 1 + max(map(floor, users[name]), default=-1))

    floors = [[name for name in sorted(graph) if floor(name) == n] for n in range(1 + max(map(floor, graph)))]
    wide, high, gap, top = 200, 44, 66, 14
    picture = Svg(760, top + gap * len(floors), "Which part of the package imports which")
    place: dict[str, tuple[float, float]] = {}
    for n, names in enumerate(floors):
        for i, name in enumerate(names):
            above = [place[user][0] for user in users[name]]
            alone = sum(above) / len(above) if above else picture.width / 2
            x = alone if len(names) == 1 else picture.width / 2 + (i - (len(names) - 1) / 2) * (wide + 40)
            place[name] = (x, top + gap * n)
    for name, imported in sorted(graph.items()):
        for other in sorted(imported):
            (x, y), (end_x, end_y) = place[name], place[other]
            turn = [(x, end_y - gap + high)] if end_y - y > gap else []  # straight down past the floors between
            picture.line([(x, y + high), *turn, (end_x, end_y)], arrow=True)
    for name, (x, y) in place.items():
        picture.box(x - wide / 2, y, wide, high, "box")
        picture.text(x, y + 18, name, weight=600)
        picture.text(x, y + 35, ROOMS[name], 12, "faint")
    return picture


# %% label alignment
def label_alignment() -> Svg:
    """The last tokens of a training conversation above those of the prompt that is scored, by tiny's own tokenizer."""
    from transformers import AutoTokenizer

    from mcvqa.model.content import packaged_tiny
    from mcvqa.model.text.encode import Encoder

    tokenizer = AutoTokenizer.from_pretrained(packaged_tiny())
    config = Config(model_id="tiny", user_prompt="{question}\nAnswer with one letter.\n{options}")
    encoder = Encoder(tokenizer, config, image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"), merge=2)
    question = Question("0", "", "What color is the car?", ("red", "blue", "green", "black"))
    prompt = encoder.prompt_tokens(question, range(4), None)
    trained = encoder.prompt_tokens(question, range(4), None, "b")
    assert trained[: len(prompt)] == prompt
    picture = Svg(860, 270, "The letter is trained at the position that is read when scoring")
    left, shown = 118, 9
    for y, title, tokens in ((60, "training", trained[: len(prompt) + 2]), (150, "scoring", prompt)):
        picture.text(14, y + 22, title, anchor="start", weight=600)
        x = left
        for at, token in list(enumerate(tokens))[len(prompt) - shown :]:
            said = tokenizer.decode([token]).replace("\n", "↵").replace(" ", "␣")
            wide = max(26, 9 * len(said) + 10)
            answers, read = at == len(prompt), at == len(prompt) - 1
            picture.box(x, y, wide, 34, "c1" if answers else "c0" if read else "box", "mark" if answers or read else "line")
            picture.text(x + wide / 2, y + 22, said, 13)
            if read:
                end = x + wide / 2
                picture.line([(end, y + 34), (end, y + 50)], "mark")
            x += wide + 4
        picture.text(left - 8, y + 22, "…", anchor="end")
    picture.text(end, 126, "its logits learn the letter b", 13, "mark")
    picture.text(end, 216, "its logits are read: a, b, c, d", 13, "mark")
    same = f"The first {len(prompt)} tokens are the same, one by one; a run proves it before it trains."
    picture.text(14, 28, same, 13, "faint", "start")
    picture.text(14, 252, "↵ line break, ␣ space. Tokens of the built-in model tiny.", 12, "faint", "start")
    return picture


# %% option orders
def orders_figure() -> Svg:
    """Four orders of four choices, packed behind one prefix."""
    choices = ("red", "blue", "green", "black")
    plan = option_orders(4, 4)
    picture = Svg(760, 280, "Four option orders share one prompt")
    picture.box(20, 98, 220, 74, "box")
    picture.text(130, 130, "photograph and question", weight=600)
    picture.text(130, 152, "computed once", 13, "faint")
    for slot, letter in enumerate("abcd"):
        picture.text(370 + 92 * slot, 36, letter, weight=600)
    for k, order in enumerate(plan):
        y = 50 + 50 * k
        picture.line([(240, 135), (282, y + 17), (316, y + 17)], arrow=True)
        for slot, choice in enumerate(order):
            picture.box(328 + 92 * slot, y, 84, 34, f"c{choice}")
            picture.text(370 + 92 * slot, y + 22, choices[choice])
    counts = np.array([[np.sum(plan[:, slot] == choice) for slot in range(4)] for choice in range(4)])
    assert (counts == 1).all()
    said = "Each choice is shown once in every place, so a liking for a letter or a neighbour averages out."
    picture.text(20, 264, said, 13, "faint", "start")
    return picture


# %% folds
def folds_figure() -> Svg:
    """Twenty-four rows of fourteen photographs in three folds."""
    sizes = (1, 2, 3, 1, 2, 1, 3, 2, 1, 1, 2, 1, 2, 2)
    group = np.repeat(np.arange(len(sizes)), sizes)
    answers = np.random.default_rng(0).permutation(np.arange(len(group)) % 4)
    questions = [Question(str(i), f"{g}.jpg", "What color is it?", ("a", "b", "c", "d"), int(a))
                 for i, (g, a) in enumerate(zip(group, answers, strict=True))]
    folds = assign_folds(questions, group, 3, seed=42)
    picture = Svg(860, 250, "Rows of one photograph are never on both sides of a fold")
    left, step = 96, 30
    picture.text(14, 54, "rows", anchor="start", weight=600)
    for i, (g, answer) in enumerate(zip(group, answers, strict=True)):
        x = left + step * i
        picture.box(x, 36, 26, 26, f"c{answer}")
        picture.text(x + 13, 54, "abcd"[answer], 13)
        if g != group[i - 1] or not i:
            picture.line([(x, 70), (x + step * sizes[g] - 5, 70)], "ink")
    picture.text(14, 88, "photographs", 12, "faint", "start")
    for fold in range(3):
        y = 104 + 38 * fold
        picture.text(14, y + 18, f"fold {fold}", anchor="start", weight=600)
        for i, assigned in enumerate(folds):
            held = assigned == fold
            picture.box(left + step * i, y, 26, 26, f"c{answers[i]}" if held else "box", "mark" if held else "line")
    above = "A line joins the questions about one photograph, or about photographs that look alike."
    below = "Outlined: the fold's model is judged by these rows and has never seen them. Every fold gets its share of answers."
    picture.text(14, 20, above, 13, "faint", "start")
    picture.text(14, 236, below, 13, "faint", "start")
    return picture


# %% time budget
def budget_figure() -> Svg:
    """What is left out as the time gets shorter, for a pace that is an example (docs/concepts/time-budget.md says it)."""
    config = Config(num_epochs=5, use_tta=True, use_swa=True)
    work = Work(config.n_folds, config.num_epochs, config.tta_orders, config.tta_scales)
    rows, pace = RowCounts(2591, 1296, 3887, 3887), Pace(learn=0.5, read=0.2, encode=0.1)
    plans = [plan for plan in reduced_plans(work) if plan.epochs >= 1]
    hours = [seconds_needed(p, pace, rows, epochs_done=0, variants=3, waiting=0) / 3600 for p in plans]
    picture = Svg(860, 360, "What is left out first when time is short")
    left, right, bottom, top = 60, 840, 260, 40
    most = int(max(hours)) + 1

    def at(i: int) -> float:
        return left + (right - left) * i / len(plans)

    def level(value: float) -> float:
        return bottom - (bottom - top) * value / most

    for hour in range(0, most + 1, 4):
        picture.line([(left, level(hour)), (right, level(hour))], "line")
        picture.text(left - 8, level(hour) + 5, f"{hour} h", 12, "faint", "end")
    stages = {"all": "box", "orders": "c0", "scales": "c1", "epochs": "c2", "folds": "c3"}
    spans: dict[str, list[int]] = {}
    for i, (plan, before) in enumerate(zip(plans, [work, *plans[:-1]], strict=True)):
        changed = [name for name in ("orders", "scales", "epochs", "folds") if getattr(plan, name) != getattr(before, name)]
        stage = changed[0] if changed else "all"
        spans.setdefault(stage, []).append(i)
        picture.box(at(i), level(hours[i]), at(1) - at(0) - 1, bottom - level(hours[i]), stages[stage])
    said = {"orders": f"fewer option orders: {work.orders} to 1", "scales": f"image scales: {len(work.scales)} to 1",
            "epochs": f"epochs: {work.epochs} to 1", "folds": f"folds: {work.folds} to 1"}
    for n, (stage, found) in enumerate(spans.items()):
        if stage != "all":
            x, y = 60 + 390 * ((n - 1) % 2), 296 + 24 * ((n - 1) // 2)
            picture.box(x, y - 12, 14, 14, stages[stage])
            picture.text(x + 22, y, f"{n}. {said[stage]} (down to {hours[found[-1]]:.1f} h)", 13, anchor="start")
    budget = 8.5
    picture.line([(left, level(budget)), (right, level(budget))], "mark", dashed=True)
    chosen = next(i for i, value in enumerate(hours) if value <= budget)
    picture.text(right, level(budget) - 7, f"time_budget=8h30m: {plans[chosen]}", 13, "mark", "end")
    picture.text(left, 24, f"hours for {work}, then for smaller plans", 13, "faint", "start")
    return picture


DRAWN = {"rooms": rooms, "label-alignment": label_alignment, "option-orders": orders_figure, "folds": folds_figure,
         "time-budget": budget_figure}


def main(names: list[str]) -> None:
    for name in names or DRAWN:
        (FIGURES / f"{name}.svg").write_text(str(DRAWN[name]()), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
