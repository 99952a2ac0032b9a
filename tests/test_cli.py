"""The `ratus` command: what it says, what it runs, how it ends."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ratus import __version__, cli
from ratus.core.errors import StartupError
from ratus.core.options import Option
from ratus.engine.discovery import Catalogue, MissingDriver, Plugin, UnknownEngine, UnusablePlugin
from ratus.runtime import config, gc_tuning, logs
from ratus.server.connection_limits import ConnectionLimits

ROOT = Path(__file__).parent.parent


def no_engine(values: Mapping[str, Any]) -> Any:
    raise AssertionError("the command itself creates no engine")


ENGINES = Catalogue(
    {
        "memdb": Plugin(
            "memdb", "in memory", (Option("memdb-snapshot-path", "text", "", "100% of the tasks"),), no_engine
        )
    }
)
BROKEN = Catalogue(ENGINES.plugins, {"broken": UnusablePlugin("broken", "it is broken")})


def ratus(*argv: str, path: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, in an environment that holds nothing else."""
    places = [path, str(ROOT), str(ROOT / "engines")]
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, places)), "PYTHONWARNINGS": "error", **environ}
    command = [sys.executable, "-m", "ratus", *argv]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Only the engines of this test, and an environment and a logging that are put back afterwards."""
    for option in (o for group in config.groups(ENGINES.plugins.values()) for o in group.options):
        monkeypatch.delenv(option.environment, raising=False)
    monkeypatch.setattr(config, "catalogue", lambda: ENGINES)
    handlers = list(logging.getLogger().handlers)
    levels = {name: logging.getLogger(name).level for name in ("", "ratus", "ratus_engines", "uvicorn")}
    yield
    for handler in set(logging.getLogger().handlers) - set(handlers):
        logging.getLogger().removeHandler(handler)
        handler.close()
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(False)


def limits(settings: config.Settings) -> ConnectionLimits:
    """Stands in for the limits that the settings ask for."""
    return ConnectionLimits()


class Server:
    """Stands in for the application and for what runs it; records how it was called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[dict[str, Any]] = []
        self.exit_code = 0
        self.build_error: BaseException | None = None
        self.run_error: BaseException | None = None
        self.immediate = True
        self.tokens: tuple[str, ...] = ()
        self.collector_is_tuned = False
        monkeypatch.setattr(logs, "catch_stray_errors", lambda: None)
        monkeypatch.setitem(
            sys.modules, "ratus.runtime.app", SimpleNamespace(build=self.build, limits=limits)
        )
        monkeypatch.setattr(gc_tuning, "tune_collector", self.tune_collector)
        monkeypatch.setitem(sys.modules, "ratus.server.lifecycle", SimpleNamespace(run=self.run))

    def tune_collector(self) -> None:
        self.collector_is_tuned = True

    def build(
        self, settings: config.Settings, *, trim: Callable[[], None]
    ) -> tuple[SimpleNamespace, SimpleNamespace]:
        if self.build_error:
            raise self.build_error
        assert isinstance(trim, gc_tuning.Trim)
        engine = SimpleNamespace(traits=SimpleNamespace(immediate=self.immediate))
        return (
            SimpleNamespace(name="app", tokens=self.tokens),
            SimpleNamespace(name="service", engine=engine),
        )

    def run(
        self,
        app: SimpleNamespace,
        service: SimpleNamespace,
        *,
        ready: Callable[[str], None],
        **arguments: Any,
    ) -> int:
        assert self.collector_is_tuned or not self.immediate
        assert arguments.pop("limits") == ConnectionLimits()
        self.calls.append({"app": app.name, "service": service.name, **arguments})
        ready(f"http://{arguments['bind']}:{arguments['port']}" if arguments["port"] else "")
        if self.run_error:
            raise self.run_error
        return self.exit_code


def log_of(capfd: pytest.CaptureFixture[str]) -> str:
    """What has been logged since the last look."""
    for handler in logging.getLogger().handlers:
        handler.flush()
    return capfd.readouterr().err


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, environment: None) -> Server:
    return Server(monkeypatch)


