"""Stage 2: triplets of real pairs, drawn by the simulator, a real command, a real server and a tiny DipRefGC."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage

from refgc.dataset import triplets
from refgc.dataset.lock import only_run
from refgc.dataset.lrgi import Command, DipRefGC, DiptychMaker, LrgiSource, Server, Simulator, drawn_strengths
from refgc.dataset.manifest import (
    REJECTIONS,
    TRIPLETS,
    VERDICTS,
    Rejection,
    Triplet,
    Verdict,
    append_row,
    read_rows,
    write_rows,
)
from refgc.dataset.settings import LEAST_OVERLAP, TripletSettings
from refgc.dataset.store import load_image
from refgc.dataset.triplets import load_pictures, orders_of, pairs_taken, run_triplets
from refgc.errors import EngineError, InputError
from refgc.imaging.arrays import bicubic
from tests.support.dataset_pairs import PRODUCTS, make_pairs
from tests.support.tiny_dataset import mend_mask

REPOSITORY = Path(__file__).resolve().parents[2]
SIMULATED = (Simulator(), TripletSettings(seeds=2, workers=1))


def rows(root: Path) -> list[Triplet]:
    return list(read_rows(root / TRIPLETS, Triplet))


def rejections(root: Path) -> list[Rejection]:
    return list(read_rows(root / REJECTIONS, Rejection))


def content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def verdict(row: str, rater: str, accepted: bool) -> Verdict:
    return Verdict(row=row, rater=rater, accepted=accepted, time="2026-07-01T12:00:00Z", seconds=1.0)


def settings(source: LrgiSource, **options: Any) -> tuple[LrgiSource, TripletSettings]:
    return source, TripletSettings(workers=1, **options)


def test_simulated_triplets_say_so_and_tell_how_they_were_made(tmp_path):
    pairs = make_pairs(tmp_path, PRODUCTS[:2])
    count = run_triplets(tmp_path, *SIMULATED)
    made = rows(tmp_path)
    assert count.made == len(made) == 4
    assert [row.id for row in made] == sorted(row.id for row in made)
    for row in made:
        assert row.made.simulated
        assert (row.made.generator, row.made.task, row.made.weights) == ("simulator", "simulated", {})
        assert row.made.strengths == drawn_strengths(row.made.seed).model_dump()
        lrgi = load_image(tmp_path, row.lrgi)
        assert lrgi.size == (64, 64)
        (pair,) = (pair for pair in pairs if pair.id == row.pair)
        truth = bicubic(load_image(tmp_path, pair.hrgt.picture).pixels, (64, 64)).astype(float)
        difference = np.abs(lrgi.pixels - truth).mean()
        assert 0 < difference < 20, "the HRGT with artifacts"
    assert len({row.made.seed for row in made}) == len({row.lrgi.sha256 for row in made}) == 4


def test_a_second_run_changes_nothing_and_more_seeds_are_added(tmp_path):
    make_pairs(tmp_path, PRODUCTS[:1])
    run_triplets(tmp_path, *settings(Simulator()))
    before = content(tmp_path)
    count = run_triplets(tmp_path, *settings(Simulator()))
    assert (count.made, count.earlier) == (0, 1)
    assert content(tmp_path) == before
    count = run_triplets(tmp_path, *settings(Simulator(), seeds=2))
    assert (count.made, count.earlier) == (1, 1)


@pytest.mark.parametrize(
    ("said", "made"),
    [
        ([], 0),
        ([("anna", True)], 0),
        ([("anna", True), ("ben", True)], 1),
        ([("anna", True), ("ben", False)], 0),
        ([("anna", True), ("ben", False), ("cleo", True)], 1),
        ([("anna", False), ("ben", True), ("anna", True)], 1),
        ([("anna", False), ("ben", False)], 0),
    ],
    ids=["unreviewed", "one person", "accepted", "disputed", "majority", "changed mind", "rejected"],
)
def test_only_accepted_pairs_are_taken(tmp_path, said, made):
    (pair, other) = make_pairs(tmp_path, PRODUCTS[:2], filtered_by="a model")
    for rater, accepted in said:
        append_row(tmp_path / VERDICTS, verdict(pair.id, rater, accepted))
    if made:
        assert pairs_taken(tmp_path, unreviewed=False) == ([pair], 1)
    else:
        with pytest.raises(InputError, match="None of the 2 pairs is accepted; review them"):
            pairs_taken(tmp_path, unreviewed=False)
    taken, _ = pairs_taken(tmp_path, unreviewed=True)
    assert taken == ([pair, other] if made or len(said) < 2 else [other])


def test_pairs_that_no_model_filtered_need_no_review(tmp_path):
    pairs = make_pairs(tmp_path, PRODUCTS[:2])
    for rater in ("anna", "ben"):
        append_row(tmp_path / VERDICTS, verdict(pairs[0].id, rater, False))
    assert pairs_taken(tmp_path, unreviewed=False) == (pairs[1:], 1)


def test_pairs_are_taken_with_their_mended_masks(tmp_path):
    (pair,) = make_pairs(tmp_path, PRODUCTS[:1])
    mended = mend_mask(tmp_path, pair.id, "hrgt", 100, side=pair.hrgt.picture.width)
    ((taken,), _) = pairs_taken(tmp_path, unreviewed=False)
    assert (taken.hrgt.mask, taken.hrri) == (mended.mask, pair.hrri)


DRAW = """
import sys
import cv2
import numpy as np
from PIL import Image
scene, mask, output, shift = sys.argv[1:5]
picture, alpha = np.array(Image.open(scene)), np.array(Image.open(mask).convert("L"))
if shift == "fail":
    print("starting", file=sys.stderr)
    sys.exit("the seed has a bad day")
