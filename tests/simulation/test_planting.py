"""Patches of source text: that they reach every place which a function was imported to, and that a misfit is told."""

from types import SimpleNamespace

import pytest

from tests.builders import partition_offsets
from tests.simulation.planting import Misfit, Patch, copied, planted
from utils.joining import offsets
from utils.joining.offsets import PartitionOffsets, checksum

FILE = "utils/joining/offsets.py"
CUT = Patch(FILE, "return self.states.cut()", "return 42")


def test_a_method_is_another_one_while_the_patch_is_planted_and_itself_again_afterwards() -> None:
    made_before = partition_offsets(7)
    with planted([CUT]):
        assert made_before.lowest_unfinished() == 42
    assert made_before.lowest_unfinished() == 7


def test_a_property_a_static_method_and_a_function_that_others_have_imported_are_changed_too() -> None:
    patches = [
        Patch(FILE, "return self.states.base", "return 42"),
        Patch(
            FILE,
            "        if not (fields := _fields(",
            "        raise ZeroDivisionError\n        if not (fields := _fields(",
        ),
        Patch(FILE, "return f\"{zlib.crc32(body.encode('utf-8', 'surrogatepass')):08x}\"", 'return "sum"'),
    ]
    with planted(patches):
        assert partition_offsets(7).base == 42
        assert checksum("text") == "sum"
        with pytest.raises(ZeroDivisionError):
            offsets.OffsetMap.parse("text")


def test_what_was_copied_before_stays_as_it_was() -> None:
    lowest = copied(PartitionOffsets.lowest_unfinished)
    with planted([CUT]):
        assert lowest(SimpleNamespace(states=SimpleNamespace(cut=lambda: 1))) == 1


@pytest.mark.parametrize(
    ("patch", "why"),
    [
        (Patch(FILE, "return self.states.slice()", "return 42"), "stands there 0 times"),
        (Patch(FILE, "return", "return 42"), "stands there .* times"),
        (CUT._replace(new=CUT.old), "stands there 1 times"),
        (Patch(FILE, "MAX_METADATA = 4095", "MAX_METADATA = 1"), "not within"),
        (Patch(FILE, "def lowest_unfinished(self)", "def lowest_unfinished(self, more)"), "not within"),
        (CUT._replace(new="return return"), "invalid syntax"),
        (CUT._replace(new="return lowest(self)"), "would use"),
        (CUT._replace(new="return [lowest(each) for each in self.states]"), "would use"),
        (CUT._replace(new="return super().cut()"), "variables around it"),
    ],
)
def test_a_patch_that_does_not_fit_is_told(patch: Patch, why: str) -> None:
    with pytest.raises(Misfit, match=why), planted([patch]):
        raise AssertionError
