"""The tables: what is in each, in the order in which it is run, and what others published."""

from __future__ import annotations

from dataclasses import dataclass, field

from .cell import Cell, Test

FIVE_SHOT, ONE_SHOT = Test("5w5s", 5, 5), Test("5w1s", 5, 1)
FIVE_WAY = (ONE_SHOT, FIVE_SHOT)
TWENTY_WAY = (Test("20w1s", 20, 1), Test("20w5s", 20, 5))


@dataclass(frozen=True)
class Row:
    """A line of a table: its cells, each of which has some of the columns, and what was published."""

    cells: tuple[str, ...]
    published: dict[str, str] = field(default_factory=dict)  # by column
    deviation: bool = False  # whether the standard deviation over the episodes is shown too


@dataclass(frozen=True)
class Table:
    """A page: what it says, its cells and its rows."""

    title: str
    says: str
    published: str  # what the published figures are
    columns: tuple[str, ...]
    cells: dict[str, Cell]
    rows: dict[str, Row]
    floor: dict[str, str] = field(default_factory=dict)  # row -> the row without meta-training that it has to beat


NETWORKS = {"CNN": "cnn", "ResNet": "resnet"}
RATES = (3e-4, 1e-3, 3e-3)
UNTRAINED = tuple({"lr": lr, "steps": steps} for lr in RATES for steps in (15, 40))
CLAIMED = {"CNN_MAML": "86", "CNN_BOIL": "83", "ResNet_MAML": "86", "ResNet_BOIL": "90"}


def _futurama() -> Table:
    trained = {
        f"{network}_{algorithm}": {"algorithm": algorithm.lower(), "model": model}
        for algorithm in ("MAML", "BOIL", "ANIL")
        for network, model in NETWORKS.items()
    }
    plain = {f"{network}_untrained": {"algorithm": "finetune", "model": model} for network, model in NETWORKS.items()}
    cells = {}
    for shots, suffix, test in ((5, "", FIVE_SHOT), (1, "_1shot", ONE_SHOT)):
        for name, settings in trained.items():
            asked = {"dataset": "futurama", "shots": shots, **settings}
            cells[name + suffix] = Cell(asked, (test,))
        for name, settings in plain.items():
            asked = {"dataset": "futurama", "shots": shots, "iterations": 0, **settings}
            cells[name + suffix] = Cell(asked, (test,), choices=UNTRAINED)
    names = [name for network in NETWORKS for name in (*trained, *plain) if name.startswith(network)]
    rows = {name: Row((name, f"{name}_1shot"), {"5w5s": CLAIMED[name]} if name in CLAIMED else {}) for name in names}
    return Table(
        "Omniglot's alphabet Futurama: 16 characters to train on, 10 unseen ones to test on",
        "The reference networks of the project. A row *untrained* is the same network as it was made, fine-tuned on "
        "each support set by Adam on all parameters, at the rate and for the steps that do best on the training "
        "characters.",
        "Published are the claims of the scripts that the kit replaces: 100 queries of a few classes, some of them "
        "seen in training, an interval of about 7 points; their meta-training is 30 updates, and what they test is "
        "plain Adam on all parameters.",
        ("5w5s", "5w1s"),
        cells,
        rows,
        {name: f"{name.split('_')[0]}_untrained" for name in trained},
    )


# Name of the algorithm -> published figures of 5w1s, 5w5s, 20w1s, 20w5s.
GRADIENT_BASED = {
    "maml": ("98.7", "99.9", "95.8", "98.9"),
    "meta_curvature": ("99.77", "99.79", "97.86", "99.24"),
    "maml_plus_plus": ("99.47", "99.93", "97.65", "99.33"),
    "boil": (),
    "meta_sgd": ("99.53", "99.93", "95.93", "98.97"),
    "anil": ("", "", "96.2", "98.0"),
    "reptile": ("97.68", "99.48", "89.43", "97.12"),
    "fomaml": ("98.3", "99.2", "89.4", "97.9"),
    "cavia": (),
    "imaml": ("99.50", "99.74", "96.18", "99.14"),
    "meta_lstm": (),
    "mann": ("82.8", "94.9", "", ""),
}
ONE_FOR_ALL = {
    "protonet": ("98.8", "99.7", "96.0", "98.9"),
    "baseline": (),
    "baseline_plus_plus": (),
    "meta_baseline": (),
    "relation_net": ("99.6", "99.8", "97.6", "99.1"),
    "r2d2": ("98.6", "99.7", "94.7", "98.9"),
    "matching_net": ("98.1", "98.9", "93.8", "98.5"),
    "task_conditioned": ("94.9", "97.7", "", ""),
    "laplacian_shot": (),
    "bd_cspn": (),
}
ORDER = (
    "protonet", "baseline", "baseline_plus_plus", "meta_baseline", "maml", "meta_curvature", "maml_plus_plus", "boil",
    "meta_sgd", "anil", "relation_net", "r2d2", "matching_net", "reptile", "mann", "fomaml", "cavia",
    "task_conditioned", "imaml", "meta_lstm", "laplacian_shot", "bd_cspn",
)  # fmt: skip


