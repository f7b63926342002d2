"""Writes docs/settings.md and docs/commands.md from the code: every field of Config, every command with its options.

    python tools/reference.py            # write the pages
    python tools/reference.py --check    # only say whether they are as they would be written
"""
import inspect
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from typer.main import get_command

from mcvqa.cli import allowed_values, app, as_typed
from mcvqa.config import Config

DOCS = Path(__file__).parents[1] / "docs"
MADE = "Made by `make docs` (tools/reference.py), not by hand."
TITLES = {
    "where things are": "Where things are", "which rows": "Rows and folds", "model": "Model and adapters", "prompt": "Prompt",
    "training": "Training", "scoring": "Scoring", "ensemble": "Ensemble",
}


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    header = tuple(header)
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in lines)


# %% settings
def setting_groups() -> dict[str, list[str]]:
    """Title of a part of Config -> names of its fields, as the source divides them."""
    groups: dict[str, list[str]] = {}
    for title, name in re.findall(r"^    (?:# %% (.+)|(\w+): )", inspect.getsource(Config), re.MULTILINE):
        if title in TITLES:
            groups[TITLES[title]] = []
        elif name in Config.model_fields:
            next(reversed(groups.values())).append(name)
    return groups


def setting_row(name: str) -> tuple[str, str, str, str]:
    setting = Config.settings()[name]
    default = as_typed(setting.default).replace("\n", "\\n")
    allowed = allowed_values(setting).strip().strip("[]").replace(" | ", ", ")
    mark = "\\*" if setting.weights else ""
    return f"`{name}`{mark}", f"`{default}`" if default else "(empty)", allowed, f"{setting.meaning}."


def settings_page() -> str:
    parts = [
        f"# Settings\n\n{MADE} The same list in the terminal: `mcvqa presets --fields`.\n\n"
        "A setting is changed by `--set NAME=VALUE`, by a line of a YAML file (`--config FILE.yaml`), or in Python by\n"
        "`Config(NAME=VALUE)`. Upper and lower case are the same; lists are written with commas. A value that is impossible is\n"
        "refused before anything starts. The presets are in the [overview](overview.md#presets).\n\n"
        "\\* Trained weights depend on this setting: another value is another run, with folders of its own."
    ]
    for title, names in setting_groups().items():
        parts.append(f"## {title}\n\n" + table(("setting", "default", "allowed", "meaning"), map(setting_row, names)))
    return "\n\n".join(parts) + "\n"


# %% commands
def option_name(parameter: Any) -> str:
    """'--data DIR', '--force', '[RUN]': as it is typed."""
    if parameter.param_type_name == "argument":
        return parameter.metavar or parameter.name.upper()
    name = max((one for one in parameter.opts if one.startswith("--")), key=len)
    if parameter.is_flag:
        return name
    return f"{name} {parameter.metavar or parameter.name.upper()}"


def word(parameter: Any) -> str:
    """'--data', 'RUN'"""
    return option_name(parameter).split()[0].strip("[]")


def with_marked_options(said: str) -> str:
    """Options as code, so that no page makes a dash of `--`."""
    return re.sub(r"(?<![`\w])--[a-z][a-z-]*", r"`\g<0>`", said)


def option_row(parameter: Any) -> tuple[str, str]:
    return f"`{option_name(parameter)}`", with_marked_options((parameter.help or "").replace("<", "\\<"))


def command_part(name: str, command: Any, shared: dict[str, Any]) -> str:
    """The section of one command: what it does, examples, which shared options it takes, and its own."""
    said, *examples = re.split(r"\n\n(?:Example|Or): ", command.help)
    known = [p for p in command.params if word(p) in shared and p.help == shared[word(p)].help]
    own = [p for p in command.params if p not in known]
    names = ", ".join(f"`{word(p)}`" for p in known)
    takes = f"Takes {names}." if not own else f"Takes {names} and:" if names else "Takes:"
    options = [table(("option", "meaning"), map(option_row, own))] if own else []
    return "\n\n".join([f"## {name}", with_marked_options(said), "```bash\n" + "\n".join(examples) + "\n```", takes, *options])


def commands_page() -> str:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    shared = {word(p): p for name in ("report", "run") for p in commands[name].params}
    parts = [
        f"# Commands\n\n{MADE} `--help` behind a command shows the same; "
        "the [overview](overview.md#commands) has one line for each.\n\n"
        "What several commands take:\n\n" + table(("option", "meaning"), map(option_row, shared.values())) + "\n\n"
        "Every command also takes `--lang en` or `--lang ko`, the language of its output. Default: that of the locale.\n\n"
        "Exit status: 0 done; 1 an error, which the message explains; 2 an option that does not exist or is out of range; "
        "75 stopped early: run the same command again to resume."
    ]
    return "\n\n".join([*parts, *(command_part(name, command, shared) for name, command in commands.items())]) + "\n"


def main(arguments: list[str]) -> int:
    stale = []
    for name, text in {"settings.md": settings_page(), "commands.md": commands_page()}.items():
        page = DOCS / name
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            stale.append(name)
            if "--check" not in arguments:
                page.write_text(text, encoding="utf-8")
    if stale:
        print(f"docs/{', docs/'.join(stale)}: " + ("not as the code says: make docs" if "--check" in arguments else "written"))
    return int(bool(stale) and "--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
