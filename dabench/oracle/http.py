"""The source model on another machine: what ``dabench serve-source`` serves, asked over HTTP.

Pictures and answers travel as raw bytes (uint8, little-endian float32); nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from dabench.errors import ConfigError, OracleError
from dabench.oracle.answer_forms import Float32, OracleInfo, Pictures, Unreachable

#: the most that an oracle may say of itself, or of an error
_MAX_TEXT_BYTES = 16 * 2**20


class Http:
    """An answerer behind a URL.

    Redirects are not followed and proxies of the environment not used: the token goes to this
    address and nowhere else.

    Args:
        url: ``http://HOST:PORT`` or ``https://...``, with a path before ``/v1`` if there is one.
        token: of the server.
        timeout: seconds that the server may be silent.

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
        except ValueError as error:
            raise OracleError(
                f"{self._url}/v1/source answered with no JSON; is this a 'dabench serve-source'?"
            ) from error
        self.info = OracleInfo.from_dict(fields)
        limit = fields.get("batch_limit")
        if type(limit) is not int or limit < 1:
            raise OracleError(
                f"{self._url}/v1/source: batch_limit is {limit!r}; expected 1 or more"
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
        try:
            connection.connect()
            # refused before the body was read: the reason may be waiting
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(verb, self._path + path, body or None, self._headers | headers)
            response = connection.getresponse()
            most = most if response.status == 200 else _MAX_TEXT_BYTES
            said = response.read(most + 1)
            if len(said) > most:
                raise OracleError(f"{self._url}: an answer longer than {most} bytes; check the URL")
            if response.length:  # promised, but it did not come
                raise http.client.IncompleteRead(said, response.length)
        except (OSError, http.client.IncompleteRead) as error:
            raise Unreachable(
                f"{self._url} does not answer ({type(error).__name__}: {_line(str(error))}); check "
                "the address and that 'dabench serve-source' runs there"
            ) from error
        except http.client.HTTPException as error:
            raise OracleError(
                f"{self._url} does not speak HTTP ({type(error).__name__}); check the address"
            ) from error
        finally:
            connection.close()
        self._check(response.status, said)
        return said, response.getheader("X-Shape", "")

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
    try:
        fields: Any = json.loads(said)
        text = str(fields["detail"])
    except (ValueError, TypeError, LookupError):
        text = said[:200].decode("utf-8", "replace")
    return _line(text) or "no reason given"


def _line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]
