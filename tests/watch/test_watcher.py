"""Watching, one look after the other, with the engine that needs no weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from PIL import Image as PILImage

from refgc.batch import Defaults, Folders
from refgc.correspondence.engine import CorrespondenceEngine
from refgc.engine import Progress, RefineResult, Viewer, no_progress
from refgc.errors import InputError
from refgc.request import RefineRequest
from refgc.watch.watcher import Watched, Watcher, alone_in, check_watched, watch
from tests.support.synthetic import make_synthetic_pair

PLAIN = Defaults(scale=1, strength=0.0)


@dataclass
class Engine(CorrespondenceEngine):
    """The engine; counts how often it is opened, and calls something in the middle of each refinement."""

    opened: list[bool] = field(default_factory=list)
    meanwhile: Callable[[], object] = lambda: None

    def __call__(self) -> Engine:
        self.opened.append(True)
        return self

    def refine(
        self, request: RefineRequest, progress: Progress = no_progress, viewer: Viewer | None = None
    ) -> RefineResult:
        self.meanwhile()
        return super().refine(request, progress, viewer)


@dataclass
class Scene:
    """A watched folder in which nothing is yet.

    Attributes:
        folder: the watched folder.
        output: of the results.
        reference: a photo outside of both.
        engine: that refines.
        before_each: called before a picture is opened.
        told: what was told, lines on results and refusals.
    """

    folder: Path
    output: Path
    reference: Path
    engine: Engine = field(default_factory=Engine)
    before_each: Callable[[], object] = lambda: None
    told: list[str] = field(default_factory=list)

    @property
    def watched(self) -> Watched:
        return Watched(self.folder, Folders(self.output), ".png", (self.reference,))

    def watcher(self, *, overwrite: bool = False) -> Watcher:
        """As after a start of the command."""
        return Watcher(
            self.watched, PLAIN, self.engine, overwrite=overwrite, begin=self.begin, finished=self.told.append,
            refused=lambda label, reason: self.told.append(f"{label}: {reason}"),
        )  # fmt: skip

    @contextmanager
    def begin(self) -> Iterator[Progress]:
        self.before_each()
        yield no_progress

    def put(self, name: str, colour: str = "grey") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        PILImage.new("RGB", (32, 32), colour).save(path)
        return path

    def results(self) -> list[str]:
        return sorted(
            str(path.relative_to(self.output)) for path in self.output.rglob("*") if not path.name.startswith(".")
        )


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    output.mkdir()
    PILImage.fromarray(make_synthetic_pair(reference_side=256, generated_side=64).reference).save(
        tmp_path / "photo.png"
    )
    return Scene(folder, output, tmp_path / "photo.png")


def look(watcher: Watcher, times: int = 2) -> None:
    for _ in range(times):
        watcher.look()


def test_a_picture_is_refined_once_and_again_when_it_has_changed(scene: Scene) -> None:
    watcher = scene.watcher()
    scene.put("a.png")
    assert watcher.look() == [Path("a.png")]
    assert scene.results() == []
    assert watcher.look() == []
    assert scene.results() == ["a.png"]
    look(watcher, 3)
    assert watcher.outcome.done == 1
    scene.put("a.png", "red")
    look(watcher, 3)
    assert watcher.outcome.done == 2
    with PILImage.open(scene.output / "a.png") as refined:
        assert refined.getpixel((16, 16)) == (255, 0, 0)
    scene.put("sub/b.png")
    look(watcher)
    assert (scene.results(), len(scene.engine.opened)) == (["a.png", "sub", "sub/b.png"], 1)


def test_a_restart_goes_on_where_it_was(scene: Scene) -> None:
    scene.put("a.png")
    broken = scene.folder / "broken.png"
    broken.write_bytes(b"no picture")
    look(scene.watcher())
    assert len(scene.told) == 2
    # A result that was taken away is not missed: it may have been moved on.
    (scene.output / "a.png").unlink()
    scene.put("b.png")
    again = scene.watcher()
    look(again, 3)
    assert (again.outcome.done, again.outcome.skipped, len(again.outcome.bad)) == (1, 1, 1)
    assert len(scene.told) == 3
    assert scene.results() == ["b.png"]
    scene.put("a.png", "blue")
    changed = scene.watcher()
    look(changed)
    assert (changed.outcome.done, scene.results()) == (1, ["a.png", "b.png"])
    everything = scene.watcher(overwrite=True)
    look(everything, 3)
    assert (everything.outcome.done, len(everything.outcome.bad)) == (2, 1)


def test_what_is_no_picture_gives_one_sentence_until_it_changes(scene: Scene) -> None:
    path = scene.folder / "a.png"
    path.write_bytes(b"no picture")
    scene.put("b.png")
    watcher = scene.watcher()
    look(watcher, 4)
    assert len(scene.told) == 2
    assert scene.told[0].startswith(f"{path}: The generated picture 'a.png' is not a picture that can be read")
    scene.put("a.png")
    look(watcher)
    assert (scene.results(), watcher.outcome.bad) == (["a.png", "b.png"], [])


def test_a_result_that_was_there_before_is_not_made_again(scene: Scene) -> None:
    """As when the process ended between a result and its row, or where `refine --pairs` worked before."""
    scene.put("a.png")
    (scene.output / "a.png").write_bytes(b"earlier")
    watcher = scene.watcher()
    look(watcher)
    assert (watcher.outcome.skipped, scene.told) == (1, [])
    assert (scene.output / "a.png").read_bytes() == b"earlier"
    scene.put("a.png", "red")
    look(watcher)
    assert watcher.outcome.done == 1


def test_results_and_references_inside_the_watched_folder_are_left_alone(scene: Scene) -> None:
    scene.output = scene.folder / "out"
    scene.output.mkdir()
    scene.reference = scene.reference.rename(scene.folder / "photo.png")
    scene.put("a.png")
    watcher = scene.watcher()
    look(watcher, 5)
    assert (watcher.outcome.done, scene.results()) == (1, ["a.png"])


def test_a_picture_that_changes_while_others_are_refined_waits(scene: Scene) -> None:
    scene.put("a.png")
    scene.put("b.png")
    scene.engine.meanwhile = partial(scene.put, "b.png", "red")
    watcher = scene.watcher()
    look(watcher)
    assert scene.results() == ["a.png"]
    scene.engine.meanwhile = lambda: None
    look(watcher)
    assert scene.results() == ["a.png", "b.png"]
    with PILImage.open(scene.output / "b.png") as refined:
        assert refined.getpixel((16, 16)) == (255, 0, 0)


def test_a_picture_that_changes_while_it_is_refined_is_refined_again(scene: Scene) -> None:
    scene.put("a.png")
    scene.engine.meanwhile = partial(scene.put, "a.png", "red")
    watcher = scene.watcher()
    look(watcher)
    scene.engine.meanwhile = lambda: None
    look(watcher, 3)
    assert watcher.outcome.done == 2
    with PILImage.open(scene.output / "a.png") as refined:
        assert refined.getpixel((16, 16)) == (255, 0, 0)


def test_a_picture_that_is_taken_away_is_nobodys_fault(scene: Scene) -> None:
    first, second = scene.put("a.png"), scene.put("b.png")
    scene.before_each = lambda: second.unlink(missing_ok=True)
    watcher = scene.watcher()
    watcher.look()
    first.rename(scene.folder / "renamed.png")
    watcher.look()
    assert (scene.results(), watcher.outcome.bad) == ([], [])
    watcher.look()
    assert (scene.results(), watcher.outcome.bad) == (["renamed.png"], [])


def test_a_picture_that_was_away_when_its_turn_came_is_refined_when_it_is_back(scene: Scene) -> None:
    """As with a network drive that is away for a moment: size and time are the same afterwards."""
    picture, away = scene.put("a.png"), scene.folder.with_name("away.png")
    scene.before_each = lambda: picture.rename(away)
    watcher = scene.watcher()
    look(watcher)
    assert (scene.results(), scene.told, watcher.outcome.bad) == ([], [], [])
    away.rename(picture)
    scene.before_each = lambda: None
    look(watcher)
    assert (scene.results(), watcher.outcome.bad) == (["a.png"], [])


def test_a_picture_that_is_written_anew_when_its_turn_comes_is_not_blamed(scene: Scene) -> None:
    picture = scene.put("a.png")
    whole = picture.read_bytes()
    scene.before_each = lambda: picture.write_bytes(whole[:50])
    watcher = scene.watcher()
    watcher.look()
    assert watcher.look() == [Path("a.png")], "it is told as one that is still being written"
    assert (scene.results(), scene.told, watcher.outcome.bad) == ([], [], [])
    scene.before_each = lambda: None
    picture.write_bytes(whole)
    look(watcher)
    assert (scene.results(), watcher.outcome.bad) == (["a.png"], [])


def test_a_reference_that_goes_ends_it_and_no_picture_is_blamed(scene: Scene) -> None:
    scene.put("a.png")
    watcher = scene.watcher()
    kept = scene.reference.read_bytes()
    scene.reference.unlink()
    with pytest.raises(InputError, match="The reference"):
        look(watcher)
    scene.reference.write_bytes(kept)
    again = scene.watcher()
    look(again)
    assert (again.outcome.done, again.outcome.bad) == (1, [])


def test_a_folder_that_goes_is_waited_for(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a network drive does. The waiting stands for what happens meanwhile."""
    scene.put("a.png")
    away = scene.folder.with_name("away")
    steps = iter([lambda: scene.folder.rename(away), lambda: None, lambda: away.rename(scene.folder)])
    said: list[str] = []

    def wait(seconds: float) -> None:
        assert seconds == 3.0
        if scene.results():
            raise KeyboardInterrupt
        next(steps, lambda: None)()

    monkeypatch.setattr("time.sleep", wait)
    with pytest.raises(KeyboardInterrupt):
        watch(scene.watcher(), 3.0, said.append)
    assert len(said) == 2
    assert "cannot be read" in said[0]
    assert "again" in said[1]


