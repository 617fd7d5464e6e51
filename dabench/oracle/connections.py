"""A web server whose connections nobody can hold open for nothing; uvicorn has no such limits."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import ClassVar, Literal

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

#: file descriptors that are kept for everything else, and for clients that come all at once
_RESERVED = 128
_MOST = 1000
#: clients that are let in at a time, before room is made for them, and that may wait for that
_AT_A_TIME, _WAITING = 32, 1024
#: seconds that a question which is being answered may take when the server is to end
_GRACE = 3

Phase = Literal["head", "body", "answer"]


class Connection(H11Protocol):
    """A connection with a time-out, one of a bounded number.

    Whoever has no question under way (no head so far, or an answer that it has not fetched) is
    closed after ``seconds["head"]``, and before that where another client needs its place: the
    oldest first. A head that is let in leaves ``seconds["body"]`` for the rest of the question.
    """

    seconds: ClassVar[dict[Phase, float]] = {"head": 20.0, "body": 120.0}
    #: whether its server has told those that it knew to end
    ending: ClassVar[bool] = False
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock, and make room if there are too many."""
        super().connection_made(transport)
        self._enter("head")
        if self.ending:  # it was on its way in, and nobody will tell it
            transport.abort()
        elif len(self.connections) > _most_connections():
            others = [c for c in self.connections if isinstance(c, Connection)]
            idle = [c for c in others if c._phase == "head" and not c.transport.is_closing()]
            min(idle, key=lambda c: c._since, default=self).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """See how far the question has got."""
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """See whether another question is waiting."""
        super().on_response_complete()
        self._look()

    def shutdown(self) -> None:
        """Drop a question that is not here in full; one that is will be answered."""
        if self._phase == "body":
            self.transport.abort()
        else:
            super().shutdown()

    def _look(self) -> None:
        phase: Phase = "answer"
        if self.cycle is None or self.cycle.response_complete:
            phase = "head"
        elif self.cycle.more_body:
            phase = "body"
        if phase != self._phase:
            self._enter(phase)

    def _enter(self, phase: Phase) -> None:
        self._phase, self._since = phase, self.loop.time()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if phase in self.seconds:
            self._timer = self.loop.call_later(self.seconds[phase], self.transport.abort)


class Server(uvicorn.Server):
    """Serves an application through such connections.

    Args:
        app: the application.
    """

    def __init__(self, app: FastAPI) -> None:
        class Own(Connection):
            """The connections of this server alone."""

        self.kind = Own
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                http=self.kind,
                ws="none",
                backlog=_AT_A_TIME,
                timeout_graceful_shutdown=_GRACE,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and let more clients wait than uvicorn takes in at once."""
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(_WAITING)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let questions that are here in full be answered, and nobody in any more."""
        self.kind.ending = True
        await super().shutdown(sockets)


def _most_connections() -> int:
    """Return how many clients may be connected at once."""
    if sys.platform == "win32":
        return _MOST
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else max(8, min(_MOST, soft - _RESERVED))
