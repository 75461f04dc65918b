"""Which rows a review has, and manifests that it refuses; the command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from refgc.cli.dataset_review import review
from refgc.dataset.manifest import PAIRS, TRIPLETS
from refgc.dataset.verdicts import VerdictLog
from refgc.errors import InputError
from refgc.review.rows import ReviewedRows
from tests.support.review_dataset import make_dataset


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("few") / "dataset", ("mug",))


@pytest.fixture
def dataset(few: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(few, tmp_path / "dataset"))


def test_pairs_come_first_and_either_can_be_left_out(dataset: Path) -> None:
    assert ReviewedRows(dataset).made_of == {"mug-pair": None, "mug-triplet": "mug-pair"}
    assert ReviewedRows(dataset, "pairs").made_of == {"mug-pair": None}
    assert ReviewedRows(dataset, "triplets").made_of == {"mug-triplet": "mug-pair"}


def test_a_row_that_is_not_reviewed_is_not_shown(dataset: Path) -> None:
    with pytest.raises(InputError, match="no row 'mug-triplet'"):
        ReviewedRows(dataset, "pairs").card("mug-triplet")


def change(path: Path, **fields: object) -> None:
    row = json.loads(path.read_text())
    path.write_text(json.dumps({**row, **fields}) + "\n")


def test_a_triplet_without_its_pair_is_refused(dataset: Path) -> None:
    change(dataset / TRIPLETS, pair="other-pair")
    with pytest.raises(InputError, match="names the pair 'other-pair', which is not there"):
        ReviewedRows(dataset)


def test_one_id_for_two_rows_is_refused(dataset: Path) -> None:
    change(dataset / TRIPLETS, id="mug-pair")
    with pytest.raises(InputError, match="of a pair and of a triplet"):
        ReviewedRows(dataset)


def test_a_picture_outside_of_the_folder_is_refused(dataset: Path) -> None:
    row = json.loads((dataset / PAIRS).read_text())
    row["hrri"]["picture"]["path"] = "../secret.png"
    (dataset / PAIRS).write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError, match="inside the dataset's folder"):
        ReviewedRows(dataset)


def refused(*arguments: str) -> InputError:
    """What the command answers."""
    app = typer.Typer()
    app.command()(review)
    error = CliRunner().invoke(app, arguments).exception
    assert isinstance(error, InputError)
    return error


def test_the_command_refuses_what_it_cannot_review(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "has no pairs or triplets to review" in str(refused(str(tmp_path / "empty")))
    assert list((tmp_path / "empty").iterdir()) == []
    with VerdictLog(dataset, {}):
        assert "under review by another process" in str(refused(str(dataset)))
