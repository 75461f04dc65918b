"""The page of sliders as a file: what is in it, and what cannot get into it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import PIL.Image
import pytest

from refgc.errors import InputError
from refgc.evaluation.figures.page import make_page
from refgc.evaluation.figures.selection import Choice, Selection, select
from tests.support.compared_scenes import SIDE

HOSTILE = "</script><script>alert(1)</script>\" onload='alert(2)' <img src=//evil.example/x>"


class Elements(HTMLParser):
    """The elements of a page with their attributes and texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append((self.found[-1][0] if self.found else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def hostile(scenes: Path, compared: Path) -> Selection:
    """Labels, names and reasons that try to become elements."""
    selection = select(scenes, Choice(evaluation=compared, ids="ant,bee"))
    columns = tuple(replace(column, label=f"{column.label} {HOSTILE}") for column in selection.columns)
    chosen = tuple(
        replace(one, item=replace(one.item, object_name=HOSTILE), reason=HOSTILE) for one in selection.scenes
    )
    return replace(selection, scenes=chosen, columns=columns)


def test_every_picture_is_in_the_page_and_nothing_else_is_named(scenes: Path, compared: Path, tmp_path: Path) -> None:
    make_page(select(scenes, Choice(evaluation=compared, pick="best,worst")), tmp_path / "p.html", quality=None)
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    # Base64 has slashes as well.
    assert not re.search(r"https?:|url\(|[\"'(]//", re.sub(r"base64,[\w+/=]+", "", page))
    elements = Elements(page)
    assert not elements.all("link")
    assert all("src" not in attributes for _, attributes in elements.found)
    data = [json.loads(text) for tag, text in elements.texts if tag == "script" and text.startswith("{")]
    assert [one["name"] for one in data] == ["cat", "ant"]
    assert list(data[0]["pictures"]) == ["LRGI", "soft", "sharp", "HRGT"]
    assert data[0]["box"] == [0.25, 0.25, 0.5, 0.5]
    kind, _, content = data[0]["pictures"]["HRGT"].partition(",")
    assert kind == "data:image/png;base64"
    (tmp_path / "hrgt.png").write_bytes(base64.b64decode(content))
    with PIL.Image.open(tmp_path / "hrgt.png") as own, PIL.Image.open(scenes / "cat" / "hrgt.png") as given:
        assert own.size == (SIDE, SIDE)
        assert own.tobytes() == given.tobytes()
    assert "best PSNR: 30.00 dB" in page
    assert "PSNR: soft 18.00 dB, sharp 30.00 dB" in page


def test_hostile_names_stay_text(scenes: Path, compared: Path, tmp_path: Path) -> None:
    make_page(hostile(scenes, compared), tmp_path / "p.html", title=HOSTILE)
    elements = Elements((tmp_path / "p.html").read_text(encoding="utf-8"))
    # One for each scene's data and one that runs.
    assert len(elements.all("script")) == 3
    assert len(elements.all("img")) == 2 * 3
    assert not any(name.startswith("on") for _, attributes in elements.found for name in attributes)
    assert [text for tag, text in elements.texts if tag == "title" and text.strip()] == [HOSTILE]
    data = [json.loads(text) for tag, text in elements.texts if tag == "script" and text.startswith("{")]
    assert data[0]["name"] == f"{HOSTILE} (ant)"
    values = [attributes["value"] for attributes in elements.all("option")]
    assert set(data[0]["pictures"]) == set(values) == {"LRGI", f"soft {HOSTILE}", f"sharp {HOSTILE}", "HRGT"}


def test_the_policy_allows_the_own_script_and_style_alone(scenes: Path, compared: Path, tmp_path: Path) -> None:
    make_page(select(scenes, Choice(evaluation=compared, ids="ant")), tmp_path / "p.html")
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy.startswith("default-src 'none'; img-src data:;")
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


def test_the_same_input_gives_the_same_bytes(scenes: Path, compared: Path, tmp_path: Path) -> None:
    for name in ("one.html", "two.html"):
        make_page(select(scenes, Choice(evaluation=compared, ids="ant")), tmp_path / name)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_a_fault_in_a_later_scene_leaves_no_half_page(scenes: Path, compared: Path, tmp_path: Path) -> None:
    methods = (f"only ant={tmp_path / 'only'}",)
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "ant.png").write_bytes((compared / "pictures" / "soft" / "ant.png").read_bytes())
    with pytest.raises(InputError, match="'only ant' has no result for 'bee'"):
        make_page(select(scenes, Choice(methods=methods, ids="ant,bee")), tmp_path / "p.html")
    assert not (tmp_path / "p.html").exists()
    with pytest.raises(InputError, match=r"end it in \.html"):
        make_page(select(scenes, Choice(methods=methods, ids="ant")), tmp_path / "p.png")
