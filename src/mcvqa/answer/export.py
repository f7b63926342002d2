"""Exports a trained model: adapters or full weights in a folder that other tools load, verified by running it."""
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mcvqa.answer.asked import NewRows, read_asked
from mcvqa.answer.card import model_card, serving_page
from mcvqa.answer.how_to_ask import how_to_ask, hub_name
from mcvqa.answer.merge import ExportError, require_same_weights, sampled_weights, save_merged
from mcvqa.answer.trained import TrainedRun, find_trained, models_named
from mcvqa.base.files import read_json, write_json, write_text
from mcvqa.config import Config
from mcvqa.data.folds import FINAL, fold_title
from mcvqa.data.locate import find_data
from mcvqa.data.table import DataError
from mcvqa.data.trained_on import TRAINED_ON
from mcvqa.model.content import ADAPTER_CONFIG, CONTENT_FILES, local_folder
from mcvqa.model.device import DevicePlan, plan_device
from mcvqa.model.load import BaseModel, load_adapter, load_base, read_model_config, remove_adapters
from mcvqa.model.memory import free_memory
from mcvqa.model.published import published_bits
from mcvqa.run.model_side import with_photographs
from mcvqa.scoring.score import score_questions
from mcvqa.scoring.scores import Scores, load_scores
from mcvqa.training.checkpoint import atomic_folder, load_trained

PROOF_ROWS = 200
# How far a log-probability may be from that of the 16-bit base with the adapters beside it: the same numbers, or rounded once.
SAME_NUMBERS, ROUNDED = 1e-3, {torch.float16: 0.05, torch.bfloat16: 0.5}


@dataclass(frozen=True)
class Proof:
    """Records how an exported folder answers after it is loaded again.

    Attributes:
        rows: number of rows tested.
        same: number of them with the same letter as the base model with separate adapters.
        furthest: largest difference of a log-probability.
        run_rows, run_same, run_mean: rows that the run has scored too, those with the run's letter, and the mean difference.
        run_weights: number format in which the run scored them; empty if it did not.
    """

    rows: int
    same: int
    furthest: float
    run_rows: int = 0
    run_same: int = 0
    run_mean: float = 0.0
    run_weights: str = ""


def export_run(config: Config, to: Path, *, fold: int | None = None, merged: bool = False, data: Path | None = None) -> Proof:
    """Write the model of one fold with everything needed to use it, and verify it.

    Args:
        config: settings that name the run.
        to: the new folder.
        fold: number of the fold, or FINAL; None: the final model, which was trained on all rows, else the first fold.
        merged: write full weights in 16 bits instead of adapters.
        data: rows for the verification; None: those of the run's data folder.

    Returns:
        How the folder answers.

    Raises:
        ExportError: `to` exists, the model cannot be merged, or the folder does not answer like the run.
        ConfigError, RunStopped, CheckpointError: problems of the run; see `find_trained`.
        DataError: there are no rows for the verification.
    """
    if to.exists():
        raise ExportError(f"{to} exists: name a new folder, or delete it first.")
    trained = find_trained(config, fold)
    chosen = FINAL if FINAL in trained.folds else trained.folds[0]
    trained, merged = replace(trained, folds=(chosen,)), merged or config.lora_r == 0
    _require_exportable(trained, merged)
    asked = _rows_for_proof(trained, data)
    with atomic_folder(to, {"run": config.run, "fold": fold_title(chosen)}) as part:
        proof = _export_into(part, trained, asked, merged)
    letters = f"{proof.same} of {proof.rows} rows get the same letter"
    source = f"{models_named(trained.folds)} of {config.run}"
    print(f"  {to}: {source}; {letters}, log-probabilities at most {proof.furthest:.2g} apart")
    return proof


def _require_exportable(trained: TrainedRun, merged: bool) -> None:
    config = trained.project.config
    if config.prompt_by_type:
        raise ExportError("prompt_by_type=true depends on the type of question, which only mcvqa determines: use mcvqa answer.")
    if merged and (bits := published_bits(read_model_config(config))):
        raise ExportError(f"{config.model_id} has {bits} weights, but merging needs 16-bit weights: export without --merged.")


