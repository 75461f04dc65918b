"""Watching a folder: each picture that is written into it to its end is refined once, and again when it has changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from refgc.batch import Defaults, Folders, Outcome, check_defaults, check_folders, run_batch
from refgc.engine import Engine, Progress
from refgc.errors import InputError
from refgc.imaging.files import make_folder, real_path
from refgc.imaging.image import open_image, open_mask
from refgc.pairs import Entry, Pair
from refgc.watch.folder import Settling, State, UnreadableFolderError, pictures_in, state_of
from refgc.watch.record import Record

LOCK = ".refgc-watch.lock"


@dataclass(frozen=True, slots=True)
class Watched:
    """What is watched, and where the results go.

    Attributes:
        folder: the watched folder.
        folders: of the results.
        suffix: of the refined pictures, such as ".png".
        references: photos of the object, the same for every picture.
        reference_masks: none, one for the first reference, or one for each.
    """

    folder: Path
    folders: Folders
    suffix: str
    references: tuple[Path, ...]
    reference_masks: tuple[Path, ...] = ()

    def pair_of(self, picture: Path, output: Path) -> Pair:
        """The pair of a picture.

        Args:
            picture: its path in the watched folder.
            output: the path of its result in the output folder.

        Raises:
            InputError: there are too many references, or the masks are too few or too many.
        """
        pair = Pair.of(list(self.references), self.folder / picture, list(self.reference_masks), None)
        return pair.model_copy(update={"output": output})

    @property
    def excluded(self) -> frozenset[Path]:
        """Real paths that may lie in the watched folder and hold nothing to refine: the results and the references."""
        folders = self.folders.images, self.folders.stages
        return frozenset(
            real_path(path) for path in (*folders, *self.references, *self.reference_masks) if path is not None
        )


def check_watched(watched: Watched, defaults: Defaults) -> None:
    """Refuses what could not be refined whatever comes, before anything is begun; leaves nothing behind.

    Raises:
        InputError: the watched folder cannot be read, a result would be taken for a picture to refine, a folder cannot
            be written to, or a reference, mask or option cannot be used.
        EngineError: the surroundings need weights that are not here.
    """
    pictures_in(watched.folder, watched.excluded)
    place = real_path(watched.folder)
    for folder, called in ((watched.folders.images, "output"), (watched.folders.stages, "stages")):
        if folder is not None and place.is_relative_to(real_path(folder)):
            raise InputError(
                f"The watched folder {str(watched.folder)!r} is or lies inside the {called} folder {str(folder)!r}, so "
                "that results would be refined again; choose another."
            )
    check_folders(watched.folders)
    example = Path(f"picture{watched.suffix}")
    check_defaults([Entry("picture", watched.pair_of(example, example))], watched.folders, defaults)
    check_references(watched)


def check_references(watched: Watched) -> None:
    """Opens the references and their masks.

    Raises:
        InputError: one of them cannot be used.
    """
    for photo, mask in watched.pair_of(Path("picture"), Path("picture")).references:
        size = open_image(photo, name="reference").size
        if mask is not None:
            open_mask(mask, size=size, name="reference mask")


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keeps other watchers from an output folder, which is made where it is missing.

    Raises:
        InputError: there is another one.
    """
    from filelock import FileLock, Timeout

    make_folder(folder)
    try:
        with FileLock(folder / LOCK, blocking=False):
            yield
    except Timeout as error:
        raise InputError(
            f"Another `refgc watch` writes into {str(folder)!r}; end it, or give this one an output folder of its own."
        ) from error


