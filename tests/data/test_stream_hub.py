"""A dataset by its name on the Hub, streamed from a local stand-in for the Hub's HTTP interface."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

ROWS = ["ACGTTGCA" * 20, "GGATTACA" * 9]
DATA = "".join(json.dumps({"dna": row}) + "\n" for row in ROWS).encode()
FILE = {"type": "file", "path": "train.jsonl", "size": len(DATA), "oid": "2" * 40}
COMMIT = "1" * 40


class Hub(BaseHTTPRequestHandler):
    """Holds one dataset, `someone/dna`, of one file."""

    protocol_version = "HTTP/1.1"

    def _answer(self, body, code=200, **headers):
        self.send_response(code)
        for name, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        path = self.path.split("?")[0]
        if path in ("/api/datasets/someone/dna", f"/api/datasets/someone/dna/revision/{COMMIT}"):
            about = {"id": "someone/dna", "sha": COMMIT, "private": False, "tags": []}
            self._answer(json.dumps({**about, "siblings": [{"rfilename": "train.jsonl"}]}).encode())
        elif path == f"/api/datasets/someone/dna/tree/{COMMIT}":
            self._answer(json.dumps([FILE]).encode())
        elif path.endswith("/train.jsonl"):
            first, last = 0, len(DATA) - 1
            if asked := self.headers.get("Range"):
                first, last = (int(number) for number in asked.removeprefix("bytes=").split("-"))
                last = min(last, len(DATA) - 1)
            shown = DATA[first : last + 1]
            code = 206 if asked else 200
            self._answer(
                shown, code, ETag='"x"', X_Repo_Commit=COMMIT, Content_Range=f"bytes {first}-{last}/{len(DATA)}"
            )
        else:
            self._answer(b'{"error": "Entry not found"}', 404, X_Error_Code="EntryNotFound")

    do_HEAD = do_GET

    def log_message(self, *args):
        pass


@pytest.fixture
def endpoint():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_hub_name_gives_its_sequences(endpoint, tmp_path):
    code = """
import json
from genolm.data.stream import Sequences
from genolm.genome.alphabet import to_text
print(json.dumps([to_text(letters) for letters in Sequences("someone/dna", column="dna")]))
"""
    env = {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | env, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ROWS
