"""Prompts: the paper's words, their limit, and their embeddings, for which the text encoders come and go."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from refgc.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diffusers import FluxKontextPipeline

# T5's sequence length in FLUX.1-Kontext; CLIP reads the first 77 tokens only and gives the pooled embedding.
LONGEST_PROMPT = 512
# About 4 MB each at full size.
REMEMBERED_PROMPTS = 64


@dataclass(frozen=True, slots=True, eq=False)
class PromptEmbeddings:
    """What the transformer reads of a prompt, on the CPU.

    Attributes:
        tokens: (1, `LONGEST_PROMPT`, width) from T5.
        pooled: (1, width) from CLIP.
    """

    tokens: Tensor
    pooled: Tensor


def prompt_for(object_name: str) -> str:
    """The paper's instruction, about an object in a few words."""
    return f"use the {object_name} in IMG1 as a reference to refine, replace, enhance the {object_name} in IMG2"


def check_length(tokenizer: Any, prompt: str) -> None:
    """Refuses a prompt of which T5 would not read the end.

    Args:
        tokenizer: T5's, `tokenizer_2` of the pipeline.
        prompt: the whole instruction.

    Raises:
        InputError: more tokens than `LONGEST_PROMPT`, the end mark included.
    """
    tokens = len(tokenizer(prompt, truncation=False, verbose=False).input_ids)
    if tokens > LONGEST_PROMPT:
        raise InputError(
            f"The prompt has {tokens} tokens and the model reads {LONGEST_PROMPT}; say it in fewer words, or give the "
            "object a shorter name."
        )


class PromptReader:
    """Turns prompts into embeddings; the text encoders are on the device only while they read.

    Attributes:
        device: where the encoders run; may be changed between prompts.
        keep: whether the encoders then wait in main memory; else they are dropped and loaded anew for a new prompt.
    """

    def __init__(
        self,
        load: Callable[[], FluxKontextPipeline],
        device: torch.device,
        *,
        keep: bool,
        capacity: int = REMEMBERED_PROMPTS,
    ) -> None:
        """Loads nothing yet.

        Args:
            load: gives a pipeline with both text encoders and tokenizers, on the CPU, and nothing else in it.
            device: see the class.
            keep: see the class.
            capacity: how many prompts are remembered; those unused for longest are forgotten first.
        """
        self.device = device
        self.keep = keep
        self._load = load
        self._capacity = capacity
        self._encoders: FluxKontextPipeline | None = None
        self._remembered: OrderedDict[str, PromptEmbeddings] = OrderedDict()

    def prepare(self) -> None:
        """Loads the encoders where they are kept, so that the first prompt need not wait for them."""
        if self.keep:
            self._encoders = self._encoders or self._load()

    def read(self, prompt: str) -> PromptEmbeddings:
        """The prompt's embeddings, from memory where they are known.

        Raises:
            InputError: the prompt is too long.
        """
        if prompt in self._remembered:
            self._remembered.move_to_end(prompt)
            return self._remembered[prompt]
        embeddings = self._encode(prompt)
        self._remembered[prompt] = embeddings
        if len(self._remembered) > self._capacity:
            self._remembered.popitem(last=False)
        return embeddings

    def _encode(self, prompt: str) -> PromptEmbeddings:
        encoders = self._encoders or self._load()
        self._encoders = encoders if self.keep else None
        check_length(encoders.tokenizer_2, prompt)
        with torch.no_grad(), _on_device(encoders, self.device):
            tokens, pooled, _ = encoders.encode_prompt(
                prompt, None, device=self.device, max_sequence_length=LONGEST_PROMPT
            )
            return PromptEmbeddings(tokens.cpu(), pooled.cpu())


@contextmanager
def _on_device(encoders: FluxKontextPipeline, device: torch.device) -> Iterator[None]:
    try:
        encoders.to(device)
        yield
    finally:
        encoders.to("cpu")
        if device.type == "cuda":
            torch.cuda.empty_cache()
