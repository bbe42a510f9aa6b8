"""`fewshot-kit train | evaluate | adapt | list | doctor`."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from . import commands
from .config import add_flags
from .errors import KitError


def build_parser() -> argparse.ArgumentParser:
    """The command line; every command's function is its `run` default."""
    parser = argparse.ArgumentParser(prog="fewshot-kit", description="Few-shot learning in PyTorch.")
    commands_ = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        added = commands_.add_parser(name, help=text, description=text, allow_abbrev=False)
        added.set_defaults(run_command=run)
        added.add_argument("--json", action="store_true", help="print one JSON object, for programs")
        return added

    train = command("train", commands.train, "Meta-train an algorithm, then test it on unseen classes.")
    train.add_argument(
        "--config", metavar="FILE", help="YAML file of settings, or a run's config.yaml; flags go before it"
    )
    train.add_argument("--resume", action="store_true", help="go on with the run in the run folder")
    add_flags(train)

    evaluate = command("evaluate", commands.evaluate, "Accuracy of a run on unseen classes, with a 95% interval.")
    evaluate.add_argument("folder", metavar="RUN", help="run folder")
    evaluate.add_argument("--split", default="test", choices=["train", "validation", "test"], help="(default: test)")
    evaluate.add_argument("--episodes", type=int, default=600, metavar="N", help="test tasks (default: 600)")
    evaluate.add_argument("--batch-norm", metavar="POLICY", help="transductive, support or running; default: the run's")
    add_flags(
        evaluate, ["dataset", "dataset_options", "algorithm_options", "ways", "shots", "queries", "seed", "device"]
    )

    adapt = command("adapt", commands.adapt, "Adapt a run to your own images and classify others.")
    adapt.add_argument("folder", metavar="RUN", help="run folder")
    adapt.add_argument("support", metavar="SUPPORT_FOLDER", help="a folder of class folders of labelled images")
    adapt.add_argument("query", metavar="QUERY", nargs="+", help="images to classify, or folders of images")
    adapt.add_argument("--batch-norm", metavar="POLICY", help="transductive, support or running; default: the run's")
    adapt.add_argument("--save", metavar="FILE", help="keep the adapted learner in a file")
    add_flags(adapt, ["algorithm_options"])

    listing = command("list", commands.list_names, "What there is by name.")
    listing.add_argument("kind", nargs="?", choices=["models", "algorithms", "datasets"], help="(default: all)")
    listing.add_argument("pattern", nargs="?", default="*", help="shell pattern, such as '*maml*'")

    command("doctor", commands.doctor, "Versions, devices, data, and how to mend what is wrong.")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit status is 0, 1 if `doctor` found a fault, 2 for a user's mistake, 130 if interrupted."""
    arguments = build_parser().parse_args(argv)
    try:
        status: int = arguments.run_command(arguments)
        sys.stdout.flush()
        return status
    except KitError as error:
        if arguments.json:
            print(json.dumps({"error": str(error)}))
        print(f"fewshot-kit: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        print(f"fewshot-kit: {stopped or 'interrupted'}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `fewshot-kit list | head`
        sys.stderr.close()
        return 0
