"""The command line: one command per step of the pipeline, and `run` for all of them.

Heavy imports stand inside the commands, so that asking for help takes well under a second.
"""
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mcvqa import __version__
from mcvqa.base.columns import with_second_columns, without_second_columns
from mcvqa.base.files import disk_errors_explained
from mcvqa.base.informing import printable_output
from mcvqa.base.interrupt import RUN_ME_AGAIN
from mcvqa.base.translation import CONSOLE_LANGUAGES, console_language, korean_translator, translated_output
from mcvqa.config import PRESETS, Config, ConfigError, McvqaError, Setting, load_config, parse_changes
from mcvqa.data.locate import place_of_data


def one_change_each(args: list[str]) -> list[str]:
    """`--set a=1 b=2` -> `--set a=1 --set b=2`"""
    each: list[str] = []
    setting = False
    for word in args:
        setting = setting and not word.startswith("-") and "=" in word
        each += ["--set", word] if setting and each[-1] != "--set" else [word]
        setting = setting or word == "--set" or word.startswith("--set=")
    return each


def language_first(args: list[str]) -> list[str]:
    """`run --data data --lang ko` -> `--lang ko run --data data`"""
    at = next((number for number, word in enumerate(args) if word == "--lang" or word.startswith("--lang=")), len(args))
    end = at + (2 if args[at : at + 1] == ["--lang"] else 1)
    return [*args[at:end], *args[:at], *args[end:]]


def asked_language(args: Sequence[str]) -> str:
    """The value of `--lang`; empty: it is not given, or is no language that the command line speaks."""
    first, *others = language_first([*args]) or [""]
    language = first.partition("=")[2] if first.startswith("--lang=") else others[0] if first == "--lang" and others else ""
    return language if language in CONSOLE_LANGUAGES else ""


HELP_CONTEXT: Any = TyperGroup.context_class  # of click, which newer versions of typer bring along
HELP_FORMATTER: Any = HELP_CONTEXT.formatter_class


class KoreanHelp(HELP_FORMATTER):
    """Writes help in Korean: texts are translated before they are wrapped."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        super().write_usage(prog, args, prefix or "사용법: ")

    def write_heading(self, heading: str) -> None:
        super().write_heading(korean_translator().console(heading))

    def write_text(self, text: str) -> None:
        super().write_text(self._in_columns(text))

    def write_dl(self, rows: Sequence[tuple[str, str]], *widths: int, **named_widths: int) -> None:
        super().write_dl([(name, self._in_columns(meaning)) for name, meaning in rows], *widths, **named_widths)

    def getvalue(self) -> str:
        return without_second_columns(str(super().getvalue()))

    @staticmethod
    def _in_columns(text: str) -> str:
        text, gap, default = text.partition("  [")  # [default: 12; required]
        default = default.replace("default: ", "기본값: ").replace("required", "필수")
        return with_second_columns(korean_translator().console(text) + gap + default)


class KoreanContext(HELP_CONTEXT):
    """The context of a command whose help is in Korean."""

    formatter_class = KoreanHelp


def first_sentence(text: str) -> str:
    """'Do this. Or that.' -> 'Do this.'"""
    first, stop, _ = text.partition("\n\n")[0].partition(". ")
    return first + stop.strip()


class Commands(TyperGroup):
    """The commands; `--set` takes several changes, and `--lang` may stand behind the command."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Any:
        """Run the command that the arguments name, in the language that they or the locale ask for."""
        language = console_language(asked_language(sys.argv[1:] if args is None else args), os.environ)
        for command in (self, *self.commands.values()) if language == "ko" else ():
            command.context_class = KoreanContext
            command.help = korean_translator().console(command.help or "")
        with translated_output(language):
            return super().main(args, *more, **options)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, language_first(one_change_each(args)))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands with the whole first sentence of their help, which would be cut otherwise."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, first_sentence(command.help or "")) for name, command in self.commands.items()])


app = typer.Typer(
    name="mcvqa", cls=Commands, no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="Fine-tune vision-language models on multiple-choice visual question answering and write a checked submission.\n\n"
    "Start with: mcvqa demo, or mcvqa run --data FOLDER --preset quick",
)

