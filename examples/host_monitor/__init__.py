"""Watch this machine: a sensor, a dashboard and two workers that know nothing of each other.

    python -m examples.host_monitor [--duration SECONDS]

Five processes, no broker. `sensor` publishes CPU, memory, disk and network readings on `machines/<host>/<metric>` and
pushes an alarm to the queue `alarms` when one stands out. `dashboard` subscribes to `machines/**`. Two `worker`s share
the alarms; half-way the launcher kills one of them with SIGKILL while it has an alarm in hand. At the end the launcher
compares what was sent with what arrived, from notes that each process kept in a file of its own: zq's counters are
shown beside it, but what is lost is not taken from them.
"""
