"""Images and documents inside a call: OpenAI's URLs as Anthropic's sources."""

from typing import Any, NamedTuple

DATA_URL = "data:"
IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")


class Inlined(NamedTuple):
    """What a data URL holds; `data` is base64."""

    media_type: str
    data: str


def read_data_url(url: str) -> Inlined | None:
    """Return the parts of a `data:TYPE;base64,DATA` URL (RFC 2397), or None for anything else."""
    head, comma, data = url.partition(",")
    media_type, *parameters = head.removeprefix(DATA_URL).split(";")
    if not comma or not head.startswith(DATA_URL) or "base64" not in parameters:
        return None
    return Inlined(media_type.lower(), data)


def image_source(url: str) -> dict[str, Any]:
    """Return the source of an image's URL, which `find_obstacle` has let pass."""
    inlined = read_data_url(url)
    return {"type": "url", "url": url} if inlined is None else _base64(inlined)


def document_source(file_data: str) -> dict[str, Any]:
    """Return the source of a PDF's data URL, which `find_obstacle` has let pass."""
    inlined = read_data_url(file_data)
    assert inlined is not None
    return _base64(inlined)


def _base64(inlined: Inlined) -> dict[str, Any]:
    return {"type": "base64", "media_type": inlined.media_type, "data": inlined.data}
