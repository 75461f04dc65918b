"""The dataset card: what is in a dataset, under which licences, and how it was made, counted from its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from refgc.dataset.rows import Entry
from refgc.errors import one_line

CARD = "README.md"
# The Hub's words for licences, by the ways in which collections write them.
HUB_LICENCES: Mapping[str, str] = {
    "apache-2.0": "apache-2.0",
    "cc by 4.0": "cc-by-4.0",
    "cc by-nc 4.0": "cc-by-nc-4.0",
    "cc by-nc-sa 4.0": "cc-by-nc-sa-4.0",
    "cc by-sa 4.0": "cc-by-sa-4.0",
    "cc0 1.0": "cc0-1.0",
    "mit": "mit",
    "unknown": "unknown",
}
# The Hub's classes of size, each with the first number that is too large for it.
SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
LARGEST = "10M<n<100M"

TEXT = """
# {name}

{rows:,} rows on {objects:,} objects, for reference-guided super-resolution of generated pictures
([RefGC-SR2](https://arxiv.org/abs/2606.15158)). A row has a sharp photo of an object (HRRI), another view of the object
in a scene (HRGT) and a small generated picture of that scene (LRGI), which should become the HRGT again with the HRRI's
detail. Masks say where the object is.

```python
from datasets import load_dataset

rows = load_dataset("{address}")
```

{warning}## What is in it

{tables}

## How it was made

{made}

## Columns

`hrri`, `hrgt`, `lrgi` and `lrgi_panel` are pictures, `hrri_mask` and `hrgt_mask` masks, white where the object is.
`lrgi_panel` is the LRGI before it was made smaller, where there is one. `row` has everything the manifest says, as
JSON: source, crop, scores, change of view, generator, seed. Rows of one object never stand in different splits.
"""


def dataset_card(entries: Iterable[Entry], *, name: str, address: str = ".") -> str:
    """The text of README.md, with the Hub's metadata on top.

    Args:
        entries: all rows; they are counted and not kept.
        name: of the dataset.
        address: repository or folder that `load_dataset` is given.
    """
    from huggingface_hub import DatasetCardData

    counts = _Counts(entries)
    rows = counts.splits.total()
    licence = _licence_of(counts.licences)
    data = DatasetCardData(
        pretty_name=one_line(name),
        task_categories=["image-to-image"],
        size_categories=[next((word for most, word in SIZES if rows < most), LARGEST)],
        tags=["super-resolution", "reference-guided", "refgc-sr2"],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}-*.parquet"} for split in sorted(counts.splits)],
            }
        ],
        license=licence,
        license_name="see-below" if licence == "other" else None,
    )
    text = TEXT.format(
        name=_plain(name),
        rows=rows,
        objects=len(counts.objects),
        address=_plain(address),
        warning=counts.warning(),
        tables="\n".join(_table(title, counter) for title, counter in counts.tables().items()).strip(),
        made=counts.made(),
    )
    return f"---\n{data.to_yaml()}\n---\n{text}"


class _Counts:
    """What a card tells of the rows."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.objects = set[str]()
        self.splits, self.categories, self.sources = (Counter[str]() for _ in range(3))
        self.licences, self.generators, self.verdicts = (Counter[str]() for _ in range(3))
        self.masks, self.filters = (Counter[str]() for _ in range(2))
        self.simulated = 0
        for entry in entries:
            pair, made = entry.pair, None if entry.triplet is None else entry.triplet.made
            self.objects.add(pair.object_id)
            self.splits[entry.split] += 1
            self.categories[pair.category] += 1
            self.sources[pair.source.name] += 1
            self.licences[pair.source.licence or "unknown"] += 1
            self.verdicts[entry.decision] += 1
            self.masks.update({view.mask_maker for view in (pair.hrri, pair.hrgt)})
            self.filters[pair.filtered_by or "no model"] += 1
            self.generators["none: pairs only" if made is None else made.generator] += 1
            self.simulated += made is not None and made.simulated

    def tables(self) -> dict[str, Counter[str]]:
        return {
            "split": self.splits,
            "category": self.categories,
            "source": self.sources,
            "licence": self.licences,
            "LRGI made by": self.generators,
            "verdict of people": self.verdicts,
        }

    def warning(self) -> str:
        """What a user should know first."""
        rows = self.splits.total()
        if not self.simulated:
            return ""
        return (
            f"**{self.simulated / rows:.1%} of the LRGIs are simulated**: they were made from the HRGT by image "
            "processing, and no generative model took part. Figures on them say less than those on generated "
            "pictures.\n\n"
        )

    def made(self) -> str:
        """Sentences on the origin of masks, captions and verdicts."""
        return "\n".join(
            [
                "Pairs of views were taken from videos or photos of one object, and an LRGI was made for each pair by",
                "[RefGC-SR2](https://arxiv.org/abs/2606.15158)'s open reimplementation, `refgc dataset`.",
                "",
                f"- Masks come from: {_listed(self.masks)}.",
                f"- Pairs were filtered and captioned by: {_listed(self.filters)}.",
                f"- People said: {_listed(self.verdicts)}. Rows that are rejected or disputed are not in it.",
            ]
        )


def _licence_of(licences: Counter[str]) -> str:
    """One of the Hub's words where all rows have the same licence, else "other"."""
    words = {HUB_LICENCES.get(name.lower(), "other") for name in licences}
    return words.pop() if len(words) == 1 else "other"


def _table(title: str, counter: Counter[str]) -> str:
    total = counter.total()
    lines = [f"| {_plain(name)} | {number:,} | {number / total:.1%} |" for name, number in counter.most_common()]
    return "\n".join([f"| {title} | rows | share |", "| --- | --- | --- |", *lines, ""])


def _listed(counter: Counter[str]) -> str:
    return ", ".join(f"{_plain(name)} ({number:,})" for name, number in counter.most_common())


def _plain(text: str) -> str:
    """A text of somebody else's, which is to be no markup."""
    return "".join(f"\\{mark}" if mark in "\\`*_{}[]<>()#|!~" else mark for mark in one_line(text))
