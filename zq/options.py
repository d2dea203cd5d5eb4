"""The settings of a peer: one table of options, from which flags, environment names and documentation derive.

An argument wins over the environment (`ZQ_*`), that over the first settings file that exists (`./zq.toml`,
`$XDG_CONFIG_HOME/zq/config.toml`, `/etc/zq/zq.toml`), that over the default. Each value knows where it came from.

Long, since the table, what reads a value of each kind and what prints it are all that there is of an option.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from zq.errors import AccessDenied, Refused
from zq.record import dataclass, field

NAME_BYTES = 255  # longest name; docs/protocol.md, "limits"
PORT_HIGHEST = 65_535
PORTS = (20_000, 32_767)  # below Linux's ephemeral ports: a dying peer's port must not be connected to itself
RUNGS = ("host", "mdns")  # ways to find peers, in the order they are tried
DIRECTORY_RUNG = "dir:"  # and a path: another one, which has no default

SYSTEM_FILE = Path("/etc/zq/zq.toml")
PREFIX = "ZQ_"

_NAME = re.compile(r"[A-Za-z0-9._:-]+(?:/[A-Za-z0-9._:-]+)*")
_INTERFACE = re.compile(r"[^\s/,]+")
_SEED = re.compile(r"(?:\[([0-9A-Fa-f:.]+(?:%[^\s\]/]+)?)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})")
NAMES = f"1 to {NAME_BYTES} of A-Z a-z 0-9 . _ : - in segments separated by /"
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def _name(value: object) -> str:
    if isinstance(value, str) and len(value) <= NAME_BYTES and _NAME.fullmatch(value):
        return value
    raise ValueError


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in (*_TRUE, *_FALSE):
        return value.lower() in _TRUE
    raise ValueError


def _several(value: object) -> tuple[str, ...]:
    """A text is split at commas wherever it comes from, so that `interfaces="lo"` is not taken for letters."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, Sequence) or not all(isinstance(item, str) for item in items):
        raise ValueError
    return tuple(dict.fromkeys(item.strip() for item in items))


def _interfaces(value: object) -> tuple[str, ...]:
    interfaces = _several(value)
    if not all(_INTERFACE.fullmatch(interface) for interface in interfaces):
        raise ValueError
    return interfaces


def _discovery(value: object) -> tuple[str, ...]:
    rungs = _several(value)
    if rungs == ("none",):
        return ()
    for rung in rungs:
        if rung.startswith(DIRECTORY_RUNG):
            if not Path(rung.removeprefix(DIRECTORY_RUNG)).expanduser().is_absolute():
                raise Refused(f"{rung!r} is no absolute path; write {DIRECTORY_RUNG}/shared/zq")
        elif rung not in RUNGS:
            raise ValueError
    return rungs


def host_and_port(text: str) -> tuple[str, int] | None:
    """The two parts of `host:port` or `[IPv6 address]:port`; None if it is neither."""
    match = _SEED.fullmatch(text)
    if match is None or not 1 <= (port := int(match[3])) <= PORT_HIGHEST:
        return None
    return match[1] or match[2], port


def _seeds(value: object) -> tuple[str, ...]:
    seeds = _several(value)
    if wrong := [seed for seed in seeds if host_and_port(seed) is None]:
        raise Refused(f"{wrong[0]!r} is not host:port, such as gateway:20000, 10.0.0.7:20000 or [fd00::7]:20000")
    return seeds


def _port(value: object) -> int:
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() else value
    if isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= PORT_HIGHEST:
        return number
    raise ValueError


def _ports(value: object) -> tuple[int, int]:
    ends = value.split("-") if isinstance(value, str) else value
    if isinstance(ends, Sequence) and len(ends) == 2:
        low, high = (_port(end.strip() if isinstance(end, str) else end) for end in ends)
        if low <= high:
            return low, high
    raise ValueError


def _directory(value: object) -> Path:
    if isinstance(value, str | Path) and (path := Path(value).expanduser()).is_absolute():
        return path
    raise ValueError


