"""Holds the words of the page, in Korean and English."""
from mcvqa.answer.typed import AskError

PAGE_LANGUAGES = {"ko": "한국어", "en": "English"}
PAGE_WORDS = {
    "heading": ("{run}에 질문하기", "Ask {run}"),
    "lead": (
        "사진 한 장을 올리고 질문과 보기를 입력하면, 학습한 모델이 보기마다 확률을 알려 줍니다.",
        "Give it a photograph, a question and choices: the trained model says how probable each choice is.",
    ),
    "facts": ("모델 {model} · 폴드 {folds}", "model {model} · folds {folds}"),
    "private": (
        "올린 사진은 임시 폴더에만 저장되고, 서버를 끄면 지워집니다.",
        "Photographs stay in a temporary folder, which is removed when the server stops.",
    ),
    # the form
    "photograph": ("사진", "Photograph"),
    "drop": (
        "사진을 끌어다 놓거나 붙여 넣으세요\n클릭하면 파일을 고를 수 있습니다",
        "Drop or paste a photograph\nor click to choose a file",
    ),
    "question": ("질문", "Question"),
    "question_hint": ("자동차는 무슨 색입니까?", "What color is the car?"),
    "choices": ("보기 (한 줄에 하나씩)", "Choices (one per line)"),
    "choices_hint": ("빨간색\n초록색\n파란색", "red\ngreen\nblue"),
    "ask": ("질문하기", "Ask"),
    "empty": ("답이 여기에 표시됩니다.", "The answer appears here."),
    # the answer
    "answer": ("답", "Answer"),
    "orders": ("보기 순서를 바꾸면", "In other option orders"),
    "order": ("순서", "Order"),
    "agree_all": ("{count}가지 순서 모두 {letter}를 골랐습니다.", "All {count} orders choose {letter}."),
    "agree": ("{count}가지 순서 중 {agree}가지가 {letter}를 골랐습니다.", "{agree} of {count} orders choose {letter}."),
    "averaged": ("답은 이 순서들의 평균입니다.", "The answer is the average over these orders."),
    "first": (
        "답은 입력한 순서(첫 줄)로 물은 결과이고, 나머지는 비교용입니다.",
        "The answer is that of the order you typed (first line); the others are for comparison.",
    ),
    "one_order": ("이 질문은 한 가지 순서로만 물었습니다.", "This question was asked in one order only."),
    # the errors of the run
    "mistakes": ("이 모델이 틀린 문제", "Errors of this run"),
    "mistakes_lead": (
        "검증에서 틀린 문제를 확신이 높았던 것부터 보여 줍니다. 누르면 위 입력란에 채워집니다.",
        "Validation questions that it got wrong, the most confident first. Click one to fill it in above.",
    ),
    "no_mistakes": ("틀린 문제를 보여 줄 수 없습니다: {why}", "No errors to show: {why}"),
    "none_wrong": ("검증에서 틀린 문제가 없습니다.", "It got no validation question wrong."),
    "mistake": (
        "검증에서는 {said_letter}. {said} ({share})라고 답했지만, 정답은 {right_letter}. {right}입니다.",
        "In validation it answered {said_letter}. {said} ({share}); the right answer is {right_letter}. {right}.",
    ),
    "learned": (
        "나머지 폴드는 이 문제로 학습했으므로 지금은 맞힐 수도 있습니다.",
        "The other folds were trained on this question, so now the answer may be right.",
    ),
    # what is wrong
    "no_photograph": ("사진을 올려 주세요.", "Add a photograph."),
    "unreadable": (
        "사진을 읽을 수 없습니다({reason}). JPG나 PNG 파일을 올려 주세요.",
        "The photograph cannot be read: {reason}. Add a JPG or PNG file.",
    ),
    "no_question": ("질문을 입력해 주세요.", "Type a question."),
    "long_question": (
        "질문이 {count:,}자입니다. {most:,}자 이하로 줄여 주세요.",
        "The question has {count:,} characters: use at most {most:,}.",
    ),
    "choice_count": (
        "보기가 {count}개입니다. 2~{most}개를 한 줄에 하나씩 입력해 주세요.",
        "Type 2 to {most} choices, one per line ({count} given).",
    ),
    "long_choices": (
        "보기가 모두 합쳐 {count:,}자입니다. {most:,}자 이하로 줄여 주세요.",
        "The choices have {count:,} characters together: use at most {most:,}.",
    ),
    "failed": ("답하지 못했습니다: {reason}", "It could not answer: {reason}"),
}


def words_in(language: str) -> dict[str, str]:
    """Return the words of one of PAGE_LANGUAGES."""
    number = list(PAGE_LANGUAGES).index(language)
    return {name: texts[number] for name, texts in PAGE_WORDS.items()}


def spoken(error: AskError, language: str) -> str:
    """Say what is wrong, in a language."""
    return words_in(language)[error.kind].format(**error.details)
