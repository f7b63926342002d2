"""Agreement of annotators: Fleiss' kappa against the published example and cases that can be counted by hand."""
import numpy as np
import pytest

from mcvqa.data.agreement import agreements_of, fleiss_kappa
from mcvqa.data.questions import read_questions

# Fleiss (1971), as Wikipedia's article on the kappa works it out: 14 raters, 10 subjects, 5 categories, kappa 0.210
PUBLISHED = [
    (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
    (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
]


def drawn(n: int, sizes: list[int], agree: float, raters: list[int], seed: int = 0) -> list[tuple[int, ...]]:
    """Votes of annotators who know the answer with probability `agree` and guess otherwise."""
    random = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        size, count = sizes[i % len(sizes)], raters[i % len(raters)]
        said = np.where(random.random(count) < agree, random.integers(size), random.integers(size, size=count))
        rows.append(tuple(np.bincount(said, minlength=size).tolist()))
    return rows


def test_the_published_example():
    kappa, error = fleiss_kappa(PUBLISHED, np.arange(10))
    assert kappa == pytest.approx(0.2099, abs=5e-5) and 0.03 < error < 0.2


def test_rows_with_fewer_than_two_votes_say_nothing():
    kappa = fleiss_kappa(PUBLISHED, np.arange(10))[0]
    assert fleiss_kappa([*PUBLISHED, (1, 0, 0, 0, 0), (0, 0, 0, 0, 0)], np.arange(12))[0] == kappa
    assert all(map(np.isnan, fleiss_kappa([(1, 0), (0, 1)], np.arange(2))))


def test_all_agree_and_all_for_one_choice():
    assert fleiss_kappa([(3, 0), (0, 3), (3, 0)], np.arange(3))[0] == 1
    assert np.isnan(fleiss_kappa([(3, 0), (3, 0)], np.arange(2))[0]), "there is nothing to agree on"
    assert np.isnan(fleiss_kappa(PUBLISHED, np.zeros(10))[1]), "one photograph has no error"


@pytest.mark.parametrize(("agree", "raters"), [(0.0, [5]), (0.6, [5]), (0.6, [2, 5, 7])])
def test_numbers_of_votes_and_choices_may_differ(agree, raters):
    """Two annotators both know the answer in agree² of the rows: that is what they agree in beyond chance. Were chance the
    same in all rows, those of two choices would pass for agreement where all guess."""
    kappa, error = fleiss_kappa(drawn(3000, [2, 4], agree, raters), np.arange(3000))
    assert abs(kappa - agree**2) < 3.5 * error and error < 0.02


def test_the_error_is_by_photograph():
    rows = drawn(200, [4], 0.5, [5])
    kappa, error = fleiss_kappa(rows, np.arange(200))
    again = fleiss_kappa([row for row in rows for _ in range(3)], np.arange(600) // 3)
    assert again == pytest.approx((kappa, error)), "three copies of a row tell nothing new"
    spread = np.std([fleiss_kappa(drawn(200, [4], 0.5, [5], seed), np.arange(200))[0] for seed in range(1, 121)])
    assert error == pytest.approx(spread, rel=0.25)


def test_of_a_file_with_ties_and_missing_votes(tmp_path):
    rows = [("a", "a", "a"), ("a", "a", "b"), ("b", "b", ""), ("a", "b", ""), ("", "", ""), ("c", "c", "c")]
    lines = [f"{i},{i}.jpg,?,x,y,z,{','.join(votes)}" for i, votes in enumerate(rows)]
    lines.insert(0, "id,path,question,a,b,c,answer1,answer2,answer3")
    (tmp_path / "dev.csv").write_text("\n".join(lines))
    plain = tmp_path / "train.csv"
    plain.write_text("id,path,question,a,b,answer\n1,1.jpg,?,x,y,a\n")
    (found,) = agreements_of([read_questions(plain), read_questions(tmp_path / "dev.csv")], {})
    assert found.file == "dev.csv" and found.rows == {(3, 3, False): 2, (3, 2, False): 1, (2, 2, False): 1, (2, 1, True): 1}
    first, second = found.lines()
    assert first.startswith("Votes       dev.csv: 5 rows, votes a row: 2 to 3; Fleiss' kappa 0.") and " ± 0." in first
    assert second.endswith("3: 40.0%   2: 40.0%   tied: 20.0% (votes.csv)")
