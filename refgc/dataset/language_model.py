"""A multimodal language model that filters, names, captions and scores: behind a server, or through transformers.

The questions follow the paper's pipeline (its Figure 2) and the scores of OminiControl's Subjects200K (Tan et al.,
2024): object, quality and structure, from 1 to 5. Every answer is JSON by a schema. What cannot be used is asked once
more; then it is one row that is rejected. A model that cannot be reached, or is too slow, ends the run, since it would
fail at every row.

Answers are cached by the content of the question, so that a run that goes on asks nothing twice.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from refgc import hub
from refgc.dataset.manifest import CATEGORIES, Category, Score
from refgc.errors import EngineError, InputError, first_fault, quoted, shortened
from refgc.imaging.arrays import resized
from refgc.imaging.files import write_files
from refgc.imaging.image import Image, encoded
from refgc.weight_files import WeightFileError, only_pickles

# A picture of more pixels is made smaller before it is asked about. Chosen by hand: 768x768, in which lettering of the
# size of a label can be read.
MAX_PIXELS = 768 * 768
# In fewer pixels nothing can be told. Chosen by hand.
LEAST_PIXELS = 32 * 32
# The longest answer, in tokens; the longest that is asked for has about 200. Chosen by hand.
MAX_TOKENS = 512
# How long a server may take for one answer, in seconds. Chosen by hand.
SECONDS = 120.0
# How often a question is asked whose answer cannot be used.
ATTEMPTS = 2
QUALITY = 95
CONFIG = "config.json"
# Part of the key of every cached answer: to be raised when the meaning of a question changes.
VERSION = 1

Points = Annotated[int, Field(ge=1, le=5)]
Sentence = Annotated[str, Field(min_length=1, max_length=500)]


class UnusableAnswerError(InputError):
    """The model's answer to one question cannot be used; the row that it is about is to be rejected."""


