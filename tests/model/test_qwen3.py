"""Qwen3-VL by the fast path: deepstack features beside the others, compared with the library at every station."""
import copy
import dataclasses

import numpy as np
import pytest
import torch

from mcvqa.base.files import RunLog
from mcvqa.config import LANGUAGE_PROJECTIONS
from mcvqa.data.images import ImageFolder, survey_images
from mcvqa.model.adapters import trained_parameters
from mcvqa.model.device import plan_device
from mcvqa.model.families.family import token_positions
from mcvqa.model.fast.forward import AnswerModel, answer_loss
from mcvqa.model.load import load_base, make_trainable, remove_adapters
from mcvqa.model.rows import RowMaker
from mcvqa.model.size import measure_model
from mcvqa.model.vision.features import FeatureStore, bytes_needed
from mcvqa.model.vision.patches import ImageInputs
from mcvqa.scoring.generated import generate_answer
from mcvqa.scoring.score import score_questions
from mcvqa.training.job import FoldJob
from mcvqa.training.loop import train_fold
from tests.model.other_families import save_family
from tests.model.small import encode_images

LEVELS = 2
ORDERS = np.array([[0, 1, 2, 3], [1, 3, 0, 2], [2, 0, 3, 1], [3, 2, 1, 0]])


@pytest.fixture(scope="module")
def config(tiny_config, tmp_path_factory):
    return tiny_config.replace(model_id=save_family("qwen3_vl", tmp_path_factory.mktemp("qwen3")), image_size=96)


@pytest.fixture(scope="module")
def base(config):
    return load_base(config, plan_device(config))


@pytest.fixture(scope="module")
def images(base, photographs, questions, config):
    records = survey_images(ImageFolder(photographs), [q.image for q in questions])
    return ImageInputs(records, base.processor, image_size=config.image_size, patch=base.patch, merge=base.merge)


@pytest.fixture(scope="module")
def maker(base, images, tmp_path_factory):
    store = FeatureStore(tmp_path_factory.mktemp("features"), base, images)
    for scale in (1.0, 1.5):
        store.fill(base, ["a.png", "b.png"], scale)
    return RowMaker(base.encoder, images, store)


@pytest.fixture(scope="module")
def answers(base):
    return AnswerModel(base.model, base.family, base.image_token_id).eval()


def logits_of(answers, batch):
    with torch.no_grad():
        return answers(batch)


# %% features
def test_features_are_the_librarys_with_the_deepstack_levels_beside_them(base, images):
    names = ["a.png", "b.png", "a.png"]
    patches = [images.patches(name, scale) for name, scale in zip(names, (1.0, 1.0, 1.5), strict=True)]
    grids = [images.grid(name, scale) for name, scale in zip(names, (1.0, 1.0, 1.5), strict=True)]
    assert len(set(grids)) == 3, "pictures of several sizes in one batch"
    with torch.no_grad():
        theirs = base.vision(torch.cat(patches), grid_thw=torch.tensor(grids))
    wanted = torch.cat([theirs.pooler_output, *theirs.deepstack_features], -1)
    ours = torch.cat(encode_images(base, torch.cat(patches), grids, names))
    assert len(theirs.deepstack_features) == LEVELS and wanted.abs().mean() > 0.01
    torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=1e-5)


