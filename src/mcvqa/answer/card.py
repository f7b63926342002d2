"""Writes the pages of an exported folder: a model card made from the run's report, and how to serve the model."""
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mcvqa.answer.trained import TrainedRun
from mcvqa.base.files import DamagedFile, read_json
from mcvqa.config import EXPERTS, Config
from mcvqa.data.folds import FINAL, fold_title
from mcvqa.model.content import local_folder

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM's --max-lora-rank takes


def model_card(trained: TrainedRun, ask: dict[str, Any], proof: Sequence[str], merged: bool) -> str:
    """Write README.md of the folder, with the front matter of the hub.

    Args:
        trained: the run, with the fold that is exported.
        ask: content of ask.json.
        proof: sentences about the verification of the folder.
        merged: whether it has full weights, not adapters.
    """
    config, fold = trained.project.config, trained.folds[0]
    base, licence = ask["base_model"], licence_of(config)
    library = "transformers" if merged else "peft"
    kind = "full weights in 16 bits" if merged else f"LoRA adapters, rank {config.lora_r}"
    unverified = " Its weights were made by mcvqa 0.1, which recorded less." if fold in trained.unverified else ""
    front = [f"license: {licence}"] if licence and re.fullmatch(r"[\w.-]+", licence) else []
    front += [f"base_model: {base}"] if "/" in base else []
    return "\n".join((
        "---", *front, f"library_name: {library}", "pipeline_tag: image-text-to-text", "---", "",
        f"# {config.run}, {fold_title(fold)}{' model' * (fold == FINAL)}", "",
        f"Answers multiple-choice questions about photographs: {kind} of {base}, fine-tuned with mcvqa.{unverified}", "",
        "## Data", "", _data_line(trained), "", "## Accuracy", "", *_card_accuracy(trained), "",
        "## Verified", "", *proof, "", "## How to ask", "",
        f"`python infer.py photo.jpg \"Question?\" choice choice ...`{'' if merged else _base_advice(base)}", "",
        f"- Photograph: {_photograph_line(ask)}",
        "- Choices are shown as `(a) ...`, one per line; the answer is the letter with the highest logit after the prompt.",
        "- Nothing is generated: the probabilities are the softmax over the letters at that position.",
        "- If choices begin with letters of their own (`A. red`), remove these first.",
        *_one_order(trained.project.config), "",
        "System prompt:", "", _fenced(ask["system_prompt"]), "", "User prompt, after the photograph:", "",
        _fenced(ask["user_prompt"]), "", "## Before you publish it", "",
        f"The base model's licence is {licence or 'not stated in its folder: look at its page'}.",
        "Weights can give away what they were trained on: make sure that you may publish a model of these photographs and",
        "questions, above all where people can be seen.",
        "The folder is what `hf upload OWNER/NAME .` takes. It holds no photographs. `trained_on.json` has a hash and 16 colours",
        "of each training photograph: anyone who has a photograph can tell whether it was used. If nobody may know, delete that",
        "file; a run that starts from this folder then reports its accuracy as not measured.", "",
    ))


def _one_order(config: Config) -> list[str]:
    if not config.use_tta:
        return []
    return ["- One option order is asked. The run averages several (`use_tta`), so `mcvqa answer` gives other probabilities."]


def _base_advice(base: str) -> str:
    return "" if "/" in base else f", with BASE_MODEL=FOLDER of {base} in the environment"


def _photograph_line(ask: dict[str, Any]) -> str:
    if not ask["pixels"]:
        return "as the processor resizes it."
    return f"upright, resized to about {ask['pixels']:,} pixels (`shortest_edge` and `longest_edge` of the image processor)."


def _fenced(text: str) -> str:
    ticks = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
    return f"{ticks}text\n{text}\n{ticks}"


def _data_line(trained: TrainedRun) -> str:
    facts = _facts_in(trained.project.paths.experiment / "data.json")
    if "training_rows" not in facts:
        return "Not recorded."
    more = " It was also trained on test rows with a model's answers (`pseudo`)." if trained.project.config.pseudo else ""
    if trained.folds[0] == FINAL:
        return f"{facts['training_rows']:,} labelled rows; the model was trained on all of them.{more}"
    folds = trained.project.config.folds_to_train
    split = f"all but fold {trained.folds[0]} of {len(folds)} folds" if len(folds) > 1 else "all but the validation rows"
    return f"{facts['training_rows']:,} labelled rows; the model was trained on {split}.{more}"


def _accuracy_of_folds(accuracy: dict[str, Any] | None) -> list[str]:
    """State the accuracy of the models that were trained like the final one, on fewer rows."""
    statement = "Not measured: this model was trained on all labelled rows."
    if not accuracy or accuracy.get("not_measured"):
        return [statement]
    return [statement, (
        f"The run's folds, trained in the same way on fewer rows, reach {accuracy['value']:.3f} (95 % interval "
        f"{accuracy['low']:.3f} to {accuracy['high']:.3f}) on {accuracy['n']:,} rows that they were not trained on."
    )]


