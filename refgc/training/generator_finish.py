"""The end of DipRefGC's training: the LoRAs with their card, loaded back as at inference."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard, ModelCardData

from refgc.diptych import loras
from refgc.diptych.controlnets import ControlNets
from refgc.diptych.sources import FLUX_DEV, LORAS, find_loras
from refgc.errors import EngineError, one_line
from refgc.imaging.files import write_whole
from refgc.model.model_card import FLUX_LICENCE, is_repository
from refgc.model.sharding import is_first_process, is_sharded
from refgc.model.weights import CARD_FILE
from refgc.training.finish import ADAPTER, LORA_TOLERANCE, card_section
from refgc.training.generator_cache import read_split
from refgc.training.loop import Training
from refgc.training.order import Order
from refgc.training.records import Records
from refgc.training.settings import GeneratorModelSettings, GeneratorRun

COMMIT = "LoRAs for DipRefGC's ControlNets"
TEXT = """
# LoRAs for DipRefGC

One LoRA for each of DipRefGC's two ControlNets on `{base}`: `inpainting` for `{inpainting}`, and `canny` for `{canny}`.
With them DipRefGC draws the object of a photo into a scene, in the pose of the object there. Its pictures have the
artifacts that RefGC-SR2 is trained to remove.

```python
import torch
from refgc.diptych.pipeline import DipRefGCPipeline

pipeline = DipRefGCPipeline.from_pretrained(
    "{base}", "{inpainting}", "{canny}", loras="{name}", dtype=torch.bfloat16
)
```

`refgc preview` and `refgc dataset triplets` take them from the environment variable `{variable}`.
"""


def finish(training: Training, controlnets: ControlNets, settings: GeneratorRun, records: Records) -> Path:
    """Write the LoRAs with their card into `adapter`; the LoRAs in memory are then replaced by those of the files.

    Args:
        training: the run after its last step.
        controlnets: with the LoRAs; of a run with a moving average, the averages are written.
        settings: of the run.
        records: with the losses of all steps.

    Returns:
        The folder of the LoRAs.

    Raises:
        EngineError: the files do not do what was trained, or nothing was learnt.
        InputError: a folder cannot be written, or the dataset is not there any more.
        OSError: the disk is full.
    """
    adapter = Path(settings.folder) / ADAPTER
    sharded = is_sharded(parameter for _, parameter in loras.trained(controlnets))
    with nullcontext() if training.average is None else training.average.applied():
        loras.save(controlnets, adapter)
        if is_first_process():
            text = card_section(adapter, settings, training.step, records, data=_data(settings), drawn=("total",))
            card = _card(settings.model, adapter.resolve().name)
            write_whole(adapter / CARD_FILE, (str(card) + text).encode())
            if not sharded:
                _check(training, controlnets, adapter)
    training.processes.wait()
    return adapter


@torch.no_grad()
def _check(training: Training, controlnets: ControlNets, adapter: Path) -> None:
    """Loads the files as at inference in the place of what was trained, and compares the losses of one pass."""
    task, device = training.task, training.processes.device
    batch = task.batch(Order(task.samples, training.settings.run).step(0)[0], device)

    def loss() -> float:
        terms: Any = task.module(batch)
        return float(terms.total)

    trained = loss()
    for controlnet in controlnets.nets:
        controlnet.unload_lora()
    plain = loss()
    loras.load(controlnets, find_loras(adapter, LORAS))
    controlnets.to(device)
    loaded = loss()
    if loaded == plain:
        raise EngineError(f"The LoRAs in {str(adapter)!r} change nothing: nothing was learnt; take more steps.")
    # A loss that is no number is not within the tolerance either.
    if not abs(loaded - trained) <= LORA_TOLERANCE * abs(trained):
        raise EngineError(
            f"The LoRAs in {str(adapter)!r} do not do what was trained (loss {loaded:.4f} instead of {trained:.4f}); "
            "the newest checkpoint has the state of the run."
        )


def _data(settings: GeneratorRun) -> str:
    """What was learnt from, in one sentence."""
    pairs = read_split(settings.data, "train")
    objects = len({pair.object_id for pair in pairs})
    licences = Counter(pair.source.licence or "unknown licence" for pair in pairs)
    under = ", ".join(f"{name} ({number})" for name, number in licences.most_common())
    return one_line(f"{len(pairs)} pairs on {objects} objects; under {under}")


def _card(model: GeneratorModelSettings, name: str) -> ModelCard:
    """The card without its section on the training; the licence of FLUX.1-dev itself is passed on."""
    sources = (model.base, model.inpainting_controlnet, model.canny_controlnet)
    data = ModelCardData(
        base_model=[source for source in sources if is_repository(source)] or None,
        # Not diffusers, for which the Hub would show how to load a whole pipeline.
        library_name="refgc-sr2",
        pipeline_tag="image-to-image",
        tags=["diprefgc", "lora", "controlnet"],
        base_model_relation="adapter",
    )
    if model.base == FLUX_DEV:
        data.license, data.license_name = "other", FLUX_LICENCE
        data.license_link = f"https://huggingface.co/{FLUX_DEV}/blob/main/LICENSE.md"
    text = TEXT.format(
        base=model.base,
        inpainting=model.inpainting_controlnet,
        canny=model.canny_controlnet,
        name=name,
        variable=LORAS,
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n{text}")
