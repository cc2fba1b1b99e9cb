"""Tags: body and header become one object, within OpenAI's bounds, and nothing that a database cannot store."""

import json

import pytest

from gateway.chat.tags import read_end_user, read_tags
from gateway.errors import TagsInvalid


@pytest.mark.parametrize(
    ("metadata", "header", "tags"),
    [
        (None, None, {}),
        ({}, "", {}),
        ({"a": "1"}, None, {"a": "1"}),
        (None, "team=search, feature = sum=mary ,,", {"team": "search", "feature": "sum=mary"}),
        ({"a": "1"}, "b=2", {"a": "1", "b": "2"}),
        ({"a": "1"}, "a=1", {"a": "1"}),
        ({"a": "Zürich\u2028東京"}, "b=é", {"a": "Zürich\u2028東京", "b": "é"}),
    ],
)
def test_body_and_header_become_one(metadata: dict[str, str] | None, header: str | None, tags: dict[str, str]) -> None:
    assert json.loads(read_tags(metadata, header)) == tags


@pytest.mark.parametrize(
    ("metadata", "header", "param"),
    [
        ({"a": "1"}, "a=2", "x-tags"),
        (None, "team", "x-tags"),
        (None, "=x", "metadata"),
        ({"": "x"}, None, "metadata"),
        ({"n" * 65: "x"}, None, "metadata"),
        ({"a": "x" * 513}, None, "metadata"),
        ({f"n{number}": "x" for number in range(17)}, None, "metadata"),
        ({f"n{number}": "x" for number in range(16)}, "one=more", "metadata"),
        ({"a": "x\0"}, None, "metadata"),
        ({"a\x7f": "x"}, None, "metadata"),
    ],
)
def test_what_cannot_be_recorded_is_refused_with_its_place(
    metadata: dict[str, str] | None, header: str | None, param: str
) -> None:
    with pytest.raises(TagsInvalid) as refused:
        read_tags(metadata, header)
    assert refused.value.param == param


def test_the_end_user_is_cut_and_must_be_printable() -> None:
    assert read_end_user({"user": "u" * 200}) == "u" * 120
    assert read_end_user({"safety_identifier": "s"}) == "s"
    assert read_end_user({}) == ""
    with pytest.raises(TagsInvalid):
        read_end_user({"user": "a\nb"})