class Answer(BaseModel):
    """Base of every answer: frozen, and without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Description(Answer):
    """What the frames of one video show.

    Attributes:
        object_name: in a word or two.
        category: one of the paper's twelve.
        caption: a sentence on the object alone.
        keep: whether the frames are good for the dataset.
        reason: why, or why not.
    """

    object_name: Annotated[str, Field(min_length=1, max_length=60)]
    category: Category
    caption: Sentence
    keep: bool
    reason: Sentence


class FrameScores(Answer):
    """Scores of one frame, from 1 (bad) to 5 (good).

    Attributes:
        object: whether exactly one of the object is in view, whole and not hidden.
        quality: sharpness, exposure, no text or marks laid over the picture.
        structure: whether the object is of a useful size and clear of the border.
        reason: for the lowest of them.
    """

    object: Points
    quality: Points
    structure: Points
    reason: Sentence


class PairScores(Answer):
    """Scores of two frames of one object, from 1 (bad) to 5 (good).

    Attributes:
        same_object: whether both show the very same object with the same details.
        quality: of the worse of both.
        structure: whether the second shows the same side from another view, so that the first could be its reference.
        reason: for the lowest of them.
    """

    same_object: Points
    quality: Points
    structure: Points
    reason: Sentence


AnyAnswer = TypeVar("AnyAnswer", bound=Answer)

DESCRIBE = f"""These are frames of one video, in the order of time.
They may become training data for a method that brings the true detail of one photo of an object into another picture.
Name the one object that the video is about, in a word or two. Give its category, one of: {", ".join(CATEGORIES)}.
Write a caption: one sentence on the object alone, its colours, material, print and parts, without the background.
Keep the video only if one and the same rigid or nearly rigid object is in view in every frame, seen from several sides,
sharp, not hidden, not cut off, and without text or marks laid over the picture. Give the reason in one sentence."""

SCORE_FRAME = """This is a frame of a video about one object: {object_name}.
Give points from 1 (bad) to 5 (good).
object: exactly one {object_name} is in view, whole and not hidden.
quality: the frame is sharp and well exposed, without text or marks laid over it.
structure: the object has a useful size and does not touch the border.
Give the reason for the lowest of them in one sentence."""

SCORE_PAIR = """These are two pictures that should show the very same object: {object_name}.
Give points from 1 (bad) to 5 (good).
same_object: both show the very same one, with the same print, parts and colours.
quality: both are sharp and well exposed.
structure: the second shows the same side of the object from another view, so that details of the first are found in it.
Give the reason for the lowest of them in one sentence."""

ONLY_JSON = "Answer with one JSON object by this schema and nothing else:"


class Backend(Protocol):
    """A model that answers one question in text."""

    @property
    def name(self) -> str:
        """Of the model, as it is written into rows."""
        ...

    def complete(self, prompt: str, pictures: Sequence[Image], schema: dict[str, Any]) -> str:
        """The answer, which need not be by the schema.

        Raises:
            UnusableAnswerError: there is no answer to this question.
            EngineError: the model cannot be reached or run.
        """
        ...


class LanguageModel:
    """The questions that the dataset's pipeline asks; safe to use in several processes at once."""

    def __init__(self, backend: Backend, cache: Path, *, max_pixels: int = MAX_PIXELS) -> None:
        """Asks nothing yet.

        Args:
            backend: answers.
            cache: a folder for the answers; made where it is missing.
            max_pixels: of each picture; a larger one is made smaller.

        Raises:
            InputError: there would be no pixels.
        """
        if max_pixels < LEAST_PIXELS:
            raise InputError(f"max_pixels is {max_pixels}; choose at least {LEAST_PIXELS}.")
        self._backend = backend
        self._cache = cache
        self._max_pixels = max_pixels

    @property
    def name(self) -> str:
        """Of the model, for `Pair.filtered_by` and `Score.maker`."""
        return self._backend.name

    def describe(self, frames: Sequence[Image]) -> Description:
        """What the frames of one video show, and whether to keep it.

        Raises:
            UnusableAnswerError: the model gave no usable answer.
            EngineError: it cannot be reached or run.
        """
        return self._ask(DESCRIBE, frames, Description)

    def score_frame(self, frame: Image, object_name: str) -> FrameScores:
        """Scores of one frame; errors as for `describe`."""
        return self._ask(SCORE_FRAME.format(object_name=object_name), [frame], FrameScores)

    def score_pair(self, hrri: Image, hrgt: Image, object_name: str) -> PairScores:
        """Scores of two frames of one object; errors as for `describe`."""
        return self._ask(SCORE_PAIR.format(object_name=object_name), [hrri, hrgt], PairScores)

    def scores_of(self, answer: FrameScores | PairScores) -> tuple[Score, ...]:
        """The points as they are written into rows."""
        return tuple(
            Score(name=name.replace("_", " "), value=value, maker=self.name)
            for name, value in answer
            if isinstance(value, int)
        )

    def _ask(self, question: str, pictures: Sequence[Image], kind: type[AnyAnswer]) -> AnyAnswer:
        if not pictures:
            raise InputError("There is no picture to ask about.")
        shown = [_at_most(picture, self._max_pixels) for picture in pictures]
        schema = kind.model_json_schema()
        prompt = f"{question}\n{ONLY_JSON}\n{json.dumps(schema, ensure_ascii=False)}"
        place = self._place(prompt, shown)
        cached = _read(place, kind)
        if cached is not None:
            return cached
        asked, fault = prompt, ""
        for _ in range(ATTEMPTS):
            text = self._backend.complete(asked, shown, schema)
            try:
                answer = kind.model_validate_json(_json_in(text))
            except ValidationError as error:
                field, wrong = first_fault(error)
                fault = f"{field or 'the answer'}: {wrong}"
                # The same question would get the same answer.
                asked = f"{prompt}\nAn earlier answer could not be used ({fault})."
                continue
            write_files({place: answer.model_dump_json().encode})
            return answer
        raise UnusableAnswerError(f"The model {quoted(self.name)} gave no usable answer ({fault}).")

    def _place(self, prompt: str, pictures: Sequence[Image]) -> Path:
        """The file of the answer, by what the question is made of."""
        digest = hashlib.sha256(json.dumps([VERSION, self.name, prompt]).encode())
        for picture in pictures:
            digest.update(repr(picture.size).encode() + picture.pixels.tobytes())
        name = digest.hexdigest()
        return self._cache / name[:2] / f"{name}.json"


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model that was there when it was looked for: small and picklable, so that it can be sent to a worker.

    Attributes:
        name: of the model, as rows name it.
        place: the address of its server, or a folder or Hub repository.
        cache: see `LanguageModel`.
        max_pixels: see `LanguageModel`.
    """

    name: str
    place: str
    cache: Path
    max_pixels: int = MAX_PIXELS

    def open(self) -> LanguageModel:
        """The model.

        Raises:
            EngineError: a library is missing, or the model is no longer here.
        """
        return open_language_model(self.place, self.cache, model=self.name, max_pixels=self.max_pixels)


def find_language_model(
    cache: Path, *, server: str | None = None, model: str | None = None, max_pixels: int = MAX_PIXELS
) -> FoundModel:
    """A model that can be asked: its server answers, or its weights are on this machine. Nothing is written or loaded.

    Args:
        cache: see `LanguageModel`.
        server: the address of an OpenAI-compatible server, such as "http://localhost:8000/v1"; None takes a model of
            this machine.
        model: which of the server's models, where None takes its first; without a server a folder or Hub repository
            with a Qwen3-VL.
        max_pixels: see `LanguageModel`.

    Raises:
        InputError: the server is no web address, or neither it nor a model is given.
        EngineError: the model is not here, or the server is not reached or does not have it.
    """
    if server is not None:
        if not re.fullmatch(r"https?://[^\s/]+\S*", server):
            raise InputError(f"The server {quoted(server)} is no web address; begin with http:// or https://.")
        served = ServerModel(server, model)
        if model is not None:
            served.check_is_served()
        return FoundModel(served.name, server, cache, max_pixels)
    if model is None:
        raise InputError("There is neither a server nor a model; give one of them.")
    folder = Path(model).expanduser()
    # A worker may run in another folder.
    place = str(folder.resolve()) if folder.is_dir() else model
    return FoundModel(TransformersModel(place).name, place, cache, max_pixels)


def open_language_model(
    source: str, cache: Path, *, model: str | None = None, max_pixels: int = MAX_PIXELS
) -> LanguageModel:
    """The model of a server or folder.

    Args:
        source: the address of an OpenAI-compatible server, such as "http://localhost:8000/v1"; or a folder or Hub
            repository on this machine with a Qwen3-VL, such as "Qwen/Qwen3-VL-8B-Instruct".
        cache: see `LanguageModel`.
        model: which of a server's models; None takes its first.
        max_pixels: see `LanguageModel`.

    Raises:
        EngineError: it is not here or not reached, or a library is missing.
    """
    if source.startswith(("http://", "https://")):
        return LanguageModel(ServerModel(source, model), cache, max_pixels=max_pixels)
    return LanguageModel(TransformersModel(source), cache, max_pixels=max_pixels)


class ServerModel:
    """A model behind an OpenAI-compatible server, such as vLLM.

    The key of a server that wants one is read from OPENAI_API_KEY by its client.
    """

    def __init__(self, address: str, model: str | None = None, *, seconds: float = SECONDS) -> None:
        """Connects.

        Args:
            address: of the server, with its path, such as "http://localhost:8000/v1".
            model: which of its models; None takes the first.
            seconds: how long it may take for one answer.

        Raises:
            InputError: the address is none.
            EngineError: the server is not reached or has no models, or the client is not installed.
        """
        try:
            import openai
        except ImportError as error:
            raise EngineError(
                "A server's model needs openai: pip install '.[dataset]' in the project's folder."
            ) from error
        self._openai = openai
        self._address = address
        # A server of one's own asks for no key, and the client for some.
        key = os.environ.get("OPENAI_API_KEY") or "none"
        try:
            self._client = openai.OpenAI(base_url=address, api_key=key, timeout=seconds)
        except Exception as error:  # of the client's HTTP library, which depends on its version
            raise InputError(f"The server {quoted(address)} is no web address ({_reason(error)}).") from error
        self.name = model or self._models()[0]

    def check_is_served(self) -> None:
        """Refuses a model that the server does not have.

        Raises:
            EngineError: it has others, or is not reached.
        """
        names = self._models()
        if self.name not in names:
            others = shortened(", ".join(names), 300)
            raise EngineError(f"The server {quoted(self._address)} has no model {quoted(self.name)}; it has {others}.")

    def complete(self, prompt: str, pictures: Sequence[Image], schema: dict[str, Any]) -> str:
        """See `Backend.complete`. The client itself asks twice more where the server is busy, slow or fails."""
        openai = self._openai
        content: list[Any] = [
            {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{_jpeg(picture)}"}}
            for picture in pictures
        ]
        try:
            completion = self._client.chat.completions.create(
                model=self.name,
                messages=[{"role": "user", "content": [*content, {"type": "text", "text": prompt}]}],
                response_format={
                    "type": "json_schema",
                    "json_schema": {"name": str(schema["title"]), "schema": schema, "strict": True},
                },
                temperature=0,
                seed=0,
                max_tokens=MAX_TOKENS,
            )
            answers = completion.choices
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            raise UnusableAnswerError(f"The server refuses this question ({_reason(error)}).") from error
        except openai.OpenAIError as error:
            raise self._not_reached(error) from error
        except (AttributeError, TypeError, ValueError) as error:  # such as a page of a proxy
            raise self._no_such_server() from error
        if not isinstance(answers, list):
            raise self._no_such_server()
        try:
            return answers[0].message.content or ""
        except (AttributeError, IndexError, TypeError):  # a model that says nothing
            return ""

    def _models(self) -> list[str]:
        """The names of the server's models, at least one."""
        try:
            names = [str(model.id) for model in self._client.models.list()]
        except self._openai.OpenAIError as error:
            raise self._not_reached(error) from error
        except (AttributeError, TypeError, ValueError) as error:
            raise self._no_such_server() from error
        if not names:
            raise EngineError(f"The server {quoted(self._address)} has no models; start one, or name its model.")
        return names

    def _not_reached(self, error: Exception) -> EngineError:
        # An answer with an error status is an answer.
        fails = isinstance(error, self._openai.APIStatusError)
        return EngineError(
            f"The server {quoted(self._address)} {'fails' if fails else 'does not answer'} ({_reason(error)}); check "
            "it, its path and its model."
        )

    def _no_such_server(self) -> EngineError:
        return EngineError(f"{quoted(self._address)} is no OpenAI-compatible server; check its path.")


