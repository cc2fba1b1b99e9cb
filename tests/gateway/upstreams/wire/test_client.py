"""The client against a server that sends what the test says, byte by byte where that matters."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from yarl import URL

from gateway.upstreams.wire.client import WireClient
from gateway.upstreams.wire.connection import Answer
from gateway.upstreams.wire.errors import ClosedEarly, ConnectFailed, Cut, Malformed

Serve = Callable[["Peer"], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Peer:
    """The server's side of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def request(self) -> tuple[bytes, bytes]:
        """Return head and body of the next request."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length: "))
        return head, await self._reader.readexactly(int(length.partition(b": ")[2]))

    async def say(self, *parts: bytes) -> None:
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()

    async def wait_closed(self) -> None:
        """Return once the client has hung up."""
        with contextlib.suppress(OSError):
            while await self._reader.read(65_536):
                pass


class Server:
    """Runs `serve` for each connection, and counts them."""

    def __init__(self, serve: Serve, tls: ssl.SSLContext | None = None) -> None:
        self._serve = serve
        self._tls = tls
        self.connections = 0

    async def __aenter__(self) -> "Server":
        self._server = await asyncio.start_server(self._handle, "127.0.0.1", 0, ssl=self._tls)
        port = self._server.sockets[0].getsockname()[1]
        self.url = URL(f"{'https' if self._tls else 'http'}://127.0.0.1:{port}/v1/chat?a=b")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._serve(Peer(reader, writer))
        finally:
            writer.close()


@pytest.fixture
async def client() -> AsyncIterator[WireClient]:
    client = WireClient()
    yield client
    client.close()


async def post(client: WireClient, url: URL, body: bytes = b"{}", **headers: str) -> Answer:
    return await client.post(url, headers, body, connect_seconds=5)


async def read_all(answer: Answer) -> bytes:
    parts = []
    while piece := await answer.read():
        parts.append(piece)
    return b"".join(parts)


def always(*parts: bytes) -> Serve:
    """Answer every request with the same bytes, and hang up when the client does."""

    async def serve(peer: Peer) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                await peer.request()
                await peer.say(*parts)

    return serve


def once(*parts: bytes) -> Serve:
    """Answer one request, and hang up."""

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.say(*parts)

    return serve


async def test_a_request_is_whole_and_says_who_asks(client: WireClient) -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def serve(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.say(OK)

    async with Server(serve) as server:
        answer = await post(client, server.url, b'{"a": 1}', Authorization="Bearer s")
    head, body = seen[0]
    assert head.startswith(f"POST /v1/chat?a=b HTTP/1.1\r\nhost: 127.0.0.1:{server.url.port}\r\n".encode())
    assert b"\r\nauthorization: Bearer s\r\n" in head
    assert b"\r\naccept-encoding: identity\r\n" in head
    assert body == b'{"a": 1}'
    assert (answer.status, answer.content_type, await read_all(answer)) == (200, "application/json", b"{}")


async def test_connections_are_used_again(client: WireClient) -> None:
    async with Server(always(OK)) as server:
        for _ in range(3):
            answer = await post(client, server.url)
            assert await read_all(answer) == b"{}"
            answer.release()
        assert server.connections == 1
        answers = await asyncio.gather(*(post(client, server.url) for _ in range(3)))
        assert server.connections == 3
        for answer in answers:
            answer.hang_up()
        await post(client, server.url)
        assert server.connections == 4


@pytest.mark.parametrize(
    ("wire", "body"),
    [
        (OK, b"{}"),
        (CHUNKED + b"5\r\nhello\r\n1;note=x\r\n!\r\n0\r\nTrailer: t\r\n\r\n", b"hello!"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nContent-Length: 9\r\n\r\n" + OK, b"{}"),
    ],
)
async def test_where_the_wire_cuts_the_bytes_does_not_matter(client: WireClient, wire: bytes, body: bytes) -> None:
    async with Server(always(*(wire[i : i + 1] for i in range(len(wire))))) as server:
        for _ in range(2):
            answer = await post(client, server.url)
            assert await read_all(answer) == body
            answer.release()
        assert server.connections == 1


async def test_a_body_without_a_length_ends_with_its_connection(client: WireClient) -> None:
    async with Server(once(b"HTTP/1.1 200 OK\r\n\r\nsome", b" more")) as server:
        answer = await post(client, server.url)
        assert await read_all(answer) == b"some more"
        answer.release()
        await post(client, server.url)
        assert server.connections == 2


@pytest.mark.parametrize("wire", [OK[:-1], CHUNKED, CHUNKED + b"5\r\nhel", CHUNKED + b"5\r\nhello\r\n"])
async def test_a_body_that_ends_early_is_cut_after_what_came(client: WireClient, wire: bytes) -> None:
    async with Server(once(wire)) as server:
        answer = await post(client, server.url)
        with pytest.raises(Cut):
            await read_all(answer)


@pytest.mark.parametrize(
    ("wire", "error"),
    [
        (b"", ClosedEarly),
        (b"HTTP/1.1 200", Cut),
        (b"220 mail.example ESMTP\r\n", Malformed),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000, Malformed),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", Malformed),
    ],
)
async def test_what_is_no_answer_is_an_error(client: WireClient, wire: bytes, error: type[Exception]) -> None:
    async with Server(once(wire)) as server:
        with pytest.raises(error):
            await post(client, server.url)


async def test_a_broken_chunk_is_malformed_after_what_came(client: WireClient) -> None:
    async with Server(always(CHUNKED + b"2\r\nok\r\nzz\r\n")) as server:
        answer = await post(client, server.url)
        assert await answer.read() == b"ok"
        with pytest.raises(Malformed):
            await answer.read()


@pytest.mark.parametrize("more", [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"noise"])
async def test_bytes_after_an_answer_never_reach_the_next_one(client: WireClient, more: bytes) -> None:
    async with Server(always(OK + more)) as server:
        for _ in range(3):
            answer = await post(client, server.url)
            assert await read_all(answer) == b"{}"
            answer.release()
        assert server.connections == 3


async def test_an_answer_that_closes_takes_its_connection_with_it(client: WireClient) -> None:
    async with Server(always(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))) as server:
        for _ in range(2):
            (await post(client, server.url)).release()
        assert server.connections == 2


async def test_a_connection_that_was_closed_while_idle_is_not_used(client: WireClient) -> None:
    async with Server(once(OK)) as server:
        for _ in range(3):
            answer = await post(client, server.url)
            assert await read_all(answer) == b"{}"
            answer.release()
            await asyncio.sleep(0.05)
        assert server.connections == 3


async def test_an_answer_released_before_its_end_hangs_up(client: WireClient) -> None:
    ended = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.say(CHUNKED + b"2\r\nok\r\n")
        await peer.wait_closed()
        ended.set()

    async with Server(serve) as server:
        (await post(client, server.url)).release()
        await asyncio.wait_for(ended.wait(), 5)


async def test_who_stops_waiting_hangs_up(client: WireClient) -> None:
    ended = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.wait_closed()
        ended.set()

    async with Server(serve) as server:
        waiting = asyncio.create_task(post(client, server.url))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.wait_for(ended.wait(), 5)


async def test_a_slow_reader_holds_the_upstream_up(client: WireClient) -> None:
    sent = 0

    async def serve(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        for _ in range(1_000):
            await peer.say(b"x" * 100_000)
            sent += 100_000

    async with Server(serve) as server:
        answer = await post(client, server.url)
        seen = -1
        while sent != seen:
            seen = sent
            await asyncio.sleep(0.2)
        # What sockets hold besides is the system's.
        assert sent < 50_000_000
        assert len(await read_all(answer)) == 100_000_000


async def test_nobody_there_is_told_apart(client: WireClient) -> None:
    async with Server(always(OK)) as server:
        pass
    with pytest.raises(ConnectFailed):
        await post(client, server.url)
    with pytest.raises(ConnectFailed):
        await post(client, URL("http://upstream.invalid/v1"))


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Return the file of a self-signed certificate for 127.0.0.1, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = tmp_path / "certificate.pem"
    path.write_bytes(signed.public_bytes(Encoding.PEM) + secret)
    return path


async def test_a_stranger_s_certificate_is_refused(client: WireClient, certificate: Path) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    async with Server(always(OK), tls) as server:
        with pytest.raises(ConnectFailed, match="certificate"):
            await post(client, server.url)
        knowing = WireClient(tls=ssl.create_default_context(cafile=str(certificate)))
        answer = await post(knowing, server.url)
        assert await read_all(answer) == b"{}"
        answer.release()
        knowing.close()


async def test_a_header_cannot_bring_another_one_along(client: WireClient) -> None:
    async with Server(always(OK)) as server:
        with pytest.raises(ValueError, match="authorization"):
            await post(client, server.url, authorization="Bearer s\r\nx-more: 1")
        assert server.connections == 0


async def test_an_address_without_http_is_refused(client: WireClient) -> None:
    with pytest.raises(ValueError, match="HTTP"):
        await post(client, URL("ftp://127.0.0.1/"))


async def test_several_headers_of_one_name_are_a_list(client: WireClient) -> None:
    wire = b"HTTP/1.1 429 No\r\nRetry-After: 3\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 0\r\n\r\n"
    async with Server(always(wire)) as server:
        answer = await post(client, server.url)
    assert (answer.status, answer.headers["retry-after"], answer.headers["x-a"]) == (429, "3", "1, 2")
