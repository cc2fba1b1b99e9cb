#!/usr/bin/env python
"""Django's command line for this project."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "platform_site.settings")
    from django.core.management import execute_from_command_line  # noqa: PLC0415 - settings first
    from pydantic import ValidationError  # noqa: PLC0415

    from platform_site.environment import describe_problems  # noqa: PLC0415

    try:
        execute_from_command_line(sys.argv)
    except ValidationError as error:
        # A bad environment variable stops start-up with its name, not with a traceback.
        if error.title != "Environment":
            raise
        sys.exit(describe_problems(error))


if __name__ == "__main__":
    main()
