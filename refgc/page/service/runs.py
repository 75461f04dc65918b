"""Runs of the engines for visitors: admission, turn, time limits, cached results, and the log line at the end."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Protocol, TypeVar

from refgc.diptych import sources
from refgc.diptych.preview import GeneratorChoice, make_preview_request, preview
from refgc.engine import EngineName, Progress, RefineResult, Viewer
from refgc.errors import InputError
from refgc.imaging.files import MEGABYTE
from refgc.page.pictures import ShownPreview, ShownRefinement, ShownResult, write_refinement, write_result, write_shown
from refgc.page.service.cache import ResultCache, made_by, open_cache
from refgc.page.service.decoding import Decoder
from refgc.page.service.gpu import refine_with
from refgc.page.service.limits import Visits
from refgc.page.service.logs import Outcome, note_job
from refgc.page.service.queue import BusyError, Finished, Line, Seen, Ticket, TooLongError, Working, watched
from refgc.page.service.storage import NoRoomError, free_bytes, new_folder, remove, room_watched
from refgc.refinement import EngineChoice, best_engine
from refgc.request import RefineRequest, check_options, make_request
from refgc.settings import Settings
from refgc.settings import settings as read_settings

# The scale that is logged of a run which enlarges nothing.
SAME_SIZE = 1

Sizes = dict[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class RefineJob:
    """One refinement that a visitor asked for; the files are not opened yet.

    Attributes:
        reference: the file of the HRRI.
        generated: the file of the LRGI.
        reference_mask: the file of the object's mask in the reference; None lets the engine find the object.
        generated_mask: the same for the generated picture.
        scale: output size over generated size; 1, 2 or 4.
        strength: how much of the reference to bring in, from 0 to 1.
        seed: seed of everything random.
        object_name: the object in words.
        engine: the engine that refines it.
    """

    reference: Path
    generated: Path
    reference_mask: Path | None = None
    generated_mask: Path | None = None
    scale: int = 4
    strength: float = 1.0
    seed: int = 0
    object_name: str = "object"
    engine: EngineName = "correspondence"


@dataclass(frozen=True, slots=True)
class PreviewJob:
    """One preview that a visitor asked for; the files are not opened yet.

    Attributes:
        reference: the file of the HRRI.
        scene: the file of the HRGT, or of a scene with a place for the object.
        reference_mask: the file of the object's mask in the reference; None lets the segmenter find the object.
        scene_mask: the same for the scene.
        object_name: the object in words.
        caption: what the reference shows, in a longer phrase; may be empty.
        seed: seed of everything random.
        factor: the scene's size over that of the generated picture; 1, 2 or 4.
        artifacts: strength of each simulated artifact by its name, from 0 to 1.
        generator: "auto" takes the diptych generator where this machine can run it.
    """

    reference: Path
    scene: Path
    reference_mask: Path | None = None
    scene_mask: Path | None = None
    object_name: str = "object"
    caption: str = ""
    seed: int = 0
    factor: int = 4
    artifacts: Mapping[str, float] = field(default_factory=dict)
    generator: GeneratorChoice = "auto"


class Reported(Protocol):
    """What a run makes: it has a report."""

    @property
    def report(self) -> object:
        """The report; its `seconds` and `placed` are logged where it has them."""
        ...


Made = TypeVar("Made", bound=Reported)
RefineWith = Callable[[EngineName, RefineRequest, Progress, Viewer], RefineResult]


@dataclass(slots=True)
class _Record:
    """What is logged of one run: nothing that is in a picture, or in its name.

    Attributes:
        kind: "refine", "preview" or "refine preview".
        engine: the engine whose queue it waits in.
        scale: output size over generated size.
        sizes: width and height in pixels of the pictures, by their names; known once the files are decoded.
    """

    kind: str
    engine: EngineName
    scale: int
    sizes: Sizes = field(default_factory=dict)


class Service:
    """The runs of one server.

    Attributes:
        settings: the limits.
        queues: one for each engine. Refinements and previews that use the same processor or GPU share a queue, since
            two at a time would make both slower or run out of memory.
        visits: the runs of each visit.
        cache: the results of earlier runs; None where none are kept.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        cache: ResultCache | None = None,
        refine_with: RefineWith = refine_with,
    ) -> None:
        """A service without visitors.

        Args:
            settings: the limits; None reads the environment.
            cache: the results of earlier runs; None keeps none.
            refine_with: runs an engine.

        Raises:
            InputError: a setting in the environment cannot be used.
        """
        self.settings = settings or read_settings()
        self.queues: dict[EngineName, Line] = {"correspondence": Line(), "diffusion": Line()}
        self.visits = Visits()
        self.cache = cache
        self.decoder = Decoder()
        self._refine_with = refine_with
        self._best: EngineName | None = None

    @classmethod
    def from_environment(cls) -> Service:
        """The service of this process: limits from the environment, the cache beside the folder of uploads.

        Raises:
            InputError: a setting in the environment cannot be used.
        """
        settings = read_settings()
        return cls(settings, cache=open_cache(settings))

    def engine_for(self, choice: EngineChoice) -> EngineName:
        """The engine that a choice stands for on this machine; "auto" is decided once and then remembered."""
        if choice != "auto":
            return choice
        if self._best is None:
            self._best = best_engine()
        return self._best

    @contextmanager
    def marking(self, visit: str) -> Iterator[Event]:  # noqa: ARG002 (stand-in without limits)
        """Limits the marking of one visit; the event is set when its time is over."""
        yield Event()

    def refine(self, job: RefineJob, visit: str) -> Generator[Working | Seen | Finished[ShownResult], None, None]:
        """Refines and writes everything that is shown of the result; closing the generator cancels.

        A result that is in the cache is given at once. While others are served first, `Working` says how many and for
        about how long. Something is yielded at least every half second.

        Args:
            job: what to refine.
            visit: the visitor's session, by which limits are kept.

        Raises:
            InputError: the visitor has to change something.
            BusyError: too many runs wait already, or too many of this visit.
            NoRoomError: the disk is full.
            EngineError: it cannot be done here, or took too long.
        """
        check_options(scale=job.scale, seed=job.seed, strength=job.strength, object_name=job.object_name)
        record = _Record("refine", job.engine, job.scale)
        cache, folder = self.cache, new_folder("refined")

        def work(progress: Progress, viewer: Viewer) -> Finished[ShownResult]:
            request = make_request(
                job.reference,
                job.generated,
                scale=job.scale,
                reference_mask=job.reference_mask,
                generated_mask=job.generated_mask,
                object_name=job.object_name,
                seed=job.seed,
                strength=job.strength,
            )
            record.sizes = _sizes_of(request)
            key = cache.key(request, made_by(job.engine)) if cache else ""
            if cache and (found := cache.give(key, folder)):
                return Finished(found, again=True)
            try:
                result = self._refine_with(job.engine, request, progress, viewer)
                progress("saving the pictures", 1.0)
                shown = write_result(result, folder)
            except BaseException:
                remove(folder)
                raise
            if cache:
                cache.keep(key, shown, folder)
            return Finished(shown)

        yield from self._run(record, visit, work)

    def preview(self, job: PreviewJob, visit: str) -> Generator[Working | Seen | Finished[ShownPreview], None, None]:
        """Makes a generated picture (LRGI) and writes everything that is shown of it; as `refine`.

        Raises:
            InputError: the visitor has to change something.
            BusyError: too many runs wait already, or too many of this visit.
            NoRoomError: the disk is full.
            EngineError: it cannot be done here, or took too long.
        """
        check_options(scale=job.factor, seed=job.seed, object_name=job.object_name, scale_name="factor")
        record = _Record("preview", _engine_beside(job.generator), SAME_SIZE)

        def work(progress: Progress, viewer: Viewer) -> Finished[ShownPreview]:  # noqa: ARG001 (shows no stages)
            request = make_preview_request(
                job.reference,
                job.scene,
                reference_mask=job.reference_mask,
                scene_mask=job.scene_mask,
                object_name=job.object_name,
                caption=job.caption,
                seed=job.seed,
                factor=job.factor,
                artifacts=job.artifacts,
            )
            record.sizes = {"reference": request.reference.size, "scene": request.scene.size}
            folder = new_folder("preview")
            try:
                result = preview(request, generator=job.generator, progress=progress)
                progress("saving the pictures", 1.0)
                return Finished(write_shown(result, request, job.reference, folder))
            except BaseException:
                remove(folder)
                raise

        yield from self._run(record, visit, work)

    def refine_preview(
        self, shown: ShownPreview, visit: str
    ) -> Generator[Working | Seen | Finished[ShownRefinement], None, None]:
        """Refines a preview with its own masks and compares the result with the truth; as `refine`.

        Raises:
            InputError: the preview's files were deleted because of their age.
            BusyError: too many runs wait already, or too many of this visit.
            NoRoomError: the disk is full.
            EngineError: it cannot be done here, or took too long.
        """
        engine = self.engine_for("auto")
        record = _Record("refine preview", engine, shown.report.factor)

        def work(progress: Progress, viewer: Viewer) -> Finished[ShownRefinement]:
            reference_mask, generated_mask = shown.masks
            request = make_request(
                shown.reference,
                shown.generated,
                scale=shown.report.factor,
                reference_mask=reference_mask,
                generated_mask=generated_mask,
                seed=shown.report.seed,
            )
            record.sizes = _sizes_of(request)
            refined = self._refine_with(engine, request, progress, viewer)
            progress("comparing it with the truth", 1.0)
            return Finished(write_refinement(shown, refined))

        yield from self._run(record, visit, work)

    def make_room(self) -> None:
        """Deletes cached results where their room is needed.

        Raises:
            NoRoomError: the disk is full even so.
        """
        needed = self.settings.spare_megabytes * MEGABYTE
        if free_bytes() >= needed:
            return
        if self.cache:
            self.cache.trim(0)
        if free_bytes() < needed:
            raise NoRoomError

    def _run(
        self, record: _Record, visit: str, work: Callable[[Progress, Viewer], Finished[Made]]
    ) -> Generator[Working | Seen | Finished[Made], None, None]:
        """Admits one run, does its work when its turn comes, and logs how it ended."""
        settings = self.settings
        outcome: Outcome = "failed"
        ticket: Ticket | None = None
        ending: Finished[Made] | None = None
        failure: Exception | None = None
        try:
            self.make_room()
            with self.visits.job(visit, most=settings.visit_jobs, per_hour=settings.visit_jobs_per_hour):
                ticket = self.queues[record.engine].join(settings.max_waiting)
                running = watched(
                    room_watched(work), ticket, run_seconds=settings.run_seconds, wait_seconds=settings.wait_seconds
                )
                with closing(running):
                    for note in running:
                        if isinstance(note, Finished):
                            ending = note
                            outcome = "done" if getattr(note.made.report, "placed", True) else "unplaced"
                        yield note
        except GeneratorExit:
            outcome = "cancelled" if ending is None else outcome
            raise
        except Exception as error:
            outcome, failure = _outcome_of(error), error
            raise
        finally:
            again = ending is not None and ending.again
            note_job(
                record.kind,
                outcome,
                visit=self.visits.number(visit),
                engine=record.engine,
                scale=record.scale,
                sizes=record.sizes,
                waited=None if ticket is None else ticket.waited,
                ran=None if ticket is None else ticket.ran,
                seconds=None if again else getattr(ending and ending.made.report, "seconds", None),
                again=again,
                failure=failure,
            )


def _sizes_of(request: RefineRequest) -> Sizes:
    return {"reference": request.reference.size, "generated": request.generated.size}


def _outcome_of(error: Exception) -> Outcome:
    match error:
        case BusyError():
            return "busy"
        case TooLongError():
            return "timeout"
        case InputError():
            return "refused"
        case _:
            return "failed"


def _engine_beside(generator: GeneratorChoice) -> EngineName:
    """The engine whose queue a preview waits in: the simulator needs the processor, DipRefGC the GPU."""
    if generator == "auto":
        return "correspondence" if sources.obstacle() or sources.on_cpu() else "diffusion"
    return "correspondence" if generator == "simulated" else "diffusion"
