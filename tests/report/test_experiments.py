"""The index is made from real run folders, damaged ones among them."""
import dataclasses
import json

import pytest

from mcvqa.base.uncertainty import Accuracy
from mcvqa.config import Config
from mcvqa.report.experiments import list_experiments, read_experiments, record_experiment, update_index
from mcvqa.report.metrics import Selection


@pytest.fixture
def experiments(metrics, tmp_path):
    """Two finished runs, a failed one, an unfinished one, an unreadable one and a folder that is no run."""

    def start(run: str, **settings):
        (tmp_path / run).mkdir()
        (tmp_path / run / "config.yaml").write_text(Config(**settings).to_yaml(), encoding="utf-8")
        return tmp_path / run

    def with_right(right: int):
        return dataclasses.replace(metrics, overall=dataclasses.replace(metrics.overall, accuracy=Accuracy(right, 120)))

    worse = start("a worse", model_id="tiny", num_epochs=3)
    record_experiment(worse, status="finished", seconds=90, metrics=with_right(70))
    record_experiment(start("better"), status="finished", seconds=7500, metrics=with_right(100))
    (tmp_path / "better" / "REPORT.md").write_text("# better")
    record_experiment(start("failed"), status="failed", seconds=3, note="the photographs are missing")
    start("just started", use_ema=False)
    (start("torn") / "metrics.json").write_text('{"status": "fin')
    (tmp_path / "notes").mkdir()
    return tmp_path


def test_the_best_come_first_and_no_run_is_lost(experiments) -> None:
    found = [(e.run, e.status) for e in read_experiments(experiments)]
    assert found == [
        ("better", "finished"), ("a worse", "finished"),
        ("failed", "failed"), ("just started", "unfinished"), ("torn", "unreadable"),
    ]


def test_a_run_is_read_as_it_was_recorded(experiments, metrics) -> None:
    worse = read_experiments(experiments)[1]
    assert worse.accuracy == Accuracy(70, 120)
    assert worse.blind == metrics.overall.blind
    assert (worse.model, worse.settings, worse.seconds) == ("tiny", {"num_epochs": 3}, 90)


def test_clustered_errors_are_read_back_and_older_records_too(metrics, tmp_path) -> None:
    clustered = Accuracy(90, 120, 1.8, 40)
    overall = dataclasses.replace(metrics.overall, accuracy=clustered, blind=Accuracy(50, 120))
    found = dataclasses.replace(metrics, overall=overall)
    record_experiment(tmp_path / "new", status="finished", seconds=1, metrics=found)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "metrics.json").write_text(
        '{"status": "finished", "note": "", "date": "", "seconds": 1, '
        '"metrics": {"overall": {"accuracy": {"right": 2, "n": 4}}}}'
    )
    new, old = read_experiments(tmp_path)
    assert (new.accuracy, new.blind, old.accuracy) == (clustered, Accuracy(50, 120), Accuracy(2, 4))


def test_the_luck_of_the_best_epoch_is_in_the_index(metrics, tmp_path) -> None:
    chosen = dataclasses.replace(metrics, selection=Selection(5, 0.022))
    record_experiment(tmp_path / "best", status="finished", seconds=1, metrics=chosen)
    record_experiment(tmp_path / "last", status="finished", seconds=1, metrics=metrics)
    assert "(n=120), about 2.2 points too high |" in update_index(tmp_path).read_text("utf-8")
    assert list_experiments(tmp_path).count("too high") == 1


def test_the_index_links_reports_and_names_failures(experiments) -> None:
    path = update_index(experiments)
    text = path.read_text("utf-8")
    assert path == experiments / "README.md"
    assert "[better](better/REPORT.md) | 0.833 ± 0.034 (n=120)" in text
    assert "| a worse | 0.583" in text  # it has no report to link
    assert "num\\_epochs=3 | 1 min 30 s" in text
    assert "failed: the photographs are missing" in text
    assert text.index("better") < text.index("a worse") < text.index("Without a result") < text.index("torn")


def test_writing_the_index_again_changes_nothing(experiments) -> None:
    first = update_index(experiments).read_text("utf-8")
    assert update_index(experiments).read_text("utf-8") == first


def test_the_terminal_lists_every_run_whole_within_its_width(experiments, metrics, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    many = {"model_id": "somebody/a-model", "user_prompt": "{question}\n{options}", "num_epochs": 3, "n_folds": 7, "seed": 5}
    folder = experiments / "much changed"
    record_experiment(folder, status="finished", seconds=90, metrics=metrics)
    (folder / "config.yaml").write_text(json.dumps(many), encoding="utf-8")
    lines = list_experiments(experiments).splitlines()
    names = [line for line in lines if not line.startswith(" ")]
    assert sorted(names) == ["a worse", "better", "failed", "just started", "much changed", "torn"]
    about = lines[lines.index("much changed") + 1 :][:4]
    assert max(map(len, about)) <= 60
    assert "texts alone" in about[0] and "somebody/a-model; 1 min 30 s; " in about[1] and "seed=5" in " ".join(about[2:])
    assert "  unfinished: no metrics.json yet" in lines


def test_no_runs_is_no_error(tmp_path) -> None:
    assert "no runs" in list_experiments(tmp_path / "nothing")
    assert "No run has a result yet" in update_index(tmp_path / "new").read_text("utf-8")


@pytest.mark.parametrize(
    "damage",
    ["[]", "null", '{"status": "finished"}', '{"status": 1, "note": 2, "date": 3, "seconds": "x", "metrics": []}'],
)
def test_a_damaged_record_never_takes_the_index_down(tmp_path, damage) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.json").write_text(damage)
    assert read_experiments(tmp_path)[0].status == "unreadable"
    assert "| run |" in update_index(tmp_path).read_text("utf-8")


def test_names_and_notes_are_escaped(metrics, tmp_path) -> None:
    name = "<img src=x onerror=alert(1)>|[x](y)"
    record_experiment(tmp_path / name, status="finished", seconds=1, metrics=metrics, note="")
    (tmp_path / name / "REPORT.md").write_text("")
    record_experiment(tmp_path / "bad", status="failed", seconds=1, note="<script>alert(1)</script>\n# heading")
    text = update_index(tmp_path).read_text("utf-8")
    assert "<" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; \\# heading" in text
    assert "(%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E%7C%5Bx%5D%28y%29/REPORT.md)" in text
