"""Wrong labels, put in on purpose: they come first, probabilities mean what they say, and option orders help."""
import numpy as np
import pytest

from mcvqa.insight.label_noise import estimate_label_noise, label_likelihoods, margins
from mcvqa.scoring.orders import option_orders
from mcvqa.scoring.scores import Scores, log_softmax, plain_scores

N, C, K = 1000, 4, 4


def scores_with_flips(seed: int, rate: float = 0.1, position_noise: float = 1.5) -> tuple[Scores, np.ndarray, np.ndarray]:
    """A model that knows most answers and is distracted by the position of the choices, more in some rows; labels, flipped."""
    random = np.random.default_rng(seed)
    truth = random.integers(C, size=N)
    known = random.normal(0, 1, (N, C))
    known[np.arange(N), truth] += 2.5 * np.exp(random.normal(0, 0.5, N))
    distraction = random.normal(0, position_noise, (N, K, C)) * np.exp(random.normal(0, 0.8, (N, 1, 1)))
    orders = np.broadcast_to(option_orders(C, K), (N, K, C)).astype(np.int8)
    flipped = random.permutation(N) < rate * N
    labels = np.where(flipped, (truth + random.integers(1, C, N)) % C, truth)
    logprobs = log_softmax(1.7 * (known[:, None] + distraction)).astype(np.float32)
    return Scores(np.arange(N).astype(str), logprobs, orders, np.ones(K, np.float32)), labels, flipped


def found_among_first(suspicion: np.ndarray, flipped: np.ndarray) -> float:
    """Share of the flips among as many rows, the most suspicious first."""
    return float(flipped[np.argsort(-suspicion)[: flipped.sum()]].mean())


def average_precision(suspicion: np.ndarray, flipped: np.ndarray) -> float:
    hits = flipped[np.argsort(-suspicion)]
    return float((hits.cumsum() / np.arange(1, N + 1))[hits].mean())


def test_flips_come_first_and_have_their_true_answer_proposed():
    scores, labels, flipped = scores_with_flips(0, position_noise=0.3)
    noise = estimate_label_noise([scores], labels)
    assert found_among_first(noise.suspicion, flipped) > 0.6
    assert found_among_first(noise.suspicion, flipped) > 6 * found_among_first(np.random.default_rng(0).random(N), flipped)
    assert (noise.proposed != labels).all(), "a proposal is another label"
    sure = noise.wrong > 0.8
    assert (scores.predictions() == noise.proposed)[sure].mean() > 0.95


def test_probabilities_fall_along_the_order_of_suspicion():
    scores, labels, _ = scores_with_flips(0)
    labels[5] = -1
    noise = estimate_label_noise([scores], labels)
    known = np.argsort(-noise.suspicion)[: N - 1]
    assert (np.diff(noise.wrong[known]) <= 0).all() and np.isnan(noise.wrong[5]) and np.isnan(noise.suspicion[5])


def test_rows_are_ranked_by_how_much_another_choice_beats_the_label():
    """cleanlab's normalized margin of the same probabilities, whatever the probability that a label is wrong."""
    assert margins(np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2]]), np.array([0, 0])) == pytest.approx([0.6, -0.2])
    scores, labels, _ = scores_with_flips(1)
    beliefs = np.exp(scores.mean())
    others = np.where(np.arange(C) == labels[:, None], -1, beliefs).max(1)
    assert estimate_label_noise([scores], labels).suspicion == pytest.approx(others - beliefs[np.arange(N), labels], abs=1e-6)


def test_more_orders_find_more_if_the_order_distracts_the_model():
    of_one, of_all = [], []
    for seed in range(2):
        scores, labels, flipped = scores_with_flips(seed)
        one = scores.views(np.arange(K) == 0)
        of_one.append(average_precision(estimate_label_noise([one], labels).suspicion, flipped))
        of_all.append(average_precision(estimate_label_noise([scores], labels).suspicion, flipped))
    assert min(of_all) > max(of_one) + 0.15


@pytest.mark.parametrize("rate", [0.1, 0.2])
def test_probabilities_mean_what_they_say(rate):
    """Up to the model's own confident mistakes, which look like wrong labels."""
    scores, labels, flipped = scores_with_flips(3, rate, position_noise=0.5)
    wrong = estimate_label_noise([scores], labels).wrong
    assert abs(wrong.sum() - flipped.sum()) < 0.4 * flipped.sum()
    for low, high in ((0.0, 0.05), (0.05, 0.3), (0.3, 0.7), (0.7, 1.01)):
        rows = (wrong >= low) & (wrong < high)
        assert rows.sum() > 20 and abs(wrong[rows].mean() - flipped[rows].mean()) < 0.2


