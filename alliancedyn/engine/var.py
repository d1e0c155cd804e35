"""The algebra of a first-order vector autoregression, and its time-ordered (structural) form.

Within-client deviations w_t (k,) follow

    w_t = Phi w_{t-1} + v_t,    Cov(v_t) = Psi,

rows of ``Phi`` being outcomes and columns predictors. When one of two scores is taken before the
session (p) and the other after it (q), the same process in the order in which things happen is

    p_t = phi_p p_{t-1} + b q_{t-1}                + u_t      after t-1 -> before t
    q_t = phi_q q_{t-1} + g p_t     + h p_{t-1}    + e_t      before t  -> after t

with u_t and e_t uncorrelated. The seven quantities (phi_p, phi_q, b, g, h, Var u, Var e) and the
seven of (Phi, Psi) determine each other. Arrays here are ordered (after, before), as alliance and
symptoms usually are. Everything is in score points per score point.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alliancedyn.errors import SpecificationError

Array = NDArray[np.float64]


def spectral_radius(Phi: Array) -> float:
    """Return the largest modulus among the eigenvalues of ``Phi`` (k, k); below 1 = stationary."""
    return float(np.abs(np.linalg.eigvals(np.asarray(Phi, dtype=float))).max())


def reduced_form(G: Array, F: Array, S: Array) -> tuple[Array, Array]:
    """Solve w_t = G w_t + F w_{t-1} + e_t, Cov(e_t) = S, for what earlier sessions say of w_t.

    Parameters
    ----------
    G, F, S : array (..., k, k)
        Same-session effects, in one direction; lagged effects given scores of the same session;
        covariance of what neither predicts.

    Returns
    -------
    Phi, Psi : array (..., k, k)
        (I - G)^-1 F and (I - G)^-1 S (I - G)^-T.
    """
    total = np.linalg.inv(np.eye(G.shape[-1]) - G)
    return total @ F, total @ S @ np.swapaxes(total, -1, -2)


def stationary_cov(Phi: Array, Psi: Array) -> Array:
    """Return the covariance at which the process settles, P = Phi P Phi' + Psi.

    Parameters
    ----------
    Phi : array (..., k, k)
        Lagged effects, row = outcome, column = predictor; complex numbers are let through.
    Psi : array (..., k, k)
        Innovation covariance, squared score points.

    Returns
    -------
    array (..., k, k)
        Within-client covariance in the long run, squared score points; symmetric if Psi is.

    Raises
    ------
    SpecificationError
        If a real process is explosive (spectral radius 1 or more), so that no such P exists.
    """
    Phi, Psi = np.asarray(Phi), np.asarray(Psi)
    if np.isrealobj(Phi) and Phi.ndim == 2:
        radius = spectral_radius(Phi)
        if not radius < 1.0:
            raise SpecificationError(
                f"The lagged effects have spectral radius {radius:.3f}: the process does not "
                "settle and has no stationary covariance. Use lagged effects whose spectral "
                "radius is below 1."
            )
    k = Phi.shape[-1]
    twice = np.einsum("...ij,...kl->...ikjl", Phi, Phi).reshape(*Phi.shape[:-2], k * k, k * k)
    shape = np.broadcast_shapes(Phi.shape, Psi.shape)
    flat = np.broadcast_to(Psi, shape).reshape(*shape[:-2], k * k, 1)
    P = np.linalg.solve(np.eye(k * k) - twice, flat).reshape(shape)
    return np.asarray((P + np.swapaxes(P, -1, -2)) / 2)


def covariance_path(Phi: Array, Psi: Array, initial: Array) -> Array:
    """Return the within-client covariances of T sessions, P_t = Phi_t P_{t-1} Phi_t' + Psi_t.

    Parameters
    ----------
    Phi, Psi : array (T - 1, k, k)
        Lagged effects and innovation covariance into sessions 2..T.
    initial : array (k, k)
        Covariance at the first session, squared score points.

    Returns
    -------
    array (T, k, k)
        Covariances at sessions 1..T, squared score points.
    """
    path = [np.asarray(initial, dtype=float)]
    for into, innovation in zip(Phi, Psi, strict=True):
        path.append(into @ path[-1] @ into.T + innovation)
    return np.stack(path)


def impulse_response(Phi: Array, shock: Array, sessions: int) -> Array:
    """Return where a shock is after 0, 1, .., ``sessions`` sessions: rows Phi^h shock.

    Parameters
    ----------
    Phi : array (k, k)
        Lagged effects.
    shock : array (k,)
        Displacement of the k variables at session 0, score points.
    sessions : int
        How many sessions to follow it.

    Returns
    -------
    array (sessions + 1, k)
        Displacement by session, score points.
    """
    Phi = np.asarray(Phi, dtype=float)
    response = np.empty((sessions + 1, len(Phi)))
    response[0] = shock
    for h in range(sessions):
        response[h + 1] = Phi @ response[h]
    return response


def second_order(Phi: Array, Phi2: Array) -> tuple[Array, Array]:
    """Write w_t = Phi w_{t-1} + Phi2 w_{t-2} + v_t as a first-order process.

    Parameters
    ----------
    Phi, Phi2 : array (..., k, k)
        Lagged effects over one and over two sessions.

    Returns
    -------
    A : array (..., 2 k, 2 k)
        Lagged effects of (w_t, w_{t-1}).
    entry : array (2 k, k)
        What v_t does to it.
    """
    k = Phi.shape[-1]
    A = np.zeros((*Phi.shape[:-2], 2 * k, 2 * k))
    A[..., :k, :k], A[..., :k, k:] = Phi, Phi2
    A[..., k:, :k] = np.eye(k)
    return A, np.concatenate([np.eye(k), np.zeros((k, k))])


def moving_average(Phi: Array, Ma: Array) -> tuple[Array, Array]:
    """Write w_t = Phi w_{t-1} + Ma v_{t-1} + v_t as a first-order process.

    Parameters
    ----------
    Phi, Ma : array (..., k, k)
        Lagged effects of deviations, and of innovations.

    Returns
    -------
    A : array (..., 2 k, 2 k)
        Lagged effects of (w_t, v_t).
    entry : array (2 k, k)
        What v_t does to it.
    """
    k = Phi.shape[-1]
    A = np.zeros((*Phi.shape[:-2], 2 * k, 2 * k))
    A[..., :k, :k], A[..., :k, k:] = Phi, Ma
    return A, np.concatenate([np.eye(k), np.eye(k)])


def sustained_effect(
    phi_target: float, phi_cross: float, phi2_target: float = 0.0, phi2_cross: float = 0.0
) -> float:
    """Return the eventual change of the target if the source stays one point higher for good.

    Equation: phi_cross / (1 - phi_target), feedback to the source cut off (it is held); of a
    second-order process (phi_cross + phi2_cross) / (1 - phi_target - phi2_target).

    Raises
    ------
    SpecificationError
        If the target on its own does not settle, so that the sum does not converge.
    """
    own = phi_target + phi2_target
    if not spectral_radius(np.array([[phi_target, phi2_target], [1.0, 0.0]])) < 1.0:
        raise SpecificationError(
            f"The target's autoregression is {own:.3f}: the effect of a sustained change "
            "grows without end. Ask for impulse_response() over a few sessions instead."
        )
    return (phi_cross + phi2_cross) / (1.0 - own)


def total_effect(Phi: Array) -> Array:
    """Return the summed responses after a passing unit shock, sum_{h>=1} Phi^h = (I - Phi)^-1 - I.

    Element (i, j) sums the displacement of variable i over all sessions after a unit shock in j,
    in score points times sessions; feedback included.

    Raises
    ------
    SpecificationError
        If the process is explosive (spectral radius 1 or more).
    """
    Phi = np.asarray(Phi, dtype=float)
    radius = spectral_radius(Phi)
    if not radius < 1.0:
        raise SpecificationError(
            f"The lagged effects have spectral radius {radius:.3f}: a passing shock never dies "
            "out and has no finite total. Ask for impulse_response() over a few sessions instead."
        )
    identity = np.eye(len(Phi))
    return np.asarray(np.linalg.solve(identity - Phi, identity) - identity)


def time_ordered_to_reduced(
    phi_a: float, phi_s: float, b: float, g: float, h: float, var_e: float, var_u: float
) -> tuple[Array, Array]:
    """Turn the time-ordered process into the lag-1 model that a panel of sessions shows.

    With a the score after and s the score before the session,

        Phi = [[phi_a + g b, g phi_s + h], [b, phi_s]],
        Psi = [[var_e + g^2 var_u, g var_u], [g var_u, var_u]].

    Parameters
    ----------
    phi_a, phi_s : float
        Autoregressions of the score after and of the score before the session.
    b : float
        After session t-1 -> before session t.
    g, h : float
        Before session t -> after session t, and before session t-1 -> after session t.
    var_e, var_u : float
        Innovation variances of the score after and of the score before, squared score points.

    Returns
    -------
    Phi, Psi : array (2, 2)
        In the order (after, before).
    """
    Phi = np.array([[phi_a + g * b, g * phi_s + h], [b, phi_s]])
    Psi = np.array([[var_e + g * g * var_u, g * var_u], [g * var_u, var_u]])
    return Phi, Psi


def structural_form(Phi: Array, Psi: Array) -> tuple[float, float, float, float, float]:
    """Recover the time-ordered process from a lag-1 model; inverse of `time_ordered_to_reduced`.

    g = Psi_as / Psi_ss, h = Phi_as - g phi_s, phi_a = Phi_aa - g b. Identified only under
    uncorrelated u and e: nothing since the last session moves both scores except through s_t.

    Parameters
    ----------
    Phi, Psi : array (2, 2)
        In the order (after, before).

    Returns
    -------
    b, g, h, phi_after, phi_before : float
    """
    b, phi_before = float(Phi[1, 0]), float(Phi[1, 1])
    g = float(Psi[0, 1] / Psi[1, 1])
    return b, g, float(Phi[0, 1] - g * phi_before), float(Phi[0, 0] - g * b), phi_before
