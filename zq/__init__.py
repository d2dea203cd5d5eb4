"""zq: brokerless messaging for Python. Processes on a LAN find each other and exchange messages.

Names are loaded when they are first used, so that `import zq` costs next to nothing.
"""

from __future__ import annotations

import gc
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zq import aio as aio
    from zq.blocking.peer import Peer as Peer
    from zq.blocking.receivers import Puller as Puller
    from zq.blocking.receivers import Replier as Replier
    from zq.blocking.receivers import Subscriber as Subscriber
    from zq.blocking.senders import Publisher as Publisher
    from zq.blocking.senders import Pusher as Pusher
    from zq.blocking.spool import Spool as Spool
    from zq.dedup import Dedup as Dedup
    from zq.errors import AccessDenied as AccessDenied
    from zq.errors import Closed as Closed
    from zq.errors import EngineFailed as EngineFailed
    from zq.errors import Error as Error
    from zq.errors import Forked as Forked
    from zq.errors import Incompatible as Incompatible
    from zq.errors import NoPeer as NoPeer
    from zq.errors import PeerLost as PeerLost
    from zq.errors import Refused as Refused
    from zq.errors import RemoteError as RemoteError
    from zq.errors import SpoolDamaged as SpoolDamaged
    from zq.errors import SpoolFull as SpoolFull
    from zq.errors import SpoolLocked as SpoolLocked
    from zq.errors import Timeout as Timeout
    from zq.errors import Undelivered as Undelivered
    from zq.handles.replying import Request as Request
    from zq.handles.shelf import SpoolDirectory as SpoolDirectory
    from zq.info import Consumer as Consumer
    from zq.info import DeadLetter as DeadLetter
    from zq.info import DeadLetters as DeadLetters
    from zq.info import Departed as Departed
    from zq.info import FailedAttempt as FailedAttempt
    from zq.info import Gap as Gap
    from zq.info import HeldQueue as HeldQueue
    from zq.info import Ledger as Ledger
    from zq.info import Missing as Missing
    from zq.info import PeerEvent as PeerEvent
    from zq.info import PeerInfo as PeerInfo
    from zq.info import PublishedTopic as PublishedTopic
    from zq.info import PulledQueue as PulledQueue
    from zq.info import QueueAccount as QueueAccount
    from zq.info import QueueInfo as QueueInfo
    from zq.info import RepliedService as RepliedService
    from zq.info import RequestedService as RequestedService
    from zq.info import Span as Span
    from zq.info import SpoolAnswer as SpoolAnswer
    from zq.info import SpoolCursor as SpoolCursor
    from zq.info import SpooledMessage as SpooledMessage
    from zq.info import SpooledQueue as SpooledQueue
    from zq.info import SpooledStream as SpooledStream
    from zq.info import SpooledTopic as SpooledTopic
    from zq.info import SpoolProblem as SpoolProblem
    from zq.info import SpoolReport as SpoolReport
    from zq.info import SubscribedTopic as SubscribedTopic
    from zq.info import TopicInfo as TopicInfo
    from zq.message import INHERIT as INHERIT
    from zq.message import Message as Message
    from zq.options import SpoolOptions as SpoolOptions
    from zq.wire.array import Array as Array

_ERRORS = (
    "AccessDenied Closed EngineFailed Error Forked Incompatible NoPeer PeerLost Refused RemoteError SpoolDamaged "
    "SpoolFull SpoolLocked Timeout Undelivered"
)
_INFO = (
    "Consumer DeadLetter DeadLetters Departed FailedAttempt Gap HeldQueue Ledger Missing PeerEvent PeerInfo "
    "PublishedTopic PulledQueue QueueAccount QueueInfo RepliedService RequestedService Span SpoolAnswer SpoolCursor "
    "SpooledMessage SpooledQueue SpooledStream SpooledTopic SpoolProblem SpoolReport SubscribedTopic "
    "TopicInfo"
)
_HOMES = {
    **dict.fromkeys(_ERRORS.split(), "zq.errors"),
    **dict.fromkeys(_INFO.split(), "zq.info"),
    **dict.fromkeys(("INHERIT", "Message"), "zq.message"),
    "Peer": "zq.blocking.peer",
    **dict.fromkeys(("Publisher", "Pusher"), "zq.blocking.senders"),
    **dict.fromkeys(("Puller", "Replier", "Subscriber"), "zq.blocking.receivers"),
    "Request": "zq.handles.replying",
    "Spool": "zq.blocking.spool",
    "Array": "zq.wire.array",
    "SpoolDirectory": "zq.handles.shelf",
    "SpoolOptions": "zq.options",
    "Dedup": "zq.dedup",
}

__all__ = [  # noqa: PLE0604 - the names above, "aio" and the version
    "__version__",
    "aio",
    *_HOMES,
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "aio":
        return import_module("zq.aio")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'zq' has no attribute {name!r}")
    collects = gc.isenabled()
    gc.disable()  # what is imported is no garbage, and looking for some is a twentieth of the time that it takes
    try:
        value = globals()[name] = getattr(import_module(home), name)
    finally:
        if collects:
            gc.enable()
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
