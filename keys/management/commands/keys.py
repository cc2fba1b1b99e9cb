"""`manage.py keys list|check|rotate|revoke|report`: what operators do with API keys."""

import getpass
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from typing_extensions import override

from common.errors import TollkeeperError
from keys.audit import command_actor
from keys.issuing import revoke_key, rotate_key
from keys.models import ApiKey
from keys.overlaps import OVERLAPS, parse_overlap
from keys.reporting import EXPIRING_DAYS, UNUSED_DAYS, mail_key_report, read_key_report
from keys.tokens import TOKEN_PATTERN, is_well_formed

_ACTOR = command_actor("manage.py keys")


class Command(BaseCommand):
    """Lists, tests, rotates, revokes and reports on API keys."""

    help = "list, check (a text, offline), rotate, revoke or report on API keys"

    @override
    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        listing = actions.add_parser("list", help="list the keys of a customer, or of all")
        listing.add_argument("--customer", help="the customer's name")
        listing.add_argument("--state", choices=("active", "rotated", "expired", "revoked"))
        check = actions.add_parser("check", help="tell whether a text is a well-formed key; asks no database")
        check.add_argument("text", nargs="?", help="left out: asked for, so that it gets into no shell history")
        for name, text in (("rotate", "issue a successor and print it"), ("revoke", "end a key for good")):
            action = actions.add_parser(name, help=text)
            action.add_argument("key", help="the key's id (key_...) or its visible prefix")
            action.add_argument("--reason", required=True, help="stays in the audit trail")
            if name == "rotate":
                action.add_argument("--overlap", default="24h", help=f"{', '.join(OVERLAPS)} or a moment (default 24h)")
        report = actions.add_parser("report", help="list keys that lie idle or end soon")
        report.add_argument("--unused-days", type=int, default=UNUSED_DAYS)
        report.add_argument("--expiring-days", type=int, default=EXPIRING_DAYS)
        report.add_argument(
            "--email", nargs="*", metavar="ADDRESS", help="mail it to these, and each customer its part"
        )

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        try:
            getattr(self, f"_{options['action']}")(options)
        except TollkeeperError as error:
            raise CommandError(error.message) from None

    def _list(self, options: dict[str, Any]) -> None:
        keys = ApiKey.objects.select_related("customer").order_by("customer__name", "pk")
        if options["customer"]:
            keys = keys.filter(customer__name=options["customer"])
        for key in keys.iterator():
            if options["state"] in (None, key.state()):
                used = "never used" if key.last_used_at is None else f"used {key.last_used_at:%Y-%m-%d %H:%M}"
                self.stdout.write(
                    f"{key.public_id}  {key.prefix}…  {key.state():8}  {key.customer}: {key.name}  ({used})"
                )

    def _check(self, options: dict[str, Any]) -> None:
        text = options["text"] or (getpass.getpass("Key: ") if sys.stdin.isatty() else sys.stdin.readline())
        text = text.strip()
        if is_well_formed(text):
            self.stdout.write(f"A well-formed {text.split('_')[1]} key. Whether it is known and active was not asked.")
        elif TOKEN_PATTERN.fullmatch(text):
            raise CommandError("It has the shape of a key, but its checksum is wrong: a typing error, or made up.")
        else:
            raise CommandError("Not a key: expected tk_live_ or tk_test_ and 33 letters and digits.")

    def _rotate(self, options: dict[str, Any]) -> None:
        key = _find_key(options["key"])
        issued = rotate_key(
            key_id=key.pk,
            overlap=parse_overlap(options["overlap"]),
            reason=options["reason"],
            author="manage.py keys",
            actor=_ACTOR,
        )
        key.refresh_from_db()
        self.stderr.write(
            f"{key.prefix}… works until {key.expires_at:%Y-%m-%d %H:%M:%S} UTC. Its successor, shown once:"
        )
        self.stdout.write(issued.token)

    def _revoke(self, options: dict[str, Any]) -> None:
        for key in revoke_key(key_id=_find_key(options["key"]).pk, reason=options["reason"], actor=_ACTOR):
            self.stdout.write(f"{key.prefix}… is revoked.")

    def _report(self, options: dict[str, Any]) -> None:
        report = read_key_report(unused_days=options["unused_days"], expiring_days=options["expiring_days"])
        for title, keys in (("ends soon", report.expiring), ("unused", report.unused)):
            for key in keys:
                self.stdout.write(f"{title:9}  {key.public_id}  {key.prefix}…  {key.customer}: {key.name}")
        if not (report.expiring or report.unused):
            self.stdout.write("No key ends soon, and none lies idle.")
        if options["email"] is not None:
            self.stdout.write(f"{mail_key_report(report, operators=options['email'])} mails sent.")


def _find_key(text: str) -> ApiKey:
    found = list(ApiKey.objects.filter(public_id=text) or ApiKey.objects.filter(prefix=text.rstrip("…"))[:2])
    if len(found) != 1:
        raise CommandError(f"{'No key' if not found else 'More than one key'} matches '{text}': give its id (key_...).")
    return found[0]
