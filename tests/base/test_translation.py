"""The console in Korean: every message has its translation, and each is found for the text that it is for."""
import ast
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mcvqa.base.informing import printable_output
from mcvqa.base.korean import KOREAN
from mcvqa.base.translation import (
    TranslatedStream,
    Translator,
    console_language,
    filled,
    korean_translator,
    particle,
    translated_output,
)
from tests.test_structure import MODULES, PACKAGE, module_name

TRANSLATOR = Translator(KOREAN)
# what stays English, with the reason: other commands than run, check, eda, predict, ensemble, report, experiments and answer
ENGLISH = (
    "scenes", "search", "insight", "run.of_search", "run.demo",  # demo, search, audit, explore
    "answer.export", "answer.merge", "answer.push", "answer.serve", "answer.typed", "answer.how_to_ask",  # export and serve
    "run.trackers", "run.workers.ray", "run.workers.ray_node",  # services and clusters
    "run.in_memory", "run.events", "report.own_metrics", "model.augment",  # Python scripts
    "base.plots", "report.content", "cli",  # figures; pages, which have words of their own; presets, export, serve
)
OTHER_ERRORS = {  # for programs, or made into errors for people where they are caught
    "AssertionError", "AttributeError", "Exit", "KeyError", "NotImplementedError", "OverflowError", "RuntimeError",
    "StopIteration", "TypeError", "ValueError",
}
PRINTING = {"print", "heading", "informing", "print_line", "print_section"}


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


def test_the_modules_that_stay_english_are_there():
    assert all(any(module_name(path).startswith(name) for path in MODULES) for name in ENGLISH)
    assert len(SPOKEN) > 80 and sum(map(len, map(messages, SPOKEN))) > 200, "the syntax tree finds them"


@pytest.mark.parametrize("english", KOREAN)
def test_a_translation_has_all_values_of_its_template(english):
    """By number, each at least once, or one after the other; but for 'is' and 'are', which Korean has no use for."""
    wanted, numbers = set(range(english.count("{}"))), re.findall(r"\{(\d*)\}", KOREAN[english])
    wanted -= {1} if "and there {} {} for it here" in english else set()
    assert numbers.count("") in (0, len(wanted)) and (numbers.count("") or set(map(int, filter(None, numbers))) == wanted)
    assert re.search("[가-힣]", KOREAN[english]) or english in (KOREAN[english], "'{}' is {}")


@pytest.mark.parametrize(("english", "korean"), [
    ("\n[3/10] data and EDA: data/demo", "\n[3/10] 데이터와 EDA: data/demo"),
    ("\n[5/10] rows: 48 to learn from, 12 to answer in 2 option orders, scale 1",
     "\n[5/10] 데이터셋: 학습 48행, 테스트 12행, 보기 순서 2가지, 배율 1"),
    ("  fold 0: already trained, accuracy 0.750 ± 0.103 (n=24)",
     "  폴드 0: 이미 학습했습니다. 정확도 0.750 ± 0.103 (n=24)"),
    ("  fold 1: image features are not kept: cache has no room for them",
     "  폴드 1: 이미지 특징을 저장하지 않습니다: cache에 공간이 없습니다"),
    ("\rfold 0 epoch 1:  40%|####      | 10/25", "\r폴드 0 에폭 1:  40%|####      | 10/25"),
    ("\nerror: start_from=x: there is no such folder.", "\n오류: start_from=x: 그런 폴더가 없습니다."),
    ("error: num_epochs=5000 is out of range: 0 to 1000. It is: passes over the training rows.",
     "오류: num_epochs=5000은 범위를 벗어났습니다: 0부터 1000까지. 설명: passes over the training rows."),
    ("  train.csv: answers are letters: 'b' is b (2); 'c' is c (red)",
     "  train.csv: 정답은 글자입니다: 'b' = b (2); 'c' = c (red)"),
    ("What color is the car of the three rows", "What color is the car of the three rows"),
    ('{"answer": "b", "rows": 3}', '{"answer": "b", "rows": 3}'),
    ("빨강", "빨강"), ("", ""), ("\n", "\n"),
])
def test_texts_and_the_texts_inside_them_are_translated(english, korean):
    assert TRANSLATOR.console(english) == korean


def test_commands_to_type_stay_as_they_are():
    said = korean_translator().console("Example: mcvqa run --data data --set SEED=1")
    assert said == "예: mcvqa run --data data --set SEED=1"


def test_a_message_of_several_lines_is_one():
    told = "\nsubmission  out.csv\n            geometric of demo (2 folds) of the run 'demo', accuracy 0.854 ± 0.063 (n=48)"
    korean = "실행 'demo'의 demo(폴드 2개)의 geometric, 정확도 0.854 ± 0.063 (n=48)"
    assert TRANSLATOR.console(told) == f"\n제출 파일  out.csv\n           {korean}"
    assert TRANSLATOR.console("no setting\nfold 0: already scored\n") == "no setting\n폴드 0: 이미 채점했습니다\n"


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


def test_output_is_korean_within_the_block_alone(capsys):
    with translated_output("ko"), printable_output():
        print("  fold 0: already scored")
    with translated_output("en"):
        print("fold 0: already scored")
    assert capsys.readouterr().out == "  폴드 0: 이미 채점했습니다\nfold 0: already scored\n"
    assert TranslatedStream(io.StringIO(), TRANSLATOR).write("fold 0: already scored") == len("fold 0: already scored")


@pytest.mark.parametrize("arguments", [("--lang", "ko", "run", "--data", "nowhere"), ("run", "--data=nowhere", "--lang=ko")])
def test_the_command_line_speaks_korean(arguments, tmp_path):
    command, environment = [sys.executable, "-m", "mcvqa", *arguments], {"PYTHONPATH": str(PACKAGE.parent), "PYTHONUTF8": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith(f"\n오류: {tmp_path / 'nowhere'}") and "없습니다" in done.stderr
