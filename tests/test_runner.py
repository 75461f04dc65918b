"""The runner: every item once, whatever happens to the workers."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from refgc.errors import EngineError, InputError
from refgc.runner import RETRIES, Finished, RunnerName, WorkerEndedError, run

REPOSITORY = Path(__file__).resolve().parents[1]


class Square:
    """Squares numbers, ends itself at some of them, and leaves a note of each time it was built."""

    def __init__(self, notes: Path, *, ends_once_at: int | None = None, ends_always_at: int | None = None) -> None:
        (notes / f"built-{os.getpid()}").touch()
        self._notes, self._once, self._always = notes, ends_once_at, ends_always_at

    def __call__(self, number: int) -> int:
        if number == self._always:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == self._once:
            try:
                (self._notes / "ended").touch(exist_ok=False)
            except FileExistsError:
                return number**2
            os.kill(os.getpid(), signal.SIGKILL)
        if number < 0:
            raise InputError(f"{number} is negative.")
        if number == 99:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/some/disk")
        if number == 98:
            raise ZeroDivisionError("98")
        return number**2


def cannot_be_built() -> Square:
    raise EngineError("There are no weights here.")


def ends_when_built() -> Square:
    os._exit(7)


class Wait:
    """Waits for a command that takes longer than any test, and tells both processes before."""

    def __call__(self, place: Path) -> None:
        told = f"echo {os.getpid()} $$ > {place}/draft; mv {place}/draft {place}/begun; exec sleep 600"
        subprocess.run(["sh", "-c", told], check=False)


def outcomes(finished: list[Finished[int, int]]) -> dict[int, int | None]:
    assert len({one.item for one in finished}) == len(finished), "an item was given twice"
    return {one.item: one.outcome for one in finished}


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until(happened, seconds: float = 60) -> None:
    for _ in range(int(seconds / 0.05)):
        if happened():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen")


def test_errors_belong_to_their_item_and_a_killed_worker_loses_nothing(tmp_path):
    numbers = [*range(12), -1, 99, 98]
    finished = list(run(partial(Square, tmp_path, ends_once_at=5), numbers, workers=1))
    found = outcomes(finished)
    assert found == {number: number**2 if 0 <= number < 98 else None for number in numbers}
    errors = {one.item: one.error for one in finished if one.error is not None}
    assert set(errors) == {-1, 98, 99}
    assert type(errors[-1]) is InputError
    assert str(errors[-1]) == "-1 is negative."
    assert isinstance(errors[99], OSError)
    assert (errors[99].errno, errors[99].filename) == (errno.ENOSPC, "/some/disk")
    assert type(errors[98]) is EngineError
    assert "ZeroDivisionError" in str(errors[98])
    assert "test_runner.py" in "".join(errors[98].__notes__), "a traceback for --debug"
    assert (tmp_path / "ended").exists()
    assert len(list(tmp_path.glob("built-*"))) == 2, "built once a worker, and once more after its end"


def test_an_item_that_ends_every_worker_is_an_error_and_the_run_goes_on(tmp_path):
    finished = list(run(partial(Square, tmp_path, ends_always_at=1), range(4), workers=1))
    assert outcomes(finished) == {0: 0, 1: None, 2: 4, 3: 9}
    (error,) = [one.error for one in finished if one.error is not None]
    assert isinstance(error, WorkerEndedError)
    assert "ended 3 times at this item (killed by SIGKILL)" in str(error)
    assert len(list(tmp_path.glob("built-*"))) == 1 + (RETRIES + 1)


def test_items_are_read_no_further_ahead_than_there_are_workers(tmp_path):
    taken: list[int] = []

    def numbers():
        for number in count():
            taken.append(number)
            yield number

    with closing(run(partial(Square, tmp_path), numbers(), workers=1)) as finished:
        for expected in range(3):
            one = next(finished)
            assert one.item == expected
            assert len(taken) == expected + 1


def test_what_cannot_be_built_ends_the_run(tmp_path):
    with pytest.raises(EngineError, match="There are no weights here"):
        list(run(cannot_be_built, range(3), workers=1))
    with pytest.raises(EngineError, match=r"end before they can begin \(exit status 7\)"):
        list(run(ends_when_built, range(3), workers=1))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"workers": 0}, "number of workers is 0; choose 1 or more"),
        ({"gpus_per_worker": -1}, "choose 0 or more"),
        ({"runner": "slurm"}, "no runner called 'slurm'; use local or ray"),
    ],
)
def test_bad_options_are_refused(tmp_path, options, sentence):
    with pytest.raises(InputError, match=sentence):
        list(run(partial(Square, tmp_path), range(3), **options))


def test_too_few_gpus_are_told_before_anything_begins(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4")
    with pytest.raises(EngineError, match="2 workers with 1 GPUs each need 2, and 1 are here"):
        list(run(partial(Square, tmp_path), range(3), workers=2, gpus_per_worker=1))


class Gpus:
    """Tells which GPUs its worker may see."""

    def __call__(self, _: int) -> str:
        time.sleep(1)
        return os.environ["CUDA_VISIBLE_DEVICES"]


@pytest.mark.slow
def test_each_worker_has_gpus_of_its_own(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert {one.outcome for one in run(Gpus, range(4), gpus_per_worker=2)} == {"4,5", "6,7"}


def test_the_end_of_the_run_ends_a_worker_and_its_command_in_the_middle_of_an_item(tmp_path):
    # Where the tests run in the background of a shell, SIGINT is ignored, and so it would be in this script.
    script = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import sys; from pathlib import Path; from refgc.runner import run; from tests.test_runner import Wait\n"
        "if __name__ == '__main__': list(run(Wait, [Path(sys.argv[1])], workers=1))"
    )
    (tmp_path / "run.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    for number in (signal.SIGINT, signal.SIGKILL):
        (tmp_path / "begun").unlink(missing_ok=True)
        command = [sys.executable, str(tmp_path / "run.py"), str(tmp_path)]
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        wait_until((tmp_path / "begun").exists)
        begun = [int(word) for word in (tmp_path / "begun").read_text().split()]
        assert all(map(is_alive, begun))
        process.send_signal(number)
        process.communicate(timeout=90)
        wait_until(lambda both=begun: not any(map(is_alive, both)), 30)


class SlowSquare(Square):
    """Leaves time for somebody to kill it."""

    def __call__(self, number: int) -> int:
        (self._notes / f"worker-{os.getpid()}").touch()
        time.sleep(0.2)
        return super().__call__(number)


@pytest.mark.slow
def test_ray_gives_the_same_as_local_though_a_worker_is_killed(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        numbers = [*range(60), -1]
        notes: dict[RunnerName, Path] = {"local": tmp_path / "local", "ray": tmp_path / "ray"}
        found: dict[str, dict[int, int | None]] = {}
        for name, folder in notes.items():
            folder.mkdir()
            finished, killed = [], False
            for one in run(partial(SlowSquare, folder), numbers, runner=name, workers=2):
                finished.append(one)
                workers = sorted(folder.glob("worker-*"))
                # On a busy machine the second one comes late.
                if len(workers) == 2 and not killed:
                    os.kill(int(workers[0].name.partition("-")[2]), signal.SIGKILL)
                    killed = True
            assert killed
            found[name] = outcomes(finished)
            assert len(list(folder.glob("built-*"))) == 3, "one was killed and replaced"
            assert [str(one.error) for one in finished if one.error is not None] == ["-1 is negative."]
        assert found["local"] == found["ray"] == {number: number**2 if number >= 0 else None for number in numbers}
        with pytest.raises(EngineError, match="1 workers with 1 GPUs each need 1, and 0 are here"):
            list(run(partial(Square, tmp_path), range(3), runner="ray", gpus_per_worker=1))
        ended = list(run(partial(Square, tmp_path, ends_always_at=1), range(4), runner="ray", workers=1))
        assert outcomes(ended) == {0: 0, 1: None, 2: 4, 3: 9}
        assert any(isinstance(one.error, WorkerEndedError) for one in ended)
        with pytest.raises(EngineError, match="There are no weights here"):
            list(run(cannot_be_built, range(3), runner="ray", workers=1))
    finally:
        ray.shutdown()


@pytest.mark.slow
def test_a_ray_of_its_own_is_ended_and_leaves_signals_as_they_were(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = signal.getsignal(signal.SIGTERM)
    finished = run(partial(Square, tmp_path), range(3), runner="ray", workers=1)
    assert next(finished).outcome == 0
    assert signal.getsignal(signal.SIGTERM) == before, "the command's own handler ends the work"
    assert outcomes(list(finished)) == {1: 1, 2: 4}
    assert not ray.is_initialized()


def test_a_cluster_that_is_not_there_is_told_at_once(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    with pytest.raises(EngineError, match="Nobody listens at RAY_ADDRESS"):
        list(run(partial(Square, tmp_path), range(3), runner="ray"))


def test_without_ray_one_sentence_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # as where it is not installed
    with pytest.raises(EngineError, match=r"The runner ray needs Ray: pip install '.\[ray\]'"):
        list(run(partial(Square, tmp_path), range(3), runner="ray"))
