"""Names for models, algorithms and data sets, open to other packages through entry points."""

from __future__ import annotations

import difflib
import fnmatch
import inspect
import warnings
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from .errors import InputError, UnknownName, first_line

Factory = TypeVar("Factory", bound=Callable[..., Any])


def _article(word: str) -> str:
    return ("an " if word[0] in "aeiou" else "a ") + word


def _where(factory: Callable[..., Any]) -> str:
    return f"{factory.__module__}.{getattr(factory, '__qualname__', factory)}"


def closest(name: str, names: list[str]) -> str:
    """`" Did you mean 'x'?"` for the nearest of `names`, or nothing when none is near."""
    near = difflib.get_close_matches(name, names, n=1)
    return f" Did you mean '{near[0]}'?" if near else ""


class Registry:
    """Factories (classes or functions) by name.

    Args:
        kind: what is registered, in the singular (`"algorithm"`); the entry-point group is
            `fewshot_kit.<kind>s`. A plug-in's entry point is loaded on the first miss or listing.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.group = f"fewshot_kit.{kind}s"
        self._factories: dict[str, Callable[..., Any]] = {}
        self._broken: dict[str, str] = {}
        self._plugins_loaded = False

    def register(self, name: str) -> Callable[[Factory], Factory]:
        """Decorator that gives a class or function an explicit name. A name taken twice raises `InputError`."""

        def decorate(factory: Factory) -> Factory:
            taken = self._factories.get(name)
            if taken is not None:
                raise InputError(
                    f"The {self.kind} name '{name}' is taken by {_where(taken)}; give {_where(factory)} another one."
                )
            self._factories[name] = factory
            return factory

        return decorate

    def names(self, pattern: str = "*") -> list[str]:
        """The registered names that match a shell pattern, sorted."""
        self._load_plugins()
        return sorted(fnmatch.filter(self._factories, pattern))

    def get(self, name: str) -> Callable[..., Any]:
        """The factory of that name; `UnknownName` with the nearest name otherwise."""
        if name not in self._factories:
            self._load_plugins()
        if name in self._factories:
            return self._factories[name]
        if name in self._broken:
            raise InputError(self._broken[name])
        known = self.names()
        raise UnknownName(
            f"Unknown {self.kind} '{name}'.{closest(name, known)}\n"
            f'Available: {", ".join(known)}.  Add one with @{self.kind}s.register("{name}").'
        )

    def create(self, name: Any, /, **options: Any) -> Any:
        """What the factory of that name makes of the options.

        An object in place of a name is handed back as it is, so registering stays optional. What was
        made remembers how, as `recipe` (name and options), so that a run folder can make it again.

        Raises:
            UnknownName: no such name.
            InputError: an option that the factory does not have, or one that is missing.
        """
        if not isinstance(name, str):
            if options:
                raise InputError(
                    f"The options {', '.join(options)} need {_article(self.kind)} name, not an object that is made already."
                )
            return name
        factory = self.get(name)
        self._check(name, factory, options)
        made = factory(**options)
        plain = {key: value for key, value in options.items() if not callable(value)}
        made.recipe = {"name": name, "options": plain, "complete": set(options) - set(plain) <= {"model"}}
        return made

    def _check(self, name: str, factory: Callable[..., Any], options: dict[str, Any]) -> None:
        signature = inspect.signature(factory)
        try:
            signature.bind(**options)
        except TypeError as error:
            names = [p.name for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
            shown = signature.replace(return_annotation=inspect.Signature.empty)
            unknown = [option for option in options if option not in names]
            said = f"has no option '{unknown[0]}'.{closest(unknown[0], names)}" if unknown else f"needs more: {error}."
            raise InputError(f"The {self.kind} '{name}' {said} It is made as {name}{shown}.") from None

    def _load_plugins(self) -> None:
        if self._plugins_loaded:
            return
        self._plugins_loaded = True
        for entry in entry_points(group=self.group):
            try:
                self._load(entry)
            except Exception as error:  # a plug-in may fail in any way; it must not take the kit with it
                source = entry.dist.name if entry.dist else entry.value
                said = f"The plug-in '{source}' failed to load its {self.kind} '{entry.name}': {first_line(error)}."
                self._broken[entry.name] = said
                warnings.warn(said, stacklevel=4)

    def _load(self, entry: EntryPoint) -> None:
        loaded = entry.load()
        if self._factories.get(entry.name) is not loaded and not inspect.ismodule(loaded):
            self.register(entry.name)(loaded)
