"""Judges a run from outside: what programs sent, received and settled, and nothing of how zq does it.

Each message carries the number of its stream (one program that pushes to a queue, or publishes a topic), its own
number in it from 1, and a digest of both, so that one that was invented, altered or mixed up is noticed at once.
What can only be judged at the end is judged by `verdict`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b

from zq.core.outbox import MAX_ATTEMPTS
from zq.info import EventKind, Gap
from zq.wire.plan import Plan

NOTHING = Plan()  # asked for
ITEM = struct.Struct(">2sIQ8s")  # stream, number, digest, as a bin of msgpack: a ring splits what it has joined
BIN = bytes((0xC4, ITEM.size - 2))


class Violation(AssertionError):
    """A promise that was broken."""


def check(holds: object, what: str) -> None:
    if not holds:
        raise Violation(what)


def stamp(stream: int, number: int) -> bytes:
    return ITEM.pack(BIN, stream, number, blake2b(b"%d/%d" % (stream, number), digest_size=8).digest())


def identity(item: bytes) -> tuple[int, int]:
    check(len(item) == ITEM.size, f"not a message: {item.hex()}")
    _, stream, number, _ = ITEM.unpack(item)
    check(item == stamp(stream, number), f"a message that nobody sent: {item.hex()}")
    return stream, number


@dataclass(eq=False)
class Job:
    """One message of a queue."""

    deliveries: list[tuple[float, object]] = field(default_factory=list)  # when, to which peer
    first: bool = False  # a delivery that claimed to be the first
    acked: int = 0
    rejected: int = 0
    nacked: int = 0  # by open pullers
    returned: int = 0
    dead: bool = False  # seen among the dead letters
    loose: bool = False  # its attempts cannot be told from here: it was held for longer than allowed, or tried anew
    owed_by: Worker | None = None  # who took it, and is to deliver it again as nobody else can
    charged_unseen: int = 0  # attempts that only a hand-out nobody saw can explain
    plan: Plan = NOTHING
    sent_at: float = 0.0
    holder: Worker | None = None  # who was given it last and has not settled it

    @property
    def done(self) -> bool:
        return self.acked > 0 or self.dead


@dataclass(eq=False)
class Work:
    """One program that pushes to a queue."""

    peer: object
    queue: str
    max_attempts: int
    poison: int = 0  # the job that kills whoever takes it; 0 for none
    jobs: list[Job] = field(default_factory=list)
    by_key: dict[str, list[tuple[int, Job]]] = field(default_factory=dict)  # with their numbers
    alive: bool = True


@dataclass(eq=False)
class Worker:
    """One puller handle."""

    peer: object
    queue: str
    matches: Callable[[str], bool] | None = None  # topics that it binds its queue to
    id: bytes = b""
    since: float = 0.0
    hurried: bool = False  # it may hold messages for a time only
    held: int = 0
    closed: bool = False
    newest: dict[tuple[int, int], int] = field(default_factory=dict)  # stream and lane: last first delivery


@dataclass(eq=False)
class News:
    """One program that publishes a topic."""

    peer: object
    topic: str
    times: list[float] = field(default_factory=list)  # when each message was published
    alive: bool = True
    flushed: set[object] = field(default_factory=set)  # peers that everything had arrived at when it left
    shares: dict[str, Share] = field(default_factory=dict)  # by queue that is bound to it


@dataclass(eq=False)
class Share(Work):
    """What one queue is owed of one program's topic."""

    since: float = math.inf  # what was published later


@dataclass(eq=False)
class Place:
    """Where a subscription stands in one stream."""

    last: int | None = None
    skipped: int = 0  # numbers passed over
    ended: bool = False  # by a Gap of unknown length


@dataclass(eq=False)
class Reader:
    """One subscriber handle."""

    peer: object
    matches: Callable[[str], bool]
    policy: str
    since: float
    places: dict[int, Place] = field(default_factory=dict)
    taken: int = 0
    gaps: int = 0  # messages in Gaps of known length
    closed: bool = False


