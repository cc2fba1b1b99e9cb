import io
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO

import pytest
from django.conf import LazySettings

from billing.errors import ExportDestinationInvalid
from billing.exports.destinations import Bucket, Folder, parse_destination, write_whole

pytest.importorskip("storages.backends.s3", reason="django-storages with S3 is not installed: requirements/s3.txt")


@pytest.mark.parametrize("text", ["", "  ", "accounting", "accounting/usage", "a.b/c-d/e=1"])
def test_a_folder_lies_below_the_export_directory(text: str, settings: LazySettings, tmp_path: Path) -> None:
    settings.EXPORT_DIR = tmp_path
    found = parse_destination(text)
    assert isinstance(found, Folder)
    assert found.path.is_relative_to(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["/etc", "../up", "a/../../b", "a/..", ".hidden", "a b", "a;b", "~root", "s3://", "s3://UP", "s3://b/../c", "ä"],
)
def test_what_leads_elsewhere_is_refused(text: str) -> None:
    with pytest.raises(ExportDestinationInvalid) as caught:
        parse_destination(text)
    assert (caught.value.code, caught.value.param) == ("invalid_export_destination", "destination")


@pytest.mark.parametrize("text", ["s3://", "s3://UP", "s3://x", "s3://bucket/../other", "s3://bucket/a b"])
def test_what_is_no_bucket_is_refused(text: str) -> None:
    with pytest.raises(ExportDestinationInvalid):
        parse_destination(text)


def test_a_bucket_is_named_with_its_folder() -> None:
    assert parse_destination("s3://my-bucket/usage/2026") == Bucket(name="my-bucket", folder="usage/2026")
    assert parse_destination("s3://my-bucket") == Bucket(name="my-bucket", folder="")


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "usage.csv"
    target.write_text("the last good export")

    def break_off(file: BinaryIO) -> None:
        file.write(b"half of it")
        raise OSError(28, "disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(target, break_off)
    assert target.read_text() == "the last good export"
    assert list(tmp_path.iterdir()) == [target]


# ---- a bucket, played by a real server


class Shelf(ThreadingHTTPServer):
    """Keeps what is put into it, by path; with `refuses` it answers as S3 does to a wrong key."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.kept: dict[str, bytes] = {}
        self.refuses = False


class _Handler(BaseHTTPRequestHandler):
    server: Shelf

    def do_PUT(self) -> None:
        body = self._read_body()
        if self.server.refuses:
            self._answer(403, b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>")
            return
        self.server.kept[self.path.partition("?")[0]] = body
        self._answer(200, b"")

    def do_HEAD(self) -> None:
        self._answer(404, b"")

    def _read_body(self) -> bytes:
        if "chunked" not in self.headers.get("content-encoding", "") + self.headers.get("transfer-encoding", ""):
            return self.rfile.read(int(self.headers["content-length"]))
        # aws-chunked: size lines around the content, a trailer with its checksum behind it.
        content = io.BytesIO()
        while size := int(self.rfile.readline().split(b";")[0], 16):
            content.write(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return content.getvalue()

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    server = Shelf()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    for name, value in {
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def _write(content: bytes, file: BinaryIO) -> None:
    file.write(content)


def test_a_file_goes_to_a_bucket_and_replaces_the_one_before(shelf: Shelf) -> None:
    bucket = Bucket(name="my-bucket", folder="usage")
    for content in (b"first", b"second" * 1_000):
        location, _ = bucket.put("day.csv", partial(_write, content))
        assert location == "s3://my-bucket/usage/day.csv"
        assert list(shelf.kept.values()) == [content]
    assert next(iter(shelf.kept)).endswith("/usage/day.csv")


def test_nothing_is_sent_of_a_file_that_cannot_be_completed(shelf: Shelf) -> None:
    def break_off(file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError(28, "disk full")

    with pytest.raises(OSError, match="disk full"):
        Bucket(name="my-bucket", folder="").put("day.csv", break_off)
    assert shelf.kept == {}


def test_a_bucket_that_refuses_is_told_with_its_reason(shelf: Shelf) -> None:
    shelf.refuses = True
    with pytest.raises(ExportDestinationInvalid, match=r"s3://my-bucket does not take the file: .*AccessDenied"):
        Bucket(name="my-bucket", folder="").put("day.csv", lambda file: file.write(b"x"))


def test_without_the_extra_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "storages.backends.s3", None)
    with pytest.raises(ExportDestinationInvalid, match=r"requirements/s3\.txt"):
        Bucket(name="my-bucket", folder="").put("day.csv", lambda file: file.write(b"x"))
