"""A model as paths between scores and factors: what every program says in its own words.

A path is a loading, a regression, a covariance or a mean. Its value is the canonical name of a
parameter, or the number at which it is fixed; with groups there is one value for each. Equations
are polynomials in parameters: the covariance of a stationary process, a step of a lagged effect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from alliancedyn.engine import names
from alliancedyn.errors import SpecificationError, listed

Kind = Literal["loading", "regression", "covariance", "mean"]
Value = str | float
Values = tuple[Value, ...]
Term = tuple[float, tuple[str, ...]]


@dataclass(frozen=True)
class Node:
    """A score, a factor or a covariate.

    Parameters
    ----------
    role : str
        ``score``, ``covariate`` and ``input`` are columns of the data; the others are factors.
    variable : str
        The series, item or covariate.
    session : int, optional
        Session number, for whatever has one.
    """

    role: str
    variable: str
    session: int | None = None

    @property
    def observed(self) -> bool:
        """Whether it is a column of the data."""
        return self.role in ("score", "covariate", "input")


@dataclass(frozen=True)
class Path:
    """One statement of a model.

    Parameters
    ----------
    kind : {"loading", "regression", "covariance", "mean"}
    left : Node
        The factor that is measured, the outcome, the first of two, or what has the mean.
    right : Node or None
        The indicator, the predictor, the second of two (``left`` itself for a variance); None for
        a mean.
    values : tuple of str or float
        Canonical name or fixed value, one per group (one without groups).
    """

    kind: Kind
    left: Node
    right: Node | None
    values: Values


@dataclass(frozen=True)
class Equation:
    """A parameter that is a polynomial in others: the sum of weight x product of names.

    Parameters
    ----------
    name : str
        Canonical name.
    terms : tuple of (float, tuple of str)
    defines : bool
        Whether the parameter is on no path, and exists by this equation alone.
    """

    name: str
    terms: tuple[Term, ...]
    defines: bool = False


@dataclass(frozen=True)
class Section:
    """Paths that belong together, under a heading.

    Parameters
    ----------
    title : str
    paths : tuple of Path
    """

    title: str
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class PathModel:
    """A model, ready to be written out.

    Parameters
    ----------
    sections : tuple of Section
    equations : tuple of Equation
    """

    sections: tuple[Section, ...]
    equations: tuple[Equation, ...] = ()

    @property
    def paths(self) -> Iterator[Path]:
        """Every path, in order."""
        return (path for section in self.sections for path in section.paths)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Every node once, in order of appearance."""
        seen: dict[Node, None] = {}
        for path in self.paths:
            seen[path.left] = None
            if path.right is not None:
                seen[path.right] = None
        return tuple(seen)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Every parameter once, by name, in order of appearance."""
        seen = {
            value: None for path in self.paths for value in path.values if isinstance(value, str)
        }
        return tuple({**seen, **{equation.name: None for equation in self.equations}})


@dataclass(frozen=True)
class Vocabulary:
    """The parameters that a specification has, asked for by meaning.

    Parameters
    ----------
    names : frozenset of str
        Canonical names.
    groups : tuple of str
        The group part of names, such as ``arm=1``; empty without groups.
    fixed : mapping
        Canonical name to the value at which it is held.
    """

    names: frozenset[str]
    groups: tuple[str, ...] = ()
    fixed: Mapping[str, float] = field(default_factory=dict)

    def find(self, family: str, *indices: str, session: int | None = None) -> Values | None:
        """Return the parameter by group, its own session's before that of all; None if absent.

        The two indices of a covariance may come in either order.
        """
        orders = [indices]
        if len(indices) == 2 and family.endswith("_cov"):
            orders.append((indices[1], indices[0]))
        values = []
        for group in self.groups or (None,):
            candidates = [
                names.label(family, *order, session=at, group=which)
                for which in dict.fromkeys((group, None))
                for at in dict.fromkeys((session, None))
                for order in orders
            ]
            found: list[Value] = [name for name in candidates if name in self.names]
            found += [self.fixed[name] for name in candidates if name in self.fixed]
            if not found:
                return None
            values.append(found[0])
        return tuple(values)

    def get(self, family: str, *indices: str, session: int | None = None) -> Values:
        """Return the parameter by group, as :meth:`find` does.

        Raises
        ------
        SpecificationError
            If the specification has no such parameter.
        """
        values = self.find(family, *indices, session=session)
        if values is None:
            wanted = names.label(family, *indices, session=session)
            raise SpecificationError(
                f"The text would need {wanted}, which this model does not have "
                f"(it has {listed(sorted(self.names))}). Leave out the option that changes it."
            )
        return values

    def same(self, value: float) -> Values:
        """Return a fixed value for every group."""
        return (value,) * max(1, len(self.groups))
