"""Classifies questions by a table of rules: counting, color, ocr, negation, food and more.

To adapt it to your own data, add a line to RULES: the first matching rule wins; without one, the kind is `general`.
"""
import re
from collections.abc import Iterator
from typing import NamedTuple

from mcvqa.data.questions import Question

# Folds, hints and generated pictures depend on these: adding one would change folds.
BASIC_KINDS = ("counting", "color", "ocr", "yesno", "location", "attribute", "general")
KINDS = ("negation", *BASIC_KINDS[:-1], "food", "animals", "general")


# %% the rules
class Rule(NamedTuple):
    """Describes when a kind applies, by regular expressions.

    Expressions are in lower case; an empty one matches everything.

    Attributes:
        question: is searched in the question.
        choices: must match every choice as a whole.
    """

    kind: str
    question: str = ""
    choices: str = ""


NUMBER = (
    r"(약 ?)?([\d,.]+|한|두|세|네|하나|둘|셋|넷|다섯|여섯|일곱|여덟|아홉|열|없음|"
    r"zero|one|two|three|four|five|six|seven|eight|nine|ten|none)"
)
COUNTER = (
    r"개|명|사람|마리|대|그루|송이|권|장|켤레|쌍|잔|병|채|층|줄|조각|"
    r"가지|곳|번(?!호|지|째)|회|척|자루|종류|차[선로]"
)
COLOR = (
    r"((진한?|연한?|짙은|옅은|밝은|어두운|dark|light) ?)?"
    r"(빨강|빨간|붉은|주황|노랑|노란|초록|녹|연두|파랑|파란|푸른|하늘|남|보라|자주|분홍|핑크|갈|검정|검은|흰|하얀|하양|회|은|금|베이지|"
    r"red|orange|yellow|green|blue|teal|purple|violet|pink|brown|black|white|gr[ae]y|silver|gold|beige|cyan|magenta)[색빛]?"
)
YES_OR_NO = r"(yes|no|true|false|예|네|아니요|아니오|아뇨|참|거짓|맞다|아니다|틀리다|그렇다|그렇지 않다|있다|없다)[.!]?"
NAMED_BY_A_SIGN = r"(가게|매장|상점|카페|식당|음식점|빵집|호텔|병원|도로|역|정류장|프로그램|책|영화|앱|제품|상품)"
# which choice is NOT in the picture: 볼 수 없는 것은, 포함되지 않은 음식은, 주재료가 아닌 것은
NEGATED = r"(아닌|없는|않[은는]|못하는|틀린|잘못된|거리가 먼) (?!다른 )(\S+( \S+)? ?(무엇|무슨|어느|어떤|누구|뭐|뭘|몇)|\S+$)"
NEGATED_ENGLISH = r"\bexcept\b|\b(which|what|who)\b.*(\bnot\b(?! to\b)|n['’]t\b|\bcannot\b|\bincorrect\b)"
FOOD_WORDS = (
    r"음식|요리|식사|메뉴|반찬|간식|안주|도시락|디저트|후식|음료|과일|채소|야채|(?<!물)고기|해산물|식재료|주 ?재료|토핑|소스|"
    r"국물|(?<![가-힣])(빵|밥|국|면|술|떡|차)[은이]|피자|케이크|치킨|햄버거|커피|라떼|김밥|라면|파스타|샐러드|국수|찌개|아이스크림|쿠키|도넛|"
    r"\b(foods?|dish(es)?|meals?|drinks?|beverages?|desserts?|fruits?|vegetables?|meat|snacks?|ingredients?|toppings?|"
    r"cuisine|cakes?|pizza|bread|eat(ing|en)?)\b"
)
ANIMAL_WORDS = (
    r"동물|강아지|고양이|(?<![가-힣])(새|개)(?=[는가의를들 ])|물고기|곤충|나비|품종|견종|토끼|오리|"
    r"\b(animals?|dogs?|cats?|birds?|pupp(y|ies)|kittens?|horses?|cows?|fish|insects?|breeds?)\b"
)

