"""Parses a choice, or no answer, from free text, for replies of other systems: our own scoring reads letter probabilities.

A reply is parsed in four steps. Each may end in "no answer", because a guess is worse than an abstention:

1. *Extract the reply.* Thinking, turns of other roles and markup are removed.
2. *Mark mentions.* Every label (`b`, `(b)`, `2번`, `option b`) and every choice's text, longest first, becomes one mark.
   Content takes precedence over ordinals: "2" means a choice that reads 2 rather than the second choice.
3. *Drop irrelevant mentions.* Negated mentions ("not a", "a는 틀렸고"), mere possibilities and lists of options are
   dropped; "b or c" becomes one mark for no single choice.
4. *Weigh the evidence, strongest first.* A statement of the answer (the last one counts, as people correct themselves); a
   sentence that consists of a choice only; the only choice mentioned. Different choices on one level mean no answer.
"""
import re
import unicodedata
from collections.abc import Sequence

from mcvqa.data.answers import ALPHABETS, uncircled_character

# %% marks: one private-use character per mention, 64 code points per kind, the last of them for "no single choice"
CONTENT, LABEL, BARE = 0xE000, 0xE040, 0xE080  # a choice's text; a label marked as one; a letter or number on its own
NO_CHOICE = 63
DROPPED = "\ue0ff"
MARK, CONTENT_MARK = "[\ue000-\ue0bf]", "[\ue000-\ue03f]"
LETTER_MARK = "[\ue040-\ue0bf]"  # marked as a label, or bare
FIRM_MARK = "[\ue000-\ue07f]"  # means a choice anywhere; a bare mark only in the position of an answer


def _choice_of(mark: str) -> int:
    return (ord(mark) - CONTENT) % 64


# %% step 1: extract the reply
THINKING = "think|thinking|thought|reasoning|analysis|scratchpad"
ROLE_LINE = re.compile(
    r"(?:(?:^|\n)[ \t]*(?:<\|\w+\|>|#+[ \t]*)?|(?<=[a-z.])(?=assistant[ \t]*\n))"
    r"(system|user|human|assistant|시스템|사용자|어시스턴트)(?:<\|\w+\|>)?[ \t]*(?::|(?=\n|$))",
    re.IGNORECASE,
)
TURN_END = re.compile(r"<\|\w+\|>|</s>|<eos>|<end_of_turn>|\[/?INST\]")
QUOTES = str.maketrans("“”„‘’‚「」『』《》〈〉【】→⇒➡➔", "\"\"\"'''''''''''[]>>>>")


def _extract_reply(text: str) -> str:
    """Return the reply without its thinking and without turns of other roles."""
    text = re.sub(rf"(?is).*</(?:{THINKING})>|<(?:{THINKING})>.*", "", text)
    reply, *turns = ROLE_LINE.split(text)  # [before, role, text, role, text, ...]
    if turns and not TURN_END.sub("", reply).strip():  # the text includes the prompt
        assistant = [i for i, role in enumerate(turns[::2]) if role.lower() in ("assistant", "어시스턴트")]
        reply = turns[2 * assistant[0] + 1] if assistant else turns[-1]
    return next((part for part in TURN_END.split(reply) if part.strip()), "")


def _plain_letters(text: str) -> str:
    """Normalise characters: ⓒ and 🅒 to (c), ③ and ❸ to 3번, full width to half width, composed Hangul."""
    text = re.sub("([0-9])\ufe0f?\u20e3", r"\1번", text)  # keycaps
    text = unicodedata.normalize("NFKC", "".join(map(uncircled_character, text.translate(QUOTES))))
    return text.translate(QUOTES)


