"""A deterministic simulation: the worker's own code over a model of Kafka, in model time, driven by drawn schedules.

schedule.py   what is run: a setup and a list of actions, drawn from bytes, printed, shrunk
world.py      carries the actions out, then lets all come to its end
process.py    one process: the real Worker, supervised as in main.py, stopped and killed between any two calls
clients.py    stand-ins for Kafka's clients; broker.py behind them: logs, transactions, the group
oracle.py     the ledger: what was sent, what became of it, and the promises of the design
explore.py    draws schedules with Hypothesis until a promise is broken, and makes that one short
comparison.py the same schedules on the model and on a real broker, step by step; sides.py: the two, alike to look at
mutants.py    bugs planted on purpose, which must be found; planting.py: as patches of source text

Real are framework.py and all of utils/ but the clients and the executor's threads. Not simulated: threads of process()
beside the loop (it begins and ends between two calls, in any order), the network below a request, the disk of a broker.
"""
