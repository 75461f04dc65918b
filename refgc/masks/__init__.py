"""Where the object is, by what a person marked or said: weight-free, or SAM where its weights are."""

from refgc.masks.prompt import Prompt
from refgc.masks.segmenter import Segmenter, SegmenterName, choose_segmenter

__all__ = ["Prompt", "Segmenter", "SegmenterName", "choose_segmenter"]