def _omniglot() -> Table:
    cells, rows = {}, {}
    columns = [test.name for test in (*FIVE_WAY, *TWENTY_WAY)]
    for name in ORDER:
        published = dict(zip(columns, {**GRADIENT_BASED, **ONE_FOR_ALL}[name], strict=False))
        published = {column: figure for column, figure in published.items() if figure}
        asked = {"dataset": "omniglot", "algorithm": name, "model": "conv4"}
        if name in ONE_FOR_ALL:
            cells[name] = Cell(asked, (*FIVE_WAY, *TWENTY_WAY), episodes=1000, by_queries=True)
            rows[name] = Row((name,), published)
        else:
            cells[name] = Cell(asked, FIVE_WAY, episodes=1000, by_queries=True)
            cells[f"{name}_20way"] = Cell({"ways": 20, **asked}, TWENTY_WAY, episodes=1000, by_queries=True)
            rows[name] = Row((name, f"{name}_20way"), published)
    return Table(
        "Omniglot",
        "1,100 characters to train on, 100 to validate, 423 unseen ones to test on. Metric, pre-trained and head "
        "algorithms are trained once for all columns, gradient-based ones once 5-way and once 20-way. "
        "`laplacian_shot` and `bd_cspn` look at all queries of a task together, on the features of `protonet`.",
        "Published are each paper's own figures, under protocols that differ (rotations, steps, queries).",
        tuple(columns),
        cells,
        rows,
    )


MINI = {
    "meta_lstm": ("43.44", "60.60"),
    "maml": ("48.70", "63.11"),
    "boil": ("49.61", "66.45"),
    "protonet": ("49.42", "68.20"),
    "meta_baseline": ("63.17", "79.26"),
}


def _mini_imagenet() -> Table:
    cells, rows = {}, {}
    for name, published in MINI.items():
        asked = {"dataset": "mini_imagenet", "algorithm": name}
        for shots, suffix, test in ((5, "", FIVE_SHOT), (1, "_1shot", ONE_SHOT)):
            cells[name + suffix] = Cell({"shots": shots, **asked}, (test,))
        columns = dict(zip(("5w1s", "5w5s"), published, strict=True))
        rows[name] = Row((f"{name}_1shot", name), columns, deviation=name == "meta_lstm")
    for episodes in (100, 250):  # the replaced script's other numbers of test episodes
        name, asked = f"meta_lstm_{episodes}", {"dataset": "mini_imagenet", "algorithm": "meta_lstm", "shots": 5}
        cells[name] = Cell(asked, (FIVE_SHOT,), episodes=episodes)
        rows[name] = Row((name,), deviation=True)
    cells["baseline"] = Cell({"dataset": "mini_imagenet", "algorithm": "baseline"}, FIVE_WAY)
    rows["baseline"] = Row(("baseline",), {"5w1s": "42.11", "5w5s": "62.53"})
    return Table(
        "mini-ImageNet",
        "64, 16 and 20 classes, as Ravi and Larochelle share them out. `meta_lstm` is shown as the script that it "
        "replaces reports it, with the standard deviation (sd) over its episodes, and over 100, 250 and 600 of them.",
        "Published are figures of the full set; `meta_baseline`'s is of a larger network. The replaced script reports "
        "57.76 (sd 8.6) and 58.14 (sd 8.5) for two seeds of `meta_lstm`, 5w5s, 600 episodes.",
        ("5w1s", "5w5s"),
        cells,
        rows,
    )


def _sinusoid() -> Table:
    tests = tuple(
        Test(f"K={shots}, {steps} step{'s' * (steps != 1)}", 1, shots, {"steps": steps})
        for shots in (5, 10, 20)
        for steps in (0, 1, 5, 10)
    )
    varies = {"shots": 5, "dataset_options": {"frequency_spread": 0.2}}
    cells = {
        f"{algorithm}{suffix}": Cell(
            {"dataset": "sinusoid", "engine": "vmap", "compile": True, "algorithm": algorithm, **asked},
            tests if algorithm == "maml" else tuple(test for test in tests if test.options["steps"] < 2),
        )
        for suffix, asked in (("", {}), ("_frequencies", varies))
        for algorithm in ("maml", "meta_sgd")
    }
    published = {
        "maml": {"K=5, 1 step": "0.67", "K=5, 5 steps": "0.38", "K=5, 10 steps": "0.35"},
        "maml_frequencies": {"K=5, 1 step": "1.13", "K=10, 1 step": "0.85", "K=20, 1 step": "0.71"},
        "meta_sgd_frequencies": {"K=5, 1 step": "0.90", "K=10, 1 step": "0.63", "K=20, 1 step": "0.50"},
    }
    return Table(
        "Sinusoids",
        "Mean squared error after so many inner steps, of tasks with K examples, trained with K=10 and one step, by a "
        "network of twice the paper's width. In the rows *frequencies* the frequency varies (0.8 to 1.2, as in "
        "Meta-SGD's waves), and training has K=5. Meta-SGD learns its rates for the one step, "
        "and is not asked for more.",
        "Published are MAML's, and those of Meta-SGD's table in the rows *frequencies*.",
        tuple(test.name for test in tests),
        cells,
        {name: Row((name,), published.get(name, {})) for name in cells},
    )


TABLES = {
    "futurama": _futurama(),
    "omniglot": _omniglot(),
    "mini_imagenet": _mini_imagenet(),
    "sinusoid": _sinusoid(),
}
