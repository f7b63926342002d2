"""Answers are derived again from the text of the question and the numbers of the scene, by other code than asked it."""
import re
from collections import Counter

import numpy as np
import pytest

from mcvqa.data.kinds import BASIC_KINDS
from mcvqa.scenes.ask import TOPICS, ask
from mcvqa.scenes.scene import COLORS, SHAPES, Thing, sample_scene
from mcvqa.scenes.words import LANGUAGES, STATEMENT, WORDINGS, WORDS, wordings_of

STYLES = ("plain", "varied", "shifted")


# %% reading a question back
def meaning(key: str) -> str:
    key = key.removeprefix("to be ").removesuffix(" of")
    return {"above": "top", "below": "bottom", "object": "thing"}.get(key, key)


MEANINGS = {spoken: meaning(key) for key, both in WORDS.items() for spoken in both}
LONGEST_FIRST = sorted(MEANINGS, key=len, reverse=True)
WORD = "(?:" + "|".join([*map(re.escape, LONGEST_FIRST), r"marked '\w+'", r"'\w+' 표시가 있는"]) + ")(?:e?s)?"
PHRASE = f"(?:an? )?{WORD}(?: {WORD})*"


def heard(text: str) -> set[str]:
    """'checked red circles' -> {'checked', 'red', 'circle'}; every word must be known."""
    marks = re.findall(r"marked '(\w+)'|'(\w+)' 표시가 있는", text)
    text, words = re.sub(r"marked '\w+'|'\w+' 표시가 있는", "", text).strip(), {f"mark {a or b}" for a, b in marks}
    while text:
        word = next(w for w in LONGEST_FIRST if re.match(re.escape(w) + r"(e?s)?(\s|$)", text))
        words.add(MEANINGS[word])
        text = re.sub(re.escape(word) + r"(e?s)?\s*", "", text, count=1)
    return words


def pattern_of(form):
    pattern = re.sub(r"\\\[(\S+?)/(\S+?)\\\]", r"(?:\1|\2)", re.escape(form))
    return re.sub(r"\\\{(\w+)\\\}", lambda slot: f"(?P<{slot[1]}>{PHRASE})", pattern)


def slots_of(asked, style, language) -> dict[str, set[str]]:
    matches = (re.fullmatch(pattern_of(form), asked.text) for form in wordings_of(asked.topic, style, language))
    match = next(filter(None, matches))
    slots = {k: heard(re.sub("^an? ", "", v)) for k, v in match.groupdict().items()}
    return {k if k == "s" else k.removeprefix("a").removesuffix("s"): words for k, words in slots.items()}


# %% what is true of a scene
def named(scene, words):
    traits = [({t.color, t.shape, t.texture, "thing", f"mark {t.label}"}, t) for t in scene.things]
    return [thing for known, thing in traits if words <= known]


def one(scene, words):
    (thing,) = named(scene, words)
    return thing


def at(scene, words):
    measure = {
        "leftmost": lambda t: -t.x, "rightmost": lambda t: t.x, "topmost": lambda t: -t.y, "bottommost": lambda t: t.y,
        "largest": lambda t: t.radius, "smallest": lambda t: -t.radius,
    }[next(iter(words))]  # fmt: skip
    return max(scene.things, key=measure)


def far(scene, slots):
    start = one(scene, slots["x"])
    others = [t for t in scene.things if t is not start]
    pick = min if slots["d"] == {"nearest"} else max
    return pick(others, key=lambda t: (t.x - start.x) ** 2 + (t.y - start.y) ** 2)


def beside(a, b, side):
    return {"left": a.x < b.x, "right": a.x > b.x, "top": a.y < b.y, "bottom": a.y > b.y}[side]


def cell(thing):
    row, column = ("top", "", "bottom")[int(thing.y * 3)], ("left", "", "right")[int(thing.x * 3)]
    return {"": "center"}.get(row + column) or f"{row or 'center'} {column or 'center'}"


def others(scene, words, what):
    thing = one(scene, words)
    return sum(getattr(t, what) == getattr(thing, what) for t in scene.things if t is not thing)


def is_yes(holds):
    return "yes" if holds else "no"


def number_beside(scene, s):
    mark, (side,) = one(scene, s["x"]), s["r"]
    return str(sum(beside(t, mark, side) for t in scene.things if t is not mark))


def held(scene, choice):
    words = heard(choice)
    return len(words) == 2 and bool(named(scene, words))


def claim_holds(scene, choice, language):
    match = re.fullmatch(pattern_of(STATEMENT[language]), choice)
    (side,) = heard(match["r"])
    return beside(one(scene, heard(match["x"])), one(scene, heard(match["y"])), side)


