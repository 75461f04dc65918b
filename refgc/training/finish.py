"""The end of a run: the adapter with its card, and a plain LoRA that is loaded back and has to do what it should."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from huggingface_hub import HfApi
from safetensors.torch import load_file

from refgc.dataset.rows import read_entries
from refgc.errors import EngineError, InputError, one_line
from refgc.hub import in_one_sentence
from refgc.imaging.arrays import Bytes
from refgc.imaging.files import write_whole
from refgc.imaging.image import Image, encoded
from refgc.model import weights
from refgc.model.freqmole import FreqMoLE
from refgc.model.model_card import model_card
from refgc.model.sharding import is_first_process, is_sharded
from refgc.training.loop import Training
from refgc.training.order import Order
from refgc.training.records import Records
from refgc.training.settings import RefinerRun, TrainingRun, resuming_settings

ADAPTER, LORA, CURVES = "adapter", "lora", "curves.png"
# A LoRA and the experts compute the same in another order. Of the loss they may differ by this share: much more than
# bfloat16 rounds, much less than a wrong scale changes. Chosen by hand.
LORA_TOLERANCE = 0.02
# Of the picture of the losses, in pixels. Chosen by hand.
PANEL = (480, 160)
DRAWN = ("total", "flow_matching", "low_frequency", "high_frequency", "attention_alignment")

CARD = """
## Training

{steps} steps of {batch_size} samples. Training data: {data}.

![The terms of the objective over the steps, each from 0 to its largest value]({curves})

{last}

