"""Object segmentation from marks or words: without weights, or by SAM where its weights are."""

from refgc.masks.prompt import Prompt
from refgc.masks.segmenter import Segmenter, SegmenterName, choose_segmenter

__all__ = ["Prompt", "Segmenter", "SegmenterName", "choose_segmenter"]
