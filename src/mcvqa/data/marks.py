"""Answers as marks, one column for each choice: one-hot (0 1 0 0, X O X X), or votes that were counted (3 0 1 0)."""
from collections.abc import Sequence
from dataclasses import replace

from mcvqa.data.answers import LETTERS
from mcvqa.data.table import Cells


def answers_of_marks(table: Cells, positions: Sequence[int], marks: Sequence[Sequence[int]], *, alone: bool) -> Cells:
    """The table with letters in place of the marks: in one column "answer", or of votes in answer1, answer2, ...

    Args:
        positions: of the columns with marks, in the order of the choices.
        marks: what they hold, for each row.
        alone: there is no other column of answers.
    """
    letters = [[letter for letter, count in zip(LETTERS, row, strict=False) for _ in range(count)] for row in marks]
    most = max(map(len, letters))
    names = ["answer"] if most == 1 and alone else [f"answer{i}" for i in range(1, most + 1)]
    kept = [i for i in range(len(table.header)) if i not in positions]
    shown = f"{table.header[positions[0]]} to {table.header[positions[-1]]}"
    return replace(
        table,
        header=[*(table.header[i] for i in kept), *names],
        records=[
            [*(cells[i] for i in kept), *row, *[""] * (most - len(row))]
            for cells, row in zip(table.records, letters, strict=True)
        ],
        read_as=f"{table.read_as}, answers by the marks in {shown}",
    )
