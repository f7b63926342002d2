"""Holds the words of the explorer, in Korean and English."""
from mcvqa.insight.tag_words import TAG_WORDS

EXPLORER_LANGUAGES = {"ko": "한국어", "en": "English"}
EXPLORER_WORDS = {
    # the head
    "download": ("fixes.csv 내려받기", "Download fixes.csv"),
    "download_hint": (
        "결정한 라벨을 fixes.csv로 저장합니다. 다음 실행에서 --set fixes=fixes.csv로 반영하세요.",
        "Saves the decided labels as fixes.csv; the next run reads them with --set fixes=fixes.csv.",
    ),
    "language": ("언어", "Language"),
    "keys": ("단축키", "Keyboard shortcuts"),
    "close": ("닫기", "Close"),
    "no_script": (
        "이 페이지는 스크립트를 켜야 볼 수 있습니다. 외부와는 통신하지 않습니다.",
        "This page needs its script, which talks to nobody: allow scripts for this file.",
    ),
    "accuracy": ("OOF 정확도 {accuracy}", "accuracy out of fold {accuracy}"),
    "not_measured": ("정확도를 측정할 수 없습니다: {why}", "The accuracy is not measured: {why}"),
    "only_second": (
        "{run}에만 있는 {count}행은 표시하지 않습니다.", "Rows that only {run} has are not shown: {count}.",
    ),
    "other_labels": (
        "fixes로 라벨이 달라진 {count}행도 첫 번째 실행의 라벨로 채점합니다.",
        "The labels of {count} rows differ by fixes; both runs are judged by those of the first.",
    ),
    # filters
    "filters": ("필터", "Filters"),
    "clear": ("모두 지우기", "Clear all"),
    "split": ("데이터", "Data"),
    "train": ("학습 데이터", "labelled"), "test": ("테스트 데이터", "test"),
    "outcome": ("정답 여부", "Answer"),
    "right": ("정답", "right"), "wrong": ("오답", "wrong"), "unlabelled": ("라벨 없음", "no label"),
    "unscored": ("채점 안 됨", "not scored"),
    "compare": ("두 실행 비교", "Between the runs"),
    "fixed": ("오답 → 정답", "fixed"), "broken": ("정답 → 오답", "broken"),
    "both_wrong": ("둘 다 오답", "both wrong"), "both_right": ("둘 다 정답", "both right"),
    "same": ("같은 답", "same answer"), "differs": ("다른 답", "other answer"),
    "one_run": ("한 실행에만 있음", "in one run only"),
    "tag": ("진단", "Tag"),
    "decision": ("라벨 결정", "Decision"),
    "undecided": ("미정", "undecided"), "keep": ("유지", "keep"), "fix": ("수정", "fix"), "drop": ("제외", "drop"),
    "kind": ("질문 유형", "Kind of question"),
    "counting": ("개수", "counting"), "color": ("색", "color"), "ocr": ("글자", "text (OCR)"),
    "yesno": ("예/아니요", "yes or no"),
    "location": ("위치", "location"), "attribute": ("속성", "attribute"), "negation": ("부정문", "negation"),
    "food": ("음식", "food"), "animals": ("동물", "animals"), "general": ("기타", "general"),
    "source": ("파일", "Source"), "fold": ("폴드", "Fold"), "no_fold": ("없음", "none"),
    "confidence": ("모델의 확신", "Confidence"),
    "least": ("최소 확신", "Lowest confidence"), "most": ("최대 확신", "Highest confidence"),
    # the list
    "search": ("질문, 보기, id 검색", "Search questions, choices, ids"),
    "sort": ("정렬", "Sort by"),
    "by_label_wrong": ("라벨 오류 확률 높은 순", "label probably wrong"),
    "by_sure_error": ("확신한 오답부터", "most confident errors"),
    "by_least_margin": ("망설인 순", "least certain"),
    "by_most_margin": ("확신한 순", "most certain"),
    "by_truth": ("정답 확률 낮은 순", "lowest probability of the label"),
    "by_change": ("두 실행의 차이가 큰 순", "largest change between the runs"),
    "by_id": ("id 순", "id"), "by_file": ("파일 순서", "order of the file"),
    "rows": ("행", "Rows"),
    "count": ("{shown} / {all}행", "{shown} of {all} rows"),
    "count_right": ("정답 {right} / {labelled} ({share})", "{right} of {labelled} right ({share})"),
    "nothing": ("조건에 맞는 행이 없습니다.", "No row fits these filters."),
    "label": ("라벨", "label"), "said": ("모델의 답", "said"),
    # one row
    "row": ("선택한 행", "The selected row"),
    "back": ("목록으로", "Back to the list"), "previous": ("이전 행", "Previous row"), "next": ("다음 행", "Next row"),
    "no_photograph": ("사진 없음", "no photograph"), "photograph_of": ("{id}의 사진", "Photograph of {id}"),
    "label_of_file": ("파일의 라벨", "label in the file"),
    "is_right": ("정답으로 결정: {choice}", "Decide that {choice} is right"),
    "is_label_right": ("이 라벨이 맞나요?", "Is the label right?"),
    "wrong_by": ("틀렸을 확률 {share}", "{share} probable that it is wrong"),
    "keep_it": ("유지", "Keep"), "fix_it": ("수정 → {choice}", "Fix to {choice}"), "drop_it": ("행 제외", "Drop row"),
    "choose_right": ("맞는 보기를 누르거나 숫자 키로 고르세요.", "Or choose the right answer: click it, or press its number."),
    "margin": ("2위와의 차이", "margin"), "entropy": ("엔트로피", "entropy"), "rank": ("라벨의 순위", "rank of the label"),
    "order_agreement": ("같은 답을 고른 보기 순서", "option orders that agree"),
    "scale_agreement": ("같은 답을 고른 이미지 배율", "image scales that agree"),
    "member_agreement": ("같은 답을 고른 앙상블 멤버", "ensemble members that agree"),
    "fold_agreement": ("같은 답을 고른 폴드", "folds that agree"),
    "prior": ("글만 보았을 때", "by the texts alone"), "votes": ("투표", "votes"), "file": ("사진 파일", "photograph"),
    "look_alikes": ("거의 같은 사진의 다른 질문 ({count})", "Rows with a look-alike photograph ({count})"),
    "same_question": ("다른 사진의 같은 질문 ({count})", "The same question elsewhere ({count})"),
    # decisions
    "fixed_to": ("수정 → {choice}", "fix to {choice}"), "kept": ("라벨 유지", "keep"), "dropped": ("제외", "drop"),
    "withdrawn": ("{id}: 결정 취소", "{id}: decision withdrawn"),
    "undo": ("되돌리기", "Undo"),
    "no_proposal": (
        "제안된 답이 없습니다. 숫자 키로 정답을 고르세요.", "Nothing is proposed here: press the number of the right answer.",
    ),
    "not_labelled": ("라벨이 있는 행만 결정할 수 있습니다.", "Only labelled rows can be decided on."),
    # keys
    "key_move": ("다음 행, 이전 행", "next row, previous row"),
    "key_keep": ("라벨 유지", "keep the label"), "key_fix": ("제안대로 수정", "fix as proposed"),
    "key_drop": ("행 제외", "drop the row"),
    "key_number": ("n번째 보기가 정답", "the n-th choice is right"), "key_undo": ("마지막 결정 취소", "undo the last decision"),
    "key_search": ("검색", "search"), "key_help": ("이 도움말", "this help"),
    "key_leave": ("닫기, 검색 지우기", "close, clear the search"),
}


def explorer_words() -> dict[str, dict[str, str]]:
    """Return the words: language -> name -> text."""
    tags = {tag or "no_tag": (korean[0], english[0]) for tag, (korean, english) in TAG_WORDS.items()}
    return {
        language: {name: texts[number] for name, texts in {**EXPLORER_WORDS, **tags}.items()}
        for number, language in enumerate(EXPLORER_LANGUAGES)
    }
