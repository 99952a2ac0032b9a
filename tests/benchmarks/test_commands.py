"""The commands that people type: they list, refuse, measure, and end everything when they are interrupted."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks import page, processes, results
from benchmarks.__main__ import _measure, main
from benchmarks.benchmark import Benchmark, Scale, Tables, Unavailable
from benchmarks.suite import BENCHMARKS
from tests.benchmarks.needs import need

PATIENCE = 60.0


def test_the_list_has_every_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    listed = capsys.readouterr().out
    assert all(f"\n{benchmark.name}\n" in f"\n{listed}" for benchmark in BENCHMARKS)


def test_an_unknown_name_is_refused_with_those_that_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["http-rate"])
    assert ended.value.code == 2
    assert "there is no http-rate, only http-rates, " in capsys.readouterr().err


@pytest.mark.parametrize(
    "module", ["benchmarks", "benchmarks.guard", "benchmarks.page", "benchmarks.end_to_end.throughput"]
)
def test_every_command_explains_itself(module: str) -> None:
    assert "usage:" in processes.run([sys.executable, "-m", module, "--help"])


def benchmark(name: str, tables: Tables | Exception) -> Benchmark:
    """A benchmark that finds this, or fails."""

    def measure(scale: Scale) -> Tables:
        if isinstance(tables, Exception):
            raise tables
        return tables

    return Benchmark(name, "Is it?", measure, {Scale.QUICK: 1})


def test_what_fails_does_not_keep_the_others_from_being_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = [
        benchmark("broken", RuntimeError("it broke")),
        benchmark("absent", Unavailable("wrk is needed: apt-get install wrk")),
        benchmark("good", {"good": [{"n": 1}]}),
    ]
    tables, failures = _measure(chosen, Scale.QUICK, {}, tmp_path)
    assert tables == {"good": [{"n": 1}]}
    assert failures == [
        "broken failed: it broke",
        "absent was not measured: wrk is needed: apt-get install wrk",
    ]
    assert results.load(tmp_path) == {"good": [{"n": 1}]}
    assert "## good" in capsys.readouterr().out


def children(pid: int) -> set[int]:
    """All descendants of a process."""
    found: set[int] = set()
    left = [pid]
    while left:
        with contextlib.suppress(OSError):
            for path in Path(f"/proc/{left.pop()}/task").glob("*/children"):
                new = set(map(int, path.read_text().split()))
                found |= new
                left += new
    return found


def is_running(pid: int) -> bool:
    """Whether the process is there and not only waiting to be buried."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    return False


def eventually(condition: object, what: str) -> None:
    """Return once it holds."""
    deadline = time.monotonic() + PATIENCE
    assert callable(condition)
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_ends_all_its_processes(number: signal.Signals) -> None:
    need("cc")
    command = [sys.executable, "-m", "benchmarks", "http-metrics"]
    run = subprocess.Popen(
        command, env=processes.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        # The server, and the generator beside it.
        eventually(lambda: len(children(run.pid)) >= 2, "the benchmark's processes")
        started = children(run.pid)
        run.send_signal(number)
        run.wait(PATIENCE)
        eventually(lambda: not any(map(is_running, started)), "the end of the benchmark's processes")
        assert run.returncode != 0
    finally:
        run.kill()
        run.wait()


def test_a_command_that_fails_is_shown_with_its_last_words() -> None:
    with pytest.raises(RuntimeError, match="ended with 3:\nlast words"):
        processes.run(["sh", "-c", "echo last words >&2; exit 3"])


def test_a_server_that_does_not_start_is_shown_with_its_last_words() -> None:
    with (
        pytest.raises(RuntimeError, match="did not start:\nno, thanks"),
        processes.running(["sh", "-c", "echo no, thanks"], lambda: False),
    ):
        pass


def test_cores_are_kept_awake_where_the_system_lets_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "cpu_dma_latency"
    monkeypatch.setattr(processes, "CPU_LATENCY", device)
    with processes.awake() as held:
        assert not held
    device.touch()
    with processes.awake() as held:
        assert held
        assert device.read_bytes() == bytes(4)


def test_a_process_that_does_not_want_to_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.1)
    process = processes.start(["sh", "-c", "trap '' TERM; sleep 60 & wait; sleep 60"])
    eventually(lambda: children(process.pid), "its child")
    started = children(process.pid)
    processes.stop(process)
    assert process.returncode == -signal.SIGKILL
    eventually(lambda: not any(map(is_running, started)), "the end of its child")


def commands(arguments: Sequence[str]) -> int:
    """Run the page's command; its exit code."""
    return page.main(list(arguments))


def test_the_page_says_what_the_files_say() -> None:
    assert commands(["--check"]) == 0, "run python -m benchmarks.page"


def test_the_page_shows_every_table_and_plot() -> None:
    from benchmarks.plots import PLOTS

    text = page.PAGE.read_text(encoding="utf-8")
    shown = {name for _, name, _ in page.BLOCK.findall(text)}
    assert shown == set(page.VIEWS)
    for name in PLOTS:
        assert f"](performance/{name}.svg)" in text
        assert (page.REFERENCE / f"{name}.svg").exists()


def test_a_block_that_nobody_can_write_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no figures are called nothing"):
        page.fill("<!-- figures: nothing -->\n<!-- end -->", tmp_path)


def test_a_run_is_taken_over_into_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("matplotlib")
    measured, reference, document = tmp_path / "results", tmp_path / "reference", tmp_path / "page.md"
    results.save(measured, {"batches": [{"client": "httpx", "one us": 1.5}]}, Scale.FULL, {"memory": "25 GB"})
    document.write_text("# Page\n\n<!-- figures: batches -->\nold\n<!-- end -->\n")
    monkeypatch.setattr(page, "REFERENCE", reference)
    monkeypatch.setattr(page, "PAGE", document)
    monkeypatch.setattr(page, "ROOT", tmp_path)
    assert commands(["--check"]) == 1
    assert commands([str(measured)]) == 0
    assert "| httpx  |   1.50 |" in document.read_text()
    assert "old" not in document.read_text()
    assert results.load(reference) == results.load(measured)
    assert commands(["--check"]) == 0
