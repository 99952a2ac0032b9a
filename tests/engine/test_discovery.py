"""Engines are found by name; one that cannot be used harms no other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ratus.core.options import Option
from ratus.engine import discovery
from ratus.engine.discovery import Catalogue, MissingDriver, Plugin, UnknownEngine, UnusablePlugin
from ratus.runtime import config

Install = Callable[..., None]


def create(values: Mapping[str, Any]) -> Any:
    raise AssertionError("finding an engine does not create it")


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a distribution with one module and one entry point where Python finds it."""

    def install(engine: str, source: str, target: str | None = None) -> None:
        module = f"thirdparty_{tmp_path.name.replace('-', '_')}_{engine.replace('-', '_')}"
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            f"[ratus.engines]\n{engine} = {target or module + ':plugin'}\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))

    return install


def plugin_source(name: str, *options: str) -> str:
    listed = "".join(f"Option({option!r}, 'text', '', 'help')," for option in options)
    return f"""
from ratus.engine.discovery import Option, Plugin
plugin = Plugin({name!r}, "a test", ({listed}), lambda values: None)
"""


def problem_of(engine: str) -> str:
    """The one line that says why this engine cannot be used, the same from both ways to load it."""
    found = config.catalogue()
    assert engine not in found.plugins
    with pytest.raises(UnusablePlugin) as caught:
        discovery.load(engine)
    text = str(found.problems[engine])
    assert text == str(caught.value)
    assert "\n" not in text
    return text


def test_the_built_in_engines_are_found_and_can_be_used() -> None:
    assert "memdb" in discovery.discover()
    found = config.catalogue()
    assert not {name: str(problem) for name, problem in found.problems.items()}
    assert found.get("memdb") == discovery.load("memdb")


def test_an_unknown_engine_names_the_engines_there_are() -> None:
    with pytest.raises(
        UnknownEngine, match=r'^unknown engine "red\\nis": the engines here are .*memdb'
    ) as caught:
        discovery.load("red\nis")
    assert "\n" not in str(caught.value)
    with pytest.raises(UnknownEngine, match=r'^unknown engine "redis": the engines here are a, b$'):
        Catalogue({"b": Plugin("b", "", (), create), "a": Plugin("a", "", (), create)}).get("redis")


def test_an_engine_of_another_distribution_is_found(install: Install) -> None:
    install("flatfile", plugin_source("flatfile", "flatfile-path"))
    found = config.catalogue()
    assert [option.name for option in found.get("flatfile").options] == ["flatfile-path"]
    assert discovery.load("flatfile") == found.get("flatfile")
    settings = config.parse(
        ["--engine=flatfile", "--flatfile-path=here", "--flatfile-retention-period=1s"], {}, found
    )
    assert settings.engine_options == {"flatfile-path": "here", "retention-period": 1_000_000}


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise RuntimeError('first line\\nsecond line')", "RuntimeError: first line second line"),
        ("import a_driver_that_is_not_there", "ModuleNotFoundError"),
        ("import sys; sys.exit(3)", "SystemExit"),
        ("this is no Python", "SyntaxError"),
        ("nothing = 1", "AttributeError"),
        ("plugin = 'text'", "is str, not a ratus.engine.discovery.Plugin"),
        (plugin_source("other"), '"other"'),
        (plugin_source("flatfile", "path"), "its option path must begin with flatfile-"),
        (plugin_source("flatfile", "memdb-path"), "its option memdb-path must begin with flatfile-"),
        (plugin_source("flatfile", "flatfile"), "its option flatfile must begin with flatfile-"),
        (plugin_source("flatfile", "flatfile-a", "flatfile-a"), "its option flatfile-a is there twice"),
        (
            plugin_source("flatfile", "flatfile-retention-period"),
            "its option flatfile-retention-period is there twice",
        ),
        (plugin_source("flatfile", "flatfile_path"), "lower-case words joined by hyphens"),
    ],
)
def test_an_engine_that_cannot_be_used_is_named_and_harms_no_other(
    install: Install, source: str, reason: str
) -> None:
    before = config.catalogue().plugins
    install("flatfile", source)
    assert reason in problem_of("flatfile")
    assert "flatfile" in problem_of("flatfile")
    assert config.catalogue().plugins == before


def test_the_name_of_an_engine_is_lower_case_words(install: Install) -> None:
    install("Flat_File", plugin_source("Flat_File", "Flat_File-path".lower().replace("_", "-")))
    assert "lower-case words joined by hyphens" in problem_of("Flat_File")


def test_an_engine_cannot_take_an_option_of_the_server(install: Install) -> None:
    install("auth", plugin_source("auth", "auth-tokens"))
    problem = str(config.catalogue().problems["auth"])
    assert "its option auth-tokens already belongs to the server or another engine" in problem


def test_an_engine_cannot_take_an_option_of_another_engine(install: Install) -> None:
    install("flat", plugin_source("flat", "flat-file-path"))
    install("flat-file", plugin_source("flat-file", "flat-file-path"))
    found = config.catalogue()
    assert "flat" in found.plugins
    problem = str(found.problems["flat-file"])
    assert "its option flat-file-path already belongs to the server or another engine" in problem


def test_nobody_can_take_the_name_of_a_built_in_engine(install: Install) -> None:
    before = discovery.discover()["memdb"].value
    install("memdb", plugin_source("memdb"))
    assert discovery.discover()["memdb"].value == before


def test_a_missing_driver_is_one_line_with_the_command_to_run() -> None:
    problem = MissingDriver("mongodb", driver="pymongo", install="pip install 'ratus-queue[mongodb]'")
    assert str(problem) == (
        "engine mongodb needs pymongo, which is not installed: run pip install 'ratus-queue[mongodb]'"
    )


def test_option_can_be_had_from_here() -> None:
    assert discovery.Option is Option


def test_looking_for_engines_imports_none() -> None:
    code = (
        "import sys; from ratus.engine import discovery; discovery.discover();"
        "sys.exit(any(name.startswith('ratus_engines') for name in sys.modules))"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": f"{root}:{root / 'engines'}"})
