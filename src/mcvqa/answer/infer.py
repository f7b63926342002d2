"""python infer.py PHOTO QUESTION CHOICE CHOICE ...  BASE_MODEL=FOLDER says where adapters' base model is, unless on the hub."""
import json
import os
import re
import sys
from importlib import import_module
from pathlib import Path
from string import ascii_lowercase as LETTER
from typing import Any

import torch
from PIL import Image, ImageOps
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer


def load_exported(folder: Path, base: str = os.getenv("BASE_MODEL", "")) -> tuple[Any, ...]:
    """Load model, tokenizer or whole processor, image processor, and how to ask."""
    ask = json.loads((folder / "ask.json").read_text(encoding="utf-8"))
    device, dtype = ("cuda", getattr(torch, ask["dtype"])) if torch.cuda.is_available() else ("cpu", torch.float32)
    adapted = (folder / "adapter_config.json").exists()
    model: Any = AutoModelForImageTextToText.from_pretrained((base or ask["base_model"]) if adapted else folder, dtype=dtype)
    model = import_module("peft").PeftModel.from_pretrained(model, str(folder)) if adapted else model.requires_grad_(False)
    if not ask["image_token"]:
        return model.to(device).eval(), AutoProcessor.from_pretrained(folder), None, ask
    auto: Any = import_module("transformers.models.auto.image_processing_auto").AutoImageProcessor  # else 5.5 wants torchvision
    return model.to(device).eval(), AutoTokenizer.from_pretrained(folder), auto.from_pretrained(folder, backend="pil"), ask


def letter_probabilities(loaded: tuple[Any, ...], photo: str, question: str, choices: list[str]) -> list[float]:
    """Compute the probability of each choice: a softmax over the letters' logits directly after the prompt."""
    model, tokenizer, images, ask = loaded
    for token in ask["special"]:  # text must not end a message
        question, *choices = (text.replace(token, f"{token[0]} {token[1:]}") for text in (question, *choices))
    options = "\n".join(f"({letter}) {choice}" for letter, choice in zip(LETTER, choices, strict=False))
    filled = {"question": question, "options": options, "letters": ", ".join(LETTER[: len(choices)])}
    text = re.sub(r"\{(question|options|letters)\}", lambda match: filled[match[1]], ask["prompt"])
    if (opened := Image.open(photo)).mode[0] in "IF" or ";16" in str(opened.tile) or max(opened.size) > 190 * min(opened.size):
        raise ValueError(f"{photo} has more than 8 bits per channel, or is a strip over 190:1. Save it with 8 bits, or pad it.")
    picture = ImageOps.exif_transpose(opened).convert("RGBA")
    picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    if images is None:
        inputs = tokenizer(text=[text], images=[[picture]], return_tensors="pt", add_special_tokens=ask["add_special_tokens"])
    else:
        seen = images(images=[picture], size={"shortest_edge": ask["pixels"], "longest_edge": ask["pixels"]}, return_tensors="pt")
        text = text.replace(ask["image_token"], ask["image_token"] * (int(seen["image_grid_thw"].prod()) // ask["merge"] ** 2))
        inputs = {**tokenizer(text, add_special_tokens=False, return_tensors="pt"), **seen}
        inputs["mm_token_type_ids"] = (inputs["input_ids"] == tokenizer.convert_tokens_to_ids(ask["image_token"])).int()
    inputs = {name: v.to(model.device, model.dtype if v.is_floating_point() else None) for name, v in inputs.items()}
    return model(**inputs).logits[0, -1].float()[ask["letters"][: len(choices)]].softmax(0).tolist()


if __name__ == "__main__":
    if len(sys.argv) not in range(5, 4 + len(LETTER)):
        sys.exit(__doc__)
    try:
        shares = letter_probabilities(load_exported(Path(sys.argv[0]).parent), sys.argv[1], sys.argv[2], sys.argv[3:])
    except (OSError, ValueError) as error:  # no such file, no picture or one that the model cannot take, no base model
        sys.exit(str(error))
    print(*(f"{LETTER[i]}  {share:.4f}  {sys.argv[3 + i]}" for i, share in enumerate(shares)), sep="\n")