def _without_markup(text: str) -> str:
    r"""Remove LaTeX, HTML, Markdown and code fences; \boxed{} and <answer> become "answer:"."""
    text = re.sub(r"\\(?:text|math|operatorname)[a-z]*\s*\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\\f?boxed\s*\{([^{}]*)\}", r"\nanswer: \1\n", text)
    text = re.sub(r"(?is)<answer>(.*?)(?:</answer>|$)", r"\nanswer: \1\n", text)
    text = re.sub(r"```\w*|\\[()\[\]]|\$|</?(?:b|i|p|em|strong|span|div|br|code|answer)\b[^<>]*>", " ", text)
    return re.sub(r"(\*{1,3}|__|`)(?=\S)(.+?)(?<=\S)\1", lambda m: f"({m[2]})" if len(m[2]) == 1 else m[2], text)


# %% step 2: mentions
# particles and endings that may follow a Korean noun
PARTICLES = (
    "으로는|에서는|이라고|이라는|이라서|이므로|이니까|이었습니다|였습니다|입니다|이에요|이예요|예요|이네요|네요|이지만|"
    "지만|인데요?|이었다|였다|이다|이고|이며|이야|이요|이죠|이나|이랑|이란|라고|라는|라서|처럼|보다는?|부터|까지|에서|"
    "에게|하고|밖에|같[가-힣]+|만이|만을|으로|로는|에는|에도|들[이은을]?|번째?|[은는이가을를와과의에도만로인일임요야죠나랑뿐씩]"
)
WORD_END = rf"(?:(?![가-힣])|(?=(?:{PARTICLES})(?![가-힣])))"
# boundaries of a choice's text, by the script of its first and last character
MAY_BEGIN = {
    "digit": re.compile(r"(?<![a-z0-9\-])(?<!\d[.,:/])", re.IGNORECASE),
    "latin": re.compile("(?<![a-z0-9])", re.IGNORECASE),
    "hangul": re.compile("(?<![가-힣])|(?<=답은)"),
    "other": re.compile(""),
}
MAY_END = {
    "digit": re.compile(r"(?![a-z0-9]|[.,:/\-]\d|번)", re.IGNORECASE),
    "latin": re.compile(rf"(?![a-z0-9+#]){WORD_END}", re.IGNORECASE),
    "hangul": re.compile(WORD_END),
    "other": re.compile(WORD_END),
}
COUNTERS = "개|명|마리|대|권|송이|병|잔|장|층|시|분|초|년|월|일|살|원|가지|그루|켤레|조각|줄|칸|쪽|회|미터|센티|킬로|도"
# "a" before a word is the article, unless that word follows labels; a number before a word is a quantity
AFTER_LABEL = (
    r"(?:[a-z]|is|isn't|was|seems|looks|would|should|must|matches|fits|or|and|nor|not|but|rather|instead|vs|for|due|as"
    r"|because|since)\b"
)
THEN_WORD = rf"\s+[\"'(]?(?!{AFTER_LABEL})[a-z0-9]"
LABEL_NOUNS = "option|choice|alternative|보기|선택지|옵션|번호"
KOREAN_ORDINALS = ("첫", "두", "세", "네", "다섯", "여섯")
ORDINALS = {
    word: choice
    for words in (KOREAN_ORDINALS, ("first", "second", "third", "fourth", "fifth"), ("1st", "2nd", "3rd", "4th", "5th"))
    for choice, word in enumerate(words)
}
HANGUL_LABEL = f"[{ALPHABETS[1]}{ALPHABETS[2]}]"
BARE_KINDS = ("letter", "digits", "numbered", "nth", "hangul")
LABEL_FORMS = re.compile("|".join((
    rf"[(\[{{<]\s*(?P<bracketed>[a-z]|\d\d?|{HANGUL_LABEL})\s*[)\]}}>]",
    rf"(?P<quote>[\"'])(?P<quoted>[a-z]|{HANGUL_LABEL})(?P=quote)",
    rf"(?<![a-z])(?:{LABEL_NOUNS})\s*[:#]?\s*[\"'(]?(?!a{THEN_WORD})(?P<named>[a-z]|\d\d?)(?![a-z0-9]|[.,]\d){WORD_END}",
    r"(?<![a-z0-9])(?P<lettered>[a-z])번(?!호)",
    r"(?<![a-z0-9.,])(?P<numbered>\d\d?)번째?(?!호)",
    rf"(?<![a-z0-9가-힣])(?P<ordinal>{'|'.join(ORDINALS)})\s*(?:번째\s*)?(?:{LABEL_NOUNS}|one\b|answer\b)",
    rf"(?<![가-힣])(?P<nth>{'|'.join(KOREAN_ORDINALS)})\s*번째(?=\s*(?:[.,\n]|입니다|이다|이에요|예요|$))",
    rf"(?:(?<![a-z0-9가-힣°])|(?<=[은는답기지]))(?<![a-z0-9]['.\-])(?!a{THEN_WORD})(?P<letter>[a-z])"
    rf"(?![a-z0-9+#]|['.\-&][a-z0-9]){WORD_END}",
    rf"(?<![a-z0-9.,:/\-])(?<!\d )(?P<digits>\d\d?)(?![a-z0-9%]|[.,:/\-]\d|\s*(?:{COUNTERS})|{THEN_WORD}){WORD_END}",
    rf"(?:^|(?<=[\n:])|(?<=[:은는답] ))(?P<hangul>{HANGUL_LABEL})(?=번|입니다|이다|이에요|예요|\s*(?:[^가-힣\s]|\n|$))",
)), re.IGNORECASE)