def test_the_disk_space_counts_the_levels(maker, images):
    store = maker.store
    files = sum(f.stat().st_size for f in store.folder.rglob("*.npy"))
    needed = sum(bytes_needed(store, ["a.png", "b.png"], scale) for scale in (1.0, 1.5))
    assert files == pytest.approx(needed, abs=600)
    rows, columns = images.grid("a.png")[1:]
    assert store.load("a.png").shape == (rows * columns // 4, 64 * (1 + LEVELS))


@pytest.mark.parametrize(("before", "rows", "columns", "after"), [(3, 4, 2, 5), (0, 2, 7, 1), (9, 5, 5, 8)])
def test_positions_are_the_models(base, before, rows, columns, after):
    ids = torch.tensor([[9] * before + [base.image_token_id] * (rows * columns) + [9] * after])
    is_image = ids == base.image_token_id
    theirs, _ = base.model.model.get_rope_index(ids, is_image.int(), torch.tensor([(1, 2 * rows, 2 * columns)]))
    ours = token_positions(is_image[0].numpy(), (1, 2 * rows, 2 * columns), 2)
    np.testing.assert_array_equal(ours, theirs[:, 0].numpy())


# %% logits
@pytest.mark.parametrize("live", [False, True], ids=["from the store", "from the photographs"])
def test_logits_are_those_of_the_library(base, answers, maker, questions, live):
    """Compared with the model called the usual way; rows of two pictures and one of none stand in one batch."""
    made = dataclasses.replace(maker, store=None) if live else maker
    for scale in (1.0, 1.5):
        rows = [made.row(question, scale=scale) for question in questions]
        ours = logits_of(answers, made.batch(rows, scale))[:, 0]
        for row, mine in zip(rows, ours, strict=True):
            ids = torch.from_numpy(row.input_ids)[None]
            seen = {} if row.image is None else dict(
                pixel_values=maker.images.patches(row.image, scale), image_grid_thw=torch.tensor([row.grid])
            )
            with torch.no_grad():
                theirs = base.model(
                    input_ids=ids, attention_mask=torch.ones_like(ids), mm_token_type_ids=(ids == base.image_token_id).int(),
                    **seen,
                ).logits[0, -1]
            torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


def test_the_deepstack_levels_matter(answers, maker, questions):
    batch = maker.batch([maker.row(questions[0])])
    shallow = batch.images.clone()
    shallow[:, 64:] = 0
    without = logits_of(answers, dataclasses.replace(batch, images=shallow))
    assert (logits_of(answers, batch) - without).abs().max() > 1e-2, "or the tests above compare nothing"


def test_packed_orders_are_those_asked_apart(answers, maker, questions):
    alone = [logits_of(answers, maker.batch([maker.row(questions[0], order[None])]))[0, 0] for order in ORDERS]
    packed = maker.row(questions[0], ORDERS)
    together = logits_of(answers, maker.batch([maker.row(questions[1]), packed, maker.row(questions[2])]))[1]
    for mine, wanted in zip(together, alone, strict=True):
        torch.testing.assert_close(mine, wanted, atol=1e-4, rtol=1e-4)


def test_all_orders_and_scales_are_scored(base, maker, questions, config):
    config = config.replace(use_tta=True, tta_orders=3, tta_scales=(1.0, 1.5))
    scores = score_questions(base.model, base, maker, questions[:2], config, {})
    assert scores.logprobs.shape == (2, 6, 4) and np.isfinite(scores.logprobs[0]).all()


def test_answers_are_generated(base, maker, questions, config):
    assert isinstance(generate_answer(base.model, base, maker, questions[0], config), str)


# %% adapters, 4 bits, training
@pytest.mark.parametrize("vision", [False, True])
def test_adapters_reach_the_intended_modules_only(base, config, vision):
    config = config.replace(lora_vision=vision)
    own = dataclasses.replace(base, model=copy.deepcopy(base.model))
    model = make_trainable(own, config, 0)
    reached = {name.removeprefix("base_model.model.").split(".lora_")[0] for name in trained_parameters(model)}
    blocks = ("attn.qkv", "attn.proj", "mlp.linear_fc1", "mlp.linear_fc2")
    tower = {f"model.visual.blocks.{i}.{name}" for i in range(4) for name in blocks}
    language = {f"model.language_model.layers.{i}" for i in range(3)}
    assert {name for name in reached if ".visual." in name} == (tower if vision else set())
    rest = {name for name in reached if ".visual." not in name}
    assert {name.rsplit(".", 2)[0] for name in rest} == language and len(rest) == 3 * len(LANGUAGE_PROJECTIONS)
    assert measure_model(base.model.config, config).trained == sum(p.numel() for p in trained_parameters(model).values())


def test_gradients_pass_through_every_deepstack_level(base, config, maker, questions):
    """With the vision tower trained, features are live, and each level's layers learn."""
    config = config.replace(lora_vision=True)
    own = dataclasses.replace(base, model=copy.deepcopy(base.model))
    model = make_trainable(own, config, 0)
    live = dataclasses.replace(maker, store=None)
    batch = live.batch([live.row(q) for q in questions[:2]])
    answer_loss(AnswerModel(model, base.family, base.image_token_id)(batch), batch).sum().backward()
    touched = {n for n, p in trained_parameters(model).items() if "lora_B" in n and p.grad is not None and p.grad.abs().sum() > 0}
    assert {int(name.split(".blocks.")[1].split(".")[0]) for name in touched if ".blocks." in name} == {0, 1, 2, 3}


def test_only_the_language_model_gets_4_bits(config):
    config = config.replace(quantization="4bit")
    base = load_base(config, plan_device(config))  # verify_quantization looks at every module
    names = {name for name, module in base.model.named_modules() if type(module).__name__ == "Linear4bit"}
    assert len(names) == 3 * len(LANGUAGE_PROJECTIONS)


@pytest.mark.parametrize("vision", [False, True])
def test_a_fold_lowers_the_loss(base, config, maker, questions, tmp_path, vision):
    few = [questions[0], questions[1], questions[3]]
    settings = config.replace(
        num_epochs=8, learning_rate=1e-2, lora_vision=vision, use_ema=False, shuffle_choices=False, keep="last",
        n_folds=2,
    )
    made = dataclasses.replace(maker, store=None) if vision else maker
    log = RunLog(tmp_path / "log.jsonl")
    result = train_fold(FoldJob(settings, base, made, few, few, 0, tmp_path / "fold", log))
    remove_adapters(base, result.model)
    before = train_fold(FoldJob(settings.replace(num_epochs=0), base, made, few, few, 0, tmp_path / "none", log))
    remove_adapters(base, before.model)
    assert result.variants["raw"].loss < before.variants["raw"].loss - 0.3
