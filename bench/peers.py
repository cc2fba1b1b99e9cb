"""`python -m bench.peers`: measure other gateways the same way, each right after the product.

They are installed once, each in a folder of its own under `var/bench/`. Exit codes as in `bench.run`.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.load import LoadResult, Target, run_load
from bench.mock import Mock, run_mock
from bench.passthrough import run_passthrough
from bench.processes import BenchError, find_free_port, raise_file_limit, run_server
from bench.product import run_product
from bench.report import describe_machine, render_machine, render_table
from bench.run import CACHE, check_tools, make_scratch

LITELLM_VERSION = "1.106.2"
PORTKEY_VERSION = "1.15.2"
# With a newer one, which its own range allows, every stream ends in "TypeError: immutable" (its issue 1389).
PORTKEY_OVERRIDES = {"@hono/node-server": "1.14.0", "@hono/node-ws": "1.2.0"}
# Portkey has no option for the address and would listen on all of them.
LOOPBACK_ONLY = """\
import net from "node:net";
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (port, ...rest) {
  return listen.call(this, port, "127.0.0.1", ...rest.filter((part) => typeof part === "function"));
};
"""
MASTER_KEY = "sk-bench"
JSON_MODEL, STREAM_MODEL = "bench-json", "bench-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """One running system, by what is asked of it."""

    json: Target
    stream: Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    json: LoadResult
    # The same call, one at a time.
    single: LoadResult
    stream: LoadResult

    @property
    def problems(self) -> tuple[str, ...]:
        return self.json.problems + self.single.problems + self.stream.problems


System = Callable[[Mock, Path], contextlib.AbstractContextManager[Targets]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--only", choices=sorted(PEERS), help="measure one of them")
    parser.add_argument("--quick", action="store_true", help="runs of 2 seconds: shows that it works")
    parser.add_argument("--against", choices=sorted(BASES), default="product", help="what the ratios are to")
    options = parser.parse_args()
    try:
        return _run([options.only] if options.only else sorted(PEERS), options.against, 2 if options.quick else 8)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 2


def _run(names: list[str], base_name: str, seconds: int) -> int:
    check_tools()
    raise_file_limit()
    for name in names:
        INSTALLERS[name]()
    lines: list[tuple[str, ...]] = [HEAD]
    valid = True
    for name in names:
        # A run of its own for each pair, so that both figures of a ratio come from the same minute.
        with make_scratch() as scratch, run_mock(scratch) as mock:
            base = _measure(base_name, BASES[base_name], mock, scratch, seconds)
            peer = _measure(name, PEERS[name], mock, scratch, seconds)
        lines += [_render(base_name, base, base), _render(name, peer, base)]
        valid = valid and not base.problems + peer.problems
    print(render_machine(describe_machine()), render_table(lines), sep="\n\n")
    return int(not valid)


def _measure(name: str, system: System, mock: Mock, scratch: Path, seconds: int) -> Figures:
    print(f"{name} ...", file=sys.stderr, flush=True)

    def load(target: Target, connections: int, *, stream: bool = False) -> LoadResult:
        return run_load(target, connections=connections, seconds=seconds, stream=stream, scratch=scratch)

    with system(mock, scratch) as targets:
        return Figures(
            json=load(targets.json, 32),
            single=load(targets.json, 1),
            stream=load(targets.stream, 8, stream=True),
        )


HEAD = (
    "system",
    "requests/s",
    "ratio of the first to it",
    "CPU us/request",
    "p50 ms, 1 connection",
    "200-event streams/s",
    "CPU ms/stream",
    "verdict",
)


def _render(name: str, figures: Figures, base: Figures) -> tuple[str, ...]:
    ratio = base.json.requests_per_second / max(figures.json.requests_per_second, 0.001)
    return (
        name,
        f"{figures.json.requests_per_second:,.0f}",
        "" if figures is base else f"{ratio:,.1f}",
        f"{figures.json.cpu_us_per_request:,.0f}",
        f"{figures.single.p50_us / 1_000:,.2f}",
        f"{figures.stream.requests_per_second:,.1f}",
        f"{figures.stream.cpu_us_per_request / 1_000:,.2f}",
        "INVALID: " + ", ".join(figures.problems) if figures.problems else "",
    )


@contextlib.contextmanager
def run_base_product(mock: Mock, scratch: Path) -> Iterator[Targets]:
    """Run the product on SQLite, everything on."""
    urls = {JSON_MODEL: mock.json_url, STREAM_MODEL: mock.stream_url}
    with run_product(urls, scratch, database_url=None) as product:
        yield Targets(json=product.target(JSON_MODEL), stream=product.target(STREAM_MODEL))


@contextlib.contextmanager
def run_base_passthrough(mock: Mock, scratch: Path) -> Iterator[Targets]:
    """Run two bare pass-throughs."""
    with (
        run_passthrough(mock.json_url, scratch, name=JSON_MODEL) as plain,
        run_passthrough(mock.stream_url, scratch, name=STREAM_MODEL) as stream,
    ):
        yield Targets(
            json=Target(url=plain.url, model=JSON_MODEL, server=plain),
            stream=Target(url=stream.url, model=STREAM_MODEL, server=stream),
        )


@contextlib.contextmanager
def run_litellm(mock: Mock, scratch: Path) -> Iterator[Targets]:
    """Run LiteLLM's proxy in one process with a master key and no database, as its quick start does."""
    models = {JSON_MODEL: mock.json_url, STREAM_MODEL: mock.stream_url}
    config = scratch / "litellm.yaml"
    config.write_text(
        json.dumps(
            {
                "model_list": [
                    {
                        "model_name": name,
                        "litellm_params": {
                            "model": "openai/bench",
                            "api_base": f"{url}/v1",
                            "api_key": "bench",
                        },
                    }
                    for name, url in models.items()
                ],
                "general_settings": {"master_key": MASTER_KEY},
                "litellm_settings": {"telemetry": False},
            }
        )
    )
    port = find_free_port()
    command = [str(_litellm_folder() / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
    # Its price list comes from the network unless told otherwise; a database address must not leak in.
    env = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    env |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    command += ["--port", str(port)]
    with run_server(
        name="litellm", command=command, port=port, scratch=scratch, env=env, cwd=scratch, ready_seconds=180
    ) as server:
        headers = {"authorization": f"Bearer {MASTER_KEY}"}
        yield Targets(
            json=Target(url=server.url, model=JSON_MODEL, server=server, headers=headers),
            stream=Target(url=server.url, model=STREAM_MODEL, server=server, headers=headers),
        )


@contextlib.contextmanager
def run_portkey(mock: Mock, scratch: Path) -> Iterator[Targets]:
    """Run Portkey's gateway on Node; each request names its upstream in a header, nothing is stored."""
    script = _portkey_folder() / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    port = find_free_port()
    preload = scratch / "loopback.mjs"
    preload.write_text(LOOPBACK_ONLY)
    command = [_find_node(), "--import", str(preload), str(script), f"--port={port}", "--headless"]
    # It refuses upstreams on private addresses that are not named here.
    env = dict(os.environ) | {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"}
    with run_server(name="portkey", command=command, port=port, scratch=scratch, env=env) as server:

        def aim(url: str, model: str) -> Target:
            headers = {
                "authorization": "Bearer bench",
                "x-portkey-provider": "openai",
                "x-portkey-custom-host": f"{url}/v1",
            }
            return Target(url=server.url, model=model, server=server, headers=headers)

        yield Targets(json=aim(mock.json_url, JSON_MODEL), stream=aim(mock.stream_url, STREAM_MODEL))


def install_litellm() -> None:
    """Install LiteLLM's proxy into its folder, unless it is there."""
    folder = _litellm_folder()
    if (folder / "bin" / "litellm").exists():
        return
    _install([sys.executable, "-m", "venv", str(folder)])
    _install([str(folder / "bin" / "pip"), "install", "--quiet", f"litellm[proxy]=={LITELLM_VERSION}"])


def install_portkey() -> None:
    """Install Portkey's gateway into its folder, unless it is there."""
    folder = _portkey_folder()
    _find_node()
    if (folder / "node_modules" / "@portkey-ai" / "gateway" / "build").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {"dependencies": {"@portkey-ai/gateway": PORTKEY_VERSION}, "overrides": PORTKEY_OVERRIDES}
    (folder / "package.json").write_text(json.dumps({"private": True} | wanted))
    _install(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)])


def _install(command: list[str]) -> None:
    print(" ".join(command), file=sys.stderr, flush=True)
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise BenchError(f"{command[0]} ended with {done.returncode}:\n{done.stderr[-2_000:]}")


def _find_node() -> str:
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        raise BenchError("missing: apt-get install nodejs npm")
    return node


def _litellm_folder() -> Path:
    return CACHE / f"litellm-{LITELLM_VERSION}"


def _portkey_folder() -> Path:
    return CACHE / f"portkey-{PORTKEY_VERSION}"


INSTALLERS: dict[str, Callable[[], None]] = {"litellm": install_litellm, "portkey": install_portkey}
PEERS: dict[str, System] = {"litellm": run_litellm, "portkey": run_portkey}
BASES: dict[str, System] = {"product": run_base_product, "pass-through": run_base_passthrough}


if __name__ == "__main__":
    sys.exit(main())
