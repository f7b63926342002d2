"""benchmarks/RELIABILITY.md lists all forty faults and names tests that exist."""
import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLE = (ROOT / "benchmarks" / "RELIABILITY.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\d+) \|.*\|$", TABLE, re.MULTILINE)


def test_all_forty_are_listed_with_a_test_or_as_open():
    assert ROWS == [str(n) for n in range(1, 41)]
    for row in re.findall(r"^\| \d+ \|.*$", TABLE, re.MULTILINE):
        assert "::test_" in row or "*Open" in row, row


@pytest.mark.parametrize("file", sorted(set(re.findall(r"`(tests/\S+\.py)::", TABLE))))
def test_each_test_named_there_exists(file):
    body = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
    functions = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    assert set(re.findall(rf"`{re.escape(file)}::(\w+)`", TABLE)) <= functions
