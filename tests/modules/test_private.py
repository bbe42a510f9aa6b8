"""PyTorch's insides are asked in one file, and say what they are asked for."""

import re
from pathlib import Path

import torch

import fewshot_kit
from fewshot_kit.modules.private import inside_transform, unbatched


def test_nothing_else_touches_them():
    folder = Path(fewshot_kit.__file__).parent
    inside = re.compile(r"torch\._(C|functorch|dynamo|inductor)\b")
    found = [path for path in folder.rglob("*.py") if inside.search(path.read_text())]
    assert [path.relative_to(folder).as_posix() for path in found] == ["modules/private.py"]


def test_a_transform_is_seen_from_inside():
    seen = []

    def look(x):
        seen.append(inside_transform())
        return x.sum()

    x = torch.zeros(2, 3)
    look(x)
    torch.vmap(look)(x)
    torch.func.grad(look)(x)
    assert seen == [False, True, True]
    assert not inside_transform()


def test_unbatched_is_what_all_tasks_have():
    x, seen = torch.arange(12).view(2, 2, 3), []

    def look(one):
        seen.append(unbatched(one))
        return one.sum()

    look(x)
    torch.vmap(look)(x)
    torch.vmap(torch.vmap(look))(x)
    assert len(seen) == 3 and all(torch.equal(each, x) for each in seen)
