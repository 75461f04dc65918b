"""Runs of the engines for visitors: admission, turn, time limits, cached results, and the log line at the end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Protocol, TypeAlias, TypeVar

from refgc.diptych import sources
from refgc.diptych.preview import GeneratorChoice, make_preview_request, preview
from refgc.engine import DRAWING, EngineName, Progress, RefineResult, Viewer
from refgc.errors import EngineError, InputError
from refgc.imaging.encode import FileOptions, check_file_options
from refgc.imaging.files import MEGABYTE
from refgc.imaging.image import Image, Mask
from refgc.imaging.profiles import ProfileName
from refgc.page.pictures import ShownPreview, ShownRefinement, ShownResult, write_refinement, write_result, write_shown
from refgc.page.service.cache import ResultCache
from refgc.page.service.decoding import Decoder
from refgc.page.service.gpu import refine_with as refine_locally
from refgc.page.service.limits import BusyError, MarkingLimits, RunLimits, VisitLabels
from refgc.page.service.logs import Outcome, log_run
from refgc.page.service.queue import (
    Clock,
    EngineQueue,
    Entry,
    Finished,
    Queue,
    Seen,
    Show,
    TooLongError,
    Work,
    Working,
    run_in_turn,
)
from refgc.page.service.rates import MEASURED, Rates, RunSize
from refgc.page.service.state import SharedState, open_state, own_state
from refgc.page.service.storage import NoRoomError, check_room, is_disk_full, new_folder, remove
from refgc.refinement import EngineChoice, best_engine
from refgc.request import RefineRequest, Surroundings, check_options, check_reference_count, make_request
from refgc.serve.client import OverloadedError, ServeClient
from refgc.serve.fingerprint import engine_fingerprint
from refgc.settings import Settings
from refgc.settings import settings as read_settings
from refgc.surroundings.weights import check_weights

# The scale that is logged of a run which enlarges nothing.
SAME_SIZE = 1
# The stages that follow the engine's end, and the share of a run that is done then. Chosen by hand: writing the files
# of the largest results takes about an eighth of the run.
SAVING, COMPARING = "saving the pictures", "comparing it with the truth"
ENGINE_SHARE = 0.88

NOT_SERVED = "The engine {engine} is not served here; choose {served}."

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
        surroundings: how what lies around the object is enlarged.
        seed: seed of everything random.
        object_name: the object in words.
        engine: the engine that refines it.
        profile: the colour space of the file to keep.
        bits: of each of its channels, 8 or 16.
        further_references: files of more photos of the same object, up to three.
        plain_first: whether the result with plain surroundings is told while better ones are made.
    """

    reference: Path
    generated: Path
    reference_mask: Path | None = None
    generated_mask: Path | None = None
    scale: int = 4
    strength: float = 1.0
    surroundings: Surroundings = "plain"
    seed: int = 0
    object_name: str = "object"
    engine: EngineName = "correspondence"
    profile: ProfileName = "srgb"
    bits: int = 8
    further_references: tuple[Path, ...] = ()
    plain_first: bool = False


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


class PictureDecoder(Protocol):
    """What opens visitors' files; see `refgc.page.service.decoding.Decoder`."""

    def image(self, path: Path, *, name: str, stop: Event | None = None, keep: bool = True) -> Image:
        """The picture in a file; `keep` says whether it will be asked for again."""
        ...

    def mask(
        self, path: Path, *, size: tuple[int, int], name: str, stop: Event | None = None, keep: bool = True
    ) -> Mask:
        """The mask in a file, of a picture of the given width and height."""
        ...

    def known_size(self, path: Path) -> tuple[int, int] | None:
        """Width and height of a picture that was decoded before; None where it was not."""
        ...

    def close(self) -> None:
        """Ends what decodes."""
        ...


Made = TypeVar("Made", bound=Reported)
Events: TypeAlias = Generator[Working | Seen[Made] | Finished[Made], None, None]
RefineWith = Callable[[EngineName, RefineRequest, Progress, Viewer], RefineResult]


