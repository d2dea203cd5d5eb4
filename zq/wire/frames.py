"""The frames of zq/1 but for batches: meeting, roster, topics, links, ledger, fences.

docs/protocol.md has their fields with byte pictures, and wins over this module. Later versions append fields, and
only append.

Long, since it is a table: a class a frame, with the check of each field.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgpack

from zq.wire.batch import ATTEMPT_MOST, Buffer
from zq.wire.body import (
    ID_BYTES,
    NONCE_BYTES,
    SOME,
    Body,
    address,
    bytes_of,
    is_bytes,
    is_filter,
    is_flag,
    is_id,
    is_map,
    is_name,
    is_nonce,
    is_number,
    is_seconds,
    is_text,
    list_of,
    unpack_array,
)
from zq.wire.data import Malformed
from zq.wire.limits import MAILBOX_FRAME

VERSION = 1  # the only protocol version there is

HELLO, WELCOME, GOODBYE = b"H", b"w", b"G"
ENTRY, NOTED, PEERS = b"E", b"N", b"p"
SEEN, REPAIR = b"S", b"R"
PROBE, STATE, END = b"P", b"s", b"e"
ASK, LEDGER = b"A", b"L"
BINDING, SINCE = b"b", b"d"
INQUIRE, LETTERS = b"I", b"i"
INSPECT, FINDINGS = b"V", b"v"
INQUIRY, MISSING = b"y", b"m"
REFILL, REFILLED, FENCE = b"F", b"f", b"\xff"
RECALL = b"c"
RECALLS = 1 << 62  # numbers of recalls are above it, those of repairs below

ACKED, NACKED, REJECTED, RETURNED, STORED = range(5)  # outcomes of a settled number; STORED is a receipt of a spool


_ENDPOINTS = list_of(is_text, is_text, is_text)  # mailbox, feed and work, one row an address

# What each kind may be made of: what the senders of zq fill at most, and room. Those that are not told of here have no
# lists but their own.
CARD_BYTES, CARD_CONTAINERS = 128 << 10, 512  # hello and welcome: `endpoints.ROWS` rows
ROWS = 1 << 15  # containers of an entry, or of findings: what 13,000 topics and as many queues take, and half more


class Hello(Body):
    KIND = HELLO
    BYTES, CONTAINERS = CARD_BYTES, CARD_CONTAINERS
    CHECKS = (is_number, is_number, bytes_of(8), is_nonce, is_number, is_text, is_text, is_number, _ENDPOINTS)
    lowest: int  # protocol versions spoken; this field and the next stay first in every version
    highest: int
    tag: bytes  # realm and mode
    nonce: bytes  # unique to this connection
    session: int  # how often the sender has declared the addressee gone
    name: str
    host: str
    pid: int
    endpoints: list[list[str]]

    @classmethod
    def decode(cls, body: Buffer) -> Hello:
        """Of a version that this one does not know only the first two fields are read."""
        fields = cls.unpacked(body)
        if len(fields) >= 2 and is_number(fields[0]) and is_number(fields[1]) and not fields[0] <= VERSION <= fields[1]:
            return cls(fields[0], fields[1], b"", b"", 0, "", "", 0, [])
        return cls(*cls.checked(fields))


class Welcome(Body):
    KIND = WELCOME
    BYTES, CONTAINERS = CARD_BYTES, CARD_CONTAINERS
    CHECKS = (is_nonce, is_number, is_text, is_text, is_number, _ENDPOINTS)
    nonce: bytes  # the one of the Hello
    session: int
    name: str
    host: str
    pid: int
    endpoints: list[list[str]]


class Goodbye(Body):
    """The sender ends in good order. `heads` are those of topics of which it has not heard that all has arrived."""

    KIND = GOODBYE
    BYTES, CONTAINERS = MAILBOX_FRAME, 2_048
    CHECKS = (list_of(is_text, is_number),)
    heads: list[list[Any]]  # topic, number of its last message


INHERIT_PATIENCE, NO_PATIENCE = -1.0, -2.0  # a filter's patience: the publisher's own; not a waiting subscription


class Entry(Body):
    """A peer's roster entry. The highest version wins."""

    KIND = ENTRY
    BYTES, CONTAINERS = MAILBOX_FRAME, ROWS
    CHECKS = (
        is_number,
        is_nonce,
        list_of(is_filter, is_seconds, is_number),
        list_of(is_name, is_number),
        list_of(is_name, is_number, is_seconds),
        list_of(is_name, is_id),
        list_of(is_name, is_id),
        list_of(is_name, is_id, list_of(is_filter)),
        list_of(is_name),
        list_of(is_number, is_name, is_id, is_id, is_number, is_number),
        list_of(is_number, is_name, is_text, is_number),
        list_of(is_name, is_id, is_id, is_number),
        list_of(is_filter, is_id, is_flag, list_of(is_text, is_number, list_of(is_filter))),
        list_of(is_id, is_text, is_id, list_of(is_filter), is_number, is_seconds),
    )
    version: int
    fence: bytes  # nonce of the fence that closes the filters below
    filters: list[list[Any]]  # filter, patience in seconds (infinite: inf; see INHERIT_PATIENCE), subscription number
    topics: list[list[Any]]  # topic, messages published
    pushes: list[list[Any]]  # queue, messages held, seconds the oldest has been held
    pulls: list[list[Any]]  # queue, puller id
    replies: list[list[Any]] = []  # service, replier id  # noqa: RUF012 - nobody changes a frame
    binds: list[list[Any]] = []  # queue, puller id, filters of topics whose messages it is to have  # noqa: RUF012
    unbinds: list[str] = []  # queues that need not be bound any more, unless somebody else binds them  # noqa: RUF012
    lags: list[list[Any]] = []  # 0 topic or 1 queue, name, consumer, puller id or zeros, messages behind, pace  # noqa: RUF012
    drops: list[list[Any]] = []  # 0 topic or 1 queue, its name, reason, messages  # noqa: RUF012
    spools: list[list[Any]] = []  # queue, id of the puller that stores it, stream, 1 if it takes no more  # noqa: RUF012
    streams: list[list[Any]] = []  # filter, its stream, stored now; cursors: name, lag, filters of readers  # noqa: RUF012
    cursors: list[list[Any]] = []  # stream, cursor, puller id, filters; where it begins: kind, value  # noqa: RUF012