class Oracle:
    """Raises Violation as soon as something is wrong. Peers are whatever the world takes them for."""

    def __init__(self, now: Callable[[], float], *, small_rings: bool) -> None:
        self._now = now
        self._small_rings = small_rings
        self.streams: list[Work | News] = []
        self.disturbed = False  # there was a fault: what is sent again after it is not judged again
        self.workers: list[Worker] = []
        self.readers: list[Reader] = []
        self._seen: dict[tuple[object, object], str] = {}  # observer, peer: state by the events
        self._left: dict[tuple[object, object], list[float]] = {}  # observer, peer: when it was declared gone
        self._departures: dict[object, int] = {}  # observer: pullers lost with peers declared gone
        self._known: dict[tuple[object, Worker], bool] = {}  # publishing peer, puller that binds: has it answered

    # --- peers

    def peer_event(self, observer: object, kind: EventKind, peer: object, pullers: int) -> None:
        """`pullers` is how many handles of `peer` pull; a charge without a hand-out can hit one message of each."""
        state = self._seen.get((observer, peer), "away")
        where = f"{observer} sees {peer} {kind}, which is {state}"
        check((state == "away") == (kind == "joined"), where)
        if kind == "left":
            self._left.setdefault((observer, peer), []).append(self._now())
            self._departures[observer] = self._departures.get(observer, 0) + pullers
        self._seen[observer, peer] = {"joined": "up", "suspect": "suspect", "left": "away", "changed": "up"}[kind]

    def _departed(self, observer: object, peer: object, since: float = 0.0) -> bool:
        return any(when >= since for when in self._left.get((observer, peer), ()))

    def _disturbed(self, stream: Work, worker: object) -> bool:
        return self._departed(stream.peer, worker) or self._departed(worker, stream.peer)

    def died(self, peer: object) -> None:
        for stream in (*self.streams, *self._shares()):
            stream.alive &= stream.peer is not peer
        for handle in (*self.readers, *self.workers):
            handle.closed |= handle.peer is peer

    # --- queues

    def pushed(self, stream: int, plan: Plan) -> int:
        work = self.streams[stream]
        assert isinstance(work, Work)
        work.jobs.append(Job(plan=plan, sent_at=self._now()))
        if plan.key is not None:
            work.by_key.setdefault(plan.key, []).append((len(work.jobs), work.jobs[-1]))
        return len(work.jobs)

    def job(self, item: bytes, queue: str) -> tuple[int, int, Work, Job]:
        stream, number = identity(item)
        work = self.streams[stream]
        if isinstance(work, News):
            check(number <= len(work.times), f"message {stream}/{number} was never published")
            binds = [each for each in self.workers if each.queue == queue and each.matches]
            what = f"message {stream}/{number} of {work.topic}, which nobody binds {queue} to"
            check(any(each.matches and each.matches(work.topic) for each in binds), what)
            share = self._share(work, queue)
            return stream, number, share, share.jobs[number - 1]
        check(isinstance(work, Work) and number <= len(work.jobs), f"job {stream}/{number} was never sent")
        assert isinstance(work, Work)
        return stream, number, work, work.jobs[number - 1]

    def worked(
        self, worker: Worker, item: bytes, attempt: int, redelivered: bool, topic: str | None, ttl: float | None
    ) -> None:
        """`ttl` is what remained of it when it left its holder."""
        stream, number, work, job = self.job(item, worker.queue)
        sent = self.streams[stream]
        check(topic == (sent.topic if isinstance(sent, News) else None), f"job {stream}/{number} comes as of {topic}")
        what = f"job {stream}/{number} at {worker.peer}, attempt {attempt}"
        check(work.queue == worker.queue, f"{what}, is of queue {work.queue}, not {worker.queue}")
        if not redelivered:
            check(not job.first, f"{what}, claims to be the first delivery, which was before")
            check(attempt == 1, f"{what}, claims to be the first delivery")
            if job.plan.key is None and not job.plan.delay:
                order = stream, job.plan.lane
                check(number > worker.newest.get(order, 0), f"{what}, comes behind {worker.newest.get(order)}")
                worker.newest[order] = number
            job.first = True
        elif not job.deliveries and not isinstance(work, Share):  # two that bind may come in either order
            gave_back = any(other.closed or other.hurried for other in self.workers)
            check(self._left or gave_back, f"{what}, was never delivered before")
        check(attempt <= self._limits(work)[1], f"{what}, of {work.max_attempts}")
        job.loose |= worker.hurried
        self._check_attempt(what, work, job, worker, attempt)
        self._check_plan(what, work, number, job, ttl)
        job.holder = worker
        job.deliveries.append((self._now(), worker.peer))
        job.owed_by = None
        worker.held += 1

    def _check_plan(self, what: str, work: Work, number: int, job: Job, ttl: float | None) -> None:
        """That it was its time, and its turn among those of its key."""
        plan = job.plan
        check(self._now() >= job.sent_at + plan.delay - 1e-6, f"{what}, comes before its delay is over")
        tried_anew = job.loose and ttl is None  # whose times do not begin again
        check(tried_anew or (ttl is None) == (plan.ttl is None), f"{what}, has a ttl of {ttl}, not of {plan.ttl}")
        if ttl is not None and plan.ttl is not None:
            check(ttl <= plan.ttl - plan.delay + 1e-6, f"{what}, has a ttl of {ttl} left of {plan.ttl}")
            check(ttl > 0 or self.disturbed, f"{what}, had expired when it was sent")
        if plan.key is None or any(work.peer in pair for pair in self._left):
            return  # who has lost each other can have the same message twice
        for other_number, other in work.by_key[plan.key]:
            if other is job:
                continue
            name = f"{what}, of the same key as {other_number}"
            held = other.holder is not None and not (other.holder.closed or other.holder.hurried)
            check(not held, f"{name}, which is at work")
            if other_number < number and not other.plan.delay and other.plan.ttl is None and not plan.delay:
                over = other.done or other.rejected or other.loose or other.nacked >= self._limits(work)[0]
                check(over, f"{name}, which was before it and is not done")

    def _check_attempt(self, what: str, work: Work, job: Job, worker: Worker, attempt: int) -> None:
        if job.loose:
            check(attempt <= 1 + len(job.deliveries) + self._departures.get(work.peer, 0), what)
            return
        peers = {peer for _, peer in job.deliveries} | {worker.peer}
        if not any(self._disturbed(work, peer) for peer in peers) and not self._departures.get(work.peer):
            check(attempt == 1 + job.nacked, f"{what}, was nacked {job.nacked} times and no puller was lost")
            return
        charged = sum(self._departed(work.peer, peer, when) for when, peer in job.deliveries)
        unseen = attempt - 1 - job.nacked - charged
        if unseen > job.charged_unseen:
            job.charged_unseen = unseen
            total = sum(job.charged_unseen for job in work.jobs)
            lanes = len({job.plan.lane for job in work.jobs})  # of each the lowest is charged
            lost = lanes * self._departures.get(work.peer, 0)
            check(
                total <= lost,
                f"{what}, was nacked {job.nacked} times, and {charged} of its pullers were lost; "
                f"{total} attempts of this queue were charged for nothing, {lost} pullers were lost",
            )

    def _limits(self, work: Work) -> tuple[int, int]:
        """After how many attempts its jobs may be dead. What a peer pushes to a queue that is bound to its topics
        shares an outbox with what it publishes, which has the pusher's number as long as there is one."""
        together = [
            other
            for other in (*self.streams, *self._shares())
            if isinstance(other, Work) and other.peer is work.peer and other.queue == work.queue
        ]
        if not any(isinstance(other, Share) for other in together):
            return work.max_attempts, work.max_attempts
        numbers = [other.max_attempts for other in together]
        return min(numbers), max(numbers)

    def settled(self, worker: Worker, item: bytes, how: str, attempt: int) -> None:
        _, _, work, job = self.job(item, worker.queue)
        worker.held -= 1
        if job.holder is worker:
            job.holder = None
        again = how == "returned" or (how == "nacked" and attempt < self._limits(work)[0])
        away = self._seen.get((worker.peer, work.peer)) == "away"
        if again and away and not (worker.closed or worker.hurried):
            job.owed_by = worker
        if how == "acked":
            job.acked += 1
        elif how == "rejected":
            job.rejected += 1
        elif worker.closed or how == "returned":
            job.returned += 1
        else:
            job.nacked += 1

    def buried(self, item: bytes, queue: str, outcomes: list[str]) -> None:
        """It is among the dead letters, having failed like this."""
        stream, number, work, job = self.job(item, queue)
        what = f"job {stream}/{number} is dead of {outcomes}"
        least, most = self._limits(work)
        check(job.rejected or least <= len(outcomes) <= most, f"{what}, with {least} to {most} attempts")
        check(outcomes.count("rejected") <= 1, what)
        check(job.loose or outcomes.count("nacked") <= job.nacked, f"{what}, was nacked {job.nacked} times")
        job.dead = True

    def tried_again(self, item: bytes, queue: str) -> None:
        """Somebody has asked for another round for this dead letter; perhaps he was not heard."""
        _, _, _, job = self.job(item, queue)
        job.dead, job.loose = False, True

    # --- bound queues

    def _shares(self) -> Iterator[Share]:
        for stream in self.streams:
            if isinstance(stream, News):
                yield from stream.shares.values()

    def _share(self, news: News, queue: str) -> Share:
        share = news.shares.setdefault(queue, Share(news.peer, queue, MAX_ATTEMPTS, alive=news.alive))
        share.jobs += [Job() for _ in range(len(news.times) - len(share.jobs))]
        return share

    def known_at(self, publisher: object, worker: Worker, now: float, *, answered: bool) -> None:
        """The publisher knows that the puller binds its queue, and perhaps since when."""
        if self._known.get((publisher, worker)) in (answered, True):
            return
        self._known[publisher, worker] = answered
        since = worker.since if answered and not self._small_rings else now
        for news in self.streams:
            if isinstance(news, News) and news.peer is publisher:
                self._owe(news, worker, since)

    def publishes(self, news: News) -> None:
        """A program begins; pullers that its peer knows bind this topic too."""
        for publisher, worker in self._known:
            if publisher is news.peer:
                self._owe(news, worker, self._now() - 1e-9)

    def _owe(self, news: News, worker: Worker, since: float) -> None:
        if worker.matches and worker.matches(news.topic):
            share = self._share(news, worker.queue)
            share.since = min(share.since, since)

    def _unworked(self, index: int, news: News) -> list[str]:
        missing: list[str] = []
        for queue in news.shares:
            share = self._share(news, queue)
            left = [number for number, job in enumerate(share.jobs, 1) if not job.done]
            if share.alive:
                left = [number for number in left if news.times[number - 1] > share.since]
            else:
                left = [number for number in left if (by := share.jobs[number - 1].owed_by) and not by.closed]
            if left:
                missing.append(f"messages {index}/{left[:10]} ({len(left)}) of {news.peer} are not done by {queue}")
        return missing

    def leaves(self, peer: object) -> None:
        """In good order: nobody may be owed anything."""
        for index, news in enumerate(self.streams):
            if isinstance(news, News) and news.peer is peer and news.alive:
                missing = self._unworked(index, news)
                check(not missing, f"{peer} has left, but {missing}")

    # --- topics

    def published(self, stream: int) -> int:
        news = self.streams[stream]
        assert isinstance(news, News)
        news.times.append(self._now())
        return len(news.times)

    def read(self, reader: Reader, item: bytes, topic: str | None, sender: object) -> None:
        stream, number = identity(item)
        news = self.streams[stream]
        what = f"message {stream}/{number} at {reader.peer}"
        check(isinstance(news, News) and number <= len(news.times), f"{what} was never published")
        assert isinstance(news, News)
        check(news.topic == topic and news.peer is sender, f"{what} comes as of {topic} from {sender}")
        check(reader.matches(news.topic), f"{what} was not subscribed")
        place = reader.places.setdefault(stream, Place())
        self._advance(reader, place, news, number, number, what)
        reader.taken += 1

    def _advance(self, reader: Reader, place: Place, news: News, first: int, last: int, what: str) -> None:
        if place.last is None:
            before = [number for number in range(1, first) if news.times[number - 1] > reader.since]
            if reader.policy == "wait":
                check(not before, f"{what} is the first, but {before} were published after it was subscribed")
            place.skipped += len(before)
        else:
            check(first > place.last, f"{what} comes behind {place.last}")
            if reader.policy == "wait":
                check(first == place.last + 1, f"{what} comes right after {place.last}")
            place.skipped += first - place.last - 1
        place.last, place.ended = last, False

    def gap(self, reader: Reader, gap: Gap, sender: object) -> None:
        stream = next(
            index
            for index, stream in enumerate(self.streams)
            if isinstance(stream, News) and stream.peer is sender and stream.topic == gap.topic
        )
        news = self.streams[stream]
        assert isinstance(news, News)
        what = f"gap {gap.first} to {gap.last} of {stream} at {reader.peer}"
        place = reader.places.setdefault(stream, Place())
        lost = self._departed(reader.peer, sender)
        if gap.last is None:
            check(lost, f"{what}: the publisher was not lost")
            at = gap.first - 1
            check(place.last in (None, at) or reader.policy != "wait", f"{what}: {place.last} came last")
            place.ended = True
            return
        check(gap.first <= gap.last <= len(news.times), f"{what}, of {len(news.times)}")
        check(self._small_rings or lost, f"{what}: the ring had them")
        if reader.policy == "wait" or place.last is None:
            self._advance(reader, place, news, gap.first, gap.last, what)
        else:  # what was dropped around it is told by the counters only
            check(gap.first > place.last, f"{what} comes behind {place.last}")
            place.skipped += gap.first - place.last - 1
            place.last, place.ended = gap.last, False
        reader.gaps += gap.last - gap.first + 1

    # --- the end

    def check_expired(self, works: list[Work], expired: int) -> None:
        """What their outbox says has expired, now that everything is over."""
        mortal = [job for work in works for job in work.jobs if job.plan.ttl is not None]
        undone = sum(not job.done for job in mortal)
        what = f"{expired} of {works[0].peer} have expired by the ledger, {undone} of {len(mortal)} mortal ones are not"
        check(undone <= expired <= len(mortal), what)

    def incomplete(self) -> list[str]:
        """What living programs still have to get; the same is a violation when the time is up."""
        missing: list[str] = []
        for index, stream in enumerate(self.streams):
            if isinstance(stream, Work):
                left = [number for number, job in enumerate(stream.jobs, 1) if not job.done]
                if stream.alive:
                    left = [number for number in left if stream.jobs[number - 1].plan.ttl is None]
                else:
                    left = [number for number in left if (by := stream.jobs[number - 1].owed_by) and not by.closed]
                if left:
                    missing.append(f"jobs {index}/{left[:10]} ({len(left)}) of {stream.peer} are not done")
            else:
                missing.extend(self._unread(index, stream))
                missing.extend(self._unworked(index, stream))
        return missing

    def _unread(self, index: int, news: News) -> list[str]:
        missing: list[str] = []
        for reader in self.readers:
            if reader.policy == "drop-oldest" or not self._owed(reader, news):
                continue  # what it dropped is told by its counters only
            place = reader.places.get(index, Place())
            behind = f"{reader.peer} has {place.last} of {len(news.times)} of {index}"
            if news.alive:
                if place.last != len(news.times):
                    missing.append(behind)
            elif (
                place.last != len(news.times)
                and not place.ended
                and (place.last is not None or self._met(reader, news))
            ):
                missing.append(f"{behind}, whose publisher is gone")
        return missing

    @staticmethod
    def _met(reader: Reader, news: News) -> bool:
        return reader.peer in news.flushed

    @staticmethod
    def _owed(reader: Reader, news: News) -> int:
        """How many of the messages the reader is to have, or a word about them."""
        if reader.closed or not reader.matches(news.topic):
            return 0
        return sum(time > reader.since for time in news.times)

    def _tail(self, reader: Reader) -> int:
        """Messages of living publishers behind the last one it has seen."""
        tail = 0
        for index, news in enumerate(self.streams):
            if isinstance(news, News) and news.alive and (owed := self._owed(reader, news)):
                last = reader.places.get(index, Place()).last
                tail += owed if last is None else len(news.times) - last
        return tail

    def check_subscriptions(self, peer: object, delivered: int, dropped: int, gap: int) -> None:
        """What the ledger of `peer` says of all its subscriptions."""
        readers = [reader for reader in self.readers if reader.peer is peer and not reader.closed]
        taken, gaps = sum(reader.taken for reader in readers), sum(reader.gaps for reader in readers)
        skipped = sum(place.skipped for reader in readers for place in reader.places.values())
        skipped += sum(map(self._tail, readers))
        what = f"{peer} by its ledger: {delivered} delivered, {dropped} dropped, {gap} in gaps"
        check((delivered, gap) == (taken, gaps), f"{what}; programs took {taken} and saw {gaps} in gaps")
        check(dropped >= skipped, f"{what}; programs missed {skipped}")
        check(dropped == 0 or any(reader.policy != "wait" for reader in readers), f"{what}; all of them wait")
