"""A run keeps the instruction line that it was trained with, whatever the language of its questions."""
import dataclasses
from pathlib import Path

import pytest
import yaml

from mcvqa.base.files import write_text
from mcvqa.config import ENGLISH_PROMPT, KOREAN_PROMPT, Config, ConfigError
from mcvqa.data.questions import Question
from mcvqa.run.project import Project, open_project, settings_of_run, settle_prompt, settle_settings
from mcvqa.run.session import run_session

QUESTIONS = [Question("1", "1.jpg", "What is it?", ("rice", "bread"), 0)]


def kept_line(project: Project) -> str:
    return yaml.safe_load((project.paths.experiment / "config.yaml").read_text(encoding="utf-8"))["user_prompt"]


def older_run(config: Config, without: str = "") -> None:
    """A trained run of a version whose user_prompt was Korean by default. Args: without: a setting that its file lacks."""
    project = open_project(config)
    project.paths.fold(0).mkdir(parents=True)
    known = project.config.as_dict() | {"user_prompt": KOREAN_PROMPT}
    known = {name: list(value) if isinstance(value, tuple) else value for name, value in known.items() if name != without}
    write_text(project.paths.experiment / "config.yaml", yaml.safe_dump(known, allow_unicode=True))


def test_the_line_is_settled_with_the_data_and_kept(tmp_path, capsys):
    config = Config(output_dir=str(tmp_path))
    project = open_project(config)
    settle_settings(project)
    settled = settle_prompt(project, QUESTIONS)
    assert settled.config.user_prompt == ENGLISH_PROMPT == kept_line(settled) and settled.config.run == config.run
    assert "instruction of the prompt: in English (Hangul in 0% of the training questions)" in capsys.readouterr().out
    settled.paths.fold(0).mkdir(parents=True)
    again = open_project(config)
    assert again.config == settled.config
    settle_settings(again)
    assert settle_prompt(again, [dataclasses.replace(QUESTIONS[0], text="무엇인가요?")]) == again, "other rows change nothing"
    with pytest.raises(ConfigError, match=r"user_prompt: was .*Answer with exactly one"):
        settle_settings(open_project(config.replace(user_prompt=KOREAN_PROMPT, run_name=settled.config.run)))


@pytest.mark.parametrize("without", ["", "user_prompt"])
def test_a_run_of_an_older_version_goes_on_with_its_line(tmp_path, without):
    config = Config(output_dir=str(tmp_path))
    older_run(config, without)
    project = open_project(config)
    settle_settings(project)
    assert settle_prompt(project, QUESTIONS).config.user_prompt == KOREAN_PROMPT == kept_line(project)
    by_name = Config().replace(**settings_of_run(project.config.run, str(tmp_path)))
    assert by_name.user_prompt == KOREAN_PROMPT and by_name.run == config.run


def test_a_run_that_is_taken_over_goes_on_with_its_line(tmp_path):
    earlier = Config(output_dir=str(tmp_path / "earlier"))
    older_run(earlier)
    write_text(open_project(earlier).paths.fold(0) / "result.json", "{}")
    with run_session(earlier.replace(output_dir=str(tmp_path / "out"), resume_from=earlier.output_dir)) as project:
        assert project.config.user_prompt == KOREAN_PROMPT


def test_a_damaged_file_is_still_reported(tmp_path):
    config = Config(output_dir=str(tmp_path))
    older_run(config)
    (open_project(config).paths.experiment / "config.yaml").write_text("- a")
    with pytest.raises(ConfigError, match=r"config\.yaml is damaged"):
        settle_settings(open_project(config))


@pytest.mark.parametrize("output_dir", [".", "out"])
def test_a_run_finds_its_data_from_any_folder(tmp_path, monkeypatch, output_dir):
    """`mcvqa serve PATH` from another folder said that there is no data/demo."""
    made, elsewhere = tmp_path / "made", tmp_path / "elsewhere"
    experiment = made / output_dir / "experiments" / "r"
    for folder in (experiment, elsewhere, made / "data"):
        folder.mkdir(parents=True)
    (experiment / "config.yaml").write_text(f"data_dir: data\noutput_dir: {output_dir}\nrun_name: r\n")
    monkeypatch.chdir(elsewhere)
    settings = settings_of_run(str(experiment))
    assert Path(settings["data_dir"]).resolve() == made / "data"
    (elsewhere / "data").mkdir()
    assert settings_of_run(str(experiment))["data_dir"] == "data", "what is here, as it is named"
