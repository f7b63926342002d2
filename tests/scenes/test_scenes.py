"""Answers are derived again from the text of the question and the numbers of the scene, by other code than asked it."""
import csv
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from mcvqa.data.kinds import KINDS
from mcvqa.scenes.dataset import (
    COLORS,
    LANGUAGES,
    LAYOUTS,
    SHAPES,
    STATEMENT,
    TOPICS,
    WORDS,
    Scene,
    Thing,
    ask,
    describe,
    describe_distances,
    draw,
    generate_demo,
    sample_scene,
    wordings_of,
)

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
def test_every_answer_is_right_and_the_only_one(style, language):
    rng, seen = np.random.default_rng(7), set()
    for _ in range(500):
        scene = sample_scene(rng, style)
        for kind in KINDS:
            n = int(rng.integers(2, 14))
            if asked := ask(scene, rng, language, kind, n):
                assert len(asked.choices) == len(set(asked.choices)) == n
                assert right_choices(scene, asked, language) == [asked.answer], (asked, scene)
                assert not re.search(r"[\[\]{}]", asked.text)
                seen.add(asked.topic)
    assert seen == set(TOPICS)
    assert {topic.kind for topic in TOPICS.values()} == set(KINDS)


def test_the_question_mentions_no_choice():
    rng = np.random.default_rng(8)
    for _ in range(300):
        scene = sample_scene(rng)
        for kind in ("color", "attribute", "location"):
            if asked := ask(scene, rng, "en", kind, 13):
                shown = set(re.findall(r"half circle|[\w']+", asked.text)) & {*COLORS, *SHAPES}
                assert not shown & set(asked.choices), asked


# %% scenes and pictures
@pytest.mark.parametrize("layout", LAYOUTS)
def test_things_lie_inside_and_apart(layout):
    rng = np.random.default_rng(3)
    for _ in range(40):
        scene = sample_scene(rng, layout=layout)
        low, high = LAYOUTS[layout].things
        assert low <= len(scene.things) <= high
        for i, a in enumerate(scene.things):
            assert a.radius < a.x < 1 - a.radius and a.radius < a.y < 1 - a.radius
            assert all(np.hypot(a.x - b.x, a.y - b.y) > a.radius + b.radius for b in scene.things[:i])


def test_colors_stay_apart():
    ends = [(name, np.array(end, float)) for name, line in COLORS.items() for end in line]
    closest = min(np.linalg.norm(a - b) for i, (m, a) in enumerate(ends) for n, b in ends[:i] if n != m)
    assert closest > 60


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_is_drawn_where_it_is_said_to_be(shape):
    thing = Thing(shape, "red", (255, 0, 0), 0.6, 0.35, 0.2, turn=5)
    pixels = np.array(draw(Scene((thing,), "white", (250, 250, 250), "flat", "plain", 0), 96), float)
    rows, columns = np.nonzero(pixels[:, :, 1] < 128)
    assert pixels.shape == (96, 96, 3)
    assert 0.1 < len(rows) / (np.pi * (0.2 * 96) ** 2) <= 1.02
    assert np.hypot(columns + 0.5 - 0.6 * 96, rows + 0.5 - 0.35 * 96).max() < 0.2 * 96 + 1.5


def test_labels_textures_and_backdrops_change_the_picture():
    thing = Thing("circle", "blue", (0, 0, 255), 0.5, 0.5, 0.3)
    plain = Scene((thing,), "white", (250, 250, 250), "flat", "plain", 0)
    changes = [{}, {"label": "7"}, {"label": "8"}, *({"texture": name} for name in ("striped", "dotted", "checked"))]
    variants = [replace(plain, things=(replace(thing, **change),)) for change in changes]
    variants += [replace(plain, backdrop=backdrop) for backdrop in ("gradient", "grid", "grain")]
    assert len({draw(scene, 84).tobytes() for scene in variants}) == len(variants)


