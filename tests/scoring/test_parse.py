import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mcvqa.data.answers import LETTERS
from mcvqa.scoring.parse import parse_answer

THINGS = ("플라스틱 컵", "유리병 2개", "종이 상자", "캔 A형")
ENGLISH = ("a red cup", "a glass bottle", "a cardboard box", "a tin can")
COUNTS = ("2", "3", "4", "1")
AMOUNTS = ("3개", "2개", "5개", "4개")
COLOURS = ("빨간색", "파란색", "노란색", "초록색")
NESTED = ("컵", "플라스틱 컵", "빨간 플라스틱 컵", "접시")
LETTERED = ("C", "A", "D", "B")
IN_ORDER = ("A", "B", "C", "D")
TYPES = ("A형", "B형", "O형", "AB형")
BLIND = ("예", "아니요")
TWENTY_SIX = tuple(f"item {letter * 2}" for letter in LETTERS)

# The cases everybody was given: text, choices, expected letter or "-"
GIVEN = [
    ("b", THINGS, "B"),
    ("(c)", THINGS, "C"),
    ("Ｂ", THINGS, "B"),
    ("ⓒ", THINGS, "C"),
    ("③", THINGS, "C"),
    ("2번", THINGS, "B"),
    ("정답은 b입니다.", THINGS, "B"),
    ("정답은A", THINGS, "A"),
    ("답은 c번이에요", THINGS, "C"),
    ("보기 중 c 가 맞습니다", THINGS, "C"),
    ("a가 아니라 c가 정답입니다", THINGS, "C"),
    ("a와 b는 틀렸고 정답은 d", THINGS, "D"),
    ("정답은 '캔 A형'입니다", THINGS, "D"),
    (unicodedata.normalize("NFD", "유리병 2개"), THINGS, "B"),
    ("사진에는 유리병 2개가 보입니다.", THINGS, "B"),
    ("플라스틱 컵", ("컵", "플라스틱 컵", "x", "y"), "B"),
    ("2", COUNTS, "A"),
    ('{"answer": "d"}', THINGS, "D"),
    ("\\boxed{C}", THINGS, "C"),
    ("C\n설명: A는 색이 다르고 B는 없습니다", THINGS, "C"),
    ("A cat sits next to B. Answer: C", THINGS, "C"),
    ("The answer is a glass bottle, so b", THINGS, "B"),
    ("I think it's B... wait, actually C", THINGS, "C"),
    ("Answer: B or C", THINGS, "-"),
    ("Based on the image, a person holds a cup.", THINGS, "-"),
    ("정답을 알 수 없습니다", THINGS, "-"),
    ("b\nassistant\na", THINGS, "B"),
    ("<think>A일까? B로 보이는데", THINGS, "-"),
]

