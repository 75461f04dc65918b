"""Prompts: their length limit, and their embeddings, for which text encoders are loaded on demand."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from refgc.errors import InputError

# T5's sequence length in FLUX.1-Kontext; CLIP reads the first 77 tokens only and gives the pooled embedding.
LONGEST_PROMPT = 512
# Each takes about 4 MB at full size. Chosen by hand, not fitted.
CACHED_PROMPTS = 64


@dataclass(frozen=True, slots=True, eq=False)
class PromptEmbeddings:
    """The embeddings of a prompt, on the CPU.

    Attributes:
        tokens: (1, `LONGEST_PROMPT`, width) from T5, or from FLUX.2's text encoder.
        pooled: (1, width) from CLIP; None for FLUX.2, which has none.
        negative: as `tokens`, of an empty prompt, for a model that is guided by it; None for others.
    """

    tokens: Tensor
    pooled: Tensor | None = None
    negative: Tensor | None = None

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> PromptEmbeddings:
        """The same on a device, and of another dtype where one is given."""

        def moved(part: Tensor | None) -> Tensor | None:
            return None if part is None else part.to(device, dtype)

        return PromptEmbeddings(self.tokens.to(device, dtype), moved(self.pooled), moved(self.negative))


Embed = Callable[[Any, str, torch.device], PromptEmbeddings]


def check_length(tokenizer: Any, prompt: str) -> None:
    """Refuses a prompt that T5 would truncate.

    Args:
        tokenizer: T5's, `tokenizer_2` of the pipeline.
        prompt: the whole instruction.

    Raises:
        InputError: more tokens than `LONGEST_PROMPT`, the end mark included.
    """
    check_count(len(tokenizer(prompt, truncation=False, verbose=False).input_ids))


def check_count(tokens: int) -> None:
    """Refuses a prompt of so many tokens if a text encoder would truncate it.

    Raises:
        InputError: more tokens than `LONGEST_PROMPT`, those that stand around the prompt included.
    """
    if tokens > LONGEST_PROMPT:
        raise InputError(
            f"The prompt has {tokens} tokens and the model reads {LONGEST_PROMPT}; say it in fewer words, or give the "
            "object a shorter name."
        )


def embed_flux(encoders: Any, prompt: str, device: torch.device) -> PromptEmbeddings:
    """The embeddings of a prompt by FLUX.1's two text encoders.

    Args:
        encoders: a pipeline of FLUX.1 with its text encoders on `device`.
        prompt: the whole instruction.
        device: of the result.

    Raises:
        InputError: the prompt is too long.
    """
    check_length(encoders.tokenizer_2, prompt)
    tokens, pooled, _ = encoders.encode_prompt(prompt, None, device=device, max_sequence_length=LONGEST_PROMPT)
    return PromptEmbeddings(tokens, pooled)


class PromptReader:
    """Turns prompts into embeddings; the text encoders are on the device only while they read.

    Attributes:
        device: that the encoders run on; may be changed between prompts.
        keep: whether the encoders stay in main memory after a prompt; otherwise they are loaded again for the next.
    """

    def __init__(
        self,
        load: Callable[[], Any],
        device: torch.device,
        *,
        keep: bool,
        embed: Embed = embed_flux,
        capacity: int = CACHED_PROMPTS,
    ) -> None:
        """Loads nothing yet.

        Args:
            load: returns a pipeline with text encoders and tokenizers, on the CPU, and nothing else in it.
            device: see the class.
            keep: see the class.
            embed: what it does with the pipeline; `embed_flux`, or another for another architecture.
            capacity: number of prompts whose embeddings are cached; the least recently used are evicted.
        """
        self.device = device
        self.keep = keep
        self._load = load
        self._embed = embed
        self._capacity = capacity
        self._encoders: Any | None = None
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
        with torch.no_grad(), _on_device(encoders, self.device):
            return self._embed(encoders, prompt, self.device).to(torch.device("cpu"))


@contextmanager
def _on_device(encoders: Any, device: torch.device) -> Iterator[None]:
    try:
        encoders.to(device)
        yield
    finally:
        encoders.to("cpu")
        if device.type == "cuda":
            torch.cuda.empty_cache()
