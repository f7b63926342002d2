"""Every token once: the list holds every prompt and nothing twice, and the models say what their library says of each alone."""
import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForImageTextToText, Qwen2_5_VLConfig, Qwen2VLConfig, Qwen3VLConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from mcvqa.model.encode import Row
from mcvqa.model.families import FAMILIES, image_tokens, token_positions
from mcvqa.model.forward import AnswerModel, answer_loss, collate
from mcvqa.model.layout import EVERY_TOKEN_ONCE, attend_apart, lay_out
from mcvqa.model.rows import RowMaker, read_rows

IMAGE = 9  # the image token
GRIDS = {"a": (1, 4, 6), "b": (1, 4, 4), "c": (1, 4, 6)}
VALUES = {"qwen2_vl": 3 * 2 * 14 * 14, "qwen2_5_vl": 3 * 2 * 14 * 14, "qwen3_vl": 3 * 2 * 16 * 16}  # of a patch


def made_row(system, image, question, tails) -> Row:
    """As Encoder.encode would make it of these tokens; no tails: one order."""
    grid = GRIDS.get(image)
    shared = np.array([*system, *([IMAGE] * image_tokens(grid, 2) if grid else []), *question], np.int64)
    places = token_positions(shared == IMAGE, grid, 2)
    lengths = [len(tail) for tail in tails]
    after = [int(places.max()) + 1 + np.tile(np.arange(n), (3, 1)) for n in lengths]
    k = max(1, len(tails))
    return Row(
        id=f"{image} {question}", image=image, grid=grid, input_ids=np.concatenate([shared, *map(np.array, tails)]).astype(int),
        position_ids=np.concatenate([places, *after], 1), segment=np.repeat(np.arange(len(tails) + 1), [len(shared), *lengths]),
        answer_at=len(shared) - 1 + (np.cumsum(lengths) if tails else np.zeros(1, int)),
        letters=np.stack([np.roll([20, 21, 22, 23], i) for i in range(k)]), orders=np.zeros((k, 4), int),
        target=np.eye(4, dtype=np.float32)[len(question) % 4],
    )


def prompts_of(row: Row):
    """(tokens, positions) of each order."""
    for k in range(len(row.answer_at)):
        own = (row.segment == 0) | (row.segment == k + 1)
        yield row.input_ids[own], row.position_ids[:, own]


tokens = st.lists(st.integers(0, 2), min_size=1, max_size=4)  # few different ones, so that much is shared
rows_of_any_kind = st.lists(
    st.builds(made_row, tokens, st.sampled_from(["a", "b", "c", None]), tokens, st.lists(tokens, max_size=4)),
    min_size=1, max_size=7,
)


@settings(max_examples=300, deadline=None)
@given(rows_of_any_kind, st.booleans())
def test_the_list_holds_every_prompt_and_nothing_twice(rows, sharing):
    layout = lay_out(rows, IMAGE, sharing=sharing)
    beginnings, owner = set(), {}  # every different text up to some token; the picture that each place shows
    for i, (row, ends) in enumerate(zip(rows, layout.answer_at, strict=True)):
        assert (ends[len(row.answer_at) :] == -1).all()
        for (ids, positions), end in zip(prompts_of(row), ends, strict=False):
            (places,) = {tuple(seen[: len(ids)].tolist()) for seen in layout.seen if seen[len(ids) - 1] == end}
            np.testing.assert_array_equal(layout.input_ids[list(places)], ids)
            np.testing.assert_array_equal(layout.position_ids[:, list(places)], positions)
            named = [row.image if token == IMAGE else token for token in ids.tolist()]
            beginnings |= {(None if sharing else i, *named[: n + 1]) for n in range(len(named))}
            owner |= {place: row.image for place in places if layout.input_ids[place] == IMAGE}
    assert len(layout.input_ids) == len(beginnings)
    np.testing.assert_array_equal(layout.seen.ravel()[layout.home], np.arange(len(layout.input_ids)))
    shown = [rows[i].image for i in layout.pictures for _ in range(image_tokens(rows[i].grid, 2))]
    assert shown == [owner[place] for place in np.flatnonzero(layout.input_ids == IMAGE).tolist()]


