"""What results that show themselves share: equality, frames, and how they are made from those of packages below."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from modiste import runs
from modiste.errors import UsageError

if TYPE_CHECKING:
    from modiste.experiments.studies import StudyFolder

T = TypeVar("T")


class Equal:
    """Equality of a subclass with what the packages below give: by the fields of the dataclass that both are."""

    base: ClassVar[type[Any]]

    def __eq__(self, other: object) -> bool:
        compared = [one.name for one in fields(self.base) if one.compare]
        return isinstance(other, self.base) and all(getattr(self, name) == getattr(other, name) for name in compared)

    def __hash__(self) -> int:
        return super().__hash__()


def upgraded(kind: type[T], value: Any) -> T:
    """A result of a package below as the subclass that shows itself."""
    return kind(**{one.name: getattr(value, one.name) for one in fields(value)})


def frame_of(rows: Iterable[Mapping[str, Any]]) -> Any:
    """A pandas frame with a row for each mapping; UsageError where pandas is not installed."""
    try:
        pandas = import_module("pandas")
    except ImportError:
        raise UsageError("pandas is not installed, and frame() needs it; run pip install pandas") from None
    return pandas.DataFrame([dict(row) for row in rows])


def path_of(what: str | Path | runs.Run | StudyFolder) -> str | Path:
    """The path of a run or study, given as such or as its folder."""
    return what if isinstance(what, str | Path) else what.path
