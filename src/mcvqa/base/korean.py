# ruff: noqa: E501
"""What the command line says, in Korean: English template -> Korean template.

`{}` stands for any text; `{0}`, `{1}`, ... in the Korean put the texts into another order. A particle behind one (이, 을, 은, 과, 로)
is chosen by how the text ends. How they are looked up: translation.py.
"""

UNREADABLE = {  # why a photograph cannot be read
    "a Git LFS pointer, not the picture; run: git lfs pull": "사진이 아니라 Git LFS 포인터입니다. git lfs pull을 실행하세요",
    "a web page (HTML), not a picture; download it again": "사진이 아니라 웹 페이지(HTML)입니다. 다시 내려받으세요",
    "an SVG drawing; save it as PNG": "SVG 그림입니다. PNG로 저장하세요", "a PDF document; save its page as PNG": "PDF 문서입니다. 쪽을 PNG로 저장하세요",
    "a PostScript (EPS) drawing; save it as PNG": "PostScript(EPS) 그림입니다. PNG로 저장하세요", "a Windows metafile (WMF, EMF); save it as PNG":
        "윈도 메타파일(WMF, EMF)입니다. PNG로 저장하세요", "a JPEG XL picture, which Pillow does not read; save it as PNG":
        "Pillow가 읽지 못하는 JPEG XL 사진입니다. PNG로 저장하세요",
    "a ZIP archive; unpack it": "ZIP 압축 파일입니다. 압축을 푸세요", "a packed archive; unpack it": "압축 파일입니다. 압축을 푸세요", "a video, not a picture": "사진이 아니라 동영상입니다",
    "a JSON file, not a picture": "사진이 아니라 JSON 파일입니다", "a text, not a picture": "사진이 아니라 글입니다", "an XML file, not a picture": "사진이 아니라 XML 파일입니다",
    "an array of numbers, not a picture": "사진이 아니라 숫자 배열입니다", "a damaged picture": "손상된 사진입니다", "empty file": "빈 파일입니다",
    "cannot be read ({})": "읽을 수 없습니다({})", "not a picture that Pillow can read ({})": "Pillow가 읽을 수 있는 사진이 아닙니다({})",
    "truncated or damaged ({})": "잘렸거나 손상되었습니다({})", "{} MiB; at most {} are read": "{} MiB입니다. {} MiB까지 읽습니다",
    "{} megapixels; at most {} are decoded": "{}메가픽셀입니다. {}메가픽셀까지 읽습니다", "a strip of {} x {} pixels": "{} x {} 픽셀의 가늘고 긴 사진입니다",
    "HEIC picture; to read it: pip install pillow-heif": "HEIC 사진입니다. 읽으려면: pip install pillow-heif", "points outside the data folder": "데이터 폴더 밖을 가리킵니다",
    "points outside the data folder through a link": "링크로 데이터 폴더 밖을 가리킵니다",
    "a web address; download the picture and write its file name": "웹 주소입니다. 사진을 내려받고 파일 이름을 적으세요",
    "several files fit: {}": "맞는 파일이 여럿입니다: {}", "no path": "경로가 없습니다",
}

