"""A hub on this machine that the library's own client talks to: one model, gated or not."""
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def serve_hub(
    files: dict[str, Path], name: str, *, gated: bool = False, sizes: dict[str, int] | None = None
) -> ThreadingHTTPServer:
    """Args: files: of the model `name`; sizes: of files that are only said to be there."""
    class Hub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments) -> None:
            pass

        def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for key, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(key.replace("_", "-"), value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            if gated:
                return self.answer(403, b"{}", X_Error_Code="GatedRepo", X_Error_Message="Access to the model is restricted.")
            if path.startswith(f"/api/models/{name}/tree") or path.startswith(f"/api/models/{name}/paths-info"):
                entries = [{"type": "file", "path": n, "size": f.stat().st_size, "oid": COMMIT} for n, f in files.items()]
                return self.answer(200, json.dumps(entries).encode(), Content_Type="application/json")
            if path.startswith(f"/api/models/{name}"):
                siblings = [{"rfilename": n, "size": f.stat().st_size} for n, f in files.items()]
                siblings += [{"rfilename": n, "size": size} for n, size in (sizes or {}).items()]
                facts = {"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings, "tags": [], "private": False}
                return self.answer(200, json.dumps(facts).encode(), Content_Type="application/json")
            own = path.removeprefix(f"/{name}/resolve/").partition("/")[2]
            if own not in files:
                return self.answer(404, b"", X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
            body = files[own].read_bytes()
            etag = hashlib.sha256(body).hexdigest()
            return self.answer(200, body, ETag=f'"{etag}"', X_Repo_Commit=COMMIT, Accept_Ranges="bytes")

        do_HEAD = do_GET  # noqa: N815 - the library calls it so

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
