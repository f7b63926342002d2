"""An exported folder answers as the run does, also where this package is not; else it is refused, and nothing stays."""
import contextlib
import io
import json
import runpy
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mcvqa
from mcvqa import run
from mcvqa.answer import export
from mcvqa.answer.answerer import Answerer
from mcvqa.answer.asked import asked_question, read_asked
from mcvqa.answer.card import licence_of, serving_page
from mcvqa.answer.export import Proof, compare_scores, export_run
from mcvqa.answer.how_to_ask import hub_name, prompt_to_fill
from mcvqa.answer.merge import ExportError, require_same_weights
from mcvqa.base.files import DiskError, disk_errors_explained, read_json, write_json
from mcvqa.data.answers import LETTERS
from mcvqa.data.table import DataError
from mcvqa.model.load import load_encoder
from mcvqa.scoring.scores import plain_scores
from mcvqa.training.checkpoint import verified
from tests.answer.conftest import files_of_run
from tests.conftest import tiny_settings
from tests.faults import small_disk
from tests.model.other_families import save_family
from tests.run.conftest import blank_each, figures_made_by
from tests.test_cli import typed

TINY = Path(mcvqa.__file__).parent / "tiny"


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory) -> dict[str, Path]:
    """The run as adapters and as whole weights; nothing of the run was changed."""
    top, before = tmp_path_factory.mktemp("exported"), files_of_run(trained)
    assert export_run(trained, top / "adapters").same == 9
    typed("export", str(Path(trained.output_dir) / "experiments/r"), "--to", str(top / "merged"), "--merged")
    assert files_of_run(trained) == before
    return {"adapters": top / "adapters", "merged": top / "merged"}


Rows = list[tuple[str, str, list[str]]]  # photograph, question, choices


@pytest.fixture(scope="module")
def rows(trained, answerer, dataset) -> Rows:
    """The test rows, and one that tries to end its message."""
    asked = read_asked(dataset / "test.csv", trained, answerer.trained.cache)
    rows = [(str(dataset / q.image), q.text, list(q.choices)) for q in asked.questions]
    return [*rows, (rows[0][0], "Red?<|im_end|>{options}", ["yes <|image_pad|>", "no"])]


def require_same_answers(run: Answerer, rows: Rows, found: list[list[float]], within: float) -> None:
    for answer, shares in zip(run.answer_all(rows), found, strict=True):
        assert answer.letter == LETTERS[int(np.argmax(shares))]
        assert shares == pytest.approx(answer.probabilities, abs=within)


KINDS = [("adapters", str(TINY), 1e-5), ("merged", "", 0.01)]


@pytest.mark.nightly
@pytest.mark.parametrize(("kind", "base", "within"), KINDS)
def test_infer_gives_the_same_letters(trained, exported, rows, kind, base, within):
    names = runpy.run_path(str(exported[kind] / "infer.py"))
    loaded = names["load_exported"](exported[kind], base)
    found = [names["letter_probabilities"](loaded, *row) for row in rows]
    require_same_answers(Answerer(trained, use_tta=False), rows, found, within)


@pytest.mark.nightly
def test_infer_shows_transparency_on_white_too(trained, exported, rows, tmp_path):
    """A black shape on nothing was black on black."""
    picture = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    picture.paste((0, 0, 0, 255), (16, 16, 40, 40))
    picture.save(tmp_path / "clear.png")
    row = (str(tmp_path / "clear.png"), *rows[0][1:])
    names = runpy.run_path(str(exported["merged"] / "infer.py"))
    found = names["letter_probabilities"](names["load_exported"](exported["merged"]), *row)
    require_same_answers(Answerer(trained, use_tta=False), [row], [found], 0.01)


@pytest.mark.nightly
@pytest.mark.parametrize("values", [
    np.arange(4096, dtype=np.uint16).reshape(64, 64), np.linspace(0, 1, 4096, dtype=np.float32).reshape(64, 64),
    np.zeros((2, 500, 3), np.uint8),
])
def test_infer_refuses_pictures_that_it_would_show_otherwise(exported, rows, tmp_path, values):
    """Pillow makes all above 255 white, and the answer would be that of a white picture; strips are padded in training."""
    Image.fromarray(values).save(tmp_path / "x-ray.tiff")
    names = runpy.run_path(str(exported["merged"] / "infer.py"))
    with pytest.raises(ValueError, match=r"x-ray\.tiff has more than 8 bits per channel, or is a strip"):
        names["letter_probabilities"](names["load_exported"](exported["merged"]), str(tmp_path / "x-ray.tiff"), *rows[0][1:])


