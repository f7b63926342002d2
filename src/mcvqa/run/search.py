"""Hyper-parameter search with Optuna: a few settings that matter, judged on the validation rows of one fold.

Every trial is a run of its own under experiments/, negative results included; so a search that was cut off has lost nothing.
"""
from typing import Any

from mcvqa.base.files import write_json, write_text
from mcvqa.base.uncertainty import spell_error
from mcvqa.config import Config
from mcvqa.run.project import RunStopped, open_project
from mcvqa.run.single import train_only
from mcvqa.run.train import result_of
from mcvqa.training.job import TrainingError


def suggest_settings(trial: Any, config: Config) -> dict[str, Any]:
    """The searched space, around what works for LoRA on vision-language models."""
    space: dict[str, Any] = {
        "learning_rate": trial.suggest_float("learning_rate", 2e-5, 2e-3, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-3, 0.1, log=True),
        "label_smoothing": trial.suggest_float("label_smoothing", 0.0, 0.2),
        "lr_schedule": trial.suggest_categorical("lr_schedule", ["cosine", "linear"]),
        "loss": trial.suggest_categorical("loss", ["vocabulary", "choices"]),
    }
    if config.lora_r:
        rank = trial.suggest_categorical("lora_r", [4, 8, 16, 32])
        space |= {
            "lora_r": rank, "lora_alpha": 2 * rank, "lora_dropout": trial.suggest_float("lora_dropout", 0.0, 0.2),
        }
    return space


def search_settings(config: Config, trials: int) -> dict[str, Any]:
    """Try `trials` settings on fold 0 and write the best as experiments/<run>-search/best.yaml.

    Differences between trials within two standard errors of the validation accuracy mean nothing; the error is printed.

    Raises:
        RunStopped: Optuna is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise RunStopped("The search needs Optuna: pip install 'mcvqa[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=config.seed))
    folder = open_project(config).paths.experiment.parent / f"{config.run}-search"
    table: list[dict[str, Any]] = []
    for number in range(trials):
        trial = study.ask()
        settings = suggest_settings(trial, config)
        tried = config.replace(**settings, run_name=f"{config.run}-trial{number:02d}")
        try:
            train_only(tried, fold=0)
        except TrainingError as error:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            print(f"trial {number + 1}/{trials}: {error}")
            continue
        accuracy = result_of(open_project(tried), 0)
        study.tell(trial, accuracy.value)
        table.append({"run": tried.run, "accuracy": accuracy.value, "standard_error": accuracy.standard_error, **settings})
        print(f"trial {number + 1}/{trials}: accuracy {accuracy}, " + ", ".join(f"{k}={v}" for k, v in settings.items()))
        write_json(folder / "trials.json", sorted(table, key=lambda row: -row["accuracy"]))
    if not table:
        raise RunStopped("No trial could be trained: start from a lower learning_rate or precision=float32.")
    best = max(table, key=lambda row: row["accuracy"])
    chosen = {k: v for k, v in best.items() if k not in ("run", "accuracy", "standard_error")}
    write_text(folder / "best.yaml", config.replace(**chosen, run_name="").to_yaml())
    print(f"\nbest: {best['run']}, accuracy {spell_error(best['accuracy'], best['standard_error'])}")
    print(f"use it with: mcvqa run --config {folder / 'best.yaml'}")
    return best
