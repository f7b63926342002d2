"""What every family must pass: names, positions, logits, gradients and packed orders are those of the library's own model.

A new family needs an entry in tests/model/small.py and one in tests/model/tried_families.py, and nothing here; all of one family:

    pytest -m "" tests/model/test_families.py -k qwen3_5
"""
import re

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from transformers import AutoModelForImageTextToText

from mcvqa.config import Config
from mcvqa.data.images import ImageFolder, survey_images
from mcvqa.model.adapters import trained_parameters
from mcvqa.model.device import plan_device
from mcvqa.model.families.family import image_grid, token_positions
from mcvqa.model.families.registry import FAMILIES
from mcvqa.model.family_choice import decoder_linears, family_of, takes_fast_path
from mcvqa.model.fast.forward import answer_loss
from mcvqa.model.load import load_base
from mcvqa.model.rows import RowMaker
from mcvqa.model.vision.features import FeatureStore
from mcvqa.model.vision.patches import ImageInputs
from tests.model.small import IMAGE, ROWS, OneByOne, answering, batch_of, small_model, small_pictures
from tests.model.test_block import adapted, assert_same, outcome
from tests.model.tried_families import TRIED, save_tried


# %% logits and gradients
@pytest.fixture(scope="module", params=list(FAMILIES))
def model_type(request):
    return request.param


@pytest.fixture(scope="module")
def model(model_type):
    return small_model(model_type)


@pytest.fixture(scope="module")
def pictures(model):
    return small_pictures(model)


@pytest.mark.parametrize("frozen", [False, True], ids=["the library's layers", "blocks"])
def test_logits_are_those_of_the_library_for_each_prompt_alone(model_type, model, pictures, frozen):
    """Invariant 2, with orders, pictures and rows of every kind side by side."""
    recurrent = FAMILIES[model_type].recurrent
    if recurrent and not frozen:
        pytest.skip("the library's layers cannot read a list of tokens with states: load_base refuses")
    model.requires_grad_(not frozen)
    answers, batch = answering(model), batch_of(ROWS, pictures, recurrent)
    model.requires_grad_(True)
    assert bool(answers.blocks) is frozen
    with torch.no_grad():
        ours, theirs = answers(batch), OneByOne(model, ROWS, pictures)(batch)
    real = (batch.letters >= 0).any(-1)
    torch.testing.assert_close(ours[real], theirs[real], atol=2e-5, rtol=1e-5)
    said = torch.stack([ours[0, 0], ours[0, 1], ours[2, 0], ours[3, 0], ours[5, 0]])
    assert torch.pdist(said).min() > 0.1, "or nothing is compared"