def _file(value: object) -> Path:
    if isinstance(value, str | Path) and str(value) not in ("", "."):
        return Path(value).expanduser()
    raise ValueError


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One thing that can be set: its name is the argument and the key in a settings file."""

    name: str
    kind: str  # how a value is written: "text", "flag", "list", "number", "range", "path"
    unit: str  # of the value, or of each item; empty where it has none
    help: str
    default: Any  # None: see `otherwise`
    otherwise: str  # what happens when nothing sets it, in words
    allowed: str
    read: Callable[[object], Any]  # text, a TOML value or an argument to the value; ValueError if it is none
    on_command_line: bool = True

    @property
    def environment(self) -> str:
        return f"{PREFIX}{self.name.upper()}"

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    def value(self, raw: object, origin: str) -> Any:
        """`raw` as a checked value. Raises Refused, which says where it came from and what is allowed."""
        try:
            return self.read(raw)
        except Refused as error:
            raise Refused(f"{self.name} from {origin}: {error}") from None
        except (ValueError, RuntimeError):  # RuntimeError: a "~" in a path and no home to put there
            shown = str(raw) if isinstance(raw, Path) else raw
            raise Refused(f"{self.name} from {origin}: {shown!r} is not possible; allowed: {self.allowed}") from None


OPTIONS = (
    Option(
        name="name", kind="text", unit="", help="what this peer is called in listings; need not be unique",
        default=None, otherwise="program name and process id", read=_name, allowed=NAMES,
    ),
    Option(
        name="realm", kind="text", unit="", help="peers of one realm see each other, and nobody else",
        default="default", otherwise="default", read=_name, allowed=NAMES,
    ),
    Option(
        name="key_file", kind="path", unit="file", help="open TCP to everyone who has the realm key in this file",
        default=None, otherwise="none: this user on this machine", read=_file, allowed="a path; `zq key new` makes one",
    ),
    Option(
        name="insecure", kind="flag", unit="", help="open TCP without a key: everybody on the network can take part",
        default=False, otherwise="off: this user on this machine", read=_flag,
        allowed=f"{', '.join(_TRUE)}; {', '.join(_FALSE)}",
    ),
    Option(
        name="interfaces", kind="list", unit="address or interface name", help="the networks to open TCP on",
        default=(), otherwise="all but loopback", read=_interfaces,
        allowed="addresses and names of this machine's interfaces, separated by commas",
    ),
    Option(
        name="discovery", kind="list", unit="rung", help="how peers are found",
        default=RUNGS, otherwise=",".join(RUNGS), read=_discovery,
        allowed=f"{', '.join(RUNGS)}, {DIRECTORY_RUNG}/PATH (a shared directory), separated by commas, or none alone",
    ),
    Option(
        name="seeds", kind="list", unit="host:port", help="mailboxes of peers to meet; they tell of the others",
        default=(), otherwise="none", read=_seeds, allowed="host:port, separated by commas",
    ),
    Option(
        name="port", kind="number", unit="TCP port", help="the port of this peer's mailbox",
        default=None, otherwise="a free one of ports", read=_port, allowed=f"1 to {PORT_HIGHEST}",
        on_command_line=False,
    ),
    Option(
        name="ports", kind="range", unit="TCP port", help="the ports a peer takes its own from, both ends included",
        default=PORTS, otherwise=f"{PORTS[0]}-{PORTS[1]}", read=_ports,
        allowed=f"LOW-HIGH, each 1 to {PORT_HIGHEST}", on_command_line=False,
    ),
    Option(
        name="host_dir", kind="path", unit="directory", help="where the peers of this user on this machine meet",
        default=None, otherwise="/run/user/UID/zq, or /tmp/zq-UID", read=_directory, allowed="an absolute path",
        on_command_line=False,
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a peer is to be, checked. `origin` says for each option where its value came from."""

    name: str
    realm: str = "default"
    key_file: Path | None = None  # of the realm key
    insecure: bool = False
    interfaces: tuple[str, ...] = ()  # empty: all but loopback; has a meaning only on a network
    discovery: tuple[str, ...] = RUNGS  # empty: no rung
    seeds: tuple[str, ...] = ()  # added to whatever rungs there are; have a meaning only on a network
    port: int | None = None  # of the mailbox; None: any of `ports`
    ports: tuple[int, int] = PORTS  # lowest and highest
    host_dir: Path | None = None  # None: the usual place
    origin: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        for option in OPTIONS:
            value = getattr(self, option.name)
            if value is not None:
                option.value(value, self._origin(option.name))
        if self.insecure and self.key_file is not None:
            raise Refused(
                f"insecure from {self._origin('insecure')} and key_file from {self._origin('key_file')}: with a key "
                f"nobody else is let in, without one everybody is; leave one out"
            )
        if not self.networked:
            for what in ("interfaces", "seeds", "port"):
                if getattr(self, what):
                    raise Refused(
                        f"{what} from {self._origin(what)}: without key_file this peer uses no network; "
                        f"set key_file (or insecure=True), or leave {what} out"
                    )
            if shared := [rung for rung in self.discovery if rung.startswith(DIRECTORY_RUNG)]:
                raise Refused(
                    f"discovery from {self._origin('discovery')}: without key_file this peer uses no network "
                    f"and {shared[0]} leads nowhere; set key_file (or insecure=True), or leave it out"
                )
            if self.discovery == ("mdns",):
                raise Refused(
                    f"discovery from {self._origin('discovery')}: without key_file this peer uses no network "
                    f"and mdns alone finds nobody; set key_file (or insecure=True), or add host"
                )

    @property
    def networked(self) -> bool:
        """Whether this peer opens TCP."""
        return self.insecure or self.key_file is not None

    def _origin(self, name: str) -> str:
        return self.origin.get(name, "argument")


