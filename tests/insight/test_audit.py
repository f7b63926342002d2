"""The audit: ranked, with the precision to expect, and said in few lines."""
import numpy as np
import pytest

from mcvqa.data.questions import Question
from mcvqa.insight.audit import WORTH_A_LOOK, audit_labels, spell_audit, write_audit
from mcvqa.insight.label_noise import LabelNoise

WRONG = np.array([0.02, 0.9, np.nan, 0.4, 0.7])
ROWS = [Question(f"r{i}", "a.png", "What\ncolor?", ("red", "green", "blue"), None if i == 2 else 0) for i in range(5)]
NOISE = LabelNoise(WRONG, WRONG, np.array([1, 2, 0, 1, 1]), 0.1, np.ones(2))


def test_the_most_probably_wrong_label_comes_first():
    audit = audit_labels(ROWS, NOISE, 4)
    assert [(one.question.id, one.proposed, one.probability) for one in audit.proposals] == [
        ("r1", 2, 0.9), ("r4", 1, 0.7), ("r3", 1, 0.4)]
    assert WRONG[0] < WORTH_A_LOOK and audit.rows == 4 and audit.n_members == 2
    assert audit.expected == pytest.approx(2.02)
    assert audit.expected_precision(1) == 0.9 and audit.expected_precision(2) == pytest.approx(0.8)


def test_it_is_said_and_written(tmp_path):
    audit = audit_labels(ROWS, NOISE, 4)
    said = spell_audit(audit)
    assert "4 labels judged by models that never saw them, in 4 views" in said and "by 2 members" in said
    assert "expected to be wrong: 2 (50.5%)" in said and "expected precision: 67% of the first 3" in said
    assert "   90%  r1: 'red' -> 'blue'   What\\ncolor?" in said.splitlines()
    assert "(3 rows)" in write_audit(audit, tmp_path / "fixes.csv") and (tmp_path / "fixes.csv").exists()


def test_clean_labels_give_an_empty_file(tmp_path):
    audit = audit_labels(ROWS[:1], LabelNoise(WRONG[:1], WRONG[:1], np.array([1]), 0.01, np.ones(1)), 1)
    assert "no label needs a second look" in spell_audit(audit) and "(0 rows)" in write_audit(audit, tmp_path / "fixes.csv")
