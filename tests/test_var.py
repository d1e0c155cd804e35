"""The algebra of a VAR(1) and its time-ordered form, and the names its parameters go by."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import solve_discrete_lyapunov

from alliancedyn.engine import names, var
from alliancedyn.errors import SpecificationError

share = st.floats(-0.6, 0.6)
variance = st.floats(0.1, 10.0)


def stable(k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    Phi = rng.normal(size=(k, k))
    Phi *= 0.8 / var.spectral_radius(Phi)
    root = rng.normal(size=(k, k))
    return Phi, root @ root.T + np.eye(k)


class TestWorkedExample:
    """phi_A .35, phi_S .45, b -.12, g -.10, unit innovation variances, to four decimals."""

    Phi, Psi = var.time_ordered_to_reduced(0.35, 0.45, -0.12, -0.10, 0.0, 1.0, 1.0)

    def test_reduced_form(self) -> None:
        np.testing.assert_allclose(self.Phi, [[0.362, -0.045], [-0.12, 0.45]], atol=1e-12)
        assert self.Psi[0, 1] == pytest.approx(-0.10)

    def test_stationary_covariance(self) -> None:
        P = var.stationary_cov(self.Phi, self.Psi)
        assert round(P[0, 0], 4) == 1.1733
        assert round(P[1, 1], 4) == 1.3040
        assert round(P[0, 1] / np.sqrt(P[0, 0] * P[1, 1]), 4) == -0.1724

    def test_standardized_paths(self) -> None:
        sd = np.sqrt(np.diag(var.stationary_cov(self.Phi, self.Psi)))
        assert round(-0.12 * sd[0] / sd[1], 4) == -0.1138
        assert round(-0.10 * sd[1] / sd[0], 4) == -0.1054

    def test_impulse_response_and_long_run(self) -> None:
        path = var.impulse_response(self.Phi, np.array([1.0, 0.0]), 6)[:, 1]
        expected = [0, -0.1200, -0.0974, -0.0602, -0.0336, -0.0178, -0.0091]
        np.testing.assert_allclose(path.round(4), expected)
        assert round(var.total_effect(self.Phi)[1, 0], 4) == -0.3473
        assert round(var.sustained_effect(0.45, -0.12), 4) == -0.2182


@settings(deadline=None)
@given(share, share, share, share, share, variance, variance)
def test_time_ordered_form_and_reduced_form_determine_each_other(
    phi_a: float, phi_s: float, b: float, g: float, h: float, var_e: float, var_u: float
) -> None:
    Phi, Psi = var.time_ordered_to_reduced(phi_a, phi_s, b, g, h, var_e, var_u)
    back = var.structural_form(Phi, Psi)
    np.testing.assert_allclose(back, (b, g, h, phi_a, phi_s), atol=1e-9)
    again = var.time_ordered_to_reduced(
        back[3], back[4], back[0], back[1], back[2], Psi[0, 0] - back[1] ** 2 * Psi[1, 1], Psi[1, 1]
    )
    np.testing.assert_allclose(again[0], Phi, atol=1e-9)
    np.testing.assert_allclose(again[1], Psi, atol=1e-9)


def test_reduced_form_is_that_of_the_process_in_time_order() -> None:
    """Run the two equations session by session and regress: the algebra must come back."""
    rng = np.random.default_rng(3)
    n = 400_000
    a, s = rng.normal(size=(2, n))
    e, u = rng.normal(size=(2, n)) * [[1.2], [0.8]]
    later_s = 0.45 * s - 0.2 * a + u
    later_a = 0.35 * a - 0.3 * later_s + 0.1 * s + e
    coefficients, *_ = np.linalg.lstsq(
        np.column_stack([a, s]), np.column_stack([later_a, later_s]), rcond=None
    )
    residual = np.column_stack([later_a, later_s]) - np.column_stack([a, s]) @ coefficients
    Phi, Psi = var.time_ordered_to_reduced(0.35, 0.45, -0.2, -0.3, 0.1, 1.44, 0.64)
    np.testing.assert_allclose(coefficients.T, Phi, atol=0.01)
    np.testing.assert_allclose(np.cov(residual.T), Psi, atol=0.01)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_stationary_covariance_agrees_with_scipy(k: int) -> None:
    Phi, Psi = stable(k, k)
    np.testing.assert_allclose(
        var.stationary_cov(Phi, Psi), solve_discrete_lyapunov(Phi, Psi), rtol=1e-10
    )


@pytest.mark.parametrize("Phi", [[[1.0, 0.0], [0.0, 0.5]], [[0.5, 2.0], [2.0, 0.5]]])
def test_a_process_that_does_not_settle_is_refused(Phi: list[list[float]]) -> None:
    with pytest.raises(SpecificationError, match="spectral radius"):
        var.stationary_cov(np.array(Phi), np.eye(2))
    with pytest.raises(SpecificationError, match="spectral radius"):
        var.total_effect(np.array(Phi))


def test_sustained_effect_needs_an_autoregression_below_one() -> None:
    with pytest.raises(SpecificationError, match="grows without end"):
        var.sustained_effect(1.0, 0.1)


def test_rotation_has_a_settled_covariance() -> None:
    """Complex eigenvalues count by their modulus."""
    Phi = 0.9 * np.array([[0.0, -1.0], [1.0, 0.0]])
    assert var.spectral_radius(Phi) == pytest.approx(0.9)
    np.testing.assert_allclose(var.stationary_cov(Phi, np.eye(2)), np.eye(2) / 0.19)


@pytest.mark.parametrize("seed", range(5))
def test_total_is_the_sum_of_the_responses(seed: int) -> None:
    Phi, _ = stable(3, seed)
    each = [var.impulse_response(Phi, unit, 200)[1:].sum(axis=0) for unit in np.eye(3)]
    np.testing.assert_allclose(var.total_effect(Phi), np.column_stack(each), atol=1e-8)


def test_sustained_effect_is_where_a_held_source_takes_the_target() -> None:
    s = 0.0
    for _ in range(200):
        s = 0.45 * s - 0.12
    assert var.sustained_effect(0.45, -0.12) == pytest.approx(s)


def test_covariance_path_started_at_the_settled_one_stays_there() -> None:
    Phi, Psi = stable(2, 7)
    P = var.stationary_cov(Phi, Psi)
    path = var.covariance_path(np.stack([Phi] * 5), np.stack([Psi] * 5), P)
    assert path.shape == (6, 2, 2)
    np.testing.assert_allclose(path, np.broadcast_to(P, (6, 2, 2)), rtol=1e-10)


class TestNames:
    @pytest.mark.parametrize(
        ("name", "parts"),
        [
            ("phi[symptoms,alliance]", ("phi", ("symptoms", "alliance"), None)),
            ("phi[symptoms,alliance]@3", ("phi", ("symptoms", "alliance"), 3)),
            ("mean[alliance]@0", ("mean", ("alliance",), 0)),
            (
                "between_cov[alliance,alliance.trend]",
                ("between_cov", ("alliance", "alliance.trend"), None),
            ),
            ("mean[wai sr]@12|arm=1", ("mean", ("wai sr",), 12)),
            ("session[3]", ("session", ("3",), None)),
        ],
    )
    def test_taken_apart(self, name: str, parts: tuple) -> None:
        assert names.parse(name) == parts

    @settings(deadline=None)
    @given(
        st.lists(
            st.text(st.characters(exclude_characters="[],@|"), min_size=1), min_size=1, max_size=2
        ),
        st.none() | st.integers(0, 400),
        st.sampled_from([None, "arm=1", "site=Linköping B"]),
    )
    def test_spelling_and_taking_apart_are_inverse(
        self, indices: list[str], session: int | None, group: str | None
    ) -> None:
        name = names.label("phi", *indices, session=session, group=group)
        assert names.parse(name) == ("phi", tuple(indices), session)
        assert names.group_of(name) == group

    @pytest.mark.parametrize("bad", ["phi[a", "phi a]", "phi[]", "phi[a]@x", "", "phi[a]@3@4"])
    def test_what_is_no_name_is_refused(self, bad: str) -> None:
        with pytest.raises(SpecificationError, match="not a parameter name"):
            names.parse(bad)

    @pytest.mark.parametrize("bad", ["a,b", "x]", "", "a@2", "a|b"])
    def test_variables_that_would_break_a_name_are_refused(self, bad: str) -> None:
        with pytest.raises(SpecificationError, match="Rename"):
            names.label("phi", bad)

    def test_symmetric_ones_are_named_once_in_panel_order(self) -> None:
        assert names.symmetric_labels("innovation_cov", ("b", "a"), 4) == [
            "innovation_cov[b,b]@4",
            "innovation_cov[b,a]@4",
            "innovation_cov[a,a]@4",
        ]

    def test_matrices_read_back(self) -> None:
        params = {
            "c[x,x]": 1.0,
            "c[x,y]": 2.0,
            "c[x,z]": 3.0,
            "c[y,y]": 4.0,
            "c[y,z]": 5.0,
            "c[z,z]": 6.0,
        }
        full = names.symmetric_matrix(params, "c", ("x", "y", "z"))
        np.testing.assert_array_equal(full, [[1, 2, 3], [2, 4, 5], [3, 5, 6]])
        lags = names.matrix({"phi[s,a]@2": 0.1, "phi[s,s]@2": 0.2}, "phi", ("s",), ("a", "s"), 2)
        np.testing.assert_array_equal(lags, [[0.1, 0.2]])

    def test_a_missing_element_is_named(self) -> None:
        with pytest.raises(SpecificationError, match=r"no parameter 'phi\[s,a\]'"):
            names.matrix({}, "phi", ("s",), ("a",))

    def test_sessions_with_values_of_their_own(self) -> None:
        found = names.sessions_of(["phi[a,a]@10", "phi[a,a]@2", "phi2[a,a]@3", "mean[a]@1"], "phi")
        assert found == (2, 10)
