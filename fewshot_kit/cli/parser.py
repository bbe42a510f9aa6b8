"""The parser of the command line, `fewshot-kit train | evaluate | adapt | list | cache | doctor`."""

from __future__ import annotations

import argparse
import contextlib
import os
import pkgutil
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from .. import __version__
from ..errors import InputError, closest
from ..ranges import check_counts
from . import launch
from .flags import SHEET, add_flags, number, one_by_one, whole
from .output import visible, without_traceback
from .plugins import add_plugin_flag, load_plugins

EDITED = "use the run's config.yaml%s as it is, even if it was edited"
POLICIES = "transductive, support or running (default: the run's)"


class _Parser(argparse.ArgumentParser):
    """A parser that prints one sentence in place of argparse's usage and message."""

    def error(self, message: str) -> NoReturn:
        choice = re.fullmatch(r"argument (\S+): invalid choice: '(.*)' \(choose from (.*)\)", message, re.DOTALL)
        if choice:
            names = re.findall(r"[\w-]+", choice[3])
            message = f"{choice[1]} cannot be '{choice[2]}', only {', '.join(names)}.{closest(choice[2], names)}"
        raise InputError(f"{message.rstrip('.?')}{'?' if message.endswith('?') else '.'} See {self.prog} --help.")


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser. Each command's `run_command` is the place of its function, as `"commands:train"`."""
    parser = _Parser(prog="fewshot-kit", description="Few-shot learning in PyTorch.")
    parser.add_argument("--version", action="version", version=f"fewshot-kit {__version__}")
    parser.set_defaults(run_command=None, parser=parser)
    commands_ = parser.add_subparsers(metavar="COMMAND")

    def command(name: str, run: str, text: str) -> argparse.ArgumentParser:
        added = commands_.add_parser(name, help=text.replace("%", "%%"), description=text, allow_abbrev=False)
        added.set_defaults(run_command=run, parser=added)
        added.add_argument("--json", action="store_true", help="print one JSON object, for programs")
        added.add_argument("--quiet", action="store_true", help="the result only: no bars, notices and warnings")
        add_plugin_flag(added)
        return added

    train = command("train", "commands:train", "Meta-train an algorithm, then test it on unseen classes.")
    train.add_argument(
        "--config", metavar="FILE", help="YAML file of settings, or a run's config.yaml; flags win over it"
    )
    train.add_argument("--resume", action="store_true", help="go on with the run in the run folder")
    train.add_argument("--accept-edited", action="store_true", help=EDITED % " and metrics.jsonl")
    train.add_argument(
        "--profile", action="store_true", help="write a trace and the ten heaviest operators into the run folder"
    )
    train.add_argument(
        "--processes",
        type=whole,
        default=1,
        metavar="N",
        help="share the work among N processes of this machine; on several machines use torchrun (docs/scaling.md)",
    )
    add_flags(train)

    evaluate = command("evaluate", "commands:evaluate", "Accuracy of a run on unseen classes, with a 95% interval.")
    evaluate.add_argument("folder", metavar="RUN", help="run folder")
    evaluate.add_argument("--split", default="test", choices=["train", "validation", "test"], help="(default: test)")
    evaluate.add_argument("--accept-edited", action="store_true", help=EDITED % "")
    evaluate.add_argument("--episodes", type=whole, default=600, metavar="N", help="test tasks (default: 600)")
    evaluate.add_argument("--batch-norm", metavar="POLICY", help=POLICIES)
    evaluate.add_argument(
        "--dirichlet",
        type=number,
        metavar="ALPHA",
        help="class proportions of the queries from Dirichlet(ALPHA), such as 2 (default: as many of every class)",
    )
    add_flags(evaluate, ["dataset", "dataset_options", "algorithm_options"], default="the run's")
    add_flags(evaluate, ["ways", "shots", "queries", "seed"], default="the run's")
    add_flags(evaluate, ["device"])

    adapt = command("adapt", "adapt_command:adapt", "Classify your own images, after a few labelled ones.")
    adapt.add_argument(
        "source",
        metavar="SOURCE",
        help="a run folder; a network with weights, as timm/NAME with --model-options weights=FILE; or a saved learner",
    )
    adapt.add_argument(
        "images",
        metavar="SUPPORT QUERY",
        nargs="+",
        help="a folder of class folders of labelled images (not with a saved learner), then the images to classify, or "
        "folders of images",
    )
    adapt.add_argument(
        "--batch-norm",
        metavar="POLICY",
        help="as in evaluate, but where a run's is transductive the default is support, if the network allows it: "
        "each image is classified by itself",
    )
    adapt.add_argument("--accept-edited", action="store_true", help=EDITED % "")
    adapt.add_argument("--save", metavar="FILE", help="keep the adapted learner in a file")
    adapt.add_argument("--csv", metavar="FILE", help="write the predictions, with the probability of every class")
    adapt.add_argument(
        "--sheet",
        metavar="FILE",
        help=f"the contact sheet, a PNG of every image with its prediction (default: {SHEET}; with --json none)",
    )
    adapt.add_argument("--no-sheet", action="store_true", help="no contact sheet")
    add_flags(adapt, ["algorithm"], default="auto, of a network; a run's is its own")
    add_flags(adapt, ["algorithm_options", "model_options"], default="the run's, or the usual ones")

    listing = command("list", "listing:list_names", "What there is by name.")
    listing.add_argument("kind", nargs="?", choices=["models", "algorithms", "datasets"], help="(default: all)")
    listing.add_argument("pattern", nargs="?", default="*", help="shell pattern, such as '*maml*'")
    listing.add_argument(
        "--for",
        dest="suited_to",
        metavar="RUN_OR_DATASET",
        help="the algorithms by their measured accuracy where classes, images, ways and shots were nearest to these",
    )
    add_flags(listing, ["ways", "shots", "dataset_options"])

    cache = command("cache", "commands:cache", "Where what was computed once is kept, and how large it is.")
    cache.add_argument("--clear", action="store_true", help="remove it: the files that the kit wrote, and no others")

    command("doctor", "commands:doctor", "Versions, devices, data, and how to mend what is wrong.")
    return parser


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    arguments, rest = build_parser().parse_known_args(one_by_one(argv))
    if rest:
        parser = arguments.parser
        unknown = [word.split("=")[0] for word in rest if word.startswith("-")]
        if not unknown:
            parser.error(f"'{rest[0]}' is one argument too many")
        flags = [flag for action in parser._actions for flag in action.option_strings]
        parser.error(f"There is no flag {unknown[0]}.{closest(unknown[0], flags)}")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. The exit status is 0, 1 if `doctor` finds a fault, 2 for a user's mistake, 130 on Ctrl-C."""
    argv = sys.argv[1:] if argv is None else argv
    return without_traceback(lambda: _run(argv), as_json="--json" in argv)


def _run(argv: Sequence[str]) -> int:
    arguments = _parse(argv)
    if arguments.run_command is None:
        arguments.parser.print_help(sys.stderr)
        return 2
    with contextlib.ExitStack() as stack:
        if arguments.quiet:  # hides bars, notices and warnings of all libraries; errors are printed outside
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        stack.enter_context(_plain_warnings())
        processes = getattr(arguments, "processes", 1)
        check_counts(processes=processes)
        if not (arguments.plugin or launch.launched()):  # which may register more; a group says once what is wrong
            from .names import check_names

            check_names(arguments)
        if processes > 1 and not launch.launched():
            return launch.start(arguments.processes, argv)
        load_plugins(arguments.plugin)
        # Only now, since most commands import torch, which takes seconds.
        return int(pkgutil.resolve_name(f"{__package__}.{arguments.run_command}")(arguments))


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Prints warnings as a sentence, without the place in the source."""
    before = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, UserWarning):
            print(f"fewshot-kit: {visible(str(message))}", file=sys.stderr)
        else:
            before(message, category, *place, **more)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before
