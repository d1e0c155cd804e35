"""The common course and the means, drawn together with states and intercepts' deviations fixed.

With c_t = (1, C_t) and all of a client's deviations known, a change delta of (mean, d) obeys ::

    w_t - Phi_i w_{t-1} ~ N((c_t (x) I - c_{t-1} (x) Phi_i) delta, Psi_i)
    w_1 ~ N((c_1 (x) I) delta, P_1)

The sums over clients are k x k for every session, so that the number of columns hardly matters.
"""

from __future__ import annotations

import numpy as np

from alliancedyn.engine.gibbs_small import Array, Codes, compiled, draw_normal, inverse, multiply


@compiled
def _sum_information(last: Codes, T: int, phi: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Sum Psi^-1, Psi^-1 Phi, Phi' Psi^-1 Phi over the clients still there at each session."""
    N, k, _ = phi.shape
    now, across, before = np.zeros((T + 1, k, k)), np.zeros((T + 1, k, k)), np.zeros((T + 1, k, k))
    for i in range(N):
        step = multiply(weight[i], phi[i])
        now[last[i]] += weight[i]
        across[last[i]] += step
        for r in range(k):
            for s in range(k):
                for c in range(k):
                    before[last[i], r, s] += phi[i, c, r] * step[c, s]
    for t in range(T - 1, -1, -1):
        now[t] += now[t + 1]
        across[t] += across[t + 1]
        before[t] += before[t + 1]
    return now[1:], across[1:], before[1:]  # row t: clients with more than t sessions


@compiled
def _sum_scores(
    last: Codes, W: Array, phi: Array, weight: Array, first: Array
) -> tuple[Array, Array]:
    """Sum Psi^-1 e_t and Phi' Psi^-1 e_t over clients, e_t the innovations; P_1^-1 w_1 at first."""
    N, T, k = W.shape
    now, before = np.zeros((T, k)), np.zeros((T, k))
    e, u = np.empty(k), np.empty(k)
    for i in range(N):
        for t in range(last[i]):
            for r in range(k):
                e[r] = W[i, t, r]
                if t > 0:
                    for c in range(k):
                        e[r] -= phi[i, r, c] * W[i, t - 1, c]
            for r in range(k):
                u[r] = 0.0
                for c in range(k):
                    u[r] += (weight[i, r, c] if t > 0 else first[r, c]) * e[c]
                now[t, r] += u[r]
            for r in range(k):
                for c in range(k):
                    before[t, r] += phi[i, c, r] * u[c]
    return now, before


@compiled
def _assemble(
    c: Array, first: Array, information: tuple[Array, Array, Array], scores: tuple[Array, Array]
) -> tuple[Array, Array]:
    """Return precision and linear term of the change of (mean, d), column by column."""
    T, columns = c.shape
    k = first.shape[0]
    now, across, before = information
    precision, linear = np.zeros((columns * k, columns * k)), np.zeros(columns * k)
    for t in range(T):
        for a in range(columns):
            x = c[t, a]
            x1 = c[t - 1, a] if t > 0 else 0.0
            if x == 0.0 and x1 == 0.0:
                continue
            for r in range(k):
                linear[a * k + r] += x * scores[0][t, r] - x1 * scores[1][t, r]
            for b in range(columns):
                y = c[t, b]
                y1 = c[t - 1, b] if t > 0 else 0.0
                for r in range(k):
                    for s in range(k):
                        if t == 0:
                            precision[a * k + r, b * k + s] += x * y * first[r, s]
                        else:
                            precision[a * k + r, b * k + s] += (
                                x * y * now[t, r, s]
                                - x * y1 * across[t, r, s]
                                - x1 * y * across[t, s, r]
                                + x1 * y1 * before[t, r, s]
                            )
    return precision, linear


@compiled
def draw_course(
    course: Array, last: Codes, phi: Array, psi: Array, first_cov: Array, mean: Array, d: Array,
    priors: Array, W: Array
) -> None:  # fmt: skip
    """Draw mean (k,) and d (m, k); the states W follow, intercepts' deviations stay.

    ``priors``: location and precision of a mean, location and precision of d.
    """
    T, m = course.shape
    N, k, _ = phi.shape
    c = np.ones((T, m + 1))
    for t in range(T):
        for a in range(m):
            c[t, a + 1] = course[t, a]
    weight = np.empty((N, k, k))
    for i in range(N):
        found = inverse(psi[i])
        for r in range(k):
            for s in range(k):
                weight[i, r, s] = found[r, s]
    first = inverse(first_cov)
    information = _sum_information(last, T, phi, weight)
    for r in range(k):
        for s in range(k):
            information[0][0, r, s] = N * first[r, s]
    scores = _sum_scores(last, W, phi, weight, first)
    precision, linear = _assemble(c, N * first, information, scores)
    for a in range(m + 1):
        at = 0 if a == 0 else 2
        for r in range(k):
            present = mean[r] if a == 0 else d[a - 1, r]
            precision[a * k + r, a * k + r] += priors[at + 1]
            linear[a * k + r] += priors[at + 1] * (priors[at] - present)
    change = draw_normal(precision, linear).reshape((m + 1, k))
    for r in range(k):
        mean[r] += change[0, r]
        for a in range(m):
            d[a, r] += change[a + 1, r]
    shift = multiply(c, change)
    for i in range(N):
        for t in range(last[i]):
            for r in range(k):
                W[i, t, r] -= shift[t, r]
