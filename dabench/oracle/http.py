"""The source model on another machine: what ``dabench serve-source`` serves, asked over HTTP.

Pictures and answers travel as raw bytes (uint8, little-endian float32); nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import reprlib
import socket
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from dabench.errors import ConfigError, OracleError, one_line
from dabench.oracle.answer_forms import Float32, OracleInfo, Pictures, Unreachable
from dabench.oracle.deadline import Deadline

#: the most that an oracle may say of itself, or of an error
_MAX_TEXT_BYTES = 2 * 2**20


class Http:
    """An answerer behind a URL.

    Redirects are not followed and proxies of the environment not used: the token goes to this
    address and nowhere else.

    Args:
        url: ``http://HOST:PORT`` or ``https://...``, with a path before ``/v1`` if there is one.
        token: of the server.
        timeout: seconds that connecting may take, and then a question with its whole answer.

    Raises:
        ConfigError: the URL is none, or the token cannot stand in a header.
        Unreachable: nobody answers there.
        OracleError: the token is wrong, or the answer is not that of a source model.
    """

    info: OracleInfo

    def __init__(self, url: str, token: str, timeout: float = 120.0) -> None:
        self._secure, self._host, self._port, self._path = _parts(url)
        self._url = url.rstrip("/")
        if not re.fullmatch(r"[\x21-\x7e]+", token):
            raise ConfigError(
                "the oracle's token is empty or has other than ASCII characters in it; set "
                "DABENCH_ORACLE_TOKEN to what 'dabench serve-source' printed"
            )
        self._headers = {"Authorization": f"Bearer {token}"}
        self._timeout = timeout
        self._limit = 1
        self.restart()

    def answer(self, images: Pictures) -> Float32:
        """Ask the server, in as many requests as its limit makes necessary."""
        parts = range(0, len(images), self._limit)
        return np.concatenate([self._part(images[i : i + self._limit]) for i in parts])

    def restart(self) -> None:
        """Ask the server again who it is."""
        body, _ = self._call("GET", "/v1/source", b"", {}, _MAX_TEXT_BYTES)
        try:
            fields = json.loads(body)
        except (ValueError, RecursionError) as error:  # the second: nested too deeply
            raise OracleError(
                f"{self._url}/v1/source answered with no JSON; is this a 'dabench serve-source'?"
            ) from error
        self.info = OracleInfo.from_dict(fields)
        limit = fields.get("batch_limit")
        if type(limit) is not int or limit < 1:
            raise OracleError(
                f"{self._url}/v1/source: batch_limit is {reprlib.repr(limit)}; expected 1 or more"
            )
        self._limit = limit

    def close(self) -> None:
        """Nothing is held open between questions."""

    def _part(self, images: Pictures) -> Float32:
        count, classes = len(images), len(self.info.classes)
        headers = {
            "Content-Type": "application/octet-stream",
            "X-Shape": ",".join(str(n) for n in images.shape),
        }
        size = 4 * count * classes
        body, shape = self._call("POST", "/v1/answers", images.tobytes(), headers, size)
        if shape.replace(" ", "") != f"{count},{classes}" or len(body) != size:
            raise OracleError(
                f"{self._url} answered {count} pictures with {len(body)} bytes of shape "
                f"'{shape[:40]}'; expected float32 of shape '{count},{classes}'"
            )
        return np.frombuffer(body, dtype="<f4").reshape(count, classes).astype(np.float32)

    def _call(
        self, verb: str, path: str, body: bytes, headers: dict[str, str], most: int
    ) -> tuple[bytes, str]:
        """Return the body of a 200 answer, ``most`` bytes at most, and its X-Shape."""
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=self._timeout)
        # the connection's own time-out is one of every read: a byte now and then would be enough
        timer = Deadline(self._timeout, lambda: _hang_up(line))
        try:
            connection.connect()
            line = connection.sock  # the connection may let go of it before the answer is read
            with timer:
                # refused before the body was read: the reason may be waiting
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    path = self._path + path
                    connection.request(verb, path, body or None, self._headers | headers)
                response = connection.getresponse()
                most = most if response.status == 200 else _MAX_TEXT_BYTES
                said = _read(response, most)
            if timer.passed:  # an end that is none
                raise TimeoutError
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._reason(error, timer.passed) from error
        finally:
            connection.close()
        if len(said) > most:
            raise OracleError(f"{self._url}: an answer longer than {most} bytes; check the URL")
        self._check(response.status, said)
        return said, response.getheader("X-Shape", "")

    def _reason(self, error: Exception, late: bool) -> OracleError:
        """Return what went wrong with a connection."""
        if late or isinstance(error, OSError | http.client.IncompleteRead):
            what = f"no whole answer in {self._timeout:g} s, timed out"
            if not late:
                what = f"{type(error).__name__}: {_line(str(error))}"
            return Unreachable(
                f"{self._url} does not answer ({what}); check the address and that "
                "'dabench serve-source' runs there"
            )
        return OracleError(
            f"{self._url} does not speak HTTP ({type(error).__name__}); check the address"
        )

    def _check(self, status: int, said: bytes) -> None:
        if status == 200:
            return
        detail = _detail(said)
        if status in (401, 403):
            raise OracleError(
                f"{self._url} refuses the token ({status}); set DABENCH_ORACLE_TOKEN to what "
                "'dabench serve-source' printed"
            )
        if status >= 500:
            raise Unreachable(f"{self._url} failed ({status}: {detail}); see the server's output")
        raise OracleError(
            f"{self._url} refuses the question ({status}: {detail}); check the address and that "
            "the server is of this version"
        )


def _hang_up(line: socket.socket) -> None:
    """End what another thread waits for; a TLS socket's own ``shutdown`` is not for two threads."""
    with contextlib.suppress(OSError):  # closed in the meantime
        socket.socket.shutdown(line, socket.SHUT_RDWR)


def _read(response: http.client.HTTPResponse, most: int) -> bytes:
    """Read an answer's body, and little more than ``most`` bytes of a longer one."""
    # read() takes a chunk of negative length for one without an end
    part = response.read1 if response.chunked else response.read
    said = bytearray()
    while len(said) <= most and (found := part(most + 1 - len(said))):
        said += found
    if response.length and len(said) <= most:  # promised, but it did not come
        raise http.client.IncompleteRead(bytes(said), response.length)
    return bytes(said)


def _parts(url: str) -> tuple[bool, str, int | None, str]:
    """Split a URL into (https?, host, port, path before /v1)."""
    try:
        found = urlsplit(url)
        host, port = found.hostname, found.port
    except ValueError:
        host = None
    if not host or found.scheme not in ("http", "https") or found.query or found.username:
        raise ConfigError(f"oracle '{url}': expected http://HOST:PORT or https://HOST")
    return found.scheme == "https", host, port, found.path.rstrip("/")


def _detail(said: bytes) -> str:
    """Return the server's reason in one short line."""
    text: Any
    try:
        text = json.loads(said)["detail"]
    except (ValueError, TypeError, LookupError, RecursionError):
        text = None
    if not isinstance(text, str):
        text = said[:200].decode("utf-8", "replace")
    return _line(text) or "no reason given"


def _line(text: str) -> str:
    return one_line(" ".join(text.split()), 200)