RULES = (
    Rule("yesno", choices=YES_OR_NO),
    Rule("negation", rf"{NEGATED}|{NEGATED_ENGLISH}"),
    # ocr before counting: "몇 시", "얼마" and "번호" ask for a number that is read, not counted
    Rule("ocr", r"적[힌혀]|[쓰씌]여|쓰인|써[ 져]?있|새겨진|문구|글자|글씨|글귀|단어|숫자|텍스트|제목|영수증"),
    Rule("ocr", r"몇 ?(시|분(?!의)|월|년|일|도|호|세|점|번지)|얼마|가격|요금|금액"),
    Rule("ocr", r"번호|제한 ?속도|날짜|시각은|용량|전화"),
    Rule("ocr", rf"브랜드|상표|상호|로고|회사|제조사|간판|현수막|{NAMED_BY_A_SIGN}의? ?이름"),
    Rule("ocr", r"\bwritten\b|\bsays?\b|\btext\b|\bwords?\b|\bletters?\b|\bbrand\b|\blogo\b|\btitle\b|\bprice\b"),
    Rule("ocr", r"what (time|number|year|date)|how much (is|does|do)"),
    Rule("counting", rf"몇 ?({COUNTER}|분의)|몇인|[개갯]수|how many|number of|\bcount\b"),
    Rule("counting", choices=rf"{NUMBER} ?({COUNTER})?( ?이[상하])?"),
    Rule("color", r"(무슨|어떤|어느) ?색|색(깔|상)?(은|의? 조합은) ?(무엇|무슨|어떤|어떻|뭐|뭔)|colou?r"),
    Rule("color", choices=rf"{COLOR}([과와, ]+(and )?{COLOR})*"),
    Rule("attribute", r"용도|목적|특징|날씨|계절|시간대|분위기"),
    Rule("location", r"어디|(어느|무슨|어떤) ?(곳|쪽|방향|지역|도시|장소|공간)|(장소|위치|지역|도시|곳|공간)[은는]"),
    Rule("location", r"\bwhere\b|(which|what) (place|location|room|city|side|position)|몇 ?번째"),
    Rule("attribute", r"모양|형태|무늬|재질|소재|크기|상태|표정|기분|감정|느낌|스타일|양식|자세|맛[은이]"),
    Rule("attribute", r"무엇을 (하고|하는|먹|보고|바라)|(행동|활동|동작|모습)[은을]|무엇으로 (만들|이루|되어|장식)"),
    Rule("attribute", r"\b(shape|size|material|pattern|texture|weather|season|mood|expression|style|condition)s?\b"),
    Rule("attribute", r"\b(wearing|doing|made of|feature)\b"),
    Rule("food", FOOD_WORDS),
    Rule("animals", rf"^(?!.*(인형|조각상|동상|캐릭터)).*({ANIMAL_WORDS})"),
)

# After negation and before the rest of RULES, but not for folds and hints, which stay as they were.
LATER_RULES = (Rule("ocr", r"문자|읽으면|^read\b|\bread aloud\b"),)
ALL_RULES = (*RULES[:2], *LATER_RULES, *RULES[2:])


# %% which rule fits
def question_kind(question: Question) -> str:
    """Return one of KINDS, by the first rule that matches the question and its choices."""
    return next(_fitting_kinds(question, ALL_RULES), "general")


def basic_kind(question: Question) -> str:
    """Return one of BASIC_KINDS: as `question_kind`, without the rules of the other kinds."""
    return next((kind for kind in _fitting_kinds(question, RULES) if kind in BASIC_KINDS), "general")


def every_kind(question: Question) -> set[str]:
    """Return all of KINDS that have a matching rule: "Is STOP written there?" is both yesno and ocr. 'general' if none does."""
    return set(_fitting_kinds(question, ALL_RULES)) or {"general"}


def _fitting_kinds(question: Question, rules: tuple[Rule, ...]) -> Iterator[str]:
    text = question.text.lower()
    choices = [choice.strip().lower() for choice in question.choices]
    for rule in rules:
        if re.search(rule.question, text) and (
            not rule.choices or all(re.fullmatch(rule.choices, choice) for choice in choices)
        ):
            yield rule.kind
