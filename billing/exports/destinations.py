"""Where the files of schedules go: a folder below EXPORT_DIR, or a bucket that speaks S3.

A file appears whole or not at all, and writing it again replaces it: in a folder by renaming, in a bucket by one PUT
(or a multipart upload that counts only when it is completed).
"""

import os
import re
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.files import File
from django.utils.module_loading import import_string

from billing.errors import ExportDestinationInvalid

_T = TypeVar("_T")
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]*")
# Names of buckets: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_S3 = "s3://"
# By name: the packages are an optional extra.
_S3_ERRORS = (
    "boto3.exceptions.Boto3Error",
    "botocore.exceptions.BotoCoreError",
    "botocore.exceptions.ClientError",
)


class Destination(Protocol):
    """A place for files."""

    def put(self, name: str, write: Callable[[BinaryIO], _T]) -> tuple[str, _T]:
        """Store what `write` writes and return where it is, with what `write` returned.

        Raises OSError or ExportDestinationInvalid when the place cannot be written to.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A directory of this machine."""

    path: Path

    def put(self, name: str, write: Callable[[BinaryIO], _T]) -> tuple[str, _T]:
        self.path.mkdir(parents=True, exist_ok=True)
        result = write_whole(self.path / name, write)
        return str(self.path / name), result


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket that speaks S3. Address and secret come from the environment as every S3 tool reads them (AWS_...)."""

    name: str
    folder: str

    def put(self, name: str, write: Callable[[BinaryIO], _T]) -> tuple[str, _T]:
        storage = self._open()
        key = f"{self.folder}/{name}" if self.folder else name
        # On disk first: nothing is sent of a file that cannot be completed, and its size is known.
        with tempfile.TemporaryFile() as file:
            result = write(file)
            file.seek(0)
            try:
                storage.save(key, File(file, name=name))
            except tuple(import_string(name) for name in _S3_ERRORS) as error:
                raise ExportDestinationInvalid(f"{_S3}{self.name} does not take the file: {error}") from error
        return f"{_S3}{self.name}/{key}", result

    def _open(self) -> Any:
        try:
            return import_string("storages.backends.s3.S3Storage")(bucket_name=self.name, file_overwrite=True)
        except (ImportError, ImproperlyConfigured) as error:
            raise ExportDestinationInvalid(
                "Exports to a bucket need django-storages with S3: pip install -r requirements/s3.txt.",
                internal_detail=str(error),
            ) from None


def parse_destination(text: str) -> Folder | Bucket:
    """Return the place that a schedule names. Raises ExportDestinationInvalid; touches nothing."""
    address = text.strip()
    is_bucket = address.startswith(_S3)
    parts = [part for part in address.removeprefix(_S3).split("/") if part]
    if is_bucket and (not parts or not _BUCKET.fullmatch(parts[0])):
        raise ExportDestinationInvalid("Write s3://bucket or s3://bucket/folder.", param="destination")
    # What would climb out of the folder, or mean something to a shell or a web server, is no part of a name.
    if address.startswith("/") or not all(_PART.fullmatch(part) for part in parts[is_bucket:]):
        raise ExportDestinationInvalid(
            "Write a folder below EXPORT_DIR, like accounting/usage, or s3://bucket/folder. Names have letters, "
            "digits, and - _ . = inside.",
            param="destination",
        )
    if is_bucket:
        return Bucket(name=parts[0], folder="/".join(parts[1:]))
    return Folder(path=Path(settings.EXPORT_DIR).joinpath(*parts))


def write_whole(path: Path, write: Callable[[BinaryIO], _T]) -> _T:
    """Write beside the file and rename: a reader, or a crash, never sees half of it. Raises OSError."""
    # Not the process's number: in containers that share a folder every process is number 1.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        with temporary.open("wb") as file:
            result = write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return result
