"""Differences show each side whole, with what changed marked, in bounded time."""

from prompts.diffing import diff_contents, diff_texts
from tests.prompting import text_content


def test_each_side_can_be_put_together_again() -> None:
    section = diff_texts("x", "the quick brown fox", "the slow brown dog")
    assert "".join(s.text for s in section.old) == "the quick brown fox"
    assert "".join(s.text for s in section.new) == "the slow brown dog"
    assert any(s.is_changed and "quick" in s.text for s in section.old)


def test_parts_are_compared_with_their_like_and_new_ones_stand_alone() -> None:
    old = text_content("Hi {{ name }}")
    new = text_content("Hi {{ name }}", system="Be kind.", output_schema={"type": "object"}, model="other")
    changed = {section.title for section in diff_contents(old, new) if section.is_changed}
    assert changed == {"Message 1", "Message 2", "Output", "Model"}
    assert not any(section.is_changed for section in diff_contents(old, old))


def test_two_texts_with_nothing_in_common_are_compared_all_the_same() -> None:
    old = "".join(chr(97 + (n * 7) % 26) for n in range(60_000))
    new = "".join(chr(97 + (n * n + 3) % 26) for n in range(60_000))
    section = diff_texts("x", old, new)
    assert "".join(s.text for s in section.old) == old
    assert "".join(s.text for s in section.new) == new
