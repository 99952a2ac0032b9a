"""A real browser, steered by the WebDriver protocol with nothing but the standard library."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# A page is there in a second or two; a busy machine may take much longer.
TIMEOUT_MS = 60_000

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1300,1600",
)

# Looks in the page until an expression holds, then answers with its value; with null when time is up. The
# expression is part of the script, for the page's security policy forbids `eval`.
_UNTIL = """
const [timeout, done] = arguments;
const end = Date.now() + timeout;
const look = () => {
  const value = (EXPRESSION);
  if (value || Date.now() > end) done(value || null); else setTimeout(look, 20);
};
look();
"""


def missing() -> str:
    """Which program is missing to drive a browser, or an empty text."""
    return ", ".join(name for name in ("chromium", "chromedriver") if not shutil.which(name))


class Browser:
    """One window. Expressions are JavaScript; `css` selects the first element that matches."""

    def __init__(self, driver: str, session: str) -> None:
        self._url = f"{driver}/session/{session}"

    def open(self, url: str) -> None:
        """Load a page."""
        _post(f"{self._url}/url", {"url": url})

    def until(self, expression: str) -> Any:
        """The value of an expression once it is true. Fails when it does not become so in time."""
        script = _UNTIL.replace("EXPRESSION", expression)
        value = _post(f"{self._url}/execute/async", {"script": script, "args": [TIMEOUT_MS]})
        if value is None:
            raise AssertionError(f"still not so after {TIMEOUT_MS / 1000:g} s: {expression}")
        return value

    def text(self, css: str) -> str:
        """The text of an element, once it is there and has one."""
        return str(self.until(f"document.querySelector({json.dumps(css)})?.innerText.trim()"))

    def click(self, css: str) -> None:
        """Click an element, once it is there."""
        selector = json.dumps(css)
        self.until(
            f"document.querySelector({selector})?.scrollIntoView({{block: 'center'}}), "
            f"document.querySelector({selector})"
        )
        found = _post(f"{self._url}/element", {"using": "css selector", "value": css})
        [element] = found.values()
        _post(f"{self._url}/element/{element}/click", {})

    def screenshot(self, path: Path) -> None:
        """Save what the window shows."""
        path.write_bytes(base64.b64decode(_get(f"{self._url}/screenshot")))

    def complaints(self) -> list[str]:
        """What the browser's console said so far: errors and warnings, refused content among them."""
        return [f"{entry['level']}: {entry['message']}" for entry in self._log("browser")]

    def requested(self, page: str) -> list[str]:
        """The addresses that pages whose address begins with `page` have requested so far, in order."""
        messages = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return [params["request"]["url"] for params in sent if params["documentURL"].startswith(page)]

    def _log(self, kind: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = _post(f"{self._url}/se/log", {"type": kind})
        return entries


@contextlib.contextmanager
def browsing(directory: Path) -> Iterator[Browser]:
    """Start a browser with a new profile in `directory`; it is gone at the end."""
    command = ["chromedriver", "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            driver = f"http://127.0.0.1:{_port(process)}"
            session = _post(f"{driver}/session", {"capabilities": {"alwaysMatch": _capabilities(directory)}})
            try:
                yield Browser(driver, session["sessionId"])
            finally:
                _request("DELETE", f"{driver}/session/{session['sessionId']}")
        finally:
            process.terminate()


def _capabilities(directory: Path) -> dict[str, Any]:
    return {
        "browserName": "chrome",
        "timeouts": {"script": 2 * TIMEOUT_MS},
        "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        "goog:chromeOptions": {
            "binary": shutil.which("chromium"),
            "args": [*_FLAGS, f"--user-data-dir={directory / 'profile'}"],
        },
    }


def _port(process: subprocess.Popen[str]) -> int:
    """The port that the driver chose; it says so in its first lines."""
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"started successfully on port (\d+)", line):
            return int(found.group(1))
    raise AssertionError("chromedriver ended before it said on which port it serves")


def _post(url: str, body: dict[str, Any]) -> Any:
    return _request("POST", url, json.dumps(body).encode())


def _get(url: str) -> Any:
    return _request("GET", url)


def _request(method: str, url: str, body: bytes | None = None) -> Any:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=3 * TIMEOUT_MS / 1000) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        with error:
            raise AssertionError(f"the browser says: {json.load(error)['value']['message']}") from None
