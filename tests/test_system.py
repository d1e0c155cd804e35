"""Theta to matrices and back, and the chain rule between them."""

from __future__ import annotations

import numpy as np
import pytest

from alliancedyn.engine.system import Block, Layout
from alliancedyn.errors import SpecificationError

VARIABLES = ("alliance", "symptoms", "sleep")


def layout(slots: tuple[int | None, ...] = (2, 3)) -> Layout:
    blocks = (
        Block("phi", "matrix", slots),
        Block("innovation_cov", "covariance", slots),
        Block("between_cov", "covariance", (None,)),
        Block("mean", "vector", (1, 2, 3)),
    )
    return Layout(VARIABLES, blocks, (0.5, 3.0, 10.0))


def theta(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(layout().n_free)


def test_names_are_canonical_and_as_many_as_parameters() -> None:
    names = layout().names
    assert len(names) == len(set(names)) == layout().n_free == 2 * 9 + 2 * 6 + 6 + 9
    assert names[0] == "phi[alliance,alliance]@2"
    assert "innovation_cov[alliance,sleep]@3" in names
    assert "innovation_cov[sleep,alliance]@3" not in names
    assert "between_cov[symptoms,sleep]" in names
    assert names[-1] == "mean[sleep]@3"


def test_covariances_are_admissible_at_any_theta() -> None:
    for seed in range(20):
        matrices = layout().matrices(10.0 * theta(seed))
        for family in ("innovation_cov", "between_cov"):
            assert np.linalg.eigvalsh(matrices[family]).min() > -1e-9


def test_theta_and_matrices_are_inverse() -> None:
    first = layout().matrices(theta())
    again = layout().matrices(layout().theta(first))
    for family, value in first.items():
        np.testing.assert_allclose(again[family], value, rtol=1e-8, atol=1e-8)


def test_natural_parameters_spell_the_matrices() -> None:
    values = dict(zip(layout().names, layout().natural(theta()), strict=True))
    again = layout().from_params(values)
    for family, value in layout().matrices(theta()).items():
        np.testing.assert_allclose(again[family], value, rtol=1e-12)


def test_jacobian_is_the_derivative_of_the_natural_parameters() -> None:
    at, step = theta(), 1e-6
    numeric = np.stack(
        [
            (layout().natural(at + step * e) - layout().natural(at - step * e)) / (2 * step)
            for e in np.eye(len(at))
        ],
        axis=1,
    )
    np.testing.assert_allclose(layout().jacobian(at), numeric, rtol=1e-6, atol=1e-6)


def test_pull_is_the_chain_rule() -> None:
    rng = np.random.default_rng(3)
    gradients = {}
    for block in layout().blocks:
        G = rng.standard_normal(block.shape(3))
        gradients[block.family] = G + np.swapaxes(G, 1, 2) if block.kind == "covariance" else G

    def value(at: np.ndarray) -> float:
        matrices = layout().matrices(at)
        return float(sum((gradients[f] * matrices[f]).sum() for f in matrices))

    at, step = theta(), 1e-6
    numeric = [(value(at + step * e) - value(at - step * e)) / (2 * step) for e in np.eye(len(at))]
    np.testing.assert_allclose(layout().pull(at, gradients), numeric, rtol=1e-6, atol=1e-6)


def test_pull_keeps_a_client_axis() -> None:
    rng = np.random.default_rng(4)
    gradients = {b.family: rng.standard_normal((5, *b.shape(3))) for b in layout().blocks}
    together = layout().pull(theta(), gradients)
    alone = layout().pull(theta(), {family: G[2] for family, G in gradients.items()})
    assert together.shape == (5, layout().n_free)
    np.testing.assert_allclose(together[2], alone, rtol=1e-12)


def test_a_missing_parameter_is_named() -> None:
    values = dict(zip(layout().names, layout().natural(theta()), strict=True))
    del values["between_cov[symptoms,sleep]"]
    with pytest.raises(SpecificationError, match=r"between_cov\[symptoms,sleep\]"):
        layout().from_params(values)


def test_singular_covariances_are_found_whatever_the_units() -> None:
    matrices = layout().matrices(theta())
    assert layout().bounds(layout().theta(matrices)) == []
    scale = np.array([0.5, 3.0, 10.0])
    matrices["innovation_cov"][1] = np.outer(scale, scale)  # all correlations one
    ((family, session, _),) = layout().bounds(layout().theta(matrices))
    assert (family, session) == ("innovation_cov", 3)


def test_a_variance_at_zero_no_longer_moves() -> None:
    matrices = layout().matrices(theta())
    assert not layout().held(layout().theta(matrices)).any()
    matrices["between_cov"][0, 2] = matrices["between_cov"][0, :, 2] = 0.0
    held = layout().held(layout().theta(matrices))
    names = [name for name, at_zero in zip(layout().names, held, strict=True) if at_zero]
    assert names == ["between_cov[sleep,sleep]"]