def test_a_picture_is_asked_for_once(maker, questions):
    asked = []
    rows = [maker.row(q) for q in (questions[0], questions[1], dataclasses.replace(questions[0], text="Another?"), questions[2])]
    batch = collate(rows, lambda row: asked.append(row.image) or maker.image(row), maker.encoder.image_token_id)
    assert sorted(asked) == ["a.png", "b.png"], "of two questions about a.png, one about b.png and one without a picture"
    assert len(batch.images) == (batch.input_ids == maker.encoder.image_token_id).sum()
    moved = batch.to("meta")
    assert {t.device.type for t in vars(moved).values() if isinstance(t, torch.Tensor)} == {"meta"} and moved.ids == batch.ids


def test_copies_share_nothing_and_answer_alike(base, maker, questions):
    """Rows that share are no measure of what as many others take: eight equal ones would be the tokens of one."""
    row = maker.row(questions[0], np.array([[0, 1, 2, 3], [0, 1, 3, 2], [3, 2, 1, 0]]))
    model = base.answers(base.model).eval()
    one, shared, copies = maker.batch([row]), maker.batch([row] * 8), maker.copies(row, 8)
    assert len(shared.input_ids) == len(one.input_ids) and len(shared.images) == len(one.images)
    assert len(copies.input_ids) == 8 * len(one.input_ids) and len(copies.images) == 8 * len(one.images)
    assert copies.seen.shape == (8 * 3, one.seen.shape[1]) and len(copies.answer_at.unique()) == 8 * 3
    with torch.no_grad():
        torch.testing.assert_close(model(copies), model(one).expand(8, -1, -1), atol=1e-5, rtol=1e-5)


def test_copies_have_patches_of_their_own(maker, questions):
    live = dataclasses.replace(maker, store=None)
    row = live.row(questions[0])
    one, copies = live.batch([row]), live.copies(row, 3)
    assert copies.grids == 3 * one.grids and torch.equal(copies.images, one.images.repeat(3, 1))


def test_rows_on_a_picture_are_read_side_by_side(base, maker, questions):
    """Most tokens first otherwise; and the answers come back in the order of the rows."""
    batches = []

    class Noting(RowMaker):
        def batch(self, rows, scale=1.0):
            batches.append([row.id for row in rows])
            return super().batch(rows, scale)

    long = dataclasses.replace(questions[0], id="long", text=questions[0].text * 9)
    asked = [questions[1], questions[0], dataclasses.replace(questions[1], id="again"), long, questions[2]]
    noting = Noting(maker.encoder, maker.images, maker.store)
    found = read_rows(base.answers(base.model), noting, [noting.row(q) for q in asked], 2, base.plan)
    assert batches == [["long", "q0"], ["q2", "q1"], ["again"]]
    assert [values.shape[1] for values in found] == [len(q.choices) for q in asked]


# %% attention
def test_without_a_layout_it_is_sdpa():
    module = torch.nn.Module()
    module.num_key_value_groups, module.is_causal = 2, True
    q, k, v = torch.randn(2, 4, 7, 8), torch.randn(2, 2, 7, 8), torch.randn(2, 2, 7, 8)
    mask = torch.ones(7, 7, dtype=torch.bool).tril()[None, None]
    for given_mask in (None, mask):
        for more in ({}, {"is_causal": False}):
            ours = attend_apart(module, q, k, v, given_mask, scaling=0.3, **more)[0]
            torch.testing.assert_close(ours, sdpa_attention_forward(module, q, k, v, given_mask, scaling=0.3, **more)[0])


def test_another_attention_is_refused(base):
    base.language.config._attn_implementation = "sdpa"
    try:
        with pytest.raises(AssertionError, match="load_base"):
            base.answers(base.model)
    finally:
        base.language.config._attn_implementation = EVERY_TOKEN_ONCE