class Noted(Body):
    KIND = NOTED
    CHECKS = (is_number,)
    version: int


class Peers(Body):
    """Of whom the sender is connected to now; says nothing about whom it omits."""

    KIND = PEERS
    BYTES, CONTAINERS = 256 << 10, 1_024
    CHECKS = (list_of(is_id, list_of(is_text)),)
    peers: list[list[Any]]  # id, endpoints of its mailbox


class Seen(Body):
    KIND = SEEN
    BYTES, CONTAINERS = 256 << 10, 512
    CHECKS = (list_of(is_text, is_number, is_number),)
    topics: list[list[Any]]  # topic, all up to here arrived, all up to here taken by the program


class Repair(Body):
    """Send again what the ring has of `topic`: numbers first..last, or (first = 0) all since `clock`."""

    KIND = REPAIR
    CHECKS = (is_number, is_text, is_number, is_number, is_seconds)
    request: int
    topic: str
    first: int
    last: int
    clock: float


class Recall(Body):
    """What is retained in `stream` of topics that these filters select? Answered with refills, then Refilled."""

    KIND = RECALL
    BYTES, CONTAINERS = MAILBOX_FRAME, SOME
    CHECKS = (is_number, is_id, list_of(is_filter))
    request: int
    stream: bytes
    filters: list[str]


class Refilled(Body):
    """The end of an answer to Repair, on the same connection as its frames."""

    KIND = REFILLED
    CHECKS = (is_number, is_text, is_number, is_number, is_number)
    request: int
    topic: str
    start: int  # what `first` turned out to be
    oldest: int  # nothing below this number is left in the ring
    last: int  # all from oldest (or start) to here was sent