def test_the_library_is_handed_no_mask(model_type, model, pictures):
    if FAMILIES[model_type].recurrent:
        pytest.skip("the library's layers are never used")
    masks = []

    def note(module, args, kwargs):
        masks.append(kwargs["attention_mask"])

    layers = model.get_submodule("model.language_model").layers
    hooks = [layer.self_attn.register_forward_pre_hook(note, with_kwargs=True) for layer in layers]
    with torch.no_grad():
        answering(model)(batch_of(ROWS, pictures))
    for hook in hooks:
        hook.remove()
    assert masks == [None] * 3


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_are_those_of_rows_one_by_one(model_type, model, pictures, checkpointing):
    """Of all weights, the vision tower's too: two rows share a picture, orders share a question, all share the first tokens."""
    if FAMILIES[model_type].recurrent:
        pytest.skip("only adapters are trained")
    answers = answering(model)
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()

    def gradients(batches):
        model.zero_grad()
        losses = [answer_loss(answers(batch), batch).sum() for batch in batches]
        torch.stack(losses).sum().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    try:
        together = gradients([batch_of(ROWS, pictures)])
        alone = gradients([batch_of([row], pictures) for row in ROWS])
    finally:
        model.eval().gradient_checkpointing_disable()
    assert together.keys() == alone.keys() and {"visual", "language_model"} <= {name.split(".")[1] for name in together}
    assert "model.visual.patch_embed.proj.weight" in together
    for name, gradient in together.items():
        torch.testing.assert_close(gradient, alone[name], atol=1e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")
    assert sum(g.abs().max() > 1e-3 for name, g in together.items() if ".visual." in name) > 10


@pytest.mark.parametrize(("targets", "scale"), [
    ("all", 6 / 3), ("q_proj|v_proj|in_proj_qkv|in_proj_a", 6 / 3), ("down_proj|in_proj_z|out_proj", 6 / 3**0.5),
])
def test_loss_and_gradients_are_those_of_the_library_for_each_prompt_alone(model_type, targets, scale):
    """Orders that share a question, rows that share a picture, with all layers' outputs kept and with none.

    LoRA of three ranks and alpha 6; the last one is rsLoRA, whose scale is alpha / sqrt(r).
    """
    model, family = small_model(model_type).requires_grad_(False), FAMILIES[model_type]
    there = {path.rpartition(".")[2] for path in family.language_linears}
    named = there if targets == "all" else there & {*targets.split("|")}
    peft = adapted(model, "|".join(sorted(named)), use_rslora=scale != 2)
    answers, pictures = answering(peft).train(), small_pictures(model)
    batch, found = batch_of(ROWS, pictures, family.recurrent), []
    for keep in (True, False):
        answers.set_checkpointing(not keep)
        found.append(outcome(answers, batch))
    theirs = outcome(OneByOne(peft, ROWS, pictures).train(), batch)
    adapters = {name.split(".")[-4] for name in theirs[1]}
    scales = {one.scale for block in answers.blocks for half in (block.before, block.after) for one in half.spec.adapters}
    assert adapters == named and scales == {scale}
    for ours in found:
        assert_same(ours, theirs, 1e-4 if family.recurrent else 1e-5)


def test_dora_is_computed_by_the_librarys_layers_or_on_the_plain_path(model_type):
    model, family = small_model(model_type).requires_grad_(False), FAMILIES[model_type]
    if family.recurrent:
        assert not takes_fast_path(model.config, Config(use_dora=True)) and takes_fast_path(model.config, Config())
        assert family_of(model.config, Config(use_dora=True)).vision is None
        return
    peft = adapted(model, "q_proj|v_proj|up_proj|down_proj", use_dora=True)
    answers, pictures = answering(peft).train(), small_pictures(model)
    batch = batch_of(ROWS, pictures)
    assert not answers.blocks and any("magnitude" in name for name in trained_parameters(peft))
    assert_same(outcome(answers, batch), outcome(OneByOne(peft, ROWS, pictures).train(), batch))


# %% names
def test_the_registry_names_each_family_by_its_model_type(model_type, model):
    assert FAMILIES[model_type].model_type == model_type == model.config.model_type


@pytest.mark.parametrize("vision", [False, True])
def test_adapters_reach_the_layers_that_the_family_names_and_no_others(model_type, model, vision):
    family = FAMILIES[model_type]
    pattern = re.compile(family.adapter_pattern(family.language_linears, vision=vision))
    linears = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    wanted = {name for name in linears if name.startswith(f"{family.language}.layers.")}
    wanted |= {name for name in linears if vision and name.startswith(f"{family.vision}.blocks.")}
    assert {name for name in linears if pattern.fullmatch(name)} == wanted and wanted


def test_what_is_left_unquantised_is_all_but_the_language_models_layers(model_type, model):
    family = FAMILIES[model_type]
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            left = any(name == path or name.startswith(path + ".") for path in family.unquantised)
            assert left != name.startswith(f"{family.language}.layers."), name


def test_each_rotary_frequency_turns_by_the_axis_that_the_library_gives_it(model_type, model):
    """The angles that the library computes where the three positions are 1, 100 and 10,000."""
    language = model.get_submodule(FAMILIES[model_type].language)
    positions = torch.tensor([1, 100, 10_000])
    rotary = language.rotary_emb
    cos, _ = rotary(torch.zeros(1), positions.view(3, 1, 1))
    sections = language.config.rope_parameters["mrope_section"]
    if cos.ndim == 4:  # (3, 1, 1, D): sections are taken from it inside the attention
        chosen = [part[axis % 3] for axis, part in enumerate(cos.split(sections * 2, -1))]
        cos = torch.cat(chosen, -1)
    axes = FAMILIES[model_type].rotary_axes(sections)
    wanted = (positions[torch.from_numpy(axes)] * rotary.inv_freq).cos()
    torch.testing.assert_close(cos.flatten()[: len(axes)], wanted, atol=1e-4, rtol=1e-4)
    assert set(axes.tolist()) == {0, 1, 2}


# %% as it is published
@pytest.mark.nightly
def test_from_a_folder_and_photographs_to_the_logits_of_the_library(model_type, tiny_config, photographs, questions, tmp_path):
    """Tokenizer, image processor, features kept on disk, orders packed; then with the language model in 4 bits."""
    name = next(name for name, build in TRIED.items() if build.__name__ == model_type)
    config = tiny_config.replace(model_id=save_tried(name, tmp_path / "model"), image_size=96)
    base = load_base(config, plan_device(config))
    records = survey_images(ImageFolder(photographs), [q.image for q in questions])
    images = ImageInputs.of_model(records, base.encoder, base.processor, base.model.config, config.image_size)
    store = FeatureStore(tmp_path / "features", base, images)
    store.fill(base, [image for image in dict.fromkeys(q.image for q in questions) if not records[image].problem], 1.0)
    maker = RowMaker(base.encoder, images, store, base.family.recurrent)
    orders = [np.roll(np.arange(len(q.choices)), i) for i, q in enumerate(questions)]
    packed = maker.batch([maker.row(q, np.stack((np.arange(len(q.choices)), order)))
                          for q, order in zip(questions, orders, strict=True)])
    library = AutoModelForImageTextToText.from_pretrained(config.model_id).eval()
    with torch.no_grad():
        ours = base.answers(base.model).eval()(packed)
        for question, order, mine in zip(questions, orders, ours, strict=True):
            row = maker.row(question, order[None])
            ids = torch.from_numpy(row.input_ids)[None]
            seen = {} if row.image is None else dict(
                pixel_values=images.patches(row.image, 1.0), image_grid_thw=torch.tensor([row.grid]))
            marks = dict(attention_mask=torch.ones_like(ids), mm_token_type_ids=(ids == base.image_token_id).int())
            theirs = library(input_ids=ids, **marks, **seen).logits[0, -1]
            torch.testing.assert_close(mine[1], theirs, atol=1e-4, rtol=1e-4)
    packing = config.replace(quantization="4bit")
    four_bit = load_base(packing, plan_device(packing))  # verify_quantization looks at every module
    kinds = {type(module).__name__ for module in decoder_linears(four_bit.model, four_bit.family).values()}
    assert kinds == {"Linear4bit"} and len(questions) > 2


# %% images as tokens
@given(st.integers(1, 900), st.integers(1, 900), st.sampled_from([28, 56, 84, 140, 384]))
@example(339, 339, 140)  # a square whose root is one bit below 5 units
@example(3406, 3406, 112)
@settings(max_examples=60, deadline=None)
def test_the_grid_is_the_processors(base, width, height, side):
    if max(width, height) / min(width, height) > 190:
        return
    pixels = side**2
    made = base.processor(
        images=[Image.new("RGB", (width, height))], size={"shortest_edge": pixels, "longest_edge": pixels}, return_tensors="pt"
    )
    assert image_grid(width, height, pixels, patch=14, merge=2) == tuple(made["image_grid_thw"][0].tolist())


@given(st.integers(0, 9), st.integers(1, 6), st.integers(1, 6), st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_positions_are_the_models(model, before, rows, columns, after):
    grid = (1, 2 * rows, 2 * columns)
    ids = torch.tensor([[14] * before + [IMAGE] * (rows * columns) + [14] * after])
    theirs, _ = model.model.get_rope_index(ids, (ids == IMAGE).int(), torch.tensor([grid]))
    np.testing.assert_array_equal(token_positions((ids[0] == IMAGE).numpy(), grid, 2), theirs[:, 0].numpy())


def test_text_alone_counts_up():
    np.testing.assert_array_equal(token_positions(np.zeros(4, bool), None, 2), [[0, 1, 2, 3]] * 3)