def test_a_start_after_which_nothing_is_to_be_done_says_why(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with another scale: what is finished stays as it is, which is told once."""
    scene.put("a.png")
    look(scene.watcher())
    times = iter(range(4))

    def wait(_: float) -> None:
        if next(times) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", wait)
    news: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        watch(scene.watcher(), 1.0, news.append, news.append)
    assert news == ["1 was finished before; --overwrite refines again."]


@pytest.mark.parametrize(
    ("output", "stages", "called"),
    [(".", None, "output"), ("..", None, "output"), ("../link", None, "output"), ("../out", ".", "stages")],
)
def test_results_that_would_be_refined_again_are_refused(
    scene: Scene, output: str, stages: str | None, called: str
) -> None:
    (scene.folder.parent / "link").symlink_to(scene.folder)
    folders = Folders(scene.folder / output, stages=None if stages is None else scene.folder / stages)
    watched = Watched(scene.folder, folders, ".png", (scene.reference,))
    with pytest.raises(InputError, match=f"lies inside the {called} folder"):
        check_watched(watched, PLAIN)


def test_what_would_fail_for_every_picture_is_refused_at_once(scene: Scene) -> None:
    check_watched(scene.watched, PLAIN)
    with pytest.raises(InputError, match="scale"):
        check_watched(scene.watched, Defaults(scale=3))
    scene.reference.write_bytes(b"no picture")
    with pytest.raises(InputError, match="The reference"):
        check_watched(scene.watched, PLAIN)
    with pytest.raises(InputError, match="cannot be read"):
        check_watched(Watched(scene.folder / "none", Folders(scene.output), ".png", (scene.reference,)), PLAIN)
    assert list(scene.output.iterdir()) == []


def test_one_output_folder_takes_one_watcher(tmp_path: Path) -> None:
    with alone_in(tmp_path / "new" / "out"):
        assert (tmp_path / "new" / "out").is_dir()
        with pytest.raises(InputError, match="Another"), alone_in(tmp_path / "new" / "out"):
            pass
    with alone_in(tmp_path / "new" / "out"):
        pass
