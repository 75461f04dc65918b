"""SAM 2 and SAM 3 (Ravi et al., 2024; Carion et al., 2025) through transformers, from weights on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Literal

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional

from refgc import machine
from refgc.errors import EngineError, InputError
from refgc.imaging.arrays import Bools, Floats, Size
from refgc.imaging.image import MARKED, Image, Mask
from refgc.masks import morphology, weights
from refgc.masks.grabcut import GrabCutSegmenter
from refgc.masks.prompt import Box, Point, Prompt, require_same_picture
from refgc.masks.sam_networks import Networks
from refgc.masks.soft_edge import soften
from refgc.masks.view import whole

# SAM's masks have a quarter of the side of its input. Enlarged to this side, in pixels, their outline is smooth. Chosen
# by hand, not fitted.
OUTLINE_SIDE = 768
# Instances with a lower score are left out. The threshold is that of SAM 3's own demonstration.
LEAST_SCORE = 0.5
# SAM takes no scribbles, so this many points of a scribble are given as clicks. Chosen by hand, not fitted.
CLICKS_OF_SCRIBBLE = 8
# Instances that overlap by more than this are one, found twice: intersection over union. Chosen by hand, not fitted.
SAME_INSTANCE = 0.5


class SamSegmenter:
    """SAM behind `Segmenter`; safe to share among threads, one picture at a time.

    The embeddings of the last picture are cached, so that a further click in it is quick.
    """

    name: Literal["sam"] = "sam"

    def __init__(
        self,
        source: str,
        *,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        least_score: float = LEAST_SCORE,
    ) -> None:
        """Loads nothing yet.

        Args:
            source: a folder, or a Hub repository that was downloaded.
            device: "cuda", "cuda:1" or "cpu"; None reads `REFGC_DEVICE`, and without it takes a GPU if there is one.
            dtype: of the image encoder; None takes bfloat16 on a GPU that has it, else float32.
            least_score: SAM's own score, in [0, 1], below which an instance that words found is left out.

        Raises:
            EngineError: the weights are not here or are no SAM, or there is no such device.
        """
        self._networks = Networks(source, device, dtype)
        self._least_score = least_score
        self._lock = Lock()

    @property
    def reads_text(self) -> bool:
        """Whether it finds an object by words; SAM 3 does, SAM 2 does not."""
        return self._networks.kind in weights.TAKES_WORDS

    def segment(self, image: Image, prompt: Prompt) -> Mask:
        """The mask of the object; see `Segmenter.segment`.

        Where words name several objects, the one with the highest score is taken among those that agree with the marks.
        A scribble is given to SAM as several clicks, a rough mask as its bounding box and a click at its innermost
        point. Without marks and words the weight-free segmenter finds the object, and SAM its outline.

        Raises:
            InputError: these weights read no words or no marks, the words are too long, the marks are of another
                picture, or nothing was found.
            EngineError: the weights are damaged, or the memory is not enough.
        """
        require_same_picture(image, prompt)
        if prompt.is_empty and image.alpha is not None:
            return image.alpha
        with self._lock, torch.inference_mode(), in_one_sentence(self._networks.source):
            logits = (
                self._by_marks(image, prompt) if prompt.text is None else self._by_words(image, prompt.text, prompt)
            )
        return soft_mask(image, logits)

    def instances(self, image: Image, text: str) -> list[Mask]:
        """The masks of all objects that words name, the surest first; none where there is none.

        Raises:
            InputError: these weights read no words, or the words are too long.
            EngineError: as for `segment`.
        """
        with self._lock, torch.inference_mode(), in_one_sentence(self._networks.source):
            found: list[tuple[Bools, Tensor]] = []
            for logits in self._found_by_words(image, text):
                inside = enlarged(logits, whole(image.size, OUTLINE_SIDE).size) > 0
                if inside.any() and all(morphology.overlap(inside, other) <= SAME_INSTANCE for other, _ in found):
                    found.append((inside, logits))
        return [soft_mask(image, logits) for _, logits in found]

    def _by_marks(self, image: Image, prompt: Prompt) -> Tensor:
        """Logits of the mask (height, width) at SAM's own size."""
        networks = self._networks
        if networks.kind not in weights.TAKES_MARKS:
            raise InputError(
                f"The weights {networks.source!r} take words only; say what the object is, or set {weights.VARIABLE} "
                f"to {weights.PUBLISHED}."
            )
        box, positive = _box_and_clicks(image, prompt)
        clicks = [*positive, *prompt.negative]
        side = networks.side("tracker")
        scale = torch.tensor([side / image.size[0], side / image.size[1]], device=networks.device)
        points = labels = boxes = None
        if clicks:
            # SAM adds 0.5 itself, to get from a pixel's index to its centre.
            points = ((torch.tensor(clicks, device=networks.device) + 0.5) * scale - 0.5)[None, None]
            labels = torch.tensor([1] * len(positive) + [0] * len(prompt.negative), device=networks.device)[None, None]
        if box is not None:
            boxes = (torch.tensor(box, device=networks.device) * scale.repeat(2))[None, None]
        outputs = networks.network("tracker")(
            image_embeddings=networks.embed(image, "tracker"),
            input_points=points,
            input_labels=labels,
            input_boxes=boxes,
            # One click may mean a part or the whole: SAM then gives several masks with scores. More marks are
            # unambiguous.
            multimask_output=box is None and len(clicks) == 1,
        )
        masks: Tensor = outputs.pred_masks[0, 0]
        return masks[outputs.iou_scores[0, 0].argmax()]

    def _by_words(self, image: Image, text: str, prompt: Prompt) -> Tensor:
        """Logits of the mask (height, width) at SAM's own size."""
        for logits in self._found_by_words(image, text):
            if _agrees(enlarged(logits, image.size) > 0, prompt):
                return logits
        where = " at the marks" if prompt.is_marked else ""
        raise InputError(f"SAM found no {text!r}{where}; name it otherwise, or mark it by a box or a click.")

    def _found_by_words(self, image: Image, text: str) -> Iterator[Tensor]:
        """Logits (height, width) of what words name, at SAM's own size, the surest first."""
        networks = self._networks
        if not self.reads_text:
            raise InputError(
                f"The weights {networks.source!r} read no words; mark the object by a box or a click, or set "
                f"{weights.VARIABLE} to a SAM 3."
            )
        words = networks.read(text)
        outputs = networks.network("detector")(
            vision_embeds=networks.embed(image, "detector"),
            input_ids=words["input_ids"],
            attention_mask=words["attention_mask"],
        )
        scores: Tensor = (outputs.pred_logits.sigmoid() * outputs.presence_logits.sigmoid())[0]
        masks: Tensor = outputs.pred_masks[0]
        for instance in scores.argsort(descending=True):
            if scores[instance] < self._least_score:
                break
            yield masks[instance]