OURS = [
    # a label and little else
    ("B.", THINGS, "B"),
    (" b)\n", THINGS, "B"),
    ("**B**", THINGS, "B"),
    ("**Answer:** B", THINGS, "B"),
    ("`d`", THINGS, "D"),
    ("'c'", THINGS, "C"),
    ("[D]", THINGS, "D"),
    ("Option C", THINGS, "C"),
    ("option (c).", THINGS, "C"),
    ("답: 2", THINGS, "B"),
    ("답) ②", THINGS, "B"),
    ("❹", THINGS, "D"),
    ("2️⃣", THINGS, "B"),
    ("🅑", THINGS, "B"),
    ("（ｄ）", THINGS, "D"),
    ("정답: 나", THINGS, "B"),
    ("(다)", THINGS, "C"),
    ("㉰", THINGS, "C"),
    ("정답은 라입니다.", THINGS, "D"),
    ("ㄴ", THINGS, "B"),
    ("두 번째 보기입니다", THINGS, "B"),
    ("정답은 세 번째입니다.", THINGS, "C"),
    ("the second option", THINGS, "B"),
    ("The correct answer is the 3rd option.", THINGS, "C"),
    ("b b b b", THINGS, "B"),
    ("b\nb\nb", THINGS, "B"),
    ("a b c d", THINGS, "-"),
    ("", THINGS, "-"),
    ("  \n", THINGS, "-"),
    ("b요", THINGS, "B"),
    ("b입니다", THINGS, "B"),
    ("b인 것 같아요", THINGS, "B"),
    ("B, because it is transparent.", THINGS, "B"),
    ("A because the cup is plastic", THINGS, "A"),
    # label and content
    ("b. 유리병 2개", THINGS, "B"),
    ("(d) 캔 A형", THINGS, "D"),
    ("C: 종이 상자", THINGS, "C"),
    ("③ 종이 상자", THINGS, "C"),
    ("b) 종이 상자", THINGS, "-"),
    ("정답은 b. 종이 상자", THINGS, "-"),
    ("B\n유리병 2개", THINGS, "B"),
    ("The answer is (B) a glass bottle.", ENGLISH, "B"),
    # content
    ("유리병2개", THINGS, "B"),
    ("플라스틱 컵입니다.", THINGS, "A"),
    ("종이 상자가 놓여 있어요", THINGS, "C"),
    ("A glass bottle.", ENGLISH, "B"),
    ("It looks like a tin can to me", ENGLISH, "D"),
    ("The answer is a glass bottle", ENGLISH, "B"),
    ("cardboard box", ENGLISH, "C"),
    ("A red cup stands beside a glass bottle.", ENGLISH, "-"),
    ("플라스틱 컵 옆에 종이 상자가 있습니다", THINGS, "-"),
    ("빨간 플라스틱 컵이요", NESTED, "C"),
    ("플라스틱 컵", NESTED, "B"),
    ("정답은 컵입니다", NESTED, "A"),
    ("컵라면이 보입니다", NESTED, "-"),
    ("category", ("cat", "dog"), "-"),
    ("It is tired.", ("red", "blue"), "-"),
    ("파란색으로 보입니다", COLOURS, "B"),
    ("정답은 사진 가운데에 있는 노란색입니다", COLOURS, "C"),
    ("같은 것", ("같은 것", "같은 것", "다른 것"), "-"),
    ("다른 것", ("같은 것", "같은 것", "다른 것"), "C"),
    ("예, 있습니다.", BLIND, "A"),
    ("아니요", BLIND, "B"),
    ("No, there is no dog.", ("Yes", "No"), "B"),
    ("Yes", ("No", "Yes"), "B"),
    ("C++", ("C", "C++", "C#", "Java"), "B"),
    ("C#", ("C", "C++", "C#", "Java"), "C"),
    # numbers: content first, then the place in the list
    ("4", COUNTS, "C"),
    ("정답은 2", COUNTS, "A"),
    ("답: 3", COUNTS, "B"),
    ("2번", COUNTS, "B"),
    ("option 2", COUNTS, "B"),
    ("There are 3 people in the picture.", COUNTS, "B"),
    ("사람이 3명 보입니다", COUNTS, "B"),
    ("2", AMOUNTS, "B"),
    ("3", AMOUNTS, "A"),
    ("모두 5개입니다", AMOUNTS, "C"),
    ("1", AMOUNTS, "-"),
    ("1번", AMOUNTS, "A"),
    ("3", THINGS, "C"),
    ("7", THINGS, "-"),
    ("7번", THINGS, "-"),
    ("10", ("1", "10", "100", "0"), "B"),
    ("1,000원", ("1000원", "100원"), "A"),
    ("1.5", ("1", "1.5", "5", "15"), "B"),
    ("There are 2 people.", THINGS, "-"),
    ("The answer is 3 dogs", THINGS, "-"),
    ("12:30", ("12:30", "12:03", "3:12"), "A"),
    # choices that are letters
    ("B", IN_ORDER, "B"),
    ("정답은 c", IN_ORDER, "C"),
    ("B", LETTERED, "-"),
    ("(b)", LETTERED, "B"),
    ("b번", LETTERED, "B"),
    ("option B", LETTERED, "B"),
    ("A cat.", LETTERED, "-"),
    ("AB형입니다", TYPES, "D"),
    ("A형", TYPES, "A"),
    # structured
    ('```json\n{"answer": "B", "reason": "A is red"}\n```', THINGS, "B"),
    ("{'reason': 'the cup (a) is red', 'answer': 'c'}", THINGS, "C"),
    ('{"answer": 2}', THINGS, "B"),
    ('{"answer": null}', THINGS, "-"),
    ('{"final_answer": "유리병 2개"}', THINGS, "B"),
    ("$\\boxed{\\text{(D)}}$", THINGS, "D"),
    ("The answer is $\\mathbf{B}$.", THINGS, "B"),
    ("<answer>c</answer>", THINGS, "C"),
    ("<think>정답은 a</think>\nb", THINGS, "B"),
    ("A or B? probably A</think> C", THINGS, "C"),
    ("#### B", THINGS, "B"),
    ("답 → c", THINGS, "C"),
    ("투명하고 두 개가 놓여 있음 => b", THINGS, "B"),
    # sentences that say the answer
    ("정답은 (b)번입니다.", THINGS, "B"),
    ("저는 c를 선택하겠습니다.", THINGS, "C"),
    ("따라서 답은 d이다.", THINGS, "D"),
    ("따라서 d", THINGS, "D"),
    ("제 생각에는 b입니다", THINGS, "B"),
    ("C is correct.", THINGS, "C"),
    ("The correct option is D, the can.", THINGS, "D"),
    ("I would choose B.", THINGS, "B"),
    ("My final answer: **(A)**", THINGS, "A"),
    ("The answer is A.", THINGS, "A"),
    ("The best answer is definitely b!", THINGS, "B"),
    ("아마도 c일 것 같습니다", THINGS, "C"),
    ("보기 d가 사진과 일치하므로 정답입니다", THINGS, "D"),
    # denials
    ("It is not A but B.", THINGS, "B"),
    ("A is wrong. B is correct.", THINGS, "B"),
    ("정답은 b가 아니라 d입니다", THINGS, "D"),
    ("정답은 b이고 a는 아닙니다", THINGS, "B"),
    ("플라스틱 컵이 아니라 종이 상자입니다", THINGS, "C"),
    ("유리병 2개는 보이지 않습니다", THINGS, "-"),
    ("정답은 a가 아닙니다", THINGS, "-"),
    ("Neither A nor B; the answer is C", THINGS, "C"),
    ("There is no tin can here.", ENGLISH, "-"),
    ("a 대신 c를 고르겠습니다", THINGS, "C"),
    ("Options A and C can be ruled out, so the answer is D.", THINGS, "D"),
    # hedges and refusals
    ("b 또는 c", THINGS, "-"),
    ("정답은 b나 c입니다", THINGS, "-"),
    ("B/C", THINGS, "-"),
    ("정답은 a일 수도 있고 b일 수도 있습니다", THINGS, "-"),
    ("It could be A, or maybe B.", THINGS, "-"),
    ("A와 D 모두 맞습니다", THINGS, "-"),
    ("Either (a) or (d).", THINGS, "-"),
    ("I cannot see the image.", THINGS, "-"),
    ("I'm sorry, but I can't help with that.", THINGS, "-"),
    ("사진이 보이지 않아 판단할 수 없습니다.", THINGS, "-"),
    ("None of the above", THINGS, "-"),
    ("a, b, c, d 중 하나를 고르세요", THINGS, "-"),
    ("정답을 반드시 a, b, c, d 중 하나의 소문자 한 글자로만 출력하세요.", THINGS, "-"),
    ("비타민 C가 들어 있습니다", THINGS, "-"),
    ("A4 용지와 U자형 자석", THINGS, "-"),
    ("I think so.", THINGS, "-"),
    ("!!!!!!!!", THINGS, "-"),
    # beyond the row's choices
    ("e", THINGS, "-"),
    ("정답은 e입니다", THINGS, "-"),
    ("Answer: E. B is a bottle", THINGS, "-"),
    ("c", ("예", "아니요"), "-"),
    ("⑤", THINGS, "-"),
    ("z", TWENTY_SIX, "Z"),
    ("정답은 q입니다", TWENTY_SIX, "Q"),
    ("I", TWENTY_SIX, "I"),
    ("I think it is m", TWENTY_SIX, "M"),
    ("26번", TWENTY_SIX, "Z"),
    # long replies
    (
        "사진을 살펴보겠습니다. a) 플라스틱 컵은 보이지 않습니다. b) 유리병 2개가 탁자 위에 있습니다. "
        "c) 종이 상자는 없습니다. 따라서 정답은 b입니다.",
        THINGS, "B",
    ),
    ("A. 플라스틱 컵\nB. 유리병 2개\nC. 종이 상자\nD. 캔 A형\n정답: C", THINGS, "C"),
    ("A. 플라스틱 컵\nB. 유리병 2개\nC. 종이 상자\nD. 캔 A형", THINGS, "-"),
    (
        "Let's look at each option.\n- Option A: the cup is not in the picture.\n- Option B: there are two bottles.\n"
        "- Option C: no box is visible.\nTherefore, the correct answer is **B**.",
        THINGS, "B",
    ),
    ("First I thought the answer is A. Looking again, the answer is D.", THINGS, "D"),
    ("정답은 a입니다. 아니, 다시 보니 b입니다.", THINGS, "B"),
    ("b\n\n이 사진에서 플라스틱 컵 옆에 종이 상자가 놓여 있습니다.", THINGS, "B"),
    ("The cat is right next to the box. Answer: b", THINGS, "B"),
    # leaks
    ("assistant\nb", THINGS, "B"),
    ("b<|im_end|>\n<|im_start|>user\na", THINGS, "B"),
    ("<|im_start|>assistant\nc<|im_end|>", THINGS, "C"),
    ("system\nAnswer a, b, c or d.\nuser\nWhat is it?\n(a) 컵\nassistant\nd", THINGS, "D"),
    ("bassistant\n\na", THINGS, "B"),
    ("USER: which? ASSISTANT: c", THINGS, "C"),
    ("c\nUser: and now?\nAssistant: a", THINGS, "C"),
    ("b</s>a", THINGS, "B"),
    # more of everything, found by trying
    ("정답은 b이지만 c도 가능합니다", THINGS, "B"),
    ("Looking at the image, I can see a glass bottle on the table.", ENGLISH, "B"),
    ("There is a red cup and a tin can, but the question asks about the box: C", ENGLISH, "C"),
    ("이 문제의 정답은 4번 '캔 A형'입니다.", THINGS, "D"),
    ("정답은 네 번째 보기인 캔 A형입니다", THINGS, "D"),
    ("b라고 생각합니다", THINGS, "B"),
    ("b가 아닌가 싶습니다", THINGS, "-"),
    ("정답은 b. 왜냐하면 a와 c는 사진에 없기 때문입니다.", THINGS, "B"),
    ("플라스틱 컵처럼 보이지만 종이 상자입니다", THINGS, "C"),
    ("사진에는 컵이 없습니다. 유리병 2개가 있습니다.", THINGS, "B"),
    ("A) 플라스틱 컵 - 아님\nB) 유리병 2개 - 맞음\nC) 종이 상자 - 아님\nD) 캔 A형 - 아님", THINGS, "B"),
    ("a: 0.1, b: 0.8, c: 0.05, d: 0.05", THINGS, "-"),
    ("The answer is B. A cat is shown.", THINGS, "B"),
    ("The answer is neither A nor B.", THINGS, "-"),
    ("Between A and B, B is better, so B is correct.", THINGS, "B"),
    ("A or B? I'd say B.", THINGS, "B"),
    ("B rather than C", THINGS, "B"),
    ("B (not A)", THINGS, "B"),
    ("a, b는 아니고 c도 아니므로 d", THINGS, "D"),
    ("b가 정답이며 다른 보기는 틀렸습니다", THINGS, "B"),
    ("b가 정답일까요?", THINGS, "-"),
    ("컵에 B라고 적혀 있습니다", THINGS, "-"),
    ("다 맞다", THINGS, "-"),
    ("다번", THINGS, "C"),
    ("나는 모르겠다", THINGS, "-"),
    ("(2)", COUNTS, "-"),
    ("②", COUNTS, "B"),
    ("없다", ("있다", "없다"), "B"),
    ("오른쪽이 아니라 왼쪽", ("왼쪽", "오른쪽"), "A"),
    ("light red", ("red", "dark red"), "A"),
    ("3 kg", ("3kg", "5kg"), "A"),
    ("-5", ("5", "-5"), "B"),
    ("½", ("1/2", "½", "2"), "B"),
    ("NA", ("None", "NA", "null"), "B"),
    ("...", ("컵", ".."), "-"),
    ("", ("컵", ""), "-"),
    ("⊕ ⊙", TWENTY_SIX, "-"),
]


