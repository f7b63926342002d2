# ruff: noqa: E501
"""The words of figures, in Korean: English template -> Korean template, as in korean.py.

They are apart from what the console says: a figure also shows texts of the data, and these stay as they are.
"""

KOREAN_FIGURES = {
    # %% rows and groups
    "all": "전체", "fold {}": "폴드 {}", "from {}": "{} 파일", "{} choices": "보기 {}개", "order {}": "순서 {}",
    "counting": "개수", "color": "색", "ocr": "글자", "yesno": "예/아니요", "location": "위치", "attribute": "속성", "negation": "부정문",
    "food": "음식", "animals": "동물", "general": "기타",
    "train ({})": "학습 데이터 ({})", "test ({})": "테스트 데이터 ({})",
    # %% the data
    "Kinds of questions": "질문 유형", "share of the split's questions, %": "그 데이터의 질문 중 비율, %",
    "Right answers by letter": "정답 글자의 비율", "share of rows, % (95 % interval)": "행의 비율, % (95% 구간)",
    "The same by kind of question, %": "질문 유형별 비율, %", "chance": "찍을 때",
    "Length of the question": "질문의 길이", "Length of a choice": "보기의 길이", "characters": "글자 수",
    "share of questions, %": "질문의 비율, %", "share of choices, %": "보기의 비율, %",
    "train, mean {}": "학습 데이터, 평균 {}", "test, mean {}": "테스트 데이터, 평균 {}",
    "right choices, mean {}": "정답인 보기, 평균 {}", "wrong choices, mean {}": "오답인 보기, 평균 {}",
    "Choices offered most often in train": "학습 데이터에 가장 자주 나온 보기", "times offered": "나온 횟수",
    "right": "정답", "wrong": "오답", "{} right": "정답 {}",
    "Accuracy without looking at the photograph": "사진을 보지 않을 때의 정확도", "accuracy, %": "정확도, %",
    "all kinds: {}": "전체: {}", "blind, with 95 % interval": "사진 없이, 95% 구간",
    "Size of {} photographs": "사진 {}장의 크기", "width, pixels": "너비, 픽셀", "height, pixels": "높이, 픽셀",
    "Width to height": "가로세로 비율", "photographs": "사진 수",
    # %% the report
    "training loss": "학습 손실", "learning rate": "학습률", "validation accuracy ± SE": "검증 정확도 ± 표준 오차",
    "step": "스텝", "epoch": "에폭", "raw": "평균 없음", "ema": "EMA", "swa": "SWA",
    "model": "모델", "text only, no image": "글만, 사진 없이", "guessing": "찍을 때", "accuracy, 95% interval": "정확도, 95% 구간",
    "gain in points of accuracy on the same rows, 95% interval": "같은 행에서 정확도 향상 폭(점), 95% 구간",
    "TTA orders": "TTA 순서", "TTA scales": "TTA 배율", "ensemble": "앙상블",
    "predicted": "모델의 답", "true": "정답", "share of the true letter's rows": "정답이 그 글자인 행 중 비율",
    "as scored: ECE {}": "보정 전: ECE {}", "temperature {}: ECE {}": "온도 {}: ECE {}",
    "confidence": "확신", "accuracy": "정확도", "rows": "행 수",
    "all orders: distance {}, p = {}": "모든 순서: 거리 {}, p = {}", "all orders: distance {}, p < {}": "모든 순서: 거리 {}, p < {}",
    "share of the rows": "행의 비율", "predicted more often than true, in points": "정답보다 더 많이 답한 정도(점)",
    # %% the ladder
    "test rows, 95% interval": "테스트 행, 95% 구간", "accuracy on {} test rows": "테스트 {}행의 정확도",
    "zero-shot": "학습 전", "single fold": "폴드 하나", "{} folds": "폴드 {}개", "+ ensemble": "+ 앙상블",
    # %% a search
    "History": "탐색 과정", "trial": "시도", "log-loss": "로그 손실", "trained to its end": "끝까지 학습", "best so far": "그때까지 최고",
    "pruned": "조기 중단", "Which settings matter": "설정의 중요도", "share of the variance of the log-loss": "로그 손실 분산 중 비율",
    "All settings at once": "모든 설정을 한눈에",
}