# %% options that every command takes
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file with settings.", metavar="FILE.yaml")]
PresetName = Annotated[str | None, typer.Option("--preset", help=f"Settings to start from: {', '.join(PRESETS)}.")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", help="Settings, for example NUM_EPOCHS=3 SEED=1.", metavar="NAME=VALUE ...")
]
RunName = Annotated[str | None, typer.Argument(
    metavar="RUN", help="An existing run: its name, as `mcvqa experiments` lists it, or the path of experiments/<run>. "
    "Its settings are read from its config.yaml."
)]
DataDir = Annotated[str | None, typer.Option("--data", help="Folder or .zip with train.csv, test.csv and photographs.")]


@contextlib.contextmanager
def _errors_explained() -> Iterator[None]:
    """Errors of this package are written for people: shown without a stack trace, exit status 1. After an interrupt: 75.

    So is a full disk, also under what the command prints.
    """
    with printable_output():
        try:
            with disk_errors_explained():
                yield
                sys.stdout.flush()
        except KeyboardInterrupt as stopped:
            if os.environ.get("RANK", "0") == "0":  # of several processes one speaks
                _say(f"{str(stopped) or 'Stopped.'} Run the same command again to continue from there.")
            raise typer.Exit(RUN_ME_AGAIN) from None
        except (McvqaError, MemoryError) as error:
            full = "The machine is out of memory. Reduce image_size, batch_size or num_workers."
            _say(f"error: {full if isinstance(error, MemoryError) else error}")
            raise typer.Exit(1) from None


def _say(message: str) -> None:
    """Print `message` to stderr, even where nothing more can be written to stdout."""
    try:
        sys.stdout.flush()
    except OSError:  # its disk is full: Python would try again at exit, and fail there
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    with contextlib.suppress(OSError):  # `2>&1` to the full disk: the exit status says it
        print(f"\n{message}", file=sys.stderr, flush=True)


def _config(file: Path | None, preset: str | None, changes: list[str] | None, data: str | None) -> Config:
    values: dict[str, Any] = {"data_dir": data} if data else {}
    return _with_members(load_config(file, preset, values | parse_changes(changes or [])))


def _config_and_data(file: Path | None, preset: str | None, changes: list[str] | None, data: str | None) -> Config:
    """The settings, with data that are there: known before the slow imports."""
    settings = _config(file, preset, changes, data)
    if "RANK" not in os.environ:  # processes of a launcher look for the data together, so that one of them speaks
        place_of_data(settings.data_dir)
    return settings


def _with_members(settings: Config) -> Config:
    """The settings with the runs that members=search:NAME:5 speaks of."""
    if not any(name.startswith("search:") for name in settings.members):
        return settings
    from mcvqa.run.of_search import with_members_of_search

    return with_members_of_search(settings)


def _of_run(run: str | None, file: Path | None, preset: str | None, changes: list[str] | None, data: str | None) -> Config:
    """The settings of a run that is there already, with changes; without one as for every command."""
    if run is None:
        return _config(file, preset, changes, data)
    if file or preset:
        raise ConfigError(f"The settings of the run {run!r} are read from its config.yaml: omit --config and --preset.")
    from mcvqa.run.project import settings_of_run

    given = {"data_dir": data} if data else {}
    changed = given | parse_changes(changes or [])
    return _with_members(Config().replace(**settings_of_run(run, str(changed.get("output_dir", "."))) | changed))


def _version(wanted: bool) -> None:
    if wanted:
        print(f"mcvqa {__version__}")
        raise typer.Exit


DIVIDED = ("run", "train", "predict", "answer")  # commands that several processes share; see model/distributed.py


@app.callback()
def main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
    lang: Annotated[str, typer.Option(
        "--lang", help="Output language: en or ko. Default: the language of the locale (LC_ALL, LANG).", metavar="LANG",
    )] = "",
) -> None:
    if lang not in ("", *CONSOLE_LANGUAGES):
        print(f"error: --lang {lang} is not one of {', '.join(CONSOLE_LANGUAGES)}.", file=sys.stderr)
        raise typer.Exit(1)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and context.invoked_subcommand not in DIVIDED:
        if os.environ.get("RANK", "0") != "0":
            raise typer.Exit
        print(f"error: {context.invoked_subcommand} runs in a single process: start it without a launcher.", file=sys.stderr)
        raise typer.Exit(1)


