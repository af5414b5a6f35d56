"""What a worker is made of: ids of transactions."""

from utils.running.assembly import transactional_id


def test_no_two_consumers_have_a_transactional_id_in_common() -> None:
    assert transactional_id("shop", "eu-1") != transactional_id("shop-eu", "1")
    assert transactional_id("shop", "-/1") != transactional_id("shop-", "1")
    assert transactional_id("shop", "") != transactional_id("shop", "")
    assert transactional_id("shop", "1") == transactional_id("shop", "1"), "over restarts"


def test_rights_by_prefix_hold_for_every_transactional_id() -> None:
    assert all(transactional_id("shop", each).startswith("shop-") for each in ("", "eu-1", "/"))
