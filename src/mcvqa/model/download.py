"""Plans the download of a hub model: whether it is accessible, how large it is and whether it fits on the disk."""
import fnmatch
import shutil
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, constants, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from mcvqa.base.files import existing_folder
from mcvqa.config import Config
from mcvqa.model.content import CONTENT_FILES, ModelError
from mcvqa.model.source import HUB_SECONDS

GB = 10**9  # as the hub counts


@dataclass(frozen=True)
class Download:
    """Describes a download from the hub that has not started.

    Attributes:
        size: bytes still to be downloaded.
        free: free bytes on the disk of the hub's cache.
        cache: folder of the hub's cache.
    """

    size: int
    free: int
    cache: Path

    @property
    def fits(self) -> bool:
        return self.size <= self.free

    def __str__(self) -> str:
        return f"{self.size / GB:.1f} GB must be downloaded to {self.cache}, which has {self.free / GB:.1f} GB free" + (
            "" if self.fits else ": choose a smaller or 4-bit model, or another disk with the environment variable HF_HOME")


def planned_download(config: Config) -> Download:
    """Plan the download of a hub model, with one request to the hub.

    Raises:
        ModelError: there is no such model or version, or its owner must grant access.
    """
    try:
        facts = HfApi(endpoint=constants.ENDPOINT).model_info(
            config.model_id, revision=config.revision or None, files_metadata=True, timeout=HUB_SECONDS)
    except GatedRepoError:
        raise ModelError(
            f"{config.model_id} is gated: accept its terms at {constants.ENDPOINT}/{config.model_id}, create a token at "
            f"{constants.ENDPOINT}/settings/tokens and set it as the environment variable HF_TOKEN (on Kaggle: Add-ons, "
            "Secrets)."
        ) from None
    except RevisionNotFoundError:
        raise ModelError(f"{config.model_id} has no revision={config.revision!r} on the hub.") from None
    except RepositoryNotFoundError:
        raise ModelError(
            f"There is no model {config.model_id!r} on the hub, or it is private: check its name; if it is yours, set HF_TOKEN."
        ) from None
    except HfHubHTTPError as error:
        raise ModelError(f"{constants.ENDPOINT} refuses {config.model_id}: {str(error).splitlines()[0]}") from None
    wanted = [file for file in facts.siblings or () if any(fnmatch.fnmatch(file.rfilename, kind) for kind in CONTENT_FILES)]
    if any(file.rfilename.endswith(".safetensors") for file in wanted):
        wanted = [file for file in wanted if not file.rfilename.endswith(".bin")]  # the same in another format
    missing = [
        file for file in wanted
        if not isinstance(try_to_load_from_cache(config.model_id, file.rfilename, revision=config.revision or None), str)
    ]
    cache = Path(constants.HF_HUB_CACHE)
    return Download(sum(file.size or 0 for file in missing), shutil.disk_usage(existing_folder(cache)).free, cache)
