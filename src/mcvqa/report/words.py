"""Holds the words of the report, in Korean and English."""
from collections.abc import Callable
from functools import partial

REPORT_LANGUAGES = {"ko": "한국어", "en": "English"}
REPORT_WORDS = {
    "language": ("ko", "en"), "duration": ("{korean}", "{english}"), "to": (" ~ ", " to "),
    # sections
    "report": ("실행 보고서", "report of a run"),
    "result": ("결과", "Result"), "errors": ("틀린 문제", "Errors"), "advice": ("다음에 할 일", "What to try next"),
    "accuracies": ("정확도", "Accuracy"),
    "gains": ("기법별 향상 폭", "Gain of each technique"),
    "ensemble": ("앙상블", "Ensemble"),
    "calibration": ("확률 보정", "Calibration"), "letters": ("답 글자", "Letters"), "training": ("학습", "Training"),
    "data": ("데이터", "Data"), "submission": ("제출 파일", "Submission"), "settings": ("실행 설정", "Settings of this run"),
    "remarks": ("수치 읽는 법", "How to read these figures"), "origin": ("실행 환경", "Environment"),
    # result
    "figure": ("항목", "figure"), "value": ("값", "value"), "error": ("오차", "error"), "why": ("이유", "why"),
    "out_of_fold": ("OOF 정확도", "out-of-fold accuracy"), "not_measured": ("측정 못 함", "not measured"),
    "chosen": (
        "에폭 {epochs}개 중 최고를 고른 효과 {points} 포함", "of which choosing the best of {epochs} epochs adds {points}",
    ),
    "without_image": ("사진 없이", "without the image"),
    "image_adds": ("사진의 효과 {points}점", "the image adds {points} points"),
    "every_order": ("모든 보기 순서에서 정답", "right in every order"),
    "expected": ("테스트 {n:,}행 예상 정확도", "expected on {rows}"), "interval": ("95% 구간", "95% interval"),
    "handed_in": (
        "제출할 파일은 실행 {run}의 답({source})입니다. {accuracy}. 아래 수치는 이 실행의 것입니다.",
        "The submission contains the answers of the run {run} ({source}): {accuracy}. The figures below are those of this run.",
    ),
    "accuracy_is": ("정확도 {accuracy}", "accuracy {accuracy}"), "not_known": ("정확도 알 수 없음", "accuracy unknown"),
    "about_points": ("약 {points:.1f}점", "about {points:.1f} points"), "few_points": ("0.1점 미만", "less than 0.1 points"),
    # errors
    "none_wrong": ("틀린 문제가 없습니다.", "No row was answered wrongly."),
    "most_confident": (
        "오답 {total:,}개 중 {n}개를 확신이 높았던 것부터 보여 줍니다.", "{n} of {wrong}, the most confident first.",
    ),
    "explorer": ("필터와 검색으로 모든 행 보기", "All rows, with filters and search"),
    "row": ("행", "row"), "question": ("질문", "question"), "choices": ("보기", "choices"), "diagnosis": ("진단", "diagnosis"),
    "predicted": ("모델의 답", "predicted"), "true": ("정답", "true"),
    "photograph_of": ("{id}의 사진", "Photograph of {id}"), "no_photograph": ("사진 없음: {why}", "No photograph: {why}"),
    "more_choices": ("그 밖의 보기 {n}개", "{n} more choices"),
    "wrong_answers": ("오답 수", "wrong answers"), "what_to_do": ("할 일", "what to do"),
    # accuracy
    "rows": ("행", "rows"), "accuracy_in_percent": ("정확도 (%)", "accuracy, %"),
    "guessing": ("찍을 때", "guessing"), "n": ("행 수", "n"),
    "all": ("전체", "all"), "fold": ("폴드 {name}", "fold {name}"), "source": ("{name} 파일", "from {name}"),
    "n_choices": ("보기 {name}개", "{name} choices"), "own_metric": ("직접 정의한 지표", "own metric"),
    "counting": ("개수", "counting"), "color": ("색", "color"), "ocr": ("글자", "ocr"), "yesno": ("예/아니요", "yesno"),
    "location": ("위치", "location"), "attribute": ("속성", "attribute"), "negation": ("부정문", "negation"),
    "food": ("음식", "food"), "animals": ("동물", "animals"), "general": ("기타", "general"),
    "groups_figure": (
        "그룹별 정확도와 95% 구간, 글만 볼 때, 찍을 때", "Accuracy by group with 95% intervals, the text-only prior and guessing",
    ),
    "confusion_figure": (
        "정답 글자와 모델이 답한 글자별 행 수(보기의 원래 순서 기준)",
        "Rows by true and predicted letter, in the original order of the choices",
    ),
    # techniques
    "tested": (
        "같은 OOF 행에서 각 기법을 썼을 때와 쓰지 않았을 때를 비교했습니다(이미지 그룹별 부호 뒤집기 정확 검정).",
        "Each technique against the run without it, on the same out-of-fold rows (exact sign-flip test by image group).",
    ),
    "gains_figure": ("기법별 향상 폭과 95% 구간", "Gain of each technique with its 95% interval"),
    "technique": ("기법", "technique"),
    "gain_in_points": ("향상 폭 (점)", "gain, points"),
    "p_value": ("p값", "p-value"),
    "verdict": ("판정", "verdict"),
    "helps": ("도움 됨", "helps"), "hurts": ("나빠짐", "hurts"), "not significant": ("유의하지 않음", "not significant"),
    "method": ("방법", "method"), "used": ("{name} (사용함)", "{name} (used)"),
    # calibration and letters
    "answers": ("답", "answers"),
    "probabilities": ("확률", "probabilities"),
    "as_scored": ("보정 전", "as scored"),
    "temperature": ("온도 {t:.2f}", "temperature {t:.2f}"),
    "ece": ("ECE(기대 보정 오차)", "expected calibration error"), "brier": ("Brier 점수", "Brier score"),
    "nll": ("음의 로그 우도", "negative log-likelihood"),
    "reliability_figure": ("확신과 정확도, 온도 보정 전후", "Confidence against accuracy, before and after the temperature"),
    "letter_distance": (
        "답한 글자와 정답 글자의 분포 차이(총변동 거리)는 {distance:.3f}입니다({p}). {verdict}",
        "Predicted and true letters differ by a total variation distance of {distance:.3f} ({p}). {verdict}",
    ),
    "beyond_chance": ("우연으로 보기 어렵습니다.", "Chance is an unlikely explanation."),
    "by_chance": ("우연으로 설명되는 차이입니다.", "Chance alone explains this."),
    "letters_figure": (
        "글자별 비율: 모델의 답과 정답(보여 준 순서 기준)",
        "Share of each letter among predictions and answers, as shown to the model",
    ),
    "letter": ("글자", "letter"), "predicted_share": ("모델의 답 (%)", "predicted, %"), "true_share": ("정답 (%)", "true, %"),
    "difference": ("차이", "difference"),
    # training and data
    "curves_figure": ("폴드별 손실, 학습률, 검증 정확도", "Loss, learning rate and validation accuracy of each fold"),
    "shared": ("겹치는 것", "shared"), "groups": ("묶음", "groups"), "members": ("해당 행·사진", "rows or photographs"),
    "in_both": ("학습·테스트에 걸침", "groups in both splits"),
    "id": ("id", "id"), "question, normalised": ("질문(띄어쓰기·기호 무시)", "question, normalised"),
    "question and choices": ("질문과 보기", "question and choices"), "photograph, path": ("사진 경로", "photograph, path"),
    "photograph, content": ("같은 사진 파일", "photograph, content"),
    "photograph, alike": ("거의 같은 사진", "photograph, alike"),
    "no_duplicates": ("중복된 행이나 사진이 없습니다.", "No duplicate rows or photographs."),
    "look_alikes": (
        "거의 같은 사진입니다. 한 묶음은 같은 폴드에 들어갑니다.", "Similar photographs; those of a group stay in one fold.",
    ),
    "kinds_eda": ("질문 유형별 비율", "Kinds of questions"), "letters_eda": ("정답 글자의 비율", "Right answers by letter"),
    "lengths_eda": ("질문과 보기의 길이", "Lengths of questions and choices"),
    "options_eda": ("가장 자주 나온 보기와 정답이 된 비율", "Choices offered most often, and how often they were right"),
    "blind_eda": ("사진을 보지 않을 때의 정확도", "Accuracy without looking at the photograph"),
    "images_eda": ("사진의 크기와 가로세로 비율", "Sizes and shapes of the photographs"),
    # submission and settings
    "no_submission": ("없음: {why}", "None: {why}"), "file": ("파일", "file"), "validation": ("검사", "validation"),
    "valid": ("정상", "valid"), "not_valid": ("제출 불가: {problems}", "NOT VALID: {problems}"),
    "model": ("모델 {model}, {pixels} px.", "Model {model}, {pixels} px."), "took": ("{time} 걸렸습니다.", "It took {time}."),
    "all_defaults": ("모든 설정이 기본값입니다.", "All settings have their defaults."),
    "changed": ("기본값과 다른 설정:", "Settings that differ from the default:"),
    "setting": ("설정", "setting"), "here": ("이 실행", "here"), "default": ("기본값", "default"),
    # how to read these figures
    "unseen": (
        "모든 정확도는 모델이 학습하지 않은 행에서 쟀습니다.", "All accuracies are on rows that the model was not trained on.",
    ),
    "seen": (
        "정확도를 측정할 수 없습니다: {why}. 이 행들에 대한 다른 수치도 실제보다 좋게 나옵니다. 다른 행으로 검증하세요.",
        "The accuracy is not measured: {why}. Other figures on these rows are too optimistic as well. Validate on other rows.",
    ),
    "standard_error": (
        "표준 오차는 {error}점입니다. 다른 행에서 잰 두 실행은 {least}점 이상 차이 나야 유의합니다.",
        "The standard error is {error} points: runs on different rows differ significantly from {least} points on.",
    ),
    "clustered": (
        "여러 행이 같은 사진을 쓰므로 오차는 이미지 그룹별로 계산했습니다. {n:,}행에 담긴 정보는 독립적인 "
        "{independent:,}행과 같습니다.",
        "Several rows share a photograph, so errors are computed by image group: the {n:,} rows carry as much information "
        "as {rows}.",
    ),
    "selection": (
        "에폭 {epochs}개 중 최고를 평가에 쓰는 행에서 골랐습니다. 이미지 그룹 부트스트랩으로 추정하면 정확도가 {points} "
        "높게 나왔으며, 테스트 예상치에는 이를 반영했습니다. keep=last로 하면 아무것도 고르지 않습니다.",
        "The best of {epochs} epochs was chosen on the rows it is evaluated on. A bootstrap over image groups shows that "
        "this makes the accuracy {points} too high; the estimate for test rows is corrected for it. With keep=last "
        "nothing is chosen.",
    ),
    "optimistic": (
        "최고 에폭을 검증 행에서 골랐으므로 그 정확도는 실제보다 높습니다. 얼마나 높은지는 이 실행의 로그에 없습니다"
        "(비슷한 에폭 5개와 200행이면 약 2점).",
        "The best epoch was chosen on the validation rows, so their accuracy is optimistic; the log of this run does not say "
        "by how much (about 2 points with five equally good epochs and 200 rows).",
    ),
    "one_split": (
        "한 번만 나누어 학습하고 평가했습니다. 다르게 나누면 수치가 달라집니다.",
        "Only one split was trained and evaluated; other splits would give different figures.",
    ),
    "validated_on": (
        "{source} 파일의 행만 검증에 쓰고, 나머지는 학습에만 썼습니다.",
        "Only rows of the source {source} are used for validation; the others are only trained on.",
    ),
    "sampled": (
        "{n:,}행만 뽑아 썼습니다. 모든 행을 쓰면 수치가 달라질 수 있습니다.",
        "Only a sample of {n:,} rows was used; all rows may give different figures.",
    ),
    "blind": (
        "질문과 보기만으로는 {blind:.1%}, 찍으면 {chance:.1%}입니다. 앞의 값보다 낮은 정확도는 사진을 본다는 증거가 되지 "
        "못합니다.",
        "Questions and choices alone give {blind:.1%}, guessing {chance:.1%}: accuracy below the former is no evidence of "
        "using the image.",
    ),
    "one_temperature": (
        "온도는 숫자 하나이며, 평가에 쓰는 행에 맞추었습니다.",
        "The temperature, a single number, was fitted on the rows on which it is evaluated.",
    ),
    "resembling": (
        "테스트 예상치는 테스트 행이 학습 행과 비슷하다고 가정합니다.",
        "The test estimate assumes that test rows resemble training rows.",
    ),
}

ReportWord = Callable[..., str]  # name, values to fill in -> text


def report_word(language: str, name: str, /, **values: object) -> str:
    """Return a text of REPORT_WORDS in one of REPORT_LANGUAGES."""
    return REPORT_WORDS[name][list(REPORT_LANGUAGES).index(language)].format(**values)


def report_words_in(language: str) -> ReportWord:
    """Return a function that gives each text in one language."""
    return partial(report_word, language)
