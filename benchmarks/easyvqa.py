"""easy-VQA (Victor Zhou, MIT licence) by the ordinary path: the choices of its files, and all thirteen answers as choices.

    python benchmarks/easyvqa.py --data FOLDER --choices 4  --out OUT   # the rows as they are
    python benchmarks/easyvqa.py --data FOLDER --choices 13 --out OUT   # letters a to m, as in the published results

Writes OUT/data in the competition's format, runs `mcvqa run` on it, and compares the submission with test_answers.csv.
Published for the thirteen answers: 93.8 % (CNN and bag of words, by the data's author) and 98.4 % (pretrained EfficientNet
and DistilBERT).
"""
import argparse
import csv
import shutil
import time
from pathlib import Path

from mcvqa.base.uncertainty import accuracy_of
from mcvqa.config import load_config
from mcvqa.data.answers import LETTERS
from mcvqa.run.dataset import read_data
from mcvqa.run.demo import answers_of_test, read_submission
from mcvqa.run.project import open_project
from mcvqa.run.steps import run
from tiny import EASYVQA_ANSWERS

SETTINGS = dict(
    model_id="tiny", device="cpu", image_size=112, use_kfold=False, use_sample=True, lora_r=16, lora_alpha=32,
    lora_dropout=0.0, batch_size=16, grad_accum_steps=1, eval_batch_size=64, learning_rate=1e-3, num_epochs=2,
)


def rows_of(file: Path) -> list[dict[str, str]]:
    with open(file, encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def write_rows(file: Path, rows: list[dict[str, str]]) -> None:
    with open(file, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def with_all_answers(row: dict[str, str]) -> dict[str, str]:
    """The row with the thirteen answers as choices a to m, in one order for all rows."""
    wide = {name: row[name] for name in ("id", "path", "question")} | dict(zip(LETTERS, EASYVQA_ANSWERS, strict=False))
    return wide | ({"answer": LETTERS[EASYVQA_ANSWERS.index(row[row["answer"]])]} if "answer" in row else {})


def prepare(source: Path, out: Path, choices: int) -> None:
    shutil.copytree(source, out, dirs_exist_ok=True)
    if choices == 13:
        truth = {row["id"]: row["answer"] for row in rows_of(source / "test_answers.csv")}
        test = rows_of(source / "test.csv")
        answers = [with_all_answers(row | {"answer": truth[row["id"]]}) for row in test]
        write_rows(out / "train.csv", [with_all_answers(row) for row in rows_of(source / "train.csv")])
        write_rows(out / "test.csv", [with_all_answers(row) for row in test])
        write_rows(out / "test_answers.csv", [{"id": row["id"], "answer": row["answer"]} for row in answers])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--choices", type=int, choices=(4, 13), required=True)
    parser.add_argument("--rows", type=int, default=4000, help="training rows, of 38,575")
    options = parser.parse_args()
    prepare(options.data, options.out / "data", options.choices)
    config = load_config(changes=SETTINGS | dict(
        data_dir=str(options.out / "data"), output_dir=str(options.out), sample_size=options.rows,
        run_name=f"easyvqa-{options.choices}",
    ))
    started = time.time()
    run(config)
    project = open_project(config)
    seconds = sum(event["seconds"] for event in project.log.events("session"))
    predicted, answers = read_submission(project), answers_of_test(read_data(project))
    wrong = (predicted != answers).sum()
    print(f"\n{options.choices} choices: {accuracy_of(predicted, answers)} on the test rows, {wrong} wrong")
    print(f"all ten steps took {seconds / 60:.1f} min, this call {(time.time() - started) / 60:.1f}")
