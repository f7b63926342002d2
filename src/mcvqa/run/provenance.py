"""Records the origin of a result: versions, commit and device."""
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from mcvqa.model.device import DevicePlan


def environment(device: str) -> dict[str, str]:
    """Collect the provenance of a result: versions, commit and device."""
    packages = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "numpy", "scikit-learn", "pillow")
    facts = {"python": platform.python_version(), "system": platform.platform(), "mcvqa": _version_of("mcvqa")}
    facts |= {name: _version_of(name) for name in packages}
    return facts | {"commit": code_commit(), "device": device}


def device_named(plan: DevicePlan) -> str:
    """Return the name of the device for display."""
    return plan.reasons[0].split(":")[0].removeprefix("device ")


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def code_commit() -> str:
    """Return the commit of the checkout that contains the package, with '-dirty' if its code has changed; 'unknown' without one.

    A repository that only contains the environment in which the package is installed does not count.
    """
    spec = find_spec("mcvqa")
    if spec is None or not spec.origin:
        return "unknown"
    source = Path(spec.origin)

    def git(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", "-C", source.parent, *words], capture_output=True, text=True, timeout=5, check=check)

    try:
        git("ls-files", "--error-unmatch", source.name)
        changed = git("diff", "--quiet", "HEAD", "--", ".", check=False).returncode  # runs write tracked files elsewhere
        return git("describe", "--always").stdout.strip() + "-dirty" * bool(changed)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