def test_wrong_labels_are_not_explained_away_by_distrust_of_a_good_model():
    random, n = np.random.default_rng(2), 200
    truth = random.integers(C, size=n)
    logits = random.normal(0, 1, (n, C))
    logits[np.arange(n), truth] += random.choice([7.0, 1.0], n, p=[0.95, 0.05])
    flipped = random.permutation(n) < 0.2 * n
    labels = np.where(flipped, (truth + random.integers(1, C, n)) % C, truth)
    scores = plain_scores(np.arange(n).astype(str), log_softmax(logits).astype(np.float32), np.full(n, C), {})
    noise = estimate_label_noise([scores], labels)
    first = np.argsort(-noise.suspicion)[: flipped.sum()]
    assert flipped[first].mean() > 0.95 and noise.wrong[first].mean() > 0.7


def test_ways_to_a_label_are_those_of_bayes():
    likelihoods = label_likelihoods(np.array([[0.1, 0.7, 0.2]]), np.array([0]), np.array([3]), 0.1, 0.8)
    slip, alike = 0.2 / 2, 0.8
    assert likelihoods[0].tolist() == pytest.approx(
        [0.9 * 0.1, 0.1 * 0.7 * (slip + alike * 0.1 / 0.3), 0.1 * 0.2 * (slip + alike * 0.1 / 0.8)])


def test_several_mistakes_about_one_photograph_speak_against_the_models():
    """Eight rows a photograph, all labels right: six confident mistakes on two photographs, then on six."""
    random, n = np.random.default_rng(0), 400
    truth, photographs = random.integers(C, size=n), np.arange(n) // 8

    def judged(mistaken: list[int]) -> np.ndarray:
        logits = random.normal(0, 1, (n, C))
        logits[np.arange(n), truth] += 8
        logits[mistaken, (truth[mistaken] + 1) % C] += 16
        scores = plain_scores(np.arange(n).astype(str), log_softmax(logits).astype(np.float32), np.full(n, C), {})
        apart, known = (estimate_label_noise([scores], truth, of).wrong for of in (None, photographs))
        assert apart[mistaken].min() > 0.8, "the rows alone do not tell"
        return known[mistaken]

    assert judged([0, 1, 2, 8, 9, 10]).max() < 0.2
    assert judged([0, 8, 16, 24, 32, 40]).min() > 0.7


def test_a_second_member_counts_and_rows_without_a_label_do_not():
    scores, labels, flipped = scores_with_flips(2)
    other, *_ = scores_with_flips(2, position_noise=0.5)
    alone, both = (found_among_first(estimate_label_noise(m, labels).suspicion, flipped) for m in ([scores], [scores, other]))
    assert both > alone
    labels[:10] = -1
    noise = estimate_label_noise([scores], labels)
    assert np.isnan(noise.wrong[:10]).all() and not np.isnan(noise.wrong[10:]).any()


def test_few_labels_and_choices_of_different_numbers():
    logprobs = np.log(np.array([[[0.97, 0.03, 0]], [[0.02, 0.9, 0.08]]], np.float32), where=np.array(
        [[[True, True, False]], [[True, True, True]]]), out=np.full((2, 1, 3), -np.inf, np.float32))
    orders = np.array([[[0, 1, -1]], [[0, 1, 2]]], np.int8)
    noise = estimate_label_noise([Scores(np.array(["x", "y"]), logprobs, orders, np.ones(1, np.float32))], np.array([1, 1]))
    assert noise.wrong[0] > 0.4 > 0.1 > noise.wrong[1] and noise.proposed[0] == 0
    assert noise.weights.tolist() == [1.0], "nothing is fitted to two labels"


def test_an_underconfident_model_still_finds_wrong_labels_probable():
    """As models are that were trained on wrong labels: nearly all answers right, with half of the confidence."""
    random, n = np.random.default_rng(4), 400
    truth = random.integers(C, size=n)
    logits = random.normal(0, 1, (n, C))
    logits[np.arange(n), truth] += 7
    flipped = random.permutation(n) < 0.1 * n
    labels = np.where(flipped, (truth + random.integers(1, C, n)) % C, truth)
    scores = plain_scores(np.arange(n).astype(str), log_softmax(0.25 * logits).astype(np.float32), np.full(n, C), {})
    noise = estimate_label_noise([scores], labels)
    first = np.argsort(-noise.suspicion)[: flipped.sum()]
    assert flipped[first].mean() > 0.95 and noise.wrong[first].mean() > 0.8 and noise.weights[0] > 2