class _Marker:
    """Marks the mentions of one row's choices in a text."""

    def __init__(self, choices: Sequence[str]) -> None:
        self.n = len(choices)
        self.keys = [_content_key(choice) for choice in choices]
        numbers = [re.findall(r"\d+", key) for key in self.keys]
        self.amounts = [int(digits[0]) if len(digits) == 1 else None for digits in numbers]

    def mark(self, text: str) -> str:
        """Replace mentions by marks; of overlapping mentions the first counts, then the longest."""
        mentions = [
            (match.start(), -match.end(), chr(CONTENT + self._with_key(key)))
            for key in set(self.keys) if not re.fullmatch("[a-z]?", key)
            for match in re.finditer(_content_pattern(key), text, re.IGNORECASE)
            if MAY_BEGIN[_script(key[0])].match(text, match.start()) and MAY_END[_script(key[-1])].match(text, match.end())
        ]
        mentions += [(match.start(), -match.end(), self._label(match)) for match in LABEL_FORMS.finditer(text)]
        pieces, at = [], 0
        for start, end, mark in sorted(mentions, key=lambda mention: mention[:2]):  # contents before labels
            if start >= at:
                pieces += [text[at:start], mark]
                at = -end
        return "".join([*pieces, text[at:]])

    def _label(self, match: re.Match) -> str:
        kind, label = next((name, value) for name, value in match.groupdict().items() if value and name != "quote")
        if kind == "letter" and re.match(r"(?i)i(?:\s+[a-z]|')", match.string[match.start() : match.end() + 20]):
            return match[0]  # the pronoun
        return chr((BARE if kind in BARE_KINDS else LABEL) + self._choice_labelled(label.lower(), kind))

    def _with_key(self, key: str) -> int:
        return self.keys.index(key) if self.keys.count(key) == 1 else NO_CHOICE

    def _choice_labelled(self, label: str, kind: str) -> int:
        """Find the choice with a label; none if the text of another choice equals the label."""
        rival = None
        if label in ORDINALS:
            choice = ORDINALS[label]
        elif label.isdecimal():
            choice = int(label) - 1
            rival = self._amount(int(label)) if kind in ("digits", "bracketed") else None
        else:
            # ignoring case, [a-z] also matches a few foreign letters ("İ"), which label nothing
            choice = next((alphabet.index(label) for alphabet in ALPHABETS if label in alphabet), -1)
            rival = self._with_key(label) if kind in ("letter", "quoted") and label in self.keys else None
        if kind == "digits" and rival is not None:
            return rival
        return choice if 0 <= choice < self.n and rival in (None, choice) else NO_CHOICE

    def _amount(self, number: int) -> int | None:
        """Find the choice whose amount is `number`. If all choices are amounts, any other number is none of them."""
        same = [i for i, amount in enumerate(self.amounts) if amount == number]
        if None not in self.amounts:
            return same[0] if len(same) == 1 else NO_CHOICE
        return None if same in ([], [number - 1]) else NO_CHOICE


