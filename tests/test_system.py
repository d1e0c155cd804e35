"""Theta to matrices and back, and the chain rule between them."""

from __future__ import annotations

import numpy as np
import pytest

from alliancedyn.engine.system import (
    EVERY,
    Layout,
    covariance,
    entries,
    matrix,
    ratios,
    variances,
    vector,
)
from alliancedyn.errors import SpecificationError

VARIABLES = ("alliance", "symptoms", "sleep")
UNITS = {"alliance": 0.5, "symptoms": 3.0, "sleep": 10.0, "age": 12.0}
LATER, ALL = (2, 3), (1, 2, 3)
CROSS = (("alliance", "symptoms"), ("symptoms", "sleep"))


def layout(groups: tuple[str, ...] = ()) -> Layout:
    """Return one block of every kind and factory; covariances differ between groups."""
    shared = (
        matrix("phi", VARIABLES, VARIABLES, UNITS, LATER),
        matrix("between", VARIABLES, ("age",), UNITS, linear=True),
        entries("step", CROSS, UNITS, (3,)),
        ratios("loading", VARIABLES[1:], (6.0, 20.0), ALL),
        variances("measurement_var", VARIABLES, UNITS, ALL),
        vector("mean", VARIABLES, UNITS, ALL),
    )
    own = (
        covariance("innovation_cov", VARIABLES, UNITS, LATER),
        covariance("between_cov", VARIABLES, UNITS, EVERY),
    )
    if not groups:
        return Layout((*shared, *own))
    return Layout((*shared, *(block.of_group(group) for group in groups for block in own)))


LAYOUTS = [layout(), layout(("arm=0", "arm=1"))]


