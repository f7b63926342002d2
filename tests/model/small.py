"""Small models of the families, with random weights, and rows for them."""
import numpy as np
import torch
from torch import nn
from transformers import AutoModelForImageTextToText, Qwen2_5_VLConfig, Qwen2VLConfig, Qwen3_5Config, Qwen3VLConfig

from mcvqa.model.families.family import image_tokens, token_positions
from mcvqa.model.families.registry import FAMILIES
from mcvqa.model.fast.forward import AnswerModel, collate
from mcvqa.model.fast.layout import EVERY_TOKEN_ONCE
from mcvqa.model.text.encode import Row
from mcvqa.model.vision.features import finished, start_encoding

IMAGE = 9  # the image token
GRIDS = {"a": (1, 4, 6), "b": (1, 4, 4), "c": (1, 4, 6)}
VALUES = {"qwen2_vl": 1176, "qwen2_5_vl": 1176, "qwen3_vl": 1536, "qwen3_5": 1536}  # of a patch: 3 * 2 * 14 * 14, or 16 * 16


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


def small_model(family: str):
    """Random weights that are large enough for every part to matter."""
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
        "qwen3_5": lambda: Qwen3_5Config(
            text_config=text | dict(
                layer_types=["linear_attention", "full_attention", "linear_attention"], head_dim=32,
                linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=16, linear_value_head_dim=24,
                rope_parameters=text["rope_parameters"] | dict(partial_rotary_factor=0.5),
            ), **marks,
            vision_config=vision | dict(
                hidden_size=64, intermediate_size=96, out_hidden_size=64, num_position_embeddings=36, deepstack_visual_indexes=[],
            ),
        ),
    }[family]()
    torch.manual_seed(0)
    return AutoModelForImageTextToText.from_config(config, attn_implementation=EVERY_TOKEN_ONCE).eval()


def small_pictures(model):
    """Patches by the name of the picture."""
    random, width = torch.Generator().manual_seed(1), VALUES[model.config.model_type]
    return {name: torch.randn(int(np.prod(grid)), width, generator=random) for name, grid in GRIDS.items()}


SYSTEM, ORDERS = [1, 2, 3], [[30, 31, 32, 33], [30, 31, 33, 32, 34], [31, 30], [33]]
ROWS = [
    made_row(SYSTEM, "a", [14, 15], ORDERS), made_row(SYSTEM, "a", [14, 16, 17], []), made_row(SYSTEM, "b", [14, 15], ORDERS[:2]),
    made_row(SYSTEM, None, [14, 15, 18], ORDERS), made_row(SYSTEM, None, [14, 15], []), made_row(SYSTEM, "c", [14], ORDERS[2:]),
]


def batch_of(rows, pictures, recurrent=False):
    return collate(rows, lambda row: pictures[row.image], IMAGE, patches=True, recurrent=recurrent)


def encode_images(base, patches, grids, names):
    """Features of each image."""
    return finished(base, start_encoding(base, patches, grids, names))[0]


def answering(model) -> AnswerModel:
    return AnswerModel(model, FAMILIES[model.config.model_type], IMAGE)


class OneByOne(nn.Module):
    """(B, K, V) logits by the library's own forward pass, a prompt at a time. Args: rows: those of the batches."""

    def __init__(self, model, rows, pictures) -> None:
        super().__init__()
        self.model, self.rows, self.pictures = model, rows, pictures

    def forward(self, batch):
        said = []
        for row in self.rows:
            shown = {} if row.image is None else dict(
                pixel_values=self.pictures[row.image], image_grid_thw=torch.tensor([row.grid]))
            for prompt, _ in prompts_of(row):
                ids = torch.from_numpy(prompt)[None]
                marks = dict(mm_token_type_ids=(ids == IMAGE).int()) if shown else {}
                said.append(self.model(input_ids=ids, attention_mask=torch.ones_like(ids), **shown, **marks).logits[0, -1])
        made = torch.zeros(*batch.answer_at.shape, said[0].shape[-1])
        return made.index_put(tuple((batch.letters >= 0).any(-1).nonzero().T), torch.stack(said))