@pytest.mark.parametrize(("text", "choices", "letter"), GIVEN + OURS)
def test_cases(text, choices, letter):
    found = parse_answer(text, choices)
    assert ("-" if found is None else LETTERS[found].upper()) == letter


@pytest.mark.parametrize("n", [2, 3, 5, 9, 26])
@pytest.mark.parametrize(
    "form", ["{}", "({})", "{}.", "정답은 {}입니다.", "Answer: {}", "The answer is {}.", "\\boxed{{{}}}", "{}번"]
)
def test_every_label_is_read_and_none_beyond_the_choices(n, form):
    choices = TWENTY_SIX[:n]
    for i, letter in enumerate(LETTERS):
        for spelled in (letter, letter.upper()):
            assert parse_answer(form.format(spelled), choices) == (i if i < n else None), (form, spelled)


WORDS = st.sampled_from([
    "a", "b", "C", "(d)", "e", "answer", "is", "not", "or", "so", ",", ".", "\n", "2", "3번", "①", "**", "`", "}",
    "정답은", "답:", "또는", "아니라", "유리병", "컵", "<think>", "</think>", "<answer>", "assistant\n", "\\boxed{", '{"answer":',
])
TEXTS = st.one_of(st.text(), st.lists(WORDS).map(" ".join), st.lists(WORDS).map("".join))
CHOICE = st.one_of(st.sampled_from(["A", "2", "컵", "", "유리 컵", "(a)", "C++", "no", " ", "가"]), st.text())
CHOICES = st.lists(CHOICE, min_size=2, max_size=26)
LONG_CHOICE = st.text("가나다라마바사 abcxyz0123", min_size=2).map(str.strip)


@settings(max_examples=300, deadline=None)
@given(TEXTS, CHOICES)
@example("\ue000\ue080 정답", ["a", "b"])
def test_any_text_gives_a_choice_or_nothing(text, choices):
    found = parse_answer(text, choices)
    assert found is None or (isinstance(found, int) and 0 <= found < len(choices))


@settings(max_examples=100, deadline=None)
@given(st.lists(LONG_CHOICE.filter(lambda text: len(text) > 1), min_size=2, max_size=6, unique=True), st.data())
def test_a_reply_that_repeats_a_choice_names_it(choices, data):
    wanted = data.draw(st.integers(0, len(choices) - 1))
    assert parse_answer(choices[wanted], choices) == wanted


@pytest.mark.parametrize("piece", ["b, ", "a는 아니고 ", "정답은 ", "answer: ", "(", "**a", "<answer>", "not ", "b because\n"])
def test_repetitions_end(piece):
    """Models repeat themselves; nested repetition in an expression would take years here."""
    assert parse_answer(piece * 2_000 + "\n정답은 c입니다.", THINGS) in (2, None)
