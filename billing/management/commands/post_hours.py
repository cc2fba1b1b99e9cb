"""manage.py post_hours: book the provider cost of closed hours, and set aside revenue that somebody must look at."""

from typing import Any

from django.core.management.base import BaseCommand
from typing_extensions import override

from billing.postings import post_hours
from common.money import format_usd


class Command(BaseCommand):
    help = "Post provider cost and suspense of every closed hour. Run it hourly; a repeat posts nothing."

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        posted = post_hours()
        self.stdout.write(
            f"{posted.hours} hours looked at: provider cost {format_usd(posted.provider_cost_nanousd)} USD, "
            f"set aside {format_usd(posted.suspense_nanousd)} USD."
        )
