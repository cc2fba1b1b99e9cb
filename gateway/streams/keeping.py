"""All kept streams of one process: found by their id, bounded together, forgotten when their time is over.

With Redis, each is shared with the other processes (`gateway.streams.mirror`), which then can be asked for it as well.
"""

import asyncio
from typing import TYPE_CHECKING

from gateway.control import CallControl
from gateway.streams.buffer import EventSource, Form, KeptStream, StreamBounds, StreamLabel
from gateway.streams.errors import StreamNotFound, StreamOfOtherForm
from keys.principals import Principal

if TYPE_CHECKING:
    # With it comes the client of Redis, which a server without Redis does not load.
    from gateway.streams.mirror import StreamMirror


class KeptStreams:
    """Belongs to one event loop; `mirror` is None where there is no other process to share with."""

    def __init__(self, bounds: StreamBounds, mirror: "StreamMirror | None" = None) -> None:
        self._bounds = bounds
        self._mirror = mirror
        self._streams: dict[str, KeptStream] = {}
        self._total_bytes = 0
        if mirror is not None:
            mirror.owner = self

    @property
    def is_on(self) -> bool:
        """Return whether streams are kept at all."""
        return self._bounds.keep_seconds > 0

    @property
    def is_full(self) -> bool:
        """Return whether all streams together hold more than they may."""
        return self._total_bytes > self._bounds.total_bytes

    @property
    def total_bytes(self) -> int:
        return self._total_bytes

    @property
    def process(self) -> str:
        """Return the name that other processes know this one by."""
        return self._mirror.process if self._mirror is not None else ""

    def open(self, label: StreamLabel, control: CallControl) -> KeptStream:
        """Begin to keep a stream; its call no longer ends with its client's connection."""
        stream = KeptStream(label, control, self._bounds, self)
        self._streams[label.request_id] = stream
        control.outlives_client = True
        return stream

    def note_growth(self, stream: KeptStream, size: int) -> None:
        """Take in that a stream has grown, shrunk or ended; forget ended ones, oldest first, when all are too large."""
        self._total_bytes += size
        if stream.has_ended and size <= 0:
            loop = asyncio.get_running_loop()
            loop.call_later(self._bounds.keep_seconds, self._forget_if, stream)
        if self._mirror is not None:
            self._mirror.note(stream)
        if self.is_full and size > 0:
            self._evict(but=stream)

    async def find(self, request_id: str, principal: Principal, form: Form, *, after: int) -> EventSource:
        """Return what follows event `after` of a stream that this key may read.

        Raises StreamNotFound (also for another customer's stream), StreamOfOtherForm, StreamEventsGone, or
        StreamsUnavailable where Redis does not answer.
        """
        stream = self._streams.get(request_id)
        if stream is not None:
            _check(stream.label, principal, form)
            return stream.attach(after)
        if self._mirror is None:
            raise StreamNotFound
        found = await self._mirror.find(request_id)
        if found is None:
            raise StreamNotFound
        _check(found.label, principal, form)
        return await self._mirror.attach(found, after)

    def find_own(self, request_id: str) -> KeptStream | None:
        """Return a stream of this process."""
        return self._streams.get(request_id)

    async def end(self, request_id: str, principal: Principal) -> bool:
        """End a stream that runs, or forget one that has ended; return whether it was running.

        Raises StreamNotFound or StreamsUnavailable.
        """
        stream = self._streams.get(request_id)
        if stream is None:
            return await self._end_elsewhere(request_id, principal)
        _check(stream.label, principal, stream.label.form)
        if not stream.has_ended:
            stream.cancel()
            return True
        self._forget(stream)
        if self._mirror is not None:
            await self._mirror.forget(request_id)
        return False

    def drain(self) -> None:
        """Send whoever reads other processes' streams here to another process."""
        if self._mirror is not None:
            self._mirror.is_draining = True

    async def close(self) -> None:
        """Stop sharing; the process ends."""
        if self._mirror is not None:
            await self._mirror.close()

    async def _end_elsewhere(self, request_id: str, principal: Principal) -> bool:
        found = None if self._mirror is None else await self._mirror.find(request_id)
        if self._mirror is None or found is None:
            raise StreamNotFound
        _check(found.label, principal, found.label.form)
        if not found.has_ended and await self._mirror.is_alive(found.label.process):
            await self._mirror.order_cancel(found.label)
            return True
        await self._mirror.forget(request_id)
        return False

    def _evict(self, *, but: KeptStream) -> None:
        for stream in list(self._streams.values()):
            if not self.is_full:
                return
            if stream.has_ended and stream is not but:
                self._forget(stream)

    def _forget_if(self, stream: KeptStream) -> None:
        if self._streams.get(stream.label.request_id) is stream:
            self._forget(stream)

    def _forget(self, stream: KeptStream) -> None:
        del self._streams[stream.label.request_id]
        self._total_bytes -= stream.size_bytes


def _check(label: StreamLabel, principal: Principal, form: Form) -> None:
    """Raise StreamNotFound for a key that could not have made the call itself."""
    is_own = label.customer_id == principal.customer_id and label.environment == principal.environment
    may_read = is_own and label.scope in principal.scopes and principal.may_use_model(label.model)
    if not may_read or (label.prompt and not principal.may_run_prompt(label.prompt)):
        raise StreamNotFound
    if label.form is not form:
        raise StreamOfOtherForm(form=label.form)
