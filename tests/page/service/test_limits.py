"""Limits of one visit and one address, and who they count."""

from __future__ import annotations

import time
from contextlib import ExitStack
from types import SimpleNamespace

import gradio as gr
import pytest

from refgc.page.service.limits import BusyError, MarkingLimits, RunLimits, VisitLabels, address_of, network_of
from refgc.settings import Settings


def limits(*, hour: int = 3600, **values: float) -> RunLimits:
    return RunLimits(Settings.model_validate(values), hour=hour)


def run(known: RunLimits, visit: str, address: str = "") -> None:
    with known.admit(visit, address) as count:
        count()


def test_visit_may_have_so_many_runs_under_way():
    known = limits(visit_jobs=1)
    with known.admit("a"):
        with (
            pytest.raises(BusyError, match="You have one run under way; wait until it has ended or cancel it, then"),
            known.admit("a"),
        ):
            pass
        run(known, "b")
    run(known, "a")


def test_several_runs_are_told_as_several():
    known = limits(visit_jobs=2)
    with (
        known.admit("a"),
        known.admit("a"),
        pytest.raises(BusyError, match="You have 2 runs under way; wait until one has ended or cancel it, then"),
        known.admit("a"),
    ):
        pass


def test_run_that_is_not_counted_leaves_the_hour_as_it_was():
    known = limits(visit_jobs_per_hour=1)
    for _ in range(3):
        with known.admit("a"):
            pass
    run(known, "a")
    with pytest.raises(BusyError, match="started one run within an hour, as many as one visit may; try again in 60 mi"):
        run(known, "a")


def test_hour_ends():
    known = limits(hour=1, visit_jobs_per_hour=2)
    for _ in range(2):
        run(known, "a")
    with pytest.raises(BusyError, match="started 2 runs within an hour"):
        run(known, "a")
    run(known, "b")
    time.sleep(1.1)
    run(known, "a")


def test_visits_of_one_address_are_counted_together():
    known = limits(address_jobs_per_hour=2)
    run(known, "a", "10.0.0.1")
    run(known, "b", "10.0.0.1")
    with pytest.raises(BusyError, match="From your address 2 runs were started within an hour, as many as one may"):
        run(known, "c", "10.0.0.1")
    run(known, "c", "10.0.0.2")
    run(known, "c", "")
    run(known, "c", "")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2:3::4", "2001:db8:1:2:ffff::1", True),
        ("2001:db8:1:2:3::4", "2001:db8:1:3:3::4", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("fe80::1%eth0", "fe80::1", True),
        ("testclient", "testclient", True),
    ],
)
def test_customers_network_counts_as_one_address(one: str, other: str, same: bool):
    assert (network_of(one) == network_of(other)) is same


def test_address_is_the_clients():
    client = SimpleNamespace(client=SimpleNamespace(host="10.0.0.1"))
    assert address_of(gr.Request(client)) == "10.0.0.1"  # type: ignore[arg-type]
    assert address_of(gr.Request(SimpleNamespace(client=None))) == ""  # type: ignore[arg-type]


def test_marks_are_limited_at_a_time_and_in_a_minute():
    known = MarkingLimits(Settings.model_validate({"visit_marks_per_minute": 4}))
    with ExitStack() as at_once:
        for _ in range(3):
            at_once.enter_context(known.admit("a"))
        with pytest.raises(BusyError, match="Your last marks are still being worked on"), known.admit("a"):
            pass
        with known.admit("b"):
            pass
    with known.admit("a"):
        pass
    with (
        pytest.raises(BusyError, match="marked as often as one visit may in a minute; try again in 1 minute"),
        known.admit("a"),
    ):
        pass


def test_work_on_a_mark_is_told_when_its_time_is_over():
    known = MarkingLimits(Settings.model_validate({"marking_seconds": 0.1}))
    with known.admit("a") as over:
        assert not over.is_set()
        assert over.wait(5)
    with known.admit("a") as over:
        pass
    assert not over.wait(0.3)


def test_label_of_a_visit_tells_nothing_and_stays():
    label, other = VisitLabels(), VisitLabels()
    assert label("session") == label("session") != label("session 2")
    assert other("session") != label("session")
    assert len(label("\ud800")) == 8
