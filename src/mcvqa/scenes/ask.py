"""Makes questions about a scene with unambiguous answers, and wrong answers to choose from.

A question is asked only if the scene is unambiguous: the nearest thing is nearest by a margin, and a named thing is the only one
with its name. A puzzle finds what can be asked; mcvqa.scenes.words puts it into words, in Korean or English.
"""
import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mcvqa.data.paraphrase import fill_form
from mcvqa.scenes.scene import (
    BACKGROUNDS,
    COLORS,
    SHAPES,
    SIGN_LETTERS,
    SIGN_WORDS,
    TEXTURES,
    Scene,
    Thing,
    cell_of,
    outline_area,
    outline_of,
    pick_one,
    pick_some,
)
from mcvqa.scenes.words import CELLS, OPPOSITE, STATEMENT, Phrase, plural, say, wordings_of


# %% what can be said beyond doubt
class Statement(NamedTuple):
    """Represents a statement: 'The x is left of the y.'"""

    x: Phrase
    relation: str
    y: Phrase


class Puzzle(NamedTuple):
    """Holds a question before it is put into words: the wording's slots, the answer, and wrong answers, `tempting` ones first."""

    slots: dict[str, Phrase]
    answer: Phrase | Statement
    wrong: Sequence[Phrase | Statement]
    tempting: Sequence[Phrase] = ()


def things_named(scene: Scene, phrase: Phrase) -> list[Thing]:
    """Return the things for which every word of the phrase is true."""
    return [thing for thing in scene.things if thing.words.issuperset(phrase)]


def _names(scene: Scene, thing: Thing, *hidden: str) -> list[Phrase]:
    """Return short phrases that name only this thing, without the hidden ones of color, shape, texture, label."""
    names = {
        ("thing",): (), (thing.color, "thing"): ("color",), (thing.shape,): ("shape",),
        (thing.color, thing.shape): ("color", "shape"), (thing.texture, thing.shape): ("texture", "shape"),
        (thing.color, thing.texture, thing.shape): ("color", "texture", "shape"),
        ("thing", f"mark:{thing.label}"): ("label",),
    }  # fmt: skip
    known = {*hidden, *(("texture",) if thing.texture == "unpatterned" else ()), *(() if thing.label else ("label",))}
    return [name for name, tells in names.items() if not known & set(tells) and len(things_named(scene, name)) == 1]


def _thing_with_name(scene: Scene, rng: np.random.Generator, *hidden: str) -> tuple[Thing, Phrase] | None:
    """Choose a random thing that has a unique name."""
    pairs = [(thing, name) for thing in scene.things for name in _names(scene, thing, *hidden)]
    return pick_one(rng, pairs) if pairs else None


def _first(values: np.ndarray, margin: float) -> int | None:
    """Return the index of the row (N, C) that is smallest in every column by a margin; None if there is no such row."""
    if len(values) < 2:
        return None
    order, best = np.sort(values, 0), values.argmin(0)
    return int(best[0]) if (best == best[0]).all() and (order[1] - order[0] > margin).all() else None


def extreme(scene: Scene, word: str) -> Thing | None:
    """Return the leftmost, rightmost, topmost, bottommost, largest or smallest thing, if one clearly is."""
    x, y, r = np.array([(thing.x, thing.y, thing.radius) for thing in scene.things]).T
    sizes = np.log([(t.radius, outline_area(outline_of(t))) for t in scene.things])  # (N, 2): both must agree
    columns = {
        "leftmost": np.stack([x, x - r], 1), "rightmost": -np.stack([x, x + r], 1), "largest": -sizes,
        "topmost": np.stack([y, y - r], 1), "bottommost": -np.stack([y, y + r], 1), "smallest": sizes,
    }  # fmt: skip
    index = _first(columns[word], np.log(1.25) if word in ("largest", "smallest") else 0.05)
    return None if index is None else scene.things[index]


def by_distance(scene: Scene, thing: Thing, word: str) -> Thing | None:
    """Return the thing clearly nearest to, or furthest from, another one, by centres and by edges; None if it is not clear."""
    others = [other for other in scene.things if other is not thing]
    between = np.array([(np.hypot(t.x - thing.x, t.y - thing.y), t.radius) for t in others]).reshape(-1, 2)
    values = np.stack([between[:, 0], between[:, 0] - between[:, 1]], 1)
    index = _first(values if word == "nearest" else -values, scene.margin)
    return None if index is None else others[index]


