"""Which part of a peer a frame is for.

A frame has come by feed, work or mailbox, or round this peer's own loop. One that makes no sense, or is for somebody
else or of somebody we have not met, is counted and reported once a sender; none raises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from zq.core.announced import subscriptions
from zq.core.liveness import Life
from zq.core.port import Kind
from zq.core.seeds import ANYBODY
from zq.errors import Refused
from zq.wire import frames
from zq.wire.batch import BATCH, TOPIC, BatchHeader, Parts, decode_batch, decode_topic
from zq.wire.body import ID_BYTES, NONCE_BYTES, Addressed, decode_addressed
from zq.wire.data import Malformed
from zq.wire.limits import SUBSCRIPTIONS
from zq.wire.requests import REPLY, REQUEST, Single, decode_reply, decode_request

if TYPE_CHECKING:
    from zq.core.machines import Machines

REPORTED_SENDERS = 256  # senders of refused frames that are logged; more are only counted


class Reading:
    """Hands each frame to the part it is for."""

    def __init__(self, machines: Machines, on_trouble: Callable[[str], None]) -> None:
        self._machines = machines
        self._on_trouble = on_trouble
        self._reported: set[bytes] = set()
        self.refused = 0  # frames, since the peer was opened

    def received(self, kind: Kind, parts: Parts, now: float, connection: int | None = None) -> bool:
        """A frame from the socket of `kind`; of the feed, on `connection`. Whether it made sense, and was for us."""
        refused = self.refused
        remote = self._machines.connections.feeds.get(connection or 0) if kind is Kind.FEED else None
        try:
            if kind is Kind.FEED:
                if remote is not None:
                    self._on_feed(remote.id, parts, now)
            elif kind is Kind.WORK:
                self._on_work(parts, now)
            else:
                self._on_mailbox(parts, now)
        except (Malformed, Refused) as error:
            self._refuse(bytes(parts[0][17:33]) if remote is None else remote.id, str(error))
        return self.refused == refused

    def fenced(self, frame: bytes, now: float) -> None:
        """A subscription as the publishing socket got it: 0 or 1, then the prefix."""
        machines = self._machines
        if frame[1:2] != frames.FENCE or len(frame) != 2 + ID_BYTES + NONCE_BYTES:
            return
        if frame[0]:
            machines.topics.on_fence(frame[2:18], frame[18:], now)
        else:
            machines.topics.on_fence_lifted(frame[2:18], frame[18:])

    def drain_loop(self, now: float) -> None:
        """What this peer has sent itself. The one receiver of a batch must not see the sender's flags change."""
        machines = self._machines
        while machines.connections.loop:
            kind, parts = machines.connections.loop.popleft()
            if kind is Kind.FEED:
                self._on_feed(machines.card.id, parts, now)
            elif kind is Kind.WORK:
                self._on_work(parts, now)
            else:
                self._on_mailbox(parts, now)

    def _refuse(self, sender: bytes, why: str) -> None:
        self.refused += 1
        if sender not in self._reported and len(self._reported) < REPORTED_SENDERS:
            self._reported.add(sender)
            self._on_trouble(f"refused a frame of {sender.hex()[:8]}: {why[:200]!r}; more of them are only counted")

    def _known(self, frame: Addressed | BatchHeader | Single) -> bool:
        """Whether it is for us and from somebody we have met."""
        machines = self._machines
        if frame.addressee == machines.card.id:
            if frame.sender == machines.card.id:
                return True
            remote = machines.meeting.roster.get(frame.sender)
            if remote is not None and remote.state is Life.FOUND:
                # Early: it may have met us before we have met it. What counts is said again.
                return isinstance(frame, Addressed) and frame.kind in (frames.WELCOME, frames.GOODBYE)
            if remote is not None:
                return True
            if machines.meeting.roster.has_been(frame.sender):
                return False  # late
        self._refuse(frame.sender, "not for this peer, or of nobody we have met")
        return False

    def _on_feed(self, publisher: bytes, parts: Parts, now: float) -> None:
        machines = self._machines
        kind = parts[0][:1]
        if kind == TOPIC:
            machines.receptions.on_batch(publisher, decode_topic(parts), now)
        elif kind == frames.FENCE:
            fence = frames.decode_fence(parts[0])
            if fence.subscriber == machines.card.id and fence.publisher == publisher:
                machines.receptions.on_fence(publisher, fence.nonce, fence.clock, fence.heads, now)
        else:
            raise Malformed(f"a feed frame of unknown kind {bytes(kind)!r}")

    def _on_work(self, parts: Parts, now: float) -> None:
        machines = self._machines
        if bytes(parts[0][:1]) == BATCH:
            header, batch = decode_batch(parts)
            if self._known(header) and not machines.pulling.on_batch(header, batch, now):
                self._refuse(header.sender, "a batch that we gave no credit for")
            return
        if bytes(parts[0][:1]) in (REQUEST, REPLY):
            self._on_single(parts, now)
            return
        frame = decode_addressed(parts[0])
        if not self._known(frame):
            return
        if frame.kind == frames.REFILL:
            if len(frame.body) != 8 or len(parts) < 2:
                raise Malformed("a refill without its frame")
            batch, number = decode_topic(parts[1:]), int.from_bytes(frame.body, "big")
            if number > frames.RECALLS:
                machines.recalling.on_value(frame.sender, number, batch, now)
            else:
                machines.receptions.on_refill(frame.sender, number, batch, now)
        elif frame.kind == frames.REFILLED:
            end = frames.Refilled.decode(frame.body)
            if end.request > frames.RECALLS:
                machines.recalling.on_answered(frame.sender, end.request, now)
            else:
                machines.receptions.on_refilled(frame.sender, end, now)
        else:
            raise Malformed(f"a work frame of unknown kind {frame.kind!r}")

    def _on_mailbox(self, parts: Parts, now: float) -> None:
        machines = self._machines
        frame = decode_addressed(parts[0])
        sender, body = frame.sender, frame.body
        if frame.kind == frames.HELLO:
            hello = frames.Hello.decode(body)
            if sender == machines.card.id:
                machines.seeds.on_own_hello(hello, now)
            else:
                machines.meeting.on_hello(sender, frame.addressee, hello, now)
                if frame.addressee == ANYBODY:
                    machines.gossip.on_seeker(sender)
            return
        if not self._known(frame):
            return
        if frame.kind in (REQUEST, REPLY):
            self._on_single(parts, now)
        elif frame.kind == frames.WELCOME:
            welcome = frames.Welcome.decode(body)
            machines.seeds.on_welcome(sender, welcome, now)
            machines.meeting.on_welcome(sender, welcome, now)
        elif frame.kind == frames.STATE:
            state = frames.State.decode(body)
            holder = next((holder for holder in machines.holders if holder.has(state.link)), machines.pushing)
            holder.on_state(sender, state, now)
            machines.announcement.count_later(now)
            if machines.topics.blocked:
                machines.topics.unblock()
        elif frame.kind == frames.PROBE:
            machines.pulling.on_probe(sender, frames.Probe.decode(body), now)
        elif frame.kind == frames.SEEN:
            machines.topics.on_seen(sender, frames.Seen.decode(body))
            machines.announcement.count_later(now)
        elif frame.kind == frames.REPAIR:
            repair = frames.Repair.decode(body)
            answers = machines.topics.refill(sender, repair)
            for answer in answers:
                if not machines.connections.send_work(sender, answer):
                    break  # it asks again
            machines.hearing.on_repair(sender, repair, sum(len(part) for answer in answers for part in answer), now)
        elif frame.kind == frames.RECALL:
            machines.streams.on_recall(sender, frames.Recall.decode(body))
        elif frame.kind == frames.ENTRY:
            if machines.announcement.dirty:
                machines.announcement.publish(now)  # first: see `ask_for_entries`
            entry = frames.Entry.decode(body)
            if subscriptions(entry) > SUBSCRIPTIONS:
                machines.meeting.cut_off(sender, f"subscribes to more than {SUBSCRIPTIONS:,} filters", now)
            else:
                machines.meeting.entries.on_entry(sender, entry, now)
        elif frame.kind == frames.NOTED:
            machines.meeting.entries.on_noted(sender, frames.Noted.decode(body))
        elif frame.kind == frames.PEERS:
            machines.gossip.on_peers(sender, frames.Peers.decode(body), now)
        elif frame.kind == frames.BINDING:
            question = frames.Binding.decode(body)
            since_ours = machines.rebinding.on_binding(question, now)
            if since_ours is None:
                machines.pulling.on_binding(sender, question, now)
            else:
                machines.connections.send(sender, since_ours)
        elif frame.kind == frames.SINCE:
            since = frames.Since.decode(body)
            machines.bindings.on_since(sender, since, now)
            machines.streams.on_since(sender, since, now)
        elif frame.kind == frames.END:
            machines.pulling.on_end(sender, frames.End.decode(body).link)
        elif frame.kind == frames.INQUIRY:
            machines.replying.on_inquiry(sender, frames.Inquiry.decode(body))
        elif frame.kind == frames.MISSING:
            machines.requesting.on_missing(sender, frames.Missing.decode(body), now)
        elif frame.kind == frames.GOODBYE:
            machines.receptions.on_last_heads(sender, frames.Goodbye.decode(body).heads)
            machines.meeting.on_goodbye(sender, now)
        elif frame.kind == frames.ASK:
            machines.questions.on_ask(sender, frames.Ask.decode(body), now)
        elif frame.kind == frames.LEDGER:
            machines.questions.on_reply(sender, frames.LedgerReply.decode(body))
        elif frame.kind == frames.INQUIRE:
            machines.answers.on_inquire(sender, frames.Inquire.decode(body), now)
            machines.announcement.count_later(now)
        elif frame.kind == frames.INSPECT:
            machines.inspected.on_inspect(sender, frames.Inspect.decode(body))
        elif frame.kind == frames.FINDINGS:
            machines.inspections.on_findings(sender, frames.Findings.decode(body))
        elif frame.kind == frames.LETTERS:
            machines.inquiries.on_letters(sender, frames.Letters.decode(body), now)
        else:
            raise Malformed(f"a mailbox frame of unknown kind {frame.kind!r}")

    def _on_single(self, parts: Parts, now: float) -> None:
        """A request or a reply, by mailbox or work."""
        machines = self._machines
        if bytes(parts[0][:1]) == REQUEST:
            request = decode_request(parts)
            if self._known(request):
                machines.replying.on_request(request.sender, request, now)
        else:
            reply = decode_reply(parts)
            if self._known(reply):
                machines.requesting.on_reply(reply.sender, reply, now)
