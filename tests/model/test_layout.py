"""Every token once: the list holds every prompt and nothing twice, and the models say what their library says of each alone."""
import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from mcvqa.model.families.family import image_tokens
from mcvqa.model.fast.forward import collate
from mcvqa.model.fast.layout import (
    EVERY_TOKEN_ONCE,
    Sight,
    TokenLayout,
    _SharedRows,
    attend,
    attend_apart,
    group_prompts,
    lay_out,
)
from mcvqa.model.rows import RowMaker, encode_rows, read_rows
from tests.conftest import examples, needs_gpu
from tests.model.small import IMAGE, ROWS, made_row, prompts_of

tokens = st.lists(st.integers(0, 2), min_size=1, max_size=4)  # few different ones, so that much is shared
rows_of_any_kind = st.lists(
    st.builds(made_row, tokens, st.sampled_from(["a", "b", "c", None]), tokens, st.lists(tokens, max_size=4)),
    min_size=1, max_size=7,
)


# %% a slow reference
def slow_layout(rows) -> TokenLayout:
    """As `lay_out`, token by token: a token is new where no prompt before begins with all that leads up to it."""
    numbers, prompts = {}, []
    for i, row in enumerate(rows):
        number = numbers.setdefault((row.image, row.grid), len(numbers))
        for k, (ids, positions) in enumerate(prompts_of(row)):
            names = [(1, number) if token == IMAGE else (0, token) for token in ids.tolist()]
            prompts.append((names, i, k, ids.tolist(), positions.T.tolist()))
    prompts.sort(key=lambda prompt: prompt[0])
    length = max(len(prompt[0]) for prompt in prompts)
    known, input_ids, position_ids, table, first_use, image_rows = {}, [], [], [], [], []
    answer_at = np.full((len(rows), max(len(row.answer_at) for row in rows)), -1)
    for e, (names, i, k, ids, positions) in enumerate(prompts):
        indices = []
        for n, name in enumerate(names):
            beginning = tuple(names[: n + 1])
            if beginning not in known:
                known[beginning] = len(input_ids)
                input_ids.append(ids[n])
                position_ids.append(positions[n])
                first_use.append(e * length + n)
                if name[0] and image_rows[-1:] != [(e, i)]:
                    image_rows.append((e, i))
            indices.append(known[beginning])
        answer_at[i, k] = indices[-1]
        table.append(indices + [0] * (length - len(indices)))
    return TokenLayout(
        np.array(input_ids), np.array(position_ids).T, np.array(table), np.array(first_use), answer_at,
        tuple(i for _, i in image_rows),
    )


