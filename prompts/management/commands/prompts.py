"""`manage.py prompts pull|push DIRECTORY`: prompts as files, one YAML file a prompt, for keeping them in git.

`manage.py prompts test NAME`: run a prompt's test cases.
"""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, ProgrammingError, transaction

from common.errors import TollkeeperError
from prompts.authoring import publish_version
from prompts.errors import NothingToPublish
from prompts.files import PromptFile, Pushed, difference_of, push_file, read_file, write_file
from prompts.json_values import to_json
from prompts.models import Prompt
from prompts.names import is_valid_name
from prompts.reports import run_tests_of

_SUFFIX = ".prompt.yaml"


class Command(BaseCommand):
    """Writes drafts and test cases into files, or files into drafts and test cases; runs test cases."""

    help = "Keep prompts as files (pull, push: docs/how-to/keep-prompts-in-git.md); run their test cases (test)."
    requires_system_checks = []  # `serve` checks

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="direction", required=True)
        for name, purpose in (("pull", "write files"), ("push", "read files into drafts")):
            files = actions.add_parser(name, help=purpose)
            files.add_argument("directory", type=Path, help=f"Where the files are, each NAME{_SUFFIX}.")
            files.add_argument("names", nargs="*", metavar="NAME", help="Only these prompts; all when left out.")
            files.add_argument("--dry-run", action="store_true", help="Show the differences, and change nothing.")
            files.add_argument("--publish", action="store_true", help="push: publish each changed draft as a version.")
            files.add_argument("--note", default="", help="push --publish: what changed, and why.")
            files.add_argument("--author", default="command line", help="Who is named as the author.")
        tests = actions.add_parser("test", help="run test cases on a version, and fail when one fails")
        tests.add_argument("name", metavar="NAME", help="The prompt.")
        tests.add_argument("--pin", default="", help="A label, a major or a whole number. Default: production.")
        tests.add_argument("--model", default="", help="Another model than the version's own.")
        tests.add_argument("--author", default="command line", help="Who is named as the author of the results.")
        tests.add_argument("--json", action="store_true", help="Print one JSON object for programs.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["direction"] == "test":
            self._test(options)
            return
        if options["publish"] and not options["note"].strip():
            raise CommandError("--publish needs --note: say what changed, and why.")
        try:
            if options["direction"] == "pull":
                self._pull(options["directory"], options["names"], is_dry_run=options["dry_run"])
            else:
                self._push(options)
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}") from None
        except (OperationalError, ProgrammingError) as error:
            text = f"the database refuses ({error}). Is it up to date? Run 'manage.py migrate' first."
            raise CommandError(text, returncode=2) from None

    def _test(self, options: dict[str, Any]) -> None:
        try:
            report = run_tests_of(
                name=options["name"], pin=options["pin"], model=options["model"], author=options["author"]
            )
        except TollkeeperError as error:
            raise CommandError(error.message) from None
        if options["json"]:
            self.stdout.write(to_json(report.as_json(), is_pretty=True))
        else:
            self.stdout.write(report.as_text())
        if not report.is_passed:
            raise CommandError(f"{report.failed} of {len(report.results)} test cases failed.", returncode=1)

    def _pull(self, directory: Path, names: list[str], *, is_dry_run: bool) -> None:
        prompts = Prompt.objects.order_by("name")
        if names:
            prompts = prompts.filter(name__in=names)
            missing = sorted(set(names) - {prompt.name for prompt in prompts})
            if missing:
                raise CommandError(f"There is no prompt named {', '.join(missing)}; nothing was written.")
        if not is_dry_run:
            directory.mkdir(parents=True, exist_ok=True)
        unchanged = 0
        for prompt in prompts:
            path = directory / f"{prompt.name}{_SUFFIX}"
            before = path.read_text(encoding="utf-8") if path.exists() else ""
            after = write_file(prompt)
            if before == after:
                unchanged += 1
                continue
            self.stdout.write(difference_of(before, after, name=path.name))
            if not is_dry_run:
                path.write_text(after, encoding="utf-8")
        self._finish(f"= {unchanged} unchanged", is_dry_run=is_dry_run)

    def _push(self, options: dict[str, Any]) -> None:
        files = self._read_files(options["directory"], options["names"])
        unchanged = 0
        with transaction.atomic():
            for path, file in files:
                try:
                    pushed = push_file(file, author=options["author"])
                    published = self._publish(pushed, options) if options["publish"] else ""
                except TollkeeperError as error:
                    raise CommandError(f"{path}: {error.message} Nothing was changed.") from None
                if pushed.difference:
                    self.stdout.write(pushed.difference)
                if published:
                    self.stdout.write(f"+ {file.name} {published}")
                unchanged += not (pushed.difference or published)
            if options["dry_run"]:
                transaction.set_rollback(True)
        self._finish(f"= {unchanged} unchanged", is_dry_run=options["dry_run"])

    def _read_files(self, directory: Path, names: list[str]) -> list[tuple[Path, PromptFile]]:
        if not directory.is_dir():
            raise CommandError(f"{directory} is no directory.")
        bad = [name for name in names if not is_valid_name(name)]
        if bad:
            raise CommandError(f"'{bad[0]}' is no name of a prompt.")
        paths = [directory / f"{name}{_SUFFIX}" for name in names] or sorted(directory.glob(f"*{_SUFFIX}"))
        if not paths:
            raise CommandError(f"There is no *{_SUFFIX} in {directory}.")
        problems, files = [], []
        for path in paths:
            try:
                file = read_file(path.read_text(encoding="utf-8"))
            except TollkeeperError as error:
                problems.append(f"{path}: {error.message}")
                continue
            except UnicodeDecodeError:
                problems.append(f"{path}: it is not UTF-8")
                continue
            if file.name != path.name.removesuffix(_SUFFIX):
                problems.append(f"{path}: it says 'name: {file.name}', so it must be called {file.name}{_SUFFIX}")
            files.append((path, file))
        if problems:
            raise CommandError("\n".join(["Nothing was changed.", *problems]))
        return files

    def _publish(self, pushed: Pushed, options: dict[str, Any]) -> str:
        try:
            version = publish_version(prompt_id=pushed.prompt.pk, author=options["author"], note=options["note"])
        except NothingToPublish:
            return ""
        return str(version.number)

    def _finish(self, text: str, *, is_dry_run: bool) -> None:
        self.stdout.write(text)
        if is_dry_run:
            self.stdout.write("Dry run: nothing was changed.")
