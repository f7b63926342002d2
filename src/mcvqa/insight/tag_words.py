"""Holds the names of tags, and advice for rows that have them, in Korean and English."""

TAG_WORDS = {  # tag -> what it is called and what to do, in Korean, then in English; an empty tag: no rule fits
    "label probably wrong": (
        ("라벨 오류 의심", "사진을 보고 라벨을 확인하세요(mcvqa audit)."),
        ("label probably wrong", "Look at the photographs and decide (mcvqa audit)."),
    ),
    "never learned": (
        ("학습되지 않음", "라벨을 확인하고, 맞다면 에폭을 늘리거나 더 큰 모델을 쓰세요."),
        ("never learned", "Check the label; if it is right, use more epochs or a larger model."),
    ),
    "order-sensitive": (
        ("보기 순서에 민감", "보기 순서를 늘리세요(use_tta=true, train_orders=2)."),
        ("order-sensitive", "Use more option orders (use_tta=true, train_orders=2)."),
    ),
    "misled by the picture": (
        ("사진이 오히려 방해", "작은 부분을 보아야 하는 문제인지 확인하고 image_size를 키워 보세요."),
        ("misled by the picture", "See whether small details matter, and try a larger image_size."),
    ),
    "resolution-sensitive": (
        ("해상도에 민감", "image_size를 키우거나 여러 배율(tta_scales)을 쓰세요."),
        ("resolution-sensitive", "Use a larger image_size or several scales (tta_scales)."),
    ),
    "ambiguous": (
        ("답이 애매함", "사람도 답하기 어려운 문제일 수 있습니다. 표가 적은 행은 min_votes로 뺄 수 있습니다."),
        ("ambiguous", "People may disagree too; min_votes leaves out rows with few votes."),
    ),
    "unreadable photograph": (
        ("사진을 읽을 수 없음", "파일을 고치세요(eda/problems.csv)."),
        ("unreadable photograph", "Replace the files (eda/problems.csv)."),
    ),
    "": (
        ("진단 없음", "학습할 행과 에폭을 늘리거나 더 큰 모델을 쓰세요."),
        ("no tag", "More rows, more epochs or a larger model."),
    ),
}


def tag_words(tag: str) -> dict[str, tuple[str, str]]:
    """Return the name of a tag and the advice, by language."""
    return dict(zip(("ko", "en"), TAG_WORDS[tag], strict=True))
