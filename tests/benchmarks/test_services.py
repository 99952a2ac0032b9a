"""Servers that others need are started empty, answer, and are gone afterwards."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from benchmarks import services
from benchmarks.benchmark import Unavailable
from benchmarks.processes import listens
from tests.benchmarks.needs import need


def test_redis_keeps_nothing_on_disk(tmp_path: Path) -> None:
    need("redis-server")
    with services.redis(tmp_path) as port:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"SET a 1\r\nCONFIG GET appendonly\r\nCONFIG GET save\r\n")
            answer = b""
            while answer.count(b"\r\n") < 11:
                answer += client.recv(1000)
        assert answer.startswith(b"+OK\r\n")
        assert b"no" in answer
    assert not listens(port)
    assert list(tmp_path.iterdir()) == []


def test_postgresql_runs_as_whoever_may() -> None:
    need("postgresql", "setpriv")
    with services.postgresql() as port:
        assert listens(port)
    assert not listens(port)


def test_mongodb_is_a_replica_set_with_its_data_in_the_folder(tmp_path: Path) -> None:
    need("mongod")
    with services.mongodb(tmp_path) as uri:
        assert "replicaSet=ratus" in uri
        (data,) = tmp_path.iterdir()
        assert (data / "WiredTiger").exists()
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="apt-get install redis-server"), services.redis(tmp_path):
        pass


def test_an_engine_that_cannot_be_measured_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        services, "missing", lambda engine: "there is no mongod" if engine == "mongodb" else ""
    )
    assert list(services.available(services.ENGINES)) == ["memdb", "sqlite"]
    assert "mongodb is left out: there is no mongod" in capsys.readouterr().err