def _content_key(choice: str) -> str:
    key = re.sub(r"(?<=\d),(?=\d{3})", "", _plain_letters(choice)).strip().rstrip(".!?").strip("\"'").lower()
    return " ".join(re.sub(r"^(?:an?|the)\s+(?=\S)", "", key).split())


def _content_pattern(key: str) -> str:
    """Make a pattern for a choice's text with flexible spacing, also between a number and its unit."""
    return r"\s*".join(map(re.escape, re.sub(r"(?<=\d)(?=[a-z가-힣%])", " ", key).split()))


def _script(char: str) -> str:
    if char.isdecimal():
        return "digit"
    return "latin" if "a" <= char <= "z" else "hangul" if "가" <= char <= "힣" else "other"


# %% step 3: drop what does not count
PERHAPS = "or|and|maybe|perhaps|possibly|아마도?|혹은|또는"
JOIN = (
    r"[ \t\"'()]{0,3}(?:[,/|&~]|\b(?:or|and|nor)\b|또는|혹은|아니면|이?거나|이나|나|이?랑|와|과|및|하고)"
    rf"(?:\s*(?:{PERHAPS})(?![a-z]))*[ \t\"'(]{{0,3}}"
)
GROUP = re.compile(rf"{MARK}(?:{JOIN}{MARK})*", re.IGNORECASE)
CLAUSE_END = (
    r"다른|나머지|그 외|밖에|외에|이고|이며|지만|때문|므로|because"
    r"|\b(?:but|and|so|while|other|rest|doubt|question)\b"
)
WITHIN = rf"(?:(?!{CLAUSE_END})[^\ue000-\ue0ff.,;:?!\n]){{0,30}}?"
DENIED_AFTER = re.compile(
    rf"{WITHIN}(?:아니(?!면|요)|아[닌닙님닐]|틀[린렸립려리]|틀림(?!없)|오답|제외|없[고다습어음으이]|다르|다릅|다름(?!없)"
    rf"|처럼 보이지만|빼고|말고|않|못하|대신|보다|\bnot\b(?!\s*(?:the\s+|an?\s+)?{MARK})|n't\b"
    r"|\b(?:wrong|incorrect|false|impossible|unlikely|eliminated|excluded|ruled out)\b)"
    r"|[\"')]*일\s*[수지]",  # a possibility
    re.IGNORECASE,
)
DENIED_BEFORE = re.compile(
    r"(?:\b(?:not|never|neither|without|no|cannot|except|rather than|instead of|unlike|rul(?:e|es|ed|ing) out)\b|n't\b"
    rf"|\b(?:eliminat|exclud)\w+){WITHIN}$|\b(?:might|could|may) be\s+$",
    re.IGNORECASE,
)
LISTED_AFTER = re.compile(r"\s*(?:중|가운데|사이)")
LISTED_BEFORE = re.compile(r"\b(?:between|among|from)\s+$", re.IGNORECASE)
LABEL_THEN_CONTENT = re.compile(
    rf"({LETTER_MARK})[\"')\]]*[^\S\n]*([.):,\-=]*)[^\S\n]*[\"'(\[]*({CONTENT_MARK})[\"')\]]*"
    r"(?=([^\S\n]*(?:$|[\n.,;)]))?)"
)


def _assertions(marked: str) -> str:
    """Reduce to one mark per statement: merge label and content, drop negations, join alternatives."""
    return GROUP.sub(_judged, LABEL_THEN_CONTENT.sub(_merged, marked))


def _merged(match: re.Match) -> str:
    """Merge `b. glass bottle` into one mention; a label followed by another choice's text names no choice."""
    label, separator, content, closed = match.groups()
    if _choice_of(label) == _choice_of(content):
        return content
    return chr(CONTENT + NO_CHOICE) if closed is not None and "," not in separator else match[0]