def _rows_for_proof(trained: TrainedRun, data: Path | None) -> NewRows:
    config = trained.project.config
    if data is None:
        try:
            files = find_data(config.data_dir, trained.cache / "data", written_by_runs=trained.project.paths.written)
        except DataError as error:
            raise DataError(f"{error}\nThe export is verified by answering rows: name some with --data FILE.") from None
        data = files.test or files.train
    assert data is not None
    asked = read_asked(data, config, trained.cache)
    readable = [question for question in asked.questions if not asked.problem(question)]
    return replace(asked, questions=tuple(readable[:PROOF_ROWS]))


# %% writing and proving
def _export_into(part: Path, trained: TrainedRun, asked: NewRows, merged: bool) -> Proof:
    config, plan = trained.project.config, _plan_of(trained.project.config)
    weights, dtype = trained.weights(trained.folds[0]), stored_dtype(config)
    base = load_base(config, plan)
    model = load_trained(base, weights)
    expected, scores = sampled_weights(model), _scores_of(model, base, asked, config)
    write_json(part / "ask.json", how_to_ask(base, config, str(dtype).removeprefix("torch.")))
    _copy_processor(part, base, config)
    if merged:
        save_merged(model, part, dtype)
        del model, base
        free_memory()
        anew = load_base(_config_of(part, config), plan)
        require_same_weights(expected, sampled_weights(anew.model), dtype)
        exported = _scores_of(anew.model, anew, asked, config)
    else:
        _copy_adapters(part, weights, config)
        remove_adapters(base, model)
        exported = _scores_of(load_adapter(base, part), base, asked, config)
    _copy_print(part, weights)
    proof = compare_scores(scores, exported, ROUNDED[dtype] if merged else SAME_NUMBERS)
    proof = _with_own_scores(proof, trained, exported)
    _write_pages(part, trained, proof, merged)
    return proof


def _plan_of(config: Config) -> DevicePlan:
    """Plan full weights: in the number format of the base model's files on a GPU, in float32 on a CPU."""
    plan = plan_device(config.replace(quantization="none"))
    return replace(plan, dtype=stored_dtype(config)) if plan.device == "cuda" else plan


def stored_dtype(config: Config) -> torch.dtype:
    """Return the 16-bit format of the base model's files; bfloat16 if it is stored in another format."""
    stored = getattr(read_model_config(config), "dtype", None)
    dtype = getattr(torch, str(stored).removeprefix("torch."), None)
    return dtype if dtype in ROUNDED else torch.bfloat16


def _config_of(folder: Path, config: Config) -> Config:
    """Use the exported folder as the model in the settings."""
    return config.replace(model_id=str(folder), revision="", chat_template="")


def _scores_of(model: nn.Module, base: BaseModel, asked: NewRows, config: Config) -> Scores:
    """Score in the original order of the choices at the training image size, as other tools do."""
    loaded = with_photographs(base, asked.records, config, None)
    once = config.replace(use_tta=False, answer_by="letters")
    return score_questions(model, base, loaded.maker, asked.questions, once, {}, title="proof")


def compare_scores(expected: Scores, actual: Scores, limit: float) -> Proof:
    """Compare the scores of the same rows.

    Args:
        expected, actual: scores in the same views.
        limit: largest allowed difference of log-probabilities.

    Raises:
        ExportError: they differ by more, or letters differ although two choices are further apart than twice that.
    """
    before, after = expected.mean(), actual.mean()
    known = before > NOT_ASKED
    furthest = float(abs(after[known] - before[known]).max())
    ranked = np.sort(np.where(known, before, -np.inf), axis=-1)
    other = before.argmax(-1) != after.argmax(-1)
    if not furthest <= limit or (other & (ranked[:, -1] - ranked[:, -2] > 2 * limit)).any():
        raise ExportError(
            f"The answers of the exported folder differ from the run's: {int(other.sum())} of {len(other)} letters differ, "
            f"log-probabilities by up to {furthest:.2g} where {limit:.2g} is acceptable. Nothing was exported."
        )
    return Proof(len(other), int((~other).sum()), furthest)


NOT_ASKED = -1e3  # log-probabilities of choices that are not there, or have no text, are below


