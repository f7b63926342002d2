"""Finds installed versions of the libraries and warns about them. Installs and replaces nothing."""
import importlib.metadata

from packaging.version import Version

TESTED = {"torch": "2.13.0", "transformers": "5.23.0", "peft": "0.21.2"}  # newest versions that were tested
SAFE_SINCE = {"pillow": "12.3", "torch": "2.10"}  # older versions have published security advisories


def installed_version(name: str) -> str | None:
    """Return the version of an installed package; None: it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def version_notes() -> list[str]:
    """Make one sentence for each installed library that is newer than tested or has a security advisory."""
    notes = []
    for name, tested in TESTED.items():
        current = installed_version(name)
        if current and Version(current).release[:2] > Version(tested).release[:2]:
            notes.append(
                f"{name} {current} is newer than {tested}, the newest version tested. If something fails, try the tested "
                "version."
            )
    for name, safe in SAFE_SINCE.items():
        current = installed_version(name)
        if current and Version(current) < Version(safe):
            notes.append(f"{name} {current} has published security advisories, fixed in {safe}: be careful with untrusted files.")
    return notes
