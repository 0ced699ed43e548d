"""Downloads from a server on 127.0.0.1 that interrupts connections, sends wrong bytes and refuses requests."""

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
from conftest import needs, refused
from test_weights import in_dialect, small, values

import reszoo
from reszoo.weights import catalogue, download, origin
from reszoo.weights.catalogue import File
from reszoo.weights.dialects import dialects
from reszoo.weights.formats.write import write_safetensors, write_torch

BODY = np.random.default_rng(0).bytes(300_000)
HASH = hashlib.sha256(BODY).hexdigest()


class Server:
    """Serves `bodies` and records every request."""

    def __init__(self):
        self.bodies = {}
        self.cut_after = {}
        self.ranges = True
        self.headers = {}
        self.requests = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.answer(body=False)

            def do_GET(self):
                self.answer(body=True)

            def answer(self, body):
                path = self.path.partition("?")[0]
                outer.requests.append((self.command, path, self.headers.get("Range")))
                content = outer.bodies.get(path)
                if content is None:
                    self.send_response(404)
                    for name, value in outer.headers.get(path, {}).items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                start = 0
                requested = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
                if requested and outer.ranges:
                    start = int(requested[1])
                if start >= len(content) > 0:
                    self.send_response(416)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.send_header("Content-Length", str(len(content) - start))
                for name, value in outer.headers.get(path, {}).items():
                    self.send_header(name, value)
                self.end_headers()
                rest = content[start:]
                cuts = outer.cut_after.get(path, [])
                if body and cuts:
                    self.wfile.write(rest[: cuts.pop(0)])
                    self.close_connection = True
                elif body:
                    self.wfile.write(rest)

            def log_message(self, *_):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def gets(self, path):
        return [range_ for command, requested, range_ in self.requests if (command, requested) == ("GET", path)]

    def close(self):
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server():
    running = Server()
    yield running
    running.close()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    for name in ("RESZOO_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RESZOO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def files(home):
    return sorted(file.name for file in (home / "weights" / "some").iterdir() if not file.name.endswith(".lock"))


def test_a_file_is_downloaded_verified_and_cached(server, home):
    server.bodies["/a.pth"] = BODY
    for _ in range(2):
        path = download.fetch("some", [File(url=f"{server.url}/a.pth", sha256=HASH[:8])])
        assert path == home / "weights" / "some" / "a.pth" and path.read_bytes() == BODY
    assert len(server.gets("/a.pth")) == 1
    assert files(home) == ["a.pth"]


def test_an_interrupted_connection_is_resumed(server):
    server.bodies["/a.pth"] = BODY
    server.cut_after["/a.pth"] = [100_000, 50_000]
    path = download.fetch("some", [File(url=f"{server.url}/a.pth", sha256=HASH)])
    assert path.read_bytes() == BODY
    assert server.gets("/a.pth") == [None, "bytes=100000-", "bytes=150000-"]


def test_an_interrupted_download_is_resumed_by_the_next_call(server, home):
    server.bodies["/a.pth"] = BODY
    (home / "weights" / "some").mkdir(parents=True)
    (home / "weights" / "some" / "a.pth.part").write_bytes(BODY[:123_456])
    assert download.fetch("some", [File(url=f"{server.url}/a.pth", sha256=HASH)]).read_bytes() == BODY
    assert server.gets("/a.pth") == ["bytes=123456-"]


def test_a_server_without_ranges_sends_the_file_again(server):
    server.bodies["/a.pth"] = BODY
    server.ranges = False
    server.cut_after["/a.pth"] = [100_000]
    assert download.fetch("some", [File(url=f"{server.url}/a.pth", sha256=HASH)]).read_bytes() == BODY


@pytest.mark.parametrize("part", [BODY[:1000][::-1], BODY + b"more", bytes(len(BODY))], ids=["start", "longer", "same"])
def test_the_part_of_another_version_is_discarded(server, home, part):
    server.bodies["/a.pth"] = BODY
    (home / "weights" / "some").mkdir(parents=True)
    (home / "weights" / "some" / "a.pth.part").write_bytes(part)
    assert download.fetch("some", [File(url=f"{server.url}/a.pth", sha256=HASH)]).read_bytes() == BODY


def test_mirrors_are_tried_in_order(server, home):
    server.bodies |= {"/wrong/a.pth": BODY[::-1], "/right/a.pth": BODY}
    places = [f"{server.url}/{place}/a.pth" for place in ("absent", "wrong", "right")]
    path = download.fetch("some", [File(url=place, sha256=HASH[:8]) for place in places])
    assert path.read_bytes() == BODY
    assert [path for _, path, _ in server.requests] == ["/absent/a.pth", "/wrong/a.pth", "/right/a.pth"]
    assert files(home) == ["a.pth"]


def test_error_if_no_location_has_the_file(server, home):
    server.bodies |= {"/wrong/a.pth": BODY[::-1]}
    places = [File(url=f"{server.url}/{place}/a.pth", md5="0" * 32) for place in ("absent", "wrong")]
    with refused(["some", "HTTP 404", "md5", "instead of 000000", "put a.pth into", str(home / "weights" / "some")]):
        download.fetch("some", places)
    assert files(home) == []


def test_a_wrong_file_in_the_cache_is_replaced_by_the_right_one_only(server, home):
    place = File(url=f"{server.url}/a.pth", sha256=HASH)
    (home / "weights" / "some").mkdir(parents=True)
    (home / "weights" / "some" / "a.pth").write_bytes(b"put here by hand")
    with refused(["HTTP 404"]):
        download.fetch("some", [place])
    assert (home / "weights" / "some" / "a.pth").read_bytes() == b"put here by hand"
    server.bodies["/a.pth"] = BODY
    assert download.fetch("some", [place]).read_bytes() == BODY


def test_offline_error_says_where_to_put_the_file(server, home, monkeypatch):
    server.bodies["/a.pth"] = BODY
    monkeypatch.setenv("RESZOO_OFFLINE", "1")
    place = File(url=f"{server.url}/a.pth", sha256=HASH)
    with refused(["offline", "put a.pth into", str(home / "weights" / "some")]):
        download.fetch("some", [place])
    assert not server.requests
    (home / "weights" / "some" / "a.pth").write_bytes(BODY)
    assert download.fetch("some", [place]).read_bytes() == BODY


def test_addresses_cannot_write_elsewhere(server, home):
    server.bodies["/..%2f..%2fevil.pth"] = BODY
    path = download.fetch("some", [File(url=f"{server.url}/..%2f..%2fevil.pth", sha256=HASH)])
    assert path.parent == home / "weights" / "some"
    for url in ("file:///etc/passwd", "ftp://127.0.0.1/a.pth"):
        with refused(["not an http or https address"]):
            download.fetch("some", [File(url=url)])


def test_two_processes_download_once(server, home):
    server.bodies["/a.pth"] = BODY
    code = (
        "import sys; from reszoo.weights import download; from reszoo.weights.catalogue import File\n"
        f"print(download.fetch('some', [File(url='{server.url}/a.pth', sha256='{HASH}')]))"
    )
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert {process.communicate(timeout=60)[0].strip() for process in both} == {str(home / "weights/some/a.pth")}
    assert [process.returncode for process in both] == [0, 0]
    assert len(server.gets("/a.pth")) == 1


# Loading downloaded weights.


@pytest.fixture
def published(server, tmp_path, monkeypatch):
    """A record of a small network in the catalog, served by the test server."""
    spec = small("resnet18")
    write_torch(in_dialect(spec, dialects()["torchvision"]), tmp_path / "small.pth")
    body = (tmp_path / "small.pth").read_bytes()
    digest = hashlib.sha256(body).hexdigest()
    path = f"/small-{digest[:8]}.pth"
    server.bodies[path] = body
    record = catalogue.record("resnet18.tv_in1k").model_copy(
        update={
            "files": (File(url=server.url + path, sha256=digest[:8]),),
            "licence": "CC-BY-NC-4.0",
            "name": "resnet18.small",
        }
    )
    monkeypatch.setitem(catalogue.records(), "resnet18.small", record)
    return spec, path


def test_a_tag_loads_with_a_license_warning_and_then_from_a_copy(server, home, published):
    spec, path = published
    with pytest.warns(UserWarning, match="forbids commercial use"):
        model = reszoo.create(spec.replace(name="resnet18"), weights="small")
    assert reszoo.origin(model).record.name == "resnet18.small"
    (copy,) = (home / "converted").iterdir()
    (home / "weights" / "resnet18.small" / path[1:]).unlink()
    with pytest.warns(UserWarning, match="forbids commercial use"):
        again = reszoo.create(spec.replace(name="resnet18"), weights="resnet18.small")
    assert reszoo.origin(again).report.container == "safetensors"
    assert len(server.gets(path)) == 1
    assert all((a == b).all() for a, b in zip(values(model), values(again), strict=True))
    copy.write_bytes(copy.read_bytes()[:5000])
    with pytest.warns(UserWarning, match="forbids commercial use"):
        restored = reszoo.create(spec.replace(name="resnet18"), weights="small")
    assert all((a == b).all() for a, b in zip(values(model), values(restored), strict=True))


def test_an_address_loads_and_its_name_has_the_hash(server, published):
    spec, path = published
    model = reszoo.create(spec, weights=server.url + path)
    assert len(reszoo.origin(model).report.copied) == len(model.weights)
    server.bodies["/small-00000000.pth"] = server.bodies[path]
    with refused(["sha256", "instead of 00000000"]):
        reszoo.create(spec, weights=f"{server.url}/small-00000000.pth")


def test_a_local_copy_of_published_weights_is_recognized(server, home, published, tmp_path):
    _, path = published
    (tmp_path / path[1:]).write_bytes(server.bodies[path])
    assert origin.published_record(tmp_path / path[1:]).name == "resnet18.small"
    (tmp_path / path[1:]).write_bytes(server.bodies[path] + b"x")
    assert origin.published_record(tmp_path / path[1:]) is None


@needs("huggingface_hub")
def test_a_repository_of_the_hub(server, tmp_path):
    """Runs in a subprocess: huggingface_hub reads its address when it is imported."""
    spec = small("resnet18")
    write_safetensors(in_dialect(spec, dialects()["hugging_face"]), tmp_path / "model.safetensors")
    body, root = (tmp_path / "model.safetensors").read_bytes(), "/org/net/resolve/main"
    etag = hashlib.sha256(body).hexdigest()
    commit = {"X-Repo-Commit": "a" * 40}
    pixels = {"size": {"shortest_edge": 224}, "crop_pct": 0.875, "image_mean": [0.1] * 3, "image_std": [0.5] * 3}
    configs = {"config.json": {"architectures": ["ResNetModel"]}, "preprocessor_config.json": pixels}
    bodies = {"model.safetensors": body, **{name: json.dumps(content).encode() for name, content in configs.items()}}
    for name, content in bodies.items():
        server.bodies[f"{root}/{name}"] = content
        server.headers[f"{root}/{name}"] = {**commit, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
    code = (
        "import reszoo; model, report = reszoo.from_checkpoint('hf://org/net')\n"
        "print(len(report.copied), reszoo.origin(model).preprocessing)"
    )
    environment = {**os.environ, "HF_ENDPOINT": server.url, "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_XET": "1"}

    def run(cache):
        variables = {**environment, "HF_HOME": str(tmp_path / cache)}
        return subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True)

    done = run("first")
    assert "resize=256 crop=224" in done.stdout, done.stderr[-2000:]
    server.headers[f"{root}/model.safetensors"]["ETag"] = f'"{etag[::-1]}"'
    done = run("second")
    assert done.returncode and "instead of" in done.stderr


def test_the_hub_needs_its_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with refused(["hf://org/net", "pip install 'reszoo[hub]'"]):
        download.fetch("some", [File(url="hf://org/net")])
