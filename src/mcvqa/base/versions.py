"""Which versions of the libraries are installed, and what is worth knowing about them. It only warns: nothing is replaced."""
import importlib.metadata

from packaging.version import Version

TESTED = {"torch": "2.13.0", "transformers": "5.23.0", "peft": "0.21.2"}  # the newest that everything was tested with
SAFE_SINCE = {"pillow": "12.3", "torch": "2.10"}  # older ones have published security advisories


def installed_version(name: str) -> str | None:
    """The version of an installed package, None where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def version_notes() -> list[str]:
    """A sentence about each installed library that is newer than the tested one, or that has a security advisory."""
    notes = []
    for name, tested in TESTED.items():
        found = installed_version(name)
        if found and Version(found).release[:2] > Version(tested).release[:2]:
            notes.append(f"{name} {found} is newer than {tested}, the newest version tested. If something fails, try that one.")
    for name, safe in SAFE_SINCE.items():
        found = installed_version(name)
        if found and Version(found) < Version(safe):
            notes.append(f"{name} {found} has published security advisories, fixed in {safe}. It works; mind untrusted files.")
    return notes
