"""Reads answers given as marks, one column per choice: one-hot (0 1 0 0, X O X X), or counts of votes (3 0 1 0)."""
from collections.abc import Sequence
from dataclasses import replace

from mcvqa.data.answers import LETTERS
from mcvqa.data.table import Cells


def answers_of_marks(table: Cells, positions: Sequence[int], marks: Sequence[Sequence[int]], *, alone: bool) -> Cells:
    """Replace marks by letters: in one column "answer", or for votes in answer1, answer2, ...

    Args:
        table: the table.
        positions: columns with marks, in the order of the choices.
        marks: their values, for each row.
        alone: whether there is no other column of answers.
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
