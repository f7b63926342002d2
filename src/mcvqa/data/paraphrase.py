"""Paraphrases questions by changing their ending, so that a model learns what is asked and not how it is worded.

A rule is a list of forms that ask the same thing. Any form of a rule may be read, and any other may be written; the text of a
{slot} is copied unchanged, so content words, numbers and quotations never change. To extend the table, add a form to a rule, or a
rule to the table.
"""
import functools
import re
from collections.abc import Mapping

import numpy as np

# %% Korean particles: their form depends on the sound before them
PARTICLE_MARK = r"\[([가-힣]+)/([가-힣]+)\]"
QUOTES_AND_BRACKETS = "'\"’”」』)]}"


def ends_in_consonant(text: str) -> bool | None:
    """Return whether the last sound of `text` is a consonant (받침); None if the spelling does not tell (Latin, signs)."""
    last = text.rstrip(QUOTES_AND_BRACKETS)[-1:]
    if "가" <= last <= "힣":
        return (ord(last) - ord("가")) % 28 != 0  # 28 syllables per pair of initial and vowel, the first without final
    if last and last in "0123456789":
        return last in "013678"  # 영 일 삼 육 칠 팔
    return None


def fill_form(form: str, slots: Mapping[str, str]) -> str | None:
    """Fill a form: '{x}[은/는] 무슨 색인가요?' with x='별' -> '별은 무슨 색인가요?'; None if a particle cannot be determined.

    Args:
        form: text with {slots} and [form after a consonant/form after a vowel].
        slots: values, which are never interpreted, so brackets and braces in them stay.
    """
    first, *rest = re.split(PARTICLE_MARK, form)
    text = first.format_map(slots)
    for after_consonant, after_vowel, piece in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
        consonant = ends_in_consonant(text)
        if consonant is None:
            return None
        text += (after_consonant if consonant else after_vowel) + piece.format_map(slots)
    return text


# %% the table
# Allowed content of a slot. {x} is free; it ends where the words of the form begin.
PARAPHRASE_SLOTS = {
    "x": r".+",
    "owner": r".+(?<! 개)(?<! 가지)",  # '두 개의 색깔' are two colours, not the colour of two
    "act": r".+(?<!중 )",  # '넷 중 하나요' is no verb
    "start": r"(?:.*\s)?",  # whatever comes before a word
    "asked": r"무엇|어디|누구|언제|얼마|몇 \S+|(?:무슨|어떤|어느) \S+",
    "noun": r"색|색깔|색상|모양|종류",
    "be": r"인가요|입니까|일까요",
    "was": r"[가-힣]*[았었였했됐렸졌났갔왔봤썼셨]",
    # 'the bed by the wall', but not 'the man wearing' or 'the door painted'
    "thing": r"(?:the|this|that|his|her|its|their) .+(?<!ing)(?<!ed)(?<! in)(?<! into)(?<! of)",
    "quality": r"colou?r|shape|size|pattern",
    "one": r"(?:an?|any) .+",
    "many": r"\S+(?: \S+){0,3}",
    "picture": r"(?:the|this) (?:picture|image|photo)",
}

# Rules of a block change different parts of a question: the first that fits in each block is applied.
PARAPHRASE_RULES: tuple[tuple[tuple[str, ...], ...], ...] = (
    (  # Korean: how the question is built
        ("{owner}의 {noun}[은/는] 무엇{be}", "{owner}[은/는] 무슨 {noun}{be}", "{owner}[은/는] 어떤 {noun}{be}"),
    ),
    (  # Korean: how it ends
        ("{start}무엇인가요", "{start}무엇입니까", "{start}무엇일까요", "{start}뭐예요", "{start}뭔가요"),
        ("{start}{asked}인가요", "{start}{asked}입니까", "{start}{asked}일까요", "{start}{asked}[이에요/예요]"),
        ("{x} 것인가요", "{x} 것입니까", "{x} 것일까요", "{x} 건가요"),
        ("{x} 곳인가요", "{x} 곳입니까", "{x} 곳일까요"),
        ("{x}있나요", "{x}있습니까", "{x}있을까요", "{x}있어요"),
        ("{x}없나요", "{x}없습니까", "{x}없을까요", "{x}없어요"),
        ("{x} 보이나요", "{x} 보입니까", "{x} 보일까요", "{x} 보여요"),
        ("{x} 높은가요", "{x} 높나요", "{x} 높습니까", "{x} 높을까요"),
        ("{act}하나요", "{act}합니까", "{act}할까요"),
        ("{x}되나요", "{x}됩니까", "{x}될까요"),
        ("{start}{was}나요", "{start}{was}습니까", "{start}{was}을까요"),
    ),
    (  # English
        ("what {quality} is {thing}", "which {quality} is {thing}", "what is the {quality} of {thing}"),
        ("where is {thing} located", "where can {thing} be found"),
        ("is there {one} in {picture}", "does {picture} contain {one}", "can you see {one} in {picture}"),
        ("how many {many} are there in {picture}", "how many {many} are in {picture}",
         "how many {many} can be seen in {picture}", "how many {many} does {picture} contain"),
        ("how many {many} are there", "how many {many} can you see", "how many {many} can be seen"),
    ),
)


# %% paraphrase
def paraphrase(text: str, rng: np.random.Generator) -> str:
    """Rephrase a question with another ending of the same meaning; unchanged if no rule matches.

    Args:
        text: a question in Korean or English.
        rng: chooses among the other forms.
    """
    if text.count('"') % 2 or "\n" in text:  # an open quotation, or several lines: the end of the question is unclear
        return text
    cut = re.search(r"[\s?？.]*\Z", text)
    body, tail = (text[: cut.start()], cut[0]) if cut else (text, "")
    for block in PARAPHRASE_RULES:
        others = next(filter(None, (_other_forms(body, forms) for forms in block)), None)
        if others:
            body = others[rng.integers(len(others))]
    return body + tail


def _other_forms(body: str, forms: tuple[str, ...]) -> list[str]:
    """Return `body` in the other forms of a rule; empty if it matches none of them."""
    for form in forms:
        if match := _form_pattern(form).fullmatch(body):
            written = (fill_form(other, match.groupdict()) for other in forms if other != form)
            return [_like_first_letter(other, body) for other in written if other is not None]
    return []


@functools.cache
def _form_pattern(form: str) -> re.Pattern[str]:
    """Compile a form to a regular expression with the slots as named groups: '{x}[은/는] 무슨 {noun}'."""
    pattern = re.sub(PARTICLE_MARK, r"(?:\1|\2)", form)
    return re.compile(re.sub(r"\{(\w+)\}", lambda slot: f"(?P<{slot[1]}>{PARAPHRASE_SLOTS[slot[1]]})", pattern), re.I)


def _like_first_letter(text: str, model: str) -> str:
    return text[0].upper() + text[1:] if model[0].isupper() else text
