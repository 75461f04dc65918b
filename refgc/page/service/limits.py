"""Limits of one visit and of one address: work at the same time, and work in an hour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from ipaddress import IPv6Address, ip_address
from secrets import token_bytes
from threading import Event, Lock, Timer
from time import time

import gradio as gr
from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage, Storage
from limits.strategies import FixedWindowRateLimiter

from refgc.errors import RefGCError
from refgc.settings import Settings

HOUR = 3600
MINUTE = 60
# Of one visit, at the same time: each of two pictures has one under way, and a run that is submitted meanwhile makes
# the mask of its newest marks. Chosen by hand, not fitted.
MARKS_AT_ONCE = 3
# A provider gives each of its customers at least so many bits of an IPv6 address, and the customer chooses the rest.
IPV6_NETWORK_BITS = 64

STILL_MARKING = "Your last marks are still being worked on; wait a moment, then mark again."
TOO_MANY_MARKS = "You have marked as often as one visit may in a minute; try again in {minutes}."
VISIT_HOUR = "You have started {runs} within an hour, as many as one visit may; try again in {minutes}."
ADDRESS_HOUR = "From your address {runs} were started within an hour, as many as one may; try again in {minutes}."


class BusyError(RefGCError):
    """There is no room now for what was asked; it can be tried again later."""


class RunLimits:
    """How many runs each visit has, and how many each visit and each address has started within an hour."""

    def __init__(self, settings: Settings, *, hour: int = HOUR, of_addresses: Storage | None = None) -> None:
        """No visit has any.

        Args:
            settings: the numbers.
            hour: seconds over which the runs of an hour are counted.
            of_addresses: where the runs of addresses are counted; None counts them in this process. A visit is always
                served by one page, an address by all.
        """
        self._concurrent = _ConcurrencyLimit(settings.visit_jobs)
        self._of_visit = _RateLimit(settings.visit_jobs_per_hour, hour)
        self._of_address = _RateLimit(settings.address_jobs_per_hour, hour, of_addresses)

    @contextmanager
    def admit(self, visit: str, address: str = "") -> Iterator[Callable[[], None]]:
        """Counts one run of a visit as under way for as long as the context lasts.

        Args:
            visit: the session.
            address: the client's address, see `address_of`; no limit is kept for an empty one.

        Yields:
            What counts the run for the hour; to be called when it has found its place in the queue.

        Raises:
            BusyError: it would be too many.
        """
        network = network_of(address)
        with self._concurrent.hold(visit, _too_many_runs):
            self._of_visit.check(visit, VISIT_HOUR)
            if network:
                self._of_address.check(network, ADDRESS_HOUR)

            def count() -> None:
                self._of_visit.count(visit)
                if network:
                    self._of_address.count(network)

            yield count


class MarkingLimits:
    """How much each visit may mark at the same time, in a minute, and how long one mark may take."""

    def __init__(self, settings: Settings) -> None:
        """No visit has marked."""
        self._seconds = settings.marking_seconds
        self._concurrent = _ConcurrencyLimit(MARKS_AT_ONCE)
        self._rate = _RateLimit(settings.visit_marks_per_minute, MINUTE)

    @contextmanager
    def admit(self, visit: str) -> Iterator[Event]:
        """Counts the work on one mark.

        Args:
            visit: the session.

        Yields:
            An event that is set when the time for the work is over.

        Raises:
            BusyError: the visit marks too much.
        """
        with self._concurrent.hold(visit, lambda _: STILL_MARKING):
            self._rate.check(visit, TOO_MANY_MARKS)
            self._rate.count(visit)
            over = Event()
            timer = Timer(self._seconds, over.set)
            timer.daemon = True
            timer.start()
            try:
                yield over
            finally:
                timer.cancel()


class _ConcurrencyLimit:
    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = Lock()
        self._held: Counter[str] = Counter()

    @contextmanager
    def hold(self, visit: str, sentence: Callable[[int], str]) -> Iterator[None]:
        with self._lock:
            if self._held[visit] >= self._limit:
                raise BusyError(sentence(self._held[visit]))
            self._held[visit] += 1
        try:
            yield
        finally:
            with self._lock:
                self._held[visit] -= 1
                self._held += Counter()  # forgets who holds nothing


class _RateLimit:
    """So many in each window of time, which begins with the first."""

    def __init__(self, limit: int, seconds: int, storage: Storage | None = None) -> None:
        self._item = RateLimitItemPerSecond(limit, seconds)
        # The moving window of `limits` 5.8 remembers every key for ever; this one forgets it when its window is over.
        self._limiter = FixedWindowRateLimiter(storage or MemoryStorage())

    def check(self, key: str, sentence: str) -> None:
        if self._limiter.test(self._item, key):
            return
        seconds = self._limiter.get_window_stats(self._item, key).reset_time - time()
        minutes = max(1, round(seconds / MINUTE))
        raise BusyError(
            sentence.format(
                runs=_runs(self._item.amount), minutes=f"{minutes} {'minute' if minutes == 1 else 'minutes'}"
            )
        )

    def count(self, key: str) -> None:
        self._limiter.hit(self._item, key)


class VisitLabels:
    """A short word for each visit in the log, from which its session cannot be told."""

    def __init__(self) -> None:
        """Other labels than those of any other server."""
        self._secret = token_bytes(32)

    def __call__(self, visit: str) -> str:
        """Eight hexadecimal digits."""
        return blake2b(visit.encode(errors="replace"), key=self._secret, digest_size=4).hexdigest()


def address_of(request: gr.Request) -> str:
    """The address of whoever sent a request; empty where it is not known.

    Behind a proxy it is the proxy's, unless the setting `trusted_proxies` names the proxy.
    """
    client = getattr(request, "client", None)
    return str(getattr(client, "host", "") or "")


def network_of(address: str) -> str:
    """What counts as one address: all of an IPv4 address, the first 64 bits of an IPv6 one."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return f"{int(parsed) >> (128 - IPV6_NETWORK_BITS):x}"
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def _too_many_runs(under_way: int) -> str:
    one = "it has" if under_way == 1 else "one has"
    return f"You have {_runs(under_way)} under way; wait until {one} ended or cancel it, then try again."


def _runs(number: int) -> str:
    return "one run" if number == 1 else f"{number} runs"