def _judged(match: re.Match) -> str:
    """Make one mark for `a`, or for `a or b`, in its context."""
    before = match.string[max(0, match.start() - 60) : match.start()]
    after = match.string[match.end() : match.end() + 60]
    marks = re.findall(MARK, match[0])
    if DENIED_AFTER.match(after) or DENIED_BEFORE.search(before):
        return DROPPED
    if len(marks) > 1 and (LISTED_AFTER.match(after) or LISTED_BEFORE.search(before)):
        return marks[-1] if marks[-1] in marks[:-1] else DROPPED  # "between a and b, b is better"
    if len({_choice_of(mark) for mark in marks}) == 1:
        return min(marks)
    return chr((BARE if min(marks) >= chr(BARE) else LABEL) + NO_CHOICE)


# %% step 4: evidence
FILLER = (
    r"(?:[\s\"'`(\[{*:=>,~#-]|(?:the|option|choice|letter|answer|is|it's|it is|that|most likely|likely|probably|definitely"
    r"|clearly|maybe|perhaps|indeed|i (?:choose|pick|think|believe|say|would say)"
    r"|보기|선택지|아마도?|바로|역시|분명히?|확실히)(?![a-z])){0,40}"
)
# (?P<cue>): the answer may also come later in the clause; after the other words only the next choice counts
SAID_BEFORE = re.compile(
    r"(?P<cue>(?:정답|해답|답변?|답안|결론|최종\s*선택|선택)\s*(?:은|는|이|을|으로는|[:=>)\]])?"
    r"|(?<![a-z])(?:answer|solution|response|prediction|conclusion|label|pick|choice)(?![a-z_])[\"')\s]*"
    r"(?:is|was|:|=|-*>|(?:would|should|must|will|has to|seems to|appears to) be)?"
    r"|\b(?:correct|right|best)\s+(?:one|option|choice)\s+(?:is|:))"
    r"|\b(?:choose|pick|select|chose|picked|selected|go(?:ing)? with|opt for|it's|it is|that's|must be"
    r"|i(?:'d| would)? (?:say|guess|think|believe)|so|therefore|thus|hence|consequently|finally)\b"
    r"|고르자면|고른다면|선택하자면|따라서|그러므로|그래서|즉|결국|결론적으로"
    r"|\ue0ff[^\ue000-\ue0bf.;?!\n]{0,15}?(?:\bbut\b|아니(?:라|고|므로)|말고|대신)"
    r"|(?:\b(?:actually|wait|correction|sorry|no|hmm|instead)\b|아니(?=[\s,.])|정정|다시 보니|잠깐)[\s,.!:;]*",
    re.IGNORECASE,
)
DIRECT = re.compile(rf"{FILLER}({MARK})", re.IGNORECASE)
REASON = re.compile(r"because|since\b|reason|explanation|왜냐|이유|설명|[\n.;!?]", re.IGNORECASE)
SAID_AFTER = re.compile(
    rf"({MARK})[\"')\]]*\s*(?:이|가|은|는|을|를|로|으로|만이|만|이라는|라는)?\s*(?:가장|바로|제일|더)?\s*"
    r"(?:정답(?!일까|인가)|답(?!변)|맞(?!나|을까|는지)|옳|적절|적합|알맞|타당|올바|정확|선택(?!지)|고르|고릅|고른|골랐|골라|택)"
    # "b입니다" as the predicate of a sentence, not as the end of "비타민 B입니다"
    rf"|(?:^|[\n.!?,:은는에]\s*|아마도?\s*|바로\s*|역시\s*)[\"'(]*({LETTER_MARK})[\"')]*\s*"
    r"(?:입니다|이에요|예요|이다|임|이?라고\s*(?:생각|봅|보|판단|답)|[인일]\s*[것듯거]|으?로\s*(?:보|생각|판단|하|추정)|같)"
    rf"|({MARK})[\"')\]]*\s+(?:(?:is|was|seems|appears|looks|(?:would|should|must) be)\s+(?:to be\s+)?(?:the\s+|my\s+)?"
    r"(?:most\s+|best\s+|only\s+)?(?:likely\s+)?"
    r"(?:correct|answer|best|accurate|appropriate|right(?!\s+(?:next|of|side|behind|in)))"
    r"|(?:best\s+)?(?:matches|fits|answers)\b)",
    re.IGNORECASE,
)
AROUND = r"[\s\"'`)\]}*,:~-]*"
ALONE = re.compile(
    rf"{FILLER}({MARK}(?:[\s,]+{MARK})*){AROUND}"
    rf"(?:번|보기|선택지|입니다|이에요|예요|이다|임|인\s*것\s*같\w*|같\w*|이?요|네요)?{AROUND}",
    re.IGNORECASE,
)
LEADING = re.compile(
    rf"[\s\"'(]*({MARK})[\"')\]]*(?:(?!:\s*[01]?\.\d)\s*[:.,;()-]|\s+(?:because|since|as|rather|not)\b)", re.IGNORECASE
)
POINTED = re.compile(rf"[:>-]\s*({MARK})[\s.\"')]*$")
REFUSAL = re.compile(
    r"(?:알|판단할|확인할)\s*수\s*없|모르겠|어렵습니다|죄송|\b(?:cannot|can't|unable|not sure|don't know|sorry)\b",
    re.IGNORECASE,
)


