"""Tell every service, and let its replicas share the work, though any of them may be killed or restarted.

Problem      Several services want everything that is published, each in several replicas of which one is to do it; and
             services are restarted while publishing goes on.
Topology     one shop -> topics `orders/*` -> queue `mailer` -> its replicas
                                           -> queue `audit`  -> its replicas
Guarantee    Each service gets every order at least once, and one of its replicas does it, although one replica is
             killed with SIGKILL while it has an order in hand and all of the service's others are restarted meanwhile.
Not          Exactly once: what the killed replica had in hand is done again, and says so (`message.redelivered`). The
             shop must outlive the work: it holds what is not acknowledged, and waits when a service is a window
             (16,384 orders) behind. A service that is away for a minute is forgotten, and what it missed is counted.
Seen elsewhere
             RabbitMQ topic exchange with a queue a service, Kafka consumer groups, SNS to SQS, NATS queue groups.
Run          python -m patterns.publish_to_services
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from multiprocessing.context import SpawnContext, SpawnProcess

import zq

ORDERS = 100
SERVICES = {"mailer": 2, "audit": 1}  # replicas of each
PATIENCE = 10.0  # s without any progress after which the demonstration has failed


def serve(realm: str, service: str) -> None:
    """One replica of a service, until it is killed, or told by SIGTERM to end."""
    with zq.Peer(f"{service}-{os.getpid()}", realm=realm) as peer, peer.pusher("done") as done:

        def handle(order: zq.Message) -> None:
            time.sleep(0.001)  # stands for the work
            done.send([service, order.data["number"], os.getpid(), order.redelivered])
            done.flush(timeout=PATIENCE)  # known before the order is acknowledged: killed here, it is done again

        with peer.puller(service, prefetch=8, topics=["orders/*"]) as orders:
            orders.run(handle)


def main() -> None:
    realm = f"publish-to-services-{os.getpid()}"  # so that two runs on one machine do not share their orders
    spawn = multiprocessing.get_context("spawn")
    replicas = {service: [start(spawn, realm, service) for _ in range(count)] for service, count in SERVICES.items()}
    everybody = [replica for those in replicas.values() for replica in those]
    try:
        with zq.Peer("shop", realm=realm) as peer, peer.puller("done") as done:
            orders = {country: peer.publisher(f"orders/{country}") for country in ("se", "no")}
            for publisher in orders.values():
                publisher.wait_for_subscribers(len(SERVICES), timeout=PATIENCE)
            peer.wait_for_peers(len(everybody), timeout=PATIENCE)
            for number in range(ORDERS):
                orders["se" if number % 2 else "no"].send({"number": number})
            results: dict[str, set[int]] = {service: set() for service in SERVICES}
            victim = kill_one(done, results, replicas["mailer"])
            for replica in replicas["mailer"]:
                replica.terminate()  # the other one ends in good order: it gives back what it has not begun
            while any(replica.is_alive() for replica in replicas["mailer"]):
                with contextlib.suppress(zq.Timeout):
                    take(done, results, timeout=0.05)
            everybody.append(start(spawn, realm, "mailer"))  # for a moment there was none
            while any(len(numbers) < ORDERS for numbers in results.values()):
                take(done, results)
            held = peer.ledger().held
    finally:
        for replica in everybody:
            replica.kill()
            replica.join()
    assert all(numbers == set(range(ORDERS)) for numbers in results.values()), "a service has missed an order"
    again = sum(queue.redelivered for queue in held if queue.queue == "mailer")
    assert again >= 1, "the killed replica had an order in hand, and nobody else got it"
    print(
        f"{ORDERS} orders done by each of {len(SERVICES)} services, 0 lost; mailer {victim} was killed at work and the "
        f"other restarted, {again} redelivered"
    )


def start(spawn: SpawnContext, realm: str, service: str) -> SpawnProcess:
    replica = spawn.Process(target=serve, args=(realm, service), daemon=True)
    replica.start()
    return replica


def take(done: zq.Puller, results: dict[str, set[int]], timeout: float = PATIENCE) -> None:
    """Notes one order that is done."""
    with done.receive(timeout=timeout) as message:
        service, number, _, _ = message.data
        results[service].add(number)


def kill_one(done: zq.Puller, results: dict[str, set[int]], mailers: list[SpawnProcess]) -> int:
    """Takes results for a while; kills a mailer with an order in hand, and returns its process id."""
    count = 0
    while True:
        with done.receive(timeout=PATIENCE) as message:
            service, number, process, _ = message.data
            results[service].add(number)
            count += service == "mailer"
            if count > ORDERS // 4 and process in [mailer.pid for mailer in mailers]:
                # It waits for this message to be acknowledged, which happens below: its order is in its hand.
                os.kill(process, signal.SIGKILL)
                return int(process)


if __name__ == "__main__":
    main()
