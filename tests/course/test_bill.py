"""The bill of a plan."""

import pytest

from rlhf_lab.course.bill import Machine, Work, bill
from rlhf_lab.errors import UserError


def test_a_bill_by_hand():
    # 3.6e15 at half of 1e12 a second: 7,200 s, two hours; at 1e14 and a tenth, 360 s.
    plan = {"rate": Work(labels=6000, each=0.02), "train": Work(flops=3.6e15)}
    table = bill(plan, {"slow": Machine(1e12, 0.5, 0.1), "fast": Machine(1e14, 0.1, 2.0)})
    assert list(table.index) == ["rate", "train", "all"]
    assert table.loc["rate"].tolist() == pytest.approx([6000, 120, 0, 0, 0, 0])
    assert table.loc["train"].tolist() == pytest.approx([0, 0, 2, 0.2, 0.1, 0.2])
    assert table.loc["all"].tolist() == pytest.approx([6000, 120, 2, 0.2, 0.1, 0.2])


@pytest.mark.parametrize("machine", [Machine(0, 0.5, 1), Machine(1e12, 0, 1), Machine(1e12, 50, 1)])
def test_a_machine_that_cannot_be_is_named(machine):
    with pytest.raises(UserError, match="machine 'mine'"):
        bill({}, {"mine": machine})
