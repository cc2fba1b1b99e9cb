"""What the page on prices computes is what the code computes."""

import doctest

from django.conf import settings


def test_every_example_of_the_explanation_is_true() -> None:
    page = settings.BASE_DIR / "docs" / "explanation" / "prices.md"
    found = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert found.attempted > 15
    assert found.failed == 0
