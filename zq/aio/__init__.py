"""The asyncio face: every wait is awaited. zq.Peer has the same names and blocks instead.

Only what can wait is awaited: factories, settling, peers, topics, queues are plain calls. A peer belongs to the event
loop it was opened in.
"""

from zq.aio.peer import Peer
from zq.aio.receivers import Puller, Replier, Subscriber
from zq.aio.senders import YIELD_EVERY, Publisher, Pusher
from zq.aio.spool import Spool
from zq.handles.replying import Request

__all__ = ["YIELD_EVERY", "Peer", "Publisher", "Puller", "Pusher", "Replier", "Request", "Spool", "Subscriber"]
