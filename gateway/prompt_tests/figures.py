"""Figures of customers' calls in the form that the prompts app asks for."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from billing.prompt_statistics import read_version_figures
from prompts.ports import CallNumbers


def read_numbers(prompt: str, versions: Sequence[str], since: datetime) -> list[CallNumbers]:
    """Return the figures of each version since a moment (`prompts.ports.ReadCallNumbers`)."""
    return [CallNumbers(**asdict(figures)) for figures in read_version_figures(prompt, versions, since)]
