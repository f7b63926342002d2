"""Sampled scenes are such that they can be asked about, and descriptions say what is in them."""
import re

import numpy as np
import pytest

from mcvqa.scenes.scene import COLORS, LAYOUTS, describe, describe_distances, sample_scene
from mcvqa.scenes.words import LANGUAGES, WORDS


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


def test_distances_are_described_as_measured():
    rng = np.random.default_rng(6)
    for _ in range(20):
        scene = sample_scene(rng, layout="six")
        message = re.findall(r"(\w+) (?:[\w ]+): closest (\w+) (?:[\w ]+), furthest (\w+) ", describe_distances(scene, "en"))
        assert len(message) == 6
        things = {thing.color: np.array([thing.x, thing.y]) for thing in scene.things}
        for color, near, far_off in message:
            apart = {other: np.hypot(*(things[other] - things[color])) for other in things if other != color}
            assert (near, far_off) == (min(apart, key=apart.get), max(apart, key=apart.get))


def test_unknown_style_and_layout_are_named():
    with pytest.raises(ValueError, match=r"odd.*plain.*shifted"):
        sample_scene(np.random.default_rng(0), "odd")
    with pytest.raises(ValueError, match=r"heap.*crowd"):
        sample_scene(np.random.default_rng(0), layout="heap")
