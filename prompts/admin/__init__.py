"""Versions and test cases. The page of a prompt shows more than this app knows: `gateway` registers it."""

from prompts.admin import test_cases, versions

__all__ = ["test_cases", "versions"]
