"""Prompts: the paper's words, the limit, and embeddings for which the text encoders come and go."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxKontextPipeline

from refgc.errors import InputError
from refgc.flux.instruction import prompt_for
from refgc.flux.prompts import LONGEST_PROMPT, PromptReader, check_length
from tests.support.tiny_models import t5_tokenizer

CPU = torch.device("cpu")


class Loader:
    """Loads the text encoders of the tiny model, and notes it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.loaded: list[weakref.ref[Any]] = []

    def __call__(self) -> FluxKontextPipeline:
        encoders = FluxKontextPipeline.from_pretrained(self.base, transformer=None, vae=None)
        self.loaded.append(weakref.ref(encoders.text_encoder_2))
        return encoders


@pytest.fixture
def loader(tiny_base: Path) -> Loader:
    return Loader(tiny_base)


def test_the_words_are_those_of_the_paper() -> None:
    assert prompt_for("red teapot") == (
        "use the red teapot in IMG1 as a reference to refine, replace, enhance the red teapot in IMG2"
    )


def test_a_prompt_is_read_to_its_last_token_or_refused() -> None:
    tokenizer = t5_tokenizer()
    # Of the tiny tokenizer every character is a token; one opens the text and one ends it.
    longest = "a" * (LONGEST_PROMPT - 2)
    check_length(tokenizer, longest)
    with pytest.raises(InputError, match=f"has {LONGEST_PROMPT + 1} tokens and the model reads {LONGEST_PROMPT}"):
        check_length(tokenizer, longest + "a")


def test_embeddings_are_those_of_the_stock_pipeline(loader: Loader) -> None:
    read = PromptReader(loader, CPU, keep=False).read("a mug")
    with torch.no_grad():
        tokens, pooled, _ = loader().encode_prompt("a mug", None, max_sequence_length=LONGEST_PROMPT)
    assert read.tokens.shape[1] == LONGEST_PROMPT
    assert torch.equal(read.tokens, tokens)
    assert read.pooled is not None
    assert torch.equal(read.pooled, pooled)


def test_a_prompt_is_read_once_and_the_encoders_are_dropped(loader: Loader) -> None:
    reader = PromptReader(loader, CPU, keep=False)
    first = reader.read("a mug")
    assert reader.read("a mug") is first
    assert [encoder() for encoder in loader.loaded] == [None]
    assert not torch.equal(reader.read("a shoe").tokens, first.tokens)
    assert len(loader.loaded) == 2


def test_encoders_that_are_kept_are_loaded_once(loader: Loader) -> None:
    reader = PromptReader(loader, CPU, keep=True)
    for name in ("mug", "shoe", "vase"):
        reader.read(name)
    assert len(loader.loaded) == 1
    assert loader.loaded[0]() is not None


def test_the_prompt_unused_for_longest_is_forgotten(loader: Loader) -> None:
    reader = PromptReader(loader, CPU, keep=True, capacity=2)
    mug, shoe = reader.read("mug"), reader.read("shoe")
    assert reader.read("mug") is mug
    reader.read("vase")
    assert reader.read("mug") is mug
    assert reader.read("shoe") is not shoe


def test_encoders_leave_the_device_also_when_they_fail(loader: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = PromptReader(loader, CPU, keep=False)

    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    with monkeypatch.context() as patch:
        patch.setattr(FluxKontextPipeline, "encode_prompt", fail)
        with pytest.raises(torch.OutOfMemoryError):
            reader.read("mug")
    assert [encoder() for encoder in loader.loaded] == [None]
    assert reader.read("mug").tokens.isfinite().all()


def test_a_prompt_that_is_too_long_is_not_remembered(loader: Loader) -> None:
    reader = PromptReader(loader, CPU, keep=True)
    for _ in range(2):
        with pytest.raises(InputError, match="tokens"):
            reader.read("a" * LONGEST_PROMPT)
