"""Calls process(): runners, order by id, attempts, suspects. Knows no Kafka.

The loop sees an Executor (executor.py): suspects.py, over dispatcher.py, over a runner. On its way a group is

- held: not submitted yet, while groups run apart (suspects.py) or the circuit is open (probing.py);
- parked (parking.py): it waits for its own id. It rests between two attempts, or is behind another group of its id;
- put aside: parked by suspects.py, away from the dispatcher, so that it holds up none of those that run apart;
- submitted: the runner has it, and its call waits or runs. A call is late when it has lasted longer than
  PROCESS_TIMEOUT, and abandoned when nobody wants its outcome any more (order.py, overtime.py);
- done (done.py): its outcome waits for the loop.
"""
