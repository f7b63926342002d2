# ruff: noqa: E501
"""Help pages of the commands and meanings of the settings, in Korean: English text -> Korean text, as in korean.py."""

KOREAN_HELP = {
    # %% words of the library that reads arguments
    "Options": "옵션", "Arguments": "인수", "Commands": "명령", "Show this message and exit.": "이 도움말을 보여 줍니다.",
    "사용법: {}\nTry '{}' for help.": "사용법: {}\n도움말: {}", "Error: {}": "오류: {}", "Aborted!": "중단했습니다.",
    "No such option: {}": "{}라는 옵션은 없습니다", "No such option: {} Did you mean {}?": "{}라는 옵션은 없습니다. {}를 뜻하셨나요?",
    "No such option: {} (Possible options: {})": "{}라는 옵션은 없습니다. 비슷한 옵션: {}",
    "No such command {}.": "{}라는 명령은 없습니다.", "No such command {}. Did you mean {}?": "{}라는 명령은 없습니다. {}를 뜻하셨나요?",
    "Missing command.": "명령을 적으세요.", "Missing argument {}.": "인수 {}를 적으세요.", "Missing option {}.": "옵션 {}를 적으세요.",
    "Option {} requires an argument.": "옵션 {}에 값을 적으세요.", "Option {} does not take a value.": "옵션 {}에는 값을 적지 않습니다.",
    "Got unexpected extra argument ({})": "알 수 없는 인수입니다: {}", "Got unexpected extra arguments ({})": "알 수 없는 인수입니다: {}",
    "Got unexpected extra argument(s) ({})": "알 수 없는 인수입니다: {}",
    "Invalid value for {}: {}": "{}의 값이 잘못되었습니다: {}", "{} is not a valid integer.": "{}은 정수가 아닙니다.", "{} is not a valid int.": "{}은 정수가 아닙니다.",
    "Input should be a valid integer, unable to parse string as an integer": "정수여야 합니다", "{} is not in the range {}.": "{}은 범위 {}를 벗어났습니다.",
    "Input should be greater than or equal to {}": "{} 이상이어야 합니다", "Input should be less than or equal to {}": "{} 이하여야 합니다",
    # %% all commands
    "Fine-tune vision-language models on multiple-choice visual question answering and hand in a submission.":
        "사진을 보고 보기 중 하나를 고르는 VQA 문제에 맞춰 비전 언어 모델을 파인튜닝하고 제출 파일을 만듭니다.",
    "Start with: mcvqa demo, or mcvqa run --data FOLDER --preset quick": "처음이라면: mcvqa demo 또는 mcvqa run --data 폴더 --preset quick",
    "Example: {}": "예: {}", "Or: {}": "또는: {}", "Show the version.": "버전을 보여 줍니다.",
    "Language of what is printed: en or ko; by itself that of the locale (LC_ALL, LANG).":
        "출력 언어: en 또는 ko. 적지 않으면 로캘(LC_ALL, LANG)을 따릅니다.",
    "YAML file with settings.": "설정을 적은 YAML 파일.", "Settings to start from: {}.": "바탕이 되는 설정: {}.",
    "Settings, for example NUM_EPOCHS=3 SEED=1.": "설정. 예: NUM_EPOCHS=3 SEED=1",
    "A run that is there: its name, as `mcvqa experiments` shows it, or the path of experiments/<run>. Its settings come from its config.yaml.":
        "이미 있는 실행. `mcvqa experiments`에 나오는 이름이나 experiments/<run> 경로를 적으며, 설정은 그 안의 config.yaml에서 읽습니다.",
    "Folder or .zip with train.csv, test.csv and photographs.": "train.csv, test.csv, 사진이 든 폴더나 .zip.",
    # %% running
    "All ten steps, from the data to a validated submission. Steps already done are skipped.":
        "데이터에서 검사한 제출 파일까지 열 단계를 모두 실행합니다. 이미 끝난 일은 건너뜁니다.",
    "Generate a small data set, then run everything on it with the built-in tiny model: no download, no GPU.":
        "자동 생성한 데이터와 내장 소형 모델로 모두 실행합니다. 내려받을 것도 GPU도 필요 없습니다.",
    "Pre-flight: data, images, label alignment, device, memory, time. Changes nothing.":
        "사전 점검: 데이터, 사진, 라벨 정렬, 장치, 메모리, 시간. 아무것도 바꾸지 않습니다.",
    "What is in the data: tables, figures, duplicates, and what can be guessed from the texts alone.":
        "데이터를 살펴봅니다: 표, 그림, 중복, 글만 보고 맞힐 수 있는 정도.",
    "Split the training rows: stratified by answer and type of question, grouped by image.":
        "학습 행을 폴드로 나눕니다. 정답과 질문 유형으로 층화하고 이미지 그룹을 지킵니다.",
    "Train the folds that have no result yet, or one of them.": "결과가 없는 폴드를 모두, 또는 하나만 학습합니다.", "Only this fold, counted from 0.": "이 폴드만(0부터 셉니다).",
    "Score the validation and test rows with the trained folds.": "학습한 폴드로 검증 행과 테스트 행을 채점합니다.",
    "Combine the folds, other runs and imported prediction files into one submission.": "폴드, 다른 실행, 예측 파일을 합쳐 제출 파일을 만듭니다.",
    "Hand these answers in, whatever the submission holds now.": "지금 제출 파일에 무엇이 있든 이 답으로 바꿉니다.",
    "Write REPORT.md and report.html of a scored run again.": "채점한 실행의 REPORT.md와 report.html을 다시 만듭니다.",
    "Which labels are probably wrong, by out-of-fold scores in all option orders: proposals that a person decides on.":
        "틀렸을 가능성이 큰 라벨을 찾습니다. 모든 보기 순서의 OOF 점수로 후보를 뽑고, 판단은 사람이 합니다.",
    "The file with the proposals; experiments/<run>/fixes.csv by itself.": "후보를 쓸 파일. 기본은 experiments/<run>/fixes.csv.",
    "Look at every row in the browser: photographs, answers, tags, filters, label decisions; two runs side by side. One file, without a server.":
        "브라우저에서 모든 행을 살펴봅니다: 사진, 답, 진단, 필터, 라벨 결정, 두 실행 비교. 서버 없이 파일 하나로 됩니다.",
    "A run on the same data, to be shown beside it.": "나란히 볼 실행. 같은 데이터를 쓴 것이어야 합니다.",
    "The page; experiments/<run>/explore.html by itself.": "페이지 파일. 기본은 experiments/<run>/explore.html.",
    # %% after training
    "Answer new questions with a trained run: one photograph, or a table of rows.": "학습한 실행으로 새 문제에 답합니다. 사진 한 장이나 표를 줍니다.",
    "A photograph.": "사진.", "A question about it.": "사진에 관한 질문.", "A choice; give it once for each.": "보기. 보기마다 한 번씩 적습니다.",
    "Instead: a table, a folder or a .zip with rows to answer.": "또는 답할 행이 든 표, 폴더, .zip.",
    "The file with the answers; answers.csv or submission.csv by itself.": "답을 쓸 파일. 기본은 answers.csv 또는 submission.csv.",
    "Only this fold, counted from 0, or final; all by themselves.": "이 폴드(0부터) 또는 final만. 적지 않으면 모두.",
    "Write what a competition takes: id and answer.": "대회에 내는 형식(id와 answer)으로 씁니다.", "Print the answer as one line of JSON.": "답을 JSON 한 줄로 출력합니다.",
    "Write a trained model for other tools: adapters or whole weights, processor, model card, infer.py; proven by asking it.":
        "다른 도구에서 쓸 수 있게 모델을 내보냅니다: 어댑터나 전체 가중치, 프로세서, 모델 카드, infer.py. 내보낸 모델에 물어 같은 답인지 확인합니다.",
    "The new folder.": "새 폴더.", "Which fold, counted from 0, or final; by itself final, else 0.": "내보낼 폴드(0부터) 또는 final. 기본은 final, 없으면 0.",
    "Whole weights in 16 bits instead of adapters.": "어댑터 대신 16비트 전체 가중치.",
    "Rows to prove it by; those of the run's data by themselves.": "확인에 쓸 행. 기본은 실행의 데이터.",
    "OWNER/NAME on the hub; a new repository is private.": "허브의 OWNER/NAME. 새 저장소는 비공개입니다.",
    "Ask a trained run in the browser: drop a photograph, type a question and choices. Needs mcvqa[ui].":
        "브라우저에서 학습한 실행에 질문합니다. 사진을 끌어다 놓고 질문과 보기를 입력합니다. mcvqa[ui]가 필요합니다.",
    "Only this fold, counted from 0, or final, which is faster.": "이 폴드(0부터) 또는 final만. 더 빠릅니다.",
    "Of 127.0.0.1; the first free one from 7860 on by itself.": "127.0.0.1의 포트. 기본은 7860부터 비어 있는 첫 포트.",
    "Also make a public link, through gradio's servers.": "gradio 서버를 거치는 공개 링크도 만듭니다.",
    "Check a submission file against the test rows: ids, order, letters.": "제출 파일을 테스트 행과 대조합니다: id, 순서, 글자.", "The CSV file to check.": "검사할 CSV 파일.",
    # %% about settings, runs and this installation
    "The version; with --verbose what a bug report needs: versions, commit, device, memory. It names no path, no user and no machine.":
        "버전을 보여 줍니다. --verbose는 버그를 알릴 때 필요한 버전, 커밋, 장치, 메모리까지 보여 주며, 경로나 이름은 나오지 않습니다.",
    "All that a bug report needs.": "버그를 알릴 때 필요한 것 모두.",
    "The presets; with --fields every setting, its default and its meaning.": "프리셋을 보여 줍니다. --fields는 모든 설정의 기본값과 뜻을 보여 줍니다.",
    "List every setting.": "모든 설정을 보여 줍니다.",
    "Models worth a try, with the memory that each takes and whether it fits the GPU here.":
        "써 볼 만한 모델을 보여 줍니다. 필요한 메모리와 지금 GPU에 들어가는지도 알려 줍니다.",
    "All runs in this folder, the most accurate first.": "이 폴더의 모든 실행을 정확도 순으로 보여 줍니다.",
    "Look for better settings with Optuna: trials on one fold, the best few confirmed on the others. Run it again to resume.":
        "Optuna로 더 나은 설정을 탐색합니다. 폴드 하나에서 시도하고 좋은 것만 나머지 폴드로 확인합니다. 다시 실행하면 이어 합니다.",
    "Number of trials in the study, earlier ones included.": "탐색 전체의 시도 수. 앞서 한 것도 셉니다.",
    "Processes at the same time, spread over the GPUs.": "동시에 실행할 프로세스 수. GPU에 나누어 맡깁니다.",
    "Name of the study; by default the run's name with -search.": "탐색의 이름. 기본은 실행 이름에 -search를 붙인 것.",
    "What is searched; see --show-space.": "탐색 공간. --show-space로 볼 수 있습니다.",
    "URL of a database that Optuna knows, such as sqlite:///study.db; by default a file in experiments/<study>.":
        "Optuna가 아는 데이터베이스의 URL. 예: sqlite:///study.db. 기본은 experiments/<study> 안의 파일.",
    "How many of the best are trained on the other folds too.": "나머지 폴드로도 학습할 상위 설정의 수.", "End trials that fall behind.": "뒤처지는 시도를 일찍 끝냅니다.",
    "Only print what is searched, as --space takes it.": "탐색 공간을 --space에 쓸 형식으로 출력만 합니다.",
    # %% settings: data
    "folder (or .zip) with train.csv, test.csv and the photographs": "train.csv, test.csv, 사진이 든 폴더(또는 .zip)",
    "folder that receives checkpoints/, outputs/, logs/, experiments/ and cache/": "checkpoints/, outputs/, logs/, experiments/, cache/를 만들 폴더",
    "output folder of an earlier session, also read-only: its results of this run are checked and copied":
        "이전 세션의 출력 폴더(읽기 전용도 됨). 이 실행의 결과를 확인하고 복사합니다",
    "folder of trained adapters, or of a run, from which folds start; empty: from freshly initialised adapters":
        "폴드가 시작할 학습된 어댑터나 실행의 폴더. 비우면 새로 초기화한 어댑터에서 시작합니다",
    "name of the run's folders; empty: made from the model and the settings": "실행 폴더의 이름. 비우면 모델과 설정으로 만듭니다",
    "CSV column with the row's id; empty: found by itself": "id가 든 CSV 열. 비우면 자동으로 찾습니다",
    "CSV column with the image path; empty: found by itself": "사진 경로가 든 CSV 열. 비우면 자동으로 찾습니다",
    "CSV column with the question; empty: found by itself": "질문이 든 CSV 열. 비우면 자동으로 찾습니다",
    "CSV column with the answer; empty: found by itself": "정답이 든 CSV 열. 비우면 자동으로 찾습니다",
    "what answers mean: letters, positions counted from one or zero, choices' texts; auto: the file shows it":
        "정답을 적은 방식: 글자, 1이나 0부터 세는 번호, 보기의 글. auto: 파일을 보고 정합니다",
    "how the submission writes answers: a, A, 1, 0, a text, 가; auto: as sample_submission.csv, else train.csv":
        "제출 파일에 답을 적는 방식: a, A, 1, 0, 보기의 글, 가. auto: sample_submission.csv, 없으면 train.csv를 따릅니다",
    "train on the rows of dev.csv too, when there is one": "dev.csv가 있으면 그 행도 학습합니다",
    "where annotators voted, leave out rows whose answer has fewer votes; 0: none": "여러 명이 답한 데이터에서 정답의 표가 이보다 적은 행을 뺍니다. 0: 빼지 않습니다",
    "file of decided labels, as `mcvqa audit` proposes them: fix, drop or keep; empty: none":
        "라벨을 결정한 파일(`mcvqa audit`이 만든 것에 fix, drop, keep을 적음). 비우면 없음",
    "validate with the rows of one source only, such as train; the others are only learned from; empty: with all":
        "한 파일의 행으로만 검증합니다(예: train). 나머지는 학습에만 씁니다. 비우면 모두로 검증합니다",
    "work on a stratified sample of the training rows only": "학습 행을 층화 표본으로 줄여 씁니다", "training rows of that sample": "그 표본의 학습 행 수",
    "stratified K-fold; off: one stratified split of the same size": "층화 K-fold. false: 같은 크기로 한 번만 나눕니다", "number of folds": "폴드 수",
    "folds to train, counted from 0; empty: all of them": "학습할 폴드(0부터). 비우면 모두", "seed of every random choice": "모든 난수의 시드",
    "seed of training alone, on the same folds; -1: seed": "같은 폴드에서 학습에만 쓰는 시드. -1: seed와 같음",
    "seeds to train, on the same folds, and combine": "같은 폴드에서 학습해 합칠 시드의 수",
    # %% settings: model and device
    "hub name, folder, or 'tiny' (built in, no download)": "허브의 이름, 폴더, 또는 'tiny'(내장, 내려받지 않음)",
    "version of a hub model: branch, tag or commit; empty: its newest": "허브 모델의 버전: 브랜치, 태그, 커밋. 비우면 최신",
    "images are resized to about image_size² pixels": "사진을 약 image_size² 픽셀로 줄이거나 키웁니다", "where to compute": "계산할 장치",
    "what the GPU is taken for; t4: float16, no FlashAttention, 15 GiB, to rehearse a T4 on a larger GPU":
        "GPU를 무엇으로 볼지. t4: 더 큰 GPU에서 T4를 연습합니다(float16, FlashAttention 없음, 15 GiB)",
    "GPUs that share the layers of a model; auto: as few as hold it": "모델의 레이어를 나누어 맡을 GPU 수. auto: 모델이 들어가는 가장 적은 수",
    "number format of the weights; auto: by the GPU's capability": "가중치의 수 형식. auto: GPU의 연산 능력에 따릅니다",
    "4-bit NF4 for the language model; auto: where the weights in full do not fit into the GPU's memory":
        "언어 모델의 4비트 NF4. auto: 가중치가 GPU 메모리에 다 들어가지 않을 때",
    "compute activations again in the backward pass instead of keeping them; auto: where that is faster":
        "활성값을 저장하지 않고 역전파에서 다시 계산합니다. auto: 그편이 빠를 때",
    "rank of the LoRA adapters; 0: train all weights": "LoRA 어댑터의 랭크. 0: 모든 가중치를 학습합니다", "LoRA scale is lora_alpha / lora_r": "LoRA 배율은 lora_alpha / lora_r",
    "dropout in front of the adapters, a share": "어댑터 앞 드롭아웃 비율",
    "LoRA scale is lora_alpha / sqrt(lora_r) instead, so that adapters of a large rank learn as fast (rsLoRA)":
        "LoRA 배율을 lora_alpha / sqrt(lora_r)로 해서 랭크가 커도 같은 속도로 배우게 합니다(rsLoRA)",
    "adapters learn direction and length of the weights apart (DoRA); off the optimized path, so slower":
        "어댑터가 가중치의 방향과 크기를 따로 배웁니다(DoRA). 최적화된 경로를 쓰지 못해 느립니다",
    "language-model layers that get adapters, by the ends of their names; all-linear: all of them":
        "어댑터를 붙일 언어 모델의 레이어를 이름의 끝으로 적습니다. all-linear: 모든 선형 레이어",
    "adapters on the vision tower's attention and MLP too": "비전 타워의 어텐션과 MLP에도 어댑터를 붙입니다",
    "system message; may use {letters}": "시스템 메시지. {letters}를 쓸 수 있습니다",
    "user message; uses {question} and {options}, may use {letters} and {hint}; empty: Korean or English, as the training questions are":
        "사용자 메시지. {question}과 {options}가 있어야 하고 {letters}와 {hint}를 쓸 수 있습니다. 비우면 학습 질문에 따라 한국어나 영어",
    "file with a chat template (Jinja); empty: the model's own": "채팅 템플릿(Jinja) 파일. 비우면 모델의 것",
    "name=value pairs for the chat template; enable_thinking and thinking are false unless given":
        "채팅 템플릿에 줄 이름=값. enable_thinking과 thinking은 적지 않으면 false입니다",
    "add a hint for the type of question (counting, color, ...)": "질문 유형(개수, 색, ...)에 맞는 힌트를 프롬프트에 넣습니다",
    # %% settings: training
    "passes over the training rows": "학습 행을 반복해서 읽는 횟수(에폭)", "rows per optimizer step, times grad_accum_steps": "옵티마이저 스텝당 행 수(grad_accum_steps를 곱함)",
    "rows per optimizer step, times batch_size": "옵티마이저 스텝당 행 수(batch_size를 곱함)",
    "rows in one forward pass; 0: as many as fit, found by trying (without an NVIDIA GPU: batch_size)":
        "순전파 한 번에 넣는 행 수. 0: 들어가는 만큼 시험해서 정합니다(NVIDIA GPU가 없으면 batch_size)",
    "peak learning rate of AdamW": "AdamW의 최고 학습률", "course of the learning rate after warm-up": "워밍업 뒤 학습률의 변화",
    "AdamW's decoupled weight decay": "AdamW의 가중치 감쇠(decoupled)", "share of the steps with rising learning rate": "학습률을 올리는 스텝의 비율(워밍업)",
    "gradients are clipped to this norm": "기울기의 노름을 이 값으로 자릅니다",
    "cross-entropy of the answer letter among all tokens, or among the letters of the choices only":
        "정답 글자의 교차 엔트로피: 모든 토큰 가운데, 또는 보기의 글자 가운데",
    "share of the target spread over the row's choices": "목표 확률 중 그 행의 보기에 고르게 나누는 비율",
    "where annotators voted, learn their shares instead of the majority": "여러 명이 답한 데이터에서 다수결 대신 득표 비율을 학습합니다",
    "weights of training rows in the loss: votes (the answer's share of them), confidence (a column of the training files), or a file with id and weight; empty: all the same":
        "손실에서 학습 행의 가중치: votes(정답의 득표 비율), confidence(학습 파일의 열), 또는 id와 weight가 든 파일. 비우면 모두 같음",
    "learn from test rows too, with the answers that a run of the same folds or a prediction file gives them":
        "테스트 행도 학습합니다. 답은 같은 폴드의 실행이나 예측 파일에서 가져옵니다",
    "leave out pseudo-labelled rows whose answer is less probable": "답의 확률이 이보다 낮은 의사 라벨 행을 뺍니다",
    "what pseudo-labelled rows teach: their most probable answer, or the probability of each choice":
        "의사 라벨 행에서 배우는 것: 가장 확실한 답, 또는 보기마다의 확률",
    "run of the same folds, such as one of a larger model, whose out-of-fold probabilities are learned too":
        "OOF 확률을 함께 배울 실행(같은 폴드, 예: 더 큰 모델)",
    "share of the teacher's probabilities in the target; the rest is the row's own answer": "목표 중 교사 확률의 비율. 나머지는 그 행의 정답",
    "the teacher's log-probabilities are divided by it; above 1, its probabilities are more even":
        "교사의 로그 확률을 이 값으로 나눕니다. 1보다 크면 확률이 더 고르게 됩니다",
    "a new random order of the choices for each row and epoch": "행과 에폭마다 보기 순서를 새로 섞습니다",
    "orders of the choices learned in one pass over a row (at most its number of choices); needs shuffle_choices":
        "한 행을 한 번 읽을 때 배우는 보기 순서의 수(보기 수까지). shuffle_choices가 필요합니다",
    "weight in the loss of how far the answers in these orders differ (Jensen-Shannon divergence)":
        "이 순서들의 답이 서로 다른 정도(옌센-섀넌 발산)에 주는 손실 가중치",
    "paraphrase question endings (Korean and English)": "질문의 끝말을 바꿔 씁니다(한국어와 영어)", "probability that a question is paraphrased": "질문을 바꿔 쓸 확률",
    "random changes of training photographs, left out where the question's words say that they might alter the answer; photographs are then encoded anew in every step":
        "학습 사진을 무작위로 바꿉니다. 질문의 말로 보아 정답이 달라질 수 있으면 바꾸지 않으며, 사진을 스텝마다 다시 인코딩합니다",
    "automatic mixed precision on a GPU": "GPU에서 자동 혼합 정밀도", "score with the exponential moving average of the trained weights": "가중치의 지수 이동 평균(EMA)으로 채점합니다",
    "decay per step of that average, after its warm-up": "EMA의 스텝당 감쇠율(워밍업 뒤)",
    "score with the plain average of the weights over the last part of training": "학습 마지막 부분의 가중치 평균(SWA)으로 채점합니다",
    "epoch from which weights are averaged, counted from 0; -1: the last quarter of training": "가중치 평균을 시작할 에폭(0부터). -1: 학습의 마지막 4분의 1",
    "weights to score with; as_set: as use_swa and use_ema say; auto: the kind with the lowest log-loss out of fold":
        "채점에 쓸 가중치. as_set: use_swa와 use_ema대로. auto: OOF 로그 손실이 가장 낮은 종류",
    "after the folds, train one more model on all labelled rows": "폴드를 마친 뒤 정답이 있는 모든 행으로 모델을 하나 더 학습합니다",
    "weights to score with: best epoch on validation, or last": "채점에 쓸 가중치: 검증에서 최고인 에폭(best) 또는 마지막(last)",
    "minutes between saves of what a fold needs to go on after a cut; 0: every step": "중단되어도 이어 할 수 있게 저장하는 간격(분). 0: 스텝마다",
    "time for a session, such as 8h30m or 45m; what does not fit is left out, least useful first; empty: any":
        "한 세션의 시간. 예: 8h30m, 45m. 시간이 모자라면 효과가 작은 것부터 생략합니다. 비우면 제한 없음",
    "trackers that are sent losses, accuracies and figures: tensorboard, wandb, mlflow, trackio, ...":
        "손실, 정확도, 그림을 보낼 트래커: tensorboard, wandb, mlflow, trackio, ...",
    # %% settings: running and scoring
    "processes that read images and encode rows; -1: one per core, at most 8, with a GPU, none without":
        "사진을 읽고 행을 인코딩하는 프로세스 수. -1: GPU가 있으면 코어마다 하나(8개까지), 없으면 0",
    "folds worked on at the same time, each in a process of its own; 0: one for each GPU, and without GPUs one":
        "동시에 처리할 폴드 수(프로세스 하나에 폴드 하나). 0: GPU마다 하나, GPU가 없으면 하나",
    "who does the tasks of a run; inline: this process; processes: workers of their own, one for each GPU; ray: workers on a Ray cluster; auto: processes where there are several GPUs":
        "작업을 실행하는 방식. inline: 이 프로세스. processes: GPU마다 작업 프로세스 하나. ray: Ray 클러스터. auto: GPU가 여러 개면 processes",
    "of the Ray cluster; auto: the one that runs here or that RAY_ADDRESS names; local: only here":
        "Ray 클러스터의 주소. auto: 여기서 실행 중이거나 RAY_ADDRESS에 적힌 것. local: 이 컴퓨터만",
    "rows in one forward pass when scoring; 0: on a GPU as many as pay, else 8": "채점할 때 순전파 한 번에 넣는 행 수. 0: GPU에서는 가장 빠른 만큼, 아니면 8",
    "read the letters' log-probabilities, or generate text and parse it (the plain baseline)": "글자의 로그 확률을 읽거나, 글을 생성해 해석합니다(단순한 베이스라인)",
    "longest generated answer in tokens, for answer_by=generate": "answer_by=generate에서 생성할 답의 최대 토큰 수",
    "test-time augmentation: several option orders and image scales, averaged": "테스트 시점 증강(TTA): 여러 보기 순서와 이미지 배율의 평균",
    "option orders per question with TTA": "TTA에서 질문마다 쓸 보기 순서의 수", "image scales with TTA, as factors of image_size": "TTA의 이미지 배율(image_size의 배수)",
    "full: ask each fold the rows that it has learned from too": "full: 폴드마다 학습한 행도 물어봅니다",
    "how members are combined; auto: calibrated geometric mean unless learned weights are proven better":
        "멤버을 합치는 방법. auto: 학습한 가중치가 유의하게 낫지 않으면 보정한 기하 평균",
    "other runs' names or prediction CSV files to combine with this run": "이 실행과 합칠 다른 실행의 이름이나 예측 CSV 파일",
}
