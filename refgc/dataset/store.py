"""The pictures of a dataset: lossless PNG files, written once, named by the SHA-256 of their bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from refgc.dataset.manifest import StoredFile
from refgc.errors import InputError, quoted
from refgc.imaging.files import write_files
from refgc.imaging.image import Image, Mask, encoded, mask_image, open_image, open_mask

FOLDER = "files"
ADVICE = "bring the file back from a copy of the dataset"


def store_image(root: Path, image: Image) -> StoredFile:
    """Keep a picture in the dataset at `root`, unless it is there already.

    Raises:
        OSError: the disk is full or the folder may not be written; nothing half-written is left.
    """
    content = encoded(image, "picture.png")
    digest = hashlib.sha256(content).hexdigest()
    path = f"{FOLDER}/{digest[:2]}/{digest}.png"
    place = root / path
    if not place.exists():
        write_files({place: lambda: content})
    width, height = image.size
    return StoredFile(path=path, sha256=digest, width=width, height=height)


def store_mask(root: Path, mask: Mask) -> StoredFile:
    """Keep a mask as a grey picture; see `store_image`."""
    return store_image(root, mask_image(mask))


def load_image(root: Path, file: StoredFile) -> Image:
    """A picture of the dataset, checked against its hash.

    Raises:
        InputError: it is missing, damaged, or not of the size that the manifest names.
    """
    check_file(root, file)
    image = open_image(root / file.path, name=file.path)
    if image.size != (file.width, file.height):
        width, height = image.size
        raise InputError(
            f"{quoted(file.path)} of the dataset is {width}x{height} pixels, and its row says "
            f"{file.width}x{file.height}."
        )
    return image


def load_mask(root: Path, file: StoredFile) -> Mask:
    """A mask of the dataset; see `load_image`."""
    check_file(root, file)
    return open_mask(root / file.path, size=(file.width, file.height), name=file.path)


def file_content(root: Path, file: StoredFile) -> bytes:
    """The bytes of a file of the dataset, checked against its hash.

    Raises:
        InputError: as for `check_file`.
    """
    try:
        content = (root / file.path).read_bytes()
    except OSError as error:
        raise InputError(f"{quoted(file.path)} of the dataset cannot be read ({error.strerror}); {ADVICE}.") from error
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise InputError(f"{quoted(file.path)} of the dataset is damaged: its hash is another one; {ADVICE}.")
    return content


def check_file(root: Path, file: StoredFile) -> None:
    """Compare a file of the dataset with its hash.

    Raises:
        InputError: it is missing, or its hash is another one.
    """
    file_content(root, file)