KOREAN = {
    # %% the ten steps
    "[{}/10] {}": "[{}/10] {}", "[{}/10] {}: {}": "[{}/10] {}: {}",
    "set-up": "준비", "config": "설정", "data and EDA": "데이터와 EDA", "folds": "폴드", "rows": "데이터셋", "model": "모델",
    "training": "학습", "scoring": "채점", "ensemble": "앙상블", "report": "보고서",
    "Python {}, torch {}": "Python {}, torch {}", "run {}": "실행 {}", "{} folds": "{}폴드", "folds {}": "폴드 {}",
    "one stratified split": "층화 분할 한 번", "every fold is trained and scored": "모든 폴드를 이미 학습하고 채점했습니다",
    "{} to learn from, {} to answer in {}": "학습 {}행, 테스트 {}행, {}", "rollback": "되돌림",
    # %% what is counted
    "{} row": "{}행", "{} rows": "{}행", "{} letter has": "글자 {}개", "{} letters have": "글자 {}개", "{} row is": "{}행", "{} rows are": "{}행", "{} row has": "{}행", "{} rows have": "{}행",
    "{} training row": "학습 {}행", "{} training rows": "학습 {}행", "{} training row is": "학습 {}행", "{} training rows are": "학습 {}행",
    "{} test row": "테스트 {}행", "{} test rows": "테스트 {}행", "{} test row has": "테스트 {}행", "{} test rows have": "테스트 {}행",
    "{} validation row": "검증 {}행", "{} validation rows": "검증 {}행",
    "{} labelled row": "정답이 있는 {}행", "{} labelled rows": "정답이 있는 {}행",
    "{} answered row is": "정답이 있는 {}행", "{} answered rows are": "정답이 있는 {}행",
    "{} independent one": "독립적인 {}행", "{} independent ones": "독립적인 {}행",
    "{} answer is": "정답 {}개", "{} answers are": "정답 {}개", "{} wrong answer": "오답 {}개", "{} wrong answers": "오답 {}개",
    "{} image group": "이미지 그룹 {}개", "{} image groups": "이미지 그룹 {}개", "{} group": "{}묶음", "{} groups": "{}묶음",
    "{} spans": "{}묶음", "{} span": "{}묶음", "{} option order": "보기 순서 {}가지", "{} option orders": "보기 순서 {}가지",
    "{} image scale": "이미지 배율 {}가지", "{} image scales": "이미지 배율 {}가지", "{} fold": "폴드 {}개", "{} epoch": "에폭 {}개",
    "{} epochs": "에폭 {}개", "{} photograph": "사진 {}장", "{} photographs": "사진 {}장", "{} photograph is": "사진 {}장",
    "{} photographs are": "사진 {}장", "{} photograph has": "사진 {}장", "{} photographs have": "사진 {}장",
    "{} other photograph": "나머지 사진 {}장", "{} other photographs": "나머지 사진 {}장", "{} is": "{}개", "{} are": "{}개",
    "{} step": "스텝 {}번", "{} steps": "스텝 {}번", "{} worker": "작업 프로세스 {}개", "{} workers": "작업 프로세스 {}개",
    "{} scale": "스케일 {}개가", "{} scales": "스케일 {}개가",
    "{} tensor": "텐서 {}개", "{} tensors": "텐서 {}개", "{} cell": "셀 {}개", "{} cells": "셀 {}개", "{} id": "id {}개", "{} ids": "id {}개",
    "{} label": "라벨 {}개", "{} labels": "라벨 {}개", "{} decision": "결정 {}개", "{} decisions": "결정 {}개",
    "{} prediction": "예측 {}개", "{} predictions": "예측 {}개", "{} other warning": "그 밖의 경고 {}개",
    "{} other warnings": "그 밖의 경고 {}개", "{} file or folder": "파일·폴더 {}개", "{} files and folders": "파일·폴더 {}개",
    "{} file or link": "파일·링크 {}개", "{} files or links": "파일·링크 {}개", "scale {}": "배율 {}", "scales {}": "배율 {}",
    "{} option orders, scale {}": "보기 순서 {}가지, 배율 {}", "{} option order, scale {}": "보기 순서 {}가지, 배율 {}",
    "{} option orders, scales {}": "보기 순서 {}가지, 배율 {}", "{} option order, scales {}": "보기 순서 {}가지, 배율 {}",
    "{} h {} min": "{}시간 {}분", "{} min {} s": "{}분 {}초", "{} s": "{}초", "one scale": "배율 하나",
    # %% the device
    "device {}: {}": "장치 {}: {}", "the fastest available": "여기서 가장 빠릅니다", "as set": "설정한 대로",
    "{}; simulating a T4 with {} of its {} GiB": "{0}. T4를 흉내 냅니다({2} GiB 중 {1} GiB 사용)",
    "precision {}: {}": "정밀도 {}: {}", "a CPU computes float32 fastest": "CPU는 float32가 가장 빠릅니다",
    "exact on Apple GPUs": "Apple GPU에서 정확합니다", "compute capability {} has bfloat16 units": "연산 능력 {}은 bfloat16 연산을 지원합니다",
    "compute capability {} is below 8.0: no bfloat16 units": "연산 능력 {}은 8.0보다 낮아 bfloat16 연산을 지원하지 않습니다",
    "attention SDPA: it runs on every GPU; FlashAttention needs capability 8.0":
        "어텐션 SDPA: 모든 GPU에서 실행됩니다(FlashAttention은 연산 능력 8.0 이상)",
    "mixed precision on: {}": "혼합 정밀도 사용: {}", "mixed precision off: {}": "혼합 정밀도 사용 안 함: {}",
    "no gain on a CPU": "CPU에서는 이득이 없습니다", "loader processes: {}": "데이터 로더 프로세스: {}개",
    "4-bit weights on: {}": "4비트 가중치 사용: {}", "4-bit weights off: {}": "4비트 가중치 사용 안 함: {}",
    "not needed without a GPU's memory limit": "GPU 메모리 제한이 없어 필요하지 않습니다",
    # %% data
    "pictures": "사진", "unpacking {}": "{} 압축 풀기",
    "Questions   train {} ({} answered), test {}, {} choices a row": "질문        학습 {}({}개에 정답), 테스트 {}, 행마다 보기 {}개",
    "Answers     {}": "정답        {}",
    "Same text   {} in {}, of which {} both splits{}": "같은 글     {}행, {}, 그중 학습·테스트에 걸친 것 {}{}",
    "+ choices {} in {}, of which {} both splits{}": "+ 보기    {}행, {}, 그중 학습·테스트에 걸친 것 {}{}",
    "Same id     {} in {}, of which {} both splits{}": "같은 id     {}행, {}, 그중 학습·테스트에 걸친 것 {}{}",
    "same file {} in {}, of which {} both splits": "같은 파일 {}장, {}, 그중 학습·테스트에 걸친 것 {}",
    "similar   {} in {}, of which {} both splits": "비슷함    {}장, {}, 그중 학습·테스트에 걸친 것 {}",
    "Files       {}": "파일        {}",
    "Choices     duplicated in {}: {} (problems.csv)": "보기        같은 보기가 두 번 나옵니다. {}: {} (problems.csv)",
    "Cells       {} more with problems (problems.csv)": "셀          그 밖에 {}개가 잘못되었습니다 (problems.csv)",
    "Cells       {} with problems (problems.csv)": "셀          {}개가 잘못되었습니다 (problems.csv)",
    "Photographs not examined": "사진        확인하지 않았습니다",
    "Photographs missing: all {}; everything else continues without them": "사진        {}장이 모두 없습니다. 나머지는 사진 없이 진행합니다",
    "Photographs {}, of them {} missing and {} broken": "사진        {}장(없는 사진 {}장, 읽을 수 없는 사진 {}장)",
    "Photographs {}, of them {} missing and {} broken; {} refused, outside the data folder":
        "사진        {}장(없는 사진 {}장, 읽을 수 없는 사진 {}장, 데이터 폴더 밖이라 거부한 사진 {}장)",
    "missing   {}": "없음      {}", "broken    {}": "읽기 실패 {}", "refused   {}": "거부      {}",
    "size      all {} x {} pixels": "크기      모두 {} x {} 픽셀",
    "kind          train   test   blind accuracy (chance)": "유형           학습 테스트   사진 없이 정확도(찍을 때)",
    "counting    {}": "개수        {}", "color       {}": "색          {}", "ocr         {}": "글자        {}", "yesno       {}": "예/아니요   {}",
    "location    {}": "위치        {}", "attribute   {}": "속성        {}", "negation    {}": "부정문      {}", "food        {}": "음식        {}",
    "animals     {}": "동물        {}", "general     {}": "기타        {}", "all         {}": "전체        {}",
    "Figures and tables: {}": "그림과 표: {}", "{} and {} more": "{} 외 {}개",
    "first submission: the text-only prior's, {}, accuracy {} out of fold": "첫 제출 파일: 텍스트 전용 모델의 답, {}, OOF 정확도 {}",
    "first submission: the text-only prior's, {}{}": "첫 제출 파일: 텍스트 전용 모델의 답, {}{}",
    "'{}' is {}": "'{}' = {}",
    "{}: answers are letters: {}": "{}: 정답은 글자입니다: {}", "{}: answers are numbers: {}": "{}: 정답은 번호입니다: {}",
    "{}: answers are the texts of the choices: {}": "{}: 정답은 보기의 글입니다: {}",
    "{}: answers could not be interpreted": "{}: 정답을 해석하지 못했습니다",
    "instruction of the prompt: {}": "프롬프트의 지시문: {}",
    "as set in user_prompt": "user_prompt에 적은 대로",
    "already done: {}": "이미 했습니다: {}",
    "no tables and figures: they take more than {} of the time budget (mcvqa eda makes them)":
        "표와 그림을 만들지 않았습니다: 시간 예산의 {}보다 오래 걸립니다(mcvqa eda로 만듭니다)",
    "fold {}: {} in {}   {}": "폴드 {}: {}, {}   {}", "trained on, but never validated: {}": "검증에는 쓰지 않고 학습에만 쓰는 행: {}",
    "left out: {} whose photograph cannot be read (listed in the EDA)": "사진을 읽을 수 없어 뺀 행: {}(EDA에 목록이 있습니다)",
    "{} left out: no readable photograph": "{}을 뺐습니다: 읽을 수 있는 사진이 없습니다",
    "{} no readable photograph: answered from the text alone (eda/problems.csv)":
        "{}은 읽을 수 있는 사진이 없어 글만 보고 답합니다 (eda/problems.csv)",
    "... and {} about pictures": "... 사진에 관한 {}",
    "{} is damaged: the photographs are examined again": "{}이 손상되어 사진을 다시 확인합니다",
    "Written: {}": "저장했습니다: {}",
    # %% model, training, scoring
    "tiny: the trained weights come with the mcvqa package, which is not installed here, so the weights are random":
        "tiny: 학습된 가중치는 mcvqa 패키지에 들어 있는데 여기에는 설치되어 있지 않아 무작위 가중치를 씁니다",
    "image features: {} at {}, {} MiB in {}": "이미지 특징: {}, {}, {} MiB, 위치 {}",
    "image features are recomputed in every step: the vision tower is trained": "이미지 특징을 스텝마다 새로 계산합니다: 비전 타워도 학습합니다",
    "image features are recomputed in every step: {} GiB do not fit on the disk":
        "이미지 특징을 스텝마다 새로 계산합니다: {} GiB가 디스크에 들어가지 않습니다",
    "image features are not cached: {} has no space for them": "이미지 특징을 저장하지 않습니다: {}에 공간이 없습니다",
    "{} of {} images overflow float16: their features were computed in float32":
        "이미지 {1}장 중 {0}장이 float16 범위를 넘어 float32로 특징을 계산했습니다",
    "image features x{}": "이미지 특징 x{}", "fold {} epoch {}": "폴드 {} 에폭 {}", "validation": "검증", "validation ({})": "검증 ({})",
    "fold {} train, scale {}": "폴드 {} 학습 행, 배율 {}", "proof, scale {}": "확인, 배율 {}", "pace, scale {}": "속도 측정, 배율 {}", "thumbnails": "썸네일",
    "final model epoch {}": "최종 모델 에폭 {}", "final model test, scale {}": "최종 모델 테스트, 배율 {}", "final model, scale {}": "최종 모델, 배율 {}",
    "final model, rows {}, scale {}": "최종 모델, {}행, 배율 {}", "fold {} test, generating": "폴드 {} 테스트, 생성",
    "fold {} out of fold, generating": "폴드 {} OOF, 생성",
    "fold {} test, scale {}": "폴드 {} 테스트, 배율 {}", "fold {} out of fold, scale {}": "폴드 {} OOF, 배율 {}",
    "epoch {}": "에폭 {}", "fold {}": "폴드 {}", "fold {}, scale {}": "폴드 {}, 배율 {}", "fold {}, rows {}, scale {}": "폴드 {}, {}행, 배율 {}",
    "fold {} {}: accuracy {} ({}), loss {}": "폴드 {} {}: 정확도 {} ({}), 손실 {}",
    "fold {}: accuracy {}, best epoch {}, {}{}, {} rows/s": "폴드 {}: 정확도 {}, 최고 에폭 {}, {}{}, 초당 {}행",
    "fold {}: already trained, accuracy {}{}": "폴드 {}: 이미 학습했습니다. 정확도 {}{}", "fold {}: already scored": "폴드 {}: 이미 채점했습니다",
    "fold {}: {}": "폴드 {}: {}", "fold {} starts from {}": "폴드 {}: {}에서 시작합니다",
    "fold {}: the code has changed since it was interrupted, so it starts from the beginning":
        "폴드 {}: 중단된 뒤에 코드가 바뀌어 처음부터 시작합니다",
    "fold {} resumes after step {} of {}": "폴드 {0}: {2}스텝 중 {1}스텝 다음부터 이어서 합니다",
    "the code has changed since: the folds are scored again": "그 뒤에 코드가 바뀌어 폴드를 다시 채점합니다",
    "there is time for all {} of a fold": "폴드의 {}을 모두 읽을 시간이 있습니다", "there is time for more: {}": "시간이 남아 더 합니다: {}",
    "the time budget of {} is used up; the submission is written from the finished work": "시간 예산 {}을 다 썼습니다. 끝난 폴드로 제출 파일을 만듭니다",
    "time budget: {} left; the plan follows once some rows have been timed": "시간 예산: {} 남음. 몇 행의 시간을 재고 나서 계획을 세웁니다",
    "time budget: {} for {}{}{}": "시간 예산: {} 동안 {}{}{}", "time budget: encoding {}{}{}": "시간 예산: 인코딩 {}{}{}",
    "{}: left out, there is no time for it": "{}: 시간이 없어 생략합니다",
    "{} rows at a time: {} rows/s where they are longest": "한 번에 {}행: 가장 긴 행에서 초당 {}행",
    "out of GPU memory: from now on {} at a time": "GPU 메모리가 부족해 이제부터 한 번에 {}씩 처리합니다",
    "fold {} step {}: out of GPU memory with {}. The step is repeated with {}; it still covers {}.":
        "폴드 {} 스텝 {}: GPU 메모리가 {}에서 부족했습니다. {}으로 스텝을 반복하며, 스텝의 행 수는 그대로 {}입니다.",
    "float16 overflowed in {}: float32 there from now on": "{}에서 float16 범위를 넘어 이제부터 float32로 계산합니다",
    "CUDA graphs are not used: {}": "CUDA 그래프를 쓰지 않습니다: {}",
    "{}. Back to step {}, with half the learning rate (rollback {} of {})": "{}. 스텝 {}으로 되돌아가 학습률을 절반으로 줄입니다(되돌림 {}/{})",
    "{} Continuing; the best of the following epochs is kept.": "{} 계속합니다. 이후 에폭 중 최고를 저장합니다.",
    "{}; the previous resume point is kept.": "{}. 이전 재개 지점을 그대로 둡니다.",
    "{} is damaged or missing: this resume point is deleted and the previous one is used": "{}이 손상되었거나 없습니다. 이 재개 지점을 지우고 이전 것을 씁니다",
    "{} The remaining {} batches are made without loader processes.": "{} 남은 배치 {}개는 로더 없이 만듭니다.",
    "{} of {} generated answers could not be parsed and count as undecided": "생성한 답 {1}개 중 {0}개를 해석하지 못해 미정으로 셉니다",
    "{} cannot be written at the moment: {}. Its lines are kept in memory": "지금은 {}에 쓸 수 없습니다: {}. 내용은 메모리에 둡니다",
    "{} cannot be locked here ({}): do not start a second process on {}": "{}을 잠글 수 없습니다({}). {}에 두 번째 프로세스를 시작하지 마세요",
    "{} is damaged: the work that it records is treated as not done": "{}이 손상되어 거기 기록된 작업은 하지 않은 것으로 봅니다",
    "continuing from {}: {} of the run {} copied": "{0}에서 이어서 합니다: 실행 {2}의 {1}를 가져왔습니다",
    "not copied, as runs do not write such files: {}, first {}": "실행이 만든 것이 아니어서 가져오지 않습니다: {}, 예: {}",
    "{} is damaged or belongs to other weights: it is not copied": "{}이 손상되었거나 그곳의 가중치와 맞지 않아 가져오지 않습니다",
    "{} is damaged or missing: {} is not copied": "{}이 손상되었거나 없어 {}을 가져오지 않습니다",
    # %% ensemble, submission, report
    "members: {}": "멤버: {}", "method: {}. {}": "방법: {}. {}", "out of fold: {}": "OOF 정확도: {}", "{} ({} folds)": "{} (폴드 {}개)", "{} ({} folds and final)": "{} (폴드 {}개와 최종 모델)",
    "Equal weights: no rows have both an answer and out-of-fold scores.": "같은 가중치: 정답과 OOF 점수가 모두 있는 행이 없습니다.",
    "Equal weights: only one member has out-of-fold scores, so there is nothing to weigh.":
        "같은 가중치: OOF 점수가 있는 멤버가 하나라 가중치를 정할 것이 없습니다.",
    "The configuration asks for {}.": "설정에서 {}을 골랐습니다.",
    "{}: valid: {} rows; {}": "{}: 정상, {}행, {}", "valid: {} rows; {}": "정상, {}행, {}",
    "{} is kept: {}\n  This run's answers are in {}. To submit them: mcvqa ensemble {} --force":
        "{}을 그대로 둡니다: {}\n  이 실행의 답은 {}에 있습니다. 이것을 제출하려면: mcvqa ensemble {} --force",
    "{} is damaged, so the content of the submissions next to it is unknown": "{}이 손상되어 옆에 있는 제출 파일의 내용을 알 수 없습니다",
    "{} is damaged, so the content of {} is unknown": "{}이 손상되어 {}의 내용을 알 수 없습니다",
    "{} held the run {}'s answers to other test rows{}": "{}에는 실행 {}이 다른 테스트 행에 답한 것이 들어 있었습니다{}",
    "the text-only prior is significantly better than this run ({} on the same rows): its answers are used":
        "텍스트 전용 모델이 이 실행보다 유의하게 더 정확합니다(같은 행에서 {}). 그 모델의 답을 제출합니다",
    "this run, out of fold: {}; without the photographs: {}": "이 실행의 OOF 정확도: {}, 사진 없이: {}",
    "submission  none: there is no test.csv": "제출 파일  없음: test.csv가 없습니다",
    "submission  {}\n            {} of the run {}, accuracy {}": "제출 파일  {0}\n           실행 {2}: {1}, 정확도 {3}",
    "submission  {}\n            {} of the run {}": "제출 파일  {0}\n           실행 {2}: {1}", "majority vote of {}": "{}의 다수결", "weighted vote of {}": "{}의 가중 투표",
    "mean of {}": "{}의 평균", "geometric mean of {}": "{}의 기하 평균", "geometric of {}": "{}의 기하 평균", "stacking of {}": "{}의 스태킹",
    "majority vote": "다수결", "weighted vote": "가중 투표", "geometric mean": "기하 평균",
    "{} of {} of the run {}": "실행 {2}의 {1} {0}",
    "accuracies  {}\nreport      {}\nall runs    {}": "정확도     {}\n보고서     {}\n모든 실행  {}",
    "{}: {} rows; {}": "{}: {}행, {}", "TTA orders": "TTA 순서", "TTA scales": "TTA 배율", "TTA orders   {}": "TTA 순서     {}", "TTA scales   {}": "TTA 배율     {}",
    "the report": "보고서", "evidence.csv": "evidence.csv", "the index of runs": "실행 목록",
    "{} could not be made, continuing without it: {}{}": "{}을 만들지 못해 없이 계속합니다: {}{}",
    "{}, of which choosing the best of {} epochs adds {}": "{}, 그중 에폭 {}개에서 최고를 고른 효과 {}",
    "about {} points": "약 {}점", "less than 0.1 points": "0.1점 미만", "no runs yet": "아직 실행이 없습니다",
    # %% check
    "data": "데이터", "model {}": "모델 {}", "device": "장치", "start": "시작", "memory, disk, time": "메모리, 디스크, 시간",
    "memory, disk, time (estimates)": "메모리, 디스크, 시간(추정)", "label alignment, question {}": "라벨 정렬, 질문 {}",
    "· {}": "· {}", "! {}": "! {}",
    "ready: no problems found": "준비되었습니다. 문제를 찾지 못했습니다", "ready; check the lines marked with ! first":
        "준비되었습니다. 먼저 !로 표시한 줄을 확인하세요", "not ready: see the lines marked with !": "아직 준비되지 않았습니다. !로 표시한 줄을 보세요",
    "photographs: {}, of which {} cannot be read": "사진: {}장, 그중 {}장을 읽을 수 없습니다", "and {} more": "그 밖에 {}개",
    "{}: {}, {}, delimiter {}; {}": "{}: {}, {}, 구분자 {}, {}",
    "{} choices that refer to other choices and keep their position in every order, first in {}: {}":
        "{}에 다른 보기를 가리키는 보기가 있어 순서를 바꾸어도 제자리에 둡니다. 예: {}: {}",
    "{}. If they are valid answers, set answer_style={}": "{}. 맞는 정답이라면 answer_style={}로 알려 주세요",
    "the hub cannot be reached; checked the cached copy in {}": "허브에 연결할 수 없어 캐시에 있는 사본을 확인했습니다: {}",
    "fast path: image features are computed once, option orders share a prompt":
        "최적화된 경로: 이미지 특징을 한 번만 계산하고, 보기 순서들이 프롬프트를 함께 씁니다",
    "the weights are complete and match the configuration (names and shapes; values are not read)":
        "가중치가 온전하고 설정과 맞습니다(이름과 모양만 보고 값은 읽지 않습니다)",
    "the weights are not downloaded yet; the run downloads them when it starts": "가중치를 아직 내려받지 않았습니다. 실행을 시작할 때 내려받습니다",
    "disk: {} GiB free": "디스크: {} GiB 남음",
    "memory, disk and time cannot be estimated without the model's config.json":
        "모델의 config.json이 없어 메모리, 디스크, 시간을 추정할 수 없습니다",
    "fold {} starts from {}; not measured: {}": "폴드 {}: {}에서 시작합니다. 측정하지 않음: {}",
    "{} training rows, {} test rows": "학습 {}행, 테스트 {}행", "{} training rows, {} test row": "학습 {}행, 테스트 {}행",
    "{} training row, {} test rows": "학습 {}행, 테스트 {}행", "{} training row, {} test row": "학습 {}행, 테스트 {}행",
    "adapters on {}: {} layers (the language model has {} linear layers), which hold {} of all weights":
        "어댑터: {0}, 언어 모델의 선형 레이어 {2}개 중 {1}개(모든 가중치의 {3})",
    "micro-batch {} without checkpointing": "마이크로배치 {}, 체크포인팅 없이", "micro-batch {} with checkpointing": "마이크로배치 {}, 체크포인팅 사용",
    "trained weights {}, resume points {}, scores {}": "학습한 가중치 {}, 재개 지점 {}, 점수 {}",
    "{} ({} left out, their photographs cannot be read), {}": "{}({}행은 사진을 읽을 수 없어 뺌), {}",
    "tokens per row: mean {}, longest {} (sample of {})": "행당 토큰 수: 평균 {}, 최대 {}(표본 {})",
    "encoding: {} rows/s in one process": "인코딩: 프로세스 하나에서 초당 {}행",
    "parameters: {}, trained {}": "파라미터: {}, 학습하는 것 {}",
    "experts: {} of them, in {} bits{}": "전문가(expert): 그중 {}, {}비트{}", "and without adapters": "(어댑터 없이)",
    "the vision tower of {} runs for every prompt, which this estimate does not include": "{}의 비전 타워는 프롬프트마다 실행되는데, 이 추정에는 그 시간이 들어 있지 않습니다",
    "memory: {} of {} GiB (weights {}, training state {}, activations {}: {})":
        "메모리: {1} GiB 중 {0} GiB(가중치 {2}, 학습 상태 {3}, 활성값 {4}: {5})",
    "{}; training tests whether more fits": "{}. 학습할 때 더 들어가는지 시험합니다",
    "it does not fit: it needs {} or more{}. {} mcvqa models lists what fits here.":
        "들어가지 않습니다: {} 이상이 필요합니다{}. {} mcvqa models로 여기에 들어가는 모델을 볼 수 있습니다.",
    "disk: {} of {} GiB free ({})": "디스크: 남은 {1} GiB 중 {0} GiB({2})", "disk: image features {} GiB{}": "디스크: 이미지 특징 {} GiB{}",
    "do not fit as well: recomputed in every step": "함께 들어가지 않아 스텝마다 새로 계산합니다",
    "output_dir={} is not writable: choose another folder (--set output_dir=FOLDER)":
        "output_dir={}에 쓸 수 없습니다. 다른 폴더를 고르세요(--set output_dir=FOLDER)",
    "time: {} s per step of {} rows, {} steps; image features {}, training {}, scoring {}, at half of {} TFLOP/s":
        "시간: {1}행짜리 스텝 하나에 {0}초, {2}스텝; 이미지 특징 {3}, 학습 {4}, 채점 {5}({6} TFLOP/s의 절반으로 계산)",
    "a step of {} is too small to divide among {} processes, some of which would have none: {}":
        "{}짜리 스텝은 프로세스 {}개에 나누기에 너무 작아 행이 없는 프로세스가 생깁니다: {}",
    "a step of {} is too small to divide among {} GPUs by torchrun: to launch the kernels of its share takes a process {} s, to compute it {} s: {}, or train several folds, one on each GPU":
        "{}짜리 스텝은 torchrun으로 GPU {}개에 나누기에 너무 작습니다: 프로세스마다 자기 몫의 커널을 실행시키는 데 {}초, 계산하는 데 {}초 걸립니다. {}. 또는 GPU마다 폴드를 하나씩 학습하세요",
    "a step of {} is too small to divide among the {} GPUs of a model, which compute at most {} of the time: {}":
        "{}짜리 스텝은 모델을 나눈 GPU {}개가 나누기에 너무 작아, GPU가 길어야 {}의 시간만 계산합니다: {}",
    "use steps of {} or more (--set grad_accum_steps={})": "스텝을 {} 이상으로 하세요(--set grad_accum_steps={})",
    "time_budget={} is shorter: the run will leave out the least useful parts and report them":
        "time_budget={}이 더 짧습니다: 효과가 작은 것부터 생략하고 무엇을 생략했는지 알려 줍니다",
    "the {} tokens of the prompt are the same in training and scoring": "프롬프트의 토큰 {}개가 학습과 채점에서 같습니다",
    "supervised: token {} {} at position {}, predicted from position {}, which is also the position read when scoring":
        "학습하는 자리: 위치 {2}의 토큰 {0} {1}. 위치 {3}에서 예측하며, 채점도 그 자리를 읽습니다",
    "in the template's own conversation, the letter does not directly follow this prompt; training uses the prompt followed directly by the letter. The template's own conversation:": "템플릿의 대화에서는 글자가 이 프롬프트 바로 뒤에 오지 않아, 프롬프트와 바로 뒤의 글자를 학습합니다. 템플릿의 대화:",
    # %% stopping
    "error: {}": "오류: {}", "Stopped.": "멈췄습니다.",
    "{}: stopping {}; send it again to stop at once": "{}: {} 멈춥니다. 신호를 한 번 더 보내면 바로 멈춥니다",
    "after this step": "이 스텝이 끝나면", "as soon as all processes can": "모든 프로세스가 멈출 수 있게 되면",
    "Stopped after step {} of {}; saved in {}. Run the same command again to continue from there.":
        "{1}의 스텝 {0} 다음에 멈췄습니다. {2}에 저장했습니다. 같은 명령을 다시 실행하면 거기서부터 이어서 합니다.",
    "Stopped after step {} of {}; nothing could be saved. Run the same command again to continue from there.":
        "{1}의 스텝 {0} 다음에 멈췄으나 아무것도 저장하지 못했습니다. 같은 명령을 다시 실행하면 그 전에 저장한 데서 이어서 합니다.",
 "{} Run the same command again to continue from there.": "{} 같은 명령을 다시 실행하면 거기서부터 이어서 합니다.",
    "Stopped at once by {}. What was saved before is intact.": "{}로 바로 멈췄습니다. 그 전에 저장한 것은 그대로 있습니다.",
    "Stopped after step {} of fold {}; saved in {}.": "폴드 {1}의 스텝 {0} 다음에 멈췄습니다. {2}에 저장했습니다.",
    "Stopped after step {} of fold {}; nothing could be saved.": "폴드 {1}의 스텝 {0} 다음에 멈췄으나 아무것도 저장하지 못했습니다.",
    "The machine is out of memory. Reduce image_size, batch_size or num_workers.":
        "메모리가 부족합니다. image_size, batch_size, num_workers를 줄이세요.",
    "{}. A file is needed there, but a folder has its name. Choose another name.":
        "{}. 그 자리에는 파일이 있어야 하는데 같은 이름의 폴더가 있습니다. 다른 이름을 고르세요.",
    "{}. Allow access to it, or {}": "{}. 접근을 허용하거나 {}",
    "{}. A folder is needed there, but a file or a broken link has its name. Move it away, or {}":
        "{}. 그 자리에는 폴더가 있어야 하는데 같은 이름의 파일이나 끊어진 링크가 있습니다. 그것을 옮기거나 {}",
    "choose another folder: --set output_dir=FOLDER. Then run the same command again.":
        "다른 폴더를 고른 뒤(--set output_dir=FOLDER) 같은 명령을 다시 실행하세요.",
    "A process of this run has ended, so all stop; its own output or that of the launcher says why. Finished work is kept: run the same command again to continue.":
        "이 실행의 프로세스 하나가 끝나서 모두 멈춥니다. 까닭은 그 프로세스나 실행기의 출력에 있습니다. 끝난 작업은 남아 있으니 같은 명령을 다시 실행하면 이어서 합니다.",
    "The machine is out of memory. Finished work is kept. Reduce image_size (now {}), batch_size (now {}) or num_workers.":
        "메모리가 부족합니다. 끝난 작업은 저장되어 있습니다. image_size(지금 {}), batch_size(지금 {}), num_workers를 줄이세요.",
    "Out of GPU memory. Finished work is kept. {}": "GPU 메모리가 부족합니다. 끝난 작업은 저장되어 있습니다. {}",
    "{}. Name another file or folder.": "{}. 다른 파일이나 폴더를 적으세요.",
    "The disk is full or unavailable: {}. {}": "디스크가 가득 찼거나 쓸 수 없습니다: {}. {}",
    # %% settings
    "There is no setting {}. Did you mean {}? All settings: mcvqa presets --fields":
        "{}라는 설정은 없습니다. {}를 뜻하셨나요? 모든 설정: mcvqa presets --fields",
    "There is no setting {}. All settings: mcvqa presets --fields": "{}라는 설정은 없습니다. 모든 설정: mcvqa presets --fields",
    "{} is out of range: {} to {}. Meaning: {}.": "{}은 범위를 벗어났습니다: {}부터 {}까지. 설명: {}.",
    "{} is not one of {}. Did you mean {}?": "{}은 쓸 수 없는 값입니다. 쓸 수 있는 값: {}. {}를 뜻하셨나요?", "{} is not one of {}.": "{}은 쓸 수 없는 값입니다. 쓸 수 있는 값: {}.",
    "{}={} is invalid. Meaning: {}.": "{}={}은 잘못된 값입니다. 설명: {}.",
    "{} must not be empty. Meaning: {}.": "{}은 비워 둘 수 없습니다. 설명: {}.", "{}={} is invalid: expected {}. Meaning: {}.": "{}={}은 잘못된 값입니다. 필요한 것: {}. 설명: {}.",
    "a whole number": "정수", "a number": "수", "true or false": "true나 false", "text": "글", "a list of whole numbers": "정수 목록",
    "a list of numbers": "수 목록", "a list of texts": "글 목록", "it is cut off: its last line should be '...'": "잘렸습니다. 마지막 줄이 '...'이어야 합니다",
    "{}: was {}, now {}": "{}: 이전 {}, 지금 {}",
    "There is no preset {}. Presets: {}.": "{}라는 프리셋은 없습니다. 있는 것: {}.",
    "{} must contain 'name: value' lines, but contains a {}.": "{}에는 '이름: 값' 줄이 있어야 하는데 {}이 들어 있습니다.",
    "There is no configuration file {}.": "설정 파일 {}이 없습니다.", "The configuration file {} cannot be read: {}.": "설정 파일 {}을 읽을 수 없습니다: {}.",
    "{} is not valid YAML: {}": "{}은 올바른 YAML이 아닙니다: {}", "{} is defined twice, the second time in line {}": "{}이 두 번 나옵니다. 두 번째는 {}행입니다",
    "save it in UTF-8": "UTF-8로 저장하세요",
    "aliases (*name) are not supported; write the value out": "별칭(*name)은 지원하지 않습니다. 값을 그대로 적으세요",
    "it is nested more than {} levels deep": "{}단계보다 깊습니다", "it contains more than {} values": "값이 {}개보다 많습니다",
    "--set {}: write it as name=value, for example --set num_epochs=3.": "--set {}: --set num_epochs=3처럼 이름=값으로 적으세요.",
    "A Config cannot be changed. Make a new one: config = config.replace({}={})":
        "Config는 바꿀 수 없습니다. 새로 만드세요: config = config.replace({}={})",
    "train_folds={}: the folds are 0 to {} (n_folds={}, use_kfold={}).":
        "train_folds={}: 폴드는 0부터 {}까지 있습니다(n_folds={}, use_kfold={}).",
    "lora_r=0 trains all weights, which is impossible with 4-bit weights: set quantization=none.":
        "lora_r=0은 모든 가중치를 학습하는데 4비트 가중치로는 할 수 없습니다. quantization=none으로 하세요.",
    "{}=true is a variant of LoRA, and lora_r=0 trains without LoRA: set lora_r to 8 or more.":
        "{}=true는 LoRA의 한 방식인데 lora_r=0이면 LoRA를 쓰지 않습니다. lora_r을 8 이상으로 하세요.",
    "train_orders={} needs shuffle_choices=true: without shuffling there is only one order.":
        "train_orders={}에는 shuffle_choices=true가 필요합니다. 섞지 않으면 순서가 하나뿐입니다.",
    "order_consistency compares several orders of a row: set train_orders to 2 or more, or order_consistency to 0.":
        "order_consistency는 한 행의 여러 순서를 비교합니다. train_orders를 2 이상으로 하거나 order_consistency를 0으로 하세요.",
    "user_prompt must contain {question} and {options}.": "user_prompt에는 {question}과 {options}가 있어야 합니다.",
    "{} contains unknown placeholders {}. Available: question, options, letters, hint.":
        "{}에 모르는 자리표시자 {}가 있습니다. 쓸 수 있는 것: question, options, letters, hint.",
    "template_arguments={}: write name=value, for example enable_thinking=true.":
        "template_arguments={}: enable_thinking=true처럼 이름=값으로 적으세요.",
    "run_name={} cannot be a folder name: {}.": "run_name={}은 폴더 이름으로 쓸 수 없습니다: {}.",
    "use letters, digits, '-', '_' and '.', at most 200 bytes": "글자, 숫자, '-', '_', '.'을 200바이트까지 쓰세요",
    "time_budget={} is not a length of time. Write 8h30m, 45m or 90s.": "time_budget={}은 시간이 아닙니다. 8h30m, 45m, 90s처럼 적으세요.",
    "{}={}: the home folder {} is unknown. Write the full path.": "{}={}: 홈 폴더 {}를 알 수 없습니다. 전체 경로를 적으세요.",
    "file of {} {}; at most {} are read": "{} {} 크기의 파일입니다. {}까지만 읽습니다",
    "a folder, not a file": "파일이 아니라 폴더입니다", "The settings of the run {} are read from its config.yaml: omit --config and --preset.":
        "실행 {}의 설정은 그 실행의 config.yaml에서 읽습니다. --config와 --preset을 빼세요.",
    "There is nothing to answer. Give --image, --question and --choices (once for each choice), or --data.":
        "답할 문제가 없습니다. --image, --question, --choices(보기마다 한 번씩)를 모두 주거나 --data를 주세요.",
    "One question needs {} too. For a table of questions, give --data instead.":
        "문제 하나에 답하려면 {}도 필요합니다. 문제가 표에 있으면 그 대신 --data를 주세요.",
    "Give either --data or one question ({}), not both.": "--data와 문제 하나({}) 중 하나만 주세요.",
    "{} runs in a single process: start it without a launcher.": "{}은 프로세스 하나로 실행합니다. torchrun이나 accelerate launch 없이 시작하세요.",
    "a second model for the ensemble, {}: steps 5 to 8 once more, for one fold at {} pixels":
        "앙상블에 넣을 두 번째 모델 {}: 5~8단계를 폴드 하나, {} 픽셀로 다시 합니다",
    "gain of each technique on the test rows (accuracies in the report are out of fold, on training rows)":
        "테스트 행에서 잰 기법별 향상 폭(보고서의 정확도는 학습 행의 OOF 정확도입니다)",
    # %% data that cannot be used
    "--data FOLDER (in Python: data_dir)": "--data 폴더(파이썬에서는 data_dir)",
    "There is no {}. Expected: a folder (or .zip) with train.csv, test.csv and photographs. Name it with {}.":
        "{}이 없습니다. train.csv, test.csv, 사진이 든 폴더나 .zip이어야 합니다. {}로 알려 주세요.",
    "There is no train.csv or test.csv in {}, nor in the folders or a .zip in it{}":
        "{}과 그 안의 폴더나 .zip에 train.csv도 test.csv도 없습니다{}",
    "{} holds several archives and no train.csv:{}\nName the one that holds all tables with --data FILE (in Python: data_dir), or unpack those "
    "with train.csv and test.csv there.": "{}에 압축 파일이 여러 개 있고 train.csv가 없습니다:{}\n표가 모두 든 것을 --data 파일로 알려 주거나, "
    "train.csv와 test.csv가 든 압축 파일을 거기에 푸세요.",
    "{} is neither a folder nor a .zip archive. {}": "{}은 폴더도 .zip도 아닙니다. {}",
    "{} is neither a table nor a .zip archive.": "{}은 표도 .zip도 아닙니다.",
    "{} is refused: its entry {} points outside the archive's folder.": "{}을 거부했습니다: 항목 {}이 압축 파일의 폴더 밖을 가리킵니다.",
    "{} is refused: its entry {} is a link or a special file.": "{}을 거부했습니다: 항목 {}은 링크나 특수 파일입니다.",
    "{} is encrypted. Unpack it by hand and name the folder.": "{}은 암호가 걸려 있습니다. 직접 압축을 풀고 그 폴더를 알려 주세요.",
    "{} is refused: {} MB would unpack to {} MB, more than {} times as much. Unpack it by hand if you trust it.":
        "{}을 거부했습니다: {} MB가 {} MB가 되어 {}배가 넘습니다. 믿을 수 있는 파일이라면 직접 압축을 푸세요.",
    "{} needs {} GB in {}; {} GB are free.": "{0}을 풀려면 {2}에 {1} GB가 필요한데 {3} GB가 남았습니다.",
    "{} cannot be unpacked: {}. Is it a complete .zip? Download it again.": "{}을 풀 수 없습니다: {}. .zip이 온전한가요? 다시 내려받으세요.",
    "{} has no rows below its header ({}).": "{}에 머리글({}) 아래 행이 없습니다.", "{} has no rows.": "{}에 행이 없습니다.", "{} is empty.": "{}이 비어 있습니다.",
    "{} has the columns {}; {}: {}.": "{}의 열은 {}입니다. {}: {}.", "There is no file {}.": "파일 {}이 없습니다.",
    "{} cannot be read: {}.": "{}을 읽을 수 없습니다: {}.", "{} cannot be read ({})": "{}을 읽을 수 없습니다({})",
    "{}. Save it again as 'CSV UTF-8'.": "{}. 'CSV UTF-8'로 다시 저장하세요.",
    "{} is {} that is cut off or damaged. Copy it again, or save it as 'CSV UTF-8'.":
        "{}은 잘렸거나 손상된 {}입니다. 다시 복사하거나 'CSV UTF-8'로 저장하세요.",
    "{}: the row that begins in line {} is broken ({}). A text with quotes in it must be written as \"he said \"\"yes\"\" to me\", and "
    "every quote must be closed.": "{}: {}번째 줄에서 시작하는 행이 깨졌습니다({}). 따옴표가 든 글은 \"he said \"\"yes\"\" to me\"처럼 "
    "적고, 따옴표는 모두 닫아야 합니다.",
    "{} is not JSON: {}. Expected: a list of objects, or one object a line.": "{}은 JSON이 아닙니다: {}. 객체의 목록이거나 한 줄에 객체 하나여야 합니다.",
    "{} is UTF-8 with a damaged character in line {}. Copy it again.": "{}은 UTF-8인데 {}번째 줄의 글자가 손상되었습니다. 다시 복사하세요.",
    "{} has no answers ({}). Name their column with --set answer_column=NAME.{}":
        "{}에 정답이 없습니다({}). --set answer_column=이름으로 정답 열을 알려 주세요.{}",
    "{} has no column {} ({}_column); its columns are {}.": "{}에 열 {}({}_column)이 없습니다. 있는 열: {}.",
    "{} has no {} column; its columns are {}. Name it with --set {}_column=NAME{}.":
        "{}에 {} 열이 없습니다. 있는 열: {}. --set {}_column=이름으로 알려 주세요{}.",
    "{} has no choice columns (a, b, ... or choice1, choice2, ...); its columns are {}.{}":
        "{}에 보기 열(a, b, ... 또는 choice1, choice2, ...)이 없습니다. 있는 열: {}.{}",
    "{}: several columns could be the choices: {}. Keep one set, named a, b, c, ...":
        "{}: 보기 열이 될 수 있는 것이 여럿입니다: {}. 한 벌만 남기고 a, b, c, ...로 이름을 붙이세요.",
    "{}: several columns could be the {}: {}. Choose with --set {}_column=NAME.":
        "{}: {} 열이 될 수 있는 것이 여럿입니다: {}. --set {}_column=이름으로 고르세요.",
    "{} has {} choice columns; at most {} are supported.": "{}에 보기 열이 {}개 있습니다. {}개까지 쓸 수 있습니다.",
    "{}: a choice column is missing between {} and {}.": "{}: {}와 {} 사이의 보기 열이 없습니다.",
    "{}: {} of {} answers could not be interpreted.\n  {}\nState what they mean with --set answer_style={}, name their column with --set answer_column=NAME, or write them as letters (a, b, c, d).": "{0}: 정답 {2}개 중 {1}개를 해석하지 못했습니다.\n  {3}\n--set answer_style={4}로 뜻을 알려 주거나, --set answer_column=이름으로 정답 열을 알려 주거나, 정답을 a, b, c, d 글자로 적으세요.",
    "{}, row {}, {}: the id {} contains a NUL or a carriage return, which a submission cannot. Write the id without it.":
        "{}, {}행, {}: id {}에 NUL이나 캐리지 리턴이 있어 제출 파일에 쓸 수 없습니다. 빼고 적으세요.",
    "The photograph in the image cell of the row {} is incomplete ({}). Excel cuts cells after 32,767 characters: keep photographs in files, and their paths in the table.": "{}행 이미지 셀의 사진이 온전하지 않습니다({}). 엑셀은 32,767자 뒤를 자릅니다. 사진은 파일로 두고 "
    "표에는 경로를 적으세요.",
    "{} needs {} to be read: pip install {}. Or save it as 'CSV UTF-8'.": "{}을 읽으려면 {}이 필요합니다: pip install {}. 또는 'CSV UTF-8'로 저장하세요.",
    "{} cannot be read as {}: {}": "{}을 {}로 읽을 수 없습니다: {}",
    "{} folds need at least {} groups of different images; rows to validate with: {}, in {}. Use more rows or a smaller n_folds.":
        "{}폴드에는 서로 다른 사진의 묶음이 적어도 {}개 필요합니다. 검증할 행: {}, {}. 행을 늘리거나 n_folds를 줄이세요.",
    "validate_on={}: no answered row comes from this source. Sources: {}; rows of dev.csv are read with use_dev=true.":
        "validate_on={}: 이 파일에서 온 정답 있는 행이 없습니다. 있는 것: {}. dev.csv의 행은 use_dev=true로 읽습니다.",
    "{} has nothing to train on: {}.": "{}에 학습할 것이 없습니다: {}.", "no answer could be interpreted": "정답을 하나도 해석하지 못했습니다",
    "{} has {} more than once, first {}: each test row needs a unique id.": "{}에 {}가 두 번 이상 나옵니다. 예: {}. 테스트 행마다 id가 달라야 합니다.",
    "The run {} was trained on different data: {} training rows of {}, now {} of {} (rows, answers or photographs changed).{}\n{}":
        "실행 {0}은 다른 데이터로 학습했습니다: {2}의 학습 {1}행, 지금은 {4}의 {3}행(행, 정답, 사진이 바뀌었습니다).{5}\n{6}",
    "{} of {} {} photographs cannot be read, for example {}: {}\nThey are looked for in {} and its folders. Put them there (or unpack "
    "the archive they came in) and run the same command again.{}": "{2} 사진 {1}장 중 {0}장을 읽을 수 없습니다. 예: {3}: {4}\n{5}과 그 아래 "
    "폴더에서 찾습니다. 사진을 거기에 두고(압축 파일이면 풀고) 같은 명령을 다시 실행하세요.{6}",
    "{} of {} photographs of {} cannot be read, for example {}: {}. They are looked for in {} and its folders.":
        "{2}의 사진 {1}장 중 {0}장을 읽을 수 없습니다. 예: {3}: {4}. {5}과 그 아래 폴더에서 찾습니다.",
    "no such file": "그런 파일이 없습니다", "Until then {} holds the answers of the text-only prior{}.": "그때까지 {}에는 텍스트 전용 모델의 답이 있습니다{}.",
    "None of the training photographs can be read, so there is nothing to split: mcvqa check lists them.":
        "학습 사진을 하나도 읽을 수 없어 나눌 것이 없습니다. mcvqa check로 어떤 것인지 볼 수 있습니다.",
    "Fold {} has no answered row to validate with. Use more rows or a smaller n_folds.":
        "폴드 {}에 검증할 정답 있는 행이 없습니다. 행을 늘리거나 n_folds를 줄이세요.",
    "{} contains {} made by a person and is not overwritten. Choose another --out.": "{}에 사람이 내린 {}이 있어 덮어쓰지 않습니다. --out에 다른 이름을 주세요.",
    "{} has no column {}; its columns are {}. Expected: {}, as `mcvqa audit RUN` writes them.":
        "{}에 열 {}이 없습니다. 있는 열: {}. `mcvqa audit RUN`이 쓰는 {}이어야 합니다.",
    "{} does not match the data; nothing was applied:\n  {}{}": "{}이 데이터와 맞지 않아 아무것도 적용하지 않았습니다:\n  {}{}",
    "{}: {}; {} more of this kind (mcvqa eda lists them all)": "{}: {}. 같은 종류가 {}개 더 있습니다(mcvqa eda가 모두 보여 줍니다)",
    # %% weights of rows, pseudo labels, other runs
    "row_weights={}: all weights are 0, so there is nothing to learn from.": "row_weights={}: 가중치가 모두 0이라 학습할 것이 없습니다.",
    "row_weights={}: there is no such file. Write votes, confidence, or a file with id and weight.":
        "row_weights={}: 그런 파일이 없습니다. votes, confidence, 또는 id와 weight가 든 파일을 적으세요.",
    "row_weights: {} has no {}; its columns are {}.": "row_weights: {}에 {}이 없습니다. 있는 열: {}.",
    "row_weights=votes: no training row has votes. Omit it, or name a file with id and weight.":
        "row_weights=votes: 표(votes)가 있는 학습 행이 없습니다. 빼거나, id와 weight가 든 파일을 적으세요.",
    "{}={} names this run itself. Choose another run_name for this run.": "{}={}은 이 실행 자신을 가리킵니다. 이 실행의 run_name을 바꾸세요.",
    "{}: the run {} was trained on other rows, labels or photographs, so its models may have been trained on rows that this run validates on. Train it with {} as this run.{}": "{}: 실행 {}은 다른 행, 정답, 사진으로 학습해서 이 실행이 검증에 쓰는 행을 학습했을 수 있습니다. 이 실행과 {}로 학습하세요.{}",
    "Now they differ in {}.": "지금은 {}이 서로 다릅니다.",
    "{}: {} not of rows that are trained on, such as {}: not used": "{}: {}는 학습하는 행의 것이 아니라 쓰지 않습니다. 예: {}",
    "{} id is": "id {}개", "{} ids are": "id {}개",
    "{}: {} is not a number of at least 0.": "{}: {}은 0 이상의 수가 아닙니다.",
    "{}: {}, but an earlier row with this id has {}. Give both one weight, or name them apart in a file, row_weights=FILE: {}, {}#2.":
        "{}: {}인데 같은 id의 앞 행은 {}입니다. 두 행에 같은 가중치를 주거나, 파일에서 두 행을 나눠 적으세요(row_weights=FILE): {}, {}#2.",
    "{}: the folds of the run {} are unknown ({}): run it again.": "{}: 실행 {}의 폴드를 알 수 없습니다({}). 다시 실행하세요.",
    "pseudo: there is no test.csv, so there are no rows without labels.": "pseudo: test.csv가 없어 정답 없는 행이 없습니다.",
    "pseudo={}: no test row qualifies. The most probable answer has a probability of {} (an answer without one counts as {}), but pseudo_min is {}: lower it.": "pseudo={}: 조건에 맞는 테스트 행이 없습니다. 가장 확실한 답의 확률이 {}인데(확률이 없는 답은 {}로 칩니다) pseudo_min은 {}입니다. 낮추세요.",
    "pseudo={}: there is no such file.": "pseudo={}: 그런 파일이 없습니다.", "pseudo: {}": "pseudo: {}",
    "pseudo: the run {} has no test scores of fold {}: finish it first.": "pseudo: 실행 {}에 폴드 {}의 테스트 점수가 없습니다. 먼저 실행을 마치세요.",
    "pseudo: {} has answers to {}, such as {}: remove them.": "pseudo: {}에 {}의 답이 있습니다. 예: {}. 빼세요.",
    "{}: row {} is in fold {} here but in fold {} of the run {}, whose models may therefore have been trained on rows that this run validates on. Give both runs {}.": "{0}: {1}행은 여기서 폴드 {2}, 실행 {4}에서 폴드 {3}에 있어, 그 모델이 이 실행의 검증 행을 학습했을 수 있습니다. 두 실행을 {5}로 학습하세요.",
    "{}: the run {} has no scores of its current weights: finish it first (mcvqa run).":
        "{}: 실행 {}에 지금 가중치의 점수가 없습니다. 먼저 실행을 마치세요(mcvqa run).",
    "{}: the run {} has no {}: finish it first (mcvqa run).": "{}: 실행 {}에 {}이 없습니다. 먼저 실행을 마치세요(mcvqa run).",
    "{}: the run {} answered other test rows ({}): questions, choices or photographs differ. Score it on these (mcvqa predict {} --data "
    "{}), or omit it.": "{}: 실행 {}은 다른 테스트 행({})에 답했습니다(질문, 보기, 사진이 다름). 이 행으로 채점하거나"
    "(mcvqa predict {} --data {}) 빼세요.",
    "{}: {} is damaged, so the data of the run {} are unknown.": "{}: {}이 손상되어 실행 {}의 데이터를 알 수 없습니다.",
    "There is no run {}: {} is missing. {} Give its name or the path of experiments/<run>.":
        "실행 {}이 없습니다({}이 없음). {} 이름이나 experiments/<run> 경로를 적으세요.",
    "Runs in this folder: {}.": "이 폴더의 실행: {}.", "There are no runs here yet.": "여기에는 아직 실행이 없습니다.",
    "There is no run {}: {} is missing. mcvqa experiments lists the runs.": "실행 {}이 없습니다: {}이 없습니다. mcvqa experiments로 목록을 볼 수 있습니다.",
    "The run {} has no scores: finish it first (mcvqa run).": "실행 {}에 점수가 없습니다. 먼저 실행을 마치세요(mcvqa run).",
    "members: names must be distinct ({}). Rename a file.": "members: 이름이 서로 달라야 합니다({}). 파일 이름을 바꾸세요.",
    "members: {} does not exist. Name 'prior', a prediction file (.csv) or a run in this folder.":
        "members: {}이 없습니다. 'prior', 예측 파일(.csv), 또는 이 폴더의 실행을 적으세요.",
    "The run {} cannot be compared with itself: name two runs.": "실행 {}을 자기 자신과 비교할 수 없습니다. 실행 둘을 적으세요.",
    "There is no fold {}: the settings have folds {}.": "폴드 {}이 없습니다. 설정에는 폴드 {}이 있습니다.",
    "There is no fold {}: the run has folds {}.": "폴드 {}이 없습니다. 실행에는 폴드 {}이 있습니다.",
    "Fold {} of the run {} is not trained: finish it (mcvqa run){}.": "실행 {1}의 폴드 {0}을 아직 학습하지 않았습니다. 실행을 마치세요(mcvqa run){2}.",
    "Fold {} of the run {} {}. Score it first, with the settings given here: mcvqa predict {}":
        "실행 {1}의 폴드 {0}: {2}. 먼저 이 설정으로 채점하세요: mcvqa predict {3}",
    "The weights of fold {} in {} are unfinished or belong to other settings, rows or code: train first (mcvqa train).":
        "{1}에 있는 폴드 {0}의 가중치는 끝나지 않았거나 설정, 행, 코드가 다릅니다. 먼저 학습하세요(mcvqa train).",
    "Within the time budget of {} no fold was trained and scored{}. {}Run the same command again to continue. To speed it up: a smaller image_size, use_sample=true, a GPU.": "시간 예산 {} 안에 학습하고 채점한 폴드가 없습니다{}. {}같은 명령을 다시 실행하면 이어서 합니다. "
    "더 빠르게 하려면 image_size를 줄이거나, use_sample=true로 하거나, GPU를 쓰세요.",
    "The time budget of {} ended during the ensemble or the report. {}mcvqa report {} finishes it.":
        "앙상블이나 보고서를 만드는 동안 시간 예산 {}이 끝났습니다. {}mcvqa report {}로 마칠 수 있습니다.",
    "resume_from={} holds no checkpoints/{}. It has the runs {}: use the settings that one of them was trained with.":
        "resume_from={}에 checkpoints/{}이 없습니다. 실행 {}이 있으니 그 가운데 하나를 학습한 설정을 주세요.",
    "resume_from={} holds no checkpoints/{}. Name the folder that an earlier session wrote to: the one with checkpoints/, experiments/ "
    "and logs/ in it.": "resume_from={}에 checkpoints/{}이 없습니다. 이전 세션이 쓴 폴더(checkpoints/, experiments/, logs/가 든 것)를 적으세요.",
    "Fold {} of the run {} {}. mcvqa does not overwrite it: restore what changed, delete {} to train it again, or choose "
    "another name (--set run_name=...).": "실행 {1}의 폴드 {0}: {2}. 덮어쓰지 않았습니다. 바뀐 것을 되돌리거나, 다시 학습하려면 {3}을 "
    "지우거나, 다른 이름을 고르세요(--set run_name=...).",
    "A worker on {} has read other rows or photographs in {} than this run began with: they changed, or are other copies. Make them the "
    "same and run again.": "{}의 작업 프로세스가 {}에서 읽은 행이나 사진이 이 실행이 시작할 때와 다릅니다. 그사이 바뀌었거나 "
    "사본이 다릅니다. 같게 맞추고 다시 실행하세요.",
    "Fold {} was trained by version 0.1 with other settings or data, or its weights are damaged. mcvqa does not overwrite it: delete "
    "{} and {} to train it again, or choose another name (--set run_name=...).": "폴드 {}은 0.1 버전이 다른 설정이나 데이터로 학습했거나 "
    "가중치가 손상되었습니다. 덮어쓰지 않았습니다. 다시 학습하려면 {}과 {}을 지우고, 아니면 다른 이름을 고르세요(--set run_name=...).",
    "is trained, but {} is missing or damaged, so with what is not known":
        "학습되어 있지만 {}이 없거나 손상되어 무엇으로 학습했는지 알 수 없습니다",
    "is trained, but with other settings, rows, other runs' answers or another version of mcvqa":
        "학습되어 있지만 설정, 행, 다른 실행의 답, mcvqa 버전 가운데 무엇이 다릅니다",
    "is trained, but {} changed afterwards": "학습되어 있지만 {}이 그 뒤에 바뀌었습니다",
    "{} is damaged or missing ({}): delete {} and train this fold again.": "{}이 손상되었거나 없습니다({}). {}을 지우고 이 폴드를 다시 학습하세요.",
    "{} is damaged or missing: delete {} and train this fold again.": "{}이 손상되었거나 없습니다. {}을 지우고 이 폴드를 다시 학습하세요.",
    "There is no checkpoint in {}: train first (mcvqa train).": "{}에 체크포인트가 없습니다. 먼저 학습하세요(mcvqa train).",
    "{} could not be written: {}. Free some space (cache/ may be deleted) or reconnect the disk, then run the same command again":
        "{}을 쓰지 못했습니다: {}. 공간을 비우거나(cache/는 지워도 됩니다) 디스크를 다시 연결하고 같은 명령을 다시 실행하세요",
    "{} has {} GiB free; training needs {}: {}.\nFree some space (cache/ may be deleted), train fewer folds (--set train_folds=0) or use a smaller lora_r, or choose another folder: --set output_dir=FOLDER.": "{}에 {} GiB가 남았는데 학습에는 {}가 필요합니다: {}.\n"
    "공간을 비우거나(cache/는 지워도 됩니다) 폴드를 줄이거나(--set train_folds=0) lora_r을 줄이거나, 다른 폴더를 고르세요: --set output_dir=FOLDER.",
    "{} was ended by {}. Its full output: {}": "{}이 {}로 끝났습니다. 자세한 출력: {}",
    # %% predictions and submissions
    "There is nothing to combine: no member has been scored yet.": "합칠 것이 없습니다. 아직 아무것도 채점하지 않았습니다.",
    "{} has duplicate rows: {}.": "{}에 중복된 행이 있습니다: {}.", "{} has no scores for {}.": "{}에 {}의 점수가 없습니다.",
    "{} has a different number of choices than {}: {}.": "{}은 {}과 보기 수가 다릅니다: {}.",
    "{} has no usable log-probabilities (NaN or infinite): {}.": "{}에 쓸 수 있는 로그 확률이 없습니다(NaN이나 무한대): {}.",
    "{} has no prediction for {}.": "{}에 {}의 예측이 없습니다.",
    "{} contains none of the test ids; its columns are {}.": "{}에 테스트 id가 하나도 없습니다. 있는 열: {}.",
    "{}: it is not clear which column holds the answers. Name it 'answer', or give probabilities in columns a, b, c, ... Its columns are {}.":
        "{}: 답이 든 열을 알 수 없습니다. 'answer'로 이름을 붙이거나 a, b, c, ... 열에 확률을 주세요. 있는 열: {}.",
    "{}: probabilities must be 0 or more and sum to 1 over a row's choices; they are not in {}.":
        "{}: 확률은 0 이상이고 한 행의 보기에서 더해 1이어야 하는데 {}에서 그렇지 않습니다.",
    "{}: no answer could be parsed, the first is {}. Expected letters, choice texts or sentences.":
        "{}: 해석할 수 있는 답이 없습니다. 예: {}. 글자, 보기의 글, 또는 문장이어야 합니다.",
    "Neither sample_submission.csv nor train.csv shows how to write the answers of the submission. Choose with --set submission_style={}.":
        "sample_submission.csv에도 train.csv에도 답을 적는 방식이 없습니다. --set submission_style={}로 고르세요.",
    "{}: {} for {}.": "{0}: {2}인데 {1}입니다.", "{} was not written: {}": "{}을 쓰지 않았습니다: {}",
    "The file begins with a byte order mark; save it as UTF-8 without BOM.": "파일이 바이트 순서 표식(BOM)으로 시작합니다. BOM 없는 UTF-8로 저장하세요.",
    "The file is not a CSV table in UTF-8: {}.": "파일이 UTF-8 CSV가 아닙니다: {}.",
    # %% the device
    "device={} is not available here. Use --set device=auto, or switch on a GPU (Kaggle: Settings > Accelerator > GPU T4; Colab: Runtime "
    "> Change runtime type > T4).": "device={}을 여기서 쓸 수 없습니다. --set device=auto로 하거나 GPU를 켜세요(캐글: Settings > Accelerator > "
    "GPU T4, 코랩: 런타임 > 런타임 유형 변경 > T4).",
    "4-bit weights ({}) need bitsandbytes: pip install bitsandbytes. Or do without: --set quantization=none.":
        "4비트 가중치({})에는 bitsandbytes가 필요합니다: pip install bitsandbytes. 없이 하려면: --set quantization=none.",
    "gpu_profile=t4 simulates a T4 on another NVIDIA GPU, but this run computes on {}: --set gpu_profile=own.":
        "gpu_profile=t4는 다른 NVIDIA GPU로 T4를 흉내 내는데 이 실행은 {}에서 계산합니다: --set gpu_profile=own.",
    "{} cannot run this build of torch ({}). On Kaggle choose 'GPU T4 x2' instead of P100.":
        "{}에서 이 torch를 실행할 수 없습니다({}). 캐글에서는 P100 대신 'GPU T4 x2'를 고르세요.",
    "{} processes need {} GPUs, but there are {}: start one process per GPU.":
        "프로세스 {}개에는 GPU {}개가 필요한데 {}개가 있습니다. GPU마다 프로세스 하나를 시작하세요.",
    "The processes of this program are already set up to compute on {}: start this run in a separate program.": "프로세스들이 이미 {}에서 계산하도록 묶여 있습니다. 이 실행은 별도의 프로그램으로 시작하세요.",
    # %% the model
    "The model {} could not be loaded: {}\n{}": "모델 {}을 불러오지 못했습니다: {}\n{}",
    "Expected a hub name such as Qwen/Qwen2.5-VL-3B-Instruct (with internet access), a folder with config.json, tokenizer and weights, or 'tiny'.":
        "Qwen/Qwen2.5-VL-3B-Instruct 같은 허브의 이름(인터넷을 켜고), config.json·토크나이저·가중치가 든 폴더, 또는 'tiny'여야 합니다.",
    "{} is not downloaded yet and {} cannot be reached ({}): turn on internet access, or set model_id to a folder that holds the model":
        "{}을 아직 내려받지 않았고 {}에 연결할 수 없습니다({}). 인터넷을 켜거나 model_id에 모델이 든 폴더를 적으세요",
    "revision={} applies to models on the hub, but {} is not one.": "revision={}은 허브의 모델에 쓰는데 {}은 허브의 모델이 아닙니다.",
    "model_id={} is a file. Set it to the folder that holds the model's files, unpacked.":
        "model_id={}은 파일입니다. 압축을 푼 모델 파일이 든 폴더를 적으세요.",
    "{} is not a folder with a config.json{}.\n{}": "{}는 config.json이 든 폴더가 아닙니다{}.\n{}", "; there is one in {}": ". {}에는 있습니다",
    "{} holds adapters ({}), not a model. Set model_id to the model they were made for{}, and start_from to this folder to continue training them.":
        "{}에는 모델이 아니라 어댑터({})가 있습니다. 이어서 학습하려면 start_from에 이 폴더를 적고 model_id에는 그 어댑터의 모델을 적으세요{}.",
    "{} is not a vision-language model: transformers {} does not list its type, {}, among the image-and-text models (AutoModelForImageTextToText). Set model_id to another model.": "{}은 비전 언어 모델이 아닙니다: transformers {}의 이미지·글 모델(AutoModelForImageTextToText)에 {} 유형이 없습니다. model_id에 다른 모델을 적으세요.",
    "The weights in {} do not match its config.json: {}.\nParts of the model would be random. Copy or download the whole folder again, or set model_id to another model.": "{}의 가중치가 config.json과 다릅니다: {}.\n모델의 일부가 무작위가 됩니다. 폴더를 모두 다시 "
    "복사하거나 내려받거나, model_id에 다른 모델을 적으세요.",
    "config.json of {} declares {} weights (quantization_config), but the weights in its files are not quantized. Remove "
    "quantization_config from config.json.":
        "{}의 config.json은 가중치가 {}라고 하지만(quantization_config) 파일의 가중치는 양자화되어 있지 않습니다. config.json에서 quantization_config를 "
        "지우세요.",
    "{} lacks {} of its {} weights, first {}. Copy or download the whole folder again, or set model_id to another model.":
        "{}에 {} 없습니다({} 가중치). 먼저 {}. 폴더 전체를 다시 복사하거나 내려받거나, model_id에 다른 모델을 적으세요.",
    "{} has experts in 4 bits, first {}, which the library cannot read. Set model_id to the original model, with quantization=4bit: its "
    "experts are then quantized while it is loaded.": "{}에 4비트 전문가(expert)가 있는데 라이브러리가 읽지 못합니다. 예: {}. model_id에 원래 "
    "모델을 적고 quantization=4bit로 두세요. 그러면 읽어 들이면서 전문가를 양자화합니다.",
    "{} has no weights: expected {}, or {} and the files that it lists.": "{}에 가중치가 없습니다. {}, 또는 {}과 거기 적힌 파일이 있어야 합니다.",
    "{} is missing {} of {} weight files, first {}: copy or download the whole folder.":
        "{0}에 가중치 파일 {2}개 중 {1}개가 없습니다. 예: {3}. 폴더를 모두 복사하거나 내려받으세요.",
    "{} has no tokenizer ({}): copy or download the whole folder.": "{}에 토크나이저({})가 없습니다. 폴더를 모두 복사하거나 내려받으세요.",
    "{} is damaged ({}): copy or download it again.": "{}이 손상되었습니다({}). 다시 복사하거나 내려받으세요.",
    "{} is a named pipe, not a file: reading it might never end.": "{}은 파일이 아니라 명명된 파이프(named pipe)입니다. 읽기가 끝나지 않을 수 있습니다.",
    "{} is cut off or damaged ({}): copy or download it again.": "{}이 잘렸거나 손상되었습니다({}). 다시 복사하거나 내려받으세요.",
    "{} is gated: accept its terms at {}/{}, create a token at {}/settings/tokens and set it as the environment variable HF_TOKEN (on Kaggle: Add-ons, Secrets).": "{}은 승인이 필요한 모델입니다. {}/{}에서 약관에 동의하고 {}/settings/tokens에서 토큰을 만들어 환경 변수 HF_TOKEN에 "
    "넣으세요(캐글: Add-ons, Secrets).",
    "{} has no revision={} on the hub.": "허브의 {}에 revision={}이 없습니다.",
    "There is no model {} on the hub, or it is private: check its name; if it is yours, set HF_TOKEN.":
        "허브에 모델 {}이 없거나 비공개입니다. 이름을 확인하고, 자신의 것이면 HF_TOKEN을 설정하세요.",
    "{} refuses {}: {}": "{}이 {}을 거부했습니다: {}",
    "The language model of {} has no linear layers {}; it has {}. Set target_modules to some of them, or to all-linear.{}":
        "{}의 언어 모델에 선형 레이어 {}이 없습니다. 있는 것: {}. target_modules에 그 가운데 일부나 all-linear를 적으세요.{}",
    "Its experts are named experts.": "전문가(expert)는 experts로 적습니다.",
    "target_modules: {} has no experts that can get adapters. Leave experts out of target_modules.":
        "target_modules: {}에는 어댑터를 붙일 수 있는 전문가(expert)가 없습니다. target_modules에서 experts를 빼세요.",
    "target_modules: adapters on experts need peft 0.21 or newer; {} is installed. Fix: pip install -U peft.":
        "target_modules: 전문가(expert)에 어댑터를 붙이려면 peft 0.21 이상이 필요한데 {}이 설치되어 있습니다. 해결: pip install -U peft.",
    "target_modules contains experts, whose adapters have neither dropout nor DoRA: set lora_dropout=0 and use_dora=false.":
        "target_modules에 experts가 있는데 전문가(expert)의 어댑터에는 드롭아웃도 DoRA도 쓸 수 없습니다. lora_dropout=0, use_dora=false로 하세요.",
    "lora_vision=true does not work with models of type {}, only with Qwen2-VL, Qwen2.5-VL and Qwen3-VL: set lora_vision=false.":
        "lora_vision=true는 {} 유형에서 되지 않고 Qwen2-VL, Qwen2.5-VL, Qwen3-VL에서만 됩니다. lora_vision=false로 하세요.",
    "Models of type {} cannot be trained here: their language model ({}) is not a stack of layers with linear projections. Models of type {}, and most others, can.": "{} 유형의 모델은 학습할 수 없습니다: 언어 모델({})이 선형 프로젝션으로 된 레이어를 쌓은 구조가 아닙니다. {} 유형과 다른 대부분은 "
    "학습할 수 있습니다.",
    "The model's answers to the questions {} are not finite numbers: {}. Try --set precision=float32, or bfloat16 on a newer GPU.":
        "질문 {}에 대한 모델의 답이 유한한 수가 아닙니다: {}. --set precision=float32로, 최신 GPU라면 bfloat16으로 해 보세요.",
    "values are not finite in float32 either (are the weights damaged?)": "float32에서도 값이 유한하지 않습니다(가중치가 손상되었나요?)",
    "transformers {} computes wrong image positions (5.4.0 to 5.5.3 do). Fix: pip install 'transformers>=5.5.4' and restart.":
        "transformers {}는 이미지 위치를 잘못 계산합니다(5.4.0~5.5.3). pip install 'transformers>=5.5.4'를 하고 다시 시작하세요.",
    "{} has no chat template (chat_template.jinja): copy or download the whole folder.":
        "{}에 채팅 템플릿(chat_template.jinja)이 없습니다. 폴더를 모두 복사하거나 내려받으세요.",
    "{} has no processor with a chat template for images, so it is not a chat model that sees pictures. Look for a variant whose name ends in Instruct, chat or it.": "{}에 이미지용 채팅 템플릿이 든 프로세서가 없어 사진을 보는 채팅 모델이 아닙니다. 이름이 Instruct, chat, it로 끝나는 것을 찾아보세요.",
    "{} is of type {}: only adapters can be trained, and only with the configuration of the published models. Set lora_r to 8 or more.":
        "{}은 {} 유형입니다. 이 유형은 공개된 모델의 구성으로 어댑터만 학습할 수 있습니다. lora_r을 8 이상으로 하세요.",
    "{}: its config.json specifies an activation, dropout or rotary positions that the published models of type {} do not have and that mcvqa does not support.": "{}: config.json에 {} 유형의 공개된 모델에 없는 활성 함수, 드롭아웃, 회전 위치가 있으며 mcvqa는 이를 지원하지 않습니다.",
    "4-bit weights are not where they should be, for example {}. Set quantization=none.":
        "4비트 가중치가 있어야 할 레이어에 없거나 다른 레이어에 있습니다. 예: {}. quantization=none으로 하세요.",
    "{} has no safetensors weights. Other formats are not read, because loading them can run code.":
        "{}에 safetensors 가중치가 없습니다. 다른 형식은 읽을 때 코드를 실행할 수 있어 읽지 않습니다.",
    "quantization=4bit needs unquantized weights, but {} has {} weights, which are dequantized: set quantization=none, or model_id to the original model.": "quantization=4bit에는 양자화하지 않은 가중치가 필요한데 {}의 가중치는 {}라 풀어서 씁니다. quantization=none으로 하거나 model_id에 원래 모델을 적으세요.",
    "The processor of {} could not be loaded: {}\nMany processors need torchvision (in the version that matches torch), num2words or timm: pip install 'mcvqa[vlm]'.": "{}의 프로세서를 불러오지 못했습니다: {}\n프로세서에 따라 torchvision(torch에 맞는 버전), num2words, timm이 필요합니다: pip install 'mcvqa[vlm]'.",
    "The adapters in {} do not belong to this model: {} tensors differ or are missing, first {}. Delete the folder and train this fold again, or set model_id to the model that they were made for.": "{}의 어댑터는 이 모델의 것이 아닙니다: 텐서 {}개가 다르거나 없습니다. 예: {}. 폴더를 "
    "지우고 이 폴드를 다시 학습하거나, model_id에 그 어댑터의 모델을 적으세요.",
    "The image processor ({}) does not turn pictures into patches of {} pixels, {} x {} to a token, as Qwen's do. "
    "Is preprocessor_config.json the model's? Copy or download the folder again.":
        "이미지 프로세서({})가 사진을 Qwen의 것처럼 {}픽셀 패치로(토큰 하나에 {} x {}) 바꾸지 않습니다. preprocessor_config.json이 "
        "이 모델의 것인가요? 폴더를 다시 복사하거나 내려받으세요.",
    "{} pads on the left although it is asked to pad on the right.": "{}은 오른쪽 패딩을 지정해도 왼쪽에 패딩합니다.",
    "The letters have different tokens after a prompt with a picture and after one without.":
        "글자의 토큰이 사진이 있는 프롬프트 뒤와 없는 프롬프트 뒤에서 다릅니다.",
    "{} rejects a prompt {} a photograph: {}\nThe model must accept both kinds: test rows without a readable photograph are answered from their text.": "{}은 사진이 {} 프롬프트를 거부합니다: {}\n모델은 두 가지를 모두 받아야 합니다. 사진이 없는 테스트 행은 글만으로 묻습니다.",
    "with": "있는", "without": "없는",
    "The weights of {} are quantized by {} (quantization_config in config.json), which is for inference only. Set model_id to the original model, with quantization=4bit, or to a model in bitsandbytes 4-bit (-bnb-4bit).": "{}의 가중치는 {}으로 양자화되어 있어(config.json의 quantization_config) 추론에만 쓸 수 있습니다. quantization=4bit와 함께 model_id에 원래 모델을 적거나, bitsandbytes 4비트 모델(-bnb-4bit)을 적으세요.",
    "The prompt of question {} contains {} image placeholders instead of {}. The tokenizer's chat template does not match this model.":
        "질문 {0}의 프롬프트에 이미지 자리표시자가 {2}개가 아니라 {1}개 있습니다. 토크나이저의 채팅 템플릿이 이 모델과 맞지 않습니다.",
    "template_arguments: {} cannot be set; arguments of the chat template: {}.": "template_arguments: {}은 설정할 수 없습니다. 채팅 템플릿의 인수: {}.",
    "Two letters share a token: this tokenizer cannot tell the answers apart.": "두 글자의 토큰이 같아 이 토크나이저로는 답을 구별할 수 없습니다.",
    "The chat template is not a valid Jinja template: {}.": "채팅 템플릿이 올바른 Jinja 템플릿이 아닙니다: {}.",
    "{}\nThe prompt:\n{}\nIts conversation:\n{}": "{}\n프롬프트:\n{}\n대화:\n{}",
    "The text with the letter {} does not begin with the tokens of the prompt.": "글자 {}이 든 글이 프롬프트의 토큰으로 시작하지 않습니다.",
    "The letter {} is not a single token after the prompt.": "프롬프트 뒤에서 글자 {}이 토큰 하나가 아닙니다.",
    "The model's chat template rejects the conversation: {}\nIf it does not support system messages, move the instruction into user_prompt and set system_prompt= (empty): the message is then left out.": "모델의 채팅 템플릿이 대화를 거부합니다: {}\n시스템 메시지를 지원하지 않는 템플릿이라면 지시문을 user_prompt로 옮기고 system_prompt=로 비우세요. 그러면 시스템 메시지를 뺍니다.",
    "chat_template={} cannot be read ({}).": "chat_template={}을 읽을 수 없습니다({}).",
    "{} changed since the data was examined, first {}. Restore the originals, or run the same command again to use the new ones. If this message appears again, delete pictures-*.json in cache/ of the output folder.": "{}이 살펴본 뒤에 바뀌었습니다. 예: {}. 원래 것을 되돌려 놓거나, 새 것을 "
    "쓰려면 같은 명령을 다시 실행하세요. 이 메시지가 다시 나오면 출력 폴더의 cache/에서 pictures-*.json을 지우세요.",
    "{} has no finite features, not even in float32: the model's weights are damaged.":
        "{}의 특징이 float32에서도 유한하지 않습니다. 모델의 가중치가 손상되었습니다.",
    "gpus_per_model={}, and there {} {} for it here. Set it to auto or to fewer.":
        "gpus_per_model={0}인데 여기서 쓸 수 있는 것은 {2}입니다. auto나 더 작은 수로 하세요.",
    "{} GPU": "GPU {}개", "{} GPUs": "GPU {}개",
    "{} would have to be split across several GPUs (gpus_per_model={}), which {} does not support: only adapters on layers of the fast path can be trained that way. Use a smaller model, or set gpus_per_model=1.":
        "{}을 여러 GPU에 나누어야 하는데(gpus_per_model={}) {}로는 할 수 없습니다. 최적화된 경로의 레이어에 붙인 어댑터만 그렇게 학습합니다. 더 작은 모델을 쓰거나 gpus_per_model=1로 하세요.",
    "A model split across several GPUs (gpus_per_model) needs the fast layers, which these settings turn off: set use_dora=false, and lora_r to 8 or more.":
        "여러 GPU에 나눈 모델(gpus_per_model)에는 최적화된 레이어가 필요한데 이 설정에서는 쓰지 않습니다. use_dora=false로, lora_r을 8 이상으로 하세요.",
    "{} does not fit: its weights and the training state of its adapters take {} GiB, and each GPU needs {} GiB more to compute; there are {} GiB of memory (of which {} are used).{} Use more GPUs or a smaller model: nothing is offloaded to the CPU, where training would take days.":
        "{0}이 들어가지 않습니다: 가중치와 어댑터의 학습 상태가 {1} GiB이고 GPU마다 계산에 {2} GiB가 더 필요한데 메모리는 {3} GiB입니다(그중 {4}를 씁니다).{5} GPU를 늘리거나 더 작은 모델을 쓰세요. CPU로는 옮기지 않습니다. 며칠이 걸리기 때문입니다.",
    # %% starting from adapters
    "start_from: the adapters in {} do not fit model_id={}: {} tensors differ, first {}. Set model_id to the model that they were made for.":
        "start_from: {}의 어댑터가 model_id={}과 맞지 않습니다: 텐서 {}개가 다릅니다. 예: {}. model_id에 그 어댑터의 모델을 적으세요.",
    "{} adapters of {} were not loaded, first {}.": "{1}의 어댑터 {0}개를 불러오지 못했습니다. 예: {2}.",
    "start_from: {} holds adapters of type {}; training can only continue from LoRA.":
        "start_from: {}의 어댑터는 {} 종류입니다. LoRA에서만 이어 학습할 수 있습니다.",
    "start_from: {} has different ranks or scales in some layers ({}), which mcvqa does not support.":
        "start_from: {}의 일부 레이어({})는 랭크나 배율이 다른데 mcvqa는 이를 지원하지 않습니다.",
    "start_from: the adapters in {} have {}, the settings {}. The shape and scale of adapters cannot be changed: --set {}":
        "start_from: {}의 어댑터는 {}, 설정은 {}입니다. 어댑터의 모양과 배율은 바꿀 수 없습니다: --set {}",
    "start_from: the adapters in {} were made for {}, but model_id={}. Set model_id to that model. If it is the same model under another name, change base_model_name_or_path in {}.": "start_from: {}의 어댑터는 {}에 맞춘 것인데 model_id={}입니다. model_id에 그 모델을 적으세요. "
    "이름만 다른 같은 모델이면 {}의 base_model_name_or_path를 바꾸세요.",
    "start_from: the adapters in {} are on {}, the settings put them on {}. {}": "start_from: {}의 어댑터는 {}에 있는데 설정은 {}에 둡니다. {}",
    "start_from: the adapters in {} were trained on other weights than those of model_id={}. Set model_id to the model that they were "
    "made for.": "start_from: {}의 어댑터는 model_id={}과 다른 가중치에서 학습했습니다. model_id에 그 어댑터의 모델을 적으세요.",
    "start_from: {} is cut off or damaged ({}): copy it again.": "start_from: {}이 잘렸거나 손상되었습니다({}). 다시 복사하세요.",
    "start_from={} holds no adapters ({}). It is a whole model: set model_id to it.":
        "start_from={}에 어댑터({})가 없습니다. 온전한 모델이니 model_id에 적으세요.",
    "start_from={} holds no adapters ({}). Name an exported folder, or that of a trained fold or run.":
        "start_from={}에 어댑터({})가 없습니다. 내보낸 폴더나, 학습한 폴드나 실행의 폴더를 적으세요.",
    "start_from continues from adapters, but lora_r=0 trains all weights: to continue from such weights, set model_id to their folder.":
        "start_from은 어댑터에서 이어 학습하는데 lora_r=0은 가중치를 모두 학습합니다. 그런 가중치에서 이어서 하려면 model_id에 그 폴더를 적으세요.",
    "start_from={}: there is no such folder.": "start_from={}: 그런 폴더가 없습니다.",
    "start_from: {} has no {}. Other formats are not read, because loading them can run code.":
        "start_from: {}에 {}이 없습니다. 다른 형식은 읽을 때 코드를 실행할 수 있어 읽지 않습니다.",
    "augment= is a function of this process, which worker processes do not have: set executor=inline.":
        "augment=는 이 프로세스의 함수라 다른 프로세스에는 없습니다. executor=inline으로 하세요.",
    "The run {} started from {}, but would now continue from {}. {}": "실행 {}은 {}에서 시작했는데 {}에서 이어서 하게 됩니다. {}",
    "The run {} was trained with another augment=, or without one. {}": "실행 {}은 다른 augment=로, 또는 augment= 없이 학습했습니다. {}",
    "start_from={} belongs to the run itself. Name another run: --set run_name=...":
        "start_from={}은 이 실행 자신의 것입니다. 다른 이름을 주세요: --set run_name=...",
    "Fold {} of the run {} started from weights other than those now in {}. {}": "실행 {1}의 폴드 {0}은 지금 {2}에 있는 것과 다른 가중치에서 시작했습니다. {3}",
    "start_from={}: that run has no fold {}, which would start from it. Name one of its folds, such as {}, or train only the folds that it "
    "has: --set train_folds=0": "start_from={}: 그 실행에는 여기서 시작할 폴드 {}이 없습니다. {} 같은 폴드를 적거나, 있는 폴드만 학습하세요: "
    "--set train_folds=0",
    # %% answering new questions
    "There is no {}. Name a table (CSV, JSON, Parquet, Excel), a folder or a .zip with one.":
        "{}이 없습니다. 표(CSV, JSON, Parquet, Excel)나, 표가 든 폴더나 .zip을 적으세요.",
    "{} holds {}. Name the one to answer: --data FILE.": "{}에 {}가 있습니다. 답할 것을 적으세요: --data 파일.",
    "A question has 2 to {} choices, not {}: give each choice separately.": "보기는 2개부터 {}개까지인데 {}개입니다. 보기를 하나씩 주세요.",
    "Choice {} is empty.": "보기 {}가 비어 있습니다.",
    "--out and --submission are for a table of questions (--data). For one question: --json > FILE.":
        "--out과 --submission은 질문 표(--data)에 씁니다. 질문 하나는 --json > 파일로 저장하세요.",
    "The choices are a {}; a list of texts is expected.": "보기가 {}입니다. 글의 목록이어야 합니다.",
    "The question is a {}; a text is expected.": "질문이 {}입니다. 글이어야 합니다.",
    "A row to be answered is (image, question, choices), or a mapping with these keys. Of one question: answer(), "
    "of a table: answer_all(DataFrame).":
        "답할 행은 (image, question, choices)이거나 이 키를 가진 매핑입니다. 질문 하나는 answer(), 표는 answer_all(DataFrame)을 쓰세요.",
    "a PIL image": "PIL 이미지",
    "image is a {}; a path, bytes or a PIL image is expected.": "image가 {}입니다. 경로, bytes, PIL 이미지여야 합니다.",
    "{} holds rows or photographs other than those that the run was trained on": "{}에 실행이 학습한 것과 다른 행이나 사진이 있습니다",
    "{} is missing: mcvqa ensemble {} writes it": "{}이 없습니다: mcvqa ensemble {}로 만듭니다",
    "the run's data cannot be read: {}": "실행의 데이터를 읽을 수 없습니다: {}",
    "--out {} is {}: name another file.": "--out {}은 {}입니다. 다른 파일을 적으세요.",
    "--out {} cannot be written ({}): name another file.": "--out {}에 쓸 수 없습니다({}). 다른 파일을 적으세요.",
    "--out {} lies in {}, where runs keep their files: name another folder.": "--out {}은 실행의 파일이 있는 {} 안입니다. 다른 폴더를 적으세요.",
    "{}: {} rows": "{}: {}행", "{} rows of {}, answered by folds {} of {}": "{1}의 {0}행에 {3}의 폴드 {2}로 답합니다",
    "{} does not hold the weights that were recorded when the fold was trained. Restore the run's original folder, or delete it and train this fold again.": "{}의 가중치는 폴드를 학습했을 때 기록한 것이 아닙니다. 실행의 원래 폴더를 되돌려 놓거나, 지우고 이 폴드를 다시 학습하세요.",
    # %% seeds, the final model, averages, models over several GPUs
    "average=auto: the run {} has been trained since its weights were chosen, or they never were: mcvqa predict {} chooses them.":
        "average=auto: 실행 {}의 가중치를 고르지 않았거나 고른 뒤에 다시 학습했습니다. mcvqa predict {}로 고르세요.",
    "The run {} lacks {}: finish it (mcvqa run){}.": "실행 {}에 {}이 없습니다. 실행을 마치세요(mcvqa run){}.",
    "There is {}: the run has {}.": "{}입니다. 실행에 있는 것: {}.",
    "--fold {}: write the number of a fold, counted from 0, or final.": "--fold {}: 0부터 세는 폴드 번호나 final을 적으세요.",
    "average=auto compares the last-step weights of all folds: set keep=last and leave time_budget empty.":
        "average=auto는 모든 폴드의 마지막 스텝 가중치를 비교합니다. keep=last로 하고 time_budget을 비우세요.",
    "average=auto: the run {} has no validation scores of its weights. Train it again, or set average=as_set.":
        "average=auto: 실행 {}에 가중치의 검증 점수가 없습니다. 다시 학습하거나 average=as_set으로 하세요.",
    "config.json of {} is damaged: {}.{} is {}. Copy or download it again.": "{}의 config.json이 손상되었습니다: {}.{}이 {}입니다. 다시 복사하거나 내려받으세요.",
    "{} is {}. Copy the model's files into a folder of their own.": "{}은 {}입니다. 모델의 파일을 따로 폴더에 복사하세요.",
    "gpus_per_model={}: a process finds {} here. Set it to auto or to fewer.": "gpus_per_model={}: 프로세스 하나가 쓸 수 있는 것은 {}입니다. auto나 더 작은 수로 하세요.",
    "{} would have to be split across several GPUs (gpus_per_model={}), but {} has no fast path, which that requires. Use a smaller model, or set gpus_per_model=1.":
        "{}을 여러 GPU에 나누어야 하는데(gpus_per_model={}) {}에는 최적화된 경로가 없어 나눌 수 없습니다. 더 작은 모델을 쓰거나 gpus_per_model=1로 하세요.",
    "gpus_per_model={} cannot be combined with torchrun or accelerate launch, whose processes have one GPU each. Start the run without them: one process computes on all GPUs of a model, others on the other GPUs.":
        "gpus_per_model={}은 프로세스마다 GPU가 하나인 torchrun이나 accelerate launch와 함께 쓸 수 없습니다. 이런 런처 없이 시작하세요. 한 프로세스가 모델의 모든 GPU에서, 다른 프로세스는 나머지 GPU에서 계산합니다.",
    "gpus_per_model={} splits a model across NVIDIA GPUs, but this run computes on {}: set gpus_per_model=auto.":
        "gpus_per_model={}은 모델을 NVIDIA GPU에 나누는데 이 실행은 {}에서 계산합니다. gpus_per_model=auto로 하세요.",
    "The model needs {} GPUs: with executor=ray set gpus_per_model={}.": "모델에 GPU {}개가 필요합니다. executor=ray라면 gpus_per_model={}로 하세요.",
    "weights: {}": "가중치: {}", "seeds: {}": "시드: {}", "n_seeds={}: {}": "n_seeds={}: {}", "left out: {}": "생략: {}",
    "seed {} of {}: {}": "시드 {}/{}: {}", "{}: accuracy {}": "{}: 정확도 {}",
    "time budget: no further seed is trained: {}": "시간 예산: 시드를 더 학습하지 않습니다: {}",
    "final model": "최종 모델", "the final model": "최종 모델",
    "final_fit=true: the final model of the run {} is not trained and scored with these settings: mcvqa run finishes it.":
        "final_fit=true: 실행 {}의 최종 모델을 이 설정으로 학습하고 채점하지 않았습니다. mcvqa run으로 끝내세요.",
    "left out: the final model, which is not finished": "생략: 끝나지 않은 최종 모델",
    "{} and {} pseudo-labelled rows": "{}과 모델이 답한 테스트 {}행", "{} and {} pseudo-labelled row": "{}과 모델이 답한 테스트 {}행",
    "row_weights={}: {} has no rows to train on, as all of its rows have weight 0. Give more rows a weight above 0.":
        "row_weights={}: {}에서 학습할 행의 가중치가 모두 0입니다. 더 많은 행에 0보다 큰 가중치를 주세요.",
    "final model: trained on {}, so its accuracy cannot be measured; see that of the folds":
        "최종 모델: {}을 모두 학습해 정확도를 잴 수 없습니다. 폴드의 정확도를 보세요",
    "no final model: fold {}, which determines how long to train it, is not trained": "최종 모델 없음: 학습할 길이를 정하는 폴드 {}을 학습하지 않았습니다",
    "no final model: it would take about {}, and {} are left": "최종 모델 없음: {}쯤 걸리는데 {} 남았습니다",
    "no time to score the rows that were trained on (evidence=full)": "학습한 행을 채점할 시간이 없습니다(evidence=full)",
    "{} starts from {}": "{}: {}에서 시작합니다", "{} resumes after step {} of {}": "{0}: {2}스텝 중 {1}스텝 다음부터 이어서 합니다",
    "final model starts from {}": "최종 모델: {}에서 시작합니다", "final model resumes after step {} of {}": "최종 모델: {1}스텝 중 {0}스텝 다음부터 이어서 합니다",
    "start_from={}: that run has no {} to start from. Name one of its folds, such as {}, or train only the folds that it has: --set train_folds=0":
        "start_from={}: 그 실행에는 여기서 시작할 {}이 없습니다. {} 같은 폴드를 적거나, 있는 폴드만 학습하세요: --set train_folds=0",
    "{}: its task has changed since it was interrupted, so it starts over": "{}: 중단된 뒤에 할 일이 바뀌어 처음부터 시작합니다",
    "{} {}: accuracy {} ({}), loss {}": "{} {}: 정확도 {} ({}), 손실 {}",
    "fold {}: its task has changed since it was interrupted, so it starts over": "폴드 {}: 중단된 뒤에 할 일이 바뀌어 처음부터 시작합니다",
    "Stopped after step {} of {}; saved in {}.": "{1}의 스텝 {0} 다음에 멈췄습니다. {2}에 저장했습니다.",
    "Stopped after step {} of {}; nothing could be saved.": "{1}의 스텝 {0} 다음에 멈췄으나 아무것도 저장하지 못했습니다.",
    "{} step {}: out of GPU memory with {}. The step is repeated with {}; it still covers {}.":
        "{} 스텝 {}: GPU 메모리가 {}에서 부족했습니다. {}으로 스텝을 반복하며, 스텝의 행 수는 그대로 {}입니다.",
    # %% what is said of the data
    "Questions   train {} ({} answered), test {}, {} to {} choices a row": "질문        학습 {}({}개에 정답), 테스트 {}, 행마다 보기 {}~{}개",
    "train fold {}": "폴드 {} 학습", "score fold {} {}": "폴드 {} {} 채점",
    "Votes       {}: {}, votes a row: {}; Fleiss' kappa {} (0: as by chance, 1: all agree)":
        "투표        {}: {}, 행마다 {}표; 플라이스 카파 {}(0: 우연 수준, 1: 모두 일치)",
    "votes of the answer, share of the rows   {} (votes.csv)": "정답의 표, 행의 비율   {} (votes.csv)", "not known": "알 수 없음",
    "The texts alone answer significantly more rows of one source than of another; the test rows may resemble either (validate_on=SOURCE).":
        "글만 보고 맞히는 비율이 파일에 따라 유의하게 다릅니다. 테스트 행은 어느 쪽과 비슷할지 알 수 없습니다(validate_on=SOURCE).",
    "{}: answers are letters, numbers and texts: {}": "{}: 정답은 글자, 번호, 글입니다: {}", "{}: answers are {}: {}": "{}: 정답은 {}입니다: {}",
    "of several kinds": "여러 방식", "letters": "글자", "numbers": "번호", "{}: {} not used, {}: {}": "{}: {}를 쓰지 않습니다. 이유: {}. {}",
    "min_votes={} has no effect: there are no votes": "min_votes={}는 효과가 없습니다. 표가 없습니다",
    "{}: {} left out: {}": "{}: {}을 뺐습니다: {}", "{}: {} left out: fewer than min_votes={} votes": "{}: {}을 뺐습니다: 표가 min_votes={}보다 적습니다",
    "{}: {} trained on by vote shares, but never validated: {}": "{}: {}은 득표 비율로 학습만 하고 검증에는 쓰지 않습니다: {}",
    "{} left out: the same as an earlier one": "{}을 뺐습니다: 앞의 행과 같습니다",
    "the files write their answers differently: {}": "파일마다 정답을 적는 방식이 다릅니다: {}",
    "{}: read as {}, for example {}": "{}: {}로 읽었습니다. 예: {}", "{}: read as {}": "{}: {}로 읽었습니다",
    "{} choices that begin with their own letters: {} is shown to the model as {}": "{}의 보기에 글자가 붙어 있습니다: {}를 모델에는 {}로 보여 줍니다",
    "capital letters": "대문자", "lower-case letters": "소문자", "Korean letters": "한글 글자(가, 나, ...)",
    "positions counted from 1": "1부터 세는 번호", "positions counted from 0": "0부터 세는 번호", "the choices' texts": "보기의 글",
    "the choices' texts without their letters": "글자를 뗀 보기의 글",
    "ambiguous: a letter, but also the text of another choice": "글자이면서 다른 보기의 글이라 분명하지 않습니다", "the text of several choices": "여러 보기와 같은 글입니다",
    "neither a letter nor the text of a choice": "그 행의 글자도 보기의 글도 아닙니다", "several answers": "답이 여러 개입니다",
    "ambiguous numbers ({})": "분명하지 않은 숫자입니다({})", "numbers that are not the text of a choice": "보기의 글이 아닌 숫자입니다",
    "numbers that are not the text of a choice, and not taken as positions because {}": "보기의 글이 아니고, 번호로도 보지 않은 숫자입니다({})",
    "numbers that are not positions": "번호가 될 수 없는 숫자입니다", "the file answers by text, for example {}": "파일의 정답이 글이기 때문. 예: {}",
    "they go from 0 up to the number of choices": "0부터 보기 수까지 있기 때문", "{} is not a position": "{}은 번호가 아닙니다",
    "they may be positions or the texts of choices": "번호일 수도 보기의 글일 수도 있습니다",
    "they may count from 0 or from 1: neither 0 nor the last position occurs": "0부터 셀 수도 1부터 셀 수도 있습니다. 0도 마지막 번호도 나오지 않습니다",
    "no answer": "정답 없음", "no answer by any annotator": "아무도 답하지 않음", "the annotators' votes are tied": "표가 동점", "no image": "사진 없음",
    "no question": "질문 없음", "the same text as choice {}": "보기 {}와 같은 글입니다", "the same id as in row {}": "{}행과 같은 id입니다",
    "choice {} is empty; it keeps its letter": "보기 {}가 비어 있습니다. 글자는 그대로 둡니다", "the answer {} is not used: {}": "정답 {}을 쓰지 않습니다: {}",
    "{}, row {} (id {}), {}: {}": "{}, {}행(id {}), {}: {}",
    "{} in the row, {} in the header; is a quote or a delimiter missing?": "행에는 {}, 머리글에는 {}. 따옴표나 구분자가 빠졌나요?",
    "{} answered row is too few for a text-only prior: all choices count as equally likely, and each row's answer is drawn by a hash of its id.":
        "{}행의 정답은 텍스트 전용 모델에 너무 적습니다. 모든 보기를 같은 확률로 보고, 답은 id의 해시로 뽑습니다.",
    "{} answered rows are too few for a text-only prior: all choices count as equally likely, and each row's answer is drawn by a hash of its id.":
        "{}행의 정답은 텍스트 전용 모델에 너무 적습니다. 모든 보기를 같은 확률로 보고, 답은 id의 해시로 뽑습니다.",
    "{} too few for a text-only prior: all choices count as equally likely, and each row's answer is drawn by a hash of its id.":
        "{}은 텍스트 전용 모델에 너무 적습니다. 모든 보기를 같은 확률로 보고, 답은 id의 해시로 뽑습니다.",
    "in Korean (the language that tiny was trained on)": "한국어(tiny가 학습한 언어)", "in Korean (Hangul in {} of the training questions)": "한국어(학습 질문의 {}에 한글이 있음)",
    "in English (Hangul in {} of the training questions)": "영어(학습 질문의 {}에 한글이 있음)",
    "{} embedded in the tables: written to {}": "표 안의 {}을 {}에 저장했습니다", "photographs: {} is unpacked in {}": "사진: {}을 {}에 풀었습니다",
    "photographs: {} not found; {}": "사진: {}를 찾지 못했습니다. {}",
    "{}: the image paths of {} point into {}/ (they are absolute, or exist in several folders)":
        "{}: {}의 사진 경로는 {}/ 안의 것으로 봅니다(절대 경로이거나 여러 폴더에 있습니다)",
    "{} is not used; --set use_dev=true trains on its rows too": "{}은 쓰지 않습니다. --set use_dev=true이면 그 행도 학습합니다",
    "use_dev=true has no effect: there is no dev.csv in {}": "use_dev=true는 효과가 없습니다: {}에 dev.csv가 없습니다",
    "{} is not used: name it sample_submission.csv if the submission is to have its header and form":
        "{}은 쓰지 않습니다. 제출 파일을 그 머리글과 형식으로 쓰려면 이름을 sample_submission.csv로 바꾸세요",
    "there is no test.csv, so no submission is written. To write one later, put test.csv into {} and run the same command again, or mcvqa predict {} and mcvqa report {}: the test rows are answered without training again.":
        "test.csv가 없어 제출 파일을 만들지 않습니다. 나중에 {}에 넣고 같은 명령이나 mcvqa predict {}와 mcvqa report {}를 실행하면, 다시 학습하지 않고 테스트 행에 답합니다.",
    "{} is damaged, so it is unknown which data the run was trained on. {}": "{}이 손상되어 실행이 무엇을 학습했는지 알 수 없습니다. {}",
    "One group of similar images holds {} of {} rows, more than one of {} folds ({} rows): the folds differ in size, so compare their accuracies with care.":
        "거의 같은 사진의 묶음 하나에 {1}행 중 {0}행이 있어 {2}폴드 중 하나({3}행)보다 큽니다. 폴드의 크기가 서로 다르니 정확도를 비교할 때 주의하세요.",
    "{} is neither UTF-8 (or -16, -32) nor plausible cp949 or cp1252 text{}": "{}은 UTF-8(또는 -16, -32)도, cp949나 cp1252로 볼 만한 글도 아닙니다{}",
    ": {}": ": {}", "as {} it reads {}": "{}로 읽으면 {}",
    # %% photographs that cannot be read
    **UNREADABLE, **{f"{{}}: {reason}": f"{{}}: {korean}" for reason, korean in UNREADABLE.items()},
    # %% decided labels
    "no labelled row has this id{}": "이 id의 정답 있는 행이 없습니다{}",
    "{} left out by min_votes={} (delete these decisions, or lower min_votes): {}": "{}은 min_votes={}에 걸려 빠졌습니다(이 결정들을 지우거나 min_votes를 낮추세요): {}",
    "{} left out because the votes are tied (delete these decisions, or set soft_votes=true): {}":
        "{}은 표가 동점이라 빠졌습니다(이 결정들을 지우거나 soft_votes=true로 하세요): {}",
    "{} decided row is": "결정한 {}행", "{} decided rows are": "결정한 {}행",
    "its label is {}, not {}: the file was made from other data, or 'now' was edited": "라벨이 {1}이 아니라 {0}입니다. 다른 데이터로 만든 파일이거나 'now'를 고쳤습니다",
    "the decision {} is neither empty nor one of {}": "결정 {}을 알 수 없습니다. {} 가운데 하나를 적거나 비워 두세요", "row {} (id {}): {}": "{}행(id {}): {}",
    "'proposed' is {}; the row has the choices {}": "'proposed'가 {}인데 그 행의 보기는 {}입니다",
    "'proposed' is the label that the row already has, {}: write keep, or another letter": "'proposed'가 지금 라벨 {}과 같습니다. keep이나 다른 글자를 적으세요",
    "{}: {} fixed, {} dropped, {} kept; {} undecided and unchanged": "{}: {} 수정, {} 제외, {}개 유지; {}은 결정하지 않아 그대로 둡니다",
    "{}: {} fixed, {} dropped, {} kept": "{}: {} 수정, {} 제외, {}개 유지",
    "{}: {} fixed, {} dropped, {} kept; {} left out anyway": "{}: {} 수정, {} 제외, {}개 유지; {}은 어차피 빠진 행입니다",
    "{}: {} fixed, {} dropped, {} kept; {} undecided and unchanged; {} left out anyway":
        "{}: {} 수정, {} 제외, {}개 유지; {}은 결정하지 않아 그대로 두고, {}은 어차피 빠진 행입니다",
    "labels fixed: {}. Out-of-fold accuracy on": "수정한 라벨: {}개. OOF 정확도:", "fixed labels: {}": "수정한 라벨로: {}",
    "the original labels: {}": "원래 라벨로: {}", "rows whose label was not changed: {}": "라벨을 바꾸지 않은 행에서: {}",
    # %% weights of rows, pseudo labels
    "besides the rows' own answers, models have learned from": "행의 정답 말고도 학습에 쓴 것",
    "row_weights={}: {} a weight, from {} to {} where the mean is 1{}": "row_weights={}: {}에 가중치가 있습니다. 평균을 1로 하면 {}부터 {}까지{}",
    "; {} as 1": ". {}은 1로 칩니다", "; {} not trained on: the weight is 0": ". 가중치가 0인 {}은 학습하지 않습니다",
    "; {} as 1; {} not trained on: the weight is 0": ". {}은 1로 칩니다. 가중치가 0인 {}은 학습하지 않습니다",
    "{} row without one counts": "가중치가 없는 {}행", "{} rows without one count": "가중치가 없는 {}행",
    "teacher={}: {} of {} also learn from its out-of-fold probabilities. These come from models that were trained on the fold that is validated on here, so this run's accuracies are probably slightly too high":
        "teacher={0}: {2} 중 {1}이 그 OOF 확률도 학습합니다. 그 확률을 낸 모델은 검증 폴드를 학습했으므로 이 실행의 정확도는 실제보다 조금 높을 수 있습니다",
    "pseudo={}: it is unknown what its model was trained on. If this included this run's validation rows, the accuracies of this run are too high":
        "pseudo={}: 그 모델이 무엇을 학습했는지 알 수 없습니다. 이 실행의 검증 행을 학습했다면 이 실행의 정확도는 실제보다 높습니다",
    "pseudo={}: {} also trains on {} of {}: those answered with a probability of {} or more whose photographs do not resemble validation photographs":
        "pseudo={0}: {1}에서 {3} 중 {2}행을 학습합니다. 답의 확률이 {4} 이상이고 검증 사진과 비슷한 사진이 없는 행입니다",
    # %% the device and memory
    "the model is published that way": "모델이 그렇게 공개되었습니다", "the model's {} weights are dequantized": "모델의 {} 가중치를 양자화를 풀어 씁니다",
    "lora_r=0 trains all weights, which is impossible with 4-bit weights": "lora_r=0은 모든 가중치를 학습하는데 4비트 가중치로는 할 수 없습니다",
    "{} GiB of weights in {} + {} GiB training state + {} GiB for activations fit into {} GiB": "{1} 가중치 {0} GiB + 학습 상태 {2} GiB + 활성값 {3} GiB가 {4} GiB에 들어갑니다",
    "{} GiB of weights in {} + {} GiB training state + {} GiB for activations do not fit into {} GiB":
        "{1} 가중치 {0} GiB + 학습 상태 {2} GiB + 활성값 {3} GiB가 {4} GiB에 들어가지 않습니다",
    "precision is float32": "정밀도가 float32입니다", "bfloat16 needs no gradient scaling": "bfloat16에는 기울기 배율이 필요 없습니다",
    "gradients are scaled against underflow": "언더플로를 막으려고 기울기에 배율을 곱합니다",
    "micro-batch {} of {} rows {}: {} GiB at the longest rows (up to {} tokens), {} rows/s{}":
        "마이크로배치 {0}행({1}행 중), {2}: 가장 긴 행(토큰 {4}개)에서 {3} GiB, 초당 {5}행{6}",
    "with checkpointing": "체크포인팅 사용", "without checkpointing": "체크포인팅 없이", "with checkpointing, recorded": "체크포인팅과 CUDA 그래프 사용",
    "without checkpointing, recorded": "체크포인팅 없이, CUDA 그래프 사용", "; with checkpointing {} fit and are {} slower": "; 체크포인팅을 쓰면 {}행이 들어가고 {} 느립니다",
    "{}; kernel launches take much of the time, so CUDA graphs are used":
        "{}. 커널 실행이 시간을 많이 차지해 CUDA 그래프로 기록합니다",
    "; without checkpointing {} fit and are {} slower": "; 체크포인팅 없이는 {}행이 들어가고 {} 느립니다",
    "GPU {}: layers {} to {}{}: {} of {} GiB": "GPU {0}: 레이어 {1}~{2}{3}: {5} GiB 중 {4} GiB", "the embedding and the vision tower": "임베딩과 비전 타워", "the head": "출력층",
    "To use less memory: {}": "줄일 수 있는 것: {}", "a smaller model (3B instead of 7B)": "더 작은 모델(7B 대신 3B)", "{} {}: every prompt is encoded with its own photograph":
        "{} {}: 프롬프트마다 사진을 함께 인코딩합니다",
    "{} has no fast path: every prompt is encoded with its own photograph": "{}에는 최적화된 경로가 없어 프롬프트마다 사진을 함께 인코딩합니다",
    "{} does not use its fast path with use_dora=true: every prompt is encoded with its own photograph":
        "use_dora=true라서 {}의 최적화된 경로를 쓰지 않고 프롬프트마다 사진을 함께 인코딩합니다",
    "use_dora=true uses PEFT's layers instead of the fast ones; prompts and image features are still shared":
        "use_dora=true라서 최적화된 레이어 대신 PEFT로 계산합니다. 프롬프트와 이미지 특징은 그대로 함께 씁니다",
    "{} {} is newer than {}, the newest version tested. If something fails, try the tested version.": "{} {}은 시험한 최신 버전 {}보다 새 버전입니다. 문제가 생기면 그 버전을 써 보세요.",
    "{} {} has published security advisories, fixed in {}: be careful with untrusted files.":
        "{} {}에는 공개된 보안 권고가 있습니다({}에서 수정). 믿을 수 없는 파일을 조심하세요.",
    "{} GB must be downloaded to {}, which has {} GB free{}": "{1}에 {0} GB를 내려받아야 하는데 {2} GB가 남았습니다{3}",
    ": choose a smaller or 4-bit model, or another disk with the environment variable HF_HOME":
        ". 더 작은 모델이나 4비트 모델을 고르거나, 환경 변수 HF_HOME으로 다른 디스크를 쓰세요",
    "{}: {} no glyph here; for Korean: pip install koreanize-matplotlib": "{}: 글꼴에 없는 글자가 있습니다({}). 한글은: pip install koreanize-matplotlib",
    "the figure {}": "그림 {}",
    # %% rows that are too long
    "{} Shorten its question or choices, or leave the row out of the file.": "{} 질문이나 보기를 줄이거나 파일에서 그 행을 빼세요.",
    "{} Its answer is unreliable: the model was not trained on inputs that long.": "{} 모델이 그만큼 긴 입력을 학습하지 않아 그 답은 믿기 어렵습니다.",
    "The training row {} has {} tokens; {} at most {}{}.": "학습 행 {}의 토큰이 {}개입니다. {} {}개까지입니다{}.",
    "The test row {} has {} tokens; {} at most {}{}.": "테스트 행 {}의 토큰이 {}개입니다. {} {}개까지입니다{}.",
    "{} GiB of memory hold": "메모리 {} GiB에 들어가는 것은",
    # %% the time budget
    "{} folds of {} epochs, scoring in {} at {}": "폴드 {}개를 {}에폭, 채점: {}, {}", "{} fold of {} epochs, scoring in {} at {}": "폴드 {}개를 {}에폭, 채점: {}, {}",
    "{} folds of {} epoch, scoring in {} at {}": "폴드 {}개를 {}에폭, 채점: {}, {}", "{} fold of {} epoch, scoring in {} at {}": "폴드 {}개를 {}에폭, 채점: {}, {}",
    "the untrained model, scoring in {} at {}": "학습하지 않은 모델, 채점: {}, {}",
    "scoring in {} at {}": "채점: {}, {}", "image features of {}, {}": "이미지 특징({}), {}", "{}: less than the settings ask for": "{}: 설정한 것보다 적습니다",
    "time budget: encoding {} takes about {} of the remaining {}: they are encoded as training reaches their rows":
        "시간 예산: {0} 인코딩에 남은 {2} 중 약 {1}이 걸려, 학습이 그 행에 이를 때 인코딩합니다",
    "time budget: encoding {} takes about {} of the remaining {}": "시간 예산: {0} 인코딩에 남은 {2} 중 약 {1}이 걸립니다",
    "time budget: encoding {}: they are encoded as training reaches their rows": "시간 예산: {}을 학습이 그 행에 이를 때 인코딩합니다",
    ": it ended before the model was loaded": "(모델을 불러오기 전에 끝났습니다)", ": scoring {} alone takes about {}": "({} 채점에만 약 {}이 걸립니다)",
    ": encoding a photograph takes {} s, and no row was scored before it ended": "(사진 하나를 인코딩하는 데 {}초가 걸리며, 한 행도 채점하기 전에 끝났습니다)",
    ": it ended before the photographs of the test rows were encoded": "(테스트 행의 사진을 인코딩하기 전에 끝났습니다)",
    "{} is valid;": "{}은 정상입니다.", "it takes about {}, and {} are left": "{}쯤 걸리는데 {} 남았습니다",
    "{} holds the answers of the text-only prior.": "{}에는 텍스트 전용 모델의 답이 있습니다.", "{} holds the answers of {}.": "{}에 {}의 답이 있습니다.",
    "{} holds the answers of fold {} to {} of {}{}.": "{0}에 폴드 {1}이 {3} 중 {2}행에 한 답이 있습니다{4}.",
    ", and those of the text-only prior to the others": "(나머지는 텍스트 전용 모델의 답)", "the text-only prior": "텍스트 전용 모델", "the run {} ({})": "실행 {}({})", "the run {}": "실행 {}",
    # %% stopping, processes
    "Stopped. Finished work is saved.": "멈췄습니다. 끝난 작업은 저장했습니다.",
    "{}, each in a process of its own, on {}": "{}, 프로세스마다 하나씩, 장치 {}", "the CPU": "CPU(프로세서)", "{}: {}. Trying again in {} s": "{}: {}. {}초 뒤에 다시 해 봅니다",
    "an error, status {}": "오류(상태 {})", "{}, perhaps because memory ran out": "{}(메모리가 부족했을 수 있습니다)",
    "Finished work is kept. Free some space (cache/ may be deleted) or reconnect the disk, then run the same command again.":
        "끝난 작업은 저장되어 있습니다. 공간을 비우거나(cache/는 지워도 됩니다) 디스크를 다시 연결하고 같은 명령을 다시 실행하세요.",
    "{} is damaged: {}. Restore a copy, or move it away and run the same command again: whatever can be rebuilt from other files is rebuilt.":
        "{}이 손상되었습니다: {}. 사본을 되돌려 놓거나, 다른 곳으로 옮기고 같은 명령을 다시 실행하세요. 다른 파일로 다시 만들 수 있는 것은 다시 만듭니다.",
    "Another process is working on {}, {}\nWait for it to end, or choose another name: --set run_name=...":
        "다른 프로세스가 {}에서 작업하고 있습니다: {}\n끝나기를 기다리거나 다른 이름을 고르세요: --set run_name=...",
    "on {}, since {}: {}\nStop it with: kill {}": "{}, {}부터: {}\n멈추려면: kill {}", "which has just started or ended.": "방금 시작했거나 끝났습니다.",
    "Loader processes cannot pass on their batches ({}). /dev/shm may be too small: --set num_workers=0 works without them, and in Docker --shm-size=1g enlarges it.":
        "로더 프로세스가 배치를 넘기지 못합니다({}). /dev/shm이 작기 때문일 수 있습니다. --set num_workers=0으로 로더 없이 실행하거나, 도커라면 --shm-size=1g로 늘리세요.",
    "Loader processes have made no batch for {} s (--set num_workers=0 works without them).":
        "로더 프로세스가 {}초 동안 배치를 만들지 못했습니다(--set num_workers=0이면 로더 없이 합니다).",
    "{}: a loader process was ended, perhaps because memory ran out (--set num_workers=0 saves some).":
        "{}: 로더 프로세스가 끝났습니다. 메모리가 부족했을 수 있습니다(--set num_workers=0으로 줄일 수 있습니다).",
    "report_to={} is not a tracker that accelerate supports. Choose from {}.": "report_to={}은 accelerate가 지원하는 트래커가 아닙니다. 고를 수 있는 것: {}.",
    "report_to={} needs the package {}: pip install {}, or leave report_to empty.": "report_to={}에는 {} 패키지가 필요합니다: pip install {}. 아니면 report_to를 비우세요.",
    "report_to: the trackers had not finished {} s after the run and were stopped; see {}":
        "report_to: 실행이 끝나고 {}초가 지나도 트래커가 끝나지 않아 중단했습니다. {}을 보세요",
    "report_to: not everything was reported; see {}": "report_to: 일부를 보내지 못했습니다. {}을 보세요",
    "Another process is working on the run {} on this Ray cluster. Wait for it to end, or choose another name: --set run_name=...":
        "이 Ray 클러스터에서 다른 프로세스가 실행 {}을 작업하고 있습니다. 끝나기를 기다리거나 다른 이름을 고르세요: --set run_name=...",
    "Node {} has other versions, which may change results: {}. Install the same.": "노드 {}의 버전이 달라 결과가 달라질 수 있습니다: {}. 같은 버전을 설치하세요.",
    "Node {} does not see the same {} as the main process. All nodes must share output_dir and data_dir: put them on a file system that is mounted under the same path everywhere, or share the run through an object store: --set shared_dir=s3://BUCKET/FOLDER.":
        "노드 {}에서는 {}이 주 프로세스와 다르게 보입니다. 모든 노드가 output_dir과 data_dir을 함께 써야 합니다. 모든 노드에 같은 경로로 마운트한 파일 시스템에 두거나, 실행을 객체 저장소로 나누세요: --set shared_dir=s3://BUCKET/FOLDER.",
    # %% a run shared through an object store
    "shared through {}": "{}로 나눕니다",
    "from {}: {}": "{}에서 가져옴: {}", "from {}: {}, unfinished": "{}에서 가져옴: {}(진행 중)",
    "{}: {} is damaged or missing, so it is not used": "{}: {} 파일이 손상되었거나 없어 쓰지 않습니다",
    "{} is damaged: the work that it lists is treated as not done": "{} 파일이 손상되었습니다. 거기 적힌 작업은 끝나지 않은 것으로 봅니다",
    "The upload of a resume point to {} has not ended after {}. Run the same command again when the store answers: it continues from the newest point.":
        "재개 지점을 {}에 올리는 일이 {} 안에 끝나지 않았습니다. 저장소가 응답하면 같은 명령을 다시 실행하세요. 가장 새로운 지점부터 이어집니다.",
    "{}: waiting until the upload of a resume point to {} ends": "{}: 재개 지점을 {}에 올리는 것이 끝나기를 기다립니다",
    "{}: its resume point is not shared: {}": "{}: 재개 지점을 나누지 못했습니다. {}",
    "{}: {}: {}. Trying again in {} s": "{}: {}: {}. {}초 뒤에 다시 시도합니다",
    "{} of the run {} was done with different settings, rows or photographs here ({}) and in {}. Choose another name (--set run_name=...), or delete the one that you do not want.":
        "실행 {1}의 {0}은 여기({2})와 {3}에서 설정, 행, 사진 가운데 무언가가 다릅니다. 다른 이름을 고르거나(--set run_name=...) 필요 없는 쪽을 지우세요.",
    "{} has a file that runs do not write: {}. Nothing of it is copied.": "{}에 실행이 쓰지 않는 파일이 있습니다: {}. 아무것도 복사하지 않았습니다.",
    "shared_dir={} does not return what was just written there. It cannot be shared.": "shared_dir={}에 방금 쓴 내용을 읽을 수 없습니다. 실행을 나누는 데 쓸 수 없습니다.",
    "shared_dir={} needs packages that are not installed ({}): pip install 'mcvqa[object]'": "shared_dir={}에 필요한 패키지가 없습니다({}): pip install 'mcvqa[object]'",
    "shared_dir={}: access is denied ({}). Allow this account to read, write, list and delete there.":
        "shared_dir={}: 접근이 거부되었습니다({}). 이 계정에 읽기, 쓰기, 목록 보기, 지우기를 허용하세요.",
    "shared_dir={}: there is no such bucket or folder ({}). Create it, or correct the name.": "shared_dir={}: 그런 버킷이나 폴더가 없습니다({}). 만들거나 이름을 고치세요.",
    "shared_dir={} cannot be used ({}: {}). Finished work is kept in output_dir. When the store works again, run the same command again.":
        "shared_dir={}을 쓸 수 없습니다({}: {}). 끝난 작업은 output_dir에 있습니다. 저장소가 다시 되면 같은 명령을 실행하세요.",
    "Another process is working on the run {} in {}, {}\nWait for it to end, or choose another name: --set run_name=... If it was killed, try again in {} s.":
        "다른 프로세스가 {1}에서 실행 {0}을 작업하고 있습니다: {2}\n끝나기를 기다리거나 다른 이름을 고르세요: --set run_name=... 강제 종료된 것이라면 {3}초 뒤에 다시 시도하세요.",
    "on {}, since {}: {}": "{}, {}부터: {}",
    "Another process has taken the run {} in {}: this one stops": "다른 프로세스가 {1}의 실행 {0}을 넘겨받았습니다. 이 프로세스는 멈춥니다",
    "{} was published in {}, but is damaged or missing there now. Run the same command again: it is done again.":
        "{}은 {}에 올라갔지만 지금은 손상되었거나 없습니다. 같은 명령을 다시 실행하면 그 작업을 다시 합니다.",
    "output_dir={} is a URL, but must be a folder of this machine. To share a run through an object store, keep output_dir local: --set shared_dir={}":
        "output_dir={}은 URL이지만 이 컴퓨터의 폴더여야 합니다. 실행을 객체 저장소로 나누려면 output_dir은 그대로 두세요: --set shared_dir={}",
    "A search does not use shared_dir: its trials need an output_dir that all machines see.":
        "탐색에는 shared_dir을 쓸 수 없습니다. 시행에는 모든 컴퓨터가 함께 보는 output_dir이 필요합니다.",
    "executor=ray needs ray: pip install 'mcvqa[ray]'": "executor=ray에는 ray가 필요합니다: pip install 'mcvqa[ray]'",
    "{} was lost: its process died {} ({}). Finished work is saved. Run the same command again to continue.":
        "{}을 잃었습니다: 프로세스가 {} 비정상 종료되었습니다({}). 끝난 작업은 저장했습니다. 같은 명령을 다시 실행하면 이어서 합니다.",
    "{} time": "{}번", "{} times": "{}번", "{} was asked to stop; finished work is saved.": "{}이 중단 요청을 받았습니다. 끝난 작업은 저장했습니다.",
    "the same data, seed, n_folds, use_kfold and validate_on": "같은 데이터, seed, n_folds, use_kfold, validate_on",
    "Weights: {}.": "가중치: {}.",
    "The Ray cluster at ray_address={} demands its token, and this process has another one or none. Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to the token of the cluster (on its machines: ~/.ray/auth_token).":
        "ray_address={}의 Ray 클러스터는 토큰을 요구하는데, 이 프로세스에는 토큰이 없거나 다릅니다. RAY_AUTH_MODE=token으로 하고 RAY_AUTH_TOKEN에 클러스터의 토큰을 넣으세요(클러스터의 컴퓨터에서는 ~/.ray/auth_token).",
    "The Ray cluster at ray_address={} has another version of Ray or Python ({}). Install the same here.":
        "ray_address={}의 Ray 클러스터는 Ray나 Python의 버전이 다릅니다({}). 여기에도 같은 버전을 설치하세요.",
    "ray_address={} needs Ray's client: pip install 'ray[client]'. Or start the run on a node of the cluster, with ray_address=auto.":
        "ray_address={}에는 Ray 클라이언트가 필요합니다: pip install 'ray[client]'. 또는 클러스터의 노드에서 ray_address=auto로 실행하세요.",
    "If it demands a token, set RAY_AUTH_MODE and RAY_AUTH_TOKEN.": "토큰이 필요한 클러스터라면 RAY_AUTH_MODE와 RAY_AUTH_TOKEN을 정하세요.",
    "nothing within {} s": "{}초 안에 응답이 없습니다",
    "No Ray cluster answers at ray_address={} ({}). Start one with `ray start --head`, name another, or use --set ray_address=local.":
        "ray_address={}에서 Ray 클러스터가 응답하지 않습니다({}). `ray start --head`로 시작하거나, 다른 주소를 적거나, --set ray_address=local로 하세요.",
    # %% training
    "{} step {}: {}. Training continues": "{} 스텝 {}: {}. 학습은 계속합니다",
    "{}: no finite gradient in {} steps in a row, up to step {}": "{0}: 스텝 {2}까지 {1}번 잇달아 기울기가 유한하지 않았습니다",
    "{}: no finite gradient in {} steps in a row, up to step {}, and there is no resume point to return to (learning rate {}). Lower learning_rate (now {}) or set precision=float32.":
        "{0}: 스텝 {2}까지 {1}번 잇달아 기울기가 유한하지 않았고 되돌아갈 재개 지점이 없습니다(학습률 {3}). learning_rate(지금 {4})를 낮추거나 precision=float32로 하세요.",
    "{}: no finite gradient in {} steps in a row, up to step {}, after {} rollbacks (learning rate {}). Lower learning_rate (now {}) or set precision=float32.":
        "{0}: 되돌림을 {3}번 한 뒤 스텝 {2}까지 {1}번 잇달아 기울기가 유한하지 않았습니다(학습률 {4}). learning_rate(지금 {5})를 낮추거나 precision=float32로 하세요.",
    "{}: the longest row ({}, {} tokens) does not fit on its own into {} of {} GiB (gradient_checkpointing={}). {}":
        "{0}: 가장 긴 행({1}, 토큰 {2}개) 하나도 {4} GiB의 {3}에 들어가지 않습니다(gradient_checkpointing={5}). {6}",
    "{}, step {}: out of GPU memory with {}, so not even one row fits. {}": "{}, 스텝 {}: GPU 메모리가 {}에서 가득 차 한 행도 들어가지 않습니다. {}",
    "The run {} was trained with other settings:{}": "실행 {}은 다른 설정으로 학습했습니다:{}", "The run {} was trained with other settings:": "실행 {}은 다른 설정으로 학습했습니다:",
    "Choose another name (--set run_name=...), or delete {} to start over.": "다른 이름을 고르거나(--set run_name=...), 처음부터 하려면 {}를 지우세요.",
    "output_dir={} is not writable ({}). Choose another folder: --set output_dir=FOLDER.": "output_dir={}에 쓸 수 없습니다({}). 다른 폴더를 고르세요: --set output_dir=폴더",
    "{} is damaged, so it is unknown which settings the run was trained with. {}": "{}이 손상되어 실행을 어떤 설정으로 학습했는지 알 수 없습니다. {}",
    "Fold {} of the run {} was trained on different files of the base model {}:\n{}\nRestore them. {}":
        "실행 {1}의 폴드 {0}은 베이스 모델 {2}의 다른 파일로 학습했습니다:\n{3}\n원래 파일을 되돌려 놓으세요. {4}",
    "has no weights": "가중치가 없습니다", "is not scored": "채점하지 않았습니다", "was scored with weights other than the current ones": "지금과 다른 가중치로 채점했습니다",
    "was scored in {} option orders at scales {}, while the settings ask for {} at {}": "보기 순서 {}가지, 배율 {}로 채점했는데 설정은 {}가지, 배율 {}입니다",
    "was scored on other rows or photographs or by another answer_by, or its scores are damaged": "다른 행이나 사진, 다른 answer_by로 채점했거나 점수가 손상되었습니다",
    # %% ensemble and submission
    "text-only prior": "텍스트 전용 모델", "{} (folds {}) {}": "{} (폴드 {}) {}",
    "{} Its weights are equal: fewer than two members have out-of-fold scores to learn them from.":
        "{} 가중치는 같습니다: OOF 점수가 있는 멤버가 둘보다 적어 가중치를 학습할 수 없습니다.",
    "Learned weights: learned weights change the accuracy on rows they were not fitted on by {} (n={}, {}).":
        "학습한 가중치: 가중치를 맞추지 않은 행에서 정확도가 {} 달라집니다(n={}, {}).",
    "Equal weights: learned weights change the accuracy on rows they were not fitted on by {} (n={}, {}), no significant improvement.":
        "같은 가중치: 학습한 가중치는 가중치를 맞추지 않은 행에서 정확도를 {}만큼 바꿀 뿐(n={}, {}) 유의하게 낫지 않습니다.",
    "{}: no clear answer in {}, counted as undecided.": "{}: {}에 분명한 답이 없어 미정으로 셉니다.", "{}: {} are not in the test set and are not used.": "{}: {}은 테스트에 없어 쓰지 않습니다.",
    "it holds {} of the run {}, and the accuracy of the new answers is not measured.": "실행 {1}의 {0}이 들어 있고, 새 답의 정확도를 재지 않았습니다.",
    "it holds {} of the run {}, accuracy {}, and there are no rows on which both were measured.": "실행 {1}의 {0}(정확도 {2})이 들어 있고, 둘 다 잰 행이 없습니다.",
    "it holds {} of the run {}, and there are no rows on which both were measured.": "실행 {1}의 {0}이 들어 있고, 둘 다 잰 행이 없습니다.",
    "it holds {} of the run {}, accuracy {}, and the new answers are significantly worse: {} on {} on which both were measured.":
        "실행 {1}의 {0}(정확도 {2})이 들어 있는데 새 답이 유의하게 나쁩니다: 둘 다 잰 {4}에서 {3}.",
    "it holds {} of the run {}, and the new answers are significantly worse: {} on {} on which both were measured.":
        "실행 {1}의 {0}이 들어 있는데 새 답이 유의하게 나쁩니다: 둘 다 잰 {3}에서 {2}.",
    "its content is unknown.": "무엇이 들어 있는지 알 수 없습니다.", "; they are also in {}": "({}에도 있습니다)",
    "It holds answers of the run {} to other test rows: questions, choices or photographs differ. Score these rows: mcvqa predict {}, then mcvqa ensemble {}.":
        "실행 {}이 다른 테스트 행(질문, 보기, 사진이 다름)에 한 답이 들어 있습니다. 이 행을 채점하세요: mcvqa predict {}, 그다음 mcvqa ensemble {}.",
    "NOT valid:": "제출할 수 없습니다:", "NOT valid:\n{}": "제출할 수 없습니다:\n{}", "- {}": "- {}", "{}, and {} more": "{} 외 {}개",
    "The file has {}, the test set {}.": "파일에는 {}, 테스트에는 {}행이 있습니다.", "Missing ids: {}.": "빠진 id: {}.", "Duplicate ids: {}.": "중복된 id: {}.",
    "Ids not in the test set: {}.": "테스트에 없는 id: {}.", "The ids are not in the order of the test set: {}.": "id의 순서가 테스트와 다릅니다: {}.",
    "Rows that do not have {} cells: {}.": "셀이 {}개가 아닌 행: {}.", "row {}": "{}행", "{}: row {}": "{}개: {}행",
    "row {} has {} instead of {}": "{}행은 {}(맞는 값 {})", "{}: row {} has {} instead of {}": "{}개: {}행은 {}(맞는 값 {})",
    "The first line must be {}; it is {}.{}": "첫 줄은 {}이어야 하는데 {}입니다.{}",
    "It looks as if the table's index was written too (use index=False).": "표의 인덱스까지 쓴 것 같습니다(index=False로 하세요).",
    "Answers must be {}, such as {}, and fit the row's choices; they do not in {}.": "답은 그 행의 보기를 가리키는 {}(예: {})여야 하는데 그렇지 않은 행: {}.",
    "{} has {}{}, the training file {}: the submission is written in {} (submission_style={} changes that).":
        "{}에는 {}{}, 학습 파일에는 {}가 있습니다. 제출 파일은 {}로 씁니다(submission_style={}로 바꿀 수 있습니다).",
    "(the same in every row)": "(모든 행이 같음)", "the training file": "학습 파일",
    "{} writes {} where the submission has {}: check the competition's rules{}": "{}에는 {}로, 제출 파일에는 {}로 적습니다. 대회 규칙과 맞는지 확인하세요{}",
    ", or write so into sample_submission.csv": ". 그렇게 써야 하면 sample_submission.csv에 그렇게 적으세요",
    "{} holds numbers that may count from 0 or from 1: the submission is written in {}, like the training file (submission_style=one or zero changes that)":
        "{}의 숫자가 0부터인지 1부터인지 알 수 없어 학습 파일처럼 {}로 씁니다(submission_style=one이나 zero로 바꿀 수 있습니다)",
    "{} It is not used: the submission's header is id,answer.": "{} 쓰지 않습니다. 제출 파일의 머리글은 id,answer입니다.",
    "{} has the columns {}; an id and an answer are expected. The header is id,answer.": "{}의 열은 {}입니다. id와 answer가 있어야 합니다. 머리글은 id,answer로 씁니다.",
    "{} does not match the test rows: only in the sample {}; only in the test rows {}. The submission uses the ids and the order of the test file.":
        "{}이 테스트 행과 맞지 않습니다. 샘플에만 있는 것 {}; 테스트에만 있는 것 {}. 제출 파일은 테스트의 id와 순서를 따릅니다.",
    "{} has the id {} where the test file, and so the submission, has {}: check the competition's rules":
        "{}에는 id {}, 테스트와 제출 파일에는 {}입니다. 대회 규칙과 맞는지 확인하세요",
    "not measured: {}": "측정하지 않음: {}", "no rows": "행 없음",
    "{} for all folds, chosen by out-of-fold log-loss ({}); the choice makes the accuracy about {} points too high":
        "모든 폴드에 {}, OOF 로그 손실({})이 가장 작아서 골랐습니다. 같은 행으로 골랐으므로 정확도가 약 {}점 높게 나왔을 수 있습니다",
    "Standard deviation between {} seeds: {} (95 % interval {} to {}); sampling error of an accuracy: {}. Two runs of one seed each may differ by {} on these rows because of their seeds alone.":
        "시드 {}개 사이의 표준편차: {}(95% 구간 {} ~ {}), 정확도의 표본 오차: {}. 시드가 하나씩인 두 실행은 시드만 달라도 이 행들에서 정확도가 {}까지 차이 날 수 있습니다.",
    "All {} seeds have the same accuracy on these rows, which are too few to show how much seeds differ; sampling error of an accuracy: {}.":
        "시드 {}개의 정확도가 이 행들에서 모두 같습니다. 행이 너무 적어 시드 차이를 알 수 없습니다. 정확도의 표본 오차: {}.",
    # %% tags
    "label probably wrong {}": "라벨 오류 의심 {}", "never learned {}": "학습되지 않음 {}", "order-sensitive {}": "보기 순서에 민감 {}",
    "misled by the picture {}": "사진이 오히려 방해 {}", "resolution-sensitive {}": "해상도에 민감 {}", "ambiguous {}": "답이 애매함 {}",
    "unreadable photograph {}": "사진을 읽을 수 없음 {}", "no row has a tag": "진단이 붙은 행 없음",
    # %% the demo
    "both models together: {} and {}": "두 모델을 함께: {}, {}",
    "| | accuracy | 95 % interval | gain over the line above |": "| | 정확도 | 95% 구간 | 윗줄 대비 향상 폭 |", "| text-only prior | {}": "| 텍스트 전용     | {}",
    "| zero-shot       | {}": "| 학습 전         | {}", "| single fold     | {}": "| 폴드 하나       | {}", "| {} folds         | {}": "| 폴드 {}개        | {}",
    "| {} to {}": "| {} ~ {}", "{} | {} to {} |{}": "{} | {} ~ {} |{}",  # a row, and what is behind its first cell
    "| + ensemble      | {}": "| + 앙상블        | {}", "ladder      {}, {}": "기법별 표   {}, {}",
    "{}/train.csv was not generated here: choose an empty folder for the demo data.": "{}/train.csv는 여기서 생성한 것이 아닙니다. 데모 데이터에는 빈 폴더를 고르세요.",
    # %% audit, explorer
    "{} judged by models that never saw them, in {} by {}": "{}를 그 라벨을 학습하지 않은 모델로 판정했습니다({}, {})",
    "{} views (option orders and scales)": "보기 순서와 배율 {}가지", "{} view": "보기 순서와 배율 {}가지", "{} member": "모델 {}개", "{} members": "모델 {}개",
    "expected to be wrong: {} ({}), roughly: a model's confident mistakes look like wrong labels":
        "틀린 것으로 예상되는 라벨: 대략 {}개({}). 모델이 확신하고 틀린 것도 틀린 라벨처럼 보입니다",
    "expected precision: {}": "예상 정밀도: {}", "no label needs a second look": "확인할 만한 라벨이 없습니다",
    "{}% of the first {}": "처음 {1}개 중 {0}%", "{} earlier decision": "이전 결정 {}개", "{} earlier decisions": "이전 결정 {}개",
    "written: {} ({} and {}). Review each row, write fix, drop or keep into the column {}, and train with --set fixes={}. Empty cells change nothing.":
        "저장했습니다: {}({}, {}). 하나씩 보고 {} 열에 fix, drop, keep 가운데 하나를 적은 다음 --set fixes={}로 학습하세요. 비워 둔 행은 바뀌지 않습니다.",
    "written: {} ({}). Review each row, write fix, drop or keep into the column {}, and train with --set fixes={}. Empty cells change nothing.":
        "저장했습니다: {}({}). 하나씩 보고 {} 열에 fix, drop, keep 가운데 하나를 적은 다음 --set fixes={}로 학습하세요. 비워 둔 행은 바뀌지 않습니다.",
    "written: {} ({}). Open it in a browser; it needs neither a server nor the internet.": "저장했습니다: {}({}). 브라우저에서 여세요. 서버도 인터넷도 필요 없습니다.",
    "{} row, {} MB": "{}행, {} MB", "{} rows, {} MB": "{}행, {} MB",
    "The runs {} cannot be shown side by side: {} of {} with the same id differ. The first is the {} row {}: {}. Explore them one by one.":
        "실행 {0}을 나란히 볼 수 없습니다: id가 같은 {2} 중 {1}개의 내용이 다릅니다. 예: {3} 행 {4}: {5}. 하나씩 보세요.",
    "The runs {} have no row in common: only runs on the same data can be shown side by side.": "실행 {}에 같은 행이 없습니다. 같은 데이터의 실행만 나란히 볼 수 있습니다.",
    # %% answering, exporting, serving
    "{} rows of {}, answered by {} of {}": "{1}의 {0}행에 {3}의 {2}로 답합니다", "{} row of {}, answered by {} of {}": "{1}의 {0}행에 {3}의 {2}로 답합니다",
    "{} rows of {}, answered by folds {} and the final model of {}": "{1}의 {0}행에 {3}의 폴드 {2}와 최종 모델로 답합니다",
    "{} rows of {}, answered by fold {} of {}": "{1}의 {0}행에 {3}의 폴드 {2}로 답합니다", "{} row of {}, answered by fold {} of {}": "{1}의 {0}행에 {3}의 폴드 {2}로 답합니다",
    "{} rows of {}, answered by the final model of {}": "{1}의 {0}행에 {2}의 최종 모델로 답합니다", "{} no readable photograph and is answered from text alone": "{}은 읽을 수 있는 사진이 없어 글만 보고 답합니다",
    "{} no readable photograph and are answered from text alone": "{}은 읽을 수 있는 사진이 없어 글만 보고 답합니다", "the weights were made by 0.1, unverified": "가중치는 0.1 버전이 만든 것으로 확인하지 못했습니다",
    "{} (made by 0.1, unverified)": "{} (0.1 버전이 만든 것, 확인하지 못함)", "no table": "표가 없습니다", "several tables: {}": "표가 여러 개: {}",
    "no final model (final_fit=true trains one)": "최종 모델 없음(final_fit=true로 학습합니다)", "a final model": "최종 모델 있음",
    ", or answer with one fold: --fold {}": ". 폴드 하나로 답하려면: --fold {}",
    "{}: {}; {}, log-probabilities at most {} apart": "{}: {}. {}, 로그 확률은 최대 {} 차이 납니다",
    "{}: fold {} of {}; {}, log-probabilities at most {} apart": "{0}: {2}의 폴드 {1}. {3}, 로그 확률은 최대 {4} 차이 납니다",
    "{}: the final model of {}; {}, log-probabilities at most {} apart": "{}: {}의 최종 모델. {}, 로그 확률은 최대 {} 차이 납니다",
    "{} of {} rows get the same letter": "{1}행 중 {0}행에서 같은 글자를 고르고",
    "pushed: {}": "올렸습니다: {}",
    "{} exists: name a new folder, or delete it first.": "{}이 이미 있습니다. 새 폴더를 적거나 먼저 지우세요.",
    "prompt_by_type=true depends on the type of question, which only mcvqa determines: use mcvqa answer.":
        "prompt_by_type=true는 질문 유형에 따라 묻는데, 유형은 이 패키지만 압니다. mcvqa answer를 쓰세요.",
    "{} has {} weights, but merging needs 16-bit weights: export without --merged.": "{}의 가중치는 {}인데 합치려면 16비트여야 합니다. --merged 없이 내보내세요.",
    "{}\nThe export is verified by answering rows: name some with --data FILE.": "{}\n내보낸 모델에 물어 확인할 행이 필요합니다: --data 파일로 알려 주세요.",
    "The answers of the exported folder differ from the run's: {} of {} letters differ, log-probabilities by up to {} where {} is acceptable. Nothing was exported.":
        "내보낸 폴더의 답이 실행과 다릅니다: 글자 {1}개 중 {0}개가 다르고, 로그 확률이 {3}까지만 다를 수 있는데 {2}까지 다릅니다. 아무것도 내보내지 않았습니다.",
    "The chat template changes {} of the prompt, which infer.py cannot do: use mcvqa answer.": "채팅 템플릿이 프롬프트의 {}을 바꾸는데 infer.py는 그렇게 하지 못합니다. mcvqa answer를 쓰세요.",
    "{} of {} weights differ from those of the base model with the adapters, first {}: nothing was exported.":
        "가중치 {1}개 중 {0}개가 베이스 모델에 어댑터를 합친 것과 다릅니다. 예: {2}. 아무것도 내보내지 않았습니다.",
    "--push {}: write OWNER/NAME, such as kim/traffic-quiz.": "--push {}: kim/traffic-quiz처럼 OWNER/NAME으로 적으세요.",
    "--push needs the hub, but HF_HUB_OFFLINE=1 turns it off.": "--push에는 허브가 필요한데 HF_HUB_OFFLINE=1로 꺼져 있습니다.",
    "--push needs a token with write access: run `hf auth login`, or set HF_TOKEN. Nothing was exported.":
        "--push에는 쓰기 토큰이 필요합니다. `hf auth login`을 실행하거나 HF_TOKEN을 설정하세요. 아무것도 내보내지 않았습니다.",
    "{} was exported and is kept, but could not be uploaded to {}: {} To upload it later: hf upload {} {} .": "{}에 내보냈고 그대로 두었지만 {}에 올리지 못했습니다: {} 나중에 올리려면: hf upload {} {} .",
    "loading the model ...": "모델을 불러오는 중 ...", "Press Ctrl-C to stop.": "Ctrl-C로 끝냅니다.", "The page needs gradio {} or newer{}: pip install 'mcvqa[ui]'":
        "페이지에는 gradio {} 이상이 필요합니다{}: pip install 'mcvqa[ui]'", ", not {}": "(지금 {})",
    "The page cannot be served at {}:{}: {}. Choose another --port.": "{}:{}에서 페이지를 열 수 없습니다: {}. --port를 바꾸세요.",
    "The page cannot be served: {}. Choose another --port.": "페이지를 열 수 없습니다: {}. --port를 바꾸세요.",
    # %% presets, models, experiments
    "Use one with --preset NAME; see all of its settings with: mcvqa presets --preset NAME": "--preset 이름으로 쓰고, 모든 설정은 mcvqa presets --preset 이름으로 봅니다",
    "mcvqa {}": "mcvqa {}", "model  path  4 bits  16 bits  no GPU here": "모델  경로  4비트  16비트  GPU 없음",
    "model  path  4 bits  16 bits  {} GiB here": "모델  경로  4비트  16비트  GPU {} GiB",
    "GiB for weights and activations; mcvqa check estimates any model from its config.json.":
        "가중치와 활성값의 GiB. mcvqa check가 어떤 모델이든 config.json으로 계산합니다.",
    "fast: image features are computed once; plain: every prompt is computed in full.": "fast: 이미지 특징을 한 번만 계산합니다. plain: 프롬프트마다 처음부터 계산합니다.",
    "Tested model families: docs/models.md. Choose a model with --set model_id=NAME": "시험한 모델 계열: docs/models.md. 모델은 --set model_id=이름으로 고르세요",
    "run  accuracy  blind  model  settings  time  date": "실행  정확도  글만  모델  설정  시간  날짜", "There are no runs in {}.": "{}에 실행이 없습니다.",
    "{}; {} s; {}": "{}; {}초; {}", "{}; {} min {} s; {}": "{}; {}분 {}초; {}", "{}; {} h {} min; {}": "{}; {}시간 {}분; {}",
    "{} alone {}": "{} 단독  {}", "{} alone  {}": "{} 단독   {}",  # a member, in a table
    "{}  unfinished: no metrics.json yet{}": "{}  미완성: metrics.json이 아직 없음{}", "{}  failed: {}": "{}  실패: {}", "unfinished: no metrics.json yet": "미완성: metrics.json이 아직 없음", "accuracy {}; texts alone {}": "정확도 {}, 글만 보면 {}",
    "{}  trial: {}": "{}  탐색: {}",
    # %% searching
    "# Settings that `mcvqa search` varies. Settings whose line you delete, or that you set by hand, stay as they are.":
        "# `mcvqa search`가 탐색하는 설정. 줄을 지운 설정과 직접 정한 설정은 그대로 둡니다.",
    "# name: [values to choose from]     or     name: {low: ..., high: ..., log: true}, log for orders of magnitude":
        "# 이름: [고를 값들]     또는     이름: {low: ..., high: ..., log: true}, log는 자릿수 단위로 탐색할 때",
    "# effective_batch is the number of rows in an optimizer step: batch_size times grad_accum_steps.":
        "# effective_batch는 옵티마이저 스텝당 행 수입니다: batch_size 곱하기 grad_accum_steps.",
    "study {}: {}, {} done before": "탐색 {}: {}, 그중 {}번은 이미 했습니다", "study {}: {}": "탐색 {}: {}", "{} trial": "시도 {}번", "{} trials": "시도 {}번",
    "judged by the log-loss of the {} of fold {}, which no trial trains on": "폴드 {1}의 {0}에서 잰 로그 손실로 평가합니다. 이 행은 어느 시도도 학습하지 않습니다",
    "searched: {}": "탐색할 설정: {}", "outside the search space, so no trial has it: {}": "탐색 공간 밖이라 어느 시도에도 없음: {}",
    "set by hand, so not searched: {}": "직접 정해 탐색하지 않음: {}", "confirming on the other folds: trials {}": "나머지 폴드로 확인: 시도 {}",
    "trial {} ({}/{}): {}: {}": "시도 {} ({}/{}): {}: {}", "log-loss {}, accuracy {}": "로그 손실 {}, 정확도 {}",
    "pruned, log-loss {} then": "조기 중단, 그때 로그 손실 {}", "pruned": "조기 중단", "failed": "실패", "killed": "중단됨", "failed: {}": "실패: {}",
    "failed, log-loss {} then: {}": "실패, 그때 로그 손실 {}: {}", "killed, log-loss {} then": "중단됨, 그때 로그 손실 {}", "the settings of trial {}, which was {}": "시도 {}와 같은 설정({})",
    "trial {} was interrupted; it is run again": "시도 {}가 중단되어 다시 합니다", "trial {} is being confirmed by another process; its result is waited for": "시도 {}는 다른 프로세스가 확인하고 있습니다. 그 결과를 기다립니다",
    "the time budget is used up; run the same command again to resume": "시간 예산을 다 썼습니다. 같은 명령을 다시 실행하면 이어서 합니다",
    "the page of the search": "탐색 페이지", "the importances of settings": "설정의 중요도",
    "page       {}": "페이지     {}", "settings   {}\nuse them   mcvqa run --config {}": "설정       {}\n쓰려면     mcvqa run --config {}",
    "{} of {} trials were done; run the same command again for the others": "시도 {1}번 중 {0}번을 했습니다. 같은 명령을 다시 실행하면 나머지를 합니다",
    "best on fold {}: trial {}, {}: {}": "폴드 {}에서 최고: 시도 {}, {}: {}",
    "a tie: trials {} differ from the best by no more than two standard errors of the difference. These rows cannot tell which is best.":
        "동점: 시도 {}은 최고와의 차이가 그 표준 오차의 두 배를 넘지 않습니다. 이 행들로는 어느 것이 최고인지 가릴 수 없습니다.",
    "a tie: trial {} differs from the best by no more than two standard errors of the difference. These rows cannot tell which is best.":
        "동점: 시도 {}은 최고와의 차이가 그 표준 오차의 두 배를 넘지 않습니다. 이 행들로는 어느 것이 최고인지 가릴 수 없습니다.",
    "confirmed: trial {}, log-loss {} on all folds; on the other folds {}, accuracy {}":
        "확인: 시도 {}, 모든 폴드에서 로그 손실 {}; 나머지 폴드에서 {}, 정확도 {}",
    "confirmed: trial {}, log-loss {} on all folds": "확인: 시도 {}, 모든 폴드에서 로그 손실 {}",
    "not confirmed on other folds: the log-loss of the best of many trials is probably too optimistic.": "나머지 폴드로 확인하지 않았습니다. 여러 시도 중 최고의 로그 손실은 실제보다 좋게 나왔을 가능성이 큽니다.",
    "No trial was trained to the end{}. Start from a lower learning_rate, or allow more time.": "끝까지 학습한 시도가 없습니다{}. learning_rate를 낮추거나 시간을 더 주세요.",
    "--study {} cannot be a folder name: {}, including the hash of a trial at its end.": "--study {}은 폴더 이름으로 쓸 수 없습니다: {}(뒤에 붙는 시도의 해시 포함).",
    "A search does not run on Ray: start the same command on every machine, with one shared output folder.":
        "탐색은 Ray로 실행할 수 없습니다. 출력 폴더 하나를 함께 쓰고 컴퓨터마다 같은 명령을 시작하세요.",
    "{} is the folder of a run. A study needs its own folder: --study NAME.": "{}은 실행의 폴더입니다. 탐색에는 따로 이름을 주세요: --study 이름.",
    "A search process failed. The end of its output is in {}.": "탐색하던 프로세스가 실패했습니다. 마지막 출력: {}.",
    "All search processes were killed (status {}), perhaps because memory ran out: {}. Run the same command again to continue.":
        "탐색하던 프로세스가 모두 중단되었습니다(상태 {}). 메모리가 부족했을 수 있습니다: {}. 같은 명령을 다시 실행하면 이어서 합니다.",
    "The search space {} cannot be read: {}.": "탐색 공간 {}을 읽을 수 없습니다: {}.",
    "{} must contain lines such as 'lora_r: [8, 16]'. mcvqa search --show-space prints an example.": "{}에는 'lora_r: [8, 16]' 같은 줄이 있어야 합니다. mcvqa search --show-space가 예를 보여 줍니다.",
    "{}: all of its settings were set by hand ({}), so there is nothing to search.": "{}: 모든 설정을 직접 정해({}) 탐색할 것이 없습니다.", "The default search space": "기본 탐색 공간",
    "{}: num_epochs=0 trains nothing, so there is nothing to compare.": "{}: num_epochs=0이면 학습하지 않아 비교할 것이 없습니다.",
    "{}: search {} instead of {}: the weights depend only on the number of rows per step.": "{0}: {2} 대신 {1}을 탐색하세요. 가중치는 스텝의 행 수에 달렸습니다.",
    "{}: {} cannot be searched: it selects rows, and all trials must be judged on the same rows.": "{}: {}은 행을 정하는 설정이라 탐색할 수 없습니다. 모든 시도를 같은 행으로 평가합니다.",
    "{}: {} cannot be searched: trained weights do not depend on it.": "{}: {}은 학습한 가중치에 영향을 주지 않아 탐색할 수 없습니다.",
    "{}: {} has no effect with lora_r=0, which trains all weights. Remove it.": "{}: lora_r=0은 모든 가중치를 학습하므로 {}은 효과가 없습니다. 빼세요.",
    "{}: {}: {} is neither [values] nor {low: ..., high: ...} with {}numbers, low below high (and above 0 with log: true).":
        "{}: {}: {}은 [값들]도 {low: ..., high: ...}도 아닙니다({}수, low < high, log: true이면 0보다 커야 함).",
    "{}: {}: {} is neither [values] nor {low: ..., high: ...} with whole numbers, low below high (and above 0 with log: true).":
        "{}: {}: {}은 [값들]도 {low: ..., high: ...}도 아닙니다(정수, low < high, log: true이면 0보다 커야 함).",
    "{}: {}: {} is not a list of values. The setting is not a number, so write {}: [one, another].": "{}: {}: {}은 값의 목록이 아닙니다. 수가 아니므로 {}: [하나, 다른 하나]처럼 적으세요.",
    "{}={} is not a whole number of rows.": "{}={}은 행 수(정수)가 아닙니다.",
    "The search needs Optuna: pip install 'mcvqa[search]'": "탐색에는 Optuna가 필요합니다: pip install 'mcvqa[search]'",
    "The storage {} cannot be opened: {}. Expected: a file in a folder that exists, or a URL such as sqlite:///study.db whose database driver is installed.":
        "저장소 {}을 열 수 없습니다: {}. 있는 폴더의 파일이거나, 드라이버를 설치한 데이터베이스의 URL(예: sqlite:///study.db)이어야 합니다.",
    "no worker has started yet: no node has {} free (`ray status`). It is waited for.":
        "아직 시작한 작업 프로세스가 없습니다. {}가 비어 있는 노드가 없습니다(`ray status`). 빌 때까지 기다립니다.",
    "{} is not a journal of Optuna, or damaged in line {}. Restore it, or start another study in another file: --study NAME.":
        "{}은 Optuna의 저널이 아니거나 {}행이 손상되었습니다. 되살리거나 다른 파일로 새 탐색을 시작하세요: --study NAME.",
    "The study {} was made on other data: rows, answers, photographs or folds changed. Choose another name: --study NAME.":
        "탐색 {}은 다른 데이터로 만들었습니다(행, 정답, 사진, 폴드가 바뀜). 이름을 바꾸세요: --study 이름.",
    "The study {} belongs to another output folder, and all processes of a search share one. Choose another name: --study NAME.":
        "탐색 {}은 다른 출력 폴더의 것입니다. 한 탐색의 프로세스는 모두 같은 폴더를 씁니다. 이름을 바꾸세요: --study 이름.",
    "The study {} has another search space: {}. Choose another name: --study NAME.": "탐색 {}의 탐색 공간이 다릅니다: {}. 이름을 바꾸세요: --study 이름.",
    "The study {} has other settings: {}. Choose another name: --study NAME.": "탐색 {}의 설정이 다릅니다: {}. 이름을 바꾸세요: --study 이름.",
    "The study {} {}. Choose another name: --study NAME.": "탐색 {}: {}. 이름을 바꾸세요: --study 이름.",
    # %% files that are not read
    "save its table as 'CSV UTF-8'": "표를 'CSV UTF-8'로 저장하세요", "a tar archive: {}": "tar 압축 파일입니다. {}", "a 7z archive: {}": "7z 압축 파일입니다. {}",
    "unpack it and name the folder with --data FOLDER (in Python: data_dir); of archives only .zip is unpacked here":
        "압축을 풀고 --data 폴더로 알려 주세요. 압축 파일 중에서는 .zip만 풉니다",
    "a RAR archive: {}": "RAR 압축 파일입니다. {}", "compressed with Zstandard: {}": "Zstandard로 압축되었습니다. {}", "an ALZip archive: {}": "알집 압축 파일입니다. {}",
    "one part of an archive: {}": "나뉜 압축 파일의 한 조각입니다. {}", "an unfinished download: download it again": "내려받다 만 파일입니다. 다시 내려받으세요",
    "an old Excel file (.xls), or one with a password: save it as .xlsx or 'CSV UTF-8'":
        "옛 엑셀 파일(.xls)이거나 암호가 걸려 있습니다. .xlsx나 'CSV UTF-8'로 저장하세요",
    "an Excel file with macros or in binary form: {}": "매크로가 있거나 이진 형식인 엑셀 파일입니다. {}", "an OpenDocument table (.ods): {}": "OpenDocument 표(.ods)입니다. {}",
    "a Numbers document: export it as CSV": "Numbers 문서입니다. CSV로 내보내세요", "a link to Google Sheets: download the table as CSV": "구글 시트 링크입니다. 표를 CSV로 내려받으세요",
    "a PDF document: {}": "PDF 문서입니다. {}", "a Git LFS pointer, not the file itself: run git lfs pull": "파일이 아니라 Git LFS 포인터입니다. git lfs pull을 실행하세요",
    "a web page (HTML): download it again, as a CSV file": "웹 페이지(HTML)입니다. CSV 파일로 다시 내려받으세요", "an XML file: {}": "XML 파일입니다. {}",
    "a file of another program: {}": "다른 프로그램의 파일입니다. {}",
    "a pickle, which can run programs when it is read: write it with DataFrame.to_csv": "읽을 때 프로그램을 실행할 수 있는 pickle입니다. DataFrame.to_csv로 저장하세요",
    "packed twice: unpack it by hand": "두 번 압축되었습니다. 직접 압축을 푸세요", "a picture, not a table": "표가 아니라 사진입니다",
    "{} is an old Excel file (.xls), or one with a password: save it as .xlsx or 'CSV UTF-8'.":
        "{}은 옛 엑셀 파일(.xls)이거나 암호가 걸려 있습니다. .xlsx나 'CSV UTF-8'로 저장하세요.",
    "{} is a web page (HTML): download it again, as a CSV file.": "{}은 웹 페이지(HTML)입니다. CSV 파일로 다시 내려받으세요.",
    "{} has no {}.csv. {}": "{}에 {}.csv가 없습니다. {}", "Expected: train.csv with answers and test.csv without.": "정답이 있는 train.csv와 정답이 없는 test.csv가 있어야 합니다.",
    "There are {} such files, first {}: put all rows into one table, {}.csv.": "그런 파일이 {}개 있습니다. 예: {}. 모든 행을 표 하나({}.csv)로 합치세요.",
    "There is {}: the file name is not recognized. {}; rename it, for example to {}.csv.": "{}이 있는데 파일 이름을 알아볼 수 없습니다. {}. 이름을 {}.csv처럼 바꾸세요.",
    "A table is named train or test and ends in {} (also packed as {}), {}": "표의 이름은 train이나 test이고 {}로 끝나야 합니다({}로 압축해도 됩니다), {}",
    "Several folders in {} hold data:{}\nName one with --data FOLDER (in Python: data_dir).": "{}에 데이터가 든 폴더가 여럿입니다:{}\n--data 폴더로 하나를 알려 주세요.",
    "There is no train.csv or test.csv in {}, nor in the folders or a .zip in it (it holds: {}). Name the right folder with --data FOLDER (in Python: data_dir).":
        "{}과 그 안의 폴더나 .zip에 train.csv도 test.csv도 없습니다(있는 것: {}). 맞는 폴더를 --data 폴더로 알려 주세요.",
    "There is no train.csv or test.csv in {}, nor in the folders or a .zip in it. {}": "{}과 그 안의 폴더나 .zip에 train.csv도 test.csv도 없습니다. {}",
    "empty: {}": "비어 있음: {}", "its columns are {}": "있는 열: {}", "If they are in {}, join them by id.": "정답이 {}에 있다면 id로 합치세요.",
    "{} has a second header, row {}: delete one of the two.": "{}에 머리글이 또 있습니다({}행). 둘 중 하나를 지우세요.",
    "The header seems to be row {} below that line ({}): delete what is above it.": "머리글은 그 줄 아래 {}행({})인 것 같습니다. 그 위를 지우세요.",
    "{} is read where each of its cells is a list: [\"red\", \"blue\"] or red|blue.": "{}은 모든 셀이 목록일 때 읽습니다: [\"빨강\", \"파랑\"] 또는 빨강|파랑.",
    "Save each in a file of its own: train.json, test.json.": "각각 train.json, test.json으로 저장하세요.",
    "Join them: one list, in which each row has its image, question, choices and answer.": "하나로 합치세요. 행마다 사진, 질문, 보기, 정답이 있는 목록이어야 합니다.",
    "rows under {}": "{} 아래의 행", "one row": "한 행", "by columns": "열별로", "by row numbers": "행 번호별로", "as of pandas, split": "pandas의 split 형식으로",
    "xlsx, sheet {}": "xlsx, 시트 {}",
    "{}; {} holds the date {} in a column of text (Excel turns text such as 3-4 into dates)":
        "{}; 글로 된 열의 {} 셀이 날짜 {}입니다(엑셀은 3-4 같은 글을 날짜로 바꿉니다)",
    "own letters": "보기에 붙은 글자", "fixed choices": "제자리에 두는 보기",
    "The model's chat template leaves out the question. The prompt that it makes:\n{}\nSet chat_template to a file with another template.":
        "모델의 채팅 템플릿에 질문이 들어가지 않습니다. 만들어진 프롬프트:\n{}\nchat_template에 다른 템플릿 파일을 적으세요.",
    "it is unknown what {} was trained on, as it has no {}": "{}이 무엇을 학습했는지 알 수 없습니다({}이 없음)",
    "it has no fingerprints of photographs": "사진의 지문이 없음", "the weights it started from may have been trained on the photographs of {}": "시작한 가중치가 {}의 사진으로 학습되었을 수 있습니다",
    "fresh adapters": "새 어댑터", "other adapters": "다른 어댑터", "unreadable": "읽을 수 없음", "with another shape": "모양이 다름", "not part of the model": "모델에 없는 것",
    "{} The search chose these settings by fold {}, so that the accuracy here is too optimistic; without it: {}.":
        "{} 검색이 폴드 {}으로 이 설정을 골랐으므로 여기의 정확도는 실제보다 좋게 나옵니다. 그 폴드를 뺀 값: {}.",
    "There are {}.": "있는 것: {}.", "There are none yet.": "아직 없습니다.", "{} is not judged by {}.": "{}을 {}로 평가하지 않았습니다.",
}