def _with_own_scores(proof: Proof, trained: TrainedRun, scores: Scores) -> Proof:
    """Add the difference from the run's own scores of the same rows, which may come from 4-bit weights."""
    file = trained.project.paths.scores_of(trained.folds[0], "test")
    if not file.exists():
        return proof
    recorded = load_scores(file)
    index = {name: i for i, name in enumerate(recorded.ids.tolist())}
    both = [(i, index[name]) for i, name in enumerate(scores.ids.tolist()) if name in index]
    if not both or recorded.logprobs.shape[2] != scores.logprobs.shape[2]:
        return proof
    ours, theirs = (np.array(rows) for rows in zip(*both, strict=True))
    first = np.arange(len(recorded.scales)) == int(abs(recorded.scales - 1).argmin())
    before, after = recorded.rows(theirs).views(first).mean(), scores.rows(ours).mean()
    known = before > NOT_ASKED
    format_ = "4 bits" if recorded.provenance.get("four_bit") else str(recorded.provenance.get("precision", "other versions"))
    same = int((before.argmax(-1) == after.argmax(-1)).sum())
    return replace(
        proof, run_rows=len(both), run_same=same, run_mean=float(abs(after[known] - before[known]).mean()), run_weights=format_
    )


# %% the files beside the weights
def _copy_processor(part: Path, base: BaseModel, config: Config) -> None:
    """Copy tokenizer, image processor, chat template and generation settings of the base model byte for byte."""
    folder = local_folder(config)
    assert folder is not None, "the model was loaded from there"
    patterns = [p for p in CONTENT_FILES if p != "config.json" and "safetensors" not in p and not p.startswith("*.bin")]
    for file in {file for pattern in (*patterns, "generation_config.json") for file in folder.glob(pattern) if file.is_file()}:
        shutil.copyfile(file, part / file.name)
    if config.chat_template:
        shutil.copyfile(config.chat_template, part / "chat_template.jinja")
    if not (part / "generation_config.json").exists():
        base.model.generation_config.save_pretrained(part)


def _copy_adapters(part: Path, weights: Path, config: Config) -> None:
    """Copy the adapters unchanged, with the name of their base model instead of a path of this machine."""
    for file in weights.glob("*.safetensors"):
        shutil.copyfile(file, part / file.name)
    name = hub_name(config)
    named = {"base_model_name_or_path": name if "/" in name else None, "revision": config.revision or None}
    write_json(part / ADAPTER_CONFIG, read_json(weights / ADAPTER_CONFIG, dict) | named)


def _copy_print(part: Path, weights: Path) -> None:
    """Copy the list of training photographs, or note that it is unknown."""
    if (weights / TRAINED_ON).exists():
        shutil.copyfile(weights / TRAINED_ON, part / TRAINED_ON)
    else:
        unknown = f"what {part.name.removeprefix('.').removesuffix('.part')} was trained on was not recorded"
        write_json(part / TRAINED_ON, {"base": {}, "unknown": unknown, "photographs": ""})


def _write_pages(part: Path, trained: TrainedRun, proof: Proof, merged: bool) -> None:
    source = Path(_source_of_infer())
    shutil.copyfile(source, part / "infer.py")
    ask: dict[str, Any] = read_json(part / "ask.json", dict)
    write_text(part / "README.md", model_card(trained, ask, proof_lines(proof, merged), merged))
    write_text(part / "serve.md", serving_page(trained.project.config, ask, merged))


def _source_of_infer() -> str:
    from mcvqa.answer import infer

    return str(infer.__spec__.origin)


def proof_lines(proof: Proof, merged: bool) -> Sequence[str]:
    """Make the card's sentences about the verification.

    Args:
        proof: how the folder answers.
        merged: whether it has full weights, not adapters.
    """
    how = "merged weights rounded to 16 bits" if merged else "adapters on the 16-bit base model"
    lines = [
        f"After writing, this folder was loaded and asked {proof.rows} rows ({how}): {proof.same} get the same letter as from "
        f"the base model with the adapters; log-probabilities are at most {proof.furthest:.2g} apart."
    ]
    if proof.run_rows:
        lines.append(
            f"The run itself scored {proof.run_rows} of these rows with weights in {proof.run_weights}: {proof.run_same} have "
            f"the same letter, log-probabilities are {proof.run_mean:.2g} apart on average."
        )
    return lines
