"""Asking spools what is on their disks, and having them purge a queue or forget a cursor, by mailbox.

    asker     INSPECT(request, action, stream, ...) ->     answerer  every spool there begins to look
              INSPECT(the same) again every 0.5 s ->                 FINDINGS(not done, how far it is)
                                                                     FINDINGS(done, rows, where to go on)

A question is repeated until it is answered, since either frame may be lost; looking is begun once. What was done is
remembered, and told again to whoever asks again, so that a purge is counted once. An answer that does not fit into a
frame is told in pages, which are asked for one after the other. The looking itself is not done here: each spool has a
`Look`, which answers from a thread of its own, when it can.

States of a question, for each peer asked: asked, then answered, or gone. A crash of the one who asks loses what it
would have seen; a crash of a spool leaves what it had done by then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import msgpack

from zq.core.timers import Timers
from zq.wire.budget import containers_in
from zq.wire.frames import ROWS, Findings, Inspect

AGAIN = 0.5  # s until a question that nobody has answered is asked again
CONTAINERS = ROWS - 16  # of rows in a page; the frame is one, too
KEPT = 64  # answers that are remembered for those who ask again, and questions that are looked at in all
PAGE = 600 << 10  # bytes of rows in a page; a mailbox frame has room for 1 MiB
LARGE = 4  # answers of more than a page that are remembered


class Found:
    """What one spool answers."""

    def __init__(
        self, rows: Sequence[dict[str, Any]] = (), *, next: int = 0, count: int = 0, problem: str = ""
    ) -> None:
        self.rows = list(rows)
        self.next = next
        self.count = count
        self.problem = problem


class Look(Protocol):
    """One spool here."""

    def begin(self, question: Inspect, done: Callable[[Found], None]) -> None:
        """Answers by `done`, in the engine's thread, once. Returns at once."""

    def progress(self, question: Inspect) -> tuple[int, int]:
        """How much of how much is done."""


class Inspection:
    """One question to several peers."""

    def __init__(self, question: Callable[[int], Inspect]) -> None:
        self._question = question
        self.pending: dict[bytes, Inspect] = {}
        self.asked: tuple[bytes, ...] = ()
        self.found: list[tuple[bytes, Findings]] = []
        self.progress: dict[bytes, tuple[int, int]] = {}
        self.gone: list[bytes] = []

    @property
    def complete(self) -> bool:
        return not self.pending

    def ask(self, peer: bytes, request: int) -> Inspect:
        self.asked = (*self.asked, peer)
        self.pending[peer] = self._question(request)
        return self.pending[peer]

    def go_on(self, peer: bytes) -> None:
        """With the next page of its answer."""
        asked = self.pending[peer]
        self.pending[peer] = Inspect(**vars(asked) | {"page": asked.page + 1})


class Inspections:
    """The questions of this peer."""

    def __init__(self, timers: Timers, send: Callable[[bytes, Inspect], None]) -> None:
        self._timers = timers
        self._send = send
        self._running: list[Inspection] = []
        self._requests = 0

    def begin(self, question: Callable[[int], Inspect], peers: Iterable[bytes], now: float) -> Inspection:
        """`question` makes it, given its number."""
        inspection = Inspection(question)
        self._running.append(inspection)
        for peer in peers:
            self._requests += 1
            self._send(peer, inspection.ask(peer, self._requests))
        self._again(inspection, now)
        return inspection

    def end(self, inspection: Inspection) -> None:
        if inspection in self._running:
            self._running.remove(inspection)
        self._timers.cancel(inspection)

    def _again(self, inspection: Inspection, now: float) -> None:
        self._timers.set(inspection, now + AGAIN, lambda when: self._ask_again(inspection, when))

    def _ask_again(self, inspection: Inspection, now: float) -> None:
        for peer, question in inspection.pending.items():
            self._send(peer, question)
        self._again(inspection, now)

    def on_findings(self, peer: bytes, findings: Findings) -> None:
        for inspection in list(self._running):
            question = inspection.pending.get(peer)
            if question is None or question.request != findings.request:
                continue
            if not findings.done:
                inspection.progress[peer] = findings.count, findings.next
                continue
            if findings.page != question.page:
                continue  # it was told twice
            inspection.found.append((peer, findings))
            if findings.page < findings.pages:
                inspection.go_on(peer)
                self._send(peer, inspection.pending[peer])
                continue
            del inspection.pending[peer]
            if inspection.complete:
                self.end(inspection)

    def on_gone(self, peer: bytes) -> None:
        for inspection in list(self._running):
            if inspection.pending.pop(peer, None) is not None:
                inspection.gone.append(peer)
                if inspection.complete:
                    self.end(inspection)


