"""An exported folder is handed to a hub on this machine, through the library's own client; without a hub it stays."""
import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants

from mcvqa.answer.export import ExportError
from mcvqa.answer.push import push_folder, require_pushable


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "quiz"
    folder.mkdir()
    (folder / "README.md").write_bytes(b"---\nlibrary_name: peft\n---\n# quiz\n")
    (folder / "adapter_model.safetensors").write_bytes(b"\0\1" * 99)
    return folder


@pytest.fixture
def hub(monkeypatch):
    """What it was sent: path -> JSON, or lines of JSON."""
    sent = {}

    class Hub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            path = self.path.split("?")[0]
            sent[path] = [json.loads(line) for line in body.splitlines()]
            address, files = f"{constants.ENDPOINT}/kim/quiz", sent[path][0].get("files", []) if sent[path] else []
            answer = {
                "/api/repos/create": {"url": address, "id": "kim/quiz"}, "/api/validate-yaml": {"errors": [], "warnings": []},
                "/api/models/kim/quiz/preupload/main": {
                    "files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]},
                "/api/models/kim/quiz/commit/main": {
                    "success": True, "commitOid": "1" * 40, "commitUrl": f"{address}/commit/1", "hookOutput": ""},
            }.get(path)
            reply = json.dumps(answer or {}).encode()
            self.send_response(200 if answer else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    yield sent
    server.shutdown()


def test_the_folder_is_one_commit_into_a_private_repository(folder, hub):
    require_pushable("kim/quiz")
    assert push_folder(folder, "kim/quiz").endswith("/kim/quiz/commit/1")
    (made,) = hub["/api/repos/create"]
    assert (made["organization"], made["name"]) == ("kim", "quiz")
    assert made.get("private") or made.get("visibility") == "private"
    header, *files = hub["/api/models/kim/quiz/commit/main"]
    assert header["value"]["summary"] == "quiz, exported by mcvqa"
    assert {f["value"]["path"]: base64.b64decode(f["value"]["content"]) for f in files} == {
        file.name: file.read_bytes() for file in folder.iterdir()}


def test_without_a_hub_the_folder_stays(folder, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    with pytest.raises(ExportError) as message:
        push_folder(folder, "kim/quiz")
    assert "\n" not in str(message.value) and str(message.value).endswith(f"To upload it later: hf upload kim/quiz {folder} .")
    assert f"{folder} was exported and is kept" in str(message.value) and len(list(folder.iterdir())) == 2


@pytest.mark.parametrize(("name", "token", "offline", "message"), [
    ("quiz", "hf_x", False, "write OWNER/NAME"), ("kim/quiz", "", False, "needs a token with write access: run `hf auth login`"),
    ("kim/quiz", "hf_x", True, "HF_HUB_OFFLINE=1 turns it off"),
])
def test_what_is_missing_is_said_before_the_export(monkeypatch, tmp_path, name, token, offline, message):
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    with pytest.raises(ExportError, match=message):
        require_pushable(name)
