"""The loop on a task whose gradients are known: a line through points, in numbers that are computed here as well."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from math import cos, pi
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from refgc.errors import EngineError
from refgc.training import checkpoint
from refgc.training.loop import Training, prepare, run_to_end, train
from refgc.training.optimisation import make_schedule
from refgc.training.order import Order, Pass
from refgc.training.processes import Processes
from refgc.training.records import Records
from refgc.training.settings import OptimisationSettings, TrackingSettings, TrainingRun

# Of each sample the place and the value; those of one bucket share passes.
PLACES = torch.tensor([0.5, -1.0, 2.0, 1.5, -0.5])
VALUES = torch.tensor([3.0, 1.0, -2.0, 4.0, 0.0])
BUCKETS = ["wide", "wide", "wide", "tall", "tall"]


class LineTerms(NamedTuple):
    """What the line's module returns."""

    total: Tensor


class Line(nn.Module):
    """The mean square of slope * place + height - value, and noise that moves with torch's own random numbers."""

    def __init__(self, noise: float) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor([0.25]))
        self.height = nn.Parameter(torch.tensor([-0.5]))
        self._noise = noise

    def forward(self, samples: Tensor) -> LineTerms:
        errors = self.slope * PLACES[samples] + self.height - VALUES[samples]
        return LineTerms((errors + self._noise * torch.randn(len(samples))).square().mean())


class LineTask:
    """See `refgc.training.loop.Task`. The height stays as it is for some steps, as gates may."""

    def __init__(self, *, frozen: int = 0, noise: float = 0.0) -> None:
        self.module: nn.Module = Line(noise)
        self.blocks: Sequence[nn.Module] = []
        self.samples: Sequence[Any] = BUCKETS
        self.validates_every = 2
        self.fixed: Mapping[str, Any] = {}
        self.validated: list[tuple[int, float]] = []
        self._frozen = frozen

    def trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        return self.module.named_parameters()

    def groups(self) -> list[dict[str, Any]]:
        return [{"name": name, "params": [one], "lr": 0.1, "weight_decay": 0.0} for name, one in self.trained()]

    def batch(self, one: Pass, device: torch.device) -> Tensor:
        return torch.tensor(one.samples, device=device)

    def clear(self) -> None:
        """Nothing is kept."""

    def before_update(self, step: int) -> None:
        if step < self._frozen:
            dict(self.trained())["height"].grad = None

    def numbers(self, terms: Mapping[str, Tensor]) -> dict[str, float]:
        return {name: term.item() for name, term in terms.items()}

    def state(self) -> dict[str, Any]:
        return {}

    def save_adapter(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "line.json").write_text(json.dumps(line_of(self)))

    def validate(self, step: int, module: nn.Module, records: Records) -> dict[str, Any]:  # noqa: ARG002
        self.validated.append((step, line_of(self)["slope"]))
        return {"validation": {}}


def line_of(task: LineTask) -> dict[str, float]:
    return {name: parameter.item() for name, parameter in task.trained()}


def a_run(folder: Path, **tables: Mapping[str, Any]) -> TrainingRun:
    usual: dict[str, dict[str, Any]] = {
        "run": {"steps": 6, "batch_size": 4, "samples_at_once": 2},
        "optimisation": {"warmup": 0, "clip": 0.0},
        "tracking": {"trackers": []},
    }
    content = {name: {**usual.get(name, {}), **tables.get(name, {})} for name in usual.keys() | tables.keys()}
    return TrainingRun.model_validate({"folder": str(folder), **content})


def trained(settings: TrainingRun, task: LineTask, max_steps: int | None = None) -> Training:
    """The run after its steps."""
    processes = Processes(Path(settings.folder), settings.tracking)
    training = prepare(task, settings, processes)
    records = Records(Path(settings.folder), processes, TrackingSettings(trackers=()), training.step)
    train(training, records, max_steps=max_steps)
    return training


def lines_of(settings: TrainingRun) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(settings.folder) / "metrics.jsonl").read_text().splitlines()]


