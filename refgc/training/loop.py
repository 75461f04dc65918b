"""The training loop, whatever is trained: passes, gradients, steps, checkpoints and records."""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from refgc.dataset.lock import only_run
from refgc.engine import Progress, no_progress
from refgc.errors import EngineError, InputError, quoted
from refgc.imaging.files import make_own_folder
from refgc.training import checkpoint
from refgc.training.optimisation import MovingAverage, gradient_norm, make_optimiser, make_schedule
from refgc.training.order import Order, Pass, check_processes
from refgc.training.processes import Processes, is_leader
from refgc.training.records import Records, memory_gib
from refgc.training.settings import TrainingRun, resuming_settings

# Batches that are read before they are needed; each takes about 20 MB at full size. Chosen by hand.
READ_AHEAD = 2
# The state of what is trained besides losses, such as the gates, is written every so many steps. Chosen by hand.
STATE_EVERY = 10


class Terms(Protocol):
    """What a forward returns: a named tuple of tensors."""

    total: Tensor

    def _asdict(self) -> dict[str, Tensor]: ...


class Task(Protocol):
    """What is trained, and on what.

    Attributes:
        module: called with a batch, it returns `Terms`. Terms without dimensions are means over the batch, others are
            sums.
        blocks: parts of it that FSDP2 shards one by one.
        samples: what order is made of: of each sample what it must have in common with those of its pass.
        validates_every: steps between two validations; 0 for none.
        fixed: settings, and whatever else a run that goes on has to find as it was, as JSON can hold it.
    """

    module: nn.Module
    blocks: Sequence[nn.Module]
    samples: Sequence[Any]
    validates_every: int
    fixed: Mapping[str, Any]

    def trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        """What is trained, by name, in a fixed order; sharded where the module is."""
        ...

    def groups(self) -> list[dict[str, Any]]:
        """The same as parameter groups of an optimiser, each with a name."""
        ...

    def batch(self, one: Pass, device: torch.device) -> Any:
        """What the module is called with for a pass.

        Raises:
            InputError: a file is missing or damaged.
        """
        ...

    def clear(self) -> None:
        """Called after each backward pass."""
        ...

    def before_update(self, step: int) -> None:
        """Called before each update, which is that of this step, from 0; may drop gradients."""
        ...

    def numbers(self, terms: Mapping[str, Tensor]) -> dict[str, float]:
        """Terms of a step, summed up over all passes and processes, as numbers by name."""
        ...

    def state(self) -> dict[str, Any]:
        """Further numbers of a step; all processes call it."""
        ...

    def save_adapter(self, folder: Path) -> None:
        """Writes what is trained as others load it; all processes call it."""
        ...

    def validate(self, step: int, module: nn.Module, records: Records) -> dict[str, Any]:
        """Draws samples that are not learnt from, and gives their scores; all processes call it."""
        ...


Kind = TypeVar("Kind", bound=Task)


