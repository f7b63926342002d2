"""The console in Korean: every message has its translation, and each is found for the text that it is for."""
import ast
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from mcvqa.base.columns import columns_of
from mcvqa.base.informing import printable_output
from mcvqa.base.korean import KOREAN
from mcvqa.base.korean_figures import KOREAN_FIGURES
from mcvqa.base.korean_help import KOREAN_HELP
from mcvqa.base.plots import in_figures
from mcvqa.base.translation import (
    TranslatedStream,
    Translator,
    console_language,
    filled,
    korean_translator,
    particle,
    translated_output,
)
from mcvqa.cli import app
from mcvqa.config import Config
from mcvqa.data.images import OTHER_CONTENT
from mcvqa.data.unread import UNREAD_FORMATS
from tests.test_structure import MODULES, PACKAGE, module_name

TRANSLATOR = korean_translator()
# what stays English, with the reason
ENGLISH = (
    "run.in_memory", "run.events", "report.own_metrics", "model.augment",  # Python scripts
    "answer.typed",  # names of errors, which the page has words for
)
OTHER_ERRORS = {  # for programs, or made into errors for people where they are caught
    "AssertionError", "AttributeError", "Exit", "KeyError", "NotImplementedError", "OverflowError", "RuntimeError",
    "StopIteration", "TypeError", "ValueError",
}
PRINTING = {"print", "heading", "informing", "print_line", "print_section", "translated"}


def templates(node: ast.expr) -> list[str]:
    """The text of an expression with {} for values; several where it depends."""
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [left + right for left in templates(node.left) for right in templates(node.right)]
    if isinstance(node, ast.IfExp):
        return templates(node.body) + templates(node.orelse)
    return [node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else "{}"]


def texts_of(call: ast.Call | ast.Raise) -> list[ast.expr]:
    """What a call prints, or an error says."""
    if isinstance(call, ast.Raise):
        raised = call.exc
        name = getattr(getattr(raised, "func", None), "id", "")
        if not isinstance(raised, ast.Call) or name in OTHER_ERRORS:
            return []
        return raised.args[1:] if name == "UnusualFile" else raised.args[:1]
    name = getattr(call.func, "id", getattr(call.func, "attr", ""))
    if name == "write" and getattr(getattr(call.func, "value", None), "id", "") != "tqdm":
        return []
    return [*call.args] if name in PRINTING | {"write"} else []


