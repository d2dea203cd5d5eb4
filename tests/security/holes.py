"""Holes planted into zq, each of which the trial of the doors or a test has to find; see `tests.planting`.

python -m tests.security.holes        plants one after another and says who finds it
python -m tests.security.holes NAME   plants one and runs the test that is to find it
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import zmq

from tests.planting import Garden

garden = Garden("tests.security.holes", tests="tests/security")
hole = garden.fault


# --- found by the trial of the doors: with such a hole no peer starts


def leave_open(*kinds: int) -> None:
    from zq.security.lock import Lock

    shut = Lock.shut
    Lock.shut = lambda self, socket: None if socket.get(zmq.TYPE) in kinds else shut(self, socket)  # type: ignore[method-assign]


def forget(*options: int) -> None:
    """An option is not set on the doors."""
    from zq.security.lock import Lock

    shut = Lock.shut

    class Forgetful:
        def __init__(self, socket: Any) -> None:
            self._socket = socket

        def set(self, option: int, value: Any) -> None:
            if option not in options:
                self._socket.set(option, value)

    Lock.shut = lambda self, socket: shut(self, Forgetful(socket))  # type: ignore[method-assign,arg-type]


@hole("test_doors.py::test_who_has_the_key_gets_in")
def no_curve_on_the_feed() -> None:
    leave_open(zmq.XPUB)


@hole("test_doors.py::test_who_has_the_key_gets_in")
def no_domain() -> None:
    forget(zmq.ZAP_DOMAIN)


@hole("test_doors.py::test_who_has_the_key_gets_in")
def domain_not_enforced() -> None:
    forget(zmq.ZAP_ENFORCE_DOMAIN)


@hole("test_doors.py::test_who_has_the_key_gets_in")
def every_key_is_let_in() -> None:
    from zq.security.lock import Lock

    Lock.admits = lambda self, public: True  # type: ignore[method-assign]


# --- found by tests


def skip_the_trial() -> None:
    import zq.security.trial

    zq.security.trial.stand_trial = lambda doors, lock, zap: None


@hole("test_trial.py::test_a_check_that_lets_in_every_key_is_found")
def no_trial() -> None:
    skip_the_trial()


@hole("test_doors.py::test_a_peer_that_is_alone_lets_nobody_in[no key]")
def no_trial_and_no_curve_on_the_mailbox_and_work() -> None:
    skip_the_trial()
    leave_open(zmq.PULL)


@hole("test_doors.py::test_a_peer_that_is_alone_lets_nobody_in[no key]")
def no_trial_and_no_curve_on_the_feed() -> None:
    skip_the_trial()
    leave_open(zmq.XPUB)


@hole("test_doors.py::test_random_keys_do_not_fit")
def no_trial_and_every_key_is_let_in() -> None:
    skip_the_trial()
    every_key_is_let_in()


@hole("test_trial.py::test_every_door_on_every_address_is_tried")
def the_trial_forgets_an_address() -> None:
    from zq.engine.listeners import Listeners

    prove = Listeners.prove_closed
    Listeners.prove_closed = lambda self, rows: prove(self, rows[:-1])  # type: ignore[method-assign]


@hole("test_listeners.py::test_a_false_listener_hears_no_frame[7-no key]")
def calls_without_a_key() -> None:
    from zq.security.lock import Lock

    Lock.fit = lambda self, socket, index=0: None  # type: ignore[method-assign]


@hole("test_doors.py::test_a_stranger_gets_no_frame_in_or_out[the key under another realm's name]")
def keys_without_the_realms_name() -> None:
    from zq.security.keys import RealmKey

    derive = RealmKey.derive
    RealmKey.derive = lambda self, purpose, realm, length=32: derive(self, purpose, "", length)  # type: ignore[method-assign]


@hole("test_secrets.py::test_nothing_that_is_shown_shows_a_key")
def key_in_a_log_line() -> None:
    from zq.security.lock import Cut

    make = Cut.__init__

    def make_and_tell(self: Cut, key: Any, realm: str) -> None:
        make(self, key, realm)
        logging.getLogger("zq.security").debug("cut %s for %s", self.client.secret.hex(), realm)

    Cut.__init__ = make_and_tell  # type: ignore[method-assign]


@hole("test_secrets.py::test_nothing_that_is_shown_shows_a_key")
def key_in_a_repr() -> None:
    from zq.security.keys import RealmKey

    RealmKey.__repr__ = lambda self: f"<RealmKey {self._secret!r}>"  # type: ignore[method-assign]


@hole("test_secrets.py::test_nothing_that_is_shown_shows_a_key")
def key_in_an_error() -> None:
    import zq.security.keys

    read = zq.security.keys._read_line

    def read_and_tell(line: str, where: str) -> Any:
        try:
            return read(line, where)
        except ValueError as error:
            raise ValueError(f"{error}: {line}") from None

    zq.security.keys._read_line = read_and_tell


@hole("test_secrets.py::test_nothing_that_is_shown_shows_a_key")
def key_in_the_record() -> None:
    from zq.security.lock import Lock

    Lock.proof = lambda self, text: self._own.server.public.hex()  # type: ignore[method-assign]


@hole("test_records.py::test_a_forged_record_is_counted_and_not_dialled")
def proof_not_checked() -> None:
    from zq.security.lock import Lock

    Lock.proves = lambda self, tag, text, proof: True  # type: ignore[method-assign]


@hole("test_records.py::test_nothing_that_is_proven_can_be_changed")
def proof_without_the_port() -> None:
    import zq.discovery.mdns
    import zq.discovery.sighting

    proven = zq.discovery.sighting.proven_text
    for module in (zq.discovery.mdns, zq.discovery.sighting):
        module.proven_text = lambda id, tag, version, port: proven(id, tag, version, 0)  # type: ignore[attr-defined]


@hole("test_keys.py::test_a_file_that_is_open_to_others_is_refused")
def key_files_of_anybody() -> None:
    import zq.security.keys

    zq.security.keys._fault = lambda found: ""


@hole("test_banners.py::test_who_does_not_speak_it_hears_a_greeting_and_is_cut_off[0.1]")
def handshakes_without_end() -> None:
    import zq.engine.factory

    zq.engine.factory.HANDSHAKE = 60_000


@hole("test_banners.py::test_an_address_that_fails_on_and_on_is_cut_off_at_once")
def nobody_is_cut_off() -> None:
    from zq.security.guard import Guard

    Guard.cuts_off = lambda self, address, now: False  # type: ignore[method-assign]


@hole("test_flood.py::test_strangers_have_their_turns_one_after_the_other")
def handshakes_all_at_once() -> None:
    from zq.security.tokens import Tokens

    Tokens.there_are = lambda self, now: True  # type: ignore[method-assign]


@hole("test_overfill.py::test_who_fills_the_work_door_without_a_key_is_cut_off")
def doors_that_may_be_filled() -> None:
    from zq.security.overfill import Overfill

    Overfill.look = lambda self, now: None  # type: ignore[method-assign]


@hole("test_subscribers.py::test_a_flood_of_subscriptions_ends_its_connection_and_no_other")
def subscriptions_without_end() -> None:
    from zq.security.subscribers import Subscribers

    Subscribers.count = lambda self, frame: True  # type: ignore[method-assign]


@hole("test_escaped.py::test_a_line_is_one_line_whatever_is_in_its_values")
def logs_as_it_comes() -> None:
    import zq.logs

    zq.logs._escape = lambda record: True


@hole("test_trial.py::test_the_check_is_there_before_the_first_door")
def doors_before_the_check() -> None:
    from zq.engine.listeners import Listeners
    from zq.security.zap import Zap

    make, start = Zap.__init__, Zap.start

    def make_later(self: Zap, *arguments: Any) -> None:
        Zap.start = lambda self: None  # type: ignore[method-assign]
        make(self, *arguments)
        Zap.start = start  # type: ignore[method-assign]
        waiting.append(self)

    waiting: list[Zap] = []
    bind = Listeners.bind

    def bind_first(self: Listeners, socket: Any, endpoint: str) -> None:
        bind(self, socket, endpoint)
        while waiting:
            waiting.pop().start()

    Zap.__init__, Listeners.bind = make_later, bind_first  # type: ignore[method-assign]


if __name__ == "__main__":
    sys.exit(garden.main(sys.argv[1:]))
