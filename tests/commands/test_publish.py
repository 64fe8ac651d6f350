"""Publishing, against a local stand-in for the Hub's HTTP interface."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
import yaml

from genolm.commands.pretrain import run
from genolm.commands.publish import publish, without_paths
from genolm.recipe import PretrainRecipe
from genolm.settings import load_settings

REPO = "someone/tiny-dna"


@pytest.fixture(scope="module", params=["char", "kmer3-overlapping"])
def run_dir(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("publish")
    (folder / "g.fa").write_text(">one\n" + "".join(np.random.default_rng(0).choice(list("ACGT"), 9000)) + "\n")
    causal = request.param == "char"
    recipe = {
        "run_dir": str(folder / "run"),
        "data": {"fasta": str(folder / "g.fa"), "window_bp": 64, "test": {"fraction": 0.2}},
        "tokenizer": request.param,
        "objective": {"kind": "causal" if causal else "masked"},
        "model": {
            "architecture": "llama" if causal else "bert",
            **{"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
        },
        "training": {"max_steps": 1, "per_device_train_batch_size": 2},
        "evaluation": {"markov_orders": [1, 2], "max_bp": 500},
    }
    (folder / "r.yaml").write_text(yaml.safe_dump(recipe))
    run(load_settings(PretrainRecipe, folder / "r.yaml"))
    return folder / "run"


class Hub(BaseHTTPRequestHandler):
    """Speaks as much of the Hub's interface as an upload needs, and keeps what it is sent."""

    protocol_version = "HTTP/1.1"
    received: dict = {}

    def _body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, value, code=200, headers=None):
        data = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self):
        body, kept, base = self._body(), self.received, f"http://{self.headers['Host']}"
        if self.headers.get("Authorization") != "Bearer hf_good":
            self._answer({"error": "Invalid credentials"}, 401)
        elif self.path == "/api/repos/create":
            kept["repo"] = json.loads(body)
            self._answer({"url": f"{base}/{REPO}", "name": REPO, "id": REPO})
        elif self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif self.path.endswith("/preupload/main"):
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith((".safetensors", ".png")) else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for file in json.loads(body)["files"]
            ]
            self._answer({"files": files})
        elif self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                {
                    "oid": one["oid"],
                    "size": one["size"],
                    "actions": {"upload": {"href": f"{base}/lfs/{one['oid']}"}},
                }
                for one in json.loads(body)["objects"]
            ]
            self._answer({"transfer": "basic", "objects": objects})
        elif self.path.endswith("/commit/main"):
            kept["commit"] = [json.loads(line) for line in body.splitlines()]
            self._answer({"commitUrl": f"{base}/{REPO}/commit/1", "commitOid": "1" * 40, "hookOutput": ""})
        else:
            kept.setdefault("unknown", []).append(("POST", self.path))
            self._answer({"error": "unknown"}, 404)

    def do_PUT(self):
        self.received.setdefault("lfs", {})[self.path.rsplit("/", 1)[-1]] = self._body()
        self._answer({})

    def do_GET(self):
        if self.path == "/api/models/someone/public":
            self._answer({"id": "someone/public", "private": False})
        elif self.path == f"/api/models/{REPO}":
            self._answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        else:
            self.received.setdefault("unknown", []).append(("GET", self.path))
            self._answer({"error": "unknown"}, 404)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub():
    Hub.received = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def genolm(*arguments, **env):
    return subprocess.run(
        [sys.executable, "-m", "genolm", *map(str, arguments)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=os.environ | {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": "hf_good"} | env,
    )


def test_what_is_sent_is_what_the_dry_run_writes(run_dir, hub, tmp_path):
    done = genolm("publish", run_dir, REPO, "--license", "mit", "--dry-run", "--out", tmp_path / "dry")
    assert done.returncode == 0, done.stderr
    assert "nothing was sent" in done.stdout and not Hub.received
    done = genolm("publish", run_dir, REPO, "--license", "mit", HF_ENDPOINT=hub)
    assert done.returncode == 0, done.stderr + str(Hub.received.get("unknown"))
    assert "(private)" in done.stdout
    assert Hub.received["repo"]["visibility"] == "private"
    import base64

    sent = {}
    for line in Hub.received["commit"]:
        if line["key"] == "file":
            sent[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        elif line["key"] == "lfsFile":
            oid = line["value"]["oid"]
            assert hashlib.sha256(Hub.received["lfs"][oid]).hexdigest() == oid
            sent[line["value"]["path"]] = Hub.received["lfs"][oid]
    assert sent == {path.name: path.read_bytes() for path in (tmp_path / "dry").iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md", "genolm.json", "loss.png"} <= set(sent)


def test_the_card_tells_the_run_and_its_usage_works(run_dir, tmp_path, capsys):
    publish(str(run_dir), REPO, license="cc-by-4.0", dry_run=True, out=tmp_path / "dry")
    card = (tmp_path / "dry" / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    about = json.loads((run_dir / "checkpoint" / "genolm.json").read_text())
    assert front["license"] == "cc-by-4.0"
    assert front["pipeline_tag"] == ("text-generation" if about["objective"] == "causal" else "fill-mask")
    assert about["data"]["inputs"][0]["sha256"] in card
    assert "test: 20% of the bases" in card
    assert str(run_dir.parent) not in card + (tmp_path / "dry" / "genolm.json").read_text()
    # Masked bits are no likelihood: no Markov model beside them.
    assert ("Markov" in card.split("## Limits")[0]) == (about["objective"] == "causal")
    snippet = re.search(r"```python\n(.*?)```", card, re.DOTALL).group(1).replace(REPO, str(tmp_path / "dry"))
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.modules['genolm'] = None\n" + snippet],
        capture_output=True,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    tokens = 35 if about["objective"] == "causal" else 35 - 2 + 2
    assert done.stdout.startswith(f"torch.Size([1, {tokens}, ")


def test_mistakes_are_one_line(run_dir, hub, tmp_path):
    cases = [
        (("publish", tmp_path, REPO), {}, "holds no checkpoint"),
        (("publish", run_dir, "no-user"), {}, "USER/NAME"),
        (("publish", run_dir, "a/b/c"), {}, "no name for a repository"),
        (("publish", run_dir, REPO), {}, "add --license"),
        (("publish", run_dir, REPO, "--license", "gpl"), {}, "is none of"),
        (("publish", run_dir, REPO, "--license", "mit"), {"HF_ENDPOINT": hub, "HF_TOKEN": "hf_bad"}, "hf auth login"),
        (("publish", run_dir, "someone/public", "--license", "mit"), {"HF_ENDPOINT": hub}, "exists and is public"),
        (("publish", run_dir, REPO, "--license", "mit"), {"HF_HUB_OFFLINE": "1"}, "nothing was sent"),
        (("publish", run_dir, REPO, "--license", "mit"), {"HF_ENDPOINT": "http://127.0.0.1:9"}, "cannot be reached"),
    ]
    for arguments, env, message in cases:
        done = genolm(*arguments, **env)
        assert done.returncode == 2, done.stderr
        assert message in done.stderr and "Traceback" not in done.stderr
        assert done.stderr.strip().splitlines()[-1].startswith("error: ")


def test_pickles_are_never_sent(run_dir, tmp_path):
    import shutil

    shutil.copytree(run_dir / "checkpoint", tmp_path / "checkpoint")
    torch.save({}, tmp_path / "checkpoint" / "training_args.bin")
    publish(str(tmp_path), REPO, license="mit", dry_run=True)
    assert not (tmp_path / "publish" / "training_args.bin").exists()
    (tmp_path / "checkpoint" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="no .safetensors"):
        publish(str(tmp_path), REPO, license="mit", dry_run=True)


def test_paths_are_cut_and_names_are_not(tmp_path):
    found = without_paths({"fasta": [str(tmp_path / "g.fa"), "https://host/x.fa"], "tokenizer": "user/name"})
    assert found == {"fasta": ["g.fa", "https://host/x.fa"], "tokenizer": "user/name"}