def _card_accuracy(trained: TrainedRun) -> list[str]:
    """State the accuracy of the exported fold on the rows on which it was not trained."""
    metrics = _facts_in(trained.project.paths.experiment / "metrics.json").get("metrics") or {}
    if trained.folds[0] == FINAL:
        return _accuracy_of_folds((metrics.get("overall") or {}).get("accuracy"))
    groups = [group for group in metrics.get("by_fold", []) if group.get("name") == f"fold {trained.folds[0]}"]
    if not groups:
        return ["Not measured: the run has no report."]
    accuracy, blind = groups[0]["accuracy"], groups[0].get("blind") or {}
    if reason := accuracy.get("not_measured"):
        return [f"Not measured: {reason}."]
    lines = [
        f"{accuracy['value']:.3f} (95 % interval {accuracy['low']:.3f} to {accuracy['high']:.3f}) on {accuracy['n']:,} "
        f"validation rows of this fold, which it was not trained on. Guessing: {groups[0]['chance']:.3f}."
    ]
    return [*lines, *([f"The texts alone, without the photograph, give {blind['value']:.3f}."] if blind.get("value") else [])]


def _facts_in(file: Path) -> dict[str, Any]:
    try:
        return read_json(file, dict)
    except (OSError, DamagedFile):
        return {}


def licence_of(config: Config) -> str:
    """Read the licence from the base model's own card; empty if it states none."""
    folder = local_folder(config)
    card = folder / "README.md" if folder else Path("README.md")
    if folder is None or not card.exists():
        return ""
    front = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    named = re.search(r"^license:\s*(\S+)", front[1], re.MULTILINE) if front else None
    return named[1] if named else ""


# %% serving
def serving_page(config: Config, ask: dict[str, Any], merged: bool) -> str:
    """Write serve.md: commands for vLLM and SGLang, and a request that reads the letters' log-probabilities.

    Args:
        config: settings of the run.
        ask: content of ask.json.
        merged: whether the folder has full weights, not adapters.
    """
    rank = next((rank for rank in LORA_RANKS if rank >= config.lora_r), config.lora_r)
    model = "." if merged else ask["base_model"]
    lora = "" if merged else f" --enable-lora --max-lora-rank {rank} --lora-modules quiz=."
    limits = json.dumps({"min_pixels": ask["pixels"], "max_pixels": ask["pixels"]}) if ask["pixels"] else ""
    pixels = f" --mm-processor-kwargs '{limits}'" if limits else ""
    limited = {
        "**vLLM takes no adapters of the vision tower** (lora_vision=true)": config.lora_vision,
        "**vLLM ignores adapters on experts without a word** (vllm-project/vllm, pull request 41384)":
            EXPERTS in config.target_modules,
        f"**vLLM takes ranks up to {LORA_RANKS[-1]}**, and these adapters have {config.lora_r}": config.lora_r > LORA_RANKS[-1],
    }
    warnings = [f"{what}: export with --merged." for what, applies in limited.items() if applies and not merged]
    letters = [f'"{letter}"' for letter in "abcd"]
    return "\n".join((
        "# Serving", "", "Nobody has run these commands with this folder; `infer.py` was.", "", *warnings,
        *([""] if warnings else []),
        "```bash",
        f"vllm serve {model} --served-model-name quiz{'-base' if lora else ''}{lora}{pixels} --max-logprobs 20",
        *([f"python -m sglang.launch_server --model-path {model} --served-model-name quiz"] if merged else []), "```", "",
        "One request. The answer is the letter with the highest log-probability of the first token:", "",
        "```python", "import base64, requests", "", 'photo = base64.b64encode(open("photo.jpg", "rb").read()).decode()',
        f"system = {ask['system_prompt']!r}" + '.replace("{letters}", "a, b, c, d")',
        f"user = {ask['user_prompt']!r}",
        'user = user.replace("{question}", "What color is the car?").replace("{letters}", "a, b, c, d")',
        'user = user.replace("{options}", "(a) red\\n(b) green\\n(c) blue\\n(d) white")',
        'reply = requests.post("http://localhost:8000/v1/chat/completions", json={',
        '    "model": "quiz", "max_tokens": 1, "temperature": 0, "logprobs": True, "top_logprobs": 20, "messages": [',
        '        {"role": "system", "content": system},',
        '        {"role": "user", "content": [',
        '            {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{photo}"}},',
        '            {"type": "text", "text": user}]}]}).json()',
        'first = reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"]',
        f'print({{one["token"]: one["logprob"] for one in first if one["token"] in ({", ".join(letters)})}})', "```", "",
    ))
