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
    "Fine-tune vision-language models on multiple-choice visual question answering and write a checked submission.":
        "사진을 보고 보기 중 하나를 고르는 VQA 문제에 맞춰 비전 언어 모델을 파인튜닝하고 제출 파일을 만듭니다.",
    "Start with: mcvqa demo, or mcvqa run --data FOLDER --preset quick": "처음이라면: mcvqa demo 또는 mcvqa run --data 폴더 --preset quick",
    "Example: {}": "예: {}", "Or: {}": "또는: {}", "Show the version.": "버전을 보여 줍니다.",
    "Output language: en or ko. Default: the language of the locale (LC_ALL, LANG).":
        "출력 언어: en 또는 ko. 적지 않으면 로캘(LC_ALL, LANG)을 따릅니다.",
    "YAML file with settings.": "설정을 적은 YAML 파일.", "Settings to start from: {}.": "바탕이 되는 설정: {}.",
    "Settings, for example NUM_EPOCHS=3 SEED=1.": "설정. 예: NUM_EPOCHS=3 SEED=1",
    "An existing run: its name, as `mcvqa experiments` lists it, or the path of experiments/<run>. Its settings are read from its config.yaml.":
        "이미 있는 실행. `mcvqa experiments`에 나오는 이름이나 experiments/<run> 경로를 적으며, 설정은 그 안의 config.yaml에서 읽습니다.",
    "Folder or .zip with train.csv, test.csv and photographs.": "train.csv, test.csv, 사진이 든 폴더나 .zip.",
    # %% running
    "Run all ten steps, from the data to a checked submission. Finished steps are skipped.":
        "데이터에서 검사한 제출 파일까지 열 단계를 모두 실행합니다. 이미 끝난 일은 건너뜁니다.",
    "Generate a small data set, then run everything on it with the built-in tiny model: no download, no GPU.":
        "자동 생성한 데이터와 내장 소형 모델로 모두 실행합니다. 내려받을 것도 GPU도 필요 없습니다.",
    "Check data, images, label alignment, device, memory and time before a run. Changes nothing.":
        "사전 점검: 데이터, 사진, 라벨 정렬, 장치, 메모리, 시간. 아무것도 바꾸지 않습니다.",
    "Explore the data: tables, figures, duplicates, and how much can be guessed from the texts alone.":
        "데이터를 살펴봅니다: 표, 그림, 중복, 글만 보고 맞힐 수 있는 정도.",
    "Split the training rows: stratified by answer and type of question, grouped by image.":
        "학습 행을 폴드로 나눕니다. 정답과 질문 유형으로 층화하고 이미지 그룹을 지킵니다.",
    "Train all folds that have no result yet, or a single fold.": "결과가 없는 폴드를 모두, 또는 하나만 학습합니다.", "Only this fold, counted from 0.": "이 폴드만(0부터 셉니다).",
    "Score the validation and test rows with the trained folds.": "학습한 폴드로 검증 행과 테스트 행을 채점합니다.",
    "Combine the folds, other runs and imported prediction files into one submission.": "폴드, 다른 실행, 예측 파일을 합쳐 제출 파일을 만듭니다.",
    "Replace the submission, whatever it contains now.": "지금 제출 파일에 무엇이 있든 이 답으로 바꿉니다.",
    "Rewrite REPORT.md and report.html of a scored run.": "채점한 실행의 REPORT.md와 report.html을 다시 만듭니다.",
    "Find labels that are probably wrong, using out-of-fold scores. A person decides on each.":
        "틀렸을 가능성이 큰 라벨을 찾습니다. OOF 점수로 후보를 뽑고, 판단은 사람이 합니다.",
    "File for the proposals. Default: experiments/<run>/fixes.csv.": "후보를 쓸 파일. 기본은 experiments/<run>/fixes.csv.",
    "Browse every row: photographs, answers, tags, filters, label decisions, two runs side by side. One HTML file, no server.":
        "브라우저에서 모든 행을 살펴봅니다: 사진, 답, 진단, 필터, 라벨 결정, 두 실행 비교. 서버 없이 파일 하나로 됩니다.",
    "A second run on the same data, to compare with.": "나란히 볼 실행. 같은 데이터를 쓴 것이어야 합니다.",
    "File for the page. Default: experiments/<run>/explore.html.": "페이지 파일. 기본은 experiments/<run>/explore.html.",
    # %% after training
    "Answer new questions with a trained run: one photograph or a table of rows.": "학습한 실행으로 새 문제에 답합니다. 사진 한 장이나 표를 줍니다.",
    "A photograph.": "사진.", "A question about it.": "사진에 관한 질문.", "A choice; repeat the option for each choice.": "보기. 보기마다 한 번씩 적습니다.",
    "Instead of one question: a table, folder or .zip of rows.": "또는 답할 행이 든 표, 폴더, .zip.",
    "File for the answers. Default: answers.csv or submission.csv.": "답을 쓸 파일. 기본은 answers.csv, --submission이면 submission.csv.",
    "Only this fold (counted from 0), or final. Default: all of them.": "이 폴드(0부터) 또는 final만. 적지 않으면 모두.",
    "Write the submission format: id and answer.": "대회에 내는 형식(id와 answer)으로 씁니다.", "Print the answer as one line of JSON.": "답을 JSON 한 줄로 출력합니다.",
    "Export a trained model for other tools: adapters or merged weights, processor, model card, infer.py. The export is verified by answering rows with it.":
        "다른 도구에서 쓸 수 있게 모델을 내보냅니다: 어댑터나 전체 가중치, 프로세서, 모델 카드, infer.py. 내보낸 모델에 물어 같은 답인지 확인합니다.",
    "Folder to create.": "새로 만들 폴더.", "Fold to export (from 0), or final. Default: final, else 0.": "내보낼 폴드(0부터) 또는 final. 기본은 final, 없으면 0.",
    "Merged 16-bit weights instead of adapters.": "어댑터 대신 베이스 모델과 합친 16비트 가중치.",
    "Rows to verify the export with. Default: those of the run's data.": "확인에 쓸 행. 기본은 실행의 데이터.",
    "Also upload to OWNER/NAME on the hub. A new repository is private.": "허브의 OWNER/NAME에도 올립니다. 새 저장소는 비공개입니다.",
    "Ask a trained run questions in the browser: drop a photograph, type a question and choices. Needs mcvqa[ui].":
        "브라우저에서 학습한 실행에 질문합니다. 사진을 끌어다 놓고 질문과 보기를 입력합니다. mcvqa[ui]가 필요합니다.",
    "Only this fold (counted from 0), or final. Faster than all of them.": "이 폴드(0부터) 또는 final만. 모두 쓸 때보다 빠릅니다.",
    "Port on 127.0.0.1. Default: the first free one from 7860.": "127.0.0.1의 포트. 기본은 7860부터 비어 있는 첫 포트.",
    "Also create a public link through gradio's servers.": "gradio 서버를 거치는 공개 링크도 만듭니다.",
    "Check a submission file against the test rows: ids, order, letters.": "제출 파일을 테스트 행과 대조합니다: id, 순서, 글자.", "The CSV file to check.": "검사할 CSV 파일.",
    # %% about settings, runs and this installation
    "Show the version. With --verbose: what a bug report needs (versions, commit, device, memory), without paths, user or host names.":
        "버전을 보여 줍니다. --verbose는 버그를 알릴 때 필요한 버전, 커밋, 장치, 메모리까지 보여 주며, 경로나 이름은 나오지 않습니다.",
    "Show everything that a bug report needs.": "버그를 알릴 때 필요한 것 모두.",
    "List the presets; with --fields, every setting with its default and meaning.": "프리셋을 보여 줍니다. --fields는 모든 설정의 기본값과 뜻을 보여 줍니다.",
    "List every setting.": "모든 설정을 보여 줍니다.",
    "List recommended models, the memory that each needs and whether it fits on this GPU.":
        "써 볼 만한 모델을 보여 줍니다. 필요한 메모리와 지금 GPU에 들어가는지도 알려 줍니다.",
    "List all runs in this folder, the most accurate first.": "이 폴더의 모든 실행을 정확도 순으로 보여 줍니다.",
    "Search for better settings with Optuna: trials on one fold, the best few confirmed on the others. Run it again to resume.":
        "Optuna로 더 나은 설정을 탐색합니다. 폴드 하나에서 시도하고 좋은 것만 나머지 폴드로 확인합니다. 다시 실행하면 이어서 합니다.",
    "Number of trials in the study, including earlier ones.": "탐색 전체의 시도 수. 앞서 한 것도 셉니다.",
    "Trials to run at the same time, spread over the GPUs.": "동시에 실행할 시도 수. GPU에 나누어 맡깁니다.",
    "Name of the study. Default: the run's name followed by -search.": "탐색의 이름. 기본은 실행 이름에 -search를 붙인 것.",
    "File with the search space; see --show-space.": "탐색 공간 파일. 예는 --show-space로 볼 수 있습니다.",
    "URL of a database that Optuna supports, such as sqlite:///study.db. Default: a file in experiments/<study>.":
        "Optuna가 지원하는 데이터베이스의 URL. 예: sqlite:///study.db. 기본은 experiments/<study> 안의 파일.",
    "Number of best trials to train on the other folds too.": "나머지 폴드로도 학습할 상위 시도의 수.", "Stop trials early when they fall behind.": "뒤처지는 시도를 일찍 끝냅니다.",
    "Only print the search space, as --space takes it.": "탐색 공간을 --space에 쓸 형식으로 출력만 합니다.",
    # %% settings: data
    "folder (or .zip) with train.csv, test.csv and the photographs": "train.csv, test.csv, 사진이 든 폴더(또는 .zip)",
    "folder that receives checkpoints/, outputs/, logs/, experiments/ and cache/": "checkpoints/, outputs/, logs/, experiments/, cache/를 만들 폴더",
    "URL (s3://, gs://, file://) to share a run without a common output_dir; empty: none":
        "output_dir을 함께 쓰지 않는 컴퓨터들이 실행을 나누는 s3://, gs://, file:// URL. 비우면 쓰지 않습니다",
    "output folder of an earlier session (may be read-only); its results for this run are verified and copied":
        "이전 세션의 출력 폴더(읽기 전용도 됨). 이 실행의 결과를 확인하고 복사합니다",
    "folder of trained adapters or of a run that the folds start from; empty: newly initialized adapters":
        "폴드가 시작할 학습된 어댑터나 실행의 폴더. 비우면 새로 초기화한 어댑터에서 시작합니다",
    "name of the run's folders; empty: derived from the model and the settings": "실행 폴더의 이름. 비우면 모델과 설정으로 만듭니다",
    "CSV column with the row's id; empty: detected automatically": "id가 든 CSV 열. 비우면 자동으로 찾습니다",
    "CSV column with the image path; empty: detected automatically": "사진 경로가 든 CSV 열. 비우면 자동으로 찾습니다",
    "CSV column with the question; empty: detected automatically": "질문이 든 CSV 열. 비우면 자동으로 찾습니다",
    "CSV column with the answer; empty: detected automatically": "정답이 든 CSV 열. 비우면 자동으로 찾습니다",
    "how answers are written: letters, positions counted from one or zero, or the choices' texts; auto: detected from the file":
        "정답을 적은 방식: 글자, 1이나 0부터 세는 번호, 보기의 글. auto: 파일을 보고 정합니다",
    "how answers are written in the submission: a, A, 1, 0, the choice's text, 가; auto: as in sample_submission.csv, else train.csv":
        "제출 파일에 답을 적는 방식: a, A, 1, 0, 보기의 글, 가. auto: sample_submission.csv, 없으면 train.csv를 따릅니다",
    "also train on the rows of dev.csv, if it exists": "dev.csv가 있으면 그 행도 학습합니다",
    "for data with annotator votes: leave out rows whose answer has fewer votes; 0: keep all": "여러 명이 답한 데이터에서 정답의 표가 이보다 적은 행을 뺍니다. 0: 빼지 않습니다",
    "file of label decisions (fix, drop or keep), proposed by `mcvqa audit` and decided by you; empty: none":
        "라벨을 결정한 파일(`mcvqa audit`이 만든 것에 fix, drop, keep을 적음). 비우면 없음",
    "validate only on the rows of one source, such as train; the other rows are only trained on; empty: validate on all":
        "한 파일의 행으로만 검증합니다(예: train). 나머지는 학습에만 씁니다. 비우면 모두로 검증합니다",
    "use only a stratified sample of the training rows": "학습 행을 층화 표본으로 줄여 씁니다", "number of training rows in that sample": "그 표본의 학습 행 수",
    "stratified K-fold; off: one stratified split of the same size": "층화 K-fold. false: 같은 크기로 한 번만 나눕니다", "number of folds": "폴드 수",
    "folds to train, counted from 0; empty: all of them": "학습할 폴드(0부터). 비우면 모두", "seed of every random choice": "모든 난수의 시드",
    "seed of training only (the folds stay the same); -1: same as seed": "학습에만 쓰는 시드(폴드는 그대로). -1: seed와 같음",
    "number of seeds to train on the same folds and combine": "같은 폴드에서 학습해 합칠 시드의 수",
    # %% settings: model and device
    "hub name, folder, or 'tiny' (built in, no download)": "허브의 이름, 폴더, 또는 'tiny'(내장, 내려받지 않음)",
    "version of a hub model: branch, tag or commit; empty: the newest": "허브 모델의 버전: 브랜치, 태그, 커밋. 비우면 최신",
    "images are resized to about image_size² pixels": "사진을 약 image_size² 픽셀로 줄이거나 키웁니다", "device to compute on": "계산할 장치",
    "GPU to run as; t4: simulate a T4 on a larger GPU (float16, no FlashAttention, 15 GiB)":
        "어떤 GPU로 보고 실행할지. t4: 더 큰 GPU에서 T4를 흉내 냅니다(float16, FlashAttention 없음, 15 GiB)",
    "number of GPUs that the layers of a model are split across; auto: as few as it fits on": "모델의 레이어를 나누어 맡을 GPU 수. auto: 모델이 들어가는 가장 적은 수",
    "data type of the weights; auto: chosen by the GPU's compute capability": "가중치의 자료형. auto: GPU의 연산 능력에 따릅니다",
    "4-bit NF4 weights for the language model; auto: if unquantized weights do not fit in GPU memory":
        "언어 모델의 가중치를 4비트 NF4로 줄입니다. auto: 줄이지 않은 가중치가 GPU 메모리에 들어가지 않을 때",
    "recompute activations in the backward pass instead of storing them; auto: if that is faster":
        "활성값을 저장하지 않고 역전파에서 다시 계산합니다. auto: 그렇게 하는 편이 빠를 때",
    "rank of the LoRA adapters; 0: train all weights": "LoRA 어댑터의 랭크. 0: 모든 가중치를 학습합니다", "LoRA scale is lora_alpha / lora_r": "LoRA 배율은 lora_alpha / lora_r",
    "dropout probability before the adapters": "어댑터 앞의 드롭아웃 확률",
    "LoRA scale is lora_alpha / sqrt(lora_r) instead, so that adapters of high rank learn as fast (rsLoRA)":
        "LoRA 배율을 lora_alpha / sqrt(lora_r)로 해서 랭크가 커도 같은 속도로 배우게 합니다(rsLoRA)",
    "adapters learn the direction and the magnitude of the weights separately (DoRA); slower, without the optimized path":
        "어댑터가 가중치의 방향과 크기를 따로 배웁니다(DoRA). 최적화된 경로를 쓰지 못해 느립니다",
    "language-model layers that get adapters, given by the ends of their names; all-linear: all linear layers; experts: also the experts of a mixture":
        "어댑터를 붙일 언어 모델의 레이어를 이름의 끝으로 적습니다. all-linear: 모든 선형 레이어, experts: 전문가 혼합 모델의 전문가도",
    "also put adapters on the vision tower's attention and MLP": "비전 타워의 어텐션과 MLP에도 어댑터를 붙입니다",
    "system message; may contain {letters}": "시스템 메시지. {letters}를 쓸 수 있습니다",
    "user message; must contain {question} and {options}, may contain {letters} and {hint}; empty: Korean or English, like the training questions":
        "사용자 메시지. {question}과 {options}가 있어야 하고 {letters}와 {hint}를 쓸 수 있습니다. 비우면 학습 질문에 따라 한국어나 영어",
    "file with a chat template (Jinja); empty: the model's own": "채팅 템플릿(Jinja) 파일. 비우면 모델의 것",
    "name=value pairs for the chat template; enable_thinking and thinking default to false":
        "채팅 템플릿에 줄 이름=값. enable_thinking과 thinking의 기본값은 false입니다",
    "add a hint for the type of question (counting, color, ...)": "질문 유형(개수, 색, ...)에 맞는 힌트를 프롬프트에 넣습니다",
    # %% settings: training
    "passes over the training rows": "학습 행을 반복해서 읽는 횟수(에폭)", "an optimizer step has batch_size x grad_accum_steps rows": "옵티마이저 스텝 하나의 행 수는 batch_size x grad_accum_steps",
    "batches per optimizer step, which has batch_size x grad_accum_steps rows": "옵티마이저 스텝당 배치 수. 스텝 하나의 행 수는 batch_size x grad_accum_steps",
    "rows per forward pass; 0: as many as fit, measured before training (without an NVIDIA GPU: batch_size)":
        "순전파 한 번에 넣는 행 수. 0: 학습 전에 재어 들어가는 만큼(NVIDIA GPU가 없으면 batch_size)",
    "peak learning rate of AdamW": "AdamW의 최고 학습률", "shape of the learning-rate decay after warm-up": "워밍업 뒤 학습률을 줄이는 방식",
    "AdamW's decoupled weight decay": "AdamW의 가중치 감쇠(decoupled)", "share of the steps over which the learning rate rises (warm-up)": "학습률을 올리는 스텝의 비율(워밍업)",
    "gradients are clipped to this norm": "기울기의 노름을 이 값으로 자릅니다",
    "cross-entropy of the answer letter over the whole vocabulary, or over the letters of the choices only":
        "정답 글자의 교차 엔트로피: 어휘 전체에서, 또는 보기의 글자 안에서",
    "share of the target probability spread evenly over the row's choices": "목표 확률 중 그 행의 보기에 고르게 나누는 비율",
    "for wrong labels: q of generalized cross-entropy, 0.7 in its paper; 0 is cross-entropy":
        "틀린 정답이 많을 때: generalized cross-entropy의 q, 논문의 값은 0.7. 0이면 교차 엔트로피",
    "for data with annotator votes: learn the vote shares instead of the majority answer": "여러 명이 답한 데이터에서 다수결 대신 득표 비율을 학습합니다",
    "weights of training rows in the loss: votes (the answer's share of the votes), confidence (a column of the training files), or a file with id and weight; empty: all equal":
        "손실에서 학습 행의 가중치: votes(정답의 득표 비율), confidence(학습 파일의 열), 또는 id와 weight가 든 파일. 비우면 모두 같음",
    "also train on test rows, labelled by a run on the same folds or by a prediction file":
        "테스트 행도 학습합니다. 답은 같은 폴드의 실행이나 예측 파일에서 가져옵니다",
    "leave out pseudo-labelled rows whose answer has a lower probability": "답의 확률이 이보다 낮은 의사 라벨 행을 뺍니다",
    "target of pseudo-labelled rows: their most probable answer, or the probability of each choice":
        "의사 라벨 행의 학습 목표: 확률이 가장 높은 답, 또는 보기별 확률",
    "run on the same folds, for example with a larger model, whose out-of-fold probabilities are learned too":
        "OOF 확률을 함께 배울 실행(폴드가 같아야 함, 예: 더 큰 모델)",
    "share of the teacher's probabilities in the target; the rest is the row's label": "목표 중 교사 확률의 비율. 나머지는 그 행의 정답",
    "divides the teacher's log-probabilities; values above 1 make its probabilities more even":
        "교사의 로그 확률을 이 값으로 나눕니다. 1보다 크면 확률이 더 고르게 됩니다",
    "shuffle the choices anew for each row and epoch": "행과 에폭마다 보기 순서를 새로 섞습니다",
    "option orders trained per pass over a row (at most its number of choices); needs shuffle_choices":
        "한 행을 한 번 읽을 때 배우는 보기 순서의 수(보기 수까지). shuffle_choices가 필요합니다",
    "loss weight of the disagreement between these orders (Jensen-Shannon divergence)":
        "이 순서들의 답이 서로 다른 정도(옌센-섀넌 발산)에 주는 손실 가중치",
    "paraphrase question endings (Korean and English)": "질문의 끝말을 바꿔 씁니다(한국어와 영어)", "probability that a question is paraphrased": "질문을 바꿔 쓸 확률",
    "random changes to training photographs, skipped where the question's wording suggests that they could change the answer; photographs are then encoded again in every step":
        "학습 사진을 무작위로 바꿉니다. 질문의 표현으로 보아 정답이 달라질 수 있으면 바꾸지 않으며, 사진을 스텝마다 다시 인코딩합니다",
    "automatic mixed precision on a GPU": "GPU에서 자동 혼합 정밀도", "score with the exponential moving average of the trained weights": "가중치의 지수 이동 평균(EMA)으로 채점합니다",
    "decay of the EMA per step, after its warm-up": "EMA의 스텝당 감쇠율(워밍업 뒤)",
    "score with the plain average of the weights over the last part of training": "학습 마지막 부분의 가중치 평균(SWA)으로 채점합니다",
    "epoch from which weights are averaged for SWA, counted from 0; -1: the last quarter of training": "가중치 평균을 시작할 에폭(0부터). -1: 학습의 마지막 4분의 1",
    "weights to score with; as_set: those that use_swa and use_ema select; auto: the kind with the lowest out-of-fold log-loss":
        "채점에 쓸 가중치. as_set: use_swa와 use_ema대로. auto: OOF 로그 손실이 가장 낮은 종류",
    "after the folds, train one more model on all labelled rows": "폴드를 마친 뒤 정답이 있는 모든 행으로 모델을 하나 더 학습합니다",
    "epoch whose weights are scored with: the best on validation, or the last": "채점에 쓸 가중치의 에폭: 검증에서 최고(best) 또는 마지막(last)",
    "minutes between the resume points of a fold, from which it continues after an interruption; 0: every step": "재개 지점을 저장하는 간격(분). 중단되어도 거기서 이어서 합니다. 0: 스텝마다",
    "time limit of a session, such as 8h30m or 45m; what does not fit is left out, least useful first; empty: no limit":
        "한 세션의 제한 시간. 예: 8h30m, 45m. 시간이 모자라면 효과가 작은 것부터 생략합니다. 비우면 제한 없음",
    "trackers that receive losses, accuracies and figures, such as tensorboard, wandb, mlflow or trackio":
        "손실, 정확도, 그림을 보낼 트래커(tensorboard, wandb, mlflow, trackio 등)",
    # %% settings: running and scoring
    "processes that read images and encode rows; -1: with a GPU one per core, at most 8; without a GPU none":
        "사진을 읽고 행을 인코딩하는 프로세스 수. -1: GPU가 있으면 코어마다 하나(8개까지), 없으면 0",
    "folds processed at the same time, each in its own process; 0: one per GPU, or one without GPUs; with executor=processes or ray, processes beyond the number of folds share the image features and the scoring":
        "동시에 처리할 폴드 수(프로세스 하나에 폴드 하나). 0: GPU마다 하나, GPU가 없으면 하나. executor=processes나 ray이면 폴드 수를 넘는 프로세스는 이미지 특징과 채점을 나누어 맡습니다",
    "where the tasks of a run are executed; inline: in this process; processes: in worker processes, one per GPU; ray: in workers on a Ray cluster; auto: processes if there are several GPUs, else inline":
        "작업을 실행하는 곳. inline: 이 프로세스. processes: GPU마다 하나인 작업 프로세스. ray: Ray 클러스터의 작업 프로세스. auto: GPU가 여러 개면 processes, 아니면 inline",
    "address of the Ray cluster; auto: the one running here or named by RAY_ADDRESS; local: this machine only":
        "Ray 클러스터의 주소. auto: 여기서 실행 중이거나 RAY_ADDRESS에 적힌 것. local: 이 컴퓨터만",
    "rows per forward pass when scoring; 0: on a GPU as many as it gains speed from, else 8": "채점할 때 순전파 한 번에 넣는 행 수. 0: GPU에서는 빨라지는 만큼, 아니면 8",
    "read the letters' log-probabilities, or generate text and parse it (the plain baseline)": "글자의 로그 확률을 읽거나, 글을 생성해 해석합니다(단순한 베이스라인)",
    "maximum length of a generated answer in tokens (answer_by=generate)": "answer_by=generate에서 생성할 답의 최대 토큰 수",
    "test-time augmentation: average over several option orders and image scales": "테스트 시점 증강(TTA): 여러 보기 순서와 이미지 배율의 평균",
    "option orders per question with TTA": "TTA에서 질문마다 쓸 보기 순서의 수", "image scales with TTA, as factors of image_size": "TTA의 이미지 배율(image_size의 배수)",
    "training rows that each fold scores; oof: those it was not trained on; full: also those it was trained on": "폴드마다 채점할 학습 행. oof: 그 폴드가 학습하지 않은 행. full: 학습한 행까지",
    "how members are combined; auto: calibrated geometric mean, unless learned weights are significantly better":
        "멤버를 합치는 방법. auto: 학습한 가중치가 유의하게 낫지 않으면 보정한 기하 평균",
    "names of other runs, or prediction CSV files, to combine with this run": "이 실행과 합칠 다른 실행의 이름이나 예측 CSV 파일",
}