class TransformersModel:
    """A Qwen3-VL on this machine; its weights are loaded when it is first asked.

    Pictures are prepared by the parts of its processor that do not need torchvision.
    """

    def __init__(self, source: str, *, device: str | None = None) -> None:
        """Finds the weights, and loads nothing yet.

        Args:
            source: a folder, or a Hub repository that was downloaded.
            device: "cuda", "cuda:1" or "cpu"; None reads `REFGC_DEVICE`, and without it takes a GPU if there is one.

        Raises:
            EngineError: the weights are not on this machine, or are pickles.
        """
        folder = hub.on_disk(source, (CONFIG,))
        if folder is None:
            raise EngineError(
                f"The model {quoted(source)} is not on this machine; `hf download {source}` fetches it, or give the "
                "address of a server."
            )
        pickles = only_pickles(folder)
        if pickles:
            raise EngineError(f"The model {quoted(source)} cannot be used: {pickles}.")
        self._folder = folder
        self._device = device
        # Of a folder its own name: where it lies is of no meaning to others.
        self.name = folder.name if Path(source).expanduser().is_dir() else source

    def complete(self, prompt: str, pictures: Sequence[Image], schema: dict[str, Any]) -> str:
        """See `Backend.complete`; the likeliest answer, so the same each time."""
        del schema
        import torch
        from PIL import Image as PILImage

        model, tokenizer, processor = self._parts
        content = [*({"type": "image"} for _ in pictures), {"type": "text", "text": prompt}]
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        prepared = processor(images=[PILImage.fromarray(picture.pixels) for picture in pictures], return_tensors="pt")
        token = tokenizer.convert_ids_to_tokens(model.config.image_token_id)
        # A picture takes as many tokens as it has patches after they are merged.
        pieces = text.split(token)
        lengths = (prepared["image_grid_thw"].prod(dim=1) // processor.merge_size**2).tolist()
        if len(pieces) != len(lengths) + 1:
            raise EngineError(f"The model {quoted(self.name)} has a chat template without a place for pictures.")
        text = pieces[0] + "".join(token * length + piece for length, piece in zip(lengths, pieces[1:], strict=True))
        words = tokenizer(text, return_tensors="pt")
        inputs = {**words, **prepared, "mm_token_type_ids": (words["input_ids"] == model.config.image_token_id).int()}
        inputs = {name: value.to(model.device) for name, value in inputs.items()}
        try:
            with torch.inference_mode():
                drawn = model.generate(**inputs, max_new_tokens=MAX_TOKENS, do_sample=False)
        except torch.OutOfMemoryError as error:
            raise EngineError(
                "The GPU's memory is not enough for the language model; ask about smaller pictures (max_pixels)."
            ) from error
        return str(tokenizer.decode(drawn[0, words["input_ids"].shape[1] :], skip_special_tokens=True))

    @cached_property
    def _parts(self) -> tuple[Any, Any, Any]:
        """Network, tokenizer and image processor."""
        try:
            import torch
            from safetensors import SafetensorError
            from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer
        except ImportError as error:
            raise EngineError(
                "A language model on this machine needs torch and transformers: pip install '.[diffusion]' in the "
                "project's folder."
            ) from error
        from refgc.masks.sam_networks import choose_device
        from refgc.weight_files import check_transformers_network, quiet_transformers

        device = choose_device(self._device)
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        try:
            check_transformers_network(self._folder, AutoModelForImageTextToText, "language model")
            with quiet_transformers():
                model = AutoModelForImageTextToText.from_pretrained(
                    self._folder, dtype=dtype, local_files_only=True, use_safetensors=True
                )
                tokenizer = AutoTokenizer.from_pretrained(self._folder, local_files_only=True)
                processor = AutoImageProcessor.from_pretrained(self._folder, local_files_only=True)
        except (WeightFileError, SafetensorError, OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            raise EngineError(f"The model {quoted(self.name)} cannot be loaded ({_reason(error)}).") from error
        return model.eval().requires_grad_(False).to(device), tokenizer, processor


def _at_most(picture: Image, pixels: int) -> Image:
    width, height = picture.size
    if width * height <= pixels:
        return picture
    scale = (pixels / (width * height)) ** 0.5
    return Image(resized(picture.pixels, (max(1, int(width * scale)), max(1, int(height * scale)))))


def _jpeg(picture: Image) -> str:
    from refgc.imaging.encode import FileOptions

    return base64.b64encode(encoded(Image(picture.pixels), "frame.jpg", options=FileOptions(quality=QUALITY))).decode()


def _json_in(text: str) -> str:
    """The JSON object in an answer that may have words or a code fence around it."""
    start, end = text.find("{"), text.rfind("}")
    return text[start : end + 1] if 0 <= start < end else text


def _read(place: Path, kind: type[AnyAnswer]) -> AnyAnswer | None:
    """The cached answer; None where there is none, or it is damaged."""
    try:
        return kind.model_validate_json(place.read_bytes())
    except (OSError, ValidationError):
        return None


def _reason(error: Exception) -> str:
    """The libraries' first sentence; the rest is advice for programmers."""
    said = " ".join(str(error).split()).partition(". ")[0].rstrip(".")
    return shortened(said, 200) or type(error).__name__
