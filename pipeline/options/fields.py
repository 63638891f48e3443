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
_ABOUT = "option"


class Taken(Generic[_Given, _Kept]):
    """Tells type checkers that a field takes more types than it keeps; there is no such object."""

    if TYPE_CHECKING:

        def __get__(self, instance: Any, owner: Any = None) -> _Kept: ...
        def __set__(self, instance: Any, value: _Given) -> None: ...


Text = Taken["str | int | os.PathLike[str]", str]
Texts = Taken["str | os.PathLike[str] | Sequence[str | os.PathLike[str]]", tuple[str, ...]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class About:
    """What an option is for people and for programs.

    Attributes:
      help: one phrase, without a full stop.
      metavar: what its value is called; None for flags and choices.
      choices: the values that there are, or what returns them; empty where others do.
      least: the smallest number.
      parse: makes a value of what is typed, where that is not what Python takes.
      convert: makes what is kept of what Python takes.
      unset: what holds where it is left open, in words.
      group: where `--help` shows it, if not with its class.
      typed: whether the command line has it.
      compared: whether a rerun that asks for another value is told that the job is another one.
      chosen: whether the job chooses where it is left open, so that a rerun may leave it open too.
    """

    help: str
    metavar: str | None = None
    choices: Sequence[str] | Callable[[], Sequence[str]] = ()
    least: int | None = None
    parse: Callable[[str], Any] | None = None
    convert: Callable[[Any], Any] | None = None
    unset: str | None = None
    group: str | None = None
    typed: bool = True
    compared: bool = True
    chosen: bool = False


def option(help: str, *, default: Any = dataclasses.MISSING, **about: Any) -> Any:
    """A field that is an option; `about` as in About. Without a default it must be given."""
    return dataclasses.field(default=default, metadata={_ABOUT: About(help=help, **about)})


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


@dataclasses.dataclass(frozen=True)
class Stated:
    """An option with its name, its type (str, int, bool, or tuple of str), its default and its group."""

    name: str
    type: type
    default: Any
    group: str
    about: About

    @property
    def required(self) -> bool:
        return self.default is dataclasses.MISSING

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    @property
    def choices(self) -> tuple[str, ...]:
        choices = self.about.choices
        return tuple(choices() if callable(choices) else choices)


def stated(*groups: type[Group]) -> list[Stated]:
    """The options of some groups, in the order in which they stand there."""
    types = {"bool": bool, "int": int, "Texts": tuple}
    return [
        Stated(f.name, types.get(f.type.partition(" ")[0], str), f.default, about.group or cls.title, about)
        for cls in groups
        for f in dataclasses.fields(cls)
        if (about := f.metadata.get(_ABOUT)) is not None and f.name in cls.__annotations__
    ]


def convert(instance: Group) -> None:
    """Puts what is kept in the place of what was given."""
    for field in dataclasses.fields(instance):
        about = field.metadata.get(_ABOUT)
        if about is not None and about.convert is not None:
            object.__setattr__(instance, field.name, about.convert(getattr(instance, field.name)))


def check(options: Group, all_stated: Sequence[Stated]) -> None:
    """Choices and smallest numbers.

    Raises:
      UsageError: names the option, its value and what was expected.
    """
    for one in all_stated:
        value, least = getattr(options, one.name), one.about.least
        if one.choices and value not in one.choices:
            expected = f"one of {', '.join(one.choices)}"
        elif least is not None and value is not None and value < least:
            expected = f"a number of {least} or more"
        else:
            continue
        raise UsageError(f"{one.name} {value}: expected {expected}", argument=one.name)


def text(value: str | int | os.PathLike[str]) -> str:
    return str(value)


def texts(value: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> tuple[str, ...]:
    """Several strings, of which one may stand alone."""
    return tuple(map(str, (value,) if isinstance(value, (str, os.PathLike)) else value))
