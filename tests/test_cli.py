"""The command line, as it is typed."""
import contextlib
import csv
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import mcvqa
import mcvqa.scenes.dataset
from mcvqa.base.files import RunLog, from_spreadsheet_cell, read_json
from mcvqa.cli import app
from mcvqa.config import PRESETS, Config, load_config, parse_changes
from mcvqa.model.device import DeviceError
from mcvqa.run import installation
from tests.conftest import make_dataset, tiny_settings
from tests.faults import small_disk
from tests.run.conftest import blank_each, figures_made_by

COMMANDS = ("run", "demo", "check", "eda", "folds", "train", "predict", "ensemble", "report", "audit", "explore", "validate",
            "presets", "experiments", "models", "search", "answer", "export", "serve",
            "version")


def typed(*words: str, status: int = 0) -> str:
    """What a command prints, to both streams."""
    result = CliRunner().invoke(app, list(words))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception  # a user would see a stack trace
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    """A working directory with data/ and tiny.yaml."""
    folder = tmp_path_factory.mktemp("desk")
    make_dataset(folder / "data")
    settings = tiny_settings(Path(), data_dir="data", n_folds=2, run_name="r")
    (folder / "tiny.yaml").write_text(settings.to_yaml(), encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def at_the_desk(desk, monkeypatch):
    monkeypatch.chdir(desk)


@pytest.fixture(scope="module")
def trained(desk) -> str:
    """`mcvqa run` was typed; what it said."""
    before = Path.cwd()
    os.chdir(desk)
    try:
        return typed("run", "--config", "tiny.yaml", "--set", "USE_KFOLD=false")
    finally:
        os.chdir(before)


# %% help
def test_every_command_has_help_with_an_example_and_none_loads_torch():
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom mcvqa.cli import app\n"
        f"for name in {COMMANDS}:\n"
        "    result = CliRunner().invoke(app, [name, '--help'])\n"
        "    assert result.exit_code == 0 and f'Example: mcvqa {name}' in ' '.join(result.output.split()), result.output\n"
        "heavy = {'torch', 'transformers', 'sklearn', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_list_of_commands_is_whole():
    assert {command.name or command.callback.__name__ for command in app.registered_commands} == set(COMMANDS)
    said = typed("--help")
    assert all(f"\n  {name} " in said for name in COMMANDS)


def test_help_fits_a_narrow_terminal_and_cuts_no_sentence(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    said = [typed("--help"), *(typed(name, "--help") for name in COMMANDS)]
    assert max(len(line) for text in said for line in text.splitlines()) <= 80
    assert "..." not in said[0].replace("[ARGS]...", "") and "no download, no GPU." in " ".join(said[0].split())
    assert "[[" not in "".join(said)


def test_every_command_that_reads_settings_takes_config_and_changes():
    for name in set(COMMANDS) - {"version"}:
        said = typed(name, "--help")
        assert "--config" in said and "--set" in said, name
        assert "--data" in said or name in ("demo", "presets", "experiments", "models"), name


# %% errors
MISTAKES = {
    "an unknown setting": (["run", "--set", "num_epoch=3"], "Did you mean 'num_epochs'"),
    "an impossible value": (["train", "--set", "IMAGE_SIZE=big"], "image_size='big' is invalid: expected a whole number"),
    "no value": (["run", "--set", "num_epochs"], "name=value"),
    "an unknown preset": (["presets", "--preset", "fast"], "quick, single, ensemble, best"),
    "no such configuration": (["check", "--config", "none.yaml"], "no configuration file none.yaml"),
    "no such data": (["run", "--data", "nowhere"], "train.csv, test.csv and photographs. Name it with --data FOLDER"),
    "a name that is too long": (["check", "--data", "x" * 300], "File name too long: 'xxx"),
    "a home that is not there": (["check", "--config", "~nobody-here/x.yaml"], "the home folder ~nobody-here is unknown"),
    "more folds than photographs": (["folds", "--config", "tiny.yaml", "--set", "run_name=new", "--set", "n_folds=50"],
                                    "smaller n_folds"),
    "a fold that is not there": (["train", "--config", "tiny.yaml", "--fold", "7"], "no fold 7"),
    "scoring before training": (["predict", "--config", "tiny.yaml", "--set", "run_name=new"], "train first"),
    "combining before scoring": (["ensemble", "--config", "tiny.yaml", "--set", "run_name=new"], "train first"),
    "a model that is not there": (["train", "--config", "tiny.yaml", "--set", "run_name=new", "--set", "model_id=data"],
                                  "data is not a folder with a config.json"),
    "a GPU that is not there": (["train", "--config", "tiny.yaml", "--set", "run_name=new", "--set", "device=cuda"],
                                "device=cuda is not available"),
    "a file in the place of the folder": (["folds", "--config", "tiny.yaml", "--set", "output_dir=tiny.yaml"], "tiny.yaml"),
}


def test_data_that_are_not_there_are_said_before_torch_is_loaded():
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom mcvqa.cli import app\n"
        "for name in ('run', 'check', 'eda', 'folds', 'train', 'validate', 'search'):\n"
        "    words = [name, *['x.csv'] * (name == 'validate'), '--data', 'nowhere']\n"
        "    result = CliRunner().invoke(app, words)\n"
        "    assert result.exit_code == 1 and 'There is no ' in result.output, (name, result.output)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_said_in_one_message(mistake):
    words, message = MISTAKES[mistake]
    if "device=cuda" in words:
        import torch

        if torch.cuda.is_available():
            pytest.skip("there is one here")
    said = typed(*words, status=1)
    assert said.count("error: ") == 1 and message in said and "Traceback" not in said


def test_a_mistake_in_a_real_shell(desk):
    made = subprocess.run(
        [sys.executable, "-m", "mcvqa.cli", "run", "--data", "data", "--set", "NUM_EPOCHS=-3"], capture_output=True, text=True,
        cwd=desk,
    )
    assert made.returncode == 1 and made.stdout == ""
    assert made.stderr.strip() == (
        "error: num_epochs=-3 is out of range: 0 to 1000. Meaning: passes over the training rows."
    )


def test_several_settings_behind_one_set():
    said = typed("presets", "--set", "seed=7", "num_epochs=2", "user_prompt={question}={options}", "--preset", "quick")
    assert {"seed: 7", "num_epochs: 2", "user_prompt: '{question}={options}'", "sample_size: 200"} <= set(said.splitlines())
    assert "seed: 8" in typed("presets", "--set=seed=7", "seed=8")
    assert "no run 'other'" in typed("ensemble", "--set", "seed=7", "n_folds=2", "other", status=1)
    assert "x=1" in typed("presets", "--fields", "x=1", status=2)  # behind another option it is no setting


@pytest.mark.parametrize("words", [
    ("run", "--data", "nowhere"), ("run", "--data", "data", "--set", "image_column=pat"), ("train", "--data", "nowhere"),
    ("eda", "--data", "data", "--set", "answer_column=x"), ("run", "--data", "data", "--set", "members=x"),
    ("folds", "--data", "nowhere"), ("validate", "x.csv", "--data", "nowhere"),
], ids=" ".join)
def test_a_mistyped_setting_leaves_no_folder(words, desk):
    typed(*words, "--set", "output_dir=new/deep", "run_name=n", status=1)
    assert not (desk / "new").exists()


def test_a_mistyped_setting_leaves_other_runs_alone(tmp_path):
    for name in ("logs", "experiments/other"):
        (tmp_path / name).mkdir(parents=True)
    typed("run", "--data", "nowhere", "--set", f"output_dir={tmp_path}", status=1)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")) == ["experiments", "experiments/other", "logs"]


def test_escape_sequences_of_a_file_are_shown_and_not_sent(desk, tmp_path):
    (tmp_path / "evil.csv").write_text("id,answer\n\x1b[2J\x9b31m,a\n", encoding="utf-8")
    said = typed("validate", str(tmp_path / "evil.csv"), "--data", "data", "--set", f"output_dir={tmp_path}", status=1)
    assert "\\x1b[2J\\x9b31m" in said and "\x1b" not in said and "\x9b" not in said


@pytest.fixture(scope="module")
def explored(tmp_path_factory) -> tuple[Path, Path, list[str]]:
    """Data in a folder whose name is no UTF-8, with a formula as an id, and what `eda` and `folds` make of them."""
    folder = tmp_path_factory.mktemp("explored")
    data = make_dataset(folder / os.fsdecode("데이터".encode("cp949")), 8, 3)
    train = data / "train.csv"
    train.write_text(train.read_text("utf-8").replace("train_0000,", '"=cmd|\' /C calc\'!A0",', 1), "utf-8")
    settings = ("--data", str(data), "--set", f"output_dir={folder / 'out'}")
    return data, folder / "out" / "experiments", [typed("eda", *settings), typed("folds", *settings, "n_folds=2", "run_name=r")]


def test_eda_asks_for_no_model(explored):
    _, experiments, (said, _) = explored
    assert said.rstrip().endswith(f"Figures and tables: {experiments / 'data' / 'eda'}")
    assert sorted(p.name for p in experiments.iterdir()) == ["data", "r"]


def test_folds_ask_for_no_model_either(explored, tmp_path):
    """Another model has the same folds; a name gives them a folder of their own, with settings."""
    data, experiments, _ = explored
    files = []
    for model in ("tiny", "Qwen/Qwen2.5-VL-7B-Instruct"):
        settings = ("--data", str(data), "--set", f"output_dir={tmp_path / model}", f"model_id={model}", "n_folds=2")
        assert f"Written: {tmp_path / model / 'experiments' / 'data' / 'folds.csv'}" in typed("folds", *settings)
        assert [p.name for p in (tmp_path / model / "experiments").iterdir()] == ["data"]
        assert sorted(p.name for p in (tmp_path / model / "experiments" / "data").iterdir()) == ["data.json", "folds.csv"]
        files.append((tmp_path / model / "experiments" / "data" / "folds.csv").read_text(encoding="utf-8"))
    assert files[0] == files[1] == (experiments / "r" / "folds.csv").read_text(encoding="utf-8")


def test_a_folder_whose_name_is_no_text_is_read(explored):
    data, experiments, (eda, folds) = explored
    assert "blind accuracy" in eda and "fold 1: 4 validation rows" in folds
    assert read_json(experiments / "r" / "data.json")["folder"] == str(data)
    assert load_config(experiments / "r" / "config.yaml").data_dir == str(data)
    assert "\\udcb5" in typed("eda", "--data", f"{data}x", "--set", f"output_dir={data}", status=1)  # shown, where there is none


def test_formulas_in_ids_are_text_in_tables_for_a_spreadsheet(explored):
    for table in (explored[1] / "data" / "eda" / "rows.csv", explored[1] / "r" / "folds.csv"):
        with open(table, encoding="utf-8-sig", newline="") as handle:
            ids = [row["id"] for row in csv.DictReader(handle)]
        assert ids[0] == "'=cmd|' /C calc'!A0" and from_spreadsheet_cell(ids[0]) == ids[0][1:], table
        assert from_spreadsheet_cell(ids[1]) == ids[1] == "train_0001"


def test_output_in_ascii_replaces_characters(desk):
    made = subprocess.run(
        [sys.executable, "-m", "mcvqa.cli", "presets", "--fields"], capture_output=True, cwd=desk, check=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert b"image_size? pixels" in made.stdout and not made.stderr


@pytest.mark.parametrize("words", [("presets", "--fields"), ("experiments",)])
def test_a_full_disk_under_the_output_is_one_message(words, desk):
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    for both in (False, True):  # mcvqa ... > file, and > file 2>&1
        with open("/dev/full", "w") as full:
            stderr = full if both else subprocess.PIPE
            made = subprocess.run([sys.executable, "-m", "mcvqa.cli", *words], stdout=full, stderr=stderr, text=True, cwd=desk)
        assert made.returncode == 1
        if not both:
            assert made.stderr.count("error: ") == 1 and "The disk is full or unavailable" in made.stderr
            assert "Traceback" not in made.stderr and "ignored" not in made.stderr, made.stderr


@pytest.mark.parametrize("command", ["eda", "folds", "ensemble", "report", "search"])
def test_a_full_disk_is_one_message_in_every_step(command, trained, desk, tmp_path):
    if command == "search":
        pytest.importorskip("optuna")
    with small_disk(tmp_path / "small", "64m"):
        for folder in ("checkpoints", "experiments", "logs", "outputs"):
            shutil.copytree(desk / folder, tmp_path / "small" / folder)
        if command in ("eda", "folds"):
            shutil.rmtree(tmp_path / "small" / "experiments")
        with contextlib.suppress(OSError), open(tmp_path / "small" / "ballast", "wb", buffering=0) as ballast:
            while ballast.write(bytes(4096)):
                pass
        said = typed(command, "--config", "tiny.yaml", "--set", "use_kfold=no", "--set", f"output_dir={tmp_path}/small", status=1)
    assert "Traceback" not in said and "disk is full or unavailable: [Errno 28]" in said and "run the same command again" in said


# %% settings
def test_a_home_folder_may_be_written_with_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert f"There are no runs in {tmp_path}/runs/experiments" in typed("experiments", "--set", "output_dir=~/runs")


def test_presets_are_listed_and_shown_whole():
    said = typed("presets")
    assert all(f"\n{name} " in f"\n{said}" for name in PRESETS)
    typed_again = [part for line in said.splitlines() if line.startswith("best ") for part in line.split()[1:]]
    assert load_config(changes=parse_changes(typed_again)) == load_config(preset="best") and "use_swa=true" in typed_again
    best = yaml.safe_load(typed("presets", "--preset", "best"))
    assert best["num_epochs"] == 5 and best["tta_scales"] == [0.9, 1.0, 1.1] and set(best) == set(Config.settings())
    fields = typed("presets", "--fields")
    assert all(f"{name} " in fields for name in Config.settings()) and "peak learning rate" in fields
    assert "\nnum_epochs               1  [0 .. 1000]\n" in fields and "[cosine | linear]" in fields
    assert "\nrun_name                 \"\"\n" in fields


def test_later_settings_win_and_names_may_be_in_upper_case():
    changed = typed("presets", "--config", "tiny.yaml", "--preset", "best", "--set", "NUM_EPOCHS=3", "--set", "num_epochs=4")
    settings = yaml.safe_load(changed)
    assert settings["num_epochs"] == 4 and settings["model_id"] == "tiny", "preset, then file, then --set"


# %% a run
def test_run_says_where_everything_is(trained, desk):
    for line in ("submission  ", "accuracies  ", "report      ", "all runs    "):
        file = next(text for text in trained.splitlines() if text.startswith(line)).split()[-1]
        assert (desk / file).exists()
    assert RunLog(desk / "logs" / "r.jsonl").events("step")


def test_single_steps_find_their_results(trained):
    settings = ("--config", "tiny.yaml", "--set", "use_kfold=no")
    assert "fold 0: already trained" in typed("train", *settings)
    assert "fold 0: already scored" in typed("predict", *settings)
    assert "members: r" in typed("ensemble", *settings, "--set", "ensemble=vote")
    assert "report.html" in typed("report", *settings)
    assert "validation rows" in typed("folds", *settings)
    assert "r" in typed("experiments").splitlines()


def test_eda_shows_the_summary_and_where_the_figures_are(trained, desk):
    said = typed("eda", "--config", "tiny.yaml")
    assert "blind accuracy" in said and "Photographs 33" in said
    assert len(list((desk / said.split("Figures and tables: ")[1].strip()).glob("*.png"))) >= 4


def test_check_changes_nothing(trained, desk):
    before = {p: p.stat().st_mtime_ns for p in desk.rglob("*")}
    said = typed("check", "--config", "tiny.yaml")
    assert "ready: no problems found" in said and ">>>" in said
    assert {p: p.stat().st_mtime_ns for p in desk.rglob("*")} == before


def test_validate_tells_good_from_bad(trained, desk):
    good = desk / "outputs" / "submission_ensemble.csv"
    assert "valid: 9 rows" in typed("validate", str(good), "--data", "data")
    rows = list(csv.reader(good.open(encoding="utf-8")))
    rows[3][1], rows[5] = "d", rows[4]  # test_0002 has two choices only
    with open(desk / "bad.csv", "w", newline="") as handle:
        csv.writer(handle).writerows(rows)
    said = typed("validate", "bad.csv", "--data", "data", status=1)
    assert "NOT valid" in said and "row 4 (test_0002) 'd'" in said and "test_0003" in said and "test_0004" in said
    assert "NOT valid" in typed("validate", "none.csv", "--data", "data", status=1)


def test_the_search_space_is_shown_without_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "image_size: [224, " in typed("search", "--show-space", "--set", "image_size=224")
    assert "There is no" in typed("search", status=1)


@pytest.mark.nightly
def test_search_tries_as_often_as_asked(desk):
    pytest.importorskip("optuna")
    said = typed("search", "--show-space", "--config", "tiny.yaml")
    (desk / "space.yaml").write_text(said)
    assert "learning_rate: {low: " in said and "image_size" in said
    words = ("search", "--config", "tiny.yaml", "--trials", "2", "--best", "0", "--space", "space.yaml")
    said = typed(*words, "--set", "run_name=s", "lora_r=4")
    assert "(2/2): " in said and "set by hand, so not searched: " in said and "lora_r" in said.split("so not searched: ")[1]
    assert len(read_json(desk / "experiments" / "s-search" / "trials.json")) == 2


@pytest.mark.nightly
def test_the_demo_compares_with_the_answers_it_knows(tmp_path, monkeypatch):
    monkeypatch.setattr(mcvqa.scenes.dataset, "DEMO_ROWS", (48, 12))
    monkeypatch.chdir(tmp_path)
    with figures_made_by(blank_each):  # those of its runs; the ladder is drawn
        said = typed("demo", "--set", "num_epochs=1", "--set", "n_folds=2", "--set", "image_size=56", "--set", "tta_orders=2")
    rungs = ("text-only prior", "zero-shot", "single fold", "2 folds", "+ EMA", "+ SWA", "+ TTA", "+ ensemble")
    lines = [line for line in said.splitlines() if line.startswith("| ") and "accuracy" not in line]
    assert [line.split("|")[1].strip() for line in lines] == list(rungs), said
    assert "valid: 12 rows" in said and "demo-second alone" in said
    page = (tmp_path / "experiments" / "demo" / "LADDER.md").read_text(encoding="utf-8")
    assert all(line in page for line in lines) and (tmp_path / "experiments" / "demo" / "ladder.png").stat().st_size > 10_000
    # the last rung is the submission, counted again from the files
    answers, submitted = ((tmp_path / file).read_text().split() for file in (
        "data/demo/test_answers.csv", "outputs/submission_ensemble.csv"))
    right = sum(a == b for a, b in zip(answers[1:], submitted[1:], strict=True))
    assert lines[-1].split("|")[2].strip() == f"{right / 12:.3f}"
    listed = typed("experiments")
    assert "demo-second\n  accuracy 0." in listed and "unfinished" not in listed
    report = (tmp_path / "experiments" / "demo" / "report.html").read_text(encoding="utf-8")
    assert 'id="in-en" checked' in report and 'id="in-ko" checked' not in report, "half of the questions are Korean"


# %% version
def test_the_version_is_one_line():
    assert typed("version").split() == typed("--version").split() == ["mcvqa", mcvqa.__version__]


def test_a_bug_report_has_the_versions_and_nothing_private(monkeypatch):
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    facts = dict(line.split(None, 1) for line in typed("version", "--verbose").splitlines())
    assert facts["torch"].split()[0] == importlib.metadata.version("torch") and facts["python"] == platform.python_version()
    assert facts["device"] == "CPU" and facts["place"] == "Kaggle" and float(facts["memory"].split()[0]) > 0.1
    private = (str(Path.home()), str(Path.cwd()), sys.prefix, platform.node())
    assert not [word for word in private if len(word) > 1 and any(word in fact for fact in facts.values())]


def test_a_bug_report_is_made_where_the_gpu_fails(monkeypatch):
    def failing(config):
        raise DeviceError("the P100 fails its first kernel")

    monkeypatch.setattr(installation, "plan_device", failing)
    assert "unusable: the P100 fails its first kernel" in typed("version", "--verbose")
