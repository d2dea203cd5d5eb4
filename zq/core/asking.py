"""Asking other peers for their ledgers, and answering, page by page.

    asker       ASK(request, page 0) ->        answerer  takes a snapshot, cuts it into pages, LEDGER(page 0 of n)
                ASK(request, page 1) ->                  LEDGER(page 1 of n) of the same snapshot
                ... until it has all n

An ASK that is not answered is repeated; page 0 begins anew with a new snapshot, and pages of an older one are passed
over, so frames may be lost, repeated and overtaken. What an answerer keeps for pages to come is forgotten after a
while. A crash of either loses the question, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from zq.core import ledger as ledgers
from zq.core.timers import Timers
from zq.info import Ledger
from zq.record import dataclass, field
from zq.wire.data import Malformed
from zq.wire.frames import Ask, LedgerReply

AGAIN = 0.5  # s until an ASK is repeated
KEPT_FOR = 10.0  # s without a question that an answerer keeps its pages
ASKERS = 16  # whom pages are kept for; with more the oldest asks from the beginning
PAGES_MOST = 1_024  # of one ledger; beyond that it is no ledger


@dataclass(eq=False, slots=True)
class Answer:
    """What has come from one peer."""

    snapshot: int = -1
    pages: list[dict[str, Any]] = field(default_factory=list)


class Question:
    """One question to all. `replies` are those that are complete."""

    def __init__(self, peers: Iterable[bytes]) -> None:
        self.replies: dict[bytes, Ledger] = {}
        self.open = {peer: Answer() for peer in peers}


class Questions:
    """`take` is the snapshot of this peer's own ledger."""

    def __init__(
        self, timers: Timers, send: Callable[[bytes, Ask | LedgerReply], None], take: Callable[[float], Ledger]
    ) -> None:
        self._timers = timers
        self._send = send
        self._take = take
        self._asked = 0
        self._snapshots = 0
        self._questions: dict[int, Question] = {}
        self._kept: dict[bytes, tuple[int, int, list[dict[str, Any]]]] = {}  # asker: request, snapshot, pages

    # --- asking

    def ask(self, peers: Iterable[bytes], now: float) -> int:
        self._asked += 1
        self._questions[self._asked] = Question(peers)
        self._repeat(self._asked, now)
        return self._asked

    def replies(self, request: int) -> dict[bytes, Ledger]:
        return self._questions[request].replies

    def forget(self, request: int) -> None:
        self._questions.pop(request, None)
        self._timers.cancel(("ask", request))

    def _repeat(self, request: int, now: float) -> None:
        question = self._questions[request]
        for peer, answer in question.open.items():
            self._send(peer, Ask(request, len(answer.pages)))
        if question.open:
            self._timers.set(("ask", request), now + AGAIN, lambda when: self._repeat(request, when))

    def on_reply(self, sender: bytes, reply: LedgerReply) -> None:
        """Raises Malformed when it is none."""
        question = self._questions.get(reply.request)
        answer = question.open.get(sender) if question is not None else None
        if question is None or answer is None:
            return  # nobody asked, or it has answered
        if reply.page == 0:
            ledgers.from_wire([reply.ledger])
            answer.snapshot, answer.pages = reply.snapshot, []
        if reply.snapshot != answer.snapshot or reply.page != len(answer.pages) or reply.pages > PAGES_MOST:
            return
        answer.pages.append(reply.ledger)
        if len(answer.pages) < reply.pages:
            self._send(sender, Ask(reply.request, len(answer.pages)))
            return
        ledger = ledgers.from_wire(answer.pages)
        if ledger.peer != sender:
            raise Malformed("a ledger of somebody else")
        del question.open[sender]
        question.replies[sender] = ledger
        if not question.open:
            self._timers.cancel(("ask", reply.request))

    # --- answering

    def on_ask(self, asker: bytes, ask: Ask, now: float) -> None:
        kept = self._kept.get(asker)
        if ask.page == 0 or kept is None or kept[0] != ask.request or ask.page >= len(kept[2]):
            self._snapshots += 1
            kept = (ask.request, self._snapshots, ledgers.to_wire(self._take(now)))
            page = 0
        else:
            page = ask.page
        request, snapshot, pages = kept
        if page + 1 < len(pages):
            self._kept.pop(asker, None)
            self._kept[asker] = kept
            while len(self._kept) > ASKERS:
                del self._kept[next(iter(self._kept))]
            self._timers.set(("pages", asker), now + KEPT_FOR, lambda _: self.on_gone(asker))
        self._send(asker, LedgerReply(request, pages[page], page, len(pages), snapshot))

    def on_gone(self, peer: bytes) -> None:
        self._kept.pop(peer, None)
        self._timers.cancel(("pages", peer))