def relation(a: Thing, b: Thing) -> str | None:
    """Return how a lies relative to b: left of, right of, above, below; None if that is not clear."""
    dx, dy = a.x - b.x, a.y - b.y
    if min(abs(dx), abs(dy)) > 0.4 * max(abs(dx), abs(dy)) or max(abs(dx), abs(dy)) < 0.12:
        return None
    return ("left of" if dx < 0 else "right of") if abs(dx) > abs(dy) else ("above" if dy < 0 else "below")


def _clear_cell(thing: Thing) -> bool:
    return all(abs(at - edge) > 0.04 for at in (thing.x, thing.y) for edge in (1 / 3, 2 / 3))


def _combinations(scene: Scene, rng: np.random.Generator, present: bool) -> list[Phrase]:
    """Make colour-and-shape phrases that are in the scene, or that are not but use similar colours and shapes."""
    held = {(thing.color, thing.shape) for thing in scene.things}
    if present:
        return pick_some(rng, sorted(held), len(held))
    colors = sorted({thing.color for thing in scene.things} | set(pick_some(rng, COLORS, 4)))
    shapes = sorted({thing.shape for thing in scene.things} | set(pick_some(rng, SHAPES, 3)))
    return pick_some(rng, (pair for pair in itertools.product(colors, shapes) if pair not in held), 12)


# %% the puzzles: each looks for something the scene leaves no doubt about, or gives up
def _words(names: Iterable[str]) -> list[Phrase]:
    return [(name,) for name in names]


def _number(slots: dict[str, Phrase], n: int, low: int = 0, high: int = 5) -> Puzzle | None:
    return Puzzle(slots, (str(n),), _words(map(str, range(low, high + 1)))) if n <= high else None


