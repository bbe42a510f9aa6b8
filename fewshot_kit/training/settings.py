"""The settings of a training run: their defaults, their checks, and how a run records them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..options import check_settings
from ..ranges import check_counts, check_rate
from .schedules import check_schedule

# Runs of earlier versions lack these, and had the usual values.
LATER = ("augmentation", "init", "validation_ways", "test_options", "exact", "on_nan")
RUNNING = ("engine", "chunk", "workers", "compile", "unfold")


@dataclass(frozen=True)
class TrainingSettings:
    """The settings of `meta_train` that decide a run's results. `meta_train` documents each of them.

    The command line has the same defaults, and its recipes override them.

    Raises:
        InputError: a setting cannot be used.
    """

    ways: int = 5
    shots: int = 1
    queries: int = 5
    iterations: int = 10800
    meta_batch: int = 6
    meta_lr: float = 0.003
    schedule: str = "cosine"
    seed: int = 0
    validate_every: int = 1200
    validation_episodes: int = 200
    validation_queries: int = 15
    engine: str = "auto"
    chunk: int | None = None
    workers: int | None = None
    compile: bool = False
    unfold: bool = False
    augmentation: str = "none"
    init: str | Path | None = None
    validation_ways: int | None = None  # None: as in training
    exact: bool = False
    test_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    on_nan: str = "stop"

    def __post_init__(self) -> None:
        # Here, since these import torch, and the command line's help needs the defaults alone.
        from ..engines.selection import check_running
        from ..seeds import check_seed
        from .augmentation import check_augmentation
        from .finite import check_on_nan

        check_counts(ways=self.ways, shots=self.shots, queries=self.queries, meta_batch=self.meta_batch)
        check_counts(0, iterations=self.iterations)
        check_counts(validate_every=self.validate_every, validation_episodes=self.validation_episodes)
        check_counts(validation_queries=self.validation_queries, validation_ways=self.tested_ways)
        check_rate(meta_lr=self.meta_lr)
        check_seed(self.seed)
        check_schedule(self.schedule)
        check_augmentation(self.augmentation)
        check_on_nan(self.on_nan)
        if self.exact and (self.engine not in ("auto", "loop") or self.workers not in (None, 1)):
            raise InputError(
                f"exact runs one episode at a time by the engine 'loop'; leave engine='{self.engine}' and "
                f"workers={self.workers} out."
            )
        check_running(**self.running, tasks=self.meta_batch)

    @property
    def tested_ways(self) -> int:
        """The number of classes in a validation episode."""
        return self.ways if self.validation_ways is None else self.validation_ways

    @property
    def running(self) -> dict[str, Any]:
        """The settings of the engine, as arguments of `engines.choose`."""
        asked = {name: getattr(self, name) for name in RUNNING}
        return asked | ({"engine": "loop", "workers": 1} if self.exact else {})

    def run_as(self, before: TrainingSettings) -> TrainingSettings:
        """Returns these settings, with engine settings that are at their defaults taken from `before`.

        They stay as they are if they name another engine than `before`.
        """
        if self.engine not in ("auto", before.engine):
            return self
        unsaid = {name for name, value in self.running.items() if value in ("auto", None, False)}
        return dataclasses.replace(self, **{name: getattr(before, name) for name in unsaid})

    def recorded(self) -> dict[str, Any]:
        """Returns the section `training` of `config.yaml`, without those of `LATER` that are at their defaults."""
        found = {name: getattr(self, name) for name in NAMES} | {"meta_lr": float(self.meta_lr)}
        found |= {"init": self.init and str(self.init), "validation_ways": self.tested_ways}
        defaults = TrainingSettings()
        usual = {name: getattr(defaults, name) for name in LATER} | {"validation_ways": self.ways}
        return {name: value for name, value in found.items() if name not in usual or value != usual[name]}

    @classmethod
    def from_config(cls, config: dict[str, Any], source: str | Path = "config.yaml") -> TrainingSettings:
        """Returns the settings of a run, from the content of its `config.yaml`, which messages call `source`.

        Raises:
            InputError: a value that no run has.
        """
        recorded = {name: value for name, value in (config.get("training") or {}).items() if name in NAMES}
        check_settings(recorded, {setting.name: setting.type for setting in dataclasses.fields(cls)}, str(source))
        return cls(**recorded)


USUAL = TrainingSettings  # whose attributes are the defaults; an instance would check them
NAMES = tuple(setting.name for setting in dataclasses.fields(TrainingSettings))
