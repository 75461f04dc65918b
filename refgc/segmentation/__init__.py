"""Where the object is, by what a person marked or said: weight-free, or SAM where its weights are."""

from refgc.segmentation.overlay import shown_over
from refgc.segmentation.prompt import Prompt
from refgc.segmentation.segmenter import Segmenter, SegmenterName, choose_segmenter

__all__ = ["Prompt", "Segmenter", "SegmenterName", "choose_segmenter", "shown_over"]
