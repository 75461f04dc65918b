"""The code that asks a running page: run as it is shown, against the real page."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import PIL.Image
import pytest

from refgc.page.marking.mask import Marking
from refgc.page.refine.code import DEFAULT_PAGE, Code, build_code_view, code_for
from refgc.page.refine.inputs import Submission
from tests.support.running import Served, served
from tests.support.synthetic import make_synthetic_pair


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("site") / "uploads") as running:
        yield running


# Whatever a name holds has to reach Python, the shell, curl's form and JSON as it is.
REFERENCE, BACK, GENERATED = 'it\'s a "photo" $HOME.png', "-back; 100%\\n.png", "scene, one.png"
OBJECT = """red 'te%sapot' "x" $HOME \\n é"""


@pytest.fixture
def shown(tmp_path: Path) -> Code:
    """The code for files in `tmp_path`, with a mask and every option that needs no weights."""
    pair = make_synthetic_pair(reference_side=320, generated_side=96)
    for name, pixels in ((REFERENCE, pair.reference), (BACK, pair.reference[:, ::-1]), (GENERATED, pair.generated)):
        PIL.Image.fromarray(pixels).save(tmp_path / name)
    PIL.Image.fromarray(pair.mask).resize((96, 96)).save(tmp_path / "mask.png")
    submission = Submission(
        Marking(tmp_path / REFERENCE),
        Marking(tmp_path / GENERATED, tmp_path / "mask.png"),
        "scene",
        scale=2,
        seed=17,
        strength=0.5,
        object_name=OBJECT,
        further_references=(tmp_path / BACK,),
    )
    return code_for(submission, "correspondence", "it's refined.png", tmp_path / "masks")


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_client_makes_the_result(site: Served, shown: Code, tmp_path: Path) -> None:
    said = run([sys.executable, "-c", shown.client.replace(DEFAULT_PAGE, f"{site.address}/")], tmp_path)
    assert said.strip().endswith(".")
    with PIL.Image.open(tmp_path / "it's refined.png") as made:
        report = made.info["refgc-report"]
        assert (made.format, made.size) == ("PNG", (192, 192))
    assert '"seed":17' in report
    assert '"strength":0.5' in report


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_makes_the_same(site: Served, shown: Code, tmp_path: Path) -> None:
    for shell in ("bash", "sh"):
        run([shell, "-c", shown.curl.replace(DEFAULT_PAGE, f"{site.address}/")], tmp_path)
        with PIL.Image.open(tmp_path / "it's refined.png") as made:
            assert (made.format, made.size) == ("PNG", (192, 192))
            assert '"seed":17' in made.info["refgc-report"]
        (tmp_path / "it's refined.png").unlink()


def test_the_repository_is_named_where_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def told() -> str:
        with gr.Blocks() as page:
            build_code_view()
        return str([block.value for block in page.blocks.values() if isinstance(block, gr.HTML)])

    monkeypatch.delenv("REFGC_REPOSITORY", raising=False)
    assert "<code>pip install .</code>" in told()
    monkeypatch.setenv("REFGC_REPOSITORY", "https://code.example/refgc")
    assert "<code>pip install git+https://code.example/refgc</code>" in told()