def load(**arguments: object) -> Settings:
    """The settings in force: arguments that are not None, then `ZQ_*`, then the settings file, then defaults.

    Raises Refused for a value or name that cannot be used, in whichever of them it stands, and AccessDenied for a
    settings file that cannot be read.
    """
    _check_names((name for name, value in arguments.items() if value is not None), "the arguments", str)
    environment = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
    _check_names(environment, "the environment", lambda name: f"{PREFIX}{name.upper()}")
    path, in_file = _read_file()
    _check_names(in_file, str(path), str)

    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for option in OPTIONS:
        name = option.name
        if arguments.get(name) is not None:
            raw, origin[name] = arguments[name], "argument"
        elif environment.get(option.environment):  # set to nothing is how a container unsets one
            raw, origin[name] = environment[option.environment], option.environment
        elif name in in_file:
            raw, origin[name] = in_file[name], str(path)
        else:
            values[name], origin[name] = option.default, "default"
            continue
        values[name] = option.value(raw, origin[name])
    if values["name"] is None:
        values["name"] = default_name()
    return Settings(**values, origin=MappingProxyType(origin))


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolOptions:
    """What each queue or filter of a spool may take of its disk. A queue takes no more when a limit is reached; of
    topics the oldest messages go. What is on its way when a queue's limit is reached is still taken: 16,384 messages or
    4 MiB at the most, or one message that is larger. Raises Refused for what is no limit."""

    max_bytes: int | None = None  # of the files; None: as much as there is
    max_messages: int | None = None  # of a queue: stored and not settled
    max_age: float | None = None  # s since it was stored; of topics only
    min_free: int = 64 << 20  # bytes that are left on the file system: what settling, trimming and logs need
    max_dead: int | None = None  # dead letters; then the oldest are forgotten. None: as many as there are

    def __post_init__(self) -> None:
        for what, least in (("max_bytes", 1), ("max_messages", 1), ("min_free", 0), ("max_dead", 1)):
            value = getattr(self, what)
            if value is None and what != "min_free":
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise Refused(f"{what} is a whole number >= {least}, not {value!r:.40}")
        age = self.max_age
        if age is not None and (not isinstance(age, int | float) or isinstance(age, bool) or not 0 < age < math.inf):
            raise Refused(f"max_age is seconds > 0, not {age!r:.40}")


def files() -> tuple[Path, ...]:
    """Where a settings file may be; the first that exists is read, alone."""
    places = [Path("zq.toml")]  # of the working directory
    if (configuration := os.environ.get("XDG_CONFIG_HOME")) and Path(configuration).is_absolute():
        places.append(Path(configuration) / "zq" / "config.toml")
    elif home := os.environ.get("HOME"):
        places.append(Path(home) / ".config" / "zq" / "config.toml")
    return (*places, SYSTEM_FILE)


def default_name() -> str:
    """The program's name and process id, such as `sensor-4711`."""
    program = Path(sys.argv[0] if sys.argv else "")
    stem = program.parent.name if program.stem == "__main__" else program.stem
    stem = re.sub(r"[^A-Za-z0-9._:-]", "-", stem) if stem not in ("", "-c", "-m") else "python"
    return f"{stem[:200]}-{os.getpid()}"


def markdown() -> str:
    """The table of all options as the documentation shows it."""
    lines = ["| option | flag | environment | default | allowed | meaning |", "|---|---|---|---|---|---|"]
    lines += [
        f"| `{option.name}` | {f'`{option.flag}`' if option.on_command_line else ''} | `{option.environment}` "
        f"| {option.otherwise} | {option.allowed} | {option.help} |"
        for option in OPTIONS
    ]
    return "\n".join(lines)


def _read_file() -> tuple[Path | None, dict[str, Any]]:
    for path in files():
        try:
            text = path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise AccessDenied(f"settings file {path}: {error.strerror}; make it readable or remove it") from error
        except UnicodeDecodeError as error:
            raise Refused(f"settings file {path}: not UTF-8 text: {error}") from error
        import tomllib  # most programs have no settings file and need not pay for it

        try:
            return path, tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise Refused(f"settings file {path}: {error}") from error
    return None, {}


def _check_names(names: Iterable[str], origin: str, spell: Callable[[str], str]) -> None:
    """Raises Refused unless each of `names`, as `spell` writes option names, is an option that exists."""
    known = [spell(option.name) for option in OPTIONS]
    for name in names:
        if name in known:
            continue
        import difflib  # only for a mistake

        near = difflib.get_close_matches(name, known, n=1) or difflib.get_close_matches(name.upper(), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise Refused(f"{name} in {origin} is not an option of zq; {hint}")
