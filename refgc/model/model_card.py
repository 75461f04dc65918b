"""The model card of a FreqMoLE adapter: metadata for the Hub, and how to use the adapter."""

from __future__ import annotations

from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined] # public, but not declared so

from refgc.hub import ADAPTER_FILES, FLUX_KLEIN, FLUX_KLEIN_BASE, FLUX_KONTEXT
from refgc.model.freqmole import FreqMoLEConfig

FLUX_LICENCE = "flux-1-dev-non-commercial-license"
TEXT = """
# FreqMoLE for RefGC-SR2

Two LoRA experts, one for low and one for high frequencies, in every block of `{base}`, mixed by one learnt gate per
block. With them RefGC-SR2 brings the true detail of a reference photo back into a generated picture, at a higher
resolution. `{weights}` holds experts and gates, `{config}` their rank and what they were trained with.

```python
import torch
from refgc.model.pipeline import {pipeline}

pipeline = {pipeline}.from_pretrained("{base}", adapter="{name}", dtype=torch.bfloat16)
pipeline.freqmole.fuse(keep_base=False)
pipeline.to("cuda")
pipeline(reference="photo.jpg", generated="generated.png", object_name="handbag").images[0].save("refined.png")
```
"""


def model_card(config: FreqMoLEConfig, name: str) -> ModelCard:
    """The card of an adapter.

    Args:
        config: its base is named; where that is FLUX.1-Kontext itself, its licence is passed on.
        name: what to load the adapter by, a repository or a folder.
    """
    data = ModelCardData(
        base_model=config.base if is_repository(config.base) else None,
        # Not diffusers, for which the Hub would show how to load a whole pipeline.
        library_name="refgc-sr2",
        pipeline_tag="image-to-image",
        tags=["freqmole", "lora", "super-resolution"],
        base_model_relation="adapter",
    )
    if config.base == FLUX_KONTEXT:
        data.license, data.license_name = "other", FLUX_LICENCE
        data.license_link = f"https://huggingface.co/{FLUX_KONTEXT}/blob/main/LICENSE.md"
    config_file, weights_file = ADAPTER_FILES
    pipeline = "RefGCSR2KleinPipeline" if config.base in (FLUX_KLEIN, FLUX_KLEIN_BASE) else "RefGCSR2Pipeline"
    text = TEXT.format(pipeline=pipeline, base=config.base, weights=weights_file, config=config_file, name=name)
    return ModelCard(f"---\n{data.to_yaml()}\n---\n{text}")


def is_repository(name: str) -> bool:
    """Whether a name can be that of a repository on the Hub."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name