# %% everything
@app.command(help="Run all ten steps, from the data to a checked submission. Finished steps are skipped.\n\n"
             "Example: mcvqa run --data data --preset ensemble --set NUM_EPOCHS=3")
def run(config: ConfigFile = None, preset: PresetName = None, set_: Changes = None, data: DataDir = None) -> None:
    with _errors_explained():
        settings = _config_and_data(config, preset, set_, data)
        from mcvqa.run import steps

        steps.run(settings)


@app.command(help="Generate a small data set, then run everything on it with the built-in tiny model: no download, no GPU.\n\n"
             "Example: mcvqa demo")
def demo(config: ConfigFile = None, preset: PresetName = "demo", set_: Changes = None) -> None:
    with _errors_explained():
        settings = _config(config, preset, set_, None)
        from mcvqa.run.demo import run_demo

        run_demo(settings)


# %% one step at a time
@app.command(help="Check data, images, label alignment, device, memory and time before a run. Changes nothing.\n\n"
             "Example: mcvqa check --data data --preset single")
def check(config: ConfigFile = None, preset: PresetName = None, set_: Changes = None, data: DataDir = None) -> None:
    with _errors_explained():
        settings = _config_and_data(config, preset, set_, data)
        from mcvqa.run.check import check_run

        if not check_run(settings):
            raise typer.Exit(1)


@app.command(help="Explore the data: tables, figures, duplicates, and how much can be guessed from the texts alone.\n\n"
             "Example: mcvqa eda --data data")
def eda(config: ConfigFile = None, preset: PresetName = None, set_: Changes = None, data: DataDir = None) -> None:
    with _errors_explained():
        settings = _config_and_data(config, preset, set_, data)
        from mcvqa.run.single import explore_only

        print(explore_only(settings))


@app.command(help="Split the training rows: stratified by answer and type of question, grouped by image.\n\n"
             "Example: mcvqa folds --data data --set n_folds=5")
def folds(config: ConfigFile = None, preset: PresetName = None, set_: Changes = None, data: DataDir = None) -> None:
    with _errors_explained():
        settings = _config_and_data(config, preset, set_, data)
        from mcvqa.run.single import split_only

        summary, file = split_only(settings)
        print(f"{summary}\n\nWritten: {file}")


@app.command(help="Train all folds that have no result yet, or a single fold.\n\n"
             "Example: mcvqa train --data data --fold 0")
def train(
    config: ConfigFile = None, preset: PresetName = None, set_: Changes = None, data: DataDir = None,
    fold: Annotated[int | None, typer.Option(help="Only this fold, counted from 0.")] = None,
) -> None:
    with _errors_explained():
        settings = _config_and_data(config, preset, set_, data)
        from mcvqa.run.single import train_only

        train_only(settings, fold)


@app.command(help="Score the validation and test rows with the trained folds.\n\n"
             "Example: mcvqa predict RUN --set use_tta=true")
def predict(
    run: RunName = None, config: ConfigFile = None, preset: PresetName = None, set_: Changes = None, data: DataDir = None,
) -> None:
    with _errors_explained():
        settings = _of_run(run, config, preset, set_, data)
        from mcvqa.run.single import predict_only

        predict_only(settings)


@app.command(help="Combine the folds, other runs and imported prediction files into one submission.\n\n"
             "Example: mcvqa ensemble RUN --set members=other-run,friend.csv")
def ensemble(
    run: RunName = None, config: ConfigFile = None, preset: PresetName = None, set_: Changes = None, data: DataDir = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the submission, whatever it contains now.")] = False,
) -> None:
    with _errors_explained():
        settings = _of_run(run, config, preset, set_, data)
        from mcvqa.run.single import combine_only

        combine_only(settings, force=force)


@app.command(help="Rewrite REPORT.md and report.html of a scored run.\n\n"
             "Example: mcvqa report RUN")