@dataclass(slots=True)
class _Record:
    """What is logged of one run: nothing that is in a picture, or in its name.

    Attributes:
        kind: "refine", "preview" or "refine preview".
        engine: what it needs.
        queue: where it waits for that.
        scale: output size over generated size.
        size: the work, as far as it is known before the files are decoded.
        sizes: width and height in pixels of the pictures, by their names; known once the files are decoded.
        entry: its place in the queue; None before it has one, and where a cached result is given.
    """

    kind: str
    engine: EngineName
    queue: Queue
    scale: int
    size: RunSize
    sizes: Sizes = field(default_factory=dict)
    entry: Entry | None = None

    def decoded(self, sizes: Sizes, result: tuple[int, int]) -> None:
        """Say what is known once the files are decoded.

        Args:
            sizes: of the pictures, by their names.
            result: width and height in pixels of what is made.
        """
        self.sizes = sizes
        self.size = replace(self.size, megapixels=_megapixels(result))
        if self.entry is not None:
            self.entry.size = self.size


class Service:
    """The runs of one server.

    Attributes:
        settings: the limits.
        queues: of refinements, one for each engine.
        preview_queues: of previews. Where the engines run on this machine, these are the same queues: two runs at a
            time on one processor or GPU would make both slower or run out of memory.
        decoder: opens visitors' files.
        cache: the results of earlier runs; None where none are kept.
        state: what this page has in common with others.
        served: asks the engines at the address that is set; None where they run on this machine.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        state: SharedState | None = None,
        served: ServeClient | None = None,
        cache: ResultCache | None = None,
        decoder: PictureDecoder | None = None,
        refine_with: RefineWith | None = None,
        clock: Clock = monotonic,
    ) -> None:
        """A service without visitors.

        Args:
            settings: the limits; None reads the environment.
            state: what this page has in common with others; None for a page that is alone.
            served: asks engines on other machines.
            cache: the results of earlier runs, of a page that is alone; None keeps none.
            decoder: opens visitors' files; None decodes them in processes of their own.
            refine_with: runs an engine; None for those that are served, or else those of this machine.
            clock: seconds that only go forward, by which waits and runs are timed.

        Raises:
            InputError: a setting in the environment cannot be used.
        """
        self.settings = settings or read_settings()
        self.state = state or own_state(cache, clock)
        self.served = served
        self.queues: Mapping[EngineName, Queue] = self.state.queues
        self.preview_queues: Mapping[EngineName, Queue] = (
            self.queues if served is None else {name: EngineQueue(clock, Rates(name)) for name in MEASURED}
        )
        self.decoder = decoder or Decoder()
        self.cache = self.state.cache
        self._run_limits = RunLimits(self.settings, of_addresses=self.state.counts)
        self._marking_limits = MarkingLimits(self.settings)
        self._visit_label = VisitLabels()
        self._refine_with = refine_with or (refine_locally if served is None else served.refine)
        self._best: EngineName | None = None

    @classmethod
    def from_environment(cls) -> Service:
        """The service of this process: limits, and what it has in common with other pages, from the environment.

        Raises:
            InputError: a setting in the environment cannot be used.
            EngineError: nobody answers where the engines are said to be served.
        """
        settings = read_settings()
        served = None if settings.serve is None else ServeClient(settings.serve)
        return cls(settings, state=open_state(settings, served), served=served)

    def engine_for(self, choice: EngineChoice) -> EngineName:
        """The engine that a choice stands for here; "auto" is decided once and then remembered."""
        if choice != "auto":
            return choice
        if self._best is None:
            self._best = best_engine() if self.served is None else _best_of(self.queues)
        return self._best

    @property
    def chooses_engine(self) -> bool | None:
        """Whether visitors can choose among engines that are served; None where this machine has to be asked."""
        return None if self.served is None else len(self.queues) > 1

    def every_queue(self) -> dict[str, Queue]:
        """The queues in which runs of this page wait, by what is said of them."""
        every: dict[str, Queue] = {str(name): one for name, one in self.queues.items()}
        if self.served is not None:
            every |= {f"{name} (previews)": one for name, one in self.preview_queues.items()}
        return every

    def _queue(self, engine: EngineName) -> Queue:
        """Where refinements wait for an engine.

        Raises:
            EngineError: it is not served.
        """
        if engine not in self.queues:
            raise EngineError(NOT_SERVED.format(engine=engine, served=" or ".join(self.queues)))
        return self.queues[engine]

    def drawing_seconds(self, engine: EngineName, surroundings: Surroundings, megapixels: float) -> float:
        """About how many seconds longer a run takes with these surroundings than with plain ones.

        Args:
            engine: that refines.
            surroundings: "plain", "fast" or "best".
            megapixels: of the result.
        """
        if surroundings == "plain":
            return 0.0
        return self.queues[engine].rates.expected_part(surroundings, megapixels)

    def marking(self, visit: str) -> AbstractContextManager[Event]:
        """Admits the work on one mark of a visit.

        Args:
            visit: the visitor's session.

        Returns:
            A context that yields an event, which is set when the time for the work is over. Entering it raises
            `BusyError` where the visit marks too much.
        """
        return self._marking_limits.admit(visit)

    def check_room(self) -> None:
        """Checks that the disk is not nearly full; deletes cached results where their room is needed.

        Raises:
            NoRoomError: the disk is nearly full even so.
        """
        needed = self.settings.spare_megabytes * MEGABYTE
        try:
            check_room(needed)
        except NoRoomError:
            if self.cache:
                self.cache.trim(0)
            check_room(needed)

    def refine(self, job: RefineJob, visit: str, address: str = "") -> Events[ShownResult]:
        """Refines and writes everything that is shown of the result; closing the generator cancels.

        A result that is in the cache is given at once. While others are served first, `Working` says how many and for
        about how long. Files are decoded when the run's turn has come, not before. Something is yielded at least every
        half second.

        Where the job asks for the plain result first, `Seen` has it as `DRAWING`, in files of its own, while the better
        surroundings are made.

        Args:
            job: what to refine.
            visit: the visitor's session.
            address: the visitor's address, see `refgc.page.service.limits.address_of`.

        Raises:
            InputError: the visitor has to change something.
            BusyError: too many runs wait already, or too many of this visit or address.
            NoRoomError: the disk is full.
            EngineError: it cannot be done here, or took too long.
        """
        check_options(
            scale=job.scale,
            seed=job.seed,
            strength=job.strength,
            surroundings=job.surroundings,
            object_name=job.object_name,
        )
        check_reference_count(1 + len(job.further_references))
        check_weights(job.surroundings)
        file = FileOptions(job.profile, bits=job.bits)
        check_file_options(file)
        size = RunSize("refine", self._known_megapixels(job.generated, job.scale), job.surroundings)
        record = _Record("refine", job.engine, self._queue(job.engine), job.scale, size)
        folder = new_folder("refined")
        key = ""

        def cached() -> ShownResult | None:
            nonlocal key
            if self.cache is None:
                return None
            key = _cache_key(self.cache, job, self._fingerprint(job.engine))
            return self.cache.get(key, folder) if key else None

        def work(progress: Progress, show: Show[ShownResult], cancelled: Event) -> Finished[ShownResult]:
            progress("reading the pictures", 0.0)
            reference, reference_mask = self._opened(job.reference, "reference", job.reference_mask, cancelled)
            generated, generated_mask = self._opened(job.generated, "generated", job.generated_mask, cancelled)
            further = [
                self._opened(file, f"reference {number}", None, cancelled)[0]
                for number, file in enumerate(job.further_references, start=2)
            ]
            request = make_request(
                [reference, *further],
                generated,
                scale=job.scale,
                reference_mask=reference_mask,
                generated_mask=generated_mask,
                object_name=job.object_name,
                seed=job.seed,
                strength=job.strength,
                surroundings=job.surroundings,
                bits=job.bits,
            )
            record.decoded(_sizes_of(request), _enlarged(request.generated.size, request.scale))

            def written(result: RefineResult, folder: Path) -> ShownResult:
                try:
                    return write_result(result, reference, folder, file)
                except BaseException:
                    remove(folder)
                    raise

            def look(stage: str, picture: Image | RefineResult) -> None:
                if isinstance(picture, Image):
                    show(stage, picture)
                elif job.plain_first:
                    show(stage, written(picture, new_folder("refined")))

            result = self._refine_with(job.engine, request, _before(SAVING, progress), look)
            shown = written(result, folder)
            if self.cache and key:
                self.cache.put(key, shown, folder)
            return Finished(shown)

        yield from self._run(record, visit, address, work, cached)

    def preview(self, job: PreviewJob, visit: str, address: str = "") -> Events[ShownPreview]:
        """Makes a generated picture (LRGI) and writes everything that is shown of it; as `refine`.

        Raises:
            InputError: the visitor has to change something.
            BusyError: too many runs wait already, or too many of this visit or address.
            NoRoomError: the disk is full.
            EngineError: it cannot be done here, or took too long.
        """
        check_options(scale=job.factor, seed=job.seed, object_name=job.object_name, scale_name="factor")
        size = RunSize("preview", self._known_megapixels(job.scene, SAME_SIZE))
        engine = _engine_beside(job.generator)
        record = _Record("preview", engine, self.preview_queues[engine], SAME_SIZE, size)

        def work(progress: Progress, _show: Show[ShownPreview], cancelled: Event) -> Finished[ShownPreview]:
            progress("reading the pictures", 0.0)
            reference, reference_mask = self._opened(job.reference, "reference", job.reference_mask, cancelled)
            scene, scene_mask = self._opened(job.scene, "scene", job.scene_mask, cancelled)
            request = make_preview_request(
                reference,
                scene,
                reference_mask=reference_mask,
                scene_mask=scene_mask,
                object_name=job.object_name,
                caption=job.caption,
                seed=job.seed,
                factor=job.factor,
                artifacts=job.artifacts,
            )
            record.decoded({"reference": request.reference.size, "scene": request.scene.size}, request.scene.size)
            folder = new_folder("preview")
            try:
                result = preview(request, generator=job.generator, progress=_before(SAVING, progress))
                return Finished(write_shown(result, request, job.reference, folder))
            except BaseException:
                remove(folder)
                raise

        yield from self._run(record, visit, address, work)

    def refine_preview(self, shown: ShownPreview, visit: str, address: str = "") -> Events[ShownRefinement]:
        """Refines a preview with its own masks and compares the result with the truth; as `refine`.

        Raises:
            InputError: the preview's files were deleted because of their age.
            BusyError: too many runs wait already, or too many of this visit or address.
            NoRoomError: the disk is full.
            EngineError: it cannot be done here, or took too long.
        """
        engine = self.engine_for("auto")
        result = _enlarged(shown.report.generated_size, shown.report.factor)
        size = RunSize("refine", _megapixels(result))
        record = _Record("refine preview", engine, self._queue(engine), shown.report.factor, size)

        def work(progress: Progress, show: Show[ShownRefinement], cancelled: Event) -> Finished[ShownRefinement]:
            def look(stage: str, picture: Image | RefineResult) -> None:
                if isinstance(picture, Image):
                    show(stage, picture)

            reference, reference_mask = self._opened(shown.reference, "reference", shown.masks[0], cancelled)
            generated, generated_mask = self._opened(shown.generated, "generated", shown.masks[1], cancelled)
            request = make_request(
                reference,
                generated,
                scale=shown.report.factor,
                reference_mask=reference_mask,
                generated_mask=generated_mask,
                seed=shown.report.seed,
            )
            record.decoded(_sizes_of(request), result)
            refined = self._refine_with(engine, request, _before(COMPARING, progress), look)
            return Finished(write_refinement(shown, refined))

        yield from self._run(record, visit, address, work)

    def _fingerprint(self, engine: EngineName) -> str:
        if self.served is None:
            return engine_fingerprint(engine)
        engines = self.served.engines()
        if engine not in engines:
            raise EngineError(NOT_SERVED.format(engine=engine, served=" or ".join(engines) or "another page"))
        return engines[engine].fingerprint

    def _known_megapixels(self, file: Path, scale: int) -> float | None:
        """Of a picture enlarged so many times; None where it was not decoded before, as nothing is for an estimate."""
        size = self.decoder.known_size(file)
        return size and _megapixels(_enlarged(size, scale))

    def _note(self, record: _Record, report: object) -> None:
        """Remember how long a run took; a cached result took none."""
        entry, size = record.entry, record.size
        if entry is None or entry.ran is None or size.megapixels is None:
            return
        rates = record.queue.rates
        drawing = getattr(report, "seconds", {}).get(DRAWING, 0.0)
        if size.surroundings != "plain" and drawing:
            rates.note(size.surroundings, size.megapixels, drawing)
        rates.note(size.part, size.megapixels, entry.ran - drawing)

    def _opened(self, file: Path, name: str, mask_file: Path | None, cancelled: Event) -> tuple[Image, Mask | None]:
        """A picture and its mask, decoded; `name` is "reference", "reference 2", "generated" or "scene".

        They are not kept in memory for the next run, since a run asks for each once.
        """
        called = "generated picture" if name == "generated" else name
        picture = self.decoder.image(file, name=called, stop=cancelled, keep=False)
        if mask_file is None:
            return picture, None
        mask = self.decoder.mask(mask_file, size=picture.size, name=f"{name} mask", stop=cancelled, keep=False)
        return picture, mask

    def _run(
        self,
        record: _Record,
        visit: str,
        address: str,
        work: Work[Made],
        cached: Callable[[], Made | None] = lambda: None,
    ) -> Events[Made]:
        """Admits one run, does its work when its turn comes, and logs how it ended.

        Whatever costs nothing decides first: the limits of the visit and the address, then the disk, the cache and the
        queue. Nothing is decoded before the turn has come.
        """
        outcome: Outcome = "failed"
        entry: Entry | None = None
        ending: Finished[Made] | None = None
        failure: Exception | None = None
        try:
            with self._run_limits.admit(visit, address) as count_for_the_hour:
                self.check_room()
                found = cached()
                events: Events[Made]
                if found is None:
                    entry = record.entry = record.queue.enter(self.settings.max_waiting, record.size)
                    events = self._in_turn(work, entry)
                else:
                    events = _cached(found)
                count_for_the_hour()
                with closing(events):
                    for event in events:
                        if isinstance(event, Finished):
                            ending = event
                            self._note(record, event.made.report)
                            outcome = "done" if getattr(event.made.report, "placed", True) else "unplaced"
                        yield event
        except GeneratorExit:
            outcome = "cancelled" if ending is None else outcome
            raise
        except Exception as error:
            outcome, failure = _outcome_of(error), error
            raise
        finally:
            is_cached = ending is not None and ending.cached
            log_run(
                record.kind,
                outcome,
                visit=self._visit_label(visit),
                engine=record.engine,
                scale=record.scale,
                sizes=record.sizes,
                waited=None if entry is None else entry.waited,
                ran=None if entry is None else entry.ran,
                seconds=None if is_cached else getattr(ending and ending.made.report, "seconds", None),
                cached=is_cached,
                failure=failure,
            )

    def _in_turn(self, work: Work[Made], entry: Entry) -> Events[Made]:
        limits = self.settings
        try:
            yield from run_in_turn(work, entry, run_seconds=limits.run_seconds, wait_seconds=limits.wait_seconds)
        except Exception as error:
            if is_disk_full(error):
                raise NoRoomError from error
            raise


def _before(last: str, progress: Progress) -> Progress:
    """The progress of an engine as a part of a whole run, whose last stage follows the engine's end."""

    def report(stage: str, fraction: float) -> None:
        progress(last if fraction >= 1.0 else stage, ENGINE_SHARE * fraction)

    return report


