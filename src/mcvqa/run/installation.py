"""Collects versions, commit, device and memory for a bug report, without paths, users or machine names."""
import os

import torch

from mcvqa.base.versions import installed_version, version_notes
from mcvqa.config import Config
from mcvqa.model.device import GIB, DeviceError, plan_device
from mcvqa.run.provenance import device_named, environment

MORE_PACKAGES = ("tokenizers", "pydantic", "pandas", "triton", "ray", "gradio")


def installation_report() -> str:
    """Describe the installation: one line per fact, then warnings about versions."""
    try:
        device = device_named(plan_device(Config()))
    except DeviceError as error:  # which is what the report may be about
        device = f"unusable: {error}"
    facts = environment(device) | {name: installed_version(name) or "not installed" for name in MORE_PACKAGES}
    facts |= {"cuda": torch.version.cuda or "none", "place": _hosted_by(), "cores": str(os.cpu_count())}
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        facts["memory"] = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / GIB:.1f} GiB"
    for number in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(number)
        facts[f"gpu {number}"] = f"{gpu.name}, capability {gpu.major}.{gpu.minor}, {gpu.total_memory / GIB:.1f} GiB"
    return "\n".join([*(f"{name:13} {fact}" for name, fact in facts.items()), *version_notes()])


def _hosted_by() -> str:
    if "KAGGLE_KERNEL_RUN_TYPE" in os.environ:
        return "Kaggle"
    return "Colab" if "COLAB_RELEASE_TAG" in os.environ else "own machine"