def test_a_description_names_everything():
    rng = np.random.default_rng(5)
    for _ in range(50):
        scene = sample_scene(rng)
        for i, language in enumerate(LANGUAGES):
            text = describe(scene, language)
            assert WORDS[scene.background][i] in text
            for thing in scene.things:
                assert text.count(WORDS[thing.color][i]) >= sum(t.color == thing.color for t in scene.things)
                assert WORDS[thing.shape][i] in text and thing.label in text


def test_distances_are_told_as_measured():
    rng = np.random.default_rng(6)
    for _ in range(20):
        scene = sample_scene(rng, layout="six")
        told = re.findall(r"(\w+) (?:[\w ]+): closest (\w+) (?:[\w ]+), furthest (\w+) ", describe_distances(scene, "en"))
        assert len(told) == 6
        things = {thing.color: np.array([thing.x, thing.y]) for thing in scene.things}
        for color, near, far_off in told:
            apart = {other: np.hypot(*(things[other] - things[color])) for other in things if other != color}
            assert (near, far_off) == (min(apart, key=apart.get), max(apart, key=apart.get))


def test_wrong_answers_about_distances_can_be_seen():
    rng, questions = np.random.default_rng(7), 0
    for _ in range(40):
        scene = sample_scene(rng, layout="six")
        if asked := ask(scene, rng, "en", "color by distance", 4):
            questions += 1
            assert asked.topic == "color by distance" and {*asked.choices} <= {thing.color for thing in scene.things}
    assert questions > 20


def test_unknown_style_and_layout_are_named():
    with pytest.raises(ValueError, match=r"odd.*plain.*shifted"):
        sample_scene(np.random.default_rng(0), "odd")
    with pytest.raises(ValueError, match=r"heap.*crowd"):
        sample_scene(np.random.default_rng(0), layout="heap")


# %% the demo data set
def table(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_demo_has_the_format_of_the_competition(tmp_path):
    generate_demo(tmp_path, 70, 30, 42, size=64)
    train, test = table(tmp_path / "train.csv"), table(tmp_path / "test.csv")
    assert [*train[0]] == ["id", "path", "question", "a", "b", "c", "d", "answer"] and [*test[0]] == [*train[0]][:-1]
    assert (len(train), len(test)) == (70, 30)
    assert all(row[row["answer"]] and (tmp_path / row["path"]).is_file() for row in train)
    assert not {row["path"] for row in train} & {row["path"] for row in test}
    assert {sum(bool(row[c]) for c in "abcd") for row in train} == {2, 3, 4}
    full = Counter(row["answer"] for row in train if row["d"])
    assert max(full.values()) - min(full.values()) <= 1 and len(full) == 4
    ids = [row["id"] for row in test]
    for name in ("sample_submission.csv", "test_answers.csv"):
        assert [row["id"] for row in table(tmp_path / name)] == ids


def test_demo_is_the_same_again_and_made_once(tmp_path):
    generate_demo(tmp_path / "a", 20, 8, 1, size=64)
    generate_demo(tmp_path / "b", 20, 8, 1, size=64)
    for file in ("train.csv", "test.csv", "test_answers.csv"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    before = (tmp_path / "a/train.csv").stat().st_mtime_ns
    generate_demo(tmp_path / "a", 20, 8, 1, size=64)
    assert (tmp_path / "a/train.csv").stat().st_mtime_ns == before
    generate_demo(tmp_path / "a", 8, 4, 2, size=64, style="shifted")
    pictures = {row["path"] for split in ("train", "test") for row in table(tmp_path / "a" / f"{split}.csv")}
    assert {f"{p.parent.name}/{p.name}" for p in (tmp_path / "a").glob("t*/*.png")} == pictures


def test_demo_never_overwrites_real_data(tmp_path):
    (tmp_path / "train.csv").write_text("mine")
    with pytest.raises(FileExistsError, match="empty folder"):
        generate_demo(tmp_path, 8, 4, 1)
    assert (tmp_path / "train.csv").read_text() == "mine"
