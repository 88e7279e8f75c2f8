"""One run in several processes: `accelerate launch` starts the same program in each of them.

Each process holds every model and all the data, and goes through every update. The slow work is
shared: each process samples, reads and computes gradients for its own rows. Whatever depends on the
whole batch is then summed over the processes, so that all of them continue with the same numbers.
Nothing is averaged: a process divides its losses by the tokens or prompts of the whole batch, not
of its share, so the parts add up to the batch's loss and gradient however unequal the shares are.

All processes must make these calls, in the same order: a sum waits for every one of them. The same
is true of functions that use them, such as sampling or scoring: called by the main process alone,
they wait forever. With a single process each function returns its input.
"""

import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from rlhf_lab.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

Rows = TypeVar("Rows", list[int], list[list[int]], "Tensor")
Summed = TypeVar("Summed", "Tensor", float, dict[str, float])


def count() -> int:
    """How many processes there are."""
    # Accelerate's PartialState knows this too. But creating the first one fixes the device and
    # waits for the other processes, and only `make_accelerator` should do that.
    group = sys.modules.get("torch.distributed")  # where nobody has loaded it there is no group
    if group is None or not group.is_available() or not group.is_initialized():
        return 1
    return group.get_world_size()


def number() -> int:
    """Which of the processes this is; 0 is the main one."""
    return sys.modules["torch.distributed"].get_rank() if count() > 1 else 0


def is_main() -> bool:
    """Whether this is the one process that writes files and prints."""
    return number() == 0


def shard(rows: Rows) -> Rows:
    """This process's share of some rows, dealt out in turn: if the rows are sorted by length, all
    shares are about equally long. A share may be empty."""
    return rows[number() :: count()]


def total(x: Summed) -> Summed:
    """The sum over the processes, the same in all of them: of a tensor, of a number, or of each
    number in a dict. Rows that only one process has filled, and that are 0 in the others, come out
    as they went in."""
    if count() == 1:
        return x
    import torch
    from accelerate import PartialState
    from accelerate.utils import reduce

    if isinstance(x, dict):
        return dict(zip(x, total(torch.tensor(list(x.values()), dtype=torch.float64)).tolist()))
    if not isinstance(x, torch.Tensor):
        return total(torch.tensor(x, dtype=torch.float64)).item()
    return reduce(x.detach().to(PartialState().device).contiguous(), "sum").to(x.device)


def largest(x: float) -> float:
    """The largest of the processes' numbers, the same in all of them."""
    if count() == 1:
        return x
    import torch

    numbers = torch.zeros(count(), dtype=torch.float64)
    numbers[number()] = x
    return float(total(numbers).max())


def sum_gradients(parameters: "Sequence[nn.Parameter]") -> None:
    """Put the sum over the processes in place of each gradient. A process that had no rows adds
    nothing; a parameter without a gradient in any process stays without one."""
    if count() == 1:
        return
    import torch

    there = total(torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32))
    for p, somewhere in zip(parameters, there.tolist()):
        if somewhere:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            torch.distributed.all_reduce(p.grad)


def once(do: Callable[..., object], *arguments: object) -> None:
    """Have the main process do something, such as write a file; the others wait until it is
    done."""
    if is_main():
        do(*arguments)
    if count() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()


def check_same(what: str, value: int) -> None:
    """Raise UserError, in every process, unless `value`, a whole number that depends on `what`, is
    the same in all of them."""
    import torch

    values = torch.zeros(count(), dtype=torch.int64)
    values[number()] = value
    if (total(values) != value).any():
        raise UserError(f"the processes differ in {what}")


def check_same_weights(parameters: "Collection[nn.Parameter]") -> None:
    """Raise UserError if the processes do not begin with the same weights: as all take
    the same steps, their models would stay different."""
    if count() > 1:
        check_same(
            "the weights they start with: load one folder, or create the model from one seed",
            checksum(parameters),
        )


def checksum(parameters: "Iterable[nn.Parameter]") -> int:
    """A checksum of the weights: the sum of their bytes, which is exact on every device."""
    import torch

    raw = (p.detach().reshape(-1).view(torch.uint8) for p in parameters)
    return sum(int(x.sum(dtype=torch.int64)) for x in raw)


def check_minibatches(rows: int, parts: int) -> None:
    """Raise UserError unless every process gets a row of each of the minibatches that
    `Tensor.tensor_split` makes of these rows."""
    smallest = rows // parts
    if smallest < count():
        raise UserError(
            f"a minibatch of {smallest} cannot be shared by {count()} "
            f"process{'es' * (count() > 1)}: raise batch_size, or use fewer minibatches or "
            "processes"
        )
