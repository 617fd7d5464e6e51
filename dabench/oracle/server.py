"""A source model as a web service: ``dabench serve-source``.

Two routes, both behind a token: who the model is, and its answers to raw pictures. Bodies are
bounded before they are read, nothing is unpickled, and no client can keep others out or the server
from ending.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import socket
from collections.abc import Callable
from typing import Any

import numpy as np

from dabench.errors import ConfigError, OracleError
from dabench.oracle.answer_forms import BATCH_SIZE, Answerer, Float32, Pictures

try:
    from fastapi import Depends, FastAPI, HTTPException, Request, Response
    from fastapi.concurrency import run_in_threadpool
    from starlette.requests import ClientDisconnect

    from dabench.oracle.connections import Server
except ImportError as _missing:
    raise ConfigError(
        f"serving a source model needs {_missing.name}; pip install 'dabench[serve]'"
    ) from _missing

MIB = 2**20


def create_app(
    answerer: Answerer, token: str, *, max_batch: int = 256, max_bytes: int = 64 * MIB
) -> FastAPI:
    """Return the web application.

    Args:
        answerer: who evaluates the source model; one question at a time.
        token: what clients send as ``Authorization: Bearer TOKEN``.
        max_batch: most pictures a request.
        max_bytes: most bytes a request's body.

    Raises:
        ConfigError: an empty token.
    """
    if not token:
        raise ConfigError("an empty token would let everybody in; set DABENCH_ORACLE_TOKEN")
    size = answerer.info.image_size
    limit = max(1, min(max_batch, max_bytes // (3 * size * size)))
    turn = asyncio.Lock()

    async def authorised(request: Request) -> None:
        given = request.headers.get("authorization", "")
        # as bytes: compare_digest refuses other than ASCII text
        if not secrets.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise HTTPException(
                401, "a valid bearer token is needed", headers={"WWW-Authenticate": "Bearer"}
            )

    async def evaluate(images: Pictures) -> Float32:
        parts = [images[i : i + BATCH_SIZE] for i in range(0, len(images), BATCH_SIZE)]
        async with turn:
            return np.concatenate([await run_in_threadpool(answerer.answer, p) for p in parts])

    # no pages of documentation: they would be open to everybody
    app = FastAPI(
        title="dabench source model",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(authorised)],
    )

    @app.get("/v1/source")
    async def source() -> dict[str, Any]:
        return answerer.info.to_dict() | {"batch_limit": limit}

    @app.post("/v1/answers")
    async def answers(request: Request) -> Response:
        _check_headers(request, max_bytes)
        shape = _shape(request.headers.get("x-shape", ""), size, limit)
        body = await _body(request, max_bytes)
        if len(body) != np.prod(shape):
            raise HTTPException(422, f"{len(body)} bytes do not fill the shape {shape}")
        images = np.frombuffer(body, dtype=np.uint8).reshape(shape)
        try:
            found = await evaluate(images)
        except OracleError as error:
            raise HTTPException(503, str(error)) from error
        except asyncio.CancelledError as error:
            raise HTTPException(503, "the server ends") from error
        return Response(
            found.astype("<f4").tobytes(),
            media_type="application/octet-stream",
            headers={"X-Shape": ",".join(str(n) for n in found.shape)},
        )

    return app


def _check_headers(request: Request, max_bytes: int) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/octet-stream":
        raise HTTPException(415, "expected Content-Type: application/octet-stream")
    length = request.headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit():
        raise HTTPException(400, "Content-Length is no number")
    if int(length) > max_bytes:
        raise HTTPException(413, f"the body may have {max_bytes} bytes at most")


def _shape(text: str, size: int, limit: int) -> tuple[int, int, int, int]:
    """Read ``n,S,S,3`` and compare it with what the model takes."""
    match = re.fullmatch(r"(\d{1,9}),(\d{1,9}),(\d{1,9}),(\d{1,9})", text, re.ASCII)
    if not match:
        raise HTTPException(400, f"expected X-Shape: n,{size},{size},3")
    count, height, width, channels = (int(number) for number in match.groups())
    if (height, width, channels) != (size, size, 3):
        raise HTTPException(422, f"pictures are {size} x {size} x 3 here, not {text}")
    if not 1 <= count <= limit:
        raise HTTPException(422, f"{count} pictures; 1 to {limit} may be asked at once")
    return count, height, width, channels


async def _body(request: Request, max_bytes: int) -> bytes:
    """Read the body, giving up as soon as it is too long, whatever its header promised."""
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > max_bytes:
                raise HTTPException(413, f"the body may have {max_bytes} bytes at most")
    except ClientDisconnect as error:
        raise HTTPException(400, "the body ends too early") from error
    return bytes(body)


def serve(
    answerer: Answerer,
    host: str = "127.0.0.1",
    port: int = 8765,
    token: str = "",
    *,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until Ctrl-C or SIGTERM; then end within seconds, whatever clients do.

    Args:
        answerer: who evaluates the source model.
        host: address to listen at; the default lets only this machine in.
        port: 0 = one that is free.
        token: see :func:`create_app`.
        ready: called with the URL once the port is ours.

    Raises:
        ConfigError: the address cannot be used, or the token is empty.
    """
    app = create_app(answerer, token)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # bound here, because uvicorn would end the whole program where it cannot
        listener = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"cannot listen at {host}, port {port} ({error}); choose others with --host and --port"
        ) from error
    with listener:
        shown = f"[{host}]" if family == socket.AF_INET6 else host
        if ready is not None:
            ready(f"http://{shown}:{listener.getsockname()[1]}")
        Server(app).run(sockets=[listener])