def gradients_of_first_step(settings: TrainingRun) -> Tensor:
    """Of slope and height, the mean over the samples of the step."""
    passes = Order(BUCKETS, settings.run).step(0)
    samples = torch.tensor([number for one in passes for number in one.samples])
    line = Line(0.0)
    line(samples).total.backward()
    assert line.slope.grad is not None
    assert line.height.grad is not None
    return torch.cat([line.slope.grad, line.height.grad])


def first_moments(training: Training) -> Tensor:
    """What Adam kept of slope and height after its first step: a tenth of their gradients."""
    return torch.cat([training.optimiser.state[parameter]["exp_avg"] for parameter in training.parameters])


def test_a_step_is_the_mean_over_its_samples_however_they_share_passes(tmp_path: Path) -> None:
    """Five samples in passes of two leave passes of one."""
    sizes: set[int] = set()
    for seed in range(4):
        settings = a_run(tmp_path / str(seed), run={"seed": seed, "steps": 1, "batch_size": 6})
        sizes |= {len(one.samples) for one in Order(BUCKETS, settings.run).step(0)}
        expected = gradients_of_first_step(settings)
        training = trained(settings, LineTask())
        torch.testing.assert_close(first_moments(training), 0.1 * expected)
        (line,) = lines_of(settings)
        assert line["gradient_norm"] == pytest.approx(
            {"slope": abs(expected[0].item()), "height": abs(expected[1].item())}
        )
    assert sizes == {1, 2}


def test_gradients_are_clipped_by_the_norm_of_all_of_them(tmp_path: Path) -> None:
    settings = a_run(tmp_path / "run", run={"steps": 1}, optimisation={"clip": 0.3})
    expected = gradients_of_first_step(settings)
    assert expected.norm() > 0.3
    kept = first_moments(trained(settings, LineTask()))
    torch.testing.assert_close(kept, 0.1 * 0.3 * expected / expected.norm())
    small = a_run(tmp_path / "small", run={"steps": 1}, optimisation={"clip": 1000.0})
    torch.testing.assert_close(first_moments(trained(small, LineTask())), 0.1 * expected)


def test_what_is_frozen_stays_for_its_steps_and_then_learns(tmp_path: Path) -> None:
    task = LineTask(frozen=2)
    settings = a_run(tmp_path)
    trained(settings, task, 2)
    assert line_of(task)["height"] == -0.5
    assert line_of(task)["slope"] != 0.25
    again = LineTask(frozen=2)
    trained(settings, again, 3)
    assert line_of(again)["height"] != -0.5
    assert [line["gradient_norm"]["height"] > 0 for line in lines_of(settings)] == [False, False, True]


def test_the_newest_checkpoints_stay_and_what_a_killed_run_began_goes(tmp_path: Path) -> None:
    begun = tmp_path / "checkpoints" / ".draft-step_00000009" / "tensors"
    begun.mkdir(parents=True)
    (begun / "__0_0.distcp").write_bytes(b"half")
    trained(a_run(tmp_path, run={"steps": 5}, checkpoints={"every": 1, "keep": 2}), LineTask())
    assert sorted(one.name for one in (tmp_path / "checkpoints").iterdir()) == ["step_00000004", "step_00000005"]


def test_the_average_is_that_of_all_steps_and_is_what_is_validated_and_kept(tmp_path: Path) -> None:
    settings = a_run(tmp_path, optimisation={"average": 0.5}, checkpoints={"every": 2})
    task = LineTask()
    average, averages = 0.25, []
    processes = Processes(tmp_path, settings.tracking)
    training = prepare(task, settings, processes)
    records = Records(tmp_path, processes, settings.tracking, 0)
    for step in range(1, 7):
        train(training, records, max_steps=step)
        # The decay of a young average is smaller: that of diffusers' EMAModel.
        decay = min(0.5, step / (9 + step)) if step > 1 else 0.0
        average = decay * average + (1 - decay) * line_of(task)["slope"]
        averages.append(average)
        assert training.average is not None
        assert training.average.tensors[0].item() == pytest.approx(average, rel=1e-5)
        assert average != pytest.approx(line_of(task)["slope"], rel=1e-3) or step == 1
    # Each call ends with a validation and a checkpoint.
    assert [slope for _, slope in task.validated] == pytest.approx(averages, rel=1e-5)
    newest = checkpoint.checkpoints(tmp_path)[-1]
    kept = json.loads((newest / "adapter" / "line.json").read_text())
    assert kept["slope"] == pytest.approx(averages[-1], rel=1e-5)
    state = checkpoint.read_tensors(newest, {})
    assert state["trained.slope"].item() == line_of(task)["slope"]