def messages(path: Path) -> set[str]:
    """Templates of all that a module prints or raises, without spaces around them."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, (ast.Call, ast.Raise))]
    found = {text.strip() for node in nodes for expression in texts_of(node) for text in templates(expression)}
    return {text for text in found if re.search("[A-Za-z]{2}", text.replace("{}", ""))}


SPOKEN = [path for path in MODULES if not module_name(path).startswith(ENGLISH)]


@pytest.mark.parametrize("path", SPOKEN, ids=module_name)
def test_every_message_is_translated(path):
    lacking = {text for text in messages(path) if text not in KOREAN and TRANSLATOR.console(text) == text}
    assert not lacking, "add them to src/mcvqa/base/korean.py"


def test_what_is_said_of_unread_files_and_broken_photographs_is_translated():
    said = [what for *_, what in UNREAD_FORMATS] + [*OTHER_CONTENT.values()]
    assert not [text for text in said if TRANSLATOR.console(text) == text]


def test_the_modules_that_stay_english_are_there():
    assert all(any(module_name(path).startswith(name) for path in MODULES) for name in ENGLISH)
    assert len(SPOKEN) > 110 and sum(map(len, map(messages, SPOKEN))) > 300, "the syntax tree finds them"


CATALOGUE = KOREAN | KOREAN_FIGURES | KOREAN_HELP


@pytest.mark.parametrize("english", CATALOGUE)
def test_a_translation_has_all_values_of_its_template(english):
    """By number, each at least once, or one after the other; but for 'is' and 'are', which Korean has no use for."""
    wanted, numbers = set(range(english.count("{}"))), re.findall(r"\{(\d*)\}", CATALOGUE[english])
    wanted -= {1} if "and there {} {} for it here" in english else set()
    assert numbers.count("") in (0, len(wanted)) and (numbers.count("") or set(map(int, filter(None, numbers))) == wanted)
    assert re.search("[가-힣]", CATALOGUE[english]) or english.upper() == CATALOGUE[english].upper()\
        or english == "'{}' is {}" or CATALOGUE[english] == english.replace(" to ", " ~ ")
    assert english == english.strip() and CATALOGUE[english] == CATALOGUE[english].strip(), "looked up without spaces around it"


@pytest.mark.parametrize(("english", "korean"), [
    ("\n[3/10] data and EDA: data/demo", "\n[3/10] 데이터와 EDA: data/demo"),
    ("\n[5/10] rows: 48 to learn from, 12 to answer in 2 option orders, scale 1",
     "\n[5/10] 데이터셋: 학습 48행, 테스트 12행, 보기 순서 2가지, 배율 1"),
    ("  fold 0: already trained, accuracy 0.750 ± 0.103 (n=24)",
     "  폴드 0: 이미 학습했습니다. 정확도 0.750 ± 0.103 (n=24)"),
    ("  fold 1: image features are not cached: cache has no space for them",
     "  폴드 1: 이미지 특징을 저장하지 않습니다: cache에 공간이 없습니다"),
    ("\rfold 0 epoch 1:  40%|####      | 10/25", "\r폴드 0 에폭 1:  40%|####      | 10/25"),
    ("\rthumbnails: 100%|####| 9/9", "\r썸네일: 100%|####| 9/9"),
    ("\rproof, scale 1: 100%|####| 7/7", "\r확인, 배율 1: 100%|####| 7/7"),
    ("\rfinal model epoch 2:  40%|##  | 1/2", "\r최종 모델 에폭 2:  40%|##  | 1/2"),
    ("error: a/x.jpg: a text, not a picture", "오류: a/x.jpg: 사진이 아니라 글입니다"),
    ("  unfinished: no metrics.json yet", "  미완성: metrics.json이 아직 없음"),
    ("  tiny; 6 min 51 s; 2026-11-30T14:55", "  tiny; 6분 51초; 2026-11-30T14:55"),
    ("  demo-second alone 0.542 ± 0.072 (n=48)", "  demo-second 단독  0.542 ± 0.072 (n=48)"),
    ("  demo alone        0.375 ± 0.075 (n=48)", "  demo 단독         0.375 ± 0.075 (n=48)"),
    ("| + EMA           | 0.745 | 0.679 to 0.801 | +0.000 [-0.055, +0.055] |",
     "| + EMA           | 0.745 | 0.679 ~ 0.801 | +0.000 [-0.055, +0.055] |"),
    ("| zero-shot       | 0.645 | 0.569 to 0.714 |     |", "| 학습 전         | 0.645 | 0.569 ~ 0.714 |     |"),
    ("error: pseudo: the folds of the run 'a' are unknown (KeyError): run it again.",
     "오류: pseudo: 실행 'a'의 폴드를 알 수 없습니다(KeyError). 다시 실행하세요."),
    ("\nerror: pseudo: row 'x' is in fold 1 here but in fold 2 of the run 'a', whose models may therefore have been trained on "
     "rows that this run validates on. Give both runs the same data, seed, n_folds, use_kfold and validate_on.",
     "\n오류: pseudo: 'x'행은 여기서 폴드 1, 실행 'a'에서 폴드 2에 있어, 그 모델이 이 실행의 검증 행을 학습했을 수 있습니다. "
     "두 실행을 같은 데이터, seed, n_folds, use_kfold, validate_on으로 학습하세요."),
    ("a.csv does not match the data; nothing was applied:\n  2 decided rows are left out by min_votes=3 (delete these decisions, "
     "or lower min_votes): 'x', 'y'\n  row 3 (id 'z'): no labelled row has this id",
     "a.csv가 데이터와 맞지 않아 아무것도 적용하지 않았습니다:\n  결정한 2행은 min_votes=3에 걸려 빠졌습니다(이 결정들을 "
     "지우거나 min_votes를 낮추세요): 'x', 'y'\n  3행(id 'z'): 이 id의 정답 있는 행이 없습니다"),
    ("\nerror: start_from=x: there is no such folder.", "\n오류: start_from=x: 그런 폴더가 없습니다."),
    ("error: num_epochs=5000 is out of range: 0 to 1000. Meaning: passes over the training rows.",
     "오류: num_epochs=5000은 범위를 벗어났습니다: 0부터 1000까지. 설명: 학습 행을 반복해서 읽는 횟수(에폭)."),
    ("  train.csv: answers are letters: 'b' is b (2); 'c' is c (red)",
     "  train.csv: 정답은 글자입니다: 'b' = b (2); 'c' = c (red)"),
    ("What color is the car of the three rows", "What color is the car of the three rows"),
    ("fold 0: what of it", "폴드 0: what of it"),
    ("error: x.csv has no rows below its header (text, data).", "오류: x.csv에 머리글(text, data) 아래 행이 없습니다."),
    ("  experiments/a/evidence.csv: 9 rows; order-sensitive 2, ambiguous 1",
     "  experiments/a/evidence.csv: 9행, 보기 순서에 민감 2, 답이 애매함 1"),
    ("error: train_folds='x' is invalid: expected a list of whole numbers. Meaning: folds to train, counted from 0; empty: all "
     "of them.", "오류: train_folds='x'는 잘못된 값입니다. 필요한 것: 정수 목록. 설명: 학습할 폴드(0부터). 비우면 모두."),
    ("out.csv holds the answers of the run 'r' (geometric mean of r (3 folds) + prior).",
     "out.csv에 실행 'r'(r (폴드 3개) + prior의 기하 평균)의 답이 있습니다."),
    ("  - The ids are not in the order of the test set: 2: row 2 has b instead of a, row 3 has a instead of b.",
     "  - id의 순서가 테스트와 다릅니다: 2개: 2행은 b(맞는 값 a), 3행은 a(맞는 값 b)."),
    ('{"answer": "b", "rows": 3}', '{"answer": "b", "rows": 3}'),
    ("빨강", "빨강"), ("", ""), ("\n", "\n"),
])
def test_texts_and_the_texts_inside_them_are_translated(english, korean):
    assert TRANSLATOR.console(english) == korean


def test_commands_to_type_stay_as_they_are():
    said = korean_translator().console("Example: mcvqa run --data data --set SEED=1")
    assert said == "예: mcvqa run --data data --set SEED=1"


def test_a_message_of_several_lines_is_one():
    told = "\nsubmission  out.csv\n            geometric mean of demo (2 folds) of the run 'demo', accuracy 0.854 ± 0.063 (n=48)"
    korean = "실행 'demo': demo (폴드 2개)의 기하 평균, 정확도 0.854 ± 0.063 (n=48)"
    assert TRANSLATOR.console(told) == f"\n제출 파일  out.csv\n           {korean}"
    assert TRANSLATOR.console("no setting\nfold 0: already scored\n") == "no setting\n폴드 0: 이미 채점했습니다\n"


def test_lines_that_are_messages_of_their_own_do_not_become_values_of_the_first():
    told = "NOT valid:\n  - Missing ids: 1: b.\n  - Duplicate ids: 2: a, c."
    assert TRANSLATOR.console(told) == "제출할 수 없습니다:\n  - 빠진 id: 1: b.\n  - 중복된 id: 2: a, c."
    told = "error: The run 'a' was trained with other settings:\n  seed: 42, now 1\nThere are no runs here yet."
    korean = "오류: 실행 'a'는 다른 설정으로 학습했습니다:\n  seed: 42, now 1\n여기에는 아직 실행이 없습니다."
    assert TRANSLATOR.console(told) == korean


def test_the_heading_of_a_table_keeps_its_columns():
    line = "run     accuracy              blind  model    settings  time  date\n"
    korean = "실행    정확도                글만   모델     설정      시간  날짜\n"
    assert TRANSLATOR.console(line) == korean
    assert columns_of(korean.partition("글만")[0]) == line.index("blind")
    assert TRANSLATOR.console("run    all of it") == "run    all of it", "a word in a column is not the beginning of a message"


@pytest.mark.parametrize(("word", "wanted", "form"), [
    ("폴드", "이", "가"), ("실행", "가", "이"), ("파일", "으로", "로"), ("사진", "로", "으로"), ("train.csv", "은", "는"),
    ("'model'", "을", "을"), ("7", "로", "로"), ("3", "과", "과"), ("(2)", "이", "가"), ("n", "", ""),
])
def test_a_particle_fits_the_word_before_it(word, wanted, form):
    assert particle(word, wanted) == form
    assert filled("{}" + wanted + " 있다", [word]) == f"{word}{form} 있다"


@pytest.mark.parametrize(("wanted", "environment", "language"), [
    ("", {}, "en"), ("", {"LANG": "ko_KR.UTF-8"}, "ko"), ("", {"LANG": "ko_KR.UTF-8", "LC_ALL": "C"}, "en"),
    ("en", {"LC_ALL": "ko_KR.UTF-8"}, "en"), ("ko", {"LANG": "C"}, "ko"), ("", {"LC_ALL": "", "LANG": "ko"}, "ko"),
])
def test_the_language_is_that_asked_for_or_that_of_the_locale(wanted, environment, language):
    assert console_language(wanted, environment) == language


def test_a_translation_that_fails_leaves_the_text_as_it_is():
    stream = io.StringIO()
    TranslatedStream(stream, Translator({"fold {}": "폴드 {3}"})).write("fold 0")
    assert stream.getvalue() == "fold 0"


def test_output_is_korean_within_the_block_alone(capsys):
    with translated_output("ko"), printable_output():
        print("  fold 0: already scored")
        assert in_figures("learning rate") == "학습률"
    with translated_output("en"):
        print("fold 0: already scored")
    assert in_figures("learning rate") == "learning rate"
    assert capsys.readouterr().out == "  폴드 0: 이미 채점했습니다\nfold 0: already scored\n"
    assert TranslatedStream(io.StringIO(), TRANSLATOR).write("fold 0: already scored") == len("fold 0: already scored")


@pytest.mark.parametrize("arguments", [("--lang", "ko", "run", "--data", "nowhere"), ("run", "--data=nowhere", "--lang=ko")])
def test_the_command_line_speaks_korean(arguments, tmp_path):
    command, environment = [sys.executable, "-m", "mcvqa", *arguments], {"PYTHONPATH": str(PACKAGE.parent), "PYTHONUTF8": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith(f"\n오류: {tmp_path / 'nowhere'}") and "없습니다" in done.stderr


# %% help
COMMANDS = get_command(app)


@pytest.mark.parametrize("command", [COMMANDS, *COMMANDS.commands.values()], ids=lambda command: command.name)
def test_the_help_of_every_command_and_option_is_translated(command):
    texts = [*command.help.splitlines(), *(parameter.help or "" for parameter in command.params)]
    assert not {text for text in texts if text and TRANSLATOR.console(text) == text}, "add them to src/mcvqa/base/korean_help.py"


def test_the_meaning_of_every_setting_is_translated():
    meanings = [setting.meaning for setting in Config.settings().values()]
    assert not [meaning for meaning in meanings if meaning not in KOREAN_HELP], "add them to src/mcvqa/base/korean_help.py"


def in_korean(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["--lang", "ko", *arguments], env={"COLUMNS": "80"})
    return done.output


@pytest.mark.parametrize("command", ["search", "answer", "export", "explore"])
def test_help_in_korean_fits_the_terminal_and_has_no_english_sentence(command):
    page = in_korean(command, "--help")
    assert page.startswith(f"사용법: mcvqa {command} [OPTIONS]") and "\n옵션:\n" in page and "이 도움말을 보여 줍니다." in page
    assert max(map(columns_of, page.splitlines())) <= 80
    described = re.sub(r"(?m)^  (예|또는): .*\n(  --.*\n)?|^.{0,26}(?=  )|\[.*?\]", "", page)
    assert not re.search(r"[a-z]{3,} [a-z]{3,} [a-z]{3,}", described)


def test_the_list_of_commands_names_them_as_they_are_typed():
    page = in_korean("--help")
    assert all(re.search(rf"(?m)^  {name} +[가-힣A-Z]", page) for name in COMMANDS.commands)


@pytest.mark.parametrize(("arguments", "said"), [
    (["run", "--foo"], "오류: --foo라는 옵션은 없습니다"), (["sarch"], "오류: 'sarch'라는 명령은 없습니다."),
    (["search", "--trials", "x"], "오류: '--trials'의 값이 잘못되었습니다: "), (["validate"], "오류: 인수 "),
    (["folds", "--data"], "오류: 옵션 '--data'에 값을 적으세요."),
    (["eda", "--set", "nmu_epochs=3"], "오류: 'nmu_epochs'라는 설정은 없습니다. 'num_epochs'를 뜻하셨나요?"),
])
def test_errors_in_arguments_are_told_in_korean(arguments, said):
    assert said in in_korean(*arguments)


def test_without_lang_and_a_korean_locale_help_is_english():
    assert CliRunner().invoke(app, ["run", "--help"], env={"LC_ALL": "C"}).output.startswith("Usage: ")
    assert CliRunner().invoke(app, ["run", "--help"], env={"LC_ALL": "ko_KR.UTF-8"}).output.startswith("사용법: ")
