"""What reads bytes that anybody may have written, each as a function of bytes: it may refuse them, and nothing else.

A target raises when its decoder does anything but accept or refuse. `SAMPLES` are inputs to begin with: one that is
accepted leads a fuzzer further in than chance does.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from zq.cli.lines import BadLine
from zq.cli.lines import parse as parse_line
from zq.core.call import Call
from zq.core.endpoints import at_host_of, in_zones, tellable
from zq.core.inbox import Inbox, SubscriptionInbox
from zq.core.ledger import from_wire, to_wire
from zq.core.port import Kind
from zq.core.replier import RequestInbox
from zq.discovery.host import Entry as HostEntry
from zq.discovery.sighting import sighting
from zq.errors import Refused
from zq.handles.dead import _attempt as attempt_of
from zq.handles.dead import _letter as letter_of
from zq.info import HeldQueue, Ledger
from zq.options import host_and_port
from zq.security.keys import RealmKey
from zq.security.keys import parse as parse_keys
from zq.testing import SimulatedNetwork, SimulatedPeer
from zq.wire import dead, frames, requests
from zq.wire.batch import BatchHeader, Run, decode_batch, decode_topic, encode_batch, encode_topic, topic_prefix
from zq.wire.body import Body, decode_addressed
from zq.wire.data import Malformed, Packed, pack, unpack
from zq.wire.names import Filter, check_filter, check_name
from zq.wire.reader import Reader

Target = Callable[[bytes], None]

TARGETS: dict[str, Target] = {}
SAMPLES: dict[str, list[bytes]] = {}
BODIES = {kind.KIND: kind for kind in Body.__subclasses__()}
ID, OTHER = b"i" * 16, b"o" * 16


def target(*samples: bytes) -> Callable[[Target], Target]:
    def add(function: Target) -> Target:
        TARGETS[function.__name__] = function
        SAMPLES[function.__name__] = list(samples)
        return function

    return add


def split(data: bytes) -> list[bytes]:
    """A frame and its parts: the first byte says how long each but the last is."""
    if not data:
        return [b""]
    size, rest = 4 * data[0] + 1, data[1:]
    return [rest[start : start + size] for start in range(0, len(rest), size)] or [b""]


# --- frames

TOPIC_FRAME = encode_topic(topic_prefix("news"), 0, Run(ID, 1, 2, 0.0), 1, 0.0, [b"\x01", b"\xa1x"])
HEADER = BatchHeader(OTHER, ID, b"l" * 16, 0, 1, 0, 1, 2, 1, 0, 0)
BATCH_FRAME = encode_batch(HEADER, [Run(ID, 1, 2, 0.0)], [b"\x01", b"\xa1x"])
STATE = frames.State(b"l" * 16, 0, 2, [[1, 1, 0]], [[2, 1, 0.5, "why"]], 9, 9, 0, 1, False, 9)
PROBE = frames.Probe(b"l" * 16, 0, 0, "jobs", b"q" * 16, 1, 0, 0, 5, 1)
ENTRY = frames.Entry(
    1, bytes(8), [["a/**", -1.0, 1]], [["news", 2]], [["jobs", 1, 0.5]], [["jobs", b"q" * 16]]
)  # fmt: skip
HELLO = frames.Hello(1, 1, b"simulate", bytes(8), 0, "n", "h", 1, [["tcp://a:1", "tcp://a:2", "tcp://a:3"]])
BINDER = frames.Entry(
    2, bytes(8), [], [], [], [["mail", b"q" * 16]], [["sum", b"r" * 16]], [["mail", b"q" * 16, ["a/**"]]], ["audit"]
)
READER = frames.Entry(
    3, bytes(8), [], [], [], [], [], [], [], [], [], [],
    [["a/**", b"s" * 16, True, [["c", 2, ["a/b"]]]]], [[b"s" * 16, "c", b"q" * 16, ["a/b"], 2, 10.0]],
)  # fmt: skip
HISTORY = (dead.Failure(1, "nacked", "worker", ID, 1.0, "why"), dead.Failure(2, "lost", "worker", ID, 2.0, ""))
LETTER = bytes(dead.wrap(b"\x01", False, "jobs", "2 attempts failed", 3.0, HISTORY))
SAID = [
    body.encode(OTHER, ID)
    for body in (
        *(STATE, PROBE, ENTRY, HELLO, frames.Seen([["news", 1, 1]])),
        *(READER, frames.Recall((1 << 62) + 1, b"s" * 16, ["a/**"])),
        *(BINDER, frames.Binding("mail", b"q" * 16, 1.0), frames.Since("mail", b"q" * 16, 1.0), frames.End(b"l" * 16)),
        *(frames.Inquiry([1, 2]), frames.Missing([1], [2])),
        *(frames.Inquire(1, action, "jobs", ["a"], "", 0) for action in (frames.LIST, frames.RETRY, frames.PURGE)),
        *(frames.Inspect(1, action, "jobs", "c", 1, 10, False) for action in range(6)),
        frames.Findings(1, True, [{"number": 1}], 2, 0, ""),
        frames.Letters(1, 0, [["jobs.dead", 1, ID, 1, 1.0, 1, True, LETTER]], False, ""),
    )
]
REQUEST = requests.encode_request(OTHER, ID, b"r" * 16, number=2, floor=1, patience=1.0, time=1.0, item=b"\x01")
REPLY = requests.encode_reply(OTHER, ID, request=1, number=2, time=1.0, outcome=requests.REPLIED, item=b"\x01")
FAILURE = requests.encode_reply(
    OTHER, ID, request=1, number=2, time=1.0, outcome=requests.FAILED, item=requests.encode_failure("KeyError", "x")
)


@target(b"\xff" + TOPIC_FRAME)
def topic(data: bytes) -> None:
    try:
        batch = decode_topic(split(data))
    except Malformed:
        return
    assert 0 <= batch.live == batch.count


@target(b"\xff" + BATCH_FRAME)
def batch(data: bytes) -> None:
    try:
        header, found = decode_batch(split(data))
    except Malformed:
        return
    assert sum(run.length for run in found.runs) == header.length == found.count
    found.identify(found.count - 1), found.sent_at(0)


@target(*SAID)
def addressed(data: bytes) -> None:
    """Every frame of the mailbox, by its kind."""
    try:
        frame = decode_addressed(data)
        kind = BODIES.get(frame.kind)
        if kind is not None:
            body = kind.decode(frame.body)
            assert kind.decode(memoryview(body.encode(ID, OTHER))[33:]).encode(ID, OTHER) == body.encode(ID, OTHER)
    except (Malformed, Refused):
        return


@target(b"\xff" + REQUEST[0])
def request(data: bytes) -> None:
    try:
        frame = requests.decode_request(split(data))
    except Malformed:
        return
    assert frame.number > 0 <= frame.patience
    frame.identify(0), frame.sent_at(0)


@target(b"\xff" + REPLY[0], b"\xff" + FAILURE[0])
def reply(data: bytes) -> None:
    try:
        frame = requests.decode_reply(split(data))
    except Malformed:
        return
    if frame.outcome != requests.REPLIED:
        frame.failure()


@target(LETTER)
def letter(data: bytes) -> None:
    """A dead letter as a holder tells of it, with what its headers say of its death."""
    found = letter_of(ID, "holder", ["jobs.dead", 1, ID, 1, 1.0, len(data), True, data])
    if found is not None:
        repr(found)


@target(json.dumps([[1, "nacked", "worker", "00" * 16, 1.0, "why"]]).encode(), b'[[Infinity,"","","",1,""]]')
def history(data: bytes) -> None:
    for failure in dead.history_of({dead.HISTORY: data.decode("utf-8", "replace")}):
        assert isinstance(failure.attempt, int)
        attempt_of(failure)


@target(frames.encode_fence(frames.Fence(ID, bytes(8), OTHER, 1.0, [frames.Head("news", 1, 0.0, 1.0, False)])))
def fence(data: bytes) -> None:
    try:
        frames.decode_fence(data)
    except Malformed:
        return


def _packed(data: Any, extra: list[Any] | None = None) -> bytes:
    packed = pack(data, extra)
    return packed.body if isinstance(packed, Packed) else packed


@target(
    b"\x01\xff" + _packed({"a": [1, 2.5, None, "x", b"y"]}), b"\x81\xff" + _packed(1, ["id", None, "k", 1, 1.0, 0.0])
)
def message(data: bytes) -> None:
    count, extended = (data[0] & 0x7F, bool(data[0] & 0x80)) if data else (0, False)
    body, *parts = split(data[1:])
    found = _read(body, count, extended=extended)
    try:
        assert len(unpack(body, count, parts, 0, extended=extended)) == count
    except Malformed:
        assert parts or found < max(count, 1)
    else:
        assert parts or found == count


def _read(body: bytes, count: int, *, extended: bool) -> int:
    """How many messages there are in it for who reads a few at a time."""
    found = 0
    try:
        reader = Reader(body, count, 0, extended=extended)
        while rows := reader.take(2):
            found += len(rows)
    except Malformed:
        pass
    return found


LEDGER = Ledger(peer=ID, name="n", held=(HeldQueue(queue="q", taken=1, waiting=1, in_flight=0, acked=0),))


@target(frames.LedgerReply(1, to_wire(LEDGER)[0], 0, 1, 1).encode(OTHER, ID)[33:])
def ledger(data: bytes) -> None:
    try:
        fields = frames.LedgerReply.unpacked(data)
        found = from_wire([fields[1]]) if len(fields) > 1 and type(fields[1]) is dict else None
    except Malformed:
        return
    if found is not None:
        hash(found.balanced), repr(found)


# --- a whole node


class _Victim:
    """A node that has met another, with something of everything; made once, fed for ever."""

    def __init__(self) -> None:
        self.network = SimulatedNetwork(1)
        self.peer, self.other = self.network.peer("victim"), self.network.peer("other")
        node = self.peer.node
        node.pull("jobs", Inbox(lambda: None), prefetch=64, prefetch_bytes=1 << 20)
        node.subscribe([Filter("**")], SubscriptionInbox("latest", lambda: None), -1.0, self.peer.clock())
        node.publish_topic("news", retain=True, patience=0.0).outgoing.items.append(b"\x01")
        node.push("jobs", window=10, window_bytes=1 << 20, now=self.peer.clock()).outgoing.items.append(b"\x01")
        node.pull("mail", Inbox(lambda: None), prefetch=64, prefetch_bytes=1 << 20, topics=[Filter("a/**")])
        node.reply_to("sum", RequestInbox(lambda: None))
        node.requesting.pile.append(Call("sub", b"\x01", None, lambda: None))
        self.other.node.pull("audit", Inbox(lambda: None), prefetch=1, prefetch_bytes=1 << 20, topics=[Filter("**")])
        self.other.node.reply_to("sub", RequestInbox(lambda: None))
        self.peer.touch(*node.topics, *node.pushing, node.requesting)
        self.other.touch()
        self.network.introduce()
        self.network.run(2.0)

    def feed(self, kind: Kind, parts: list[bytes]) -> None:
        peer: SimulatedPeer = self.peer
        first = parts[0]
        if kind is not Kind.FEED and len(first) >= 33:  # so that it gets further than the first check
            parts[0] = first[:1] + peer.id + (self.other.id if first[17] & 1 else first[17:33]) + first[33:]
        connection = next(iter(peer.node.connections.feeds), None) if kind is Kind.FEED else None
        peer.node.received(kind, parts, peer.clock(), connection)
        self.network.now += 0.01
        peer._turn(peer.clock())
        peer.node.ledger(peer.clock())


_victims: list[_Victim] = []
KINDS = (Kind.MAILBOX, Kind.WORK, Kind.FEED)
LIVES = 2_000  # frames that one victim is fed, so that what it has kept stays little


@target(
    *(b"\0\xff" + said for said in (*SAID, *REQUEST, *REPLY, *FAILURE)),
    *(b"\1\xff" + frame for frame in (BATCH_FRAME, *REQUEST, *REPLY)),
    b"\2\xff" + TOPIC_FRAME,
)
def node(data: bytes) -> None:
    """Whatever comes, a peer goes on."""
    if not data:
        return
    if not _victims or _victims[0].network.random.random() < 1 / LIVES:
        _victims[:] = [_Victim()]
    _victims[0].feed(KINDS[data[0] % 3], split(data[1:]))


# --- what discovery finds, files, arguments

TXT = {b"v": b"1", b"id": b"69" * 16, b"tag": b"0" * 16, b"port": b"20000"}


@target(f"{'69' * 16}._zq._tcp.local.\0".encode() + b"\0".join(b"%s=%s" % pair for pair in TXT.items()))
def mdns(data: bytes) -> None:
    name, *fields = data.split(b"\0")
    pairs = [field.partition(b"=") for field in fields]
    properties = {key: value if equals else None for key, equals, value in pairs}
    try:
        sighting(name.decode("utf-8", "replace"), properties, 20_000, ["10.0.0.1"], loopback=False)
    except ValueError:  # UnicodeDecodeError is one
        return


@target(HostEntry(id=ID, tag="t", endpoints=("ipc:///x",), version=1, name="n").encode())
def host_entry(data: bytes) -> None:
    try:
        entry = HostEntry.decode(data)
    except (ValueError, RecursionError):
        return
    assert HostEntry.decode(entry.encode()) == entry


@target(RealmKey(b"k" * 32).line().encode())
def keys(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    if "passphrase" in text:
        return  # takes a tenth of a second, on purpose
    complaint = ""
    try:
        parse_keys(text)
    except ValueError as error:
        complaint = str(error)
    assert not any(len(line) >= 40 and line in complaint for line in text.splitlines()), "it shows a key file's text"


@target(b"a/b/c", b"**/a/*/**")
def names(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for check in (lambda name: check_name(name, "topic"), check_filter, lambda name: Filter(name).matches("a/b/c")):
        try:
            check(text)
        except Refused:
            continue


@target(b"10.0.0.1:20000", b"tcp://[fe80::1%eth0]:20000")
def endpoints(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    host_and_port(text)
    in_zones([text], ["eth0"]), at_host_of(text, text), tellable([[text] * 3], text)


@target(json.dumps({"a": [1, None]}).encode(), b"007")
def lines(data: bytes) -> None:
    for every_line in (False, True):
        try:
            parse_line(data.decode("utf-8", "replace"), every_line_is_json=every_line)
        except BadLine:
            continue
