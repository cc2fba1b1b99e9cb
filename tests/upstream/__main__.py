"""Run the scripted upstream as a process of its own.

Prints its base URL as the first line once it listens (so `--port 0` is usable), and runs until SIGINT or
SIGTERM.
"""

import argparse
import json
import signal
import sys
from pathlib import Path

from tests.upstream.server import ScriptedUpstream


def main() -> None:
    """Parse the arguments, serve, wait for a signal."""
    parser = argparse.ArgumentParser(prog="python -m tests.upstream", description="A provider that does as told.")
    parser.add_argument("--port", type=int, default=0, help="loopback port; 0 picks a free one")
    parser.add_argument("--script", type=Path, help="JSON file in the form that POST /_script takes")
    arguments = parser.parse_args()
    # Blocked before the server's thread starts, which inherits the mask: only sigwait below sees them.
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    upstream = ScriptedUpstream(port=arguments.port)
    if arguments.script is not None:
        upstream.load_script(json.loads(arguments.script.read_text()))
    with upstream:
        sys.stdout.write(f"{upstream.base_url}\n")
        sys.stdout.flush()
        signal.sigwait(signals)


if __name__ == "__main__":
    main()