# what the right choice means, as words or as a text
EXPECTED = {
    "count all": lambda c, s: str(len(c.things)),
    "count group": lambda c, s: str(len(named(c, s["x"]))),
    "count same shape": lambda c, s: str(others(c, s["x"], "shape")),
    "count alike": lambda c, s: str(1 + others(c, s["x"], "shape")),
    "count same color": lambda c, s: str(others(c, s["x"], "color")),
    "count beside": number_beside,
    "color of": lambda c, s: one(c, s["x"]).color,
    "color of extreme": lambda c, s: at(c, s["e"]).color,
    "color by distance": lambda c, s: far(c, s).color,
    "common color": lambda c, s: Counter(t.color for t in c.things).most_common(1)[0][0],
    "background color": lambda c, s: c.background,
    "shape of": lambda c, s: one(c, s["x"]).shape,
    "shape of extreme": lambda c, s: at(c, s["e"]).shape,
    "shape by distance": lambda c, s: far(c, s).shape,
    "texture of": lambda c, s: one(c, s["x"]).texture,
    "which extreme": lambda c, s: {at(c, s["e"]).color, at(c, s["e"]).shape},
    "read": lambda c, s: one(c, s["x"]).label,
    "read only": lambda c, s: "".join(t.label for t in c.things),
    "color marked": lambda c, s: one(c, s["x"]).color,
    "exists": lambda c, s: is_yes(named(c, s["x"])),
    "exists not": lambda c, s: is_yes(not named(c, s["x"])),
    "is beside": lambda c, s: is_yes(beside(one(c, s["x"]), one(c, s["y"]), *s["r"])),
    "is on side": lambda c, s: is_yes(beside(one(c, s["x"]), Thing("", "", (0, 0, 0), 0.5, 0.5, 0), *s["s"])),
    "are more": lambda c, s: is_yes(len(named(c, s["x"])) > len(named(c, s["y"]))),
    "same color": lambda c, s: is_yes(one(c, s["x"]).color == one(c, s["y"]).color),
    "same shape": lambda c, s: is_yes(one(c, s["x"]).shape == one(c, s["y"]).shape),
    "where": lambda c, s: cell(one(c, s["x"])),
    "which at": lambda c, s: next({t.color, t.shape} for t in c.things if {cell(t)} == s["cell"]),
}
HOLDS = {
    "present": lambda c, s, choice, language: held(c, choice),
    "absent": lambda c, s, choice, language: not held(c, choice),
    "true statement": lambda c, s, choice, language: claim_holds(c, choice, language),
    "where to": lambda c, s, choice, language: any(
        beside(one(c, s["x"]), one(c, s["y"]), side) and dominant(one(c, s["x"]), one(c, s["y"]), side)
        for side in heard(choice)
        if side in ("left", "right", "top", "bottom")
    ),
}


def dominant(a, b, side):
    return (abs(a.x - b.x) > 2 * abs(a.y - b.y)) == (side in ("left", "right"))


def right_choices(scene, asked, language):
    slots = slots_of(asked, scene.style, language)
    if asked.topic in HOLDS:
        return [i for i, choice in enumerate(asked.choices) if HOLDS[asked.topic](scene, slots, choice, language)]
    expected = EXPECTED[asked.topic](scene, slots)
    said = [c if re.fullmatch("[A-Z0-9]+", c) else MEANINGS.get(c, c) for c in asked.choices]
    said = [heard(c) for c in asked.choices] if isinstance(expected, set) else said
    return [i for i, choice in enumerate(said) if choice == expected]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("scenes", [50, pytest.param(500, marks=pytest.mark.nightly)])
def test_every_answer_is_right_and_the_only_one(style, language, scenes):
    rng, seen = np.random.default_rng(7), set()
    for _ in range(scenes):
        scene = sample_scene(rng, style)
        for kind in BASIC_KINDS:
            n = int(rng.integers(2, 14))
            if asked := ask(scene, rng, language, kind, n):
                assert len(asked.choices) == len(set(asked.choices)) == n
                assert right_choices(scene, asked, language) == [asked.answer], (asked, scene)
                assert not re.search(r"[\[\]{}]", asked.text)
                seen.add(asked.topic)
    assert seen == set(TOPICS) or scenes == 50
    assert {topic.kind for topic in TOPICS.values()} == set(BASIC_KINDS)


def test_the_question_mentions_no_choice():
    rng = np.random.default_rng(8)
    for _ in range(300):
        scene = sample_scene(rng)
        for kind in ("color", "attribute", "location"):
            if asked := ask(scene, rng, "en", kind, 13):
                shown = set(re.findall(r"half circle|[\w']+", asked.text)) & {*COLORS, *SHAPES}
                assert not shown & set(asked.choices), asked


def test_every_topic_has_wordings():
    assert TOPICS.keys() == WORDINGS.keys() and all(all(forms) for forms in WORDINGS.values())


def test_wrong_answers_about_distances_can_be_seen():
    rng, questions = np.random.default_rng(7), 0
    for _ in range(40):
        scene = sample_scene(rng, layout="six")
        if asked := ask(scene, rng, "en", "color by distance", 4):
            questions += 1
            assert asked.topic == "color by distance" and {*asked.choices} <= {thing.color for thing in scene.things}
    assert questions > 20
