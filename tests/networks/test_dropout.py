"""Dropout's share, scale, gradient and determinism."""

from __future__ import annotations

import pytest
import torch

from modiste.networks.dropout import Dropout


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_share_dropped_is_right_and_the_mean_stays(rate: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    count = 2_000_001  # no multiple of the four places that a draw decides about
    output = Dropout(rate)(torch.ones(count, dtype=dtype))
    share = (output == 0).float().mean().item()
    assert share == pytest.approx(rate, abs=5 * (rate * (1 - rate) / count) ** 0.5 + 2e-5)
    kept = output[output != 0].unique()
    assert len(kept) == 1 and kept.item() == pytest.approx(1 / (1 - rate), rel=1e-4 if dtype == torch.float32 else 4e-3)


def test_places_are_independent_of_their_neighbours() -> None:
    torch.manual_seed(1)
    dropped = (Dropout(0.3)(torch.ones(1_000_000)) == 0).float() - 0.3
    for distance in (1, 2, 3, 4, 8):
        assert abs((dropped[:-distance] * dropped[distance:]).mean().item()) < 5 * 0.21 / 1000


def test_the_same_seed_gives_the_same_places_in_any_layout_and_the_gradient_is_the_output_s_factor() -> None:
    maps = torch.ones(4, 6, 5, 5).contiguous(memory_format=torch.channels_last).requires_grad_(True)
    torch.manual_seed(2)
    first = Dropout(0.4)(maps)
    first.sum().backward()
    assert first.is_contiguous(memory_format=torch.channels_last) and torch.equal(maps.grad, first)
    torch.manual_seed(2)
    assert torch.equal(Dropout(0.4)(maps), first)
    torch.manual_seed(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(Dropout(0.4)(maps) == 0, first == 0)


def test_nothing_is_dropped_in_evaluation_and_all_at_a_rate_of_one() -> None:
    values = torch.ones(10)
    assert torch.equal(Dropout(0.5).eval()(values), values)
    assert torch.equal(Dropout(0.0)(values), values)
    assert torch.equal(Dropout(1.0)(values), torch.zeros(10))
