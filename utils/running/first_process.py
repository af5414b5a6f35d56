"""SIGTERM, from the first moment on, for the first process of a container. Imported before all that takes time.

The kernel drops a signal for which process 1 of a container has no handler: one that came while the libraries were
being imported left the worker running until it was killed. `stop_on_signals` takes over where there is something to end
in order. A process that is not the first one ends by SIGTERM anyway.
"""

import os
import signal

if os.getpid() == 1:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
