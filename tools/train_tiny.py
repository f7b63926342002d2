"""Trains the weights of `tiny`, from nothing or going on from a model, on scenes made by mcvqa.scenes.dataset: one GPU, under
25 minutes.

    python tools/train_tiny.py --out tiny --steps 19500 --minutes 20 --passes 2 --workers 14 --compile  # what comes first
    python tools/train_tiny.py --out tiny --start FOLDER --begin 0.3 --steps 12000 --minutes 5 --workers 14 --compile
    python tools/train_tiny.py --out /tmp/tiny --steps 20 --rows 4    # does it run at all (CPU)

One row is a picture and up to ten things said about it, packed as scoring packs option orders: a shared prefix (system
message, picture) and tails that do not see each other. A tail is a description of the whole picture, a question answered
in words, or a multiple-choice question in the prompt that fine-tuning uses, answered by its letter. The loss lies on what
the assistant says, and, through a head that is thrown away, on what each image token shows: without it the tower learns
little in the first thousands of steps, because the language model does not look yet. Lessons depend on the seed, the step
and the number of workers; the accuracy on them, measured when they come for the first time, is one on unseen questions.

Shapes: B rows, L tokens, N supervised tokens, S pixels on a side, V vocabulary.
"""
import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

from mcvqa.config import Config
from mcvqa.data.answers import LETTERS
from mcvqa.data.kinds import BASIC_KINDS
from mcvqa.data.paraphrase import paraphrase
from mcvqa.data.questions import Question
from mcvqa.model.families.family import token_positions
from mcvqa.model.text.prompt import chat_messages
from mcvqa.model.tiny import IMAGE_MEAN, IMAGE_STD, save_tiny, tiny_config, tiny_tokenizer
from mcvqa.model.vision.tower import tower_features
from mcvqa.scenes.ask import Asked, ask
from mcvqa.scenes.dataset import Guesser, scene_sentences
from mcvqa.scenes.draw import draw
from mcvqa.scenes.scene import (
    COLORS,
    SHAPES,
    SIGN_LETTERS,
    SIGN_WORDS,
    TEXTURES,
    Scene,
    describe,
    describe_distances,
    sample_scene,
)
from mcvqa.scenes.words import LANGUAGES

UNIT = 28  # pixels on a side of an image token: 2 x 2 patches of 14
SIDES = {4: 0.3, 5: 0.12, 6: 0.3, 8: 0.15, 10: 0.08, 12: 0.05}  # tokens on a side of a picture, and how often
PICTURES = (56, 64, 75, 84, 96, 112, 128, 160, 224, 384)  # pixels in which scenes are drawn, before they are scaled
CHOICES = {2: 0.12, 3: 0.12, 4: 0.36, 5: 0.08, 6: 0.1, 8: 0.06, 10: 0.04, 11: 0.02, 12: 0.02, 13: 0.08}
# hard kinds are asked more often
ASKED = {"counting": 0.2, "location": 0.2, "general": 0.15, "ocr": 0.15, "color": 0.1, "yesno": 0.1, "attribute": 0.1}
SIX = 0.3  # share of pictures of layout "six", of whose questions half are on these topics
RELATIONS = {"shape by distance": 0.5, "color by distance": 0.2, "count alike": 0.2, "is on side": 0.1}
ASK_TO_DESCRIBE = {"en": "Describe the image.", "ko": "그림을 설명하세요."}
ASK_FOR_DISTANCES = {"en": "Which shapes are closest and furthest?", "ko": "가장 가깝고 가장 먼 도형은 무엇인가요?"}
ASK_IN_WORDS = {"en": "\nAnswer in a few words.", "ko": "\n짧게 답하세요."}
NOTHING = -2  # kind of a supervised place that is only there to make batches alike; words have -1
PREFIX, LONGEST, SUPERVISED = 60, 140, 60  # tokens before a picture, in a tail, and learned in a row on average, at most
ROOM = 440  # tokens: tails are added until a row has more, so that rows are of like length
TEXT_WEIGHT = (0.4, 0.1)  # of a token of words in the loss, at the start and at the end; a letter has 1
EASY = 0.2  # share of the training in which questions in words give way to those with letters
LOOK_WEIGHT = (1.0, 0.05)  # of the loss on what image tokens show, likewise
SIGHTS = {  # what a token can show; the first of each is "nothing"
    "color": ("", *COLORS), "shape": ("", *SHAPES), "texture": ("unpatterned", *TEXTURES),
    "label": ("", *map(str, range(100)), *SIGN_LETTERS, *SIGN_WORDS),
}


