"""A served source model: what the server refuses, what the client does not believe, same bits."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gzip
import http.server
import importlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient
from uvicorn.lifespan.off import LifespanOff

from dabench.cli.main import main
from dabench.cli.parser import build_parsers
from dabench.config.spec import resolve
from dabench.contract.cost import Cost
from dabench.contract.types import Task
from dabench.errors import ConfigError, OracleError
from dabench.oracle.answer_forms import AnswerForm, OracleInfo, Unreachable
from dabench.oracle.client import OracleClient
from dabench.oracle.connections import Connection, Server
from dabench.oracle.http import Http
from dabench.oracle.in_process import InProcess
from dabench.oracle.server import create_app, serve
from dabench.source_models.loading import SourceModel

TOKEN = "secret-token"
INFO = OracleInfo("model1", ("a", "b"), 8, "soft", True, 0.9, 1.0)
SIZE = 8 * 8 * 3


class Fake:
    """Answers by the first byte of a picture."""

    info = INFO

    def __init__(self) -> None:
        self.chunks: list[int] = []

    def answer(self, images: np.ndarray) -> np.ndarray:
        self.chunks.append(len(images))
        share = images[:, 0, 0, 0].astype(np.float32) / 255
        return np.stack([share, 1 - share], axis=1)

    def restart(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture
def web(fake: Fake) -> TestClient:
    return TestClient(create_app(fake, TOKEN, max_batch=200, max_bytes=150 * SIZE))


def headers(shape: str | None = "1,8,8,3", **more: str) -> dict[str, str]:
    usual = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/octet-stream"}
    return usual | ({"X-Shape": shape} if shape is not None else {}) | more


# --- the server


def test_who_it_is(web: TestClient) -> None:
    found = web.get("/v1/source", headers=headers())
    assert found.status_code == 200
    assert found.json() == {
        **{"id": "model1", "classes": ["a", "b"], "image_size": 8, "form": "soft"},
        **{"gives_probabilities": True, "val_accuracy": 0.9, "train_seconds": 1.0},
        "batch_limit": 150,
    }


def test_answers_in_chunks(web: TestClient, fake: Fake) -> None:
    images = np.arange(150, dtype=np.uint8).repeat(SIZE)
    found = web.post("/v1/answers", content=images.tobytes(), headers=headers("150,8,8,3"))
    assert found.status_code == 200
    assert found.headers["x-shape"] == "150,2"
    rows = np.frombuffer(found.content, dtype="<f4").reshape(150, 2)
    np.testing.assert_array_equal(rows[:, 0], np.arange(150, dtype=np.float32) / 255)
    assert fake.chunks == [64, 64, 22]


@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer wrong", TOKEN, "Bearer tök"])
def test_no_token_no_answer(web: TestClient, fake: Fake, given: str | None) -> None:
    sent: dict[str, Any] = headers()
    del sent["Authorization"]
    if given is not None:
        sent["Authorization"] = given.encode("latin-1")
    assert web.get("/v1/source", headers=sent).status_code == 401
    assert web.post("/v1/answers", content=b"\0" * SIZE, headers=sent).status_code == 401
    assert fake.chunks == []


@pytest.mark.parametrize(
    ("sent", "body", "status"),
    [
        (headers(None), SIZE, 400),
        (headers("one"), SIZE, 400),
        (headers("1,8,8"), SIZE, 400),
        (headers("-1,8,8,3"), SIZE, 400),
        (headers("1,8,8,3,1"), SIZE, 400),
        (headers("9999999999,8,8,3"), SIZE, 400),
        (headers("1,9,9,3"), SIZE, 422),
        (headers("1,8,8,1"), SIZE, 422),
        (headers("0,8,8,3"), 0, 422),
        (headers("151,8,8,3"), 150 * SIZE, 422),
        (headers("1,8,8,3"), SIZE - 1, 422),
        (headers("1,8,8,3"), SIZE + 1, 422),
        (headers("1,8,8,3"), 150 * SIZE + 1, 413),
        (headers(**{"Content-Type": "application/json"}), SIZE, 415),
        (headers(**{"Content-Type": ""}), SIZE, 415),
    ],
)
def test_what_is_refused(
    web: TestClient, fake: Fake, sent: dict[str, str], body: int, status: int
) -> None:
    found = web.post("/v1/answers", content=b"\0" * body, headers=sent)
    assert found.status_code == status, found.text
    assert found.json()["detail"]
    assert fake.chunks == []


def test_a_stream_that_never_says_its_length(web: TestClient) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += SIZE
            yield b"\0" * SIZE

    found = web.post("/v1/answers", content=endless(), headers=headers())
    assert found.status_code == 413


def test_no_other_doors(web: TestClient) -> None:
    for path in ("/", "/docs", "/redoc", "/openapi.json"):
        assert web.get(path).status_code == 404
    assert web.get("/v1/answers", headers=headers()).status_code == 405


def test_an_empty_token_is_none(fake: Fake) -> None:
    with pytest.raises(ConfigError, match="empty token"):
        create_app(fake, "")


def test_an_answerer_that_fails(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    def dead(images: np.ndarray) -> np.ndarray:
        raise Unreachable("its process ended")

    monkeypatch.setattr(fake, "answer", dead)
    found = TestClient(create_app(fake, TOKEN)).post(
        "/v1/answers", content=b"\0" * SIZE, headers=headers()
    )
    assert (found.status_code, found.json()["detail"]) == (503, "its process ended")


def test_a_port_in_use(fake: Fake) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as other:
        port = other.server_address[1]
        with pytest.raises(ConfigError, match=f"port {port}.*--port"):
            serve(fake, port=port, token=TOKEN)


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.delitem(sys.modules, "dabench.oracle.server")
    with pytest.raises(ConfigError, match=r"fastapi; pip install 'dabench\[serve\]'"):
        importlib.import_module("dabench.oracle.server")


# --- both, over a real port


@pytest.fixture
def served() -> Iterator[Callable[[Any], str]]:
    """Serve answerers from threads; stop them after the test."""
    running: list[tuple[Server, threading.Thread]] = []

    def start(answerer: Any, **limits: int) -> str:
        server = Server(create_app(answerer, TOKEN, **limits))
        listener = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        running.append((server, thread))
        return url

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(10)


def test_same_bits_over_http(served: Callable[[Any], str], bench: Callable[[str], Any]) -> None:
    made = bench("sf-uda")
    task, part = made.plan.task, made.plan.parts["adapt"]
    model = SourceModel(made.network, "digits", 0.9, 1.0)
    here = InProcess(model, task.classes, 32, AnswerForm("rounded", decimals=3), "cpu")
    there = Http(served(here) + "/", TOKEN)
    assert there.info == here.info
    local, remote = Cost(), Cost()
    answers = OracleClient(here, task, local, None, None).ask_all(part)
    assert torch.equal(OracleClient(there, task, remote, None, None).ask_all(part), answers)
    assert local.queries == remote.queries > 64
    assert len(answers) == len(part)


def test_the_client_keeps_to_the_batch_limit(
    served: Callable[..., str], fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Http(served(fake, max_batch=3), TOKEN)
    images = np.arange(7, dtype=np.uint8).repeat(SIZE).reshape(7, 8, 8, 3)
    np.testing.assert_array_equal(there.answer(images), fake.answer(images))
    assert fake.chunks == [3, 3, 1, 7]


def test_a_wrong_token(served: Callable[[Any], str], fake: Fake) -> None:
    url = served(fake)
    with pytest.raises(OracleError, match=r"refuses the token \(401\); set DABENCH_ORACLE_TOKEN"):
        Http(url, "other")
    there = Http(url, TOKEN)
    there._headers = {"Authorization": "Bearer other"}
    # refused before the body is read: a connection that closes so may lose the reason
    with pytest.raises(OracleError, match=r"DABENCH_ORACLE_TOKEN|does not answer"):
        there.answer(np.zeros((64, 8, 8, 3), dtype=np.uint8))


# --- clients that hold a connection open


HEAD = (
    f"POST /v1/answers HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    f"Content-Type: application/octet-stream\r\nX-Shape: 1,8,8,3\r\nContent-Length: {SIZE}\r\n\r\n"
).encode()
REFUSED = HEAD.replace(TOKEN.encode(), b"wrong")


def connected(url: str, begin: bytes) -> socket.socket:
    """Send the beginning of a question."""
    client = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=20)
    client.sendall(begin)
    return client


def seconds_until_closed(client: socket.socket, drip: bytes = b"") -> float:
    """Wait until the server closes, sending a little now and then."""
    start = time.monotonic()
    client.settimeout(0.05)
    with client:
        while time.monotonic() < start + 20:
            try:
                if not client.recv(1000):
                    break
                continue
            except TimeoutError:
                pass
            except OSError:
                break
            try:
                client.sendall(drip)
            except OSError:
                break
    return time.monotonic() - start


@pytest.mark.parametrize(
    ("begin", "drip", "least"),
    [
        (b"", b"", 0.3),
        (b"GET /v1/source HTTP/1.1\r\nX-", b"", 0.3),
        (b"GET /v1/source HTTP/1.1\r\nX-", b"a", 0.3),
        (HEAD, b"", 0.8),
        (HEAD, b"\0", 0.8),
        (REFUSED, b"\0", 0.3),
        (HEAD + b"\0" * SIZE, b"", 0.3),
        (HEAD + b"\0" * SIZE + HEAD, b"\0", 0.8),
    ],
)
def test_who_does_not_end_his_question_is_cut_off(
    served: Callable[[Any], str],
    fake: Fake,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    begin: bytes,
    drip: bytes,
    least: float,
) -> None:
    monkeypatch.setattr(Connection, "seconds", {"head": 0.3, "body": 0.8})
    assert least - 0.05 <= seconds_until_closed(connected(served(fake), begin), drip) < least + 1.5
    assert capfd.readouterr().err == ""


def test_who_waits_for_an_answer_is_not_cut_off(
    served: Callable[[Any], str], fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "seconds", {"head": 0.1, "body": 0.1})
    answer = fake.answer
    monkeypatch.setattr(fake, "answer", lambda images: (time.sleep(0.5), answer(images))[1])
    there = Http(served(fake), TOKEN)
    assert there.answer(np.full((1, 8, 8, 3), 255, dtype=np.uint8)).tolist() == [[1, 0]]


def test_who_it_is_is_said_while_others_wait(served: Callable[[Any], str], fake: Fake) -> None:
    free = threading.Event()
    fake.answer = lambda images: (free.wait(20), np.ones((1, 2)) / 2)[1]  # type: ignore[method-assign,func-returns-value]
    url = served(fake)
    waiting = [connected(url, HEAD + b"\0" * SIZE) for _ in range(45)]  # more than worker threads
    try:
        assert Http(url, TOKEN, timeout=5).info == INFO
    finally:
        free.set()
        for client in waiting:
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
            client.close()


def test_a_body_that_breaks_off_is_no_bug(
    served: Callable[[Any], str], fake: Fake, capfd: pytest.CaptureFixture[str]
) -> None:
    url = served(fake)
    for _ in range(5):
        connected(url, HEAD + b"\0").close()
    assert Http(url, TOKEN).answer(np.zeros((1, 8, 8, 3), dtype=np.uint8)).shape == (1, 2)
    assert capfd.readouterr().err == ""


CROWDED = """
import resource, sys
import numpy as np
from dabench.contract.signals import end_of, terminable
from dabench.oracle.answer_forms import OracleInfo
from dabench.oracle.server import serve