def theta(made: Layout, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(made.n_free)


def symmetric_gradients(made: Layout, seed: int, lead: tuple[int, ...] = ()) -> dict:
    rng = np.random.default_rng(seed)
    found = {}
    for block in made.blocks:
        G = rng.standard_normal((*lead, *block.shape))
        found[block.key] = G + np.swapaxes(G, -1, -2) if block.kind == "covariance" else G
    return found


def test_names_are_canonical_and_as_many_as_parameters() -> None:
    made = layout()
    assert len(made.names) == len(set(made.names)) == made.n_free
    assert made.n_free == 2 * 9 + 3 + 2 + 3 * 2 + 3 * 3 + 3 * 3 + 2 * 6 + 6
    assert made.names[0] == "phi[alliance,alliance]@2"
    assert "between[sleep,age]" in made.names
    assert "step[symptoms,sleep]@3" in made.names
    assert "loading[symptoms]@1" in made.names and "loading[alliance]@1" not in made.names
    assert "measurement_var[sleep]@3" in made.names
    assert "innovation_cov[alliance,sleep]@3" in made.names
    assert "innovation_cov[sleep,alliance]@3" not in made.names
    assert made.names[-1] == "between_cov[sleep,sleep]"


def test_groups_share_what_is_not_theirs() -> None:
    made, plain = layout(("arm=0", "arm=1")), layout()
    assert made.n_free == plain.n_free + 18
    assert "phi[alliance,alliance]@2" in made.names
    assert "between_cov[alliance,sleep]|arm=1" in made.names
    assert "innovation_cov[alliance,sleep]@3|arm=0" in made.names
    assert "between_cov[alliance,sleep]" not in made.names
    values = made.matrices(theta(made))
    assert {"between_cov|arm=0", "between_cov|arm=1", "phi"} <= set(values)
    moved = theta(made)
    moved[made.slices["between_cov|arm=1"]] += 1.0
    again = made.matrices(moved)
    changed = [key for key, value in values.items() if not np.array_equal(again[key], value)]
    assert changed == ["between_cov|arm=1"]


@pytest.mark.parametrize("made", LAYOUTS)
def test_what_must_be_admissible_is_so_at_any_theta(made: Layout) -> None:
    drawn = [made.matrices(10.0 * theta(made, seed)) for seed in range(20)]
    for block in made.blocks:
        values = np.stack([matrices[block.key] for matrices in drawn])
        assert values.shape == (20, *block.shape)
        if block.kind == "covariance":
            assert np.linalg.eigvalsh(values).min() > -1e-9 * np.abs(values).max()
        elif block.kind == "variance":
            assert values.min() >= 0.0
        else:
            assert values.min() < 0.0 < values.max()


@pytest.mark.parametrize("made", LAYOUTS)
def test_theta_and_matrices_are_inverse(made: Layout) -> None:
    first = made.matrices(theta(made))
    again = made.matrices(made.theta(first))
    for family, value in first.items():
        np.testing.assert_allclose(again[family], value, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("made", LAYOUTS)
def test_natural_parameters_spell_the_matrices(made: Layout) -> None:
    natural = made.natural(theta(made))
    values = dict(zip(made.names, natural, strict=True))
    matrices = made.matrices(theta(made))
    again = made.from_params(values)
    for family, value in matrices.items():
        np.testing.assert_allclose(again[family], value, rtol=1e-12)
        np.testing.assert_allclose(made.unflatten(natural)[family], value, rtol=1e-12)
    assert values["phi[symptoms,sleep]@3"] == matrices["phi"][1, 1, 2]
    assert values["measurement_var[symptoms]@2"] == matrices["measurement_var"][1, 1]
    assert values["step[symptoms,sleep]@3"] == matrices["step"][0, 1]
    assert values["loading[sleep]@2"] == matrices["loading"][1, 1]


def test_theta_has_no_units() -> None:
    """Another unit of a variable multiplies what belongs to it, at the same theta."""
    coarse = {**UNITS, "symptoms": 30.0}
    for family, factor, make in [
        ("phi", [[1, 0.1, 1], [10, 1, 10], [1, 0.1, 1]],
         lambda units: matrix("phi", VARIABLES, VARIABLES, units)),
        ("mean", [1, 10, 1], lambda units: vector("mean", VARIABLES, units)),
        ("measurement_var", [1, 100, 1],
         lambda units: variances("measurement_var", VARIABLES, units)),
        ("between_cov", [[1, 10, 1], [10, 100, 10], [1, 10, 1]],
         lambda units: covariance("between_cov", VARIABLES, units)),
        ("step", [0.1, 10], lambda units: entries("step", CROSS, units)),
    ]:  # fmt: skip
        first, second = (Layout((make(units),)) for units in (UNITS, coarse))
        at = theta(first)
        before, after = first.matrices(at)[family][0], second.matrices(at)[family][0]
        np.testing.assert_allclose(after, before * np.array(factor), rtol=1e-12)


@pytest.mark.parametrize("made", LAYOUTS)
def test_jacobian_is_the_derivative_of_the_natural_parameters(made: Layout) -> None:
    at, step = theta(made), 1e-6
    numeric = np.stack(
        [
            (made.natural(at + step * e) - made.natural(at - step * e)) / (2 * step)
            for e in np.eye(len(at))
        ],
        axis=1,
    )
    np.testing.assert_allclose(made.jacobian(at), numeric, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("made", LAYOUTS)
def test_pull_is_the_chain_rule(made: Layout) -> None:
    gradients = symmetric_gradients(made, 3)

    def value(at: np.ndarray) -> float:
        matrices = made.matrices(at)
        return float(sum((gradients[f] * matrices[f]).sum() for f in matrices))

    at, step = theta(made), 1e-6
    numeric = [(value(at + step * e) - value(at - step * e)) / (2 * step) for e in np.eye(len(at))]
    np.testing.assert_allclose(made.pull(at, gradients), numeric, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("made", LAYOUTS)
def test_pull_keeps_a_client_axis(made: Layout) -> None:
    gradients = symmetric_gradients(made, 4, lead=(5,))
    together = made.pull(theta(made), gradients)
    alone = made.pull(theta(made), {family: G[2] for family, G in gradients.items()})
    assert together.shape == (5, made.n_free)
    np.testing.assert_allclose(together[2], alone, rtol=1e-12)


def test_what_the_score_is_linear_in_is_known() -> None:
    made = layout()
    linear = [name for name, yes in zip(made.names, made.linear, strict=True) if yes]
    assert linear == [n for n in made.names if n.startswith(("mean[", "between["))]


def test_a_missing_parameter_is_named() -> None:
    made = layout()
    values = dict(zip(made.names, made.natural(theta(made)), strict=True))
    del values["between_cov[symptoms,sleep]"]
    with pytest.raises(SpecificationError, match=r"between_cov\[symptoms,sleep\]"):
        made.from_params(values)


def test_singular_covariances_are_found_whatever_the_units() -> None:
    made = layout(("arm=0", "arm=1"))
    matrices = made.matrices(theta(made))
    assert made.bounds(made.theta(matrices)) == []
    scale = np.array([UNITS[v] for v in VARIABLES])
    matrices["innovation_cov|arm=1"][1] = np.outer(scale, scale)  # all correlations one
    matrices["measurement_var"][2, 1] = 0.0
    variance, cov = made.bounds(made.theta(matrices))
    assert (cov.block.key, cov.slot) == ("innovation_cov|arm=1", 1)
    np.testing.assert_allclose(cov.matrix, np.ones((3, 3)), atol=1e-6)
    assert (variance.block.key, variance.slot) == ("measurement_var", 2)
    assert variance.block.indices == VARIABLES
    assert variance.matrix[1, 1] == 0.0 < variance.matrix[0, 0]


def test_a_variance_at_zero_no_longer_moves() -> None:
    made = layout()
    matrices = made.matrices(theta(made))
    assert not made.held(made.theta(matrices)).any()
    matrices["between_cov"][0, 2] = matrices["between_cov"][0, :, 2] = 0.0
    matrices["measurement_var"][1, 0] = 0.0
    held = made.held(made.theta(matrices))
    names = [name for name, at_zero in zip(made.names, held, strict=True) if at_zero]
    assert names == ["measurement_var[alliance]@2", "between_cov[sleep,sleep]"]