# %% lessons
@dataclass(frozen=True)
class Tail:
    """What is asked after the picture, and what the assistant says; `kind` is -1 for words, else an index of BASIC_KINDS."""

    prompt: list[int]
    said: list[int]
    kind: int
    choices: int


class Lessons(Dataset):
    """Batches by step number.

    Args:
        steps: of the whole training, for the curriculum.
        rows: pictures in a batch.
        begin: place in the curriculum of the first batch, 0 to 1.
    """

    def __init__(self, seed: int, steps: int, rows: int, tokenizer: Any, begin: float = 0.0) -> None:
        self.seed, self.steps, self.rows, self.begin = seed, steps, rows, begin
        self.tokenizer, self.config = tokenizer, Config()
        self.tokens_of = self.tokenizer.backend_tokenizer  # a third of the time of the class around it
        vocabulary = self.tokenizer.get_vocab()
        self.image, self.end, self.pad = (vocabulary[t] for t in ("<|image_pad|>", "<|im_end|>", "<|endoftext|>"))
        self.prefixes = {n: self._prefix(n) for n in CHOICES}
        self.guesser = Guesser()

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng([self.seed, step])
        side = _drawn(rng, SIDES)
        progress = _between((self.begin, 1.0), step / self.steps)
        return self._collate([self._row(rng, side, progress) for _ in range(self.rows)], side)

    def _row(self, rng: np.random.Generator, side: int, progress: float) -> tuple[np.ndarray, np.ndarray, int, list[Tail]]:
        """Picture (S, S, 3), what its tokens show, number of choices, and what is said."""
        early = max(0.0, 1 - progress / EASY)
        relations = rng.random() < SIX * (1 - early)
        layout = "six" if relations else "single" if rng.random() < 0.3 * early else None
        scene = sample_scene(rng, "varied" if rng.random() < 0.6 else "plain", layout)
        size = int(rng.choice([s for s in PICTURES if s <= 2.5 * UNIT * side]))
        picture = draw(scene, size).resize((UNIT * side, UNIT * side), Image.Resampling.BICUBIC)
        shown = what_tokens_show(scene, side)
        n_choices = _drawn(rng, CHOICES)
        tails = []
        if relations and rng.random() < 0.5:
            tails.append(self._description(scene, rng, describe_distances, ASK_FOR_DISTANCES))
        elif rng.random() < max(0.4, early):
            tails.append(self._description(scene, rng, describe, ASK_TO_DESCRIBE))
        for number in range(9):
            if sum(len(tail.prompt) + len(tail.said) for tail in tails) > ROOM:
                break
            language = LANGUAGES[int(rng.random() < 0.6)]
            # with two choices, most questions are of the kind that has no more
            kind = "yesno" if n_choices == 2 and rng.random() < 0.5 else _drawn(rng, ASKED)
            if relations and rng.random() < 0.5:
                kind = _drawn(rng, RELATIONS)
            if asked := self._hard_to_guess(scene, rng, language, kind, n_choices):
                if rng.random() < 0.3 * early:  # find the letter of a given answer: easy, and soon of use
                    asked = replace(asked, text=asked.choices[asked.answer])
                in_words = number < 1 + round(3 * early)
                tails.append(self._in_words(asked, language) if in_words else self._by_letter(asked, rng))
        if sum(len(tail.prompt) + len(tail.said) for tail in tails) > ROOM + LONGEST:
            tails.pop()
        return np.array(picture), shown, n_choices, tails

    def _hard_to_guess(self, scene: Scene, rng: np.random.Generator, language: str, kind: str, n: int) -> Asked | None:
        """A question whose answer is not the usual one of its topic: small numbers would be guessed, not counted."""
        for _ in range(4):
            asked = ask(scene, rng, language, kind, n)
            if asked is None or not self.guesser.guessability(asked):
                break
        if asked:
            self.guesser.learn(asked)
        return asked

    # %% text to tokens
    def _prefix(self, n_choices: int) -> list[int]:
        """Tokens up to the picture's only placeholder, which is the last but one."""
        probe = Question("", "", "?", ("x",) * n_choices)
        messages = chat_messages(probe, range(n_choices), self.config)
        text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return self._tokens(text[: text.index("<|vision_end|>") + len("<|vision_end|>")])

    def _tokens(self, text: str) -> list[int]:
        return self.tokens_of.encode(text, add_special_tokens=False).ids

    def _tail(self, user: str, said: str, kind: int, choices: int) -> Tail:
        prompt = self._tokens(f"{user}<|im_end|>\n<|im_start|>assistant\n")
        return Tail(prompt, [*self._tokens(said), self.end], kind, choices)

    def _description(
        self, scene: Scene, rng: np.random.Generator, told: Callable[[Scene, str], str], asked: dict[str, str]
    ) -> Tail:
        language = LANGUAGES[int(rng.integers(2))]
        return self._tail(asked[language], told(scene, language), -1, 0)

    def _in_words(self, asked: Asked, language: str) -> Tail:
        return self._tail(asked.text + ASK_IN_WORDS[language], asked.choices[asked.answer], -1, 0)

    def _by_letter(self, asked: Asked, rng: np.random.Generator) -> Tail:
        text = paraphrase(asked.text, rng) if rng.random() < 0.3 else asked.text
        n = len(asked.choices)
        messages = chat_messages(Question("", "", text, asked.choices), range(n), self.config)
        return self._tail(messages[1]["content"][1]["text"], LETTERS[asked.answer], BASIC_KINDS.index(asked.kind), n)

    # %% rows to tensors
    def _collate(self, rows: list[tuple[np.ndarray, np.ndarray, int, list[Tail]]], side: int) -> dict[str, torch.Tensor]:
        """pictures (B, S, S, 3), input_ids and segment (B, L), position_ids (3, B, L), places of the image tokens in (B * L),
        and per supervised token its place there, its target, its kind and the number of choices."""
        built = [self._sequence(n, tails, side) for _, _, n, tails in rows]
        length = -(-(PREFIX + side**2 + ROOM + LONGEST) // 64) * 64  # one length for one size of picture: compiled once
        input_ids = np.full((len(rows), length), self.pad, np.int64)
        segment = np.full((len(rows), length), -1, np.int64)
        positions = np.zeros((3, len(rows), length), np.int64)
        supervised = []
        for i, (ids, segments, places, learned) in enumerate(built):
            input_ids[i, : len(ids)], segment[i, : len(ids)], positions[:, i, : len(ids)] = ids, segments, places
            supervised += [(i * length + at, *rest) for at, *rest in learned]
        supervised += [(0, 0, NOTHING, 0)] * (SUPERVISED * len(rows) - len(supervised))
        at, target, kind, choices = np.array(supervised[: SUPERVISED * len(rows)], np.int64).T
        image_at = np.flatnonzero(input_ids == self.image)
        arrays = dict(
            pictures=np.stack([row[0] for row in rows]), shown=np.concatenate([row[1] for row in rows]), input_ids=input_ids,
            segment=segment, position_ids=positions, at=at, target=target, kind=kind, choices=choices, image_at=image_at,
        )
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _sequence(self, n_choices: int, tails: list[Tail], side: int) -> tuple[list[int], list[int], np.ndarray, list]:
        """Tokens, segments, positions (3, L), and (place, target, kind, choices) of each supervised token."""
        prefix = self.prefixes[n_choices]
        ids = prefix[:-2] + [self.image] * side**2 + prefix[-1:]
        places = [token_positions(np.array(ids) == self.image, (1, 2 * side, 2 * side), 2)]
        segments, learned, after = [0] * len(ids), [], int(places[0].max()) + 1
        for k, tail in enumerate(tails):
            tokens = tail.prompt + tail.said[:-1]
            first = len(ids) + len(tail.prompt) - 1
            learned += [(first + j, t, -1 if j else tail.kind, tail.choices) for j, t in enumerate(tail.said)]
            places.append(np.tile(after + np.arange(len(tokens)), (3, 1)))
            segments += [k + 1] * len(tokens)
            ids += tokens
        return ids, segments, np.concatenate(places, 1), learned


def what_tokens_show(scene: Scene, side: int) -> np.ndarray:
    """(side * side, 4 + 4 + 1) per image token: indices into SIGHTS of the thing it shows; where that thing's centre lies,
    right and down of the token's own, in tokens; where the token itself lies in the picture, which the tower, whose positions
    are relative, has to find out too; and whether the centre lies in the token, which is what counting counts. A token shows
    the nearest thing whose centre it holds or that covers its own."""
    shown = np.zeros((side, side, 9), np.float32)
    nearest = np.full((side, side), np.inf)
    middle = (np.arange(side) + 0.5) / side
    for thing in scene.things:
        dx, dy = thing.x - middle[None, :], thing.y - middle[:, None]
        distance = np.hypot(dx, dy)
        covers = distance < thing.radius * (0.45 if thing.aspect > 2 else 0.9)
        holds = (abs(dx) <= 0.5 / side) & (abs(dy) <= 0.5 / side)
        here = (covers | holds) & (distance < nearest)
        nearest[here] = distance[here]
        traits = [options.index(getattr(thing, name)) for name, options in SIGHTS.items()]
        shown[here, :4] = traits
        shown[here, 4:6] = np.stack(np.broadcast_arrays(dx, dy), -1)[here] * side
        shown[..., 8] = np.maximum(shown[..., 8], holds)
    shown[..., 6], shown[..., 7] = middle[None, :] * 4, middle[:, None] * 4
    return shown.reshape(-1, 9)


def _drawn(rng: np.random.Generator, shares: dict[Any, float]) -> Any:
    """One of the keys, each as often as its share says."""
    edges = np.cumsum(list(shares.values()))
    return list(shares)[int(np.searchsorted(edges, rng.random() * edges[-1], side="right"))]


# %% the model on a batch
def patches_of(pictures: torch.Tensor) -> torch.Tensor:
    """(P, 3 * 2 * 14 * 14) normalised patches of (B, S, S, 3) bytes, in the order of the image processor."""
    mean, std = (torch.tensor(values, device=pictures.device) for values in (IMAGE_MEAN, IMAGE_STD))
    x = (pictures.float() / 255 - mean) / std
    n, side = len(x), x.shape[1] // UNIT
    x = x.view(n, side, 2, 14, side, 2, 14, 3).permute(0, 1, 4, 2, 5, 7, 3, 6)  # (B, row, column, 2, 2, 3, 14, 14)
    return x[:, :, :, :, :, :, None].expand(-1, -1, -1, -1, -1, -1, 2, -1, -1).reshape(n * 4 * side**2, -1)


class LookingHead(nn.Module):
    """Tells what each image token shows; used in training only."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.sizes = [len(options) for options in SIGHTS.values()]
        self.head = nn.Linear(hidden, sum(self.sizes) + 4 + 1)

    def forward(self, features: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
        """Loss of (tokens, H) features against (tokens, 9) of `what_tokens_show`."""
        *traits, places, holds = self.head(features).float().split([*self.sizes, 4, 1], -1)
        there = (shown[:, 0] > 0).float()
        away = F.smooth_l1_loss(places, shown[:, 4:8], reduction="none")  # (tokens, 4)
        loss = away[:, :2].sum(-1) * there + away[:, 2:].sum(-1)
        loss = loss + F.binary_cross_entropy_with_logits(holds[:, 0], shown[:, 8], reduction="none")
        for number, logits in enumerate(traits):
            each = F.cross_entropy(logits, shown[:, number].long(), reduction="none")
            loss = loss + (each if number < 2 else each * there)
        return loss.sum() / there.sum().clamp(min=1)


def packed_mask(segment: torch.Tensor) -> torch.Tensor:
    """(B, 1, L, L) True where a token is seen: earlier, and in the prefix or in the own tail."""
    length = segment.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool, device=segment.device).tril()
    seen = (segment[:, None, :] == 0) | (segment[:, None, :] == segment[:, :, None])  # (B, L query, L key)
    return (earlier & seen)[:, None]


def forward(model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (N, V) at the supervised tokens, and features (tokens, H) of the pictures."""
    pictures = batch["pictures"]
    side = pictures.shape[1] // UNIT
    features = tower_features(model.model.visual, patches_of(pictures), [(1, 2 * side, 2 * side)] * len(pictures))
    language = model.model.language_model
    embeds = language.get_input_embeddings()(batch["input_ids"])
    flat = embeds.flatten(0, 1).index_copy(0, batch["image_at"], features.to(embeds.dtype))
    embeds = flat.view_as(embeds)
    hidden = language(
        inputs_embeds=embeds, position_ids=batch["position_ids"], attention_mask=packed_mask(batch["segment"]), use_cache=False
    ).last_hidden_state
    return model.lm_head(hidden.flatten(0, 1)[batch["at"]]).float(), features


class Grades:
    """Right answers among the offered letters, by kind of question, since the last report."""

    def __init__(self, letters: torch.Tensor) -> None:
        self.letters = letters  # (26,) tokens
        self.counts = torch.zeros(2, len(BASIC_KINDS), device=letters.device)

    @torch.no_grad()
    def add(self, logits: torch.Tensor, batch: dict[str, torch.Tensor]) -> None:
        asked, kind = (batch["kind"] >= 0).float() * batch["fresh"], batch["kind"].clamp(min=0)
        slot = torch.arange(len(self.letters), device=logits.device)
        offered = logits[:, self.letters].masked_fill(slot >= batch["choices"][:, None].clamp(min=1), -torch.inf)
        right = (self.letters[offered.argmax(-1)] == batch["target"]).float()
        self.counts[0].index_add_(0, kind, right * asked)
        self.counts[1].index_add_(0, kind, asked)

    def report(self) -> dict[str, float]:
        right, asked = self.counts.tolist()
        self.counts.zero_()
        each = {kind: round(r / max(1, n), 3) for kind, r, n in zip(BASIC_KINDS, right, asked, strict=True)}
        return {"all": round(sum(right) / max(1, sum(asked)), 4), **each}


# %% training
def learning_rate(step: int, progress: float, peak: float, warmup: int = 400) -> float:
    """Linear warm-up, then a cosine to a fiftieth of the peak."""
    return peak * min(1.0, (step + 1) / warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))