def report(
    run: RunName = None, config: ConfigFile = None, preset: PresetName = None, set_: Changes = None, data: DataDir = None,
) -> None:
    with _errors_explained():
        settings = _of_run(run, config, preset, set_, data)
        from mcvqa.run.single import report_only

        report_only(settings)


@app.command(help="Find labels that are probably wrong, using out-of-fold scores. A person decides on each.\n\n"
             "Example: mcvqa audit RUN --out fixes.csv")
def audit(
    run: RunName = None, config: ConfigFile = None, preset: PresetName = None, set_: Changes = None, data: DataDir = None,
    out: Annotated[Path | None, typer.Option(help="File for the proposals. Default: experiments/<run>/fixes.csv.")] = None,
) -> None:
    with _errors_explained():
        settings = _of_run(run, config, preset, set_, data)
        from mcvqa.run.single import audit_only

        print(audit_only(settings, out))


@app.command(help="Browse every row: photographs, answers, tags, filters, label decisions, two runs side by side. One HTML "
             "file, no server.\n\n"
             "Example: mcvqa explore RUN OTHER_RUN --out explore.html")
def explore(
    run: RunName = None,
    other: Annotated[str | None, typer.Argument(metavar="RUN2", help="A second run on the same data, to compare with.")] = None,
    config: ConfigFile = None, preset: PresetName = None, set_: Changes = None, data: DataDir = None,
    out: Annotated[Path | None, typer.Option(help="File for the page. Default: experiments/<run>/explore.html.")] = None,
) -> None:
    with _errors_explained():
        settings = _of_run(run, config, preset, set_, data)
        from mcvqa.run.project import settings_of_run
        from mcvqa.run.single import explorer_only

        given = {"data_dir": data} if data else {}
        beside = Config().replace(**settings_of_run(other, settings.output_dir) | given) if other else None
        print(explorer_only(settings, beside, out))


# %% after training
@app.command(help="Answer new questions with a trained run: one photograph or a table of rows.\n\n"
             "Example: mcvqa answer RUN --image photo.jpg --question \"What color is it?\" --choices red --choices blue\n\n"
             "Or: mcvqa answer RUN --data new.csv --out answers.csv")
def answer(
    run: RunName = None, config: ConfigFile = None, preset: PresetName = None, set_: Changes = None,
    image: Annotated[Path | None, typer.Option(help="A photograph.")] = None,
    question: Annotated[str | None, typer.Option(help="A question about it.")] = None,
    choices: Annotated[list[str] | None, typer.Option(help="A choice; repeat the option for each choice.")] = None,
    data: Annotated[Path | None, typer.Option(help="Instead of one question: a table, folder or .zip of rows.")] = None,
    out: Annotated[Path | None, typer.Option(help="File for the answers. Default: answers.csv or submission.csv.")] = None,
    fold: Annotated[str | None, typer.Option(help="Only this fold (counted from 0), or final. Default: all of them.")] = None,
    submission: Annotated[bool, typer.Option("--submission", help="Write the submission format: id and answer.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the answer as one line of JSON.")] = False,
) -> None:
    with _errors_explained():
        _require_question({"--image": image, "--question": question, "--choices": choices}, data)
        if data is None and (out or submission):
            raise ConfigError("--out and --submission are for a table of questions (--data). For one question: --json > FILE.")
        settings = _of_run(run, config, preset, set_, None)
        with contextlib.redirect_stdout(sys.stderr) if json else contextlib.nullcontext():
            from mcvqa.answer.answerer import Answerer
            from mcvqa.answer.shown import answer_as_json, answer_with_bars
            from mcvqa.answer.table import answer_table

            answerer = Answerer(settings, fold=fold)
            if data is not None:
                out = out or Path("submission.csv" if submission else "answers.csv")
                answer_table(answerer, data, out, submission=submission)
                return
            found = answerer.answer(image, question or "", choices or [])
        if os.environ.get("RANK", "0") == "0":  # of several processes one speaks
            print((answer_as_json if json else answer_with_bars)(found, choices or []))