WITHOUT_PACKAGE = """
import json, runpy, sys
sys.modules['mcvqa'] = None
try:
    import mcvqa
except ImportError:
    pass
else:
    raise SystemExit('the package can be imported')
folder, base, rows = sys.argv[1:]
names = runpy.run_path(folder + '/infer.py')
loaded = names['load_exported'](names['Path'](folder), base)
print(json.dumps([names['letter_probabilities'](loaded, *row) for row in json.loads(rows)]))
"""


def asked_elsewhere(folder: Path, rows: Rows, base: str = "") -> list[list[float]]:
    """What infer.py of the folder gives in a process where this package cannot be imported."""
    words = [sys.executable, "-c", WITHOUT_PACKAGE, str(folder), base, json.dumps(rows)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.nightly
@pytest.mark.parametrize(("kind", "base", "within"), KINDS)
def test_infer_gives_the_same_letters_where_the_package_is_not(trained, exported, rows, kind, base, within):
    require_same_answers(Answerer(trained, use_tta=False), rows, asked_elsewhere(exported[kind], rows, base), within)


@pytest.mark.parametrize("family", ["qwen3_vl", "idefics3", "gemma3"])
@pytest.mark.parametrize("merged", [
    pytest.param(False, marks=pytest.mark.torture), pytest.param(True, marks=pytest.mark.nightly),
])
def test_other_families_are_asked_elsewhere(dataset, tmp_path, rows, family, merged):
    """With an image processor of their own, and where one processor takes text and photograph together."""
    config = tiny_settings(
        tmp_path / "out", data_dir=str(dataset), run_name="r", use_kfold=False, n_folds=2, num_epochs=1, use_ema=False,
        model_id=save_family(family, tmp_path / "model"), image_size=64, target_modules=("q_proj",), learning_rate=1e-2,
    )
    with figures_made_by(blank_each), contextlib.redirect_stdout(io.StringIO()):
        run(config)
        export_run(config, tmp_path / "exported", merged=merged)
    found = asked_elsewhere(tmp_path / "exported", rows[:9], "" if merged else config.model_id)
    # unmerged, one build of torch was 3e-5 apart
    require_same_answers(Answerer(config), rows[:9], found, 0.02 if merged else 1e-4)


@pytest.mark.nightly
def test_infer_is_short_and_says_how_it_is_called(exported, monkeypatch, dataset, capsys):
    script = exported["merged"] / "infer.py"
    source = script.read_text(encoding="utf-8")
    assert len(source.splitlines()) < 60 and "mcvqa" not in source
    monkeypatch.setattr(sys, "argv", [str(script)])
    with pytest.raises(SystemExit, match=r"python infer\.py PHOTO QUESTION CHOICE CHOICE"):
        runpy.run_path(str(script), run_name="__main__")
    for photo in ("nowhere.jpg", str(script)):
        monkeypatch.setattr(sys, "argv", [str(script), photo, "Which color?", "red", "green"])
        with pytest.raises(SystemExit, match=photo):
            runpy.run_path(str(script), run_name="__main__")
    monkeypatch.setattr(sys, "argv", [str(script), str(dataset / "test/test_0000.jpg"), "Which color?", "red", "green"])
    runpy.run_path(str(script), run_name="__main__")
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    assert [(line[0], line[2]) for line in lines] == [("a", "red"), ("b", "green")]
    assert sum(float(line[1]) for line in lines) == pytest.approx(1, abs=1e-3)


@pytest.mark.nightly
# %% what is in the folder
def test_the_folder_holds_what_other_tools_read(exported):
    names = {kind: {file.name for file in folder.iterdir()} for kind, folder in exported.items()}
    beside = {"README.md", "serve.md", "infer.py", "ask.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
              "preprocessor_config.json", "generation_config.json", "manifest.json", "trained_on.json"}
    assert names["adapters"] == beside | {"adapter_config.json", "adapter_model.safetensors"}
    assert names["merged"] == beside | {"config.json", "model.safetensors"}
    for folder in exported.values():
        assert verified(folder)["run"] == "r"
        assert (folder / "tokenizer.json").read_bytes() == (TINY / "tokenizer.json").read_bytes()
    assert read_json(exported["merged"] / "config.json", dict)["dtype"] == "float16"


@pytest.mark.nightly
def test_no_path_of_this_machine_travels(trained, exported):
    texts = [file.read_text(encoding="utf-8") for folder in exported.values() for file in folder.iterdir()
             if file.suffix in (".json", ".md") and file.name != "tokenizer.json"]
    for path in (trained.output_dir, trained.data_dir, str(TINY), str(Path.home())):
        assert not any(path in text for text in texts)


@pytest.mark.nightly
def test_the_card_tells_accuracy_data_proof_and_how_to_ask(exported):
    card = (exported["adapters"] / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlicense: apache-2.0\nlibrary_name: peft\n")
    for message in (
        "LoRA adapters, rank 8 of tiny", "24 labelled rows", "on 12 validation rows", "95 % interval", "asked 9 rows",
        "9 get the same letter", "The run itself scored 9 of these rows with weights in float32", "Answer {letters}.",
        "{question}\n{options}", "3,136 pixels", "The base model's licence is apache-2.0", "Before you publish it",
    ):
        assert message in card, message
    merged = (exported["merged"] / "README.md").read_text(encoding="utf-8")
    assert "library_name: transformers" in merged and "full weights in 16 bits" in merged
    assert "One option order is asked" in merged, "the run averages two"


def test_the_serving_page_fits_the_adapters(trained):
    ask = {"base_model": "Qwen/Qwen2.5-VL-3B-Instruct", "pixels": 3136, "system_prompt": "{letters}", "user_prompt": "{question}"}
    page = serving_page(trained.replace(lora_r=12), ask, False)
    assert "vllm serve Qwen/Qwen2.5-VL-3B-Instruct" in page and "--max-lora-rank 16 " in page and "**" not in page
    code = page.split("```python\n")[1].split("```")[0]
    compile(code, "serve.md", "exec")
    warned = serving_page(trained.replace(lora_vision=True, lora_r=513), ask, False)
    assert "takes no adapters of the vision tower" in warned and "ranks up to 512" in warned
    assert "--lora" not in serving_page(trained, ask, True)


@pytest.mark.nightly
def test_a_run_goes_on_from_the_merged_folder(exported, dataset, tmp_path):
    """As the base model of another run, which answers and is exported again."""
    config = tiny_settings(
        tmp_path / "out", data_dir=str(dataset), run_name="on", use_kfold=False, n_folds=2, num_epochs=1, use_ema=False,
        model_id=str(exported["merged"]),
    )
    with figures_made_by(blank_each), contextlib.redirect_stdout(io.StringIO()):
        assert run(config).accuracy.not_measured == "", "the same split: its rows were not learned from"
        other = run(config.replace(run_name="other", seed=3))
    assert "may have been trained on the photographs" in other.metrics.overall.accuracy.not_measured
    assert other.submitted.run == "on", "a submission whose accuracy is measured is not replaced by one whose accuracy is not"
    assert Answerer(config).answer(dataset / "test/test_0000.jpg", "?", ["red", "green"]).letter in "ab"
    assert export_run(config, tmp_path / "again", merged=True).same == 9


@pytest.mark.nightly
def test_weights_that_were_trained_as_a_whole_are_exported_whole(dataset, tmp_path, rows):
    config = tiny_settings(
        tmp_path / "out", data_dir=str(dataset), run_name="r", use_kfold=False, n_folds=2, num_epochs=1, use_ema=False, lora_r=0,
    )
    with figures_made_by(blank_each), contextlib.redirect_stdout(io.StringIO()):
        run(config)
        export_run(config, tmp_path / "exported")
    require_same_answers(Answerer(config), rows, asked_elsewhere(tmp_path / "exported", rows), 0.02)


# %% names
@pytest.mark.parametrize(("model_id", "name"), [
    ("Qwen/Qwen2.5-VL-3B-Instruct", "Qwen/Qwen2.5-VL-3B-Instruct"), ("tiny", "tiny"), ("/home/me/models/my-qwen/", "my-qwen"),
    ("/root/.cache/huggingface/hub/models--Qwen--Qwen2.5-VL-3B-Instruct/snapshots/66285546d2b8", "Qwen/Qwen2.5-VL-3B-Instruct"),
])
def test_the_base_model_goes_by_its_hub_name(tiny_config, model_id, name):
    assert hub_name(tiny_config.replace(model_id=model_id)) == name


def test_a_licence_is_that_of_the_base_models_card(tiny_config, tmp_path):
    assert licence_of(tiny_config) == "apache-2.0"
    assert licence_of(tiny_config.replace(model_id=str(tmp_path))) == ""


def test_the_prompt_keeps_its_places(tiny_config):
    """Filled in, it is the prompt that the run trains, for any number of choices."""
    config = tiny_config.replace(system_prompt="Say {letters}.", user_prompt="Look.\n{question}\n{options}\nOne of {letters}: ")
    encoder, _, _ = load_encoder(config)
    question = asked_question("What?", ["red", "green"], "x.jpg")
    for with_image in (True, False):
        text = prompt_to_fill(encoder.template, with_image=with_image)
        filled = text.replace("{question}", "What?").replace("{options}", "(a) red\n(b) green").replace("{letters}", "a, b")
        assert filled == encoder.template.text(question, range(2), with_image=with_image)


# %% refused, and nothing stays
def refused(config, to: Path, message: str, **options) -> None:
    with pytest.raises(ExportError, match=message):
        export_run(config, to, **options)
    assert not to.exists() and not list(to.parent.glob(f".{to.name}*"))


@pytest.mark.nightly
def test_weights_that_were_not_merged_are_refused(trained, tmp_path, monkeypatch):
    """The recurring bug of other tools: the adapters are dropped, the folder loads, and it answers as the base model."""
    def dropped(model, folder, dtype):
        model.unload().to(dtype).save_pretrained(folder)

    monkeypatch.setattr(export, "save_merged", dropped)
    message = r"56 of \d+ weights differ from those of the base model with the adapters, first model\.language"
    refused(trained, tmp_path / "m", message, merged=True)


@pytest.mark.nightly
def test_adapters_of_another_fold_are_refused(copied, old, tmp_path, monkeypatch):
    def other(part, weights, config):
        for file in Path(old.output_dir, "checkpoints/old/fold0/best").glob("adapter*"):
            shutil.copyfile(file, part / file.name)

    monkeypatch.setattr(export, "_copy_adapters", other)
    refused(copied, tmp_path / "a", "answers of the exported folder differ from the run's")


@pytest.mark.parametrize(("after", "message"), [
    ([0.2, 0.8], "1 of 1 letters differ"), ([0.52, 0.48], r"by up to 0\.\d+ where 0\.05 is acceptable"),
])
def test_answers_that_differ_are_refused(after, message):
    before, after = (plain_scores(["x"], np.log([shares]), [2], {}) for shares in ([0.6, 0.4], after))
    with pytest.raises(ExportError, match=message):
        compare_scores(before, after, 0.05)


def test_what_rounding_explains_is_accepted():
    before, after = (plain_scores(["x"], np.log([shares]), [2], {}) for shares in ([0.501, 0.499], [0.499, 0.501]))
    proof = compare_scores(before, after, 0.05)
    assert proof == Proof(1, 0, pytest.approx(0.004, abs=1e-4)), "a tie may fall to the other side"
    exact = {"w": torch.tensor([[1.0, 1.003]], dtype=torch.float64)}
    rounded = {"w": exact["w"].to(torch.bfloat16).double()}
    require_same_weights(exact, rounded, torch.bfloat16)
    with pytest.raises(ExportError, match="1 of 1 weights"):
        require_same_weights(exact, rounded, torch.float16)


@pytest.mark.nightly
def test_what_cannot_be_exported(trained, exported, tmp_path):
    with pytest.raises(ExportError, match="exists: name a new folder"):
        export_run(trained, exported["merged"])
    with pytest.raises(DataError, match=r"(?s)There is no .*name some with --data FILE"):
        export_run(trained.replace(data_dir=str(tmp_path / "gone")), tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(("changes", "merged", "message"), [
    ({"prompt_by_type": True}, False, "depends on the type of question"), ({"model_id": "{packed}"}, True, "has 4-bit weights"),
])
def test_models_that_only_this_package_can_ask_or_that_cannot_be_merged(answerer, tmp_path, changes, merged, message):
    shutil.copytree(TINY, tmp_path / "packed")
    packing = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    write_json(tmp_path / "packed/config.json", read_json(TINY / "config.json", dict) | packing)
    project = answerer.trained.project
    given = {name: str(value).format(packed=tmp_path / "packed") for name, value in changes.items()}
    changed = project.config.replace(**given)
    trained = replace(answerer.trained, project=replace(project, config=changed))
    with pytest.raises(ExportError, match=message):
        export._require_exportable(trained, merged)


@pytest.mark.nightly
def test_a_full_disk_leaves_nothing(trained, tmp_path):
    full = tmp_path / "small"
    with small_disk(full, "4m"):
        with pytest.raises(DiskError, match="The disk is full"), disk_errors_explained():
            export_run(trained, full / "merged", merged=True)
        assert not list(full.iterdir())


@pytest.mark.nightly
def test_the_command_tells_in_one_line(trained, exported):
    run = str(Path(trained.output_dir) / "experiments/r")
    said = typed("export", run, "--to", str(exported["merged"]), status=1)
    assert said.count("error: ") == 1 and "name a new folder" in said
    assert "There is no fold 4" in typed("export", run, "--to", "nowhere", "--fold", "4", status=1)
