import numpy as np
import pytest

from mcvqa.data.prior import MIN_PRIOR_ROWS, Prior, fit_prior
from mcvqa.data.questions import Question


def made_up(n: int, seed: int = 0, tell: float = 0.7) -> list[Question]:
    """Rows of two to five choices; with probability `tell` the right one has the word that right ones have."""
    random = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        width = int(random.integers(2, 6))
        answer = int(random.integers(width))
        shown = random.random() < tell
        choices = tuple(
            f"{'화려한' if shown and k == answer else '평범한'} 물건 {random.integers(1000)}" for k in range(width)
        )
        rows.append(Question(f"{seed}-{i}", f"{i}.jpg", "이것은 무엇인가요?", choices, answer))
    return rows


def chance(questions: list[Question]) -> float:
    return float(np.mean([1 / len(q.choices) for q in questions]))


def check_tables(prior: Prior, train: list[Question], test: list[Question]) -> None:
    for table, questions in ((prior.oof_logprobs, train), (prior.test_logprobs, test)):
        assert len(table) == len(questions)
        counts = np.array([len(q.choices) for q in questions])
        beyond = np.arange(table.shape[1]) >= counts[:, None]
        assert np.isneginf(table[beyond]).all() and np.isfinite(table[~beyond]).all()
        assert np.allclose(np.exp(table).sum(1), 1)


@pytest.fixture(scope="module")
def rows():
    return made_up(300), made_up(60, seed=1)


@pytest.fixture(scope="module")
def prior(rows):
    return fit_prior(*rows)


def test_learns_what_texts_tell(prior, rows):
    train, test = rows
    check_tables(prior, train, test)
    assert prior.accuracy.n == 300 and prior.accuracy.value > 0.65 and not prior.note
    answers = np.array([q.answer for q in test])
    assert (prior.test_logprobs.argmax(1) == answers).mean() > 0.6


def test_no_row_helps_to_predict_itself():
    """Random answers cannot be guessed; a leak of the row's own answer would show as accuracy above chance."""
    train = made_up(400, tell=0.0)
    prior = fit_prior(train, [])
    check_tables(prior, train, [])
    assert abs(prior.accuracy.value - chance(train)) < 4 * prior.accuracy.standard_error


def test_copies_of_a_row_help_only_without_groups():
    """Each row three times, answers at random: guessed if copies are in training, at chance if grouped."""
    train = [Question(f"{k}-{q.id}", q.image, q.text, q.choices, q.answer) for q in made_up(80, tell=0.0) for k in range(3)]
    alone = fit_prior(train, [])
    grouped = fit_prior(train, [], groups=np.repeat(np.arange(80), 3))
    assert alone.accuracy.value > 0.9
    assert abs(grouped.accuracy.value - chance(train)) < 0.15


def test_deterministic(rows, prior):
    again = fit_prior(*rows)
    assert np.array_equal(again.oof_logprobs, prior.oof_logprobs)
    assert np.array_equal(again.test_logprobs, prior.test_logprobs)


@pytest.mark.parametrize("n", [0, 1, 8])
def test_too_few_rows_are_said_and_taken_as_even(n):
    train, test = made_up(n), made_up(3, seed=1)
    prior = fit_prior(train, test)
    check_tables(prior, train, test)
    assert np.allclose(np.exp(prior.test_logprobs[0, : len(test[0].choices)]), 1 / len(test[0].choices))
    assert "too few" in prior.note and prior.accuracy.n == 0


def test_too_few_rows_do_not_answer_a_everywhere():
    train, test = made_up(8), [Question(f"test_{i}", "", "?", ("x", "y", "z", "w")) for i in range(400)]
    counts = np.bincount(fit_prior(train, test).test_logprobs.argmax(1), minlength=4)
    assert (counts > 60).all()
    stored = fit_prior(train, test).test_logprobs.astype(np.float32)  # as score files hold it
    assert (np.bincount(stored.argmax(1), minlength=4) == counts).all()
    assert (fit_prior(train, test[::-1]).test_logprobs.argmax(1)[::-1] == stored.argmax(1)).all()  # the id decides, not the row


def test_the_error_is_clustered_by_photograph():
    train = [Question(f"{k}-{q.id}", q.image, q.text, q.choices, q.answer) for q in made_up(80) for k in range(3)]
    alone, grouped = fit_prior(made_up(80), []), fit_prior(train, [], groups=np.repeat(np.arange(80), 3))
    assert grouped.accuracy.groups == 80
    assert grouped.accuracy.standard_error == pytest.approx(alone.accuracy.standard_error, rel=0.2)


def test_one_image_only_is_too_few_groups():
    train = made_up(40)
    assert fit_prior(train, [], groups=np.zeros(40)).note


def test_answered_rows_of_one_image_only():
    unanswered = [Question(str(i), f"{i}.jpg", "?", ("x", "y")) for i in range(20)]
    train = made_up(40) + unanswered
    prior = fit_prior(train, [], groups=np.array([0] * 40 + list(range(1, 21))))
    check_tables(prior, train, [])


def test_odd_rows_are_no_obstacle():
    """One letter always right, equal ids, empty and equal choices, unanswered rows, 26 choices."""
    odd = [
        Question("same", "x.jpg", "", ("", ""), 0),
        Question("same", "x.jpg", "\n?", ("가", "가", "가"), 0),
        Question("same", "y.jpg", "Which?", tuple("abcdefghijklmnopqrstuvwxyz"), 0),
        Question("same", "z.jpg", "Which?", ("1", "2"), None),
    ]
    train = odd * MIN_PRIOR_ROWS
    prior = fit_prior(train, odd)
    check_tables(prior, train, odd)
    assert prior.accuracy.n == 3 * MIN_PRIOR_ROWS and prior.accuracy.value > chance(train)