class Inspected:
    """The answers of this peer, of all its spools together."""

    def __init__(self, send: Callable[[bytes, Findings], None]) -> None:
        self._send = send
        self._looks: list[Look] = []
        self._asked: dict[tuple[bytes, int], tuple[Inspect, list[Look], list[Found]]] = {}
        self._answers: dict[tuple[bytes, int], list[Findings]] = {}  # their pages

    def add(self, look: Look) -> None:
        self._looks.append(look)

    def remove(self, look: Look) -> None:
        if look in self._looks:
            self._looks.remove(look)

    def on_inspect(self, peer: bytes, question: Inspect) -> None:
        key = peer, question.request
        if key in self._answers:
            self._send(peer, self._page(self._answers[key], question))
        elif key in self._asked:
            _, open_looks, _ = self._asked[key]
            done, total = map(sum, zip(*(look.progress(question) for look in open_looks), strict=True))
            self._send(peer, Findings(question.request, False, [], total, done, ""))
        elif not self._looks:
            self._answer(key, [])
        elif len(self._asked) < KEPT:  # else it is asked again
            looks = list(self._looks)
            self._asked[key] = question, list(looks), []
            for look in looks:
                self._begin(key, look, question)

    def _begin(self, key: tuple[bytes, int], look: Look, question: Inspect) -> None:
        def done(found: Found) -> None:
            asked = self._asked.get(key)
            if asked is None or look not in asked[1]:
                return
            asked[1].remove(look)
            asked[2].append(found)
            if not asked[1]:
                del self._asked[key]
                self._answer(key, asked[2])

        look.begin(question, done)

    def _answer(self, key: tuple[bytes, int], found: list[Found]) -> None:
        peer, request = key
        pages = _pages([row for one in found for row in one.rows])
        problem = "; ".join(one.problem for one in found if one.problem)[:1_000]
        go_on = max((one.next for one in found), default=0)
        count = sum(one.count for one in found)
        told = [Findings(request, True, rows, go_on, 0, "", page, len(pages)) for page, rows in enumerate(pages, 1)]
        told[-1] = Findings(request, True, pages[-1], go_on, count, problem, len(pages), len(pages))
        self._answers[key] = told
        while len(self._answers) > KEPT:
            del self._answers[next(iter(self._answers))]
        large = [old for old, its in self._answers.items() if len(its) > 1]
        for old in large[:-LARGE]:
            self._answers[old] = []  # it was looked at, and is not again under this number
        self._send(peer, told[0])

    @staticmethod
    def _page(pages: list[Findings], question: Inspect) -> Findings:
        if 1 <= question.page <= len(pages):
            return pages[question.page - 1]
        problem = "the rest of its answer is not kept any more; ask again"
        return Findings(question.request, True, [], 0, 0, problem, question.page, question.page)


def _pages(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """One at least; a row that is larger than a page is one of its own."""
    pages: list[list[dict[str, Any]]] = [[]]
    size = containers = 0
    for row in rows:
        bytes_of_row, its_containers = len(msgpack.packb(row)), containers_in(row)
        if pages[-1] and (size + bytes_of_row > PAGE or containers + its_containers > CONTAINERS):
            pages.append([])
            size = containers = 0
        pages[-1].append(row)
        size += bytes_of_row
        containers += its_containers
    return pages