def shared_segmenter() -> SamSegmenter:
    """The process's segmenter for the weights that `REFGC_SAM` names.

    Raises:
        EngineError: as for `SamSegmenter`.
    """
    return _segmenter_of(weights.source() or "")


@cache
def _segmenter_of(source: str) -> SamSegmenter:
    return SamSegmenter(source)


def _box_and_clicks(image: Image, prompt: Prompt) -> tuple[Box | None, list[Point]]:
    """The marks in the form that SAM takes: a box, and clicks on the object."""
    box, positive = prompt.box, list(prompt.positive)
    if prompt.scribble is not None:
        painted = np.argwhere(prompt.scribble.values >= MARKED)
        chosen = np.linspace(0, len(painted) - 1, min(len(painted), CLICKS_OF_SCRIBBLE)).round().astype(int)
        positive += [(int(column), int(row)) for row, column in painted[chosen]]
    rough = prompt.alpha
    if rough is None and box is None and not positive:
        rough = GrabCutSegmenter().segment(image, Prompt(image.size, negative=prompt.negative))
    if rough is not None:
        solid = rough.values >= MARKED
        row, column = np.unravel_index(
            int(morphology.signed_distance(np.pad(solid, 1))[1:-1, 1:-1].argmax()), solid.shape
        )
        box, positive = box or morphology.bounding_box(solid), [*positive, (int(column), int(row))]
    return box, positive


def _agrees(found: Bools, prompt: Prompt) -> bool:
    """Whether an instance that words found is not empty and agrees with the marks."""
    if (
        not found.any()
        or any(not found[y, x] for x, y in prompt.positive)
        or any(found[y, x] for x, y in prompt.negative)
    ):
        return False
    for marks in (prompt.scribble, prompt.alpha):
        if marks is not None and found[marks.values >= MARKED].mean() < MARKED:
            return False
    if prompt.box is None:
        return True
    left, top, right, bottom = prompt.box
    return bool(found[top:bottom, left:right].sum() > MARKED * found.sum())


def soft_mask(image: Image, logits: Tensor) -> Mask:
    """The mask of the picture's size, soft at its edge, from logits (height, width) at SAM's own size.

    Raises:
        InputError: nothing is in it.
    """
    view = whole(image.size, OUTLINE_SIDE)
    found = enlarged(logits, view.size) > 0
    if not found.any():
        raise InputError("SAM found no object; draw a box around it.")
    soft = soften(image.pixels, found, view)
    return Mask(soft if image.alpha is None else np.minimum(soft, image.alpha.values))


def enlarged(logits: Tensor, size: Size) -> Floats:
    """Logits (height, width) at another size (width, height), by bilinear interpolation."""
    larger = functional.interpolate(logits.float()[None, None], (size[1], size[0]), mode="bilinear")
    return np.asarray(larger[0, 0].cpu().numpy(), np.float32)


@contextmanager
def in_one_sentence(source: str) -> Iterator[None]:
    """Turns what libraries raise about the weights `source` into an `EngineError` of one sentence."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise EngineError(
            f"The GPU's memory is not enough for SAM; end what else uses it, or set {machine.DEVICE}=cpu."
        ) from error
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        # The libraries' first sentence tells the reason; the rest is advice for programmers.
        reason = " ".join(str(error).split()).partition(". ")[0].rstrip(".")
        raise EngineError(
            f"The weights {source!r} cannot be used ({reason}); fetch them again, or name others."
        ) from error