class Fake:
    info = OracleInfo("model1", ("a", "b"), 8, "soft", True)
    def answer(self, images):
        return np.full((len(images), 2), 0.5, dtype=np.float32)

resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
try:
    with terminable():
        serve(Fake(), port=0, token=sys.argv[1], ready=lambda url: print(url, flush=True))
except KeyboardInterrupt as stop:
    sys.exit(end_of(stop)[1])
"""


def test_more_clients_than_file_descriptors() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CROWDED, TOKEN],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        clients = []
        try:
            url = server.stdout.readline().strip()
            asked = connected(url, HEAD)  # let in: nobody takes its place
            clients.append(asked)
            clients += [connected(url, b"GET / HTTP/1.1\r\nX-") for _ in range(260)]
            there = Http(url, TOKEN, timeout=5)
            assert there.answer(np.zeros((3, 8, 8, 3), dtype=np.uint8)).tolist() == [[0.5, 0.5]] * 3
            asked.sendall(b"\0" * SIZE)
            assert asked.recv(1000).startswith(b"HTTP/1.1 200")
            clients.append(connected(url, HEAD))  # held open
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 143
        for client in clients:
            client.close()
        assert server.stderr.read() == ""


def test_who_comes_in_while_the_server_ends_is_closed() -> None:
    async def closed() -> list[bool]:
        server, transport = Server(FastAPI()), mock.Mock(spec=asyncio.Transport)
        server.config.load()
        server.lifespan, server.servers = LifespanOff(server.config), []
        found = []
        for _ in range(2):
            server.kind(server.config, server.server_state, {}).connection_made(transport)
            found.append(transport.abort.called)
            server.server_state.connections.clear()
            await server.shutdown([])
        return found

    with ThreadPoolExecutor(1) as pool:  # a test in a browser leaves a running loop in this thread
        assert pool.submit(asyncio.run, closed()).result() == [False, True]


# --- the client and servers that are none


class Liar(http.server.BaseHTTPRequestHandler):
    """Answers what ``reply`` says: (status, headers, body)."""

    reply: Callable[[str], tuple[int, dict[str, str], bytes]]

    def do_GET(self) -> None:
        status, sent, body = type(self).reply(self.path)
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | sent).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def liar() -> Iterator[Callable[[Any, Any], str]]:
    servers: list[http.server.HTTPServer] = []

    def start(about: Any, answer: Any = None) -> str:
        def reply(path: str) -> tuple[int, dict[str, str], bytes]:
            found = about if path == "/v1/source" else answer
            return (200, {}, json.dumps(found).encode()) if isinstance(found, dict) else found

        handler = type("Handler", (Liar,), {"reply": staticmethod(reply)})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


ABOUT = INFO.to_dict() | {"batch_limit": 64}


@pytest.mark.parametrize(
    ("about", "kind", "words"),
    [
        ((200, {}, b"<html>"), OracleError, "no JSON"),
        ((200, {}, b"[1]"), OracleError, "no JSON object"),
        ({k: v for k, v in ABOUT.items() if k != "classes"}, OracleError, "classes = None"),
        (ABOUT | {"classes": ["a", "a"]}, OracleError, r"classes = \['a', 'a'\]"),
        (ABOUT | {"classes": ["a", ""]}, OracleError, "classes = "),
        (ABOUT | {"classes": []}, OracleError, "classes = "),
        (ABOUT | {"image_size": 0}, OracleError, "image_size = 0"),
        (ABOUT | {"image_size": 2**20}, OracleError, "image_size = 1048576"),
        (ABOUT | {"val_accuracy": 7}, OracleError, "val_accuracy = 7"),
        (ABOUT | {"val_accuracy": -0.1}, OracleError, "val_accuracy = -0.1"),
        (ABOUT | {"val_accuracy": float("nan")}, OracleError, "val_accuracy = nan"),
        (ABOUT | {"train_seconds": -1}, OracleError, "train_seconds = -1"),
        (ABOUT | {"train_seconds": 10**400}, OracleError, "train_seconds = 1000"),
        (ABOUT | {"id": [[[[[[[[[[1]]]]]]]]]]}, OracleError, r"id = \[{7}\.\.\.\]"),
        (ABOUT | {"batch_limit": [1] * 999}, OracleError, r"batch_limit is \[1, 1, .*\.\.\."),
        ((200, {}, b"[" * 10**6), OracleError, "no JSON"),
        ((200, {}, b'{"id":' * 10**5), OracleError, "no JSON"),
        ((200, {}, b'{"batch_limit": ' + b"9" * 10**5 + b"}"), OracleError, "no JSON"),
        ((200, {"Content-Encoding": "gzip"}, gzip.compress(b" " * 10**7)), OracleError, "no JSON"),
        ((404, {}, b'{"detail": ' + b"[" * 10**5), OracleError, "404"),
        ((404, {}, b'{"detail": [{"msg": "x"}]}'), OracleError, '404: {"detail"'),
        ((200, {f"X-{i}": "a" for i in range(200)}, b"{}"), OracleError, "speak HTTP"),
        ((200, {"X-Long": "a" * 70_000}, b"{}"), OracleError, "does not speak HTTP .LineTooLong"),
        (ABOUT | {"id": "../x"}, OracleError, "id = '../x'"),
        (ABOUT | {"batch_limit": 0}, OracleError, "batch_limit is 0"),
        ((403, {}, b""), OracleError, "refuses the token"),
        (
            (404, {}, b'{"detail": "no such\\n\\u001b[31m page"}'),
            OracleError,
            r"404: no such \\x1b\[31m",
        ),
        ((302, {"Location": "http://127.0.0.1:1/"}, b""), OracleError, "302: no reason given"),
        ((500, {}, b"oops"), Unreachable, "500: oops"),
        ((200, {"Content-Length": "9999"}, b"{"), Unreachable, "IncompleteRead"),
        ((200, {}, b" " * (2**24 + 1)), OracleError, "longer than"),
    ],
)
def test_who_is_no_oracle(
    liar: Callable[[Any], str], about: Any, kind: type[Exception], words: str
) -> None:
    with pytest.raises(OracleError, match=words) as caught:
        Http(liar(about), TOKEN, timeout=5)
    assert type(caught.value) is kind
    assert TOKEN not in str(caught.value)
    assert "\n" not in str(caught.value)


ROW = np.array([0.5, 0.5], dtype="<f4").tobytes()


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        ((200, {"X-Shape": "1,2"}, ROW[:-1]), OracleError, "with 7 bytes of shape '1,2'"),
        ((200, {"X-Shape": "1,2"}, ROW + b"x"), OracleError, "longer than 8 bytes"),
        ((200, {"X-Shape": "2,1"}, ROW), OracleError, "'2,1'; expected float32 of shape '1,2'"),
        ((200, {}, ROW), OracleError, "of shape ''"),
        ((200, {"Transfer-Encoding": "chunked"}, b"zz\r\n"), Unreachable, "IncompleteRead"),
        (
            (200, {"Transfer-Encoding": "chunked"}, b"-5\r\n" + b"x" * 10**6),
            OracleError,
            "longer than 8 bytes",
        ),
        ((422, {}, b'{"detail": "pictures are 8"}'), OracleError, "422: pictures are 8"),
        ((503, {}, b'{"detail": "busy"}'), Unreachable, "503: busy"),
    ],
)
def test_useless_answers(
    liar: Callable[[Any, Any], str], answer: Any, kind: type[Exception], words: str
) -> None:
    there = Http(liar(ABOUT, answer), TOKEN, timeout=5)
    with pytest.raises(OracleError, match=words) as caught:
        there.answer(np.zeros((1, 8, 8, 3), dtype=np.uint8))
    assert type(caught.value) is kind


def test_nobody_there(liar: Callable[[Any], str], served: Callable[[Any], str]) -> None:
    with pytest.raises(Unreachable, match=r"ConnectionRefusedError.*serve-source"):
        Http("http://127.0.0.1:1", TOKEN)
    url = liar(ABOUT)
    there = Http(url, TOKEN, timeout=5)
    there._port = 1
    task = Task("classification", ("a", "b"), 8)
    oracle = OracleClient(there, task, Cost(), None, None, attempts=2, pause=0)
    with pytest.raises(OracleError, match=r"did not answer after 2 tries \(http://127"):
        oracle.ask(torch.zeros(1, 3, 8, 8))


def test_a_silent_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(Unreachable, match=r"timed out|Timeout"):
            Http(url, TOKEN, timeout=0.1)


@pytest.mark.parametrize(
    ("begin", "drip"),
    [
        (b"HTTP/1.1 200 OK\r\nX-A: ", b"a"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
)
def test_a_server_that_takes_its_time(begin: bytes, drip: bytes) -> None:
    def serve_slowly() -> None:
        client, _ = listener.accept()
        with client, contextlib.suppress(OSError):
            client.sendall(begin)
            while time.monotonic() < start + 20:
                client.sendall(drip)
                time.sleep(0.02)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        start = time.monotonic()
        threading.Thread(target=serve_slowly, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(Unreachable, match=r"no whole answer in 0\.4 s, timed out"):
            Http(url, TOKEN, timeout=0.4)
        assert time.monotonic() - start < 10


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/ä b", "http://a..b:1"])
def test_an_address_that_cannot_be_sent(url: str) -> None:
    with pytest.raises(OracleError, match="check the address"):
        Http(url, TOKEN, timeout=1)


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8765", "ftp://x", "http://", "http://h:port", "http://u:p@h", "http://h?q"],
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ConfigError, match="expected http://HOST:PORT"):
        Http(url, TOKEN)


@pytest.mark.parametrize("token", ["", "a b", "a\r\nX-Evil: 1", "tök"])
def test_what_is_no_token(token: str) -> None:
    with pytest.raises(ConfigError, match="DABENCH_ORACLE_TOKEN"):
        Http("http://127.0.0.1:1", token)


# --- the command


@pytest.mark.slow
def test_serve_source(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "dabench", "serve-source", "--port", "0", "--source-epochs", "1"]
    words += ["--threads", "1", "--device", "cpu", "--no-progress", "--cache-dir", str(tmp_path)]
    words += ["--protocol.answers", "top-k", "--protocol.top_k", "4"]
    environment = {k: v for k, v in os.environ.items() if k != "DABENCH_ORACLE_TOKEN"}
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        try:
            line = server.stdout.readline()
            url = line.partition(" at ")[2].partition(";")[0]
            token = server.stderr.readline().split()[-1]
            there = Http(url, token)
            assert there.info.form == "top-4"
            assert line.startswith(f"source model {there.info.id[:8]} (top-4 answers, 10 classes")
            found = there.answer(np.zeros((2, 32, 32, 3), dtype=np.uint8))
            assert found.shape == (2, 10)
            assert (found[0] == found[1]).all()
            held = connected(url, HEAD.replace(TOKEN.encode(), token.encode()))
        finally:
            server.send_signal(signal.SIGINT)
        assert server.wait(10) == 130
        held.close()
        assert server.stderr.read() == "interrupted; the source model is served no longer\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "x"], "--port x: expected 0 to 65535"),
        (["--epochs", "3"], "unknown argument '--epochs'"),
        (["--seeds", "0-3"], "unknown argument '--seeds'"),
        (["--method.lr", "3"], "--method.lr: serve-source serves"),
        (["--protocol.answers", "loud"], "--protocol.answers"),
        (["--protocol", "nonsense"], "unknown protocol 'nonsense'"),
    ],
)
def test_wrong_words(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve-source", *words]) == 2
    found = capsys.readouterr().err
    assert said in found
    assert found.count("\n") == 1


def test_a_file_of_a_run_will_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dabench.cli import serve as cli_serve

    path = tmp_path / "run.yaml"
    path.write_text("method: shot\nmethod.lr: 0.1\nprotocol: sf-uda\nepochs: 3\nsource-epochs: 7\n")
    spec = cli_serve._spec({"config": str(path), "seed": "2"})
    found = dataclasses.asdict(spec)
    kept = {name: found[name] for name in ("method", "protocol", "source_epochs", "seed")}
    assert kept == {"method": "source", "protocol": "sf-uda", "source_epochs": 7, "seed": 2}
    path.write_text("seeds: 0-3\n")
    with pytest.raises(ConfigError, match="--seeds: one source model"):
        cli_serve._spec({"config": str(path)})


def test_the_command_for_clients_is_one_that_resolves() -> None:
    from dabench.cli import serve as cli_serve

    words = ["protocol", "bb-osda", "protocol.answers", "top-k", "protocol.split", "r2"]
    words += ["target", "handwritten"]
    spec = cli_serve._spec(dict(zip(words[::2], words[1::2], strict=True)))
    command = shlex.split(cli_serve._client_command(spec, "http://127.0.0.1:8765"))
    assert command[:2] == ["dabench", "run"]
    given = dict(zip(command[2::2], command[3::2], strict=True))
    assert given.pop("--oracle-url") == "http://127.0.0.1:8765"
    (client,) = resolve({name[2:]: value for name, value in given.items()})
    assert client.protocol_options["answers"] == "top-k"
    assert client.protocol_options["split"] == "r2"
    assert client.protocol_options["oracle"] == "http"
    assert (client.image_size, client.target) == (spec.image_size, spec.target)
    elsewhere = cli_serve._client_command(cli_serve._spec({"protocol": "sf-uda"}), "http://a")
    assert "--protocol bb-uda" in elsewhere
    assert "None" not in elsewhere
    own = shlex.split(cli_serve._images_command(spec, "http://a"))
    args, rest = build_parsers()[0].parse_known_args(own[1:])
    assert (args.out, vars(args)["backbone"], rest) == ("adapted", spec.backbone, [])
