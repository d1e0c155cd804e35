"""Whiten first-order autocorrelated rows: differences of neighbors within clients, compiled."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]
Codes = NDArray[np.int64]


@njit(cache=True)
def whiten(
    U: Array, group: Codes, gap: Array, phi: float, clients: int
) -> tuple[Array, Array, float, float]:
    """Whiten first-order autocorrelated rows and take their cross-products by client.

    Parameters
    ----------
    U : array (n, k)
        Rows sorted by client and time; any columns, in any units.
    group : integer array (n,)
        Client of each row, 0 .. clients - 1.
    gap : array (n,)
        Time since the client's last row; 0 marks a client's first row.
    phi : float
        Correlation of residuals one unit of time apart, inside (-1, 1); negative only if gaps are
        whole numbers, and not 0 if some gap is below one.
    clients : int
        Number of clients.

    Returns
    -------
    gram, gram_slope : arrays (clients, k, k)
        sum v v' over a client's whitened rows v = (u_t - phi^g u_(t-g)) / (1 - phi^2g)^(1/2), and
        its derivative by phi.
    log_det, log_det_slope : float
        log|R| = sum log(1 - phi^2g), and its derivative.
    """
    n, k = U.shape
    gram, slope = np.zeros((clients, k, k)), np.zeros((clients, k, k))
    v, dv = np.empty(k), np.empty(k)
    log_det, log_det_slope = 0.0, 0.0
    known = carry = by_phi = new = root = log_new = 0.0
    for row in range(n):
        g = gap[row]
        if g == 0.0:
            v[:], dv[:] = U[row], 0.0
        else:
            if g != known:  # gaps repeat, powers are dear
                known, carry, by_phi = g, phi**g, g * phi ** (g - 1.0)
                new = 1.0 - carry * carry
                if phi > 0.0:
                    new = -np.expm1(2.0 * g * np.log(phi))
                root, log_new = np.sqrt(new), np.log(new)
            log_det += log_new
            log_det_slope -= 2.0 * carry * by_phi / new
            tilt = carry / new
            for a in range(k):
                left = U[row, a] - carry * U[row - 1, a]
                v[a] = left / root
                dv[a] = (left * tilt - U[row - 1, a]) * (by_phi / root)
        own, own_slope = gram[group[row]], slope[group[row]]
        for a in range(k):
            for b in range(a + 1):
                own[a, b] += v[a] * v[b]
                own_slope[a, b] += dv[a] * v[b] + v[a] * dv[b]
    for client in range(clients):
        for a in range(k):
            for b in range(a):
                gram[client, b, a] = gram[client, a, b]
                slope[client, b, a] = slope[client, a, b]
    return gram, slope, log_det, log_det_slope
