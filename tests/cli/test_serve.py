"""`refgc serve`, and pages of engines that are served: what is told where it cannot be done."""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path

import pytest

from refgc.serve.start import address_of
from tests.support.command import assert_one_sentence, run_inside
from tests.support.running import free_port


@pytest.mark.parametrize("module", ["ray", "ray.serve"])
def test_without_ray_serve_one_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # as where it is not installed
    done = run_inside("serve", "--port", str(free_port()))
    assert_one_sentence(done, 1, "refgc serve needs Ray Serve: pip install '.[ray]' in the project's folder.")


def test_a_port_that_is_taken_is_told_at_once() -> None:
    pytest.importorskip("ray.serve", exc_type=ImportError)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run_inside("serve", "--engine", "correspondence", "--port", str(port))
    assert_one_sentence(done, 2, f"Port {port} of 127.0.0.1 is taken or not ours; give another --port or --host.")


@pytest.mark.parametrize(
    ("host", "address"),
    [("0.0.0.0", "http://127.0.0.1:8000"), ("::1", "http://[::1]:8000"), ("10.0.0.5", "http://10.0.0.5:8000")],
)
def test_the_address_that_is_told_is_one(host: str, address: str) -> None:
    assert address_of(host, 8000) == address


def test_less_replicas_at_most_than_at_least_are_refused() -> None:
    done = run_inside("serve", "--replicas", "3", "--max-replicas", "2")
    assert_one_sentence(done, 2, "There may be 2 replicas at most and 3 at least")


def test_a_cluster_that_is_not_there_is_told_at_once() -> None:
    pytest.importorskip("ray.serve", exc_type=ImportError)
    done = run_inside(
        "serve", "--engine", "correspondence", "--port", str(free_port()), RAY_ADDRESS=f"127.0.0.1:{free_port()}"
    )
    assert_one_sentence(done, 1, "Nobody listens at RAY_ADDRESS")


def test_an_end_while_ray_starts_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray has a handler of its own meanwhile, which says nothing."""
    ray = pytest.importorskip("ray")

    def init(**_: object) -> None:
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    done = run_inside("serve", "--engine", "correspondence", "--port", str(free_port()))
    assert (done.returncode, done.stderr) == (143, "Terminated; every file that was written is whole.\n")


def test_a_page_whose_engines_are_nowhere_does_not_start(tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    done = run_inside("page", REFGC_SERVE=address, GRADIO_TEMP_DIR=str(tmp_path))
    assert_one_sentence(done, 1, f"Nobody answers at REFGC_SERVE, '{address}'")
    assert "start `refgc serve` there, or correct the address" in done.stderr
    done = run_inside("page", REFGC_SERVE="10.0.0.5:8000", GRADIO_TEMP_DIR=str(tmp_path))
    assert_one_sentence(done, 2, "set it to an address such as http://10.0.0.5:8000")
