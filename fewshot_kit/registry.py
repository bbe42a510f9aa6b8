"""Registries of models, algorithms and data sets by name. Other packages can add names through entry points."""

from __future__ import annotations

import contextlib
import difflib
import fnmatch
import functools
import inspect
import pkgutil
import re
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, TypeVar

from .errors import InputError, UnknownName, brief, closest, first_line
from .foreign import Failed, contained
from .options import options_of, plain_options

Factory = TypeVar("Factory", bound=Callable[..., Any])

# Python's message if a factory passes options on to another function that does not have them.
_REFUSED = re.compile(r"(?:unexpected|multiple values for) keyword argument '(\w+)'")


def _where(factory: Callable[..., Any]) -> str:
    return f"{factory.__module__}.{getattr(factory, '__qualname__', factory)}"


class Registry:
    """Factories (classes or functions) by name.

    Args:
        kind: the registered kind in the singular (`"algorithm"`). The entry-point group is `fewshot_kit.<kind>s`.
            Plug-ins are loaded on the first miss or listing.
        elsewhere: names that the kit registers where this room may not import from, each with the place of its
            factory, which is imported when it is asked for.
    """

    def __init__(self, kind: str, elsewhere: Mapping[str, str] = MappingProxyType({})) -> None:
        self.kind = kind
        self.elsewhere = elsewhere
        self.group = f"fewshot_kit.{kind}s"
        self._factories: dict[str, Callable[..., Any]] = {}
        self._broken: dict[str, tuple[str, BaseException | None]] = {}
        self._libraries: dict[str, tuple[Callable[[], list[str]], Callable[..., Any]]] = {}
        self._plugins_loaded = False

    def register(self, name: str) -> Callable[[Factory], Factory]:
        """Returns a decorator that registers a class or function. It raises `InputError` if the name is taken."""

        def decorate(factory: Factory) -> Factory:
            taken, mine = self._factories.get(name), _where(factory)
            there = self.elsewhere.get(name, mine) if taken is None else _where(taken)
            if taken is not None or there != mine:
                raise InputError(f"The {self.kind} name '{name}' is taken by {there}; give {mine} another one.")
            self._factories[name] = factory
            return factory

        return decorate

    def add_library(self, prefix: str, names: Callable[[], list[str]], make: Callable[..., Any]) -> None:
        """Adds another package's names as `PREFIX/NAME`.

        Neither function is called before such a name is asked for.

        Args:
            names: returns all NAMEs. A suffix after a dot, which selects weights, is left to `make`.
            make: `make(NAME, **options)`.
        """
        self._libraries[prefix] = names, make

    def names(self, pattern: str = "*") -> list[str]:
        """Returns the registered names that match a shell pattern, sorted. `"timm/*net*"` matches a library's names."""
        prefix, slash, rest = pattern.partition("/")
        if slash and prefix in self._libraries:
            return [f"{prefix}/{name}" for name in sorted(fnmatch.filter(self._libraries[prefix][0](), rest))]
        self._load_plugins()
        return sorted(fnmatch.filter({*self._factories, *self.elsewhere}, pattern))

    def full_name(self, name: str) -> str:
        """Completes an unregistered name by the first library that has it: `"resnet18"` is `"torchvision/resnet18"`.

        Any other name is returned as it is. A library that is not installed has no names.
        """
        if name in self._factories or name in self.elsewhere or name.partition("/")[0] in self._libraries:
            return name
        self._load_plugins()
        if name in self._factories or name in self._broken or "/" in name:
            return name
        for prefix, (names, _) in self._libraries.items():
            with contextlib.suppress(InputError):
                if name in names():
                    return f"{prefix}/{name}"
        return name

    def knows(self, name: str) -> bool:
        """Returns whether the name is registered, is in a library, or begins with a library's prefix."""
        name = self.full_name(name)
        return name.partition("/")[0] in self._libraries or name in self._factories or name in self.elsewhere

    def get(self, name: str) -> Callable[..., Any]:
        """Returns the factory of that name.

        Raises:
            UnknownName: no such name; the message has the nearest one.
            InputError: the name belongs to a plug-in that failed to load.
        """
        name = self.full_name(name)
        prefix, slash, rest = name.partition("/")
        if slash and prefix in self._libraries:
            return self._of_library(prefix, rest)
        if name in self._factories:
            return self._factories[name]
        if name in self.elsewhere:
            factory: Callable[..., Any] = pkgutil.resolve_name(self.elsewhere[name])
            return factory
        if name in self._broken:
            said, cause = self._broken[name]
            raise InputError(said) from cause
        known = self.names() + [f"{prefix}/NAME" for prefix in self._libraries]
        raise UnknownName(
            f"Unknown {self.kind} '{brief(name)}'.{closest(name, known)}\n"
            f'Available: {", ".join(known)}.  Add one with @{self.kind}s.register("{brief(name)}").'
        )

    def _of_library(self, prefix: str, name: str) -> Callable[..., Any]:
        names, make = self._libraries[prefix]
        there = names()
        if name.partition(".")[0] not in there:
            near = difflib.get_close_matches(name, there, n=1)
            meant = f" Did you mean '{prefix}/{near[0]}'?" if near else ""
            raise UnknownName(
                f"Unknown {self.kind} '{prefix}/{brief(name)}'.{meant} "
                f"List them with: fewshot-kit list {self.kind}s '{prefix}/*'."
            )
        factory = functools.partial(make, name)
        factory.__doc__ = f"{name} of {prefix}."
        return factory

    def create(self, name: Any, /, **options: Any) -> Any:
        """Calls the factory of that name with the options, and returns the object.

        An object in place of a name is returned as it is, so registering is optional. The new object has a `recipe`
        (name and plain options), from which a run folder can make it again. `recipe["complete"]` is False if an option
        other than `model` is not plain and was left out.

        Raises:
            UnknownName: no such name.
            InputError: an option that the factory does not have, or one that is missing.
        """
        if not isinstance(name, str):
            if options:
                raise InputError(
                    f"The options {', '.join(options)} go with the name of a registered {self.kind}; "
                    f"{type(name).__name__} is an object that is made already."
                )
            return name
        name = self.full_name(name)
        factory = self.get(name)
        made = self._call(name, factory, options)
        plain = plain_options(options)
        made.recipe = {"name": name, "options": plain, "complete": set(options) - set(plain) <= {"model"}}
        return made

    def _call(self, name: str, factory: Callable[..., Any], options: dict[str, Any]) -> Any:
        signature = options_of(factory)
        try:
            signature.bind(**options)
        except TypeError as error:
            unknown = [option for option in options if option not in signature.parameters]
            raise self._refusal(name, signature, unknown[0] if unknown else None, error) from None
        try:
            return factory(**options)
        except TypeError as error:
            refused = _REFUSED.search(str(error))
            if refused is None or refused[1] not in options:
                raise
            raise self._refusal(name, signature, refused[1], error) from error

    def _refusal(self, name: str, signature: inspect.Signature, option: str | None, error: TypeError) -> InputError:
        shown = [p for p in signature.parameters.values() if p.name != option and p.kind is not p.VAR_KEYWORD]
        if option is None:
            said = f"needs more: {first_line(error)}."
        else:
            said = f"has no option '{option}'.{closest(option, [p.name for p in shown])}"
        return InputError(f"The {self.kind} '{name}' {said} It is made as {name}{inspect.Signature(shown)}.")

    def _load_plugins(self) -> None:
        if self._plugins_loaded:
            return
        self._plugins_loaded = True
        for entry in entry_points(group=self.group):
            try:
                with contained():
                    self._load(entry)
            except Failed as error:
                source = (entry.dist and entry.dist.name) or entry.value  # damaged metadata have no name
                said = f"The plug-in '{source}' failed to load its {self.kind} '{entry.name}' ({error})."
                self._broken[entry.name] = said, error.__cause__
                warnings.warn(said, stacklevel=4)

    def _load(self, entry: EntryPoint) -> None:
        loaded = entry.load()  # its module may have used `register` itself
        if self._factories.get(entry.name) is not loaded and not inspect.ismodule(loaded):
            if not callable(loaded):
                raise InputError(f"{entry.value} is of type {type(loaded).__name__} and makes nothing")
            self.register(entry.name)(loaded)
