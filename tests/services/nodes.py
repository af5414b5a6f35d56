"""The processes of pytest-xdist, forked from one Python that has imported the tests: each takes half the CPU to begin.

with forked_nodes(["tests/"]): ...      (in the first process: those that it starts in here)
"""

import contextlib
import subprocess
from collections.abc import Iterator, Sequence

from execnet import gateway_io
from execnet.gateway_base import ExecModel, Popen2IO

from tests.services.starts import Forked, Template, shared_starts


@contextlib.contextmanager
def forked_nodes(tests: Sequence[str]) -> Iterator[None]:
    """Where these tests cannot be imported, or execnet is another than today, each is started in full."""
    usual = gateway_io.Popen2IOMaster
    with shared_starts(*tests) as path, contextlib.closing(Template(path)) as template:

        class Node(usual):  # type: ignore[valid-type, misc]
            def __init__(self, args: Sequence[str], execmodel: ExecModel) -> None:
                try:
                    code = args[args.index("-c") :]
                    self.popen = Forked(template, code, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                except (OSError, RuntimeError, ValueError):
                    super().__init__(args, execmodel)
                else:
                    Popen2IO.__init__(self, self.popen.stdin, self.popen.stdout, execmodel)

        gateway_io.Popen2IOMaster = Node  # type: ignore[misc]
        try:
            yield
        finally:
            gateway_io.Popen2IOMaster = usual  # type: ignore[misc]