def _count_all(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    return _number({}, len(scene.things), 1, 9)


def _count_group(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    """Choose a number first and then a group of that size, so that small numbers are not the usual answer."""
    groups: list[Phrase] = [(color, "thing") for color in COLORS] + _words(SHAPES)
    groups += _combinations(scene, rng, True) + _combinations(scene, rng, False)[:2]
    counts = {group: len(things_named(scene, group)) for group in groups}
    n = pick_one(rng, sorted(set(counts.values())))
    return _number({"x": pick_one(rng, [group for group in groups if counts[group] == n])}, n)


def _count_same(scene: Scene, rng: np.random.Generator, what: str, itself: bool = False) -> Puzzle | None:
    if len(scene.things) < 2 or not (named := _thing_with_name(scene, rng, what)):
        return None
    alike = sum(getattr(t, what) == getattr(named[0], what) for t in scene.things)
    return _number({"x": named[1]}, alike, 1, 6) if itself else _number({"x": named[1]}, alike - 1)


def _count_beside(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    if len(scene.things) < 2 or not (named := _thing_with_name(scene, rng)):
        return None
    shifts = [t.x - named[0].x for t in scene.things if t is not named[0]]
    if min(map(abs, shifts)) < 0.05:
        return None
    side = pick_one(rng, ("left of", "right of"))
    return _number({"x": named[1], "r": (side,)}, sum((shift < 0) == (side == "left of") for shift in shifts))


def _trait(what: str, thing: Thing | None, slots: dict[str, Phrase]) -> Puzzle | None:
    """Ask for a thing's color, shape or texture."""
    if thing is None:
        return None
    pools = {"color": tuple(COLORS), "shape": tuple(SHAPES), "texture": ("unpatterned", *TEXTURES)}
    return Puzzle(slots, (getattr(thing, what),), _words(pools[what]))


def _trait_of(scene: Scene, rng: np.random.Generator, what: str) -> Puzzle | None:
    """Choose a texture before the thing, so that "plain" is not the usual one.

    Names do not mention labels: only some shapes have one, so a label would reveal the shape.
    """
    textures = sorted({thing.texture for thing in scene.things})
    wanted = {pick_one(rng, textures)} if what == "texture" else set(textures)
    pairs = [(t, name) for t in scene.things if t.texture in wanted for name in _names(scene, t, what, "label")]
    if not pairs:
        return None
    thing, name = pick_one(rng, pairs)
    return _trait(what, thing, {"x": name})


def _trait_of_extreme(scene: Scene, rng: np.random.Generator, what: str) -> Puzzle | None:
    word = pick_one(rng, ("leftmost", "rightmost", "topmost", "bottommost", "largest", "smallest"))
    return _trait(what, extreme(scene, word), {"e": (word,)})


def _trait_by_distance(scene: Scene, rng: np.random.Generator, what: str) -> Puzzle | None:
    if not (named := _thing_with_name(scene, rng)):
        return None
    word = pick_one(rng, ("nearest", "furthest"))
    puzzle = _trait(what, by_distance(scene, named[0], word), {"x": named[1], "d": (word,)})
    # something that is not in the scene at all would be too easy to reject
    return puzzle and puzzle._replace(tempting=_words(sorted({getattr(thing, what) for thing in scene.things})))


def _common_color(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    ranks = Counter(thing.color for thing in scene.things).most_common(2)
    if len(ranks) < 2 or ranks[0][1] == ranks[1][1]:
        return None
    return Puzzle({}, (ranks[0][0],), _words(COLORS))


def _background_color(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    return Puzzle({}, (scene.background,), _words(BACKGROUNDS[scene.style]))


def _which(scene: Scene, rng: np.random.Generator, thing: Thing | None, slots: dict[str, Phrase]) -> Puzzle | None:
    """Ask which thing it is; the answers are colour and shape."""
    if thing is None:
        return None
    wrong = [*_combinations(scene, rng, True), *_combinations(scene, rng, False)]
    return Puzzle(slots, (thing.color, thing.shape), wrong)


def _which_extreme(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    word = pick_one(rng, ("largest", "smallest"))
    return _which(scene, rng, extreme(scene, word), {"e": (word,)})


def _which_at(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    thing = pick_one(rng, scene.things)
    alone = all(other is thing or np.hypot(other.x - thing.x, other.y - thing.y) > 0.3 for other in scene.things)
    cell = cell_of(thing)
    alone = alone and sum(cell_of(other) == cell for other in scene.things) == 1
    return _which(scene, rng, thing, {"cell": (cell,)}) if alone and _clear_cell(thing) else None


def _read(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    """Ask what is painted on a thing; wrong answers are of the same sort (digit, number, letter, word)."""
    named = [(t, n) for t in scene.things if t.label for n in _names(scene, t, "label")]
    return _label(*pick_one(rng, named), rng) if named else None


def _label(thing: Thing, name: Phrase, rng: np.random.Generator) -> Puzzle:
    if thing.label.isdigit():
        pool: Iterable[str] = map(str, range(10) if len(thing.label) == 1 else range(10, 100))
    else:
        pool = SIGN_LETTERS if len(thing.label) == 1 else SIGN_WORDS
    return Puzzle({"x": name}, (thing.label,), _words(pick_some(rng, pool, 40)))


def _read_only(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    painted = [thing for thing in scene.things if thing.label]
    return _label(painted[0], ("thing",), rng) if len(painted) == 1 else None


def _color_marked(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    marked = [(t, n) for t in scene.things for n in _names(scene, t, "color", "shape", "texture") if n != ("thing",)]
    if not marked:
        return None
    thing, name = pick_one(rng, marked)
    return _trait("color", thing, {"x": name})


def _yes_or_no(slots: dict[str, Phrase], holds: bool) -> Puzzle:
    return Puzzle(slots, ("yes",) if holds else ("no",), _words(("yes", "no")))


def _exists(scene: Scene, rng: np.random.Generator, negated: bool = False) -> Puzzle | None:
    present = bool(rng.integers(2))
    singles: list[Phrase] = [(color, "thing") for color in COLORS] + _words(SHAPES)
    groups = pick_one(rng, (singles, _combinations(scene, rng, present)))
    fitting = [group for group in groups if bool(things_named(scene, group)) == present]
    return _yes_or_no({"x": pick_one(rng, fitting)}, present != negated)


def _is_beside(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    if not (pair := _related_pair(scene, rng)):
        return None
    holds = bool(rng.integers(2))
    word = pair.relation if holds else OPPOSITE[pair.relation]
    return _yes_or_no({"x": pair.x, "r": (word,), "y": pair.y}, holds)


def _related_pair(scene: Scene, rng: np.random.Generator) -> Statement | None:
    for a, b in pick_some(rng, itertools.permutations(scene.things, 2), 6):
        word, x, y = relation(a, b), _names(scene, a), _names(scene, b)
        if word and x and y:
            return Statement(pick_one(rng, x), word, pick_one(rng, y))
    return None


def _is_on_side(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    named = _thing_with_name(scene, rng)
    if not named or min(abs(named[0].x - 0.5), abs(named[0].y - 0.5)) < 0.06:
        return None
    word = pick_one(rng, ("left", "right", "top", "bottom"))
    at = named[0].x if word in ("left", "right") else named[0].y
    return _yes_or_no({"x": named[1], "s": (word,)}, (at < 0.5) == (word in ("left", "top")))


def _are_more(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    singles: list[Phrase] = pick_one(rng, ([(c, "thing") for c in COLORS], _words(SHAPES)))
    counts = {group: n for group in singles if (n := len(things_named(scene, group)))}
    if len(counts) < 2:
        return None
    x, y = pick_some(rng, counts, 2)
    return _yes_or_no({"x": x, "y": y}, counts[x] > counts[y]) if counts[x] != counts[y] else None


def _are_alike(scene: Scene, rng: np.random.Generator, what: str) -> Puzzle | None:
    """Ask whether two things share color or shape; pairs that do and pairs that do not are equally frequent."""
    alike = bool(rng.integers(2))
    for a, b in pick_some(rng, itertools.combinations(scene.things, 2), 12):
        x, y = _names(scene, a, what), _names(scene, b, what)
        if x and y and (getattr(a, what) == getattr(b, what)) == alike:
            return _yes_or_no({"x": pick_one(rng, x), "y": pick_one(rng, y)}, alike)
    return None


def _where(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    named = _thing_with_name(scene, rng)
    return Puzzle({"x": named[1]}, (cell_of(named[0]),), _words(CELLS)) if named and _clear_cell(named[0]) else None


def _where_to(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    pair = _related_pair(scene, rng)
    if not pair:
        return None
    return Puzzle({"x": pair.x, "y": pair.y}, (f"to be {pair.relation}",), _words(f"to be {r}" for r in OPPOSITE))


def _present(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    return Puzzle({}, _combinations(scene, rng, True)[0], _combinations(scene, rng, False))


def _absent(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    return Puzzle({}, _combinations(scene, rng, False)[0], _combinations(scene, rng, True))


def _true_statement(scene: Scene, rng: np.random.Generator) -> Puzzle | None:
    said: dict[frozenset[Phrase], Statement] = {}
    for _ in range(12):
        if pair := _related_pair(scene, rng):
            said.setdefault(frozenset((pair.x, pair.y)), pair)  # one statement on any two things
    if not said:
        return None
    answer, *others = said.values()
    return Puzzle({}, answer, [Statement(x, OPPOSITE[r], y) for x, r, y in others])


# %% the topics
class Topic(NamedTuple):
    """Describes the topic of a question: its kind, one of BASIC_KINDS, and the function that finds it. Its words are in
    WORDINGS."""

    kind: str
    puzzle: Callable[..., Puzzle | None]


def _about(puzzle: Callable[..., Puzzle | None], what: str) -> Callable[..., Puzzle | None]:
    return functools.partial(puzzle, what=what)


TOPICS: dict[str, Topic] = {
    "count all": Topic("counting", _count_all),
    "count group": Topic("counting", _count_group),
    "count same shape": Topic("counting", _about(_count_same, "shape")),
    "count alike": Topic("counting", functools.partial(_count_same, what="shape", itself=True)),
    "count same color": Topic("counting", _about(_count_same, "color")),
    "count beside": Topic("counting", _count_beside),
    "color of": Topic("color", _about(_trait_of, "color")),
    "color of extreme": Topic("color", _about(_trait_of_extreme, "color")),
    "color by distance": Topic("color", _about(_trait_by_distance, "color")),
    "common color": Topic("color", _common_color),
    "background color": Topic("color", _background_color),
    "shape of": Topic("attribute", _about(_trait_of, "shape")),
    "shape of extreme": Topic("attribute", _about(_trait_of_extreme, "shape")),
    "shape by distance": Topic("attribute", _about(_trait_by_distance, "shape")),
    "texture of": Topic("attribute", _about(_trait_of, "texture")),
    "which extreme": Topic("attribute", _which_extreme),
    "read": Topic("ocr", _read),
    "read only": Topic("ocr", _read_only),
    "color marked": Topic("ocr", _color_marked),
    "exists": Topic("yesno", _exists),
    "exists not": Topic("yesno", functools.partial(_exists, negated=True)),
    "is beside": Topic("yesno", _is_beside),
    "is on side": Topic("yesno", _is_on_side),
    "are more": Topic("yesno", _are_more),
    "same color": Topic("yesno", _about(_are_alike, "color")),
    "same shape": Topic("yesno", _about(_are_alike, "shape")),
    "where": Topic("location", _where),
    "where to": Topic("location", _where_to),
    "which at": Topic("location", _which_at),
    "present": Topic("general", _present),
    "absent": Topic("general", _absent),
    "true statement": Topic("general", _true_statement),
}


# %% asking
@dataclass(frozen=True)
class Asked:
    """Holds a multiple-choice question about a scene; `answer` is the index of the only right choice."""

    kind: str
    topic: str
    text: str
    choices: tuple[str, ...]
    answer: int


def ask(scene: Scene, rng: np.random.Generator, language: str, kind: str, n_choices: int) -> Asked | None:
    """Ask a question of one kind; None if the scene has nothing unambiguous to ask for, or too few wrong answers.

    Args:
        scene: the scene.
        rng: source of randomness.
        language: "ko" or "en".
        kind: one of BASIC_KINDS, or of TOPICS for a narrower choice.
        n_choices: 2 to 13.
    """
    for name in pick_some(rng, (name for name, topic in TOPICS.items() if kind in (topic.kind, name)), len(TOPICS)):
        puzzle = TOPICS[name].puzzle(scene, rng)
        wrong = _wrong_choices(puzzle, n_choices - 1, rng) if puzzle else None
        if puzzle and wrong is not None:
            choices = pick_some(rng, [puzzle.answer, *wrong], n_choices)
            texts = tuple(_say_choice(choice, language) for choice in choices)
            text = _say_question(name, puzzle, scene.style, language, rng)
            return Asked(TOPICS[name].kind, name, text, texts, choices.index(puzzle.answer))
    return None


def _wrong_choices(puzzle: Puzzle, n: int, rng: np.random.Generator) -> list[Phrase | Statement] | None:
    """Choose n wrong answers that the question does not mention; None if the answer is mentioned or there are too few.

    With six or more choices, and if the right kind runs out, some answer other questions: 'yes' to a colour.
    """
    mentioned = {word for phrase in puzzle.slots.values() for word in phrase}
    answer = puzzle.answer
    if set(answer) <= mentioned:
        return None
    wrong = [p for p in dict.fromkeys(puzzle.wrong) if p != answer and not set(p) <= mentioned]
    others = _words(_other_sorts(answer[0])) if len(answer) == 1 else []
    same_kind = sorted(pick_some(rng, wrong, len(wrong)), key=lambda p: p not in puzzle.tempting)
    same_kind = same_kind[: n if n < 5 or not others else (2 * n + 2) // 3]
    chosen = same_kind + pick_some(rng, [p for p in others if not set(p) <= mentioned], n - len(same_kind))
    return chosen if len(chosen) == n else None


def _other_sorts(word: str) -> list[str]:
    """Return answers to other sorts of questions than the one that `word` answers."""
    tints = {*COLORS, *(name for each in BACKGROUNDS.values() for name in each)}  # sky blue is too like blue
    return [
        other for sort in (("yes", "no"), SHAPES, COLORS) for other in sort
        if word not in sort and not (sort is COLORS and word in tints)
    ]  # fmt: skip


def _say_choice(choice: Phrase | Statement, language: str) -> str:
    if isinstance(choice, Statement):
        slots = {"x": say(choice.x, language), "r": say((choice.relation,), language), "y": say(choice.y, language)}
        return fill_form(STATEMENT[language], slots) or ""
    return say(choice, language)


def _say_question(name: str, puzzle: Puzzle, style: str, language: str, rng: np.random.Generator) -> str:
    wordings = wordings_of(name, style, language)
    called = "object" if rng.random() < 0.3 else "thing"
    slots: dict[str, str] = {}
    for slot, phrase in puzzle.slots.items():
        noun = say(tuple(called if word == "thing" else word for word in phrase), language)
        slots |= {slot: noun, slot + "s": plural(noun), "a" + slot: f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"}
    return fill_form(pick_one(rng, wordings), slots) or ""