if shift == "text":
    open(output, "w").write("no picture")
elif shift != "nothing":
    hole = cv2.dilate((alpha > 4).astype(np.uint8), np.ones((5, 5), np.uint8))
    background = cv2.inpaint(picture, hole, 3, cv2.INPAINT_TELEA)
    moved, there = (np.roll(array, int(shift), axis=1) for array in (picture, alpha))
    Image.fromarray(np.where(there[..., None] > 127, moved, background)).resize((512, 512)).save(output)
"""


@pytest.fixture
def command(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Command]:
    """A generator of one's own: it draws the object anew in the HRGT's scene, moved by so many pixels."""
    script = tmp_path_factory.mktemp("generator") / "draw.py"
    script.write_text(DRAW)
    return lambda shift: Command(f"'{sys.executable}' '{script}' {{hrgt}} {{mask}} {{output}} {shift}", "mover")


def test_a_command_draws_and_the_pose_is_checked(tmp_path, command):
    make_pairs(tmp_path, PRODUCTS[:2])
    run_triplets(tmp_path, *settings(command("0")))
    made = rows(tmp_path)
    assert len(made) == 2
    for row in made:
        assert (row.made.generator, row.made.simulated, row.made.task) == ("mover", False, "compositing")
        assert row.lrgi_panel is not None
        assert (row.lrgi_panel.width, row.lrgi.width) == (512, 64)
        panel = load_image(tmp_path, row.lrgi_panel)
        assert np.array_equal(load_image(tmp_path, row.lrgi).pixels, bicubic(panel.pixels, (64, 64)))
        assert row.scores[0].value >= LEAST_OVERLAP


def test_an_object_in_another_place_is_left_out_and_not_drawn_again(tmp_path, command):
    make_pairs(tmp_path, PRODUCTS[:2])
    other = [Rejection(step="decode", what=name, reason="It is cut off.") for name in ("z.mp4", "a.mp4")]
    write_rows(tmp_path / REJECTIONS, other)
    count = run_triplets(tmp_path, *settings(command("30")))
    assert (count.made, count.misfits, rows(tmp_path)) == (0, 2, [])
    assert rejections(tmp_path)[:2] == other, "those of other stages stay as they are"
    ours = rejections(tmp_path)[2:]
    assert [one.step for one in ours] == ["pose", "pose"]
    assert [one.what for one in ours] == sorted(one.what for one in ours)
    assert all("less than 0.92" in one.reason for one in ours)
    assert run_triplets(tmp_path, *settings(command("30"))).earlier == 2


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("fail", r"ended with status 1 \(the seed has a bad day\)"),
        ("nothing", "ended without a picture"),
        ("text", "generator's picture"),
    ],
)
def test_what_a_command_fails_at_is_said(tmp_path, command, fault, reason):
    (pair,) = make_pairs(tmp_path, PRODUCTS[:1])
    with pytest.raises(InputError, match=reason):
        command(fault).draw(pair, load_pictures(tmp_path, pair), 0)


def test_a_failure_is_tried_again_by_the_next_run(tmp_path, command):
    make_pairs(tmp_path, PRODUCTS[:1])
    count = run_triplets(tmp_path, *settings(command("nothing")))
    assert (count.made, count.failures) == (0, 1)
    (rejection,) = rejections(tmp_path)
    assert (rejection.step, rejection.reason) == ("generator", "The generator ended without a picture.")
    run_triplets(tmp_path, *settings(command("0")))
    assert (len(rows(tmp_path)), rejections(tmp_path)) == (1, [])


def test_a_generator_that_always_fails_ends_the_run(tmp_path, command, monkeypatch):
    monkeypatch.setattr(triplets, "MOST_FAILURES", 3)
    make_pairs(tmp_path, PRODUCTS[:2])
    with pytest.raises(
        EngineError,
        match="3 LRGIs failed one after the other, so look at the generator; the last: ",
    ):
        run_triplets(tmp_path, *settings(command("fail"), seeds=5))
    assert len(rejections(tmp_path)) == 3


def test_a_command_that_takes_too_long_is_ended_with_what_it_started(tmp_path):
    (pair,) = make_pairs(tmp_path, PRODUCTS[:1])
    waits = Command(f"sh -c 'sleep 300 & echo $! > {tmp_path}/child; wait; echo {{output}}'", "slow", seconds=1.0)
    with pytest.raises(InputError, match="longer than 1 seconds"):
        waits.draw(pair, load_pictures(tmp_path, pair), 0)
    child = Path(f"/proc/{(tmp_path / 'child').read_text().strip()}/stat")
    for _ in range(100):
        if not child.exists() or " Z " in child.read_text():
            return
        time.sleep(0.05)
    raise AssertionError("it still runs")


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (Command("echo {hrri}", "echo"), "has no {output}"),
        (Command("echo {output} {colour}", "echo"), "has {colour}, which means nothing; there are {hrri}"),
        (Command("echo '{output}", "echo"), "cannot be split"),
        (Command("", "echo"), "is empty"),
        (Command("echo {output}", "a/b"), "name 'a/b' cannot be used"),
        (Command("no-such-program-here {output}", "none"), "'no-such-program-here' is not found"),
        (Server("ftp://somewhere/", "server"), "no web address"),
    ],
)
def test_generators_that_cannot_be_used_are_refused_first(tmp_path, source, sentence):
    with pytest.raises((InputError, EngineError)) as refused:
        run_triplets(tmp_path, *settings(source))
    assert sentence in str(refused.value)


def test_diprefgc_is_refused_without_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("REFGC_DEVICE", "cpu")
    with pytest.raises(EngineError, match="takes hours for a picture; unset it on a machine with a GPU, or add --sim"):
        run_triplets(tmp_path, *settings(DipRefGC()))


class Answers:
    """What the server says: a picture by the request, or a status."""

    def __init__(self) -> None:
        self.questions: list[dict[str, Any]] = []
        self.answer: Callable[[dict[str, Any]], tuple[int, bytes]] = self.scene

    @staticmethod
    def scene(question: dict[str, Any]) -> tuple[int, bytes]:
        return 200, base64.b64decode(question["hrgt"])


@contextmanager
def serving(answers: Answers) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answers.questions.append(question)
            status, content = answers.answer(question)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/draw"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_server_draws(tmp_path):
    (pair,) = make_pairs(tmp_path, PRODUCTS[:1])
    answers = Answers()
    with serving(answers) as address:
        run_triplets(tmp_path, *settings(Server(address, "their-model")))
        (row,) = rows(tmp_path)
        assert (row.made.generator, row.made.simulated) == ("their-model", False)
        (question,) = answers.questions
        assert (question["object"], question["seed"], question["task"]) == ("cushion", row.made.seed, "compositing")
        pictures = load_pictures(tmp_path, pair)
        shown = {
            name: np.asarray(PILImage.open(io.BytesIO(base64.b64decode(question[name]))))
            for name in ("hrri", "background")
        }
        assert np.array_equal(shown["hrri"], pictures.hrri.pixels)
        cut = pictures.hrgt_mask.values > 0
        assert np.all(shown["background"][cut] == 128), "nothing of the truth is told"
        assert np.array_equal(shown["background"][~cut], pictures.hrgt.pixels[~cut])


@pytest.mark.parametrize(
    ("status", "kind", "sentence", "asked"),
    [
        (404, EngineError, r"refuses \(404\)", 1),
        (422, InputError, r"refuses this pair \(422\)", 1),
        (503, InputError, r"fails at this pair \(503\)", 3),
    ],
)
def test_a_server_that_refuses(tmp_path, monkeypatch, status, kind, sentence, asked):
    monkeypatch.setattr("refgc.dataset.lrgi.time.sleep", lambda _: None)
    (pair,) = make_pairs(tmp_path, PRODUCTS[:1])
    answers = Answers()
    answers.answer = lambda _: (status, b"")
    with serving(answers) as address, pytest.raises(kind, match=sentence):
        Server(address, "their-model").draw(pair, load_pictures(tmp_path, pair), 0)
    assert len(answers.questions) == asked


def test_without_a_gpu_the_sentence_names_only_ways_that_are_open(tmp_path, monkeypatch):
    make_pairs(tmp_path, PRODUCTS[:1])
    monkeypatch.delenv("REFGC_DEVICE", raising=False)
    monkeypatch.setattr("refgc.dataset.lrgi.missing_libraries", lambda: "")
    monkeypatch.setattr("refgc.diptych.sources.missing_libraries", lambda: "")
    monkeypatch.setattr("refgc.diptych.sources.machine.missing_cuda", lambda: "There is none.")
    with pytest.raises(EngineError, match="add --simulated") as told:
        run_triplets(tmp_path, *settings(DipRefGC()))
    assert "REFGC_DEVICE" not in str(told.value)


def test_a_page_in_place_of_a_picture_is_told_without_our_own_file(tmp_path):
    (pair,) = make_pairs(tmp_path, PRODUCTS[:1])
    answers = Answers()
    answers.answer = lambda _: (200, b"<html>It works!</html>")
    with serving(answers) as address, pytest.raises(InputError, match="The server's answer is not a picture"):
        Server(address, "their-model").draw(pair, load_pictures(tmp_path, pair), 0)


def test_a_server_that_is_not_there_ends_the_run(tmp_path):
    make_pairs(tmp_path, PRODUCTS[:1])
    with pytest.raises(EngineError, match=r"is not reached \(Connection refused\); start it or correct --server"):
        run_triplets(tmp_path, *settings(Server("http://127.0.0.1:9/", "their-model")))
    assert rejections(tmp_path) == []


def test_a_picture_of_another_shape_is_a_scene_of_its_own_or_an_error(tmp_path):
    (pair,) = make_pairs(tmp_path, PRODUCTS[:1])
    file = io.BytesIO()
    PILImage.fromarray(np.random.default_rng(0).integers(0, 256, (200, 400, 3), np.uint8)).save(file, "PNG")
    answers = Answers()
    answers.answer = lambda _: (200, file.getvalue())
    with serving(answers) as address:
        with pytest.raises(InputError, match="400x200 pixels, not of the HRGT's aspect ratio"):
            Server(address, "wide").draw(pair, load_pictures(tmp_path, pair), 0)
        run_triplets(tmp_path, *settings(Server(address, "wide", "customisation")))
    (row,) = rows(tmp_path)
    assert (row.lrgi.width, row.lrgi.height) == (64, 32)
    assert row.scores == ()


def test_a_damaged_file_costs_its_own_pair_alone(tmp_path):
    pairs = make_pairs(tmp_path, PRODUCTS[:2])
    (tmp_path / pairs[0].hrgt.picture.path).write_bytes(b"no picture")
    count = run_triplets(tmp_path, *settings(Simulator()))
    assert (count.made, count.failures) == (1, 1)
    assert "is damaged" in rejections(tmp_path)[0].reason


def test_two_runs_in_one_folder_do_not_meet(tmp_path):
    make_pairs(tmp_path, PRODUCTS[:1])
    with only_run(tmp_path), pytest.raises(InputError, match="Another run writes into"):
        run_triplets(tmp_path, *settings(Simulator()))
    with pytest.raises(InputError, match="is no folder of a dataset"):
        run_triplets(tmp_path / "nowhere", *settings(Simulator()))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no pairs; make some"):
        run_triplets(tmp_path / "empty", *settings(Simulator()))


def test_a_long_pair_id_leaves_room(tmp_path):
    (pair,) = make_pairs(tmp_path, PRODUCTS[:1])
    long = pair.model_copy(update={"id": "a" * 120})
    ids = [order.id for order in orders_of(long, Simulator(), 2)]
    assert len(set(ids)) == 2
    assert all(len(name) <= 120 for name in ids)


@pytest.mark.slow
def test_a_tiny_diprefgc_draws_the_panel_and_the_lrgi(tmp_path, tmp_path_factory):
    pytest.importorskip("diffusers")
    from refgc.diptych.generator import DiptychGenerator
    from refgc.diptych.settings import DrawingSettings
    from refgc.diptych.sources import Sources
    from tests.support.tiny_diptych import save_controlnet, save_flux_dev, tiny_canny, tiny_inpainting

    parts = tmp_path_factory.mktemp("tiny")
    save_flux_dev(parts / "base")
    save_controlnet(tiny_inpainting(), parts / "inpainting")
    save_controlnet(tiny_canny(), parts / "canny")
    sources = Sources(str(parts / "inpainting"), str(parts / "canny"), base=str(parts / "base"))
    generator = DiptychGenerator(sources, device="cpu", settings=DrawingSettings(num_inference_steps=1))
    (pair,) = make_pairs(tmp_path, PRODUCTS[1:2])
    drawn = DiptychMaker(generator).draw(pair, load_pictures(tmp_path, pair), 3)
    assert drawn.panel is not None
    assert (drawn.panel.size, drawn.picture.size) == ((512, 512), (64, 64))
    assert np.array_equal(drawn.picture.pixels, bicubic(drawn.panel.pixels, (64, 64)))
    assert not drawn.made.simulated
    assert drawn.made.weights["base"] == str(parts / "base")
    assert drawn.made.prompt is not None
    assert "same mug" in drawn.made.prompt
    assert not drawn.outline_is_known


KILLED = """
import sys
from pathlib import Path
from refgc.dataset.lrgi import Simulator
from refgc.dataset.settings import TripletSettings
from refgc.dataset.triplets import run_triplets
if __name__ == "__main__":
    run_triplets(Path(sys.argv[1]), Simulator(), TripletSettings(seeds=6, runner=sys.argv[2], workers=2))
"""


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["local", "ray"])
def test_a_run_that_is_killed_again_and_again_gives_the_same_bytes(tmp_path, runner):
    if runner == "ray":
        pytest.importorskip("ray")
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    for root in (calm, killed):
        make_pairs(root)
    run_triplets(calm, Simulator(), TripletSettings(seeds=6, workers=1))
    script = tmp_path / "run.py"
    script.write_text(KILLED)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, str(script), str(killed), runner]
    random = np.random.default_rng(0)
    for _ in range(4 if runner == "local" else 1):
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        there = len(rows(killed))
        while len(rows(killed)) == there and process.poll() is None:
            time.sleep(0.01)
        time.sleep(float(random.uniform(0, 0.3)))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert 0 < len(rows(killed)) < 24
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert content(killed) == content(calm)