def parse_answer(text: str, choices: Sequence[str]) -> int | None:
    """Parse the choice that a Korean or English reply names.

    Args:
        text: the whole reply of a model.
        choices: 2 to 26 texts, in the order of their letters.

    Returns:
        Its index; None: the reply names no choice or several.
    """
    reply = _plain_letters(_extract_reply(text)).strip()
    if not re.fullmatch("[A-Za-z]?", reply):  # a single letter is a label first
        for same in (
            [i for i, choice in enumerate(choices) if choice.strip() == text.strip()],
            [i for i, choice in enumerate(choices) if _content_key(choice) == _content_key(reply) != ""],
        ):
            if len(same) == 1:
                return same[0]
    plain = re.sub(r"(?<=\d),(?=\d{3})", "", _without_markup(reply))
    marked = _assertions(_Marker(choices).mark(plain))
    for evidence in (_stated(marked)[-1:], _isolated(marked), _mentioned(marked)):
        named = {_choice_of(mark) for mark in evidence}
        if named:
            return named.pop() if len(named) == 1 and NO_CHOICE not in named else None
    return None


def _stated(marked: str) -> list[str]:
    """Return the marks stated to be the answer, in the order of the text."""
    stated = [(m.start(), mark) for m in SAID_AFTER.finditer(marked) for mark in m.groups() if mark]
    for match in SAID_BEFORE.finditer(marked):
        if direct := DIRECT.match(marked, match.end()):
            stated.append((direct.start(1), direct[1]))
        elif match["cue"]:  # "the answer is the one in front, the glass bottle"
            clause = REASON.split(marked[match.end() : match.end() + 200], maxsplit=1)[0]
            if marks := re.findall(FIRM_MARK, clause):
                one = len({_choice_of(mark) for mark in marks}) == 1
                stated.append((match.end(), marks[0] if one else chr(LABEL + NO_CHOICE)))
    return [mark for _, mark in sorted(stated)]


def _isolated(marked: str) -> list[str]:
    """Return the marks that form a sentence, start the reply or end it after an arrow."""
    sentences = [m for s in re.split(r"[\n.!?;]+", marked) if (m := ALONE.fullmatch(s.strip()))]
    edges = [m for m in (LEADING.match(marked), POINTED.search(marked)) if m]
    return [mark for m in (*sentences, *edges) for mark in re.findall(MARK, m[1])]


def _mentioned(marked: str) -> list[str]:
    """Return all marks that certainly mean a choice, unless the reply is a refusal."""
    return [] if REFUSAL.search(marked) else re.findall(FIRM_MARK, marked)
