"""Prompts: templates with typed inputs, immutable versions, releases by label, and the tests that gate them."""
