"""Therapists and sites: who treats whom, and what that does to levels and lagged effects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alliancedyn.checking import checked
from alliancedyn.errors import SpecificationError
from alliancedyn.simulate.arguments import (
    as_count,
    as_covariance,
    as_lag_sds,
    as_rows,
    as_share,
    factor,
)

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
Rows = tuple[tuple[float, ...], ...]


@checked
@dataclass(frozen=True)
class Therapists:
    """Therapists who differ in the level of their clients' scores.

    Each client has one therapist, drawn at random, so caseloads vary. A therapist's effect is
    N(0, cov) and adds to the clients' ``between_cov``; so does a site's.

    Parameters
    ----------
    n : int
        Number of therapists.
    cov : (k, k), squared score points
        Covariance of the therapist effects.
    phi_sd : (k, k), optional
        SDs of the therapists' effects on their clients' lagged effects.
    switch : float
        Share of clients whose therapist changes once, at a session drawn evenly; the new
        therapist is of the same site. Effects on lags stay those of the first.
    sites : int, optional
        Number of sites, which must divide ``n``; adds a column ``site``.
    site_cov : (k, k), squared score points, optional
        Covariance of the sites' effects on levels.
    site_phi_sd : (k, k), optional
        SDs of the sites' effects on lagged effects.

    Raises
    ------
    SpecificationError
        If ``n`` is below 1 or ``cov`` is not a covariance matrix.
    """

    n: int
    cov: Rows
    phi_sd: Rows | None = None
    switch: float = 0.0
    sites: int | None = None
    site_cov: Rows | None = None
    site_phi_sd: Rows | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", as_count(self.n, 1, "The number of therapists"))
        rows = as_rows(self.cov, "The therapist covariance")
        as_covariance(rows, len(rows), "The therapist covariance")
        object.__setattr__(self, "cov", rows)
        as_share(self.switch, "switch")
        for name in ("phi_sd", "site_cov", "site_phi_sd"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, as_rows(getattr(self, name), name))
        if self.sites is None and (self.site_cov is not None or self.site_phi_sd is not None):
            raise SpecificationError("site_cov and site_phi_sd need sites=, the number of sites.")
        if self.n % as_count(1 if self.sites is None else self.sites, 1, "sites"):
            raise SpecificationError(f"{self.sites} sites cannot share {self.n} therapists evenly.")
        if self.switch > 0.0 and self.n // (self.sites or 1) < 2:
            raise SpecificationError("switch needs at least two therapists at each site.")


@dataclass(frozen=True)
class Caseload:
    """Who treats whom and what it does.

    ``therapist`` and ``site``: codes (N,), or (N, T) where therapists change; site None without
    sites. ``levels`` (N, k), or (T, N, k) where therapists change. ``lags`` (N, k, k) or None.
    """

    therapist: Codes
    site: Codes | None
    levels: Array
    lags: Array | None


def assign(
    therapists: Therapists, k: int, clients: int, sessions: int, rng: np.random.Generator
) -> Caseload:
    """Draw therapists, sites and their effects.

    Raises
    ------
    SpecificationError
        If a matrix is not k by k.
    """
    cov = as_covariance(therapists.cov, k, "The therapist covariance")
    codes = rng.integers(therapists.n, size=clients)
    effects = rng.standard_normal((therapists.n, k)) @ factor(cov).T
    sites = therapists.sites
    home = np.arange(therapists.n) % (sites or 1)
    if sites is not None and therapists.site_cov is not None:
        site_cov = as_covariance(therapists.site_cov, k, "site_cov")
        effects = effects + (rng.standard_normal((sites, k)) @ factor(site_cov).T)[home]
    lags = _effects_on_lags(therapists, k, home, rng)
    own_lags = None if lags is None else lags[codes]
    if therapists.switch > 0.0:
        codes = _switched(therapists, codes, sessions, rng)
    levels = effects[codes] if codes.ndim == 1 else effects[codes.T]
    return Caseload(codes, None if sites is None else home[codes], levels, own_lags)


def _effects_on_lags(
    therapists: Therapists, k: int, home: Codes, rng: np.random.Generator
) -> Array | None:
    """Return each therapist's effect on lags, the site's included: (n, k, k) or None."""
    given: tuple[tuple[Any, Codes], ...] = (
        (therapists.phi_sd, np.arange(therapists.n)),
        (therapists.site_phi_sd, home),
    )
    total: Array | None = None
    for sds, which in given:
        if sds is not None:
            drawn = rng.standard_normal((int(which.max()) + 1, k, k)) * as_lag_sds(sds, k)
            total = drawn[which] if total is None else total + drawn[which]
    return total


def _switched(
    therapists: Therapists, codes: Codes, sessions: int, rng: np.random.Generator
) -> Codes:
    """Return therapists by session, (N, T), some changing once to another of the same site."""
    step = therapists.sites or 1
    other = (codes + step * rng.integers(1, therapists.n // step, size=len(codes))) % therapists.n
    switches = rng.random(len(codes)) < therapists.switch
    when = np.where(switches, rng.integers(2, sessions + 1, size=len(codes)), sessions + 1)
    after = np.arange(1, sessions + 1) >= when[:, None]
    return np.where(after, other[:, None], codes[:, None])
