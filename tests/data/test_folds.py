import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcvqa.data.folds import assign_folds, large_group_warning, question_groups, sample_rows
from mcvqa.data.questions import Question

TEXTS = ("무슨 색인가요?", "몇 개인가요?", "이것은 무엇인가요?")
rows_strategy = st.lists(
    st.tuples(st.sampled_from([None, 0, 1, 2, 3]), st.sampled_from(TEXTS), st.integers(0, 12)), min_size=1, max_size=60
)


def make(rows) -> tuple[list[Question], np.ndarray]:
    questions = [
        Question(str(i), f"{group}.jpg", text, ("가", "나", "다", "라"), answer)
        for i, (answer, text, group) in enumerate(rows)
    ]
    return questions, question_groups(questions)


def single_rows(n: int, seed: int = 0) -> tuple[list[Question], np.ndarray]:
    random = np.random.default_rng(seed)
    return make([(int(random.choice(4, p=[0.5, 0.3, 0.15, 0.05])), TEXTS[i % 3], i) for i in range(n)])


# %% invariant 4: no image on both sides of a fold
@settings(deadline=None, max_examples=80)
@given(rows_strategy, st.integers(2, 6), st.integers(0, 5), st.booleans())
def test_groups_stay_together_and_every_fold_has_rows(rows, n_folds, seed, use_kfold):
    questions, groups = make(rows)
    if len(set(groups)) < n_folds:
        with pytest.raises(ValueError, match="smaller n_folds"):
            assign_folds(questions, groups, n_folds, seed, use_kfold)
        return
    folds = assign_folds(questions, groups, n_folds, seed, use_kfold)
    assert all(len(set(folds[groups == g])) == 1 for g in groups)
    assert set(folds) == (set(range(n_folds)) if use_kfold else {-1, 0})
    assert np.array_equal(folds, assign_folds(questions, groups, n_folds, seed, use_kfold))


def test_folds_are_even_and_stratified():
    questions, groups = single_rows(600)
    folds = assign_folds(questions, groups, 3, 42)
    answers = np.array([q.answer for q in questions])
    assert np.ptp(np.bincount(folds)) <= 1
    for answer in range(4):
        for kind in range(3):
            spread = np.bincount(folds[(answers == answer) & (np.arange(600) % 3 == kind)], minlength=3)
            assert np.ptp(spread) <= 2


def test_stratified_with_groups_of_several_rows():
    random = np.random.default_rng(3)
    questions, groups = make([(int(random.integers(4)), TEXTS[i % 3], i // 5) for i in range(900)])
    folds = assign_folds(questions, groups, 3, 42)
    assert np.ptp(np.bincount(folds)) <= 5
    answers = np.array([q.answer for q in questions])
    shares = np.array([np.bincount(answers[folds == f], minlength=4) / (folds == f).sum() for f in range(3)])
    assert np.ptp(shares, axis=0).max() < 0.03


def test_an_answer_rarer_than_the_folds():
    questions, groups = make([(0, TEXTS[2], i) for i in range(30)] + [(1, TEXTS[2], 30), (2, TEXTS[2], 31)])
    folds = assign_folds(questions, groups, 5, 42)
    assert folds[30] != folds[31]
    assert np.ptp(np.bincount(folds)) <= 1


def test_single_split_is_a_share_of_all_parts_of_the_file():
    questions, groups = single_rows(300)
    folds = assign_folds(questions, groups, 5, 42, use_kfold=False)
    validation = np.flatnonzero(folds == 0)
    assert abs(len(validation) - 60) <= 1
    assert np.histogram(validation, 3, (0, 300))[0].min() > 10  # never the file's tail


def test_single_split_is_not_the_one_large_group():
    questions, groups = make([(i % 4, TEXTS[2], 0 if i < 60 else i) for i in range(100)])
    folds = assign_folds(questions, groups, 4, 42, use_kfold=False)
    assert (folds[:60] == -1).all()
    assert 10 <= (folds == 0).sum() <= 30


def test_the_seed_decides():
    questions, groups = single_rows(90)
    assert not np.array_equal(assign_folds(questions, groups, 3, 1), assign_folds(questions, groups, 3, 2))


# %% groups
def test_groups_come_from_look_alike_images_else_from_the_path():
    questions = [Question(str(i), image, "?", ("x", "y")) for i, image in enumerate(["a", "b", "c", "c", "unknown"])]
    groups = question_groups(questions, {"a": 7, "b": 7, "c": 8})
    assert groups[0] == groups[1] != groups[2] == groups[3]
    assert len(set(groups)) == 3


def test_a_group_larger_than_a_fold_is_said():
    assert large_group_warning(np.arange(9), 3) == ""
    assert "5 of 9 rows" in large_group_warning(np.array([4, 4, 4, 4, 4, 1, 2, 3, 5]), 3)


# %% sample
@settings(deadline=None, max_examples=60)
@given(rows_strategy, st.integers(1, 70), st.integers(0, 5))
def test_a_sample_has_the_asked_size_and_no_row_twice(rows, size, seed):
    questions, groups = make(rows)
    sample = sample_rows(questions, groups, size, seed)
    assert len(sample) == min(size, len(questions)) == len(set(sample))
    assert np.array_equal(sample, np.sort(sample))
    assert np.array_equal(sample, sample_rows(questions, groups, size, seed))
    if len(set(groups)) >= size:
        assert len(set(groups[sample])) == len(sample), "different images come first"


def test_a_sample_has_the_shares_of_the_whole():
    questions, groups = single_rows(1000)
    answers = np.array([q.answer for q in questions])
    sample = sample_rows(questions, groups, 200, 42)
    whole = np.bincount(answers, minlength=4) / 5
    assert np.abs(np.bincount(answers[sample], minlength=4) - whole).max() <= 2
