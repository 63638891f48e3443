"""How an option is stated: once, as a field of a frozen dataclass that says all there is to know of it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, dataclass_transform

from transforms.errors import UsageError

_Given = TypeVar("_Given", contravariant=True)
_Kept = TypeVar("_Kept", covariant=True)
_Class = TypeVar("_Class", bound=type)


class Taken(Generic[_Given, _Kept]):
    """Tells type checkers that a field takes more types than it keeps; there is no such object."""

    if TYPE_CHECKING:

        def __get__(self, instance: Any, owner: Any = None) -> _Kept: ...
        def __set__(self, instance: Any, value: _Given) -> None: ...


Text = Taken["str | int | os.PathLike[str]", str]
Texts = Taken["str | os.PathLike[str] | Sequence[str | os.PathLike[str]]", tuple[str, ...]]


def _texts(value: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> tuple[str, ...]:
    """Several strings, of which one may stand alone."""
    return tuple(map(str, (value,) if isinstance(value, (str, os.PathLike)) else value))


# By a field's type as it is written: the type of its values, what a value is called (nothing for flags), and
# what makes what is kept of what Python takes; the option may say otherwise.
_KINDS: dict[str, tuple[type, str | None, Callable[[Any], Any] | None]] = {
    "bool": (bool, None, None),
    "int": (int, "N", None),
    "float": (float, "SECONDS", None),
    "str": (str, "NAME", None),
    "Text": (str, "NAME", str),
    "Texts": (tuple, "NAME", _texts),
}


@dataclasses.dataclass(frozen=True)
class Option:
    """What an option is for people and for programs.

    Attributes:
      name: as in Python.
      type: str, int, float, bool, or tuple of str.
      default: MISSING where it must be given.
      group: where `--help` shows it.
      help: one phrase, without a full stop.
      metavar: what its value is called; None for flags and choices.
      choices: the values that there are; empty where others do.
      least: the smallest number.
      parse: makes a value of what is typed, where that is not what Python takes.
      convert: makes what is kept of what Python takes.
      unset: what holds where it is left open, in words.
      typed: whether the command line has it.
      compared: whether a rerun that asks for another value is told that the job is another one.
      chosen: whether the job chooses where it is left open, so that a rerun may leave it open too.
    """

    name: str
    type: type
    default: Any
    group: str
    help: str
    metavar: str | None
    choices: tuple[str, ...] = ()
    least: float | None = None
    parse: Callable[[str], Any] | None = None
    convert: Callable[[Any], Any] | None = None
    unset: str | None = None
    typed: bool = True
    compared: bool = True
    chosen: bool = False

    @property
    def required(self) -> bool:
        return self.default is dataclasses.MISSING

    @property
    def flag(self) -> str:
        return flag(self.name)


def flag(name: str) -> str:
    """An option as it is typed."""
    return f"--{name.replace('_', '-')}"


def option(help: str, *, default: Any = dataclasses.MISSING, **about: Any) -> Any:
    """A field that is an option; `about` as in Option, `choices` may also be what returns them.

    Without a default it must be given; what is not said follows from the field's type and class.
    """
    return dataclasses.field(default=default, metadata={"help": help, **about})


@dataclass_transform(kw_only_default=True, field_specifiers=(option, dataclasses.field))
def group(cls: _Class) -> _Class:
    """A frozen dataclass of options (declared so that a checker knows the types of Taken fields)."""
    return dataclasses.dataclass(frozen=True, kw_only=True)(cls)  # type: ignore[return-value]


class Group:
    """A group of options.

    Attributes:
      title: of the group in `--help`.
    """

    title: ClassVar[str]
    if TYPE_CHECKING:
        __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


def _option(field: dataclasses.Field[Any], title: str) -> Option:
    kind, metavar, convert = _KINDS[field.type.partition(" ")[0]]
    about: dict[str, Any] = {"group": title, "metavar": metavar, "convert": convert} | field.metadata
    if choices := about.get("choices"):
        about |= {"choices": tuple(choices() if callable(choices) else choices), "metavar": None}
    return Option(field.name, kind, field.default, **about)


def stated(*groups: type[Group]) -> list[Option]:
    """The options of some groups, in the order in which they stand there."""
    return [
        _option(field, cls.title)
        for cls in groups
        for field in dataclasses.fields(cls)
        if "help" in field.metadata and field.name in cls.__annotations__
    ]


def convert(instance: Group, options: Sequence[Option]) -> None:
    """Puts what is kept in the place of what was given."""
    for one in options:
        if one.convert is not None:
            object.__setattr__(instance, one.name, one.convert(getattr(instance, one.name)))


def check(instance: Group, options: Sequence[Option]) -> None:
    """Choices and smallest numbers.

    Raises:
      UsageError: names the option, its value and what was expected.
    """
    for one in options:
        value = getattr(instance, one.name)
        if one.choices and value is not None and value not in one.choices:
            expected = f"one of {', '.join(one.choices)}"
        elif one.least is not None and value is not None and value < one.least:
            expected = f"a number of {one.least} or more"
        else:
            continue
        raise UsageError(f"{one.name} {value}: expected {expected}", argument=one.name)
