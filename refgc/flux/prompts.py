"""Prompts: the paper's instruction, its length limit, and embeddings, for which text encoders are loaded on demand."""

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
# The paper's instruction. A template, since an adapter may be trained with another.
OBJECT = "{object}"
INSTRUCTION = f"use the {OBJECT} in IMG1 as a reference to refine, replace, enhance the {OBJECT} in IMG2"
# Each takes about 4 MB at full size. Chosen by hand, not fitted.
CACHED_PROMPTS = 64


@dataclass(frozen=True, slots=True, eq=False)
class PromptEmbeddings:
    """The embeddings of a prompt, on the CPU.

    Attributes:
        tokens: (1, `LONGEST_PROMPT`, width) from T5.
        pooled: (1, width) from CLIP.
    """

    tokens: Tensor
    pooled: Tensor


def prompt_for(object_name: str, template: str = INSTRUCTION) -> str:
    """The instruction about an object in a few words.

    Args:
        object_name: the object.
        template: has `OBJECT` in it wherever the object's name belongs; by default the paper's.
    """
    return template.replace(OBJECT, object_name)


def check_length(tokenizer: Any, prompt: str) -> None:
    """Refuses a prompt that T5 would truncate.

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
        device: that the encoders run on; may be changed between prompts.
        keep: whether the encoders stay in main memory after a prompt; otherwise they are loaded again for the next.
    """

    def __init__(
        self,
        load: Callable[[], FluxKontextPipeline],
        device: torch.device,
        *,
        keep: bool,
        capacity: int = CACHED_PROMPTS,
    ) -> None:
        """Loads nothing yet.

        Args:
            load: returns a pipeline with both text encoders and tokenizers, on the CPU, and nothing else in it.
            device: see the class.
            keep: see the class.
            capacity: number of prompts whose embeddings are cached; the least recently used are evicted.
        """
        self.device = device
        self.keep = keep
        self._load = load
        self._capacity = capacity
        self._encoders: FluxKontextPipeline | None = None
        self._cached: OrderedDict[str, PromptEmbeddings] = OrderedDict()

    def prepare(self) -> None:
        """Loads the encoders where they stay in memory, so that the first prompt does not wait for them."""
        if self.keep:
            self._encoders = self._encoders or self._load()

    def read(self, prompt: str) -> PromptEmbeddings:
        """The prompt's embeddings, from the cache where they are in it.

        Raises:
            InputError: the prompt is too long.
        """
        if prompt in self._cached:
            self._cached.move_to_end(prompt)
            return self._cached[prompt]
        embeddings = self._encode(prompt)
        self._cached[prompt] = embeddings
        if len(self._cached) > self._capacity:
            self._cached.popitem(last=False)
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
