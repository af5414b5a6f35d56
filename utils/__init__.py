"""The packages of the worker. logger.py and retry.py are for worker.py, too: their paths stay for ever."""
