from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING

from django.apps import AppConfig

if TYPE_CHECKING:
    from prompts.ports import CallNumbers
    from prompts.testing import PromptRunner


class GatewayConfig(AppConfig):
    name = "gateway"
    verbose_name = "Gateway"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Lend the prompts app what it may not import."""
        from prompts.ports import connect_ports  # its models are there only now

        connect_ports(open_runner=_open_runner, read_call_numbers=_read_call_numbers)


# The pipeline takes a second to import, which no other command should pay for.
def _open_runner() -> "AbstractContextManager[PromptRunner]":
    from gateway.prompt_tests.runner import open_gateway_runner

    return open_gateway_runner()


def _read_call_numbers(prompt: str, versions: Sequence[str], since: datetime) -> "Sequence[CallNumbers]":
    from gateway.prompt_tests.figures import read_numbers

    return read_numbers(prompt, versions, since)
