"""Numbers in float64 for the tests of formulas."""

import torch


def t(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def close(actual, expected, atol=1e-9):
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(
        torch.as_tensor(actual, dtype=torch.float64), expected, rtol=0, atol=atol, equal_nan=True
    )


def random(*shape, seed=0, scale=1.0):
    return scale * torch.randn(
        *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