def slow_groups(layout: TokenLayout) -> tuple[list[dict], list[int]]:
    """As `group_prompts`, prompt by prompt: what each group holds, and where the results of the list's tokens are."""
    length, new_of = layout.prompt_tokens.shape[1], {}
    for token, use in enumerate(layout.first_use.tolist()):
        new_of.setdefault(use // length, []).append((token, use % length))
    most_first = sorted(new_of, key=lambda e: -len(new_of[e]))
    groups, results_at, start = [], [0] * len(layout.first_use), 0
    for size in sorted({len(new).bit_length() for new in new_of.values()}, reverse=True):
        members = [e for e in most_first if len(new_of[e]).bit_length() == size]
        ends = max(new_of[e][-1][1] + 1 for e in members)
        seen = [layout.prompt_tokens[e, :ends].tolist() for e in members]
        whole = 3 * sum(len(new_of[e]) for e in members) > 2 * len(members) * ends
        rows = ends if whole else max(len(new_of[e]) for e in members)
        sees = []
        for g, e in enumerate(members):
            for n, (token, column) in enumerate(new_of[e]):
                results_at[token] = start + g * rows + (column if whole else n)
                sees.append((g, n, [] if whole else [s <= column for s in range(ends)]))
        groups.append(dict(whole=whole, seen=seen, new=[[token for token, _ in new_of[e]] for e in members], sees=sees))
        start += rows * len(members)
    return groups, results_at


@examples(300)
@given(rows_of_any_kind)
def test_the_layout_is_that_of_the_slow_reference(rows):
    ours, wanted = lay_out(rows, IMAGE), slow_layout(rows)
    for field in dataclasses.fields(TokenLayout):
        np.testing.assert_array_equal(getattr(ours, field.name), getattr(wanted, field.name), err_msg=field.name)


@examples(300)
@given(rows_of_any_kind)
def test_groups_are_those_of_the_slow_reference(rows):
    layout = lay_out(rows, IMAGE)
    ours = group_prompts(torch.from_numpy(layout.prompt_tokens), torch.from_numpy(layout.first_use))
    wanted, results_at = slow_groups(layout)
    assert ours.results_at.tolist() == results_at and len(ours.groups) == len(wanted)
    for group, other in zip(ours.groups, wanted, strict=True):
        if other["whole"]:
            assert isinstance(group, torch.Tensor) and group.tolist() == other["seen"]
            continue
        assert group.seen.tolist() == other["seen"]
        for own, new in zip(group.new.tolist(), other["new"], strict=True):
            assert own[: len(new)] == new
        for g, n, visible in other["sees"]:
            assert group.visible[g, 0, 0, n].tolist() == visible


def test_the_example_in_the_module_s_docstring():
    """As it is written there, number for number."""
    rows = [made_row([1], "b", [14], [[30, 31], [31, 30]]), made_row([1], "b", [15], [])]
    rows = [dataclasses.replace(row, grid=(1, 2, 4)) for row in rows]
    short = [np.array([token for n, token in enumerate(row.input_ids) if token != IMAGE or n < 3]) for row in rows]  # two of four
    time = [0, 1, 1, 3, 4, 5, 4, 5]
    rows = [
        dataclasses.replace(
            row, input_ids=ids, position_ids=np.array([time, time, [0, 1, 2, *time[3:]]])[:, : len(ids)],
            segment=row.segment[2:], answer_at=row.answer_at - 2,
        ) for row, ids in zip(rows, short, strict=True)
    ]
    layout = lay_out(rows, IMAGE)
    assert layout.input_ids.tolist() == [1, IMAGE, IMAGE, 14, 30, 31, 31, 30, 15]
    assert layout.position_ids[0].tolist() == [0, 1, 1, 3, 4, 5, 4, 5, 3]
    assert layout.prompt_tokens.tolist() == [[0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 6, 7], [0, 1, 2, 8, 0, 0]]
    assert layout.first_use.tolist() == [0, 1, 2, 3, 4, 5, 10, 11, 15]
    assert layout.answer_at.tolist() == [[5, 7], [8, -1]] and layout.image_rows == (0,)
    new = group_prompts(torch.from_numpy(layout.prompt_tokens), torch.from_numpy(layout.first_use))
    first, second, third = new.groups
    assert first.tolist() == [[0, 1, 2, 3, 4, 5]] and new.results_at.tolist() == [*range(9)]
    assert (second.new.tolist(), second.seen.tolist()) == ([[6, 7]], [[0, 1, 2, 3, 6, 7]])
    assert second.visible[0, 0, 0].tolist() == [[True] * 5 + [False], [True] * 6]
    assert (third.new.tolist(), third.seen.tolist()) == ([[8]], [[0, 1, 2, 8]])


# %% the list
@examples(300)
@given(rows_of_any_kind)
def test_the_list_holds_every_prompt_and_nothing_twice(rows):
    layout = lay_out(rows, IMAGE)
    beginnings, owner = set(), {}  # every different text up to some token; the picture that each place shows
    for row, ends in zip(rows, layout.answer_at, strict=True):
        assert (ends[len(row.answer_at) :] == -1).all()
        for (ids, positions), end in zip(prompts_of(row), ends, strict=False):
            (places,) = {tuple(seen[: len(ids)].tolist()) for seen in layout.prompt_tokens if seen[len(ids) - 1] == end}
            np.testing.assert_array_equal(layout.input_ids[list(places)], ids)
            np.testing.assert_array_equal(layout.position_ids[:, list(places)], positions)
            named = [row.image if token == IMAGE else token for token in ids.tolist()]
            beginnings |= {tuple(named[: n + 1]) for n in range(len(named))}
            owner |= {place: row.image for place in places if layout.input_ids[place] == IMAGE}
    assert len(layout.input_ids) == len(beginnings)
    np.testing.assert_array_equal(layout.prompt_tokens.ravel()[layout.first_use], np.arange(len(layout.input_ids)))
    shown = [rows[i].image for i in layout.image_rows for _ in range(image_tokens(rows[i].grid, 2))]
    assert shown == [owner[place] for place in np.flatnonzero(layout.input_ids == IMAGE).tolist()]


@examples(60)
@given(rows_of_any_kind)
def test_a_token_s_gradient_is_that_of_all_positions_where_it_is_seen(rows):
    """And of none of the padding."""
    layout = lay_out(rows, IMAGE)
    seen, count = torch.from_numpy(layout.prompt_tokens), len(layout.input_ids)
    listed = torch.randn(count, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    sight = Sight(seen, torch.from_numpy(layout.first_use), learning=True)
    apart = _SharedRows.apply(listed, seen, lambda: sight.uses)
    assert torch.equal(apart, listed[seen])
    weights = torch.randn(apart.shape, generator=torch.Generator().manual_seed(1))
    (apart * weights).sum().backward()
    wanted, lengths = torch.zeros(count, 3), iter(len(ids) for ids, _ in _prompts_in_order(rows, layout))
    for places, own, length in zip(seen, weights, lengths, strict=True):
        wanted.index_add_(0, places[:length], own[:length])
    torch.testing.assert_close(listed.grad, wanted)


@examples(60)
@given(rows_of_any_kind, st.integers(0, 3))
def test_what_is_attended_goes_back_to_where_it_is_first_used(rows, more):
    """Also in a list that is rounded up with its first token."""
    layout = lay_out(rows, IMAGE)
    first_use = torch.from_numpy(layout.first_use)
    first_use = torch.cat((first_use, first_use[:1].expand(more)))
    sight = Sight(torch.from_numpy(layout.prompt_tokens), first_use, learning=True)
    mixed = torch.randn(layout.prompt_tokens.size, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    listed = _SharedRows.apply(mixed, first_use, lambda: sight.first_uses)
    assert torch.equal(listed, mixed[first_use])
    weights = torch.randn(listed.shape, generator=torch.Generator().manual_seed(1))
    (listed * weights).sum().backward()
    torch.testing.assert_close(mixed.grad, torch.zeros_like(mixed).index_add_(0, first_use, weights))


def _prompts_in_order(rows, layout):
    """Of each row of `seen` the prompt that stands there."""
    ends = {int(end): prompt for row, own in zip(rows, layout.answer_at, strict=True)
            for prompt, end in zip(prompts_of(row), own, strict=False)}
    for places in layout.prompt_tokens:
        (found,) = {(end, len(ids)) for end, (ids, _) in ends.items() if len(ids) <= len(places) and places[len(ids) - 1] == end
                    and not places[len(ids) :].any()}
        yield ends[found[0]]


def test_a_picture_is_asked_for_once(maker, questions):
    asked = []
    rows = [maker.row(q) for q in (questions[0], questions[1], dataclasses.replace(questions[0], text="Another?"), questions[2])]
    batch = collate(rows, lambda row: asked.append(row.image) or maker.image(row), maker.encoder.image_token_id)
    assert sorted(asked) == ["a.png", "b.png"], "of two questions about a.png, one about b.png and one without a picture"
    assert len(batch.images) == (batch.input_ids == maker.encoder.image_token_id).sum()
    moved = batch.to("meta")
    assert {t.device.type for t in vars(moved).values() if isinstance(t, torch.Tensor)} == {"meta"} and moved.ids == batch.ids


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


def test_rows_are_encoded_by_several_processes_as_by_one(maker, questions):
    asked = [dataclasses.replace(questions[i % 4], id=str(i)) for i in range(600)]
    orders = [None if i % 3 else np.arange(len(q.choices))[None, ::-1] for i, q in enumerate(asked)]
    alone, divided = (encode_rows(maker, asked, orders, workers) for workers in (0, 2))
    assert [row.id for row in divided] == [row.id for row in alone] == [str(i) for i in range(600)]
    for ours, theirs in zip(divided, alone, strict=True):
        for field in dataclasses.fields(ours):
            np.testing.assert_array_equal(getattr(ours, field.name), getattr(theirs, field.name))
    assert encode_rows(maker, [], [], 2) == []


# %% attention
def sight_of(layout, learning, device="cpu"):
    return Sight(torch.from_numpy(layout.prompt_tokens).to(device), torch.from_numpy(layout.first_use).to(device), learning)


@examples(60)
@given(rows_of_any_kind)
def test_every_token_is_new_once_and_sees_its_prompt_up_to_itself(rows):
    layout = lay_out(rows, IMAGE)
    found = group_prompts(torch.from_numpy(layout.prompt_tokens), torch.from_numpy(layout.first_use))
    sees = []
    for group in found.groups:
        if whole := isinstance(group, torch.Tensor):
            masks = torch.ones(len(group), *2 * [group.shape[1]], dtype=torch.bool).tril()
        else:
            masks = group.visible[:, 0, 0]
        sees += [own[mask].tolist() for own, each in zip(group if whole else group.seen, masks, strict=True) for mask in each]
    length = layout.prompt_tokens.shape[1]
    for token, (home, place) in enumerate(zip(layout.first_use.tolist(), found.results_at.tolist(), strict=True)):
        prompt, column = divmod(home, length)
        assert sees[place] == layout.prompt_tokens[prompt, : column + 1].tolist() and sees[place][-1] == token
    assert len(sees) < 2 * len(layout.first_use), "groups are alike: less than half of what is computed fills them up"


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
@examples(50)
@given(rows=rows_of_any_kind, heads=st.sampled_from([(4, 4), (4, 2), (3, 1)]))
def test_new_tokens_alone_are_given_what_whole_prompts_are(device, rows, heads):
    """In half precision too, where kernels like lengths that are multiples of 8, and round at 0.002 of what lies above 2."""
    layout = lay_out(rows, IMAGE)
    queries, keys = heads
    values = torch.randn(len(layout.first_use), queries + 2 * keys, 16, generator=torch.Generator().manual_seed(0))
    for dtype, apart in ((torch.float32, 1e-5), (torch.float16, 4e-3)):
        given_heads = values.to(device, dtype)
        whole, new = (attend(given_heads, queries, sight_of(layout, learning, device), 0.3) for learning in (True, False))
        torch.testing.assert_close(new, whole, atol=apart, rtol=0)


def test_only_scoring_asks_for_new_tokens_and_only_where_much_is_shared():
    apart = [made_row([1], "a", [14], []), made_row([2], "b", [15], [])]
    much, little = (lay_out(rows, IMAGE) for rows in (ROWS[:1] + ROWS[4:5], apart))
    assert sight_of(much, False).new_tokens and not sight_of(much, True).new_tokens
    whole = [isinstance(group, torch.Tensor) for group in sight_of(much, False).new_tokens.groups]
    assert True in whole and False in whole, "the first prompt shares nothing, which no mask need say"
    assert not sight_of(little, False).new_tokens


@pytest.mark.parametrize("learning", [True, False])
def test_whoever_wants_gradients_learns(base, maker, questions, monkeypatch, learning):
    seen = []
    monkeypatch.setattr("mcvqa.model.fast.forward.Sight", lambda *args, **more: seen.append(more) or Sight(*args, **more))
    with torch.set_grad_enabled(learning):
        base.answers(base.model)(maker.batch([maker.row(questions[0])]))
    assert seen == [dict(learning=learning)]


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