def _cached(found: Made) -> Events[Made]:
    """The only event of a run whose result was in the cache."""
    yield Finished(found, cached=True)


def _cache_key(cache: ResultCache, job: RefineJob, fingerprint: str) -> str:
    """The key of a refinement's result; empty where a file cannot be read, which the run then tells."""
    files = {
        "reference": job.reference,
        "generated": job.generated,
        "reference mask": job.reference_mask,
        "generated mask": job.generated_mask,
        **{f"reference {number}": file for number, file in enumerate(job.further_references, start=2)},
    }
    options = {
        "scale": job.scale,
        "strength": float(job.strength),
        "surroundings": job.surroundings,
        "seed": job.seed,
        "object name": job.object_name,
        "engine": fingerprint,
        "profile": job.profile,
        "bits": job.bits,
    }
    try:
        return cache.key(files, options)
    except OSError:
        return ""


def _sizes_of(request: RefineRequest) -> Sizes:
    further = {f"reference {at}": one.picture.size for at, one in enumerate(request.further_references, start=2)}
    return {"reference": request.reference.size, "generated": request.generated.size, **further}


def _enlarged(size: tuple[int, int], scale: int) -> tuple[int, int]:
    return size[0] * scale, size[1] * scale


def _megapixels(size: tuple[int, int]) -> float:
    return size[0] * size[1] / 1e6


def _outcome_of(error: Exception) -> Outcome:
    match error:
        case BusyError() | OverloadedError():
            return "busy"
        case TooLongError():
            return "timeout"
        case InputError():
            return "refused"
        case _:
            return "failed"


def _best_of(served: Collection[EngineName]) -> EngineName:
    return "diffusion" if "diffusion" in served else next(iter(served))


def _engine_beside(generator: GeneratorChoice) -> EngineName:
    """The engine whose queue a preview waits in: the simulator needs the processor, DipRefGC the GPU."""
    if generator == "auto":
        return "correspondence" if sources.obstacle() or sources.on_cpu() else "diffusion"
    return "correspondence" if generator == "simulated" else "diffusion"
