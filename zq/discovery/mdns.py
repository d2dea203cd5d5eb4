"""The mDNS rung: announces this peer on the LAN and reports the peers that are heard there.

Theory of operation. One daemon thread runs an asyncio loop with python-zeroconf in it; both are imported in that
thread, because together they take longer than everything else a peer does to start. The thread

- registers the service `<id>._zq._tcp.local.` on the host `<id>.local.`: the id is random, so probing for conflicts is
  left out (1.2 s), and never the host's own name, which belongs to its own responder;
- browses the type with QM questions: answers to QU go to only one of several processes on a host;
- announces again every 10 s, with jitter: mDNS itself notices neither a healed partition nor a lost announcement.

A record makes its reader dial, and nothing else. Anyone on the LAN can forge one, so it carries no name, no key and
no topic; and a record that is withdrawn or runs out never removes a peer, for a goodbye can be forged as well, and
the record of a crashed peer stays for 75 minutes. Whether a peer lives, only its connections tell.

What is looked at, and when, `hearsay` says: who forges records without end may not keep the interpreter from the
engine. It is longer than most modules, since nothing else may import zeroconf.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from zq.discovery.hearsay import AGAIN, Hearsay
from zq.discovery.interfaces import is_loopback
from zq.discovery.sighting import INSTANCE, SERVICE, TAG_BYTES, Sighting, proven_text, sighting
from zq.logs import Logger

if TYPE_CHECKING:
    import asyncio

    from zeroconf import RecordUpdate, RecordUpdateListener, ServiceInfo, Zeroconf

REPEAT = 10.0  # s between announcements; 18 kB in 40 s on a LAN of 30 peers
EARLY = (1.2, 2.4, 4.8)  # s after the start at which it is announced too: on a bad network the first may all be lost
JITTER = 0.2  # of REPEAT, either way: peers that start together do not stay together
FIRST_QUESTION = 0.13  # s; the browser asks 20 to 120 ms after its start, RFC 6762 section 5.2
HANGS = 3  # REPEATs without a turn of the loop after which the thread is given up
RESOLVE = 3_000  # ms to ask for what an announcement left out
RESOLVING = 64  # names asked about at once at most; a flood of forged ones ends here

logger = Logger(__name__)


class Mdns:
    """Announces one peer and reports others, from `start` to `close`.

    `addresses` are the local addresses to use, as `interface_addresses` gives them; if any is not loopback, loopback
    is not announced. `found` is called in the thread for every record of another peer each time it is heard, those of
    other realms included; what it says False to is forgotten at once. `proof` writes what shows others that we have
    the realm's key. `asked` is called there once, when the first question has been sent or cannot be.
    What goes wrong is logged, and tried again after `repeat` seconds; `error` says what it is at the moment.
    """

    def __init__(
        self,
        *,
        id: bytes,
        tag: str,
        port: int,
        version: int,
        addresses: Sequence[str],
        found: Callable[[Sighting], object],
        asked: Callable[[], None] | None = None,
        proof: Callable[[str], str] | None = None,
        repeat: float = REPEAT,
    ) -> None:
        if not 1 <= len(tag) <= TAG_BYTES:
            raise ValueError(f"a realm tag of {len(tag)} characters")
        self.error: str | None = None
        self.malformed = 0  # records under our type that made no sense
        self._id = id
        self._port = port
        self._use(addresses)
        self._text = {"v": str(version), "id": id.hex(), "tag": tag, "port": str(port)}
        if proof is not None:
            self._text["proof"] = proof(proven_text(id, tag, version, port))
        self._found = found
        self._asked = asked
        self._repeat = repeat
        self._lock = threading.Lock()  # guards the next two, and what is announced
        self._closing = False
        self._woken: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._alive_at = time.monotonic()  # when the loop was last seen to turn
        self._hearsay = Hearsay()
        self._resolving: dict[str, asyncio.Task[None]] = {}
        self._thread = threading.Thread(target=self._run, name=f"zq-mdns-{id.hex()[:8]}", daemon=True)

    def _use(self, addresses: Sequence[str]) -> None:
        self._loopback = all(map(is_loopback, addresses))  # then nothing of the LAN concerns us
        self.announced = tuple(address for address in addresses if is_loopback(address) == self._loopback)

    def start(self) -> None:
        self._alive_at = time.monotonic()
        self._thread.start()

    def restart(self, addresses: Sequence[str]) -> None:
        """Begins anew on these addresses: sockets, announcement, question. Returns at once."""
        with self._lock:
            self._use(addresses)
            self._wake()

    def is_alive(self) -> bool:
        """Whether the thread is there and turns; if not, it will never again."""
        return self._thread.is_alive() and time.monotonic() - self._alive_at < HANGS * self._repeat

    def close(self, timeout: float = 1.0) -> None:
        """Says goodbye and ends the thread, which takes a few milliseconds; waits for `timeout` seconds at most."""
        with self._lock:
            self._closing = True
            self._wake()
        if self._thread.ident is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                logger.warning("the mDNS thread did not end within %s s", timeout)

    def _wake(self) -> None:
        if self._woken is not None:
            loop, woken = self._woken
            try:
                loop.call_soon_threadsafe(woken.set)
            except RuntimeError:
                logger.debug("closed before: the loop has ended")

    def _run(self) -> None:
        import asyncio  # here, in the thread: see the theory of operation

        try:
            asyncio.run(self._live())
        except Exception as error:
            self._fail(error)
            logger.exception("the mDNS thread ends")

    async def _live(self) -> None:
        import asyncio

        woken = asyncio.Event()
        with self._lock:
            self._woken = (asyncio.get_running_loop(), woken)
        while True:
            with self._lock:
                woken.clear()  # within: whoever wakes us from here on is heard
                if self._closing:
                    return
                addresses = self.announced
            try:
                if addresses:
                    await self._serve(addresses, woken)
                else:
                    await self._is_woken(woken)  # every address has gone; a new one comes with `restart`
            except Exception as error:  # noqa: BLE001 - whatever it is, this rung is tried again
                self._fail(error)
                await self._is_woken(woken)

    async def _is_woken(self, woken: asyncio.Event, pause: float | None = None) -> bool:
        """Waits for the time between two announcements, or less: True when we are to end or to begin anew."""
        import asyncio

        self._alive_at = time.monotonic()
        pause = self._repeat if pause is None else min(pause, self._repeat)
        try:
            await asyncio.wait_for(woken.wait(), pause * random.uniform(1 - JITTER, 1 + JITTER))
        except TimeoutError:
            return False
        return True

    async def _serve(self, announced: Sequence[str], woken: asyncio.Event) -> None:
        import asyncio

        from zeroconf import DNSQuestionType
        from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

        # Linux has no multicast on ::1; its address is announced all the same.
        interfaces = [address for address in announced if address != "::1"] or announced
        responder = AsyncZeroconf(interfaces=list(interfaces))
        zeroconf = responder.zeroconf
        try:
            await zeroconf.async_wait_for_start()
            instance, host = f"{self._id.hex()}.{SERVICE}", f"{self._id.hex()}.local."
            addresses = [address.partition("%")[0] for address in announced]  # a scope means something here alone
            info = AsyncServiceInfo(
                SERVICE, instance, port=self._port, properties=self._text, server=host, parsed_addresses=addresses
            )
            zeroconf.async_add_listener(self._listener(zeroconf), None)
            announcing = asyncio.ensure_future(
                await responder.async_register_service(info, cooperating_responders=True)
            )
            # The listener hears every record, unchanged ones too; the browser is there for its questions.
            browser = AsyncServiceBrowser(
                zeroconf, SERVICE, handlers=[lambda **_: None], question_type=DNSQuestionType.QM
            )
            asking = asyncio.get_running_loop().call_later(FIRST_QUESTION, self._have_asked)
            self.error = None
            pauses = iter([later - sooner for sooner, later in pairwise((0.0, *EARLY))])
            while not await self._is_woken(woken, next(pauses, None)):
                zeroconf.async_send(zeroconf.generate_service_broadcast(info, None))
            asking.cancel()
            announcing.cancel()
            await browser.async_cancel()
        finally:
            for task in self._resolving.values():
                task.cancel()
            # One goodbye, not three in 250 ms: nobody counts on it.
            if self._closing and (goodbye := zeroconf.generate_unregister_all_services()) is not None:
                zeroconf.async_send(goodbye)
            await responder.async_close()

    def _listener(self, zeroconf: Zeroconf) -> RecordUpdateListener:
        from zeroconf import RecordUpdateListener

        listen, look = self._listen, self._look

        class Listener(RecordUpdateListener):
            def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
                listen(now, records)

            def async_update_records_complete(self) -> None:
                look(zeroconf)

        return Listener()

    def _listen(self, now: float, records: list[RecordUpdate]) -> None:
        """Notes which of our type's names a packet speaks of; what it says is in the cache only afterwards."""
        for update in records:
            record = update.new
            name = getattr(record, "alias", record.name)  # a PTR record of the type names the service
            spoken_of = name.endswith(SERVICE) and name != SERVICE and not record.is_expired(now)  # a goodbye: not so
            self._hearsay.note(record.key, name if spoken_of else None)

    def _look(self, zeroconf: Zeroconf) -> None:
        """At the names noted, but for those that were looked at just now."""
        import asyncio

        loop = asyncio.get_running_loop()
        self._hearsay.tidy(zeroconf.cache)
        names, come_back = self._hearsay.names(loop.time())
        if come_back:
            loop.call_later(AGAIN, self._look_again, zeroconf)
        self._look_at(zeroconf, names)

    def _look_again(self, zeroconf: Zeroconf) -> None:
        import asyncio

        self._look_at(zeroconf, self._hearsay.put_off(asyncio.get_running_loop().time()))

    def _look_at(self, zeroconf: Zeroconf, names: set[str]) -> None:
        """Reports them, at once if the cache knows all about them, else after asking."""
        import asyncio

        from zeroconf.asyncio import AsyncServiceInfo

        for name in names - self._resolving.keys():
            if (match := INSTANCE.fullmatch(name)) is None:
                self._complain(name, "no name of a peer")
                continue
            if match[1] == self._id.hex():
                continue
            info = AsyncServiceInfo(SERVICE, name)
            if info.load_from_cache(zeroconf):
                self._report(zeroconf, info)
            elif len(self._resolving) < RESOLVING:
                self._resolving[name] = asyncio.ensure_future(self._resolve(zeroconf, info))

    async def _resolve(self, zeroconf: Zeroconf, info: ServiceInfo) -> None:
        from zeroconf import DNSQuestionType

        try:
            if await info.async_request(zeroconf, RESOLVE, DNSQuestionType.QM):
                self._report(zeroconf, info)
        except Exception:
            logger.exception("asking about %s failed", info.name)
        finally:
            del self._resolving[info.name]

    def _report(self, zeroconf: Zeroconf, info: ServiceInfo) -> None:
        from zeroconf import IPVersion

        try:
            addresses = info.parsed_scoped_addresses(IPVersion.All)
            seen = sighting(info.name, info.properties, info.port, addresses, loopback=self._loopback)
        except ValueError as error:
            self._complain(info.name, str(error))
            return
        try:
            if seen is not None and self._found(seen) is False:
                self._forget(zeroconf, info.name)
        except Exception:
            logger.exception("the report of a sighting failed")

    @staticmethod
    def _forget(zeroconf: Zeroconf, name: str) -> None:
        """What comes and goes in thousands makes the interpreter look for garbage, in which everybody waits."""
        cache = zeroconf.cache
        for owner in (name, name.replace(SERVICE, "local.")):
            cache.async_remove_records(list(cache.async_entries_with_name(owner)))
        pointers = cache.async_entries_with_name(SERVICE)
        cache.async_remove_records([each for each in pointers if getattr(each, "alias", "") == name])

    def _complain(self, name: str, why: str) -> None:
        self.malformed += 1
        log = logger.debug if self.malformed > 1 else logger.warning  # anyone can send them, without end
        log("a record of %.80r makes no sense: %s", name, why)

    def _have_asked(self) -> None:
        asked, self._asked = self._asked, None
        try:
            if asked is not None:
                asked()
        except Exception:
            logger.exception("the report of the first question failed")

    def _fail(self, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        if reason != self.error:
            logger.warning("mDNS on %s does not work: %s", ", ".join(self.announced), reason)
        self.error = reason
        self._have_asked()
