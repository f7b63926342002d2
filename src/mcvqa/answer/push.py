"""Uploads an exported folder to the hub, as `hf upload OWNER/NAME FOLDER` does."""
import re
from pathlib import Path

from huggingface_hub import HfApi, constants, get_token

from mcvqa.answer.merge import ExportError


def require_pushable(name: str) -> None:
    """Check before an export that its folder can be uploaded.

    Args:
        name: name of the repository, OWNER/NAME.

    Raises:
        ExportError: it is not such a name, there is no token, or the hub is turned off.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ExportError(f"--push {name}: write OWNER/NAME, such as kim/traffic-quiz.")
    if constants.HF_HUB_OFFLINE:
        raise ExportError("--push needs the hub, but HF_HUB_OFFLINE=1 turns it off.")
    if not get_token():
        raise ExportError("--push needs a token with write access: run `hf auth login`, or set HF_TOKEN. Nothing was exported.")


def push_folder(folder: Path, name: str) -> str:
    """Upload a folder. A new repository is private: its card should be read before others see it.

    Args:
        folder: the exported folder; it is not changed.
        name: name of the repository, OWNER/NAME.

    Returns:
        The address of the commit.

    Raises:
        ExportError: the hub cannot be reached, or refuses.
    """
    api = HfApi()
    try:
        api.create_repo(name, private=True, exist_ok=True)
        commit = api.upload_folder(repo_id=name, folder_path=folder, commit_message=f"{folder.name}, exported by mcvqa")
    except Exception as error:  # from two HTTP libraries, and a dozen of the hub's own
        why = " ".join(str(error).split())[:300] or type(error).__name__
        raise ExportError(
            f"{folder} was exported and is kept, but could not be uploaded to {name}: {why} To upload it later: hf upload "
            f"{name} {folder} ."
        ) from error
    return str(commit.commit_url)
