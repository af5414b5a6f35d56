"""Services that processes of a test run share: started once, by the owner, and stopped by it."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import pytest

from tests.services.processes import Unavailable
from tests.services.shared import RemoteServices, Services


@dataclass
class Counted:
    """A service that counts its starts and stops."""

    starts: int = 0
    stops: int = 0
    description: str = "a service"

    @contextmanager
    def started(self) -> Iterator["Counted"]:
        self.starts += 1
        yield Counted(self.starts)
        self.stops += 1


def unavailable() -> AbstractContextManager[Counted]:
    raise Unavailable("no such program")


def test_a_service_is_started_when_it_is_first_asked_for_and_once_for_all() -> None:
    service = Counted()
    services = Services({"counted": service.started})
    remote = RemoteServices(*services.address())
    assert (service.starts, services.told()) == (0, {})
    answers: list[Counted] = []
    asking = [threading.Thread(target=lambda: answers.append(remote.get("counted"))) for _ in range(8)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert [*answers, services.get("counted")] == [Counted(1)] * 9
    assert services.told()["counted"].startswith("a service, up in ")
    assert service.stops == 0
    services.close()
    assert (service.starts, service.stops) == (1, 1)


def test_another_process_is_told_what_was_started() -> None:
    services = Services({"counted": Counted().started})
    path, key = services.address()
    asked = f"RemoteServices({path!r}, {key!r}).get('counted').description"
    code = f"from tests.services.shared import RemoteServices; print({asked})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    services.close()
    assert done.stdout == "a service\n", done.stderr


def test_why_a_service_cannot_be_had_is_told_to_all_who_ask() -> None:
    services = Services({"none": unavailable})
    remote = RemoteServices(*services.address())
    for _ in range(2):
        with pytest.raises(Unavailable, match="no such program"):
            remote.get("none")
        with pytest.raises(Unavailable, match="no such program"):
            services.get("none")
    services.close()


@pytest.mark.xdist_group("told")
def test_tests_of_a_group_are_told_as_such_to_whoever_shares_them_out(request: pytest.FixtureRequest) -> None:
    """Else each process would start what the group shares."""
    in_a_process_of_many = hasattr(request.config, "workerinput")
    assert request.node.nodeid.endswith("@told") == in_a_process_of_many
