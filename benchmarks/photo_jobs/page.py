"""The results as a Markdown page; every figure is read from results.json."""

from __future__ import annotations

from typing import Any

Results = dict[str, Any]


def page(results: Results) -> str:
    """The page."""
    machine = results["machine"]
    return "\n".join(
        [
            "# A trained network and a few photos",
            "",
            "Written by `python benchmarks/few_photos.py`; every figure is read from results.json, beside this.",
            f"{results['weights']}; photos: {results['data']}, {results['episodes']} episodes, 5-way, 15 queries a "
            "class. **The network has seen these classes**: the figures compare heads, and stand beside no figure of a "
            "network trained from scratch.",
            "Everybody gets the same features of the same photos in the same episodes, in one run: mean accuracy in "
            "%, the half width of its 95% interval, and the median milliseconds of an episode "
            f"({machine['threads']} thread of {machine['processor']}, {machine['date']}).",
            "",
            *_heads(results),
            "",
            "Transductive methods look at all queries of a task together. Under Dirichlet(2) the queries' classes are "
            "as unbalanced as in alpha-TIM's paper, and methods that suppose them balanced fall.",
            "",
            "![Accuracy of every head](heads.png)",
            "",
            "## What a learner expects to be right",
            "",
            "`learner.expected` of ridge regression, told by its support set alone, beside the truth; and how often "
            "its 95% interval held the accuracy on the episode's 75 queries.",
            "",
            "| shots | expected | true | interval held |",
            "|---|---|---|---|",
            *(
                f"| {row['shots']} | {_percent(row['expected'])} | {_percent(row['true'])} | {row['covered']:.0%} |"
                for row in results["expected"]
            ),
            "",
            "## The whole network on photos",
            "",
            "`adapt(network, photos)`, embedding and queries included; the other algorithms by name, without options, "
            "on one task.",
            "",
            "| shots | | tasks | accuracy | seconds a task | it said |",
            "|---|---|---|---|---|---|",
            *_whole(results),
            "",
            "## 1,000 episodes of prototypes on features",
            "",
            "`evaluate` with `simple_shot` beside easyfsl's own loop with SimpleShot, drawing included.",
            "",
            "| shots | kit | easyfsl | easyfsl's time by the kit's |",
            "|---|---|---|---|",
            *(
                f"| {row['shots']} | {row['kit']:.2f} s | {row['easyfsl']:.2f} s | {row['easyfsl'] / row['kit']:.1f} |"
                for row in results["prototypes"]
            ),
            "",
        ]
    )


def _heads(results: Results) -> list[str]:
    settings = results["settings"]
    lines = [f"| head | | {' | '.join(settings)} | ms, {' / '.join(list(settings)[:2])} |", f"|---|---|{'---|' * 5}"]
    best = {
        (setting, kind): max(row["accuracy"] for row in rows if row["transductive"] == kind)
        for setting, rows in settings.items()
        for kind in (False, True)
    }
    for kind in (False, True):
        for number, row in enumerate(next(iter(settings.values()))):
            if row["transductive"] != kind:
                continue
            same = {setting: rows[number] for setting, rows in settings.items()}
            cells = [_cell(each, best[setting, kind]) for setting, each in same.items()]
            spent = " / ".join(f"{each['milliseconds']:.2g}" for each in list(same.values())[:2])
            what = f"{row['whose']}{', transductive' if kind else ''}"
            lines.append(f"| {row['name']} | {what} | {' | '.join(cells)} | {spent} |")
    return lines


def _cell(row: dict[str, Any], best: float) -> str:
    figure = f"{100 * row['accuracy']:.2f} ± {100 * row['interval']:.2f}"
    return f"**{figure}**" if row["accuracy"] == best else figure


def _whole(results: Results) -> list[str]:
    return [
        f"| {whole['shots']} | {row['name']} | {row['tasks']} | {_percent(row['accuracy'])} | {row['seconds']:.1f} | "
        f"{row['said'].replace('|', '/')} |"
        for whole in results["whole"]
        for row in whole["rows"]
    ]


def _percent(share: float | None) -> str:
    return "not known" if share is None else f"{100 * share:.1f}"
