"""Episodes that have a generator each: drawn together, and the same as if each were drawn alone."""

from __future__ import annotations

import pytest
import torch

from fewshot_kit.datasets import Split
from fewshot_kit.datasets.splits.sampler import ROTATIONS
from fewshot_kit.errors import InputError
from fewshot_kit.seeds import stream

FEW, UNEQUAL, MANY = [600] * 20, [30, 20, 25, 20], [20_000] * 3


def split(counts: list[int], rotations: str = "none") -> Split:
    """Every example is its own number, in every pixel."""
    x = torch.arange(sum(counts), dtype=torch.float32)[:, None, None, None].expand(-1, 1, 2, 2)
    y = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return Split(x, y, [str(label) for label in range(len(counts))], rotations=rotations)


def generators(seed: int = 0, count: int = 5) -> list[torch.Generator]:
    return [stream(seed, "evaluation", index) for index in range(count)]


@pytest.mark.parametrize("counts", [FEW, UNEQUAL, MANY])
@pytest.mark.parametrize("rotations", ROTATIONS)
@pytest.mark.parametrize("dirichlet", [None, 2.0])
def test_together_they_are_what_each_is_alone(counts, rotations, dirichlet):
    source, task = split(counts, rotations), {"ways": 3, "shots": 1, "queries": 3, "dirichlet": dirichlet}
    together = source.episodes(**task, meta_batch=5, generator=generators(3))
    alone = [source.episodes(**task, meta_batch=1, generator=each) for each in generators(3)]
    for name, found in together._asdict().items():
        assert torch.equal(found, torch.cat([getattr(one, name) for one in alone])), name
    drawn = source.draw(3, 4, 5, generators(3))
    turns = torch.cat([source.draw(3, 4, 1, each).turns for each in generators(3)])
    assert torch.equal(drawn.turns, turns) and (rotations == "none") == (not turns.any())


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (FEW, [[1302, 10536, 2711, 1477, 10517, 2789], [54, 9780, 3496, 173, 9848, 3468]]),
        (UNEQUAL, [[63, 77, 31, 50, 88, 49], [18, 58, 85, 12, 73, 80]]),
        (MANY, [[41203, 23320, 5823, 49447, 33841, 17222], [4012, 40814, 36309, 4313, 45391, 20196]]),
    ],
)
def test_the_episodes_of_recorded_evaluations(counts, expected):
    """Recorded runs and committed tables have figures of the episodes that these streams give."""
    drawn = split(counts).episodes(3, 1, 1, 2, generators(count=2))
    assert torch.cat([drawn.support_x, drawn.query_x], 1)[:, :, 0, 0, 0].long().tolist() == expected


def test_one_of_them_that_is_none():
    with pytest.raises(InputError, match="The generator is 7; give torch.Generator"):
        split(UNEQUAL).episodes(3, 1, 1, 2, [torch.Generator(), 7])
