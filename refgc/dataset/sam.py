"""Masks of a named object by SAM 3 (Carion et al., 2025), in pictures or in a video, where exactly one is in view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.models.sam3_video.modeling_sam3_video import Sam3VideoInferenceSession

from refgc.errors import InputError
from refgc.imaging.image import Image, Mask
from refgc.masks import weights
from refgc.masks.morphology import overlap
from refgc.masks.sam import LEAST_SCORE, SamSegmenter, enlarged, in_one_sentence, soft_mask
from refgc.masks.sam_networks import Networks

# Frames of one clip. All of them are in memory, 12 MB each, and what the tracker remembers of them.
LONGEST_CLIP = 150
# The least overlap of the masks that the clip and the reversed clip give, as intersection over union. Chosen by hand,
# not fitted.
LEAST_AGREEMENT = 0.8


class SamPictures:
    """SAM 3 on each frame by itself.

    Attributes:
        maker: for `ObjectView.mask_maker`.
    """

    maker = "sam3"

    def __init__(self, source: str, *, device: str | None = None, least_score: float = LEAST_SCORE) -> None:
        """Loads nothing yet.

        Args:
            source: a folder, or a Hub repository that was downloaded.
            device: as for `SamSegmenter`.
            least_score: as for `SamSegmenter`.

        Raises:
            EngineError: the weights are not here, or read no words.
        """
        self._segmenter = SamSegmenter(source, device=device, least_score=least_score)
        if not self._segmenter.reads_text:
            raise weights.reads_no_words(source)

    def masks_of(self, frames: Sequence[Image], object_name: str) -> list[Mask | None]:
        """The object's mask in each frame; None where none or several are found.

        Raises:
            InputError: the name is too long.
            EngineError: the weights are damaged, or the memory is not enough.
        """
        found = [self._segmenter.instances(frame, object_name) for frame in frames]
        return [instances[0] if len(instances) == 1 else None for instances in found]


class SamVideo:
    """SAM 3 along a video: the object is followed from frame to frame, forward and backward.

    What is found in one direction alone is taken; where the two directions disagree, nothing is.

    Attributes:
        maker: for `ObjectView.mask_maker`.
    """

    maker = "sam3-video"

    def __init__(self, source: str, *, device: str | None = None, longest_clip: int = LONGEST_CLIP) -> None:
        """Loads nothing yet.

        Args:
            source: a folder, or a Hub repository that was downloaded.
            device: as for `SamSegmenter`.
            longest_clip: a longer video is cut into clips of so many frames.

        Raises:
            EngineError: the weights are not here, or are not SAM 3's for videos.
            InputError: the clips would have no frames.
        """
        if longest_clip < 1:
            raise InputError(f"The longest clip is {longest_clip} frames; choose 1 or more.")
        self._networks = Networks(source, device, None)
        if self._networks.kind not in weights.FOLLOWS_WORDS:
            raise weights.reads_no_words(source)
        self._longest_clip = longest_clip

    def masks_of(self, frames: Sequence[Image], object_name: str) -> list[Mask | None]:
        """The object's mask in each frame of a video; None where none or several are found.

        Raises:
            InputError: the name is too long.
            EngineError: the weights are damaged, or the memory is not enough.
        """
        masks: list[Mask | None] = []
        for start in range(0, len(frames), self._longest_clip):
            clip = frames[start : start + self._longest_clip]
            with torch.inference_mode(), in_one_sentence(self._networks.source):
                forward = self._track(clip, object_name)
                backward = self._track(clip[::-1], object_name)[::-1]
            for frame, one, other in zip(clip, forward, backward, strict=True):
                logits = agreed(one, other, frame)
                try:
                    masks.append(None if logits is None else soft_mask(frame, logits))
                except InputError:  # a speck that is lost in the frame's own size
                    masks.append(None)
        return masks

    def _track(self, clip: Sequence[Image], object_name: str) -> list[Seen]:
        networks = self._networks
        network = networks.network("video")
        words = networks.read(object_name)
        # The frames wait in the machine's memory, which is larger than the GPU's.
        session = Sam3VideoInferenceSession(
            video=torch.cat([networks.prepare(frame, "video").cpu() for frame in clip]),
            video_height=clip[0].size[1],
            video_width=clip[0].size[0],
            inference_device=networks.device,
            inference_state_device=networks.device,
            video_storage_device="cpu",
            dtype=torch.float32,
        )
        prompt = session.add_prompt(object_name)
        session.prompt_input_ids[prompt] = words["input_ids"]
        session.prompt_attention_masks[prompt] = words["attention_mask"]
        found: list[dict[int, Tensor]] = [{} for _ in clip]
        with networks.autocast():
            for output in network.propagate_in_video_iterator(session):
                hidden = {*session.hotstart_removed_obj_ids, *(output.suppressed_obj_ids or ())}
                found[output.frame_idx] = {
                    number: mask[0].float()
                    for number, mask in output.obj_id_to_mask.items()
                    if number not in hidden and bool((mask > 0).any())
                }
        return of_one_object(found)


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What is in view in a frame: nothing, exactly one object, or several that cannot be told apart.

    Attributes:
        ambiguous: whether there are several, or another one than in most frames.
        logits: of the one object's mask, (height, width) at SAM's own size; None where there is not exactly one.
    """

    ambiguous: bool = False
    logits: Tensor | None = None


def of_one_object(found: Sequence[dict[int, Tensor]]) -> list[Seen]:
    """The object that is alone in most frames; a frame with several, or with another one, is ambiguous.

    Args:
        found: of each frame, the logits of each object's mask by the object's number.
    """
    alone = [next(iter(objects)) for objects in found if len(objects) == 1]
    chosen = max(sorted(set(alone)), key=alone.count, default=None)
    return [
        Seen(logits=objects[chosen])
        if chosen is not None and list(objects) == [chosen]
        else Seen(ambiguous=bool(objects))
        for objects in found
    ]


def agreed(one: Seen, other: Seen, frame: Image) -> Tensor | None:
    """The mask's logits where both directions agree, or one of them has found the object and the other nothing."""
    if one.ambiguous or other.ambiguous:
        return None
    if one.logits is None or other.logits is None:
        return other.logits if one.logits is None else one.logits
    first, second = (enlarged(logits, frame.size) > 0 for logits in (one.logits, other.logits))
    return one.logits if overlap(first, second) >= LEAST_AGREEMENT else None
