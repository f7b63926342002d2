"""Evidence and audit of a real run, and the labels that a person has decided on in the next one."""
import contextlib
import csv
import dataclasses
import html
import io
import json
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from mcvqa import run
from mcvqa.base.files import read_json, write_json
from mcvqa.cli import app
from mcvqa.config import Config, ConfigError
from mcvqa.data.fixes import FIXES_HEADER, read_decisions
from mcvqa.data.table import DataError
from mcvqa.insight.evidence import COLUMNS
from mcvqa.report.content import DataFindings
from mcvqa.run.dataset import read_data
from mcvqa.run.exploration import data_findings, look_alike_groups
from mcvqa.run.explorer import explorer_beside_report
from mcvqa.run.folds import split_rows
from mcvqa.run.insights import noise_of_run
from mcvqa.run.project import RunStopped, open_project
from mcvqa.run.single import audit_only, explorer_only, predict_only, report_only
from mcvqa.scoring.scores import load_scores, log_softmax, plain_scores
from tests.conftest import make_dataset, tiny_settings


def said_by(step, *args):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        result = step(*args)
    return result, said.getvalue()


def rows_of(file: Path) -> list[dict[str, str]]:
    with open(file, newline="", encoding="utf-8-sig") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two folds with two option orders; one training photograph is missing, two ask the same of one photograph."""
    top = tmp_path_factory.mktemp("insight")
    data = make_dataset(top / "data")
    (data / "train" / "train_0003.jpg").unlink()
    lines = (data / "train.csv").read_text(encoding="utf-8").splitlines()
    cells = lines[1].split(",")
    other = next(letter for letter in "abcd" if letter != cells[-1])
    lines.append(",".join(["twin", *cells[1:-1], other]))
    (data / "train.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = tiny_settings(top / "out", data_dir=str(data), n_folds=2, run_name="r", use_tta=True, tta_orders=2)
    outcome, said = said_by(run, config)
    return SimpleNamespace(config=config, outcome=outcome, said=said, top=top, folder=top / "out" / "experiments" / "r")


@pytest.fixture
def copied(trained, tmp_path) -> Config:
    shutil.copytree(trained.top / "out", tmp_path / "out")
    return trained.config.replace(output_dir=str(tmp_path / "out"))


# %% the report
def test_the_report_gives_each_error_the_reason_that_the_evidence_has(trained):
    """Errors and tags are of the same scores, in both reports."""
    labelled = [row for row in rows_of(trained.folder / "evidence.csv") if row["truth"] and row["said"]]
    wrong = {row["id"]: row for row in labelled if row["said"] != row["truth"]}
    markdown, page = ((trained.folder / name).read_text("utf-8") for name in ("REPORT.md", "report.html"))
    errors = trained.outcome.metrics.errors
    assert {e.id for e in errors} == set(wrong) and f"{len(wrong)} of {len(wrong)} wrong answers" in page
    cards = page.split('<article class="card">')[1:]
    assert len(cards) == len(errors)
    for error, card in zip(errors, cards, strict=True):
        assert error.id in card and (html.escape(wrong[error.id]["reason"], quote=False) in html.unescape(card))
        assert ('class="tag"' in card) is bool(wrong[error.id]["tag"])
    assert 'id="data"' in page and "Kinds of questions" in page and "eda/kinds.png" in markdown
    assert all((trained.folder / name).is_file() for name in re.findall(r"\((errors/.*?)\)", markdown))


def test_tables_and_figures_of_other_data_are_not_in_the_report(copied):
    project = open_project(copied)
    data = split_rows(read_data(project), copied)
    assert data_findings(project, data).figures
    assert data_findings(project, dataclasses.replace(data, train_print="other")) == DataFindings()


def test_an_explorer_of_earlier_scores_is_not_linked(copied):
    project = open_project(copied)
    data, page = split_rows(read_data(project), copied), project.paths.experiment / "explore.html"
    page.write_text("left by somebody")
    assert explorer_beside_report(project, data) == ""
    explorer_only(copied)
    assert explorer_beside_report(project, data) == "explore.html"
    for scores in project.paths.scores.glob("*.npz"):
        os.utime(scores, (page.stat().st_mtime + 9,) * 2)
    assert explorer_beside_report(project, data) == "explore.html", "dates say nothing: a copied folder has other ones"
    fold = project.records.file("score fold 0 oof")
    write_json(fold, read_json(fold) | {"made": {"scores": "of other weights"}})
    assert explorer_beside_report(project, data) == ""


def test_look_alikes_of_both_splits_come_first(copied):
    project = open_project(copied)
    data = split_rows(read_data(project), copied)
    first, second, third, tested = (data.train[0].image, data.train[4].image, data.train[8].image, data.test[0].image)
    alike = {**data.image_groups, first: 901, second: 901, third: 902, tested: 902}
    groups = look_alike_groups(dataclasses.replace(data, image_groups=alike))
    assert [[one.image for one in group] for group in groups[:2]] == [[third, tested], [first, second]]


# %% evidence
def test_every_run_leaves_evidence_of_every_row(trained):
    rows = rows_of(trained.folder / "evidence.csv")
    assert tuple(rows[0]) == COLUMNS and [row["split"] for row in rows] == ["train"] * 25 + ["test"] * 9
    assert "evidence.csv: 34 rows; unreadable photograph 1" in trained.said
    stored = {row["id"]: row for row in rows_of(trained.folder / "oof_predictions.csv")}
    folds = {row["id"]: row["fold"] for row in rows_of(trained.folder / "folds.csv")}
    for row in rows[:25]:
        if row["tag"] == "unreadable photograph":
            assert row["id"] == "train_0003" and row["said"] == row["label_wrong"] == row["fold"] == ""
            continue
        assert row["said"] == stored[row["id"]]["answer"] and row["truth"] == stored[row["id"]]["truth"]
        assert row["fold"] == folds[row["id"]] and row["kind"] == "color" and row["source"] == "train"
        assert 0 <= float(row["label_wrong"]) <= 1 and row["proposed"] != row["truth"]
        assert float(row["order_agreement"]) in (0.0, 0.5, 1.0) and row["scale_agreement"] == row["member_agreement"] == ""
        assert int(row["rank_of_truth"]) == 1 if row["said"] == row["truth"] else int(row["rank_of_truth"]) > 1
    answered = {row["id"]: row["answer"] for row in rows_of(trained.folder / "test_predictions.csv")}
    for row in rows[25:]:
        assert row["said"] == answered[row["id"]] and row["truth"] == row["label_wrong"] == row["rank_of_truth"] == ""
        assert float(row["fold_agreement"]) in (0.0, 0.5, 1.0)


def test_the_same_question_about_the_same_photograph_is_seen(trained):
    rows = {row["id"]: row for row in rows_of(trained.folder / "evidence.csv")}
    twin = rows["twin"]
    assert twin["look_alikes"] == f"train_0000: {rows['train_0000']['truth_text']}" and twin["look_alikes_count"] == "1"
    assert twin["tag"] in ("label probably wrong", "order-sensitive", "ambiguous")


def test_the_report_writes_it_again_and_is_not_stopped_by_it(copied):
    file = Path(copied.output_dir) / "experiments" / "r" / "evidence.csv"
    before = file.read_bytes()
    file.write_text("old")
    said_by(report_only, copied)
    assert file.read_bytes() == before
    file.unlink()
    file.mkdir()
    outcome, said = said_by(report_only, copied)
    assert "evidence.csv could not be made, continuing without it" in said and outcome.report.exists()


# %% the explorer
def shown_in(page: Path) -> dict:
    found = re.search('<script type="application/json" id="data">(.*?)</script>', page.read_text(encoding="utf-8"))
    return json.loads(found[1])


def test_the_explorer_shows_the_evidence_of_every_row(trained, tmp_path):
    page = tmp_path / "page.html"
    assert f"written: {page} (34 rows" in explorer_only(trained.config, None, page)
    data, evidence = shown_in(page), rows_of(trained.folder / "evidence.csv")
    assert [row["id"] for row in data["rows"]] == [row["id"] for row in evidence]
    for shown, known in zip(data["rows"], evidence, strict=True):
        assert shown.get("tag", "") == known["tag"] and shown["split"] == known["split"] and shown["kind"] == known["kind"]
        assert shown.get("reason", {}).get("en", "") == known["reason"]
        for name in ("truth", "said", "proposed"):
            assert ("abcd"[shown[name]] if name in shown else "") == known[name]
        for name, share in (("margin", "margin"), ("label_wrong", "label_wrong"), ("order_agreement", "order_agreement")):
            assert shown.get(name) == pytest.approx(float(known[share]), abs=1e-3) if known[share] else name not in shown
        assert ("photo" in shown) == (shown["id"] != "train_0003"), "whose photograph is missing"
    twins = [row["photo"] for row in data["rows"] if row["id"] in ("train_0000", "twin")]
    assert len(twins) == 2 and len(set(twins)) == 1, "the photograph is stored once"
    right = sum(row.get("said") == row.get("truth") for row in data["rows"] if row["split"] == "train" and "said" in row)
    assert data["runs"][0]["accuracy"].startswith(f"{right / 24:.3f}") and "n=24" in data["runs"][0]["accuracy"]


def test_the_explorer_shows_nothing_of_other_weights_or_data(copied, tmp_path):
    out, folder = tmp_path / "page.html", Path(copied.output_dir)
    data = shutil.copytree(copied.data_dir, tmp_path / "data")
    (data / "train.csv").write_text((data / "train.csv").read_text(encoding="utf-8").replace("색은", "색이"), encoding="utf-8")
    with pytest.raises(ConfigError, match="was trained on different data"):
        explorer_only(copied.replace(data_dir=str(data)), None, out)
    for file in (folder / "experiments/r/scores").glob("fold1-oof.npz"):
        file.unlink()
    with pytest.raises(RunStopped, match="mcvqa predict r"):
        explorer_only(copied, None, out)
    assert not out.exists() and (folder / "experiments/r/evidence.csv").exists()


def test_mistakes_about_one_photograph_are_judged_together(trained):
    """Whatever the order of the scored rows; four of 25 rows are answered wrong with confidence."""
    data = split_rows(read_data(open_project(trained.config)), trained.config)
    answers = {q.id: q.answer for q in data.train}
    ids = np.array(sorted(answers, reverse=True))
    logits = np.zeros((len(ids), 4))
    mistaken = np.arange(4)
    logits[np.arange(len(ids)), [(answers[name] + (i in mistaken)) % 4 for i, name in enumerate(ids.tolist())]] = 9
    scores = plain_scores(ids, log_softmax(logits).astype(np.float32), np.full(len(ids), 4), {})
    together = np.array([0 if q.id in ids[mistaken] else 1 + i for i, q in enumerate(data.train)])
    apart, shared = (
        noise_of_run(dataclasses.replace(data, groups=groups), [scores]).wrong for groups in (np.arange(len(ids)), together)
    )
    assert apart[mistaken].min() > 0.8 and shared[mistaken].max() < 0.5


def test_a_folder_that_has_the_name_of_the_page_is_one_message(trained, tmp_path):
    shown = CliRunner().invoke(app, ["explore", str(trained.folder), "--out", str(tmp_path)])
    assert shown.exit_code == 1 and isinstance(shown.exception, SystemExit), "no traceback"
    assert re.search(r"^error: .*A file is needed there, but a folder has its name", shown.output, re.M), shown.output


def test_two_runs_are_explored_together_and_one_not_beside_itself(trained, copied, tmp_path):
    with pytest.raises(RunStopped, match="with itself"):
        explorer_only(trained.config, trained.config)
    explorer_only(copied, trained.config, tmp_path / "both.html")
    rows = shown_in(tmp_path / "both.html")["rows"]
    assert all(row["other"]["shares"] == row["shares"] for row in rows if "said" in row)


# %% the audit, and the next run
@pytest.fixture(scope="module")
def audited(trained):
    file = trained.top / "fixes.csv"
    said = audit_only(trained.config, file)
    return SimpleNamespace(file=file, said=said, rows=rows_of(file))


def test_the_audit_proposes_and_decides_nothing(trained, audited):
    assert tuple(audited.rows[0]) == FIXES_HEADER and {row["decision"] for row in audited.rows} == {""}
    shares = [float(row["probability"]) for row in audited.rows]
    assert shares == sorted(shares, reverse=True)
    assert "24 labels judged by models that never saw them, in 2 views" in audited.said
    assert f"of the first {len(shares)}" in audited.said and audited.rows[0]["id"] in audited.said
    data = read_data(open_project(trained.config.replace(fixes=str(audited.file))))
    assert [q.answer for q in data.train] == [q.answer for q in read_data(open_project(trained.config)).train]


def decided(trained, file: Path, encoding: str = "utf-8", delimiter: str = ",") -> tuple[str, str, str]:
    """A file as a person has saved it: the first row fixed, the second dropped, the third kept, two left open; their ids."""
    questions = read_data(open_project(trained.config)).train[4:9]
    words = ("Fix ", "drop", "KEEP", "", "")
    with open(file, "w", newline="", encoding=encoding) as handle:
        writer = csv.writer(handle, delimiter=delimiter, lineterminator="\r\n")
        writer.writerow(FIXES_HEADER)
        for q, word in zip(questions, words, strict=True):
            other = (q.answer + 1) % 4
            texts = (q.choices[q.answer], q.choices[other], q.image, q.text)
            writer.writerow([q.id, "abcd"[q.answer], "ABCD"[other], word, "0.5", *texts])
    return tuple(q.id for q in questions[:3])


@pytest.mark.parametrize(("encoding", "delimiter"), [("utf-8-sig", ","), ("cp949", ","), ("utf-16", "\t"), ("utf-8", ";")])
def test_decisions_are_read_as_a_spreadsheet_saves_them(trained, tmp_path, encoding, delimiter):
    fixed, dropped, kept = decided(trained, tmp_path / "mine.csv", encoding, delimiter)
    before = {q.id: q for q in read_data(open_project(trained.config)).train}
    data = read_data(open_project(trained.config.replace(fixes=str(tmp_path / "mine.csv"), run_name="")))
    after = {q.id: q for q in data.train}
    assert set(before) - set(after) == {dropped} and after[kept] == before[kept]
    assert after[fixed].answer == (before[fixed].answer + 1) % 4 and data.before == {fixed: before[fixed].answer}
    assert data.train_print != read_data(open_project(trained.config)).train_print
    assert "mine.csv: 1 label fixed, 1 row dropped, 1 kept; 2 rows are undecided and unchanged" in data.notes


def test_a_file_with_decisions_is_not_overwritten(trained, tmp_path):
    decided(trained, tmp_path / "mine.csv")
    with pytest.raises(DataError, match="contains 3 decisions made by a person and is not overwritten"):
        audit_only(trained.config, tmp_path / "mine.csv")


@pytest.mark.nightly
def test_the_next_run_learns_from_fixed_labels_and_says_how_accurate_it_is_without_them(trained, tmp_path):
    decided(trained, tmp_path / "mine.csv")
    config = trained.config.replace(fixes=str(tmp_path / "mine.csv"), run_name="", use_tta=False)
    outcome, said = said_by(run, config)
    report = (outcome.report.parent / "REPORT.md").read_text(encoding="utf-8")
    for message in ("mine.csv: 1 label fixed, 1 row dropped, 1 kept", "labels fixed: 1. Out-of-fold accuracy on",
                 "the original labels: ", "rows whose label was not changed: "):
        assert message in report
    assert "(n=23)" in report and "(n=22)" in report, "without the dropped row, and without the fixed one"
    assert outcome.run != "r" and "mine.csv: 1 label fixed" in said
    fixed, dropped, kept = (one.id for one in read_decisions(tmp_path / "mine.csv")[:3])
    explorer_only(config, trained.config, tmp_path / "page.html")
    shown = shown_in(tmp_path / "page.html")
    relabelled = next(row for row in shown["rows"] if row["id"] == fixed)
    assert relabelled["truth"] == (relabelled["file_label"] + 1) % 4 and shown["other_labels"] == shown["only_second"] == 1
    assert shown["decided"] == {fixed: ["fix", relabelled["truth"]], kept: ["keep", None]} and shown["dropped"][0][0] == dropped
    assert "and 3 earlier decisions)" in audit_only(config, tmp_path / "next.csv")
    rows = rows_of(tmp_path / "next.csv")
    words = [(row["id"], row["decision"]) for row in rows if row["decision"]]
    assert words == [(fixed, "fix"), (dropped, "drop"), (kept, "keep")]
    assert len({row["id"] for row in rows}) == len(rows), "nothing that was decided on is proposed again"
    again = read_data(open_project(config.replace(fixes=str(tmp_path / "next.csv"))))
    assert again.train_print == read_data(open_project(config)).train_print, "the new file replaces the old one"


def test_other_labels_are_no_continuation_of_the_same_run(trained, tmp_path):
    decided(trained, tmp_path / "mine.csv")
    with pytest.raises(ConfigError, match="fixes: was '', now"):
        run(trained.config.replace(fixes=str(tmp_path / "mine.csv")))


# %% rows that were learned from
def test_full_evidence_asks_each_fold_what_it_has_learned_and_changes_no_accuracy(trained, copied):
    full = copied.replace(evidence="full")
    predict_only(full)
    outcome, _ = said_by(report_only, full)
    assert outcome.accuracy == trained.outcome.accuracy
    folder = Path(full.output_dir) / "experiments/r"
    rows = {row["id"]: row for row in rows_of(folder / "evidence.csv")}
    folds = {row["id"]: int(row["fold"]) for row in rows_of(folder / "folds.csv")}
    scores = {fold: load_scores(folder / f"scores/fold{fold}-train.npz") for fold in (0, 1)}
    for fold in (0, 1):
        assert set(scores[fold].ids.tolist()) == {name for name, of_row in folds.items() if of_row == 1 - fold}
    for name, fold in folds.items():
        if fold < 0:  # its photograph is missing
            assert rows[name]["learned_of_truth"] == ""
            continue
        (logprobs,) = scores[1 - fold].of_ids(np.array([name])).mean()
        row = rows[name]
        assert row["learned_said"] == "abcd"[logprobs.argmax()]
        assert float(row["learned_of_truth"]) == pytest.approx(np.exp(logprobs["abcd".index(row["truth"])]), rel=1e-3)
        assert row["tag"] != "never learned" or row["learned_said"] != row["truth"]
    assert rows["test_0000"]["learned_said"] == ""
    said_by(report_only, copied)
    assert {row["learned_said"] for row in rows_of(folder / "evidence.csv")} == {""}, "what is not asked for is not read"
