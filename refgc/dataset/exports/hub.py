"""Publishing a dataset on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from refgc.dataset.check import check_dataset
from refgc.dataset.exports.card import CARD
from refgc.dataset.exports.folder import DATA, export_folder, write_card
from refgc.dataset.exports.shards import check_installed
from refgc.dataset.rows import check_some_entries, read_entries
from refgc.engine import Progress, no_progress
from refgc.errors import InputError, quoted
from refgc.hub import in_one_sentence
from refgc.imaging.files import make_folder


def push(
    root: Path,
    repository: str,
    *,
    staging: Path,
    private: bool | None = None,
    unreviewed: bool = False,
    allow_unknown_licence: bool = False,
    dry_run: bool = False,
    progress: Progress = no_progress,
) -> str:
    """Export a dataset as a folder and upload that folder.

    Both go on where they were cut off: whole shards are kept, and the Hub's client does not upload twice what the Hub
    has.

    Args:
        root: folder of the dataset.
        repository: its name, such as "user/dataset"; made where it does not exist.
        staging: folder of the export, which stays.
        private: whether a new repository is private; None takes the account's default.
        unreviewed: take rows as well that not enough people have looked at.
        allow_unknown_licence: take rows whose licence nobody named.
        dry_run: write the card into `staging` and upload nothing.
        progress: told of each shard.

    Returns:
        The commit's address; of a dry run the place of the card.

    Raises:
        InputError: a library is missing, the dataset is not sound, nothing can be exported, a licence is unknown, or
            the Hub does not take it.
    """
    check_installed("datasets", "huggingface_hub", "pyarrow")
    if not check_dataset(root, quick=True).sound:
        raise InputError(f"The dataset in {quoted(str(root))} is not sound; `refgc dataset check` says why.")
    check_some_entries(root, unreviewed=unreviewed)
    if not allow_unknown_licence:
        _refuse_unknown_licences(root, unreviewed=unreviewed)
    make_folder(staging)
    if dry_run:
        write_card(root, staging, unreviewed=unreviewed, repository=repository)
        return str(staging / CARD)
    export_folder(root, staging, unreviewed=unreviewed, repository=repository, progress=progress)

    from huggingface_hub import HfApi

    with in_one_sentence(repository, "The dataset's repository", InputError):
        hub = HfApi()
        full_name = hub.create_repo(repository, repo_type="dataset", private=private, exist_ok=True).repo_id
        commit = hub.upload_folder(
            repo_id=full_name,
            repo_type="dataset",
            folder_path=staging,
            allow_patterns=[CARD, f"{DATA}/*.parquet"],
            # Shards of an earlier, larger version.
            delete_patterns=[f"{DATA}/*.parquet"],
            commit_message="Dataset of HRRI, HRGT and LRGI",
        )
    return str(commit.commit_url)


def _refuse_unknown_licences(root: Path, *, unreviewed: bool) -> None:
    sources = [
        entry.pair.source.name for entry in read_entries(root, unreviewed=unreviewed) if not entry.pair.source.licence
    ]
    if sources:
        names = ", ".join(quoted(name) for name in sorted(set(sources))[:5])
        raise InputError(
            f"{len(sources)} rows have no licence (from {names}), so it is not known whether they may be published; "
            "make the pairs again with their licence, or give --allow-unknown-licence."
        )