class Step:
    """Forward and backward of one batch."""

    def __init__(self, model: Any, looking: LookingHead, grades: Grades) -> None:
        self.model, self.looking, self.grades = model, looking, grades
        self.losses = torch.zeros(2, device=grades.letters.device)  # of words, of looks, summed until they are reported

    def __call__(self, batch: dict[str, torch.Tensor], progress: float, look_weight: float) -> None:
        device = self.losses.device
        batch = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits, features = forward(self.model, batch)
            looked = self.looking(features, batch["shown"])
        spoken, asked = (batch["kind"] == -1).float(), (batch["kind"] >= 0).float()
        weights = asked + _between(TEXT_WEIGHT, progress) * spoken
        each = F.cross_entropy(logits, batch["target"], reduction="none")
        ((each * weights).sum() / weights.sum() + look_weight * looked).backward()
        with torch.no_grad():
            self.losses += torch.stack([(each * spoken).sum() / spoken.sum().clamp(min=1), looked])
        self.grades.add(logits.detach(), batch)


def _between(ends: tuple[float, float], progress: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * progress


def several_times(batches: DataLoader, passes: int, seed: int, kept: int = 200) -> Iterator[dict[str, torch.Tensor]]:
    """Each batch at once, and again when some hundred others have been: one core makes lessons more slowly than a GPU learns
    from them. Only the first time is an exam."""
    rng, held = np.random.default_rng([seed, 1]), []
    for batch in batches:
        yield batch | {"fresh": torch.tensor(1.0)}
        held += [batch | {"fresh": torch.tensor(0.0)}] * (passes - 1)
        while len(held) > kept * (passes - 1):
            yield held.pop(int(rng.integers(len(held))))
    yield from (held[i] for i in rng.permutation(len(held)))


def train(options: argparse.Namespace) -> None:
    torch.manual_seed(options.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.start:
        tokenizer = AutoTokenizer.from_pretrained(options.start)
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(options.start, dtype=torch.float32).to(device).train()
    else:
        tokenizer = tiny_tokenizer(scene_sentences())
        model = Qwen2_5_VLForConditionalGeneration(tiny_config(tokenizer)).to(device).train()
    lessons = Lessons(options.seed, options.steps // options.passes, options.rows, tokenizer, options.begin)
    if options.compile:
        for layer in model.model.language_model.layers:
            layer.compile(dynamic=True)
    looking = LookingHead(model.config.text_config.hidden_size).to(device)
    parameters = [*model.parameters(), *looking.parameters()]
    average = [p.detach().clone() for p in parameters]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=options.rate, betas=(0.9, 0.98), fused=device == "cuda")
    vocabulary = lessons.tokenizer.get_vocab()
    grades = Grades(torch.tensor([vocabulary[letter] for letter in LETTERS], device=device))
    step_of = Step(model, looking, grades)
    print(f"{sum(p.numel() for p in parameters):,} parameters, {options.steps} steps of {options.rows} pictures, {device}")
    batches = DataLoader(
        lessons, batch_size=None, num_workers=options.workers, pin_memory=device == "cuda",
        prefetch_factor=8 if options.workers else None,
    )
    started, waited, mark, since = time.time(), 0.0, time.time(), 0
    for step, batch in enumerate(several_times(batches, options.passes, options.seed)):
        waited += time.time() - mark
        part = max(step / options.steps, (time.time() - started) / 60 / options.minutes)
        if part >= 1:
            break
        progress = _between((options.begin, 1.0), part)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, progress, options.rate)
        optimizer.zero_grad()
        # a trained tower needs no lessons in looking, and the head that gives them would be new
        step_of(batch, progress, 0.0 if options.start else _between(LOOK_WEIGHT, progress))
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        torch._foreach_lerp_(average, parameters, max(0.001, 1 / (step + 1)))
        if (step + 1) % options.every == 0 or step + 1 == options.steps:
            spent, (of_words, of_looks) = time.time() - started, (step_of.losses / (step + 1 - since)).tolist()
            print(json.dumps({
                "step": step + 1, "minutes": round(spent / 60, 2), "loss_words": round(of_words, 4),
                "loss_looks": round(of_looks, 3), "pictures_per_s": round(options.rows * (step + 1) / spent),
                "waiting": round(waited / spent, 2), **grades.report(),
            }), flush=True)
            step_of.losses.zero_()
            since = step + 1
            if (step + 1) % (10 * options.every) == 0:
                save_average(model, average, options.out, tokenizer)
        mark = time.time()
    save_average(model, average, options.out, tokenizer)


@torch.no_grad()
def save_average(model: Any, average: list[torch.Tensor], out: Path, tokenizer: Any) -> None:
    """A model folder with the averaged weights in float16."""
    values = {name: value.half().cpu() for (name, _), value in zip(model.named_parameters(), average, strict=False)}
    with torch.device("cpu"):
        kept = Qwen2_5_VLForConditionalGeneration(model.config).half()
    kept.load_state_dict(values, strict=False)  # the head shares the embedding's weights and is not listed
    kept.tie_weights()
    save_tiny(kept, tokenizer, out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="a model folder to go on from")
    parser.add_argument("--begin", type=float, default=0.0, help="with --start: place in the curriculum to go on at, 0 to 1")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--minutes", type=float, default=math.inf, help="end by then, with the learning rate at its end")
    parser.add_argument("--rows", type=int, default=96, help="pictures in a batch")
    parser.add_argument("--passes", type=int, default=1, help="how often each lesson is learned")
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0, help="processes that make lessons")
    parser.add_argument("--every", type=int, default=100, help="steps between reports")
    parser.add_argument("--compile", action="store_true", help="compile the layers of the language model")
    train(parser.parse_args())
