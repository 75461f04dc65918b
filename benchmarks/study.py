"""Measures what the report of a blind study is worth, on studies by raters of known taste.

usage: python -m benchmarks.study [--studies N] [--json FILE]

Three things are measured, all with fixed seeds:

- how often the 95 % intervals hold the true shares of the population, for small and large studies and for raters and
  items that differ little and much; beside them the plain crossed bootstrap and Wilson's interval of independent votes;
- what the rules of exclusion do to the shares;
- how many raters find a difference of 5, 10 and 20 points in four of five studies.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from refgc.study.estimates import LEVEL, RESAMPLES, shares
from refgc.study.simulation import Design, Taste, raters_needed, recover, simulate_study, taste_with_lead
from refgc.study.votes import Rules

STUDIES = 1000
SPREADS = {"little": {"people": 0.7, "items": 0.7, "both": 0.5}, "much": {"people": 1.0, "items": 1.5, "both": 1.5}}
# Of four methods of about one worth, of one ahead of three, and of one far ahead of four, as in the paper.
WORTHS = {"even": (0.6, 0.3, 0.0, 0.0), "lead": (2.5, 0.0, 0.0, -0.5), "far": (5.0, 1.0, 0.5, 0.0, 0.0)}
DESIGNS = (Design(8, 8), Design(16, 10), Design(16, 20), Design(30, 20), Design(10, 40), Design(60, 12))
# On which the slow bootstrap is measured too.
BOOTSTRAPPED = (Design(16, 20), Design(30, 20))
BOOTSTRAP_STUDIES = 200
LEADS, ITEMS = (0.05, 0.10, 0.20), (10, 20, 40, 100)
POWER_STUDIES = 200


def coverage(studies: int) -> list[dict[str, Any]]:
    rows = []
    for spread, values in SPREADS.items():
        for name, worth in WORTHS.items():
            taste = Taste(worth, **values)
            truth = taste.shares()
            for design in DESIGNS:
                found = recover(taste, design, studies, seed=1, truth=truth)
                rows.append(
                    {
                        "raters and items differ": spread,
                        "taste": name,
                        "raters": design.raters,
                        "items": design.items,
                        "shares": rounded(found.truth),
                        "coverage of each share": rounded(found.coverage),
                        "coverage": round(float(np.mean(found.coverage)), 4),
                        "coverage of the difference": round(found.difference_coverage, 4),
                        "largest bias": round(float(np.abs(np.subtract(found.mean, found.truth)).max()), 4),
                    }
                )
                print(*rows[-1].values(), flush=True)
    return rows


def other_intervals(studies: int) -> list[dict[str, Any]]:
    """The crossed bootstrap and independent votes, on the same kind of studies."""
    rows = []
    for name, worth in WORTHS.items():
        taste = Taste(worth)
        truth = taste.shares()
        for design in BOOTSTRAPPED:
            random = np.random.default_rng(2)
            crossed, independent = list[bool](), list[bool]()
            for number in range(studies):
                votes = simulate_study(taste, design, random, questions=1).counted(0)
                for kind, one in enumerate(shares(votes, len(truth), seed=number)):
                    for held, interval in ((crossed, one.bootstrap), (independent, one.wilson)):
                        held.append(interval is not None and interval.low <= truth[kind] <= interval.high)
            rows.append(
                {
                    "taste": name,
                    "raters": design.raters,
                    "items": design.items,
                    "coverage of the crossed bootstrap": round(float(np.mean(crossed)), 4),
                    "coverage of Wilson's interval": round(float(np.mean(independent)), 4),
                }
            )
            print(*rows[-1].values(), flush=True)
    return rows


def exclusion(studies: int) -> list[dict[str, Any]]:
    """What happens to honest and careless raters, and to the shares, by each rule."""
    rows = []
    taste = taste_with_lead(4, 0.2)
    truth = taste.shares()
    everybody = Rules(right=0.0)
    for name, rules in {"nobody": everybody, "checks": Rules(), "checks and repeated item": Rules(same=1)}.items():
        found = recover(taste, Design(30, 20, careless=0.2), studies, seed=3, truth=truth, rules=rules)
        rows.append(
            {
                "left out by": name,
                "honest raters left out": round(found.honest_excluded, 4),
                "careless raters kept": round(found.careless_kept, 4),
                "true share of the favourite": round(found.truth[1], 4),
                "mean share found": round(found.mean[1], 4),
                "coverage": round(float(np.mean(found.coverage)), 4),
            }
        )
        print(*rows[-1].values(), flush=True)
    return rows


def needs() -> list[dict[str, Any]]:
    rows = []
    for lead in LEADS:
        for items in ITEMS:
            need = raters_needed(4, lead, items, studies=POWER_STUDIES, seed=4)
            rows.append(
                {
                    "difference": lead,
                    "items": items,
                    "raters": need.raters,
                    "found by raters": {str(number): round(share, 3) for number, share in need.power.items()},
                }
            )
            print(*rows[-1].values(), flush=True)
    return rows


def rounded(values: list[float]) -> list[float]:
    return [round(value, 4) for value in values]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=STUDIES)
    parser.add_argument("--json", type=Path, help="where the figures are written")
    chosen = parser.parse_args()
    start = time.perf_counter()
    rows = coverage(chosen.studies)
    figures = {
        "studies": chosen.studies,
        "level": LEVEL,
        "coverage": rows,
        "coverage over all": round(float(np.mean([row["coverage"] for row in rows])), 4),
        "coverage of differences over all": round(
            float(np.mean([row["coverage of the difference"] for row in rows])), 4
        ),
        "other intervals": other_intervals(min(chosen.studies, BOOTSTRAP_STUDIES)),
        "studies of the bootstrap": min(chosen.studies, BOOTSTRAP_STUDIES),
        "resamples of the bootstrap": RESAMPLES,
        "exclusion": exclusion(chosen.studies),
        "power": {"studies": POWER_STUDIES, "methods": 4, "rows": needs()},
    }
    print(f"over all {figures['coverage over all']}, {time.perf_counter() - start:.0f} s")
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