@dataclass(slots=True)
class Training:
    """A run in memory, at some step.

    Attributes:
        task: what is trained.
        settings: of the run.
        processes: of the run.
        module: of the task, wrapped.
        optimiser: of what is trained.
        schedule: of its learning rates.
        average: of what is trained; None where none is kept.
        step: steps that were taken.
    """

    task: Task
    settings: TrainingRun
    processes: Processes
    module: nn.Module
    optimiser: Optimizer
    schedule: Any
    average: MovingAverage | None
    step: int = 0

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What is trained."""
        return [parameter for _, parameter in self.task.trained()]


def prepare(task: Task, settings: TrainingRun, processes: Processes) -> Training:
    """Wraps what is trained, and finds the newest checkpoint of the run.

    Raises:
        InputError: the processes cannot share a batch, or the checkpoint is damaged or of other settings or data.
        EngineError: the optimiser cannot be had.
    """
    check_processes(settings.run, processes.count)
    module = processes.wrap(task.module, task.blocks)
    if processes.shards and settings.optimisation.optimiser != "adamw":
        raise EngineError(f'With FSDP2 the optimiser is "adamw", and {settings.optimisation.optimiser!r} is chosen.')
    optimiser = make_optimiser(task.groups(), settings.optimisation)
    schedule = make_schedule(optimiser, settings.optimisation, settings.run.steps)
    decay = settings.optimisation.average
    average = MovingAverage((parameter for _, parameter in task.trained()), decay) if decay else None
    training = Training(task, settings, processes, module, optimiser, schedule, average)
    found = checkpoint.checkpoints(Path(settings.folder))
    if found:
        _resume(training, found[-1])
    return training


def run_to_end(
    settings: TrainingRun,
    make_task: Callable[[Processes], Kind],
    finish: Callable[[Kind, Training, Records], Path],
    *,
    quantized: bool,
    advice: str,
    max_steps: int | None = None,
    progress: Progress = no_progress,
) -> Path | None:
    """Takes the steps of a run that are left, after its newest checkpoint where there is one, and finishes it.

    Args:
        settings: of the run.
        make_task: loads what is trained.
        finish: writes what was trained, and returns its folder.
        quantized: whether the base is, which FSDP2 cannot shard.
        advice: what to do where the GPU's memory is not enough.
        max_steps: as for `train`.
        progress: told of each step.

    Returns:
        What `finish` returns; None in all processes but the first.

    Raises:
        InputError: another run is at work in the folder, it is write-protected, or as for `prepare` and `train`.
        EngineError: as for `prepare` and `train`, or the GPU's memory is not enough.
        OSError: the disk is full; the newest checkpoint stays as it was.
    """
    folder = Path(settings.folder)
    make_own_folder(folder)
    with only_run(folder) if is_leader() else nullcontext():
        processes = Processes(folder, settings.tracking, quantized=quantized)
        try:
            task = make_task(processes)
            training = prepare(task, settings, processes)
            records = Records(folder, processes, settings.tracking, training.step)
            train(training, records, max_steps=max_steps, progress=progress)
            made = finish(task, training, records)
        except torch.OutOfMemoryError as error:
            raise EngineError(f"The memory of the GPU is not enough; {advice}.") from error
        finally:
            processes.end()
            gc.collect()
    return made if processes.is_first else None


def train(
    training: Training, records: Records, *, max_steps: int | None = None, progress: Progress = no_progress
) -> None:
    """Takes all steps that are left; the last one ends with a checkpoint and a validation.

    Args:
        training: from `prepare`.
        records: of the run.
        max_steps: stop after so many steps of the whole run, as a trial; None takes those of the settings.
        progress: told of each step. Where it raises, a run of one process ends with a checkpoint.

    Raises:
        EngineError: the loss or a gradient is no number. The newest checkpoint stays as it was.
        InputError: a file of the cache is missing or damaged.
        OSError: the disk is full.
    """
    settings, task = training.settings, training.task
    order = Order(task.samples, settings.run)
    last = min(settings.run.steps, max_steps or settings.run.steps)
    begun, first = time.monotonic(), training.step
    with closing(_Reader(task, training.processes.device)) as reader:
        while training.step < last:
            started = time.monotonic()
            content = _take_step(training, order, reader)
            seconds = time.monotonic() - started
            rate = settings.run.batch_size / max(seconds, 1e-9)
            memory = memory_gib(training.processes.device)
            is_last = training.step == last
            saves = is_last or training.step % settings.checkpoints.every == 0
            if saves or training.step % STATE_EVERY == 0:
                content |= task.state()
            if task.validates_every and (training.step % task.validates_every == 0 or is_last):
                with nullcontext() if training.average is None else training.average.applied():
                    content |= task.validate(training.step, training.module, records)
            # Before the checkpoint: a run goes on after a checkpoint, and the lines up to it have to be there.
            records.write(
                training.step,
                {**content, "seconds": seconds, "samples_per_second": rate, "memory_gib": memory},
            )
            if saves:
                _save(training)
                records.gates(training.step)
            left = (last - training.step) * (time.monotonic() - begun) / (training.step - first)
            try:
                progress(
                    f"step {training.step} of {last}: loss {content['loss']['total']:.4f}, {rate:.2f} samples/s, "
                    f"{memory:.1f} GiB, {_duration(left)} left",
                    training.step / last,
                )
            except BaseException:
                # Somebody stops the run here. Of several processes the others may be in another step, and would wait.
                if not saves and training.processes.count == 1:
                    _save(training)
                raise


class _Reader:
    """Reads batches from the disk while the one before is computed; one thread, in the order of the passes."""

    def __init__(self, task: Task, device: torch.device) -> None:
        self._task, self._device = task, device
        self._thread = ThreadPoolExecutor(1)
        self._asked: deque[tuple[Pass, Future[Any]]] = deque()

    def next(self, passes: Sequence[Pass], later: Sequence[Pass]) -> Iterator[Any]:
        """The batches of these passes; meanwhile those of the later ones begin to be read.

        Raises:
            InputError: as for `Task.batch`.
        """
        following = iter([*passes, *later][len(self._asked) :])
        for _ in passes:
            while len(self._asked) < READ_AHEAD and (one := next(following, None)) is not None:
                self._asked.append((one, self._thread.submit(self._task.batch, one, self._device)))
            yield self._asked.popleft()[1].result()

    def close(self) -> None:
        """Leaves aside what was not asked for yet."""
        self._thread.shutdown(cancel_futures=True)


def _own(passes: Sequence[Pass], processes: Processes) -> Sequence[Pass]:
    """The passes of this process."""
    return passes[processes.number :: processes.count]


def _take_step(training: Training, order: Order, reader: _Reader) -> dict[str, Any]:
    """One optimiser step; its figures."""
    task, processes = training.task, training.processes
    passes = order.step(training.step)
    samples = sum(len(one.samples) for one in passes)
    mine = _own(passes, processes)
    batches = reader.next(mine, _own(order.step(training.step + 1), processes))
    sums: dict[str, Tensor] = {}
    for number, (one, batch) in enumerate(zip(mine, batches, strict=True)):
        with processes.without_exchange(training.module, last=number == len(mine) - 1):
            terms: Terms = training.module(batch)
            # The wrappers take the mean over processes; a step is the mean over its samples.
            share = len(one.samples) / samples
            (terms.total * (share * processes.count)).backward()  # type: ignore[no-untyped-call]
        task.clear()
        for name, term in terms._asdict().items():
            value = term.detach() * share if term.ndim == 0 else term.detach()
            sums[name] = sums[name] + value if name in sums else value
    loss = task.numbers({name: processes.sum(term) for name, term in sums.items()})
    epoch = passes[0].epoch
    _check_finite(loss["total"], "loss", training.step, epoch)
    task.before_update(training.step)
    norms = _clip(training)
    for name, norm in norms.items():
        _check_finite(norm, f"gradient of the {name}", training.step, epoch)
    rates = {group["name"]: group["lr"] for group in training.optimiser.param_groups}
    training.optimiser.step()
    training.schedule.step()
    training.optimiser.zero_grad()
    if training.average is not None:
        training.average.update()
    training.step += 1
    return {"epoch": epoch, "loss": loss, "gradient_norm": norms, "learning_rate": rates}


def _clip(training: Training) -> dict[str, float]:
    """Scales the gradients where they are too large; their norms before that, by group."""
    groups = {group["name"]: group["params"] for group in training.optimiser.param_groups}
    norms = {name: gradient_norm(parameters).item() for name, parameters in groups.items()}
    most, whole = training.settings.optimisation.clip, sum(norm**2 for norm in norms.values()) ** 0.5
    if most and whole > most:
        for parameter in training.parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(most / whole)
    return norms


def _check_finite(value: float, what: str, step: int, epoch: int) -> None:
    if value - value != 0:
        raise EngineError(
            f"The {what} is no number at step {step + 1}, in epoch {epoch}, and the checkpoints are as they were; "
            "start again with lower learning rates or a lower `clip`, in another `folder`."
        )


def _save(training: Training) -> None:
    settings, task = training.settings, training.task
    tensors: dict[str, Tensor] = {f"trained.{name}": parameter.detach() for name, parameter in task.trained()}
    found, optimiser = checkpoint.optimiser_state(training.optimiser)
    tensors |= found
    record: dict[str, Any] = {
        "fixed": dict(task.fixed),
        "optimiser": optimiser,
        "schedule": {name: value for name, value in training.schedule.state_dict().items() if name != "lr_lambdas"},
    }
    if training.average is not None:
        tensors |= {f"average.{number}": tensor for number, tensor in enumerate(training.average.tensors)}
        record["average_updates"] = training.average.updates
    tensors |= {f"random.{training.processes.number}.{name}": state for name, state in _random_states().items()}

    def write_adapter(folder: Path) -> None:
        with nullcontext() if training.average is None else training.average.applied():
            task.save_adapter(folder)

    checkpoint.save(
        Path(settings.folder),
        training.step,
        tensors,
        record,
        keep=settings.checkpoints.keep,
        write_adapter=write_adapter,
    )


@torch.no_grad()
def _resume(training: Training, found: Path) -> None:
    record = checkpoint.read_record(found)
    fixed = dict(training.task.fixed)
    kept = record.get("fixed", {})
    differing = sorted(name for name in fixed.keys() | kept.keys() if fixed.get(name) != kept.get(name))
    if differing:
        if differing[0] not in resuming_settings(training.settings) and differing[0] in fixed:
            raise InputError(
                f"The checkpoint {quoted(str(found))} was made with other {differing[0]}; bring them back, or name "
                "another `folder` for a new run."
            )
        before, now = (quoted(values.get(differing[0])) for values in (kept, fixed))
        raise InputError(
            f"The checkpoint {quoted(str(found))} was made with another {differing[0]} ({before}, now {now}); "
            "set it back, or name another `folder` for a new run."
        )
    named = dict(training.task.trained())
    # An optimiser counts its parameters through all of its groups.
    in_groups = [parameter for group in training.optimiser.param_groups for parameter in group["params"]]
    like: dict[str, Tensor] = {f"trained.{name}": parameter for name, parameter in named.items()}
    like |= {f"optimiser.{number}": parameter for number, parameter in enumerate(in_groups)}
    like |= {f"average.{number}": parameter for number, parameter in enumerate(named.values())}
    tensors = checkpoint.read_tensors(found, like)
    for name, parameter in named.items():
        parameter.copy_(tensors[f"trained.{name}"])
    checkpoint.load_optimiser(training.optimiser, tensors, record["optimiser"])
    training.schedule.load_state_dict(
        record["schedule"] | {"lr_lambdas": [None] * len(training.optimiser.param_groups)}
    )
    if training.average is not None:
        averages = (tensors[f"average.{number}"] for number in range(len(named)))
        training.average.load(averages, record["average_updates"])
    prefix = f"random.{training.processes.number}."
    _set_random_states({name.removeprefix(prefix): one for name, one in tensors.items() if name.startswith(prefix)})
    training.step = record["step"]


def _random_states() -> dict[str, Tensor]:
    """Of torch's own generators. Samples have generators of their own; these are for whatever else draws."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _set_random_states(states: Mapping[str, Tensor]) -> None:
    if "cpu" in states:
        torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def _duration(seconds: float) -> str:
    """Such as "3:05:20"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
