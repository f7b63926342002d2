"""The search with Optuna: every trial is kept, the best can be used, and a search that was cut off goes on."""
import sys

import pytest

from mcvqa.base.files import RunLog, read_json
from mcvqa.config import load_config
from mcvqa.run.project import RunStopped, open_project
from mcvqa.run.search import search_settings
from tests.conftest import tiny_settings

optuna = pytest.importorskip("optuna")


def trained_steps(config) -> list[int]:
    return [len(RunLog(log).events("step")) for log in sorted((open_project(config).paths.root / "logs").glob("s-trial*.jsonl"))]


@pytest.mark.nightly
def test_trials_are_runs_and_the_best_becomes_a_configuration(dataset, tmp_path, capsys):
    config = tiny_settings(tmp_path, data_dir=str(dataset), n_folds=2, run_name="s")
    best = search_settings(config, 2)
    folder = tmp_path / "experiments" / "s-search"
    trials = read_json(folder / "trials.json")
    assert len(trials) == 2 and trials[0] == best and trials[0]["accuracy"] >= trials[1]["accuracy"]
    assert trials[0]["learning_rate"] != trials[1]["learning_rate"]
    for trial in trials:
        assert trial["lora_alpha"] == 2 * trial["lora_r"]
        used = load_config(tmp_path / "experiments" / trial["run"] / "config.yaml")
        assert all(getattr(used, name) == value for name, value in trial.items() if hasattr(used, name) and name != "run")
        result = read_json(tmp_path / "checkpoints" / trial["run"] / "fold0" / "result.json")
        assert result["accuracy"][0] / result["accuracy"][1] == trial["accuracy"] and result["accuracy"][1] == 12
    chosen = load_config(folder / "best.yaml")
    assert (chosen.learning_rate, chosen.lora_r, chosen.model_id) == (best["learning_rate"], best["lora_r"], "tiny")
    assert chosen.run not in (config.run, best["run"]), "it is trained on all folds under a name of its own"
    assert "best.yaml" in capsys.readouterr().out
    assert trained_steps(config) == [2, 2]
    assert search_settings(config, 3)["accuracy"] >= best["accuracy"]
    assert trained_steps(config) == [2, 2, 2], "the first two were there already"
    assert [t for t in read_json(folder / "trials.json") if t["run"] == best["run"]] == [best]


def test_without_optuna_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(RunStopped, match=r"pip install 'mcvqa\[search\]'"):
        search_settings(tiny_settings(tmp_path), 1)