def _require_question(parts: dict[str, object], data: Path | None) -> None:
    given, missing = [name for name, value in parts.items() if value], [name for name, value in parts.items() if not value]
    if given and data is not None:
        raise ConfigError(f"Give either --data or one question ({', '.join(given)}), not both.")
    if data is None and not given:
        raise ConfigError("There is nothing to answer. Give --image, --question and --choices (once for each choice), or --data.")
    if data is None and missing:
        raise ConfigError(f"One question needs {', '.join(missing)} too. For a table of questions, give --data instead.")


def _number(fold: str | None) -> int | None:
    from mcvqa.answer.trained import fold_number

    return None if fold is None else fold_number(fold)


@app.command(help="Export a trained model for other tools: adapters or merged weights, processor, model card, infer.py. The "
             "export is verified by answering rows with it.\n\n"
             "Example: mcvqa export RUN --to FOLDER --merged")
def export(
    run: RunName = None, config: ConfigFile = None, preset: PresetName = None, set_: Changes = None,
    to: Annotated[Path, typer.Option(help="Folder to create.")] = Path("exported"),
    fold: Annotated[str | None, typer.Option(help="Fold to export (from 0), or final. Default: final, else 0.")] = None,
    merged: Annotated[bool, typer.Option("--merged", help="Merged 16-bit weights instead of adapters.")] = False,
    data: Annotated[Path | None, typer.Option(help="Rows to verify the export with. Default: those of the run's data.")] = None,
    push: Annotated[str | None, typer.Option(help="Also upload to OWNER/NAME on the hub. A new repository is private.")] = None,
) -> None:
    with _errors_explained():
        settings = _of_run(run, config, preset, set_, None)
        from mcvqa.answer.export import export_run
        from mcvqa.answer.push import push_folder, require_pushable

        if push is not None:
            require_pushable(push)
        export_run(settings, to, fold=_number(fold), merged=merged, data=data)
        if push is not None:
            print(f"  pushed: {push_folder(to, push)}")


@app.command(help="Ask a trained run questions in the browser: drop a photograph, type a question and choices. Needs "
             "mcvqa[ui].\n\n"
             "Example: mcvqa serve RUN --fold 0")
def serve(
    run: RunName = None, config: ConfigFile = None, preset: PresetName = None, set_: Changes = None, data: DataDir = None,
    fold: Annotated[str | None, typer.Option(help="Only this fold (counted from 0), or final. Faster than all of them.")] = None,
    port: Annotated[int | None, typer.Option(help="Port on 127.0.0.1. Default: the first free one from 7860.")] = None,
    share: Annotated[bool, typer.Option("--share", help="Also create a public link through gradio's servers.")] = False,
) -> None:
    with _errors_explained():
        settings = _of_run(run, config, preset, set_, data)
        from mcvqa.answer.serve import serve_run

        serve_run(settings, fold=_number(fold), port=port, share=share)


@app.command(help="Check a submission file against the test rows: ids, order, letters.\n\n"
             "Example: mcvqa validate outputs/submission_ensemble.csv --data data")
def validate(
    file: Annotated[Path, typer.Argument(help="The CSV file to check.")],
    config: ConfigFile = None, preset: PresetName = None, set_: Changes = None, data: DataDir = None,
) -> None:
    with _errors_explained():
        settings = _config_and_data(config, preset, set_, data)
        from mcvqa.run.project import open_project
        from mcvqa.run.submissions import validate_any

        found = validate_any(file, open_project(settings))
        print(str(found))
        if found.problems:
            raise typer.Exit(1)


# %% about settings, runs and this installation
@app.command(help="Show the version. With --verbose: what a bug report needs (versions, commit, device, memory), without paths, "
             "user or host names.\n\n"
             "Example: mcvqa version --verbose")
def version(
    verbose: Annotated[bool, typer.Option("--verbose", help="Show everything that a bug report needs.")] = False,
) -> None:
    with _errors_explained():
        if verbose:
            from mcvqa.run.installation import installation_report

            print(installation_report())
        else:
            print(f"mcvqa {__version__}")


@app.command(help="List the presets; with --fields, every setting with its default and meaning.\n\n"
             "Example: mcvqa presets --fields")
