"""The server as it is deployed, in a process of its own, and the system's Chromium in front of it."""

import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, sync_playwright

PASSWORD = "correct horse battery"
_READY_WITHIN_SECONDS = 30


@dataclass(kw_only=True)
class Browser:
    """A logged-in page and everything that went wrong on it."""

    page: Page
    base_url: str
    faults: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        """Go to a page of the admin."""
        self.page.goto(f"{self.base_url}/admin/{path}")
        return self.page


@pytest.fixture
def server(child_environment: dict[str, str]) -> Iterator[str]:
    """Return the address of a server on the test's database."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "platform_site.asgi:application", "--port", str(port)]
    environment = {**child_environment, "LOCAL_MODEL": "off", "DEBUG": "false"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_until_ready(f"http://127.0.0.1:{port}/admin/login/")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=20)


def _wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + _READY_WITHIN_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@pytest.fixture
def browser(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Browser]:
    """Return a browser in which a superuser is logged in."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("no Chromium on the path")
    # Playwright keeps an event loop in this thread, and Django would refuse the test's own queries for it.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    User.objects.create_superuser("ada", "ada@example.com", PASSWORD)
    with sync_playwright() as playwright:
        # Containers seldom allow Chromium its own sandbox.
        chromium = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        context = chromium.new_context(viewport={"width": 1440, "height": 900})
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server)
        opened = Browser(page=context.new_page(), base_url=server)
        _watch(opened)
        page = opened.open("login/?next=/admin/")
        page.fill("#id_username", "ada")
        page.fill("#id_password", PASSWORD)
        page.click("button[type=submit]")
        page.wait_for_selector("#dashboard")
        yield opened
        context.close()
        chromium.close()


def _watch(browser: Browser) -> None:
    page, faults = browser.page, browser.faults
    page.on("console", lambda m: faults.append(f"{page.url}: {m.text}") if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(f"{page.url}: {error}"))
    page.on("response", lambda r: faults.append(f"{r.status} {r.url}") if r.status >= 400 else None)
    # Everything is served from here: no font, script or picture of anybody else's.
    page.on("request", lambda r: None if r.url.startswith((browser.base_url, "data:")) else faults.append(r.url))