```toml
{settings}
```
"""


def finish(training: Training, freqmole: FreqMoLE, settings: RefinerRun, records: Records) -> Path:
    """Write the adapter with its card into `adapter`, and the same as a plain LoRA into `lora`.

    Args:
        training: the run after its last step.
        freqmole: the experts and gates; of a run with a moving average, the averages are written.
        settings: of the run.
        records: with the losses of all steps.

    Returns:
        The folder of the adapter.

    Raises:
        EngineError: the LoRA does not do what the experts do, or nothing was learnt.
        InputError: a folder cannot be written, or the dataset is not there any more.
    """
    folder = Path(settings.folder)
    with nullcontext() if training.average is None else training.average.applied():
        if is_sharded(freqmole.parameters()) or is_first_process():
            weights.save(freqmole, folder / ADAPTER)
            lora = weights.export_lora(freqmole, folder / LORA)
        if is_first_process():
            _write_card(folder / ADAPTER, freqmole, settings, training.step, records)
            if not is_sharded(freqmole.parameters()):
                _check_lora(training, freqmole, lora)
    training.processes.wait()
    return folder / ADAPTER


def publish(adapter: Path, repository: str, message: str = "FreqMoLE experts and gates") -> str:
    """Upload the folder of an adapter, with its card and curves, in one commit.

    Args:
        adapter: the folder.
        message: of the commit.
        repository: its name on the Hugging Face Hub, such as "user/adapter"; made where it does not exist.

    Returns:
        The commit's address.

    Raises:
        InputError: the Hub does not take it.
    """
    with in_one_sentence(repository, "The adapter", InputError):
        hub = HfApi()
        full_name = hub.create_repo(repository, exist_ok=True).repo_id
        commit = hub.upload_folder(repo_id=full_name, folder_path=adapter, commit_message=message)
    return str(commit.commit_url)


@torch.no_grad()
def _check_lora(training: Training, freqmole: FreqMoLE, file: Path) -> None:
    """Loads the LoRA into the base without the experts, and compares the losses of one pass."""
    first = Order(training.task.samples, training.settings.run).step(0)[0]
    batch = training.task.batch(first, training.processes.device)

    def loss() -> float:
        terms: Any = training.task.module(batch)
        training.task.clear()
        return float(terms.flow_matching)

    with_experts = loss()
    transformer: Any = freqmole.transformer
    with freqmole.lifted():
        plain = loss()
        transformer.load_lora_adapter(load_file(file), prefix="transformer", adapter_name="exported")
        try:
            with_lora = loss()
        finally:
            transformer.unload_lora()
    if with_lora == plain:
        raise EngineError(f"The LoRA in {str(file)!r} changes nothing: nothing was learnt; take more steps.")
    # A loss that is no number is not within the tolerance either.
    if not abs(with_lora - with_experts) <= LORA_TOLERANCE * abs(with_experts):
        raise EngineError(
            f"The LoRA in {str(file)!r} does not do what the experts do (loss {with_lora:.4f} instead of "
            f"{with_experts:.4f}); use the adapter beside it."
        )


def _write_card(folder: Path, freqmole: FreqMoLE, settings: RefinerRun, steps: int, records: Records) -> None:
    text = card_section(folder, settings, steps, records, data=_data(settings), drawn=DRAWN)
    write_whole(folder / weights.CARD_FILE, (str(model_card(freqmole.config, folder.resolve().name)) + text).encode())


def card_section(
    folder: Path, settings: TrainingRun, steps: int, records: Records, *, data: str, drawn: Sequence[str]
) -> str:
    """The section of a card on the training; the picture of the losses is written beside the card.

    Args:
        folder: of the card.
        settings: of the run.
        steps: that were taken.
        records: with the losses of all steps.
        data: what was learnt from, in one sentence without its full stop.
        drawn: names of the losses that are told and drawn.
    """
    lines = list(records.read())
    write_whole(folder / CURVES, encoded(Image(picture_of_losses(lines, drawn)), CURVES))
    return CARD.format(
        steps=steps,
        batch_size=settings.run.batch_size,
        data=data,
        curves=CURVES,
        last=_last(lines, drawn),
        settings=_changed(settings),
    )


def _data(settings: RefinerRun) -> str:
    """What was learnt from, in one sentence."""
    entries = [
        entry
        for entry in read_entries(Path(settings.data.dataset), unreviewed=settings.data.unreviewed)
        if entry.split == "train"
    ]
    objects = len({entry.pair.object_id for entry in entries})
    generators = Counter(entry.triplet.made.generator for entry in entries if entry.triplet)
    licences = Counter(entry.pair.source.licence or "unknown licence" for entry in entries)
    told = (", ".join(f"{name} ({number})" for name, number in one.most_common()) for one in (generators, licences))
    by, under = told
    return one_line(f"{len(entries)} triplets on {objects} objects; LRGIs by {by}; under {under}")


def _last(lines: list[dict[str, Any]], drawn: Sequence[str]) -> str:
    """The last figures, in one line."""
    if not lines:
        return ""
    told = ", ".join(f"{name} {lines[-1]['loss'][name]:.4f}" for name in drawn)
    scores: dict[str, float] = next((line["validation"] for line in reversed(lines) if "validation" in line), {})
    return f"Last losses: {told}." + "".join(f" Validation {name}: {value:.3f}." for name, value in scores.items())


def _changed(settings: TrainingRun) -> str:
    """The settings that decide what is learnt and differ from their defaults, as TOML without tables."""
    usual = resuming_settings(type(settings)())
    changed = {name: value for name, value in resuming_settings(settings).items() if value != usual.get(name)}
    return "\n".join(f"{name} = {json.dumps(value)}" for name, value in changed.items())


def picture_of_losses(lines: list[dict[str, Any]], drawn: Sequence[str] = DRAWN) -> Bytes:
    """One panel for each term drawn, from 0 to its largest value, over all steps; uint8 RGB."""
    width, height = PANEL
    panels = []
    for name in drawn:
        values = np.array([line["loss"][name] for line in lines], np.float64)
        panel = np.full((height, width, 3), 255, np.uint8)
        largest = float(values.max()) if len(values) else 0.0
        across = np.linspace(8, width - 8, max(1, len(values)))
        down = height - 8 - (height - 40) * values / (largest or 1.0)
        if len(values):
            points = np.stack([across, down], axis=1).round().astype(np.int32)
            cv2.polylines(panel, [points], False, (200, 90, 30), 1, cv2.LINE_AA)
        cv2.putText(
            panel, f"{name}, to {largest:.3g}", (8, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA
        )
        panels.append(panel)
    return np.concatenate(panels)
