"""Models of the hub, asked for by the library's own client from a hub on this machine."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mcvqa.model.content import packaged_tiny
from tests.conftest import make_dataset
from tests.hub import serve_hub

FILES = {file.name: file for file in packaged_tiny().iterdir() if file.suffix != ".md"}


def mcvqa(server, home: Path, command: str, *settings: str) -> subprocess.CompletedProcess:
    """A command in a process of its own: the library reads where its hub is when it is imported."""
    data = make_dataset(home / "data", 12, 4)
    fast = ("image_size=56", "device=cpu", "use_kfold=false", f"output_dir={home}", "run_name=hub")
    return subprocess.run(
        [sys.executable, "-m", "mcvqa", command, "--data", str(data), "--set", "model_id=some/tiny", *fast, *settings],
        env=os.environ | {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(home / "hf"),
                          "HF_HUB_DISABLE_XET": "1"},
        capture_output=True, text=True, timeout=300,
    )


@pytest.fixture
def hub():
    servers = []

    def start(**options):
        servers.append(serve_hub(FILES, "some/tiny", **options))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()


@pytest.mark.nightly
def test_the_size_of_a_download_is_said_before_it_is_fetched_and_then_it_is_trained(hub, tmp_path):
    server = hub()
    checked = mcvqa(server, tmp_path, "check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "· 0.0 GB must be downloaded to" in checked.stdout and "GB free" in checked.stdout
    assert not list((tmp_path / "hf").rglob("*.safetensors")), "check fetches no weights"
    again = mcvqa(server, tmp_path, "check")
    assert again.returncode == 0 and "not downloaded yet" in again.stdout, "configuration and tokenizer alone are no damage"
    trained = mcvqa(server, tmp_path, "run", "user_prompt={question} {options}")
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert (tmp_path / "outputs" / "submission_ensemble.csv").exists() and list((tmp_path / "hf").rglob("*.safetensors"))
    assert "the weights are complete" in mcvqa(server, tmp_path, "check").stdout


@pytest.mark.nightly
def test_a_download_without_room_stands_in_the_way(hub, tmp_path):
    checked = mcvqa(hub(sizes={"model-00001-of-00002.safetensors": 10**15}), tmp_path, "check")
    assert checked.returncode == 1
    assert "! 1000000.0 GB must be downloaded to" in checked.stdout
    assert "choose a smaller or 4-bit model" in checked.stdout


@pytest.mark.nightly
def test_a_gated_model_says_how_to_get_it(hub, tmp_path):
    checked = mcvqa(hub(gated=True), tmp_path, "check")
    assert checked.returncode == 1
    assert "some/tiny is gated: accept its terms at http://127.0.0.1:" in checked.stdout and "HF_TOKEN" in checked.stdout
