"""Of which realm this host's settings make a peer, and of which others are, as far as they tell strangers.

A peer tells everybody a tag, a hash of realm and mode or key. It cannot be turned back, but what we know can be tried:
our realm's name and `default`, in each mode, with each of our keys. So the usual mistakes are named, not guessed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from zq.discovery.sighting import Sighting
from zq.doctor.finding import Finding, note, ok, problem, warning
from zq.engine.doors import realm_tag
from zq.info import PeerInfo
from zq.options import OPTIONS, Option, Settings
from zq.security.keys import Keys, read_keys
from zq.security.lock import Cut, Lock
from zq.wire.frames import VERSION

CHECK = "realm"
DEFAULT_REALM = "default"
NAMED = 6  # peers that are named in one line; of more only the number is told
COMPARE = "compare `zq key show` and `zq config` on both hosts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stranger:
    """A peer that is not of our realm, and why, as far as it can be told."""

    what: str
    fix: str


class Realm:
    """What the settings amount to. Raises what `read_keys` raises for a key that cannot be used."""

    def __init__(self, settings: Settings, today: date) -> None:
        self.settings = settings
        self.keys: Keys | None = None
        self.lock: Lock | None = None
        if settings.key_file is not None:
            self.keys = read_keys(settings.key_file)
            self.lock = Lock(self.keys, settings.realm, today)
        self.tag = realm_tag(settings).hex() if self.lock is None else self.lock.tag
        self._known = self._guesses()

    def _guesses(self) -> dict[str, tuple[str, str]]:
        """Tag: its realm, and its mode in words."""
        known: dict[str, tuple[str, str]] = {}
        for realm in dict.fromkeys((self.settings.realm, DEFAULT_REALM)):
            open_to_all = Settings(name="doctor", realm=realm, insecure=True)
            known[realm_tag(open_to_all).hex()] = realm, "insecure, without a key"
            known[realm_tag(Settings(name="doctor", realm=realm)).hex()] = realm, "on its machine alone, without a key"
            for key in self.keys.keys if self.keys is not None else ():
                known[Cut(key, realm).tag] = realm, f"with this key ({key.fingerprint})"
        return known

    def is_ours(self, tag: str) -> bool:
        return tag == self.tag or (self.lock is not None and self.lock.knows(tag))

    def is_proven(self, sighting: Sighting) -> bool:
        """Whether who wrote a record of our realm has its key."""
        if self.lock is None or not self.lock.knows(sighting.tag):
            return True
        return self.lock.proves(sighting.tag, sighting.proven_text, sighting.proof)

    def explain(self, tag: str, mechanism: str = "") -> Stranger:
        """Why a peer of that tag is a stranger; `mechanism` is how its doors are locked, if that is known."""
        settings = self.settings
        if tag in self._known:
            realm, mode = self._known[tag]
            what = f"of realm {realm!r}, {mode}; here it is {settings.realm!r}, {mode_of(settings)}"
            if realm != settings.realm:
                return Stranger(what=what, fix=f"ZQ_REALM={realm} here, or ZQ_REALM={settings.realm} there")
            return Stranger(what=what, fix="the same ZQ_KEY_FILE, or ZQ_INSECURE, on both")
        if mechanism == "CURVE" and settings.key_file is None:
            return Stranger(what="locked with a realm key; here there is none", fix="ZQ_KEY_FILE=a copy of that key")
        if mechanism == "NULL" and settings.key_file is not None:
            what = "insecure, without a key, and of another realm; here there is a key"
            return Stranger(what=what, fix="the same ZQ_KEY_FILE and ZQ_REALM there as here")
        if settings.key_file is not None:
            return Stranger(what="of another key, or of another realm", fix=COMPARE)
        return Stranger(what=f"of another realm than {settings.realm!r}", fix=f"ZQ_REALM={settings.realm} there")


def mode_of(settings: Settings) -> str:
    if settings.key_file is not None:
        return "with a key"
    return "insecure, without a key" if settings.insecure else "on this machine alone, without a key"


def examine_settings(settings: Settings) -> list[Finding]:
    """What is set, and where; a setting that stands nowhere is the default."""
    found: list[Finding] = []
    for option in OPTIONS:
        origin = settings.origin.get(option.name, "argument")
        if origin != "default" and getattr(settings, option.name) not in (None, ()):
            found.append(ok("settings", option.name, f"{shown(option, settings)} (from {origin})"))
    return found or [ok("settings", "all", "nothing is set: no argument, no ZQ_* variable, no settings file")]


def shown(option: Option, settings: Settings) -> str:
    value = getattr(settings, option.name)
    if isinstance(value, tuple):
        return ("-" if option.kind == "range" else ",").join(map(str, value))
    return str(value)


def examine_mode(realm: Realm, today: date) -> list[Finding]:
    """Whether a network is open, and to whom."""
    settings = realm.settings
    if not settings.networked:
        what = f"realm {settings.realm!r} is on this machine alone: nothing listens on any network"
        fix = "to meet other hosts set ZQ_KEY_FILE=realm.key (`zq key new > realm.key`, the same file on all)"
        return [note(CHECK, "network", what, fix)]
    if realm.keys is None:
        what = f"realm {settings.realm!r} is open to everybody on the network: insecure"
        return [warning(CHECK, "network", what, "ZQ_KEY_FILE=realm.key instead of insecure, on all hosts")]
    keys = realm.keys
    prints = ", ".join(key.fingerprint for key in keys.keys)
    found = [ok(CHECK, "key", f"realm {settings.realm!r}, fingerprint {prints}")]
    if keys.until is not None and abs(keys.until - today) <= timedelta(days=1):
        what = f"the second key takes over on {keys.until} (UTC), which is near: hosts with another date differ"
        found.append(note(CHECK, "key", what, "let the clocks of all hosts agree (NTP)"))
    return found


def examine_sightings(
    realm: Realm, sightings: Mapping[bytes, Sighting], mechanisms: Mapping[bytes, str], *, way: str
) -> list[Finding]:
    """Peers that were seen, by id: of ours those of another version, and all others. `mechanisms` may lack some."""
    found: list[Finding] = []
    ours = [seen for seen in sightings.values() if realm.is_ours(seen.tag)]
    others = [seen for seen in sightings.values() if not realm.is_ours(seen.tag)]
    if not sightings:
        return [note(CHECK, way, "no zq peer is seen there")]
    if ours:
        found.append(ok(CHECK, way, f"{peers(len(ours))} of this realm {seen_at(ours)}"))
    for version, group in grouped((str(seen.version), seen) for seen in ours if seen.version != VERSION):
        what = f"{peers(len(group))} {seen_at(group)}: protocol version {version}, here it is {VERSION}"
        found.append(problem(CHECK, way, what, "the same version of zq on all hosts"))
    if forged := [seen for seen in ours if not realm.is_proven(seen)]:
        what = f"{peers(len(forged))} {seen_at(forged)}: the record was written by somebody without the key"
        found.append(warning(CHECK, way, what, "find out who announces it; it is not dialled"))
    strangers = {seen.id: realm.explain(seen.tag, mechanisms.get(seen.id, "")) for seen in others}
    for what, group in grouped((strangers[seen.id].what, seen) for seen in others):
        fix = strangers[group[0].id].fix
        found.append(
            warning(CHECK, way, f"{peers(len(group))} {seen_at(group)}: {what}", f"if they belong here: {fix}")
        )
    return found


def examine_met(met: Sequence[PeerInfo]) -> list[Finding]:
    """The peers that this host's settings really lead to."""
    check = "peers"
    there = [each for each in met if each.state != "incompatible"]
    found: list[Finding] = []
    if there:
        found.append(ok(check, "met", f"{peers(len(there))}: {few([each.name for each in there])}"))
    else:
        found.append(note(check, "met", "nobody else of this realm is here now"))
    if count := len(met) - len(there):
        what = f"{peers(count)} with another protocol version than {VERSION}"
        found.append(problem(check, "met", what, "the same version of zq on all hosts"))
    for name, number in Counter(each.name for each in there).items():
        if number > 1:
            where = few([f"{each.host} pid {each.pid}" for each in there if each.name == name])
            what = f"{number} peers have the name {name!r} ({where}): listings do not tell them apart"
            found.append(warning(check, "names", what, "another ZQ_NAME for each, or none"))
    return found


def grouped(pairs: Iterable[tuple[str, Sighting]]) -> list[tuple[str, list[Sighting]]]:
    groups: dict[str, list[Sighting]] = {}
    for key, seen in pairs:
        groups.setdefault(key, []).append(seen)
    return list(groups.items())


def peers(count: int) -> str:
    return f"{count:,} zq peer{'' if count == 1 else 's'}"


def few(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - NAMED} more" if len(texts) > NAMED else ""
    return ", ".join(texts[:NAMED]) + more


def seen_at(group: Sequence[Sighting]) -> str:
    """The addresses, once each."""
    hosts = [seen.endpoints[0].removeprefix("tcp://") for seen in group if seen.endpoints]
    return f"({few(list(dict.fromkeys(hosts)))})" if hosts else ""