@pytest.mark.parametrize("cut", [1, 3, 4])
def test_a_run_in_two_parts_is_the_same_to_the_bit(tmp_path: Path, cut: int) -> None:
    """Parameters, averages, losses, rates, and the random numbers of torch itself."""
    how: dict[str, Any] = {
        "optimisation": {"average": 0.9, "schedule": "cosine", "warmup": 2, "clip": 0.5},
        "checkpoints": {"every": 3},
    }
    whole, parts = (a_run(tmp_path / name, **how) for name in ("whole", "parts"))
    torch.manual_seed(3)
    one = trained(whole, LineTask(frozen=2, noise=1.0))
    torch.manual_seed(3)
    trained(parts, LineTask(frozen=2, noise=1.0), cut)
    torch.manual_seed(4)
    other = trained(parts, LineTask(frozen=2, noise=1.0))
    exact = ("step", "epoch", "loss", "gradient_norm", "learning_rate")
    assert [[line[name] for name in exact] for line in lines_of(parts)] == [
        [line[name] for name in exact] for line in lines_of(whole)
    ]
    assert one.average is not None
    assert other.average is not None
    assert one.average.updates == other.average.updates == 6
    for mine, theirs in ((one.parameters, other.parameters), (one.average.tensors, other.average.tensors)):
        assert all(torch.equal(first, second) for first, second in zip(mine, theirs, strict=True))


def test_steps_after_the_checkpoint_are_not_told_twice(tmp_path: Path) -> None:
    settings = a_run(tmp_path, checkpoints={"every": 2})
    trained(settings, LineTask(), 2)
    metrics = tmp_path / "metrics.jsonl"
    killed = [metrics.read_text(), '{"step": 3, "loss": {"total": 9.0}}\n', '{"step": 4, "lo']
    metrics.write_text("".join(killed))
    trained(settings, LineTask())
    assert [line["step"] for line in lines_of(settings)] == [1, 2, 3, 4, 5, 6]
    assert lines_of(settings)[2]["loss"]["total"] != 9.0


def test_memory_that_is_not_enough_for_the_model_is_one_sentence(tmp_path: Path) -> None:
    def load(processes: Processes) -> LineTask:
        raise torch.OutOfMemoryError(f"{processes.device}: tried to allocate 30 GiB")

    with pytest.raises(EngineError, match=r"^The memory of the GPU is not enough; take less\.$"):
        run_to_end(a_run(tmp_path), load, lambda *_: tmp_path, quantized=False, advice="take less")


@pytest.mark.parametrize("warmup", [0, 2])
def test_rates_rise_and_then_stay_or_fall_along_a_cosine(warmup: int) -> None:
    def rates(schedule: str) -> list[float]:
        parameter = nn.Parameter(torch.zeros(1))
        optimiser = torch.optim.SGD([parameter], lr=0.5)
        how = OptimisationSettings.model_validate({"warmup": warmup, "schedule": schedule})
        rising = make_schedule(optimiser, how, 10)
        found = []
        for _ in range(11):
            found.append(optimiser.param_groups[0]["lr"])
            optimiser.step()
            rising.step()
        return found

    rise = [0.5 * step / (warmup + 1) for step in range(1, warmup + 1)]
    assert rates("constant") == pytest.approx(rise + [0.5] * (11 - warmup))
    falling = [0.25 * (1 + cos(pi * step / (10 - warmup))) for step in range(11 - warmup)]
    assert rates("cosine") == pytest.approx(rise + falling)
    assert min(rates("constant")) > 0
    assert rates("cosine")[-1] == pytest.approx(0)
