"""The directories in which peers meet: that of this user on this machine, and shared ones."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from zq.discovery.host import ENTRY_BYTES, Entry, HostDirectory
from zq.discovery.place import directories, fault, socket_path
from zq.discovery.sighting import Sighting
from zq.doctor.finding import Finding, failure, note, ok, problem, warning
from zq.errors import Error
from zq.options import Settings

CHECK = "directory"


def examine_host_directory(settings: Settings) -> tuple[list[Finding], list[Sighting]]:
    """What is wrong with the directory of this machine, and who is in it. What dead peers left there is removed, as
    every peer does it."""
    places = directories(settings.host_dir)
    own = places[0]
    found: list[Finding] = []
    for place in places[1:]:
        if wrong := fault(place):
            what, _, fix = wrong.rpartition("; ")
            found.append(warning(CHECK, str(place), f"{what}; it is not read", fix))
    try:
        if not settings.networked:
            socket_path(own, bytes(16), "m")
    except Error as error:
        found.append(failure(CHECK, str(own), error))
    if not os.path.lexists(own):
        return [*found, *missing(own)], []
    if wrong := fault(own):
        what, _, fix = wrong.rpartition("; ")
        return [*found, problem(CHECK, str(own), what, fix)], []
    try:
        before = entry_names(places)
        there = HostDirectory(places)
        entries = there.scan()
    except (Error, OSError) as error:
        return [*found, failure(CHECK, str(own), error)], []
    gone = len(before - entry_names(places))
    left = f"; {gone} left by dead peers removed" if gone else ""
    found.append(ok(CHECK, str(own), f"{len(entries)} peers of this user{left}"))
    if there.unreadable:
        what = f"{there.unreadable} entries that cannot be read"
        found.append(warning(CHECK, str(own), what, f"remove what does not belong there: ls -la {own}"))
    return found, [as_sighting(entry) for entry in entries]


def missing(place: Path) -> list[Finding]:
    """The first peer makes it, if it can."""
    parent = next(each for each in place.parents if each.exists())
    if not os.access(parent, os.W_OK | os.X_OK):
        fix = "set ZQ_HOST_DIR to a directory of your own"
        return [problem(CHECK, str(place), f"is not there, and {parent} cannot be written", fix)]
    return [ok(CHECK, str(place), "is not there yet; the first peer makes it")]


def entry_names(places: Sequence[Path]) -> set[Path]:
    return {path for place in places if place.is_dir() for path in place.glob("*.peer")}


def examine_shared(place: Path) -> tuple[list[Finding], list[Sighting]]:
    """A shared directory: may we write there, and who is in it? Blocks for as long as its file system does."""
    found: list[Finding] = []
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix="doctor-", dir=place) as probe:
            probe.write(b"zq doctor\n")
            probe.flush()
    except OSError as error:
        what = f"cannot be written ({error.strerror}): we find others there, they do not find us"
        found.append(problem(CHECK, str(place), what, "make it writable for this user, or name another with dir:PATH"))
    try:
        paths = sorted(place.glob("*.peer"))
    except OSError as error:
        return [
            *found,
            problem(CHECK, str(place), f"cannot be read: {error.strerror}", "another one with dir:PATH"),
        ], []
    sightings: list[Sighting] = []
    for path in paths:
        try:
            with path.open("rb") as stream:
                sightings.append(as_sighting(Entry.decode(stream.read(ENTRY_BYTES))))
        except (OSError, ValueError, RecursionError):
            found.append(note(CHECK, str(path), "is no entry of a peer", f"remove it: {path}"))
    found.append(ok(CHECK, str(place), f"{len(sightings)} entries; those of dead peers go after a minute"))
    return found, sightings


def as_sighting(entry: Entry) -> Sighting:
    return Sighting(id=entry.id, tag=entry.tag, version=entry.version, endpoints=entry.endpoints)