# %% all families
@pytest.fixture(scope="module", params=list(FAMILIES))
def model(request):
    """A small model with random weights that are large enough for every part to matter."""
    text = dict(
        vocab_size=64, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        head_dim=16, initializer_range=0.1, attention_dropout=0.0,
        rope_parameters=dict(rope_type="default", rope_theta=1e4, mrope_section=[4, 2, 2], mrope_interleaved=True),
    )
    marks = dict(image_token_id=IMAGE, video_token_id=10, vision_start_token_id=11, vision_end_token_id=12)
    vision = dict(depth=3, num_heads=2, initializer_range=0.1)
    config = {
        "qwen2_vl": lambda: Qwen2VLConfig(text_config=text, vision_config=vision | dict(embed_dim=64, hidden_size=64), **marks),
        "qwen2_5_vl": lambda: Qwen2_5_VLConfig(
            text_config=text, **marks,
            vision_config=vision | dict(hidden_size=64, intermediate_size=96, out_hidden_size=64, fullatt_block_indexes=[1]),
        ),
        "qwen3_vl": lambda: Qwen3VLConfig(
            text_config=text, **marks, vision_config=vision | dict(
                hidden_size=64, intermediate_size=96, out_hidden_size=64, num_position_embeddings=36,
                deepstack_visual_indexes=[0, 1],
            ),
        ),
    }[request.param]()
    torch.manual_seed(0)
    return AutoModelForImageTextToText.from_config(config, attn_implementation=EVERY_TOKEN_ONCE).eval()


@pytest.fixture(scope="module")
def pictures(model):
    """Patches by the name of the picture."""
    random, width = torch.Generator().manual_seed(1), VALUES[model.config.model_type]
    return {name: torch.randn(int(np.prod(grid)), width, generator=random) for name, grid in GRIDS.items()}


SYSTEM, ORDERS = [1, 2, 3], [[30, 31, 32, 33], [30, 31, 33, 32, 34], [31, 30], [33]]
ROWS = [
    made_row(SYSTEM, "a", [14, 15], ORDERS), made_row(SYSTEM, "a", [14, 16, 17], []), made_row(SYSTEM, "b", [14, 15], ORDERS[:2]),
    made_row(SYSTEM, None, [14, 15, 18], ORDERS), made_row(SYSTEM, None, [14, 15], []), made_row(SYSTEM, "c", [14], ORDERS[2:]),
]


def batch_of(rows, pictures):
    return collate(rows, lambda row: pictures[row.image], IMAGE, patches=True)


def answering(model) -> AnswerModel:
    return AnswerModel(model, FAMILIES[model.config.model_type], IMAGE)


def test_logits_are_those_of_the_library_for_each_prompt_alone(model, pictures):
    """Invariant 2, with orders, pictures and rows of every kind side by side."""
    with torch.no_grad():
        ours = answering(model)(batch_of(ROWS, pictures))
        for i, row in enumerate(ROWS):
            for k, (prompt, _) in enumerate(prompts_of(row)):
                ids = torch.from_numpy(prompt)[None]
                shown = {} if row.image is None else dict(
                    pixel_values=pictures[row.image], image_grid_thw=torch.tensor([row.grid]),
                    mm_token_type_ids=(ids == IMAGE).int(),
                )
                theirs = model(input_ids=ids, attention_mask=torch.ones_like(ids), **shown).logits[0, -1]
                torch.testing.assert_close(ours[i, k], theirs, atol=1e-5, rtol=1e-5)
    said = torch.stack([ours[0, 0], ours[0, 1], ours[2, 0], ours[3, 0], ours[5, 0]])
    assert torch.pdist(said).min() > 0.1, "or nothing is compared"


def test_no_mask_is_built(model, pictures):
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
def test_gradients_are_those_of_rows_one_by_one(model, pictures, checkpointing):
    """Of all weights, the vision tower's too: two rows share a picture, orders share a question, all share the first tokens."""
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
    for name, gradient in together.items():
        torch.testing.assert_close(gradient, alone[name], atol=1e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")
    assert sum(g.abs().max() > 1e-3 for name, g in together.items() if ".visual." in name) > 10
