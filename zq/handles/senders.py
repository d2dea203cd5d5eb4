"""The publishers and pushers of a peer: handles of one name are views of one stream."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from zq.core.spooled import Spooled
from zq.core.subscription import patience_on_wire
from zq.engine.engine import Engine
from zq.errors import Error, Refused
from zq.handles.deposits import Deposits
from zq.handles.life import SYNC, Life, hear_everyone
from zq.handles.opening import Opening
from zq.handles.outgoing import _SHUT, PublisherCore, PusherCore, Sender, Stream
from zq.handles.steps import Steps, deadline_after, finish, waiting
from zq.wire.batch import ATTEMPT_MOST
from zq.wire.names import check_name, check_not_dead, check_queue


class Senders(Life):
    """Opens and closes them."""

    def _stream(
        self, table: dict[str, Stream], name: str, options: Mapping[str, Any], make: Callable[[], Stream]
    ) -> Stream:
        """The stream of that name with one view more."""
        with self._lock:
            stream = table.get(name)
            if stream is None:
                stream = table[name] = make()
            elif differing := {key: value for key, value in options.items() if stream.options[key] != value}:
                has = {key: stream.options[key] for key in differing}
                raise Refused(f"{name} is open with {has}, not {differing}; all handles of one name share one stream")
            stream.views += 1  # within: the last of the others may be closing just now
            return stream

    def _view(self, table: dict[str, Stream], name: str) -> Stream | None:
        """The stream of that name with one view more, whatever its options; None if there is none."""
        with self._lock:
            stream = table.get(name)
            if stream is not None:
                stream.views += 1
            return stream

    def _topic_stream(self, topic: str, *, retain: bool, patience: float | None) -> Stream:
        check_not_dead(check_name(topic, "topic"), "topic")
        if patience is not None and not (isinstance(patience, int | float) and patience >= 0):
            raise Refused(f"patience is seconds >= 0, or None for ever; not {patience!r}")
        engine = self._running()
        options = {"retain": bool(retain), "patience": patience}
        waits = patience_on_wire(patience)

        def make() -> Stream:
            core = engine.call(lambda: engine.node.publish_topic(topic, retain=retain, patience=waits))
            return Stream(engine, core, options)

        return self._stream(self._topics, topic, options, make)

    @staticmethod
    def _queue_options(
        queue: str, window: int, window_bytes: int, max_attempts: int, outbox: Path | str | None
    ) -> dict[str, Any]:
        check_queue(queue)
        if not isinstance(max_attempts, int) or not 1 <= max_attempts <= ATTEMPT_MOST:
            raise Refused(
                f"max_attempts is a whole number from 1 to {ATTEMPT_MOST:,}, not {max_attempts!r}; 1 delivers once, "
                "and gives up when that fails"
            )
        for what, value in (("window", window), ("window_bytes", window_bytes)):
            if not isinstance(value, int) or value < 1:
                raise Refused(f"{what} is a whole number >= 1, not {value!r}")
        if outbox is not None and not isinstance(outbox, str | os.PathLike):
            raise Refused(f"outbox is a directory, not {outbox!r:.80}")
        directory = None if outbox is None else Path(outbox).absolute()
        return {"window": window, "window_bytes": window_bytes, "max_attempts": max_attempts, "outbox": directory}

    def _queue_stream(self, queue: str, options: Mapping[str, Any]) -> Stream:
        engine = self._running()
        node = engine.node
        given = {name: value for name, value in options.items() if name != "outbox"}

        def make() -> Stream:
            core = engine.call(lambda: node.push(queue, **given, now=node.now))
            return Stream(engine, core, options)

        return self._stream(self._queues, queue, options, make)

    def _opened_stream(self, queue: str, options: Mapping[str, Any]) -> Stream | None:
        """None if there is none of that name. Refused if its options are others."""

        def none() -> Stream:
            raise LookupError

        with contextlib.suppress(LookupError):
            return self._stream(self._queues, queue, options, none)
        if waiting.simulated:
            raise Error("an outbox is on a real disk; a simulated network has none")
        return None

    def _outbox_stream(self, engine: Engine, queue: str, options: Mapping[str, Any]) -> Stream:
        """Waits for the disk, with no lock held that somebody needs who opens nothing."""
        from zq.handles.outbox import OutboxDirectory  # with all that writes to a disk: few programs need it

        directory: Path = options["outbox"]
        with self._disks:
            stream = self._opened_stream(queue, options)
            if stream is not None:
                return stream
            with self._lock:
                box = self._outboxes.get(directory)
                if box is not None:
                    box.users += 1  # already: who closes it now leaves it open
            if box is None:
                box = OutboxDirectory(engine, directory)
                with self._lock:
                    box.users += 1
                    self._outboxes[directory] = box
            try:
                spooled = box.queue(queue, options["max_attempts"])
                return self._stream(
                    self._queues, queue, options, lambda: self._deposit(engine, spooled, directory, options)
                )
            except BaseException:
                self._leave_box(directory)
                self._close_boxes(engine)
                raise

    @staticmethod
    def _deposit(engine: Engine, spooled: Spooled, directory: Path, options: Mapping[str, Any]) -> Stream:
        assert spooled.intake is not None
        stream = Stream(engine, spooled.intake, options)
        stream.deposits = Deposits(stream, spooled, directory)
        return stream

    def _leave_box(self, directory: Path) -> None:
        """One queue of it less; without any it is to be closed."""
        with self._lock:
            box = self._outboxes.get(directory)
            if box is not None:
                box.users -= 1
                if not box.users:
                    self._ending.append(self._outboxes.pop(directory))

    def _close_boxes(self, engine: Engine) -> None:
        """Those that nobody pushes to; all of them if the peer is closed, which has closed those that it had."""
        with self._lock:
            boxes, self._ending = self._ending, []
            if engine.closed:
                boxes += self._outboxes.values()
                self._outboxes = {}
        for box in boxes:
            finish(box._close_steps(SYNC))

    def _outbox_later(self, queue: str, options: Mapping[str, Any]) -> Stream | Opening[Stream]:
        """Begins to open it in a thread, if it is not open; closing the peer gives it up."""
        engine = self._running()

        def undo(stream: Stream) -> None:
            finish(self._close_sender_steps(PusherCore(stream, queue), SYNC))
            self._close_boxes(engine)

        stream = self._opened_stream(queue, options)
        if stream is not None:
            return stream
        what = f"the outbox {options['outbox']}"
        opening = Opening(engine, what, lambda: self._outbox_stream(engine, queue, options), undo)
        with self._lock:
            self._openings = [*[other for other in self._openings if not other.over], opening]
        return opening

    def _close_sender_steps(self, sender: Sender, timeout: float | None) -> Steps[None]:
        """The last view of a stream waits until all that was sent is confirmed; then the stream is withdrawn."""
        deadline = deadline_after(timeout)
        engine = sender._engine
        if sender.closed:
            return
        opening = sender._opening
        if opening is not None and (opening.give_up() or opening.failed):
            sender._outgoing = _SHUT
            return
        sender._adopt()
        if engine.closed or engine.forked or engine.failed:
            sender._outgoing = _SHUT
            return
        done = self._close_view(sender, None)
        try:
            while not done:
                left = sender._stream.left
                if isinstance(sender, PublisherCore):
                    yield from hear_everyone(engine, deadline)
                remaining = None if deadline is None else max(deadline - waiting.now(), 0.0)
                if isinstance(sender, PublisherCore):
                    yield from sender._flush_steps(remaining)
                elif isinstance(sender, PusherCore):
                    yield from sender._leave_steps(remaining)
                done = self._close_view(sender, left)
        finally:
            if not done:
                self._close_view(sender, sender._stream.left)
            with self._lock:
                boxes, self._ending = self._ending, []
            for box in boxes:
                yield from box._close_steps(None if deadline is None else max(deadline - time.monotonic(), SYNC))

    def _close_view(self, sender: Sender, left: int | None) -> bool:
        """Closes it, unless it is the last view and somebody has to wait first for what this stream has sent.

        `left` is what the stream's was when all was last confirmed: views that have closed since did not wait.
        """
        stream = sender._stream
        with self._lock:
            if sender.closed:
                return True
            last = stream.views == 1
            if last and stream.left != left:
                return False
            sender._outgoing = _SHUT
            stream.views -= 1
            stream.left += 1
            if last and not stream.engine.closed:
                self._withdraw(sender, stream)
            return True

    def _withdraw(self, sender: Sender, stream: Stream) -> None:
        engine = stream.engine
        table = self._topics if isinstance(sender, PublisherCore) else self._queues
        if table.get(sender.name) is stream:
            del table[sender.name]
            stream.release()
            if isinstance(sender, PublisherCore):
                engine.call(lambda: engine.node.unpublish_topic(sender._core))
            elif stream.deposits is not None:
                self._leave_box(stream.deposits.directory)
            elif isinstance(sender, PusherCore):
                engine.call(lambda: engine.node.unpush(sender._box, engine.node.now))

    def _shortcut(self, kind: type[Sender], name: str, make: Callable[[], Any]) -> Any:
        """The handle behind `publish` and `push`; it lives as long as the peer."""
        sender = self._shortcuts.get((kind, name))
        if sender is None or sender.closed:
            with self._lock:
                sender = self._shortcuts.get((kind, name))
                if sender is None or sender.closed:  # no other thread was faster
                    sender = self._shortcuts[kind, name] = make()
        return sender
