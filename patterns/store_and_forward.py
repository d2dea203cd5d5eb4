"""Keep what is measured until somebody has taken it, though no two of those concerned are up at the same time.

Problem      A device measures while nobody is there to take it, loses its power, and comes back; whoever works on what
             it has measured is started later still. Nothing that was measured may be lost meanwhile.
Topology     one sensor, its outbox on a disk of its own -> queue `readings` -> a spool on another disk -> an archive
Guarantee    Each reading for which `send` had returned is archived at least once, although the sensor is killed with
             SIGKILL while nobody else is up, the spool once it has all of them, and the archive is started last.
Not          Exactly once: what was under way when somebody was killed may come again, and says so
             (`message.redelivered`). The loss of a disk: each message is on one disk at a time, synced, not copied.
Seen elsewhere
             MQTT with a persistent session and QoS 1, RabbitMQ with confirms and a local shovel, JetStream leaf nodes.
Run          python -m patterns.store_and_forward
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import zq

READINGS = 200
POWER_CUT = 100  # the last reading before it
PATIENCE = 10.0  # s without any progress after which the demonstration has failed

spawn = multiprocessing.get_context("spawn")


def measure(realm: str, outbox: Path, first: int, taken: Connection) -> None:
    """The sensor: says which readings are on its disk, until it is killed or has measured all."""
    with zq.Peer("sensor", realm=realm) as peer:
        readings = peer.pusher("readings", outbox=outbox)
        for number in range(first, READINGS):
            readings.send({"number": number, "celsius": 20.0 + number / 100})
            taken.send(number)
            if number == POWER_CUT and first == 0:
                threading.Event().wait()  # for the power to be cut
        readings.wait_for_pullers(timeout=PATIENCE)  # leaving waits for who is there, and the spool may be slow to come
    taken.send(None)  # leaving has waited: all that its outbox had is at the spool


def keep(realm: str, directory: Path, ready: Connection) -> None:
    """The spool, which runs until it is killed; says how many readings it has found."""
    with zq.Peer("spool", realm=realm) as peer, peer.spool(directory, queues=["readings"]) as spool:
        ready.send(sum(queue.depth for queue in spool.queues()))
        threading.Event().wait()


def start(role: Any, *arguments: object) -> tuple[Any, Connection]:
    """A process, and what it has to say."""
    hears, says = spawn.Pipe(duplex=False)
    process = spawn.Process(target=role, args=(*arguments, says), daemon=True)
    process.start()
    says.close()
    return process, hears


def hear(says: Connection) -> Any:
    if not says.poll(PATIENCE):
        raise TimeoutError("nobody says anything any more")
    return says.recv()


def main() -> None:
    realm = f"store-and-forward-{os.getpid()}"  # so that two runs on one machine do not share their readings
    processes: list[Any] = []
    with tempfile.TemporaryDirectory() as temporary:
        outbox, directory = Path(temporary, "outbox"), Path(temporary, "spool")
        try:
            sensor, says = start(measure, realm, outbox, 0)  # nobody is there to take what it measures
            processes.append(sensor)
            taken = [hear(says) for _ in range(POWER_CUT + 1)]
            sensor.kill()  # SIGKILL: what it had in memory is gone
            sensor.join()

            spool, found = start(keep, realm, directory)
            processes.append(spool)
            assert hear(found) == 0
            sensor, says = start(measure, realm, outbox, len(taken))
            processes.append(sensor)
            taken += iter(lambda: hear(says), None)
            sensor.join()  # it is never seen again

            spool.kill()
            spool.join()
            spool, found = start(keep, realm, directory)
            processes.append(spool)
            kept = hear(found)
            archived, again = archive(realm, set(taken))
        finally:
            for process in processes:
                process.kill()
                process.join()
    assert archived == set(range(READINGS)), f"lost: {sorted(set(range(READINGS)) - archived)}"
    print(
        f"{len(archived)} readings archived, 0 lost; the sensor was killed before there was a spool, the spool when it "
        f"had {kept}, and {again} said that they may have come before"
    )


def archive(realm: str, wanted: set[int]) -> tuple[set[int], int]:
    """Takes all there is; which readings that were, and how many of them may have been here before."""
    archived: set[int] = set()
    again = 0
    with zq.Peer("archive", realm=realm) as peer, peer.puller("readings") as readings:
        while not wanted <= archived:
            with readings.receive(timeout=PATIENCE) as message:
                archived.add(message.data["number"])
                again += message.redelivered
    return archived, again


if __name__ == "__main__":
    main()