def presets(
    config: ConfigFile = None, preset: PresetName = None, set_: Changes = None,
    fields: Annotated[bool, typer.Option("--fields", help="List every setting.")] = False,
) -> None:
    with _errors_explained():
        if config or preset or set_:
            print(_config(config, preset, set_, None).to_yaml())
        elif fields:
            for name, setting in Config.settings().items():
                default = as_typed(setting.default).replace("\n", "\\n") or '""'
                print(f"{name:24} {default}{allowed_values(setting)}\n{'':26}{setting.meaning}")
        else:
            for name, values in PRESETS.items():
                print(f"{name:10} " + " ".join(f"{k}={as_typed(v)}" for k, v in values.items()))
            print("\nUse one with --preset NAME; see all of its settings with: mcvqa presets --preset NAME")


def as_typed(value: Any) -> str:
    """`value` as --set takes it."""
    if isinstance(value, tuple):
        return ",".join(map(as_typed, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def allowed_values(setting: Setting) -> str:
    """Range or choices of a setting, in brackets; empty where any text will do."""
    if setting.choices:
        return f"  [{' | '.join(setting.choices)}{', ...' if isinstance(setting.default, tuple) else ''}]"
    if setting.low is not None:
        return f"  [{setting.low} .. {setting.high}]"
    return "  [true | false]" if isinstance(setting.default, bool) else ""


@app.command(help="List recommended models, the memory that each needs and whether it fits on this GPU.\n\n"
             "Example: mcvqa models")
def models(
    config: ConfigFile = None, preset: PresetName = None, set_: Changes = None,
) -> None:
    with _errors_explained():
        settings = _config(config, preset, set_, None)
        from mcvqa.model.catalog import list_models
        from mcvqa.model.device import plan_device

        print(list_models(plan_device(settings.replace(quantization="none")).memory))


@app.command(help="List all runs in this folder, the most accurate first.\n\n"
             "Example: mcvqa experiments")
def experiments(
    config: ConfigFile = None, preset: PresetName = None, set_: Changes = None,
) -> None:
    with _errors_explained():
        settings = _config(config, preset, set_, None)
        from mcvqa.report.experiments import list_experiments

        print(list_experiments(Path(settings.output_dir) / "experiments"))


@app.command(help="Search for better settings with Optuna: trials on one fold, the best few confirmed on the others. Run it "
             "again to resume.\n\n"
             "Example: mcvqa search --data data --trials 24 --parallel 2 --set time_budget=8h")
def search(
    config: ConfigFile = None, preset: PresetName = None, set_: Changes = None, data: DataDir = None,
    trials: Annotated[int, typer.Option(help="Number of trials in the study, including earlier ones.", min=1)] = 12,
    parallel: Annotated[int, typer.Option(help="Trials to run at the same time, spread over the GPUs.", min=1, max=256)] = 1,
    study: Annotated[str, typer.Option(help="Name of the study. Default: the run's name followed by -search.")] = "",
    space: Annotated[Path | None, typer.Option(help="File with the search space; see --show-space.", metavar="FILE.yaml")] = None,
    storage: Annotated[str, typer.Option(
        help="URL of a database that Optuna supports, such as sqlite:///study.db. Default: a file in experiments/<study>."
    )] = "",
    best: Annotated[int, typer.Option(help="Number of best trials to train on the other folds too.", min=0, max=50)] = 3,
    prune: Annotated[bool, typer.Option(help="Stop trials early when they fall behind.")] = True,
    show_space: Annotated[bool, typer.Option("--show-space", help="Only print the search space, as --space takes it.")] = False,
) -> None:
    with _errors_explained():
        settings = (_config if show_space else _config_and_data)(config, preset, set_, data)
        from mcvqa.search.space import default_space, read_space, set_by_hand, space_as_yaml

        if show_space:
            print(space_as_yaml(read_space(space) if space else default_space(settings)), end="")
            return
        from mcvqa.search.search import search_settings

        search_settings(
            settings, trials=trials, parallel=parallel, study=study, space=space, storage=storage, best=best, prune=prune,
            by_hand=set_by_hand(config, parse_changes(set_ or [])),
        )


if __name__ == "__main__":
    sys.exit(app())