def test_version() -> None:
    done = ratus("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"ratus {__version__}\n", "")


@pytest.mark.parametrize("argv", [["--help"], ["-h"], ["serve", "--help"], ["--port", "junk", "--help"]])
def test_help(argv: list[str]) -> None:
    done = ratus(*argv)
    assert (done.returncode, done.stderr) == (0, "")
    assert "curl -X POST" in done.stdout


@pytest.mark.usefixtures("environment")
def test_every_option_is_in_the_help_with_its_variable_and_default() -> None:
    text = re.sub(r"\s+", " ", cli.help_text(ENGINES))
    for group in config.groups(ENGINES.plugins.values()):
        assert f"{group.title}:" in text
        for option in group.options:
            assert re.search(rf"{option.flag} \[?{re.escape(option.metavar)}", text)
            assert option.help in text
            assert f"[{option.environment}; default {option.default_text or 'none'}]" in text


def test_help_loads_nothing_that_only_serving_needs() -> None:
    code = """
import sys
from ratus import cli
cli.main(["--help"])
heavy = ["asyncio", "starlette", "uvicorn", "uvloop", "pydantic", "prometheus_client", "pymongo", "sqlite3"]
sys.exit(" ".join(name for name in heavy if name in sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'engines'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.strip() == ""


def help_into(stdout: int) -> tuple[int, bytes]:
    done = subprocess.run(
        [sys.executable, "-m", "ratus", "--help"],
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'engines'}"},
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
    )
    return done.returncode, done.stderr


def test_a_reader_that_has_seen_enough_of_the_help_is_no_failure() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    assert help_into(writer) == (0, b"")
    os.close(writer)


def test_a_help_that_cannot_be_written_is_a_failure() -> None:
    with open("/dev/full", "wb") as full:
        assert help_into(full.fileno()) == (1, b"")


@pytest.mark.parametrize(
    ("argv", "environ", "line"),
    [
        (["--prt=1"], {}, 'ratus: unknown flag "--prt", did you mean --port? (see ratus --help)'),
        (
            ["serv"],
            {},
            'ratus: unknown command "serv": the commands are serve, backup, worker, push, poll, commit, '
            "tasks, topics, watch, schedules, values (see ratus --help)",
        ),
        (
            ["--port=70000"],
            {},
            "ratus: --port: 70000 is out of bounds: it must be at least 0 and at most 65535 "
            "(see ratus --help)",
        ),
        (
            [],
            {"PORT": "http"},
            'ratus: environment variable PORT: "http" is not a whole number (see ratus --help)',
        ),
        (
            ["--auth-tokens-file=/nowhere"],
            {},
            'ratus: --auth-tokens-file: cannot read "/nowhere": No such file or directory (see ratus --help)',
        ),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(argv: list[str], environ: dict[str, str], line: str) -> None:
    done = ratus(*argv, **environ)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == line + "\n"


def test_an_unknown_engine_is_one_line_that_names_the_engines() -> None:
    done = ratus(ENGINE="redis")
    assert done.returncode == 2
    assert re.fullmatch(
        r'ratus: environment variable ENGINE: unknown engine "redis": the engines here are .*\bmemdb\b.*\n',
        done.stderr,
    )


def test_an_engine_that_cannot_be_imported_is_one_warning_and_help_still_works(tmp_path: Path) -> None:
    (tmp_path / "flatfile.py").write_text("import a_driver_that_is_not_there")
    info = tmp_path / "flatfile-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: flatfile\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ratus.engines]\nflatfile = flatfile:plugin\n")
    done = ratus("--help", path=str(tmp_path))
    assert done.returncode == 0
    assert "--memdb-" in done.stdout
    assert re.fullmatch(
        r"ratus: warning: engine flatfile cannot be used: .*a_driver_that_is_not_there.*\n", done.stderr
    )
    chosen = ratus("--engine=flatfile", path=str(tmp_path))
    assert chosen.returncode == 2
    assert re.fullmatch(r"ratus: --engine: engine flatfile cannot be used: .*\n", chosen.stderr)


@pytest.mark.parametrize("argv", [[], ["serve"]])
def test_it_serves_with_the_settings(
    argv: list[str], server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = ["--bind=127.0.0.1", "--port=8000", "--shutdown-delay=1.5s", "--shutdown-timeout=20s"]
    assert cli.main([*argv, *flags]) == 0
    assert server.calls == [
        {
            "app": "app",
            "service": "service",
            "bind": "127.0.0.1",
            "port": 8000,
            "tls_certfile": None,
            "tls_keyfile": None,
            "shutdown_delay_seconds": 1.5,
            "shutdown_timeout_seconds": 20.0,
        }
    ]
    err = log_of(capfd)
    assert err.endswith(f"INFO    serving on http://127.0.0.1:8000 (engine memdb, version {__version__})\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize("immediate", [True, False])
def test_collections_are_kept_short_where_the_engine_has_its_tasks_in_memory(
    server: Server, immediate: bool
) -> None:
    server.immediate = immediate
    assert cli.main([]) == 0
    assert server.collector_is_tuned == immediate


def test_tls_files_are_handed_on(server: Server) -> None:
    assert cli.main([f"--tls-certfile={__file__}", f"--tls-keyfile={__file__}"]) == 0
    assert (server.calls[0]["tls_certfile"], server.calls[0]["tls_keyfile"]) == (__file__, __file__)


def test_an_instance_without_an_api_says_so(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--port=0"]) == 0
    assert f"doing chores only, no API (engine memdb, version {__version__})\n" in log_of(capfd)


def test_the_exit_code_is_that_of_the_server(server: Server) -> None:
    server.exit_code = 143
    assert cli.main([]) == 143


@pytest.mark.parametrize(
    "error",
    [
        MissingDriver("mongodb", driver="pymongo", install="pip install 'ratus-queue[mongodb]'"),
        UnknownEngine("redis", ["memdb"]),
        ValueError("--auth-tokens: a token has\nan unknown scope"),
        PermissionError(13, "Permission denied", "tokens"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_building_refuses_is_one_line_and_exit_code_2(
    error: Exception, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    server.build_error = error
    assert cli.main([]) == 2
    (line,) = log_of(capfd).splitlines()
    assert f"ERROR   {str(error).replace(chr(10), chr(92) + 'n')}" in line
    assert server.calls == []


def test_what_cannot_start_is_one_line_and_exit_code_1(
    server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    server.build_error = StartupError("ratus.snapshot is damaged")
    assert cli.main([]) == 1
    (line,) = log_of(capfd).splitlines()
    assert line.endswith("ERROR   ratus.snapshot is damaged")


def test_a_defect_is_logged_with_its_traceback_and_exit_code_1(
    server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    server.run_error = ValueError("a defect")
    assert cli.main(["--log-format=json"]) == 1
    line = json.loads(log_of(capfd).splitlines()[-1])
    assert line["level"] == "critical"
    assert "ValueError: a defect" in line["exception"]


@pytest.mark.parametrize(
    ("bind", "tokens", "warned"),
    [
        ("0.0.0.0", (), True),
        ("::", (), True),
        ("192.0.2.1", (), True),
        ("queue.example", (), True),
        ("127.0.0.1", (), False),
        ("127.1.2.3", (), False),
        ("::1", (), False),
        ("localhost", (), False),
        ("0.0.0.0", ("secret",), False),
    ],
)
def test_an_open_door_is_one_line_that_says_what_to_do(
    bind: str, tokens: tuple[str, ...], warned: bool, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    server.tokens = tokens
    assert cli.main(["--bind", bind, "--port", "8000"]) == 0
    warnings = [line for line in log_of(capfd).splitlines() if " WARNING " in line]
    assert len(warnings) == warned
    if warned:
        assert f"there are no tokens: every program that can reach http://{bind}:8000 may" in warnings[0]
        assert "--auth-tokens-file" in warnings[0]
        assert "--bind 127.0.0.1" in warnings[0]


def test_an_interrupt_while_starting_ends_quietly(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    server.build_error = KeyboardInterrupt()
    assert cli.main([]) == 130
    assert log_of(capfd) == ""


def test_debug_shows_the_settings_without_secrets(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--log-level=debug", "--log-format=json", "--auth-tokens=hunter2", "--port=8000"]) == 0
    err = log_of(capfd)
    assert "hunter2" not in err
    settings = next(line for line in map(json.loads, err.splitlines()) if line["message"] == "settings")
    assert (settings["port"], settings["auth-tokens"]) == ("8000", "***")


def test_an_engine_that_cannot_be_used_is_a_warning_in_the_log(
    server: Server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(config, "catalogue", lambda: BROKEN)
    assert cli.main(["--log-format=json"]) == 0
    first = json.loads(log_of(capfd).splitlines()[0])
    assert (first["level"], first["message"]) == ("warning", "engine broken cannot be used: it is broken")


def test_a_closed_standard_error_does_not_send_errors_to_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], environment: None
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert cli.main(["--prt=1"]) == 2
    assert capsys.readouterr().out == ""