class Probe(Body):
    """The pusher's side of a link, cumulative: opens it, asks for its state, says what it would send."""

    KIND = PROBE
    CHECKS = (is_id, is_number, is_number, is_text, is_id, *[is_number] * 6)
    link: bytes
    lane: int
    session: int
    queue: str
    puller: bytes
    floor: int  # all below is known to be settled
    sent: int  # highest number sent
    returned: int  # credit given back, messages
    wanted: int  # messages waiting beyond those sent
    first_bytes: int  # size of the first of them
    max_attempts: int = ATTEMPT_MOST  # for a puller that has to deliver again itself, its pusher being gone


class State(Body):
    """The puller's side of a link, cumulative; says nothing about what it omits."""

    KIND = STATE
    BYTES, CONTAINERS = MAILBOX_FRAME, 2_048
    CHECKS = (
        is_id,
        is_number,
        is_number,
        list_of(is_number, is_number, is_number),
        list_of(is_number, is_number, is_seconds, is_text),
        is_number,
        is_number,
        is_number,
        is_number,
        is_flag,
        is_number,
    )
    link: bytes
    lane: int
    expected: int  # the next number; all below has arrived
    settled: list[list[int]]  # first, last, outcome ACKED, RETURNED or STORED
    refused: list[list[Any]]  # number, outcome NACKED or REJECTED, delay in seconds, reason
    limit: int  # messages that may be sent and returned in all
    limit_bytes: int  # bytes that may be sent in all
    keep: int  # unused credit that need not be returned
    handed: int  # highest number handed to the program
    closed: bool  # the puller is closing: nothing more will be taken
    heard: int  # sent + returned, by the newest probe or batch that has come


class End(Body):
    """The pusher has ended the link and forgotten it; so may the puller."""

    KIND = END
    CHECKS = (is_id,)
    link: bytes


class Binding(Body):
    """The publisher asks when a puller that binds its queue to topics came into being, and says what its clock is."""

    KIND = BINDING
    CHECKS = (is_text, is_id, is_seconds)
    queue: str
    puller: bytes
    clock: float


class Since(Body):
    """The answer: what was published at `clock` (the publisher's own) or later is for the queue."""

    KIND = SINCE
    CHECKS = (is_text, is_id, is_seconds)
    queue: str
    puller: bytes
    clock: float


class Inquiry(Body):
    """Which of these requests of the sender are not with the addressee any more?"""

    KIND = INQUIRY
    CHECKS = (list_of(is_number),)
    requests: list[int]


class Missing(Body):
    """Requests of the addressee that the sender does not hold."""

    KIND = MISSING
    BYTES, CONTAINERS = 256 << 10, 4_096  # or rather items: 20,000 numbers
    CHECKS = (list_of(is_number), list_of(is_number))
    unseen: list[int]  # have not come
    answered: list[int]  # were answered, and the answer is not on a work connection that still stands


class Ask(Body):
    KIND = ASK
    CHECKS = (is_number, is_number)
    request: int
    page: int  # of the ledger; 0 asks for a new one


class LedgerReply(Body):
    KIND = LEDGER
    BYTES, CONTAINERS = 256 << 10, 1 << 14
    CHECKS = (is_number, is_map, is_number, is_number, is_number)
    request: int
    ledger: dict[str, Any]  # one page of it
    page: int
    pages: int
    snapshot: int  # pages of one belong together


LIST, RETRY, PURGE = range(3)  # what an Inquire asks for


class Inquire(Body):
    """Asks for dead letters, or to do something with them."""

    KIND = INQUIRE
    BYTES, CONTAINERS = MAILBOX_FRAME, SOME
    CHECKS = (is_number, is_number, is_text, list_of(is_text), is_text, is_number)
    request: int
    action: int  # LIST, RETRY or PURGE
    queue: str  # whose dead letters; empty: of every queue, which only LIST may ask for
    ids: list[str]  # of the messages; none: of all
    after_queue: str  # LIST: from where on; with LIST again and again the whole list comes in pieces
    after: int


