"""Retained values in a topic stream: the last of each topic, told to peers that come when its publisher has gone.

Of each topic the number of its retained message is known; the message is read when a peer asks (`on_recall`), one after
the other. A publisher may clear what it retained: a value that is stored is read then, since only it says whose it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zq.core.heads import Key
from zq.core.spooled import Item
from zq.core.stream import TopicStream
from zq.wire.batch import EXTRA, PARTS, RETAIN, Parts, Run, encode_topic, topic_prefix
from zq.wire.data import Malformed
from zq.wire.frames import Recall, Refilled, refill_frame
from zq.wire.kept import Kept, KeptGap, decode
from zq.wire.names import Filter


class Retaining:
    """What is retained in all streams of this peer."""

    def __init__(
        self, send_work: Callable[[bytes, Parts], bool], own: bytes, save: Callable[[TopicStream], None]
    ) -> None:
        """`save` writes down what is retained."""
        self._send_work = send_work
        self._own = own
        self._save = save

    @staticmethod
    def note(stream: TopicStream, kept: Kept | KeptGap) -> None:
        """It has just become safe."""
        if not isinstance(kept, Kept):
            return
        key = kept.run.origin, kept.topic
        if kept.flags & RETAIN and not stream.heads.is_cleared(key, kept.last):
            stream.retained[kept.topic] = stream.stretch.safe
        if kept.topic not in stream.retained:
            stream.heads.settle_clear(key)

    @staticmethod
    def clear(stream: TopicStream, key: Key, number: int) -> None:
        """Its publisher says that nothing up to that number is. What somebody else has published since is."""
        if not stream.heads.clear(key, number):
            return
        if key[1] in stream.retained:
            stream.recalls.setdefault(stream.retained[key[1]], []).append((b"", number, []))
            stream.disk.read(stream.id, "", stream.retained[key[1]])
        else:
            stream.heads.settle_clear(key)

    def on_recall(self, stream: TopicStream | None, peer: bytes, recall: Recall) -> None:
        """A peer asks for what is retained; it is read, one after the other, and sent."""
        filters = [Filter(text) for text in recall.filters]
        retained = {} if stream is None else stream.retained
        numbers = [
            number
            for topic, number in retained.items()
            if stream is not None and number >= stream.stretch.first and any(f.matches(topic) for f in filters)
        ]
        self._recall_next(stream, peer, recall.request, numbers)

    def _recall_next(self, stream: TopicStream | None, peer: bytes, request: int, numbers: list[int]) -> None:
        if stream is None or not numbers:
            self._send_work(peer, (Refilled(request, "", 0, 0, 0).encode(peer, self._own),))
            return
        stream.recalls.setdefault(numbers[0], []).append((peer, request, numbers[1:]))
        stream.disk.read(stream.id, "", numbers[0])

    def on_read(self, stream: TopicStream, number: int, items: Sequence[Item]) -> None:
        kept = self._kept_at(number, items)
        if kept is not None and stream.retained.get(kept.topic) == number:
            key = kept.run.origin, kept.topic
            if stream.heads.is_cleared(key, kept.last):
                del stream.retained[kept.topic]
                stream.heads.settle_clear(key)
                self._save(stream)
                kept = None
        else:
            kept = None  # there is a newer one, or it cannot be read
        for peer, request, others in stream.recalls.pop(number, ()):
            if not peer:
                continue  # it was only looked at
            if kept is not None:
                run = Run(kept.run.origin, kept.run.first + kept.length - 1, 1, kept.run.time)
                flags = kept.flags & (PARTS | EXTRA)
                frame = encode_topic(topic_prefix(kept.topic), flags, run, kept.last, 0.0, kept.items()[-1:])
                self._send_work(peer, (refill_frame(peer, self._own, request), frame, *kept.parts))
            self._recall_next(stream, peer, request, others)

    @staticmethod
    def _kept_at(number: int, items: Sequence[Item]) -> Kept | None:
        """The batch that ends with that message, if it is the first of these and can be read."""
        for item in items[:1]:
            if item.body is None or item.last != number:
                return None
            try:
                kept = decode(item.body, item.last - item.first + 1, item.flags, item.runs)
                if isinstance(kept, Kept):
                    kept.items()
                    return kept
            except Malformed:
                return None
        return None