class Watcher:
    """Refines what is new in a watched folder, one look after the other.

    Attributes:
        outcome: how many were refined in this run, were finished before it, or have no result, by their present state.
    """

    def __init__(
        self,
        watched: Watched,
        defaults: Defaults,
        open_engine: Callable[[], Engine],
        *,
        overwrite: bool,
        begin: Callable[[], AbstractContextManager[Progress]],
        finished: Callable[[str], None],
        refused: Callable[[str, str], None],
    ) -> None:
        """Reads what became of the pictures in earlier runs.

        Args:
            watched: checked by `check_watched`; no other watcher writes there.
            defaults: for every picture.
            open_engine: the engine that refines all of them; opened once, when the first picture is there.
            overwrite: whether pictures that earlier runs dealt with are refined again.
            begin: called for each picture that begins; gives its progress.
            finished: told a line on each result.
            refused: told the name of a picture that cannot be refined, and why.

        Raises:
            InputError: the record in the output folder cannot be used.
        """
        self.outcome = Outcome()
        self._watched, self._defaults, self._overwrite = watched, defaults, overwrite
        self._open_engine = cache(open_engine)
        self._begin, self._finished, self._refused = begin, finished, refused
        self._record = Record(watched.folders.images)
        self._settling = Settling()
        self._looked_at: dict[Path, State] = {}

    def look(self) -> list[Path]:
        """Looks at the folder, and refines what is there, complete, and new or changed.

        Returns:
            The pictures that are not complete yet, were not seen before, or changed meanwhile; the next look will tell.

        Raises:
            InputError: the folder, or a reference, can no longer be read.
            EngineError: the engine cannot run here.
            OSError: the disk takes no more.
        """
        complete, waiting = self._settling.look(pictures_in(self._watched.folder, self._watched.excluded))
        for picture, state in complete.items():
            if self._looked_at.get(picture) == state:
                continue
            # Others were refined since the look, which takes a while.
            now = state_of(self._watched.folder / picture)
            if now == state and self._deal_with(picture, state):
                self._looked_at[picture] = state
            elif now is not None:
                waiting.append(picture)
        return waiting

    def _deal_with(self, picture: Path, state: State) -> bool:
        """Refines a picture where that is still to be done; no where it was gone or had changed before it was read."""
        row = self._record.find(picture)
        is_first_look = picture not in self._looked_at
        output = self._record.output_of(picture, self._watched.suffix)
        pair = self._watched.pair_of(picture, output)
        if is_first_look and not self._overwrite:
            if row is not None and row.state == state:
                self._count(pair, row.error)
                return True
            # Made by an earlier run that ended before it could note it, or by `refine --pairs`.
            if row is None and self._watched.folders.destination(pair).is_finished():
                self._record.add(picture, state, output)
                self.outcome.skipped += 1
                return True
        return self._refine(picture, state, pair, output)

    def _refine(self, picture: Path, state: State, pair: Pair, output: Path) -> bool:
        with self._begin() as progress:
            outcome = run_batch(
                [Entry(str(pair.generated), pair)],
                self._watched.folders,
                self._defaults,
                self._open_engine,
                overwrite=True,
                begin=lambda _, __: progress,
                finished=self._finished,
            )
        self.outcome.done += outcome.done
        self.outcome.bad = [(label, reason) for label, reason in self.outcome.bad if label != str(pair.generated)]
        for label, reason in outcome.bad:
            # It may come back as it was, such as with a network drive that was away for a while.
            if state_of(pair.generated) != state:
                return False
            # What is wrong with the references is not the picture's fault, and would stay.
            check_references(self._watched)
            self._refused(label, reason)
            self.outcome.bad.append((label, reason))
            self._record.add(picture, state, output, reason)
            return True
        self._record.add(picture, state, output)
        return True

    def _count(self, pair: Pair, error: str | None) -> None:
        if error is None:
            self.outcome.skipped += 1
        else:
            self.outcome.bad.append((str(pair.generated), error))


def watch_once(watcher: Watcher, seconds: float) -> list[Path]:
    """Works through what is there now.

    Args:
        watcher: of the folder.
        seconds: between the two looks that tell whether a picture is complete.

    Returns:
        The pictures that were still being written, and so were left.

    Raises:
        Exception: see `Watcher.look`.
    """
    watcher.look()
    time.sleep(seconds)
    return watcher.look()


def watch(
    watcher: Watcher, seconds: float, tell_of: Callable[[str], None], tell: Callable[[str], None] = lambda _: None
) -> None:
    """Watches until an exception ends it, such as that of a signal.

    A folder that cannot be read for a while, as happens with network drives, is waited for.

    Args:
        watcher: of the folder.
        seconds: between two looks.
        tell_of: told a sentence when the folder cannot be read, and when it can be read again.
        tell: told a sentence on pictures that were finished before. Without it a start with other options, after which
            nothing is done, looks as if it hung.

    Raises:
        Exception: see `Watcher.look`.
    """
    is_gone, skipped = False, 0
    while True:
        try:
            watcher.look()
        except UnreadableFolderError as error:
            if not is_gone:
                tell_of(str(error))
            is_gone = True
        else:
            if is_gone:
                tell_of("The watched folder can be read again.")
            is_gone = False
        if new := watcher.outcome.skipped - skipped:
            skipped += new
            tell(f"{new} {'was' if new == 1 else 'were'} finished before; --overwrite refines again.")
        time.sleep(seconds)