class Letters(Body):
    """The answer: a piece of the list, or how many were retried or purged."""

    KIND = LETTERS
    BYTES, CONTAINERS = MAILBOX_FRAME, 256
    CHECKS = (
        is_number,
        is_number,
        list_of(is_text, is_number, is_id, is_number, is_seconds, is_number, is_flag, is_bytes),
        is_flag,
        is_text,
    )
    request: int
    count: int  # messages retried or purged
    letters: list[list[Any]]  # queue of the dead, position, origin, origin number, time sent, bytes, complete, message
    more: bool  # the list goes on behind the last of these
    problem: str  # why it was not done; empty if it was


STREAMS, CURSORS, MESSAGES, VERIFY, EMPTY, FORGET = range(6)  # what an Inspect asks for


class Inspect(Body):
    """Asks the spools of a peer what they have on disk, or to purge a queue or forget a cursor."""

    KIND = INSPECT
    CHECKS = (is_number, is_number, is_text, is_text, is_number, is_number, is_flag, is_number)
    request: int
    action: int  # STREAMS, CURSORS, MESSAGES, VERIFY, EMPTY (purge) or FORGET
    stream: str  # a queue or the filter of a topic stream; empty for STREAMS, CURSORS, VERIFY: all
    cursor: str  # FORGET: which
    first: int  # MESSAGES: from this number on
    most: int  # MESSAGES: at most so many
    settled: bool  # MESSAGES: also those that nobody is to have any more
    page: int = 1  # of the answer; when it has been looked at, the others can be asked for


class Findings(Body):
    """A page of the answer, or how far it is."""

    KIND = FINDINGS
    BYTES, CONTAINERS = MAILBOX_FRAME, ROWS
    CHECKS = (is_number, is_flag, list_of(is_map), is_number, is_number, is_text, is_number, is_number)
    request: int
    done: bool
    rows: list[dict[str, Any]]
    next: int  # MESSAGES: the number to go on with, 0 for the end; before it is done: bytes to be read
    count: int  # messages purged, bytes read
    problem: str  # why it was not done; empty if it was
    page: int = 1
    pages: int = 1  # how many there are


def refill_frame(addressee: bytes, sender: bytes, request: int) -> bytes:
    """Stands before the parts of the topic frame that is sent again."""
    return address(REFILL, addressee, sender) + request.to_bytes(8, "big")


# --- fences


def fence_prefix(subscriber: bytes, nonce: bytes) -> bytes:
    return FENCE + subscriber + nonce


class Head(NamedTuple):
    """Where a topic stands at its publisher; clocks are the publisher's own, seconds."""

    topic: str
    number: int
    first_clock: float
    last_clock: float
    retained: bool


_HEADS = list_of(is_text, is_number, is_seconds, is_seconds, is_flag)
_HEAD_BYTES = 20  # that a head takes at least: two times of 9, and more


class Fence(NamedTuple):
    """A publisher's answer to a subscriber's fence. It says who answers: another process may have taken the port."""

    subscriber: bytes
    nonce: bytes
    publisher: bytes
    clock: float  # the publisher's own, seconds
    heads: list[Head]  # of all topics that match the subscriber's filters


def encode_fence(fence: Fence) -> bytes:
    fields = [fence.publisher, fence.clock, fence.heads]
    return fence_prefix(fence.subscriber, fence.nonce) + bytes(msgpack.packb(fields))


def decode_fence(frame: Buffer) -> Fence:
    start = 1 + ID_BYTES + NONCE_BYTES
    if len(frame) < start:
        raise Malformed("a fence is cut short")
    body = memoryview(frame)[start:]
    fields = unpack_array(body, "fence", len(body), SOME + len(body) // _HEAD_BYTES)
    if len(fields) < 3 or not (is_id(fields[0]) and is_seconds(fields[1]) and _HEADS(fields[2])):
        raise Malformed("a fence has a field of the wrong kind or too few")
    publisher, clock, heads = fields[:3]
    return Fence(bytes(frame[1:17]), bytes(frame[17:start]), publisher, float(clock), [Head(*row) for row in heads])
