"""The within-client part that the families share: lagged effects, innovations, the first session.

First order, with an optional step of the cross-lags from one session on::

    w_t = phi w_{t-1} + v_t,   v_t ~ N(0, innovation_cov),   w_1 ~ N(0, initial_cov)

Second order adds phi2 w_{t-2} from the third session on; the first two sessions then have a free
joint covariance. Its state holds w_t and w_{t+1}, so that both are there from the start.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alliancedyn.engine import names
from alliancedyn.engine.assembly import block_diagonal, join
from alliancedyn.engine.kalman import StateSpace
from alliancedyn.engine.likelihood import Implied
from alliancedyn.engine.starting import Moments
from alliancedyn.engine.system import EVERY, Block, Matrices, Slots, covariance, entries, matrix
from alliancedyn.engine.var import stationary_cov
from alliancedyn.models.design import NEXT, Design
from alliancedyn.models.options import Options

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class Within:
    """System matrices of the within-client part.

    Parameters
    ----------
    phi, psi : (..., S, d, d)
        Transition and innovation covariance by slot; d = k, or 2 k with second-order lags.
    phi_at, psi_at : (T,) int
        Slot used into each session.
    initial : (..., d, d)
        Covariance at the first session.
    """

    phi: Array
    phi_at: Index
    psi: Array
    psi_at: Index
    initial: Array

    @property
    def size(self) -> int:
        """Number d of states."""
        return int(self.phi.shape[-1])


def cross(variables: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return the pairs (outcome, predictor) of different series."""
    return [(a, b) for a in variables for b in variables if a != b]


def within_blocks(spec: Options, design: Design) -> list[Block]:
    """Return the parameters of the within-client part."""
    v, units = design.variables, design.units
    into: Slots = design.sessions[spec.order :]
    blocks = [matrix("phi", v, v, units, into if spec.lags == "free" else EVERY)]
    if spec.order == 2:
        blocks.append(matrix("phi2", v, v, units, into if spec.lags == "free" else EVERY))
    if spec.step is not None:
        blocks.append(entries("step", cross(v), units, (spec.step,)))
    free = spec.innovations == "free"
    blocks.append(covariance("innovation_cov", v, units, into if free else EVERY))
    if spec.initial == "free":
        blocks.append(covariance("initial_cov", first_session(spec, design), units))
    return blocks


def within(spec: Options, matrices: Matrices, design: Design) -> Within:
    """Return the system matrices of the within-client part."""
    phi, psi = matrices["phi"], matrices["innovation_cov"]
    later = np.maximum(np.arange(design.n_sessions) - 1, 0)
    phi_at, psi_at = (later * (slots.shape[-3] > 1) for slots in (phi, psi))
    if spec.step is not None:
        phi = join([phi, phi + _step_matrix(matrices["step"], design.k)], -3)
        phi_at = (np.array(design.sessions) >= spec.step).astype(np.int64)
    if spec.order == 2:
        phi = _companion(phi, matrices["phi2"])
        psi = block_diagonal(np.zeros_like(psi), psi)
        if spec.step is not None:  # the state leads by a session
            phi_at = np.append(phi_at[1:], phi_at[-1])
        phi_at, psi_at = (
            np.minimum(at, slots.shape[-3] - 1) for at, slots in ((phi_at, phi), (psi_at, psi))
        )
    initial = matrices.get("initial_cov")
    first = (
        stationary_cov(phi[..., 0, :, :], psi[..., 0, :, :])
        if initial is None
        else initial[..., 0, :, :]
    )
    return Within(phi, phi_at, psi, psi_at, first)


def _step_matrix(step: Array, k: int) -> Array:
    """Off-diagonal elements (..., 1, k (k - 1)), row by row, as matrices with a zero diagonal."""
    out = np.zeros((*step.shape[:-1], k, k), step.dtype)
    rows, columns = np.nonzero(~np.eye(k, dtype=bool))
    out[..., rows, columns] = step
    return out


def _companion(phi: Array, phi2: Array) -> Array:
    """Transition of (w_t, w_{t+1}): w_{t+2} = phi w_{t+1} + phi2 w_t + v."""
    k = phi.shape[-1]
    below = join([phi2, phi], -1)
    above = np.broadcast_to(join([np.zeros((k, k)), np.eye(k)], -1), below.shape)
    return join([above, below], -2)


def start_within(spec: Options, rough: Moments, design: Design) -> Matrices:
    """Return starting values of the within-client part."""
    k = design.k
    slots = {block.family: block.shape[0] for block in within_blocks(spec, design)}
    start = {
        "phi": rough.phi,
        "phi2": np.zeros((k, k)),
        "step": np.zeros(k * (k - 1)),
        "innovation_cov": rough.innovation,
        "initial_cov": rough.within,
    }
    if spec.order == 2:
        ahead = rough.phi @ rough.within
        start["initial_cov"] = np.block([[rough.within, ahead.T], [ahead, rough.within]])
    return {family: np.repeat(start[family][None], n, axis=0) for family, n in slots.items()}


def series_system(
    part: Within, mean: Array, design: Design, stable: Array | None = None
) -> StateSpace:
    """Return the system of series that are mean + within part (+ constant stable part)."""
    k, d = design.k, part.size
    index = np.arange(k)[:, None]
    initial = part.initial
    if stable is not None:
        index = np.column_stack([np.arange(k), d + np.arange(k)])
        initial = block_diagonal(part.initial, stable)
    return StateSpace(
        phi=part.phi,
        phi_at=part.phi_at,
        psi=part.psi,
        psi_at=part.psi_at,
        mean=mean,
        mean_at=design.at_every(mean.shape[-2]),
        initial_cov=initial,
        load_index=index,
        load=np.ones((1, *index.shape)),
        load_at=design.at_every(1),
        noise=np.zeros((1, k)),
        noise_at=design.at_every(1),
        drive=np.zeros((initial.shape[-1], 0)),
    )


def settled(spec: Options, design: Design) -> Implied:
    """Return the first session's covariance of a stationary process as implied."""
    first = first_session(spec, design)
    upper = np.triu_indices(len(first))

    def values(matrices: Matrices) -> Array:
        return within(spec, matrices, design).initial[..., upper[0], upper[1]]

    return Implied(tuple(names.symmetric_labels("initial_cov", first)), values)


def first_session(spec: Options, design: Design) -> tuple[str, ...]:
    """Return what the covariance at the start is of: with second-order lags two sessions."""
    v = design.variables
    return v if spec.order == 1 else (*v, *(name + NEXT for name in v))
