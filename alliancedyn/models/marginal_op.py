"""Marginal likelihoods as PyTensor operations that bring their own derivatives.

Two operations, both with everything latent integrated out by the Kalman kernel:

``FilterLogLik`` takes the matrices of a state-space model, runs compiled inside nutpie, and is
what :func:`alliancedyn.models.dsem_open.build_model` uses where it can. ``MarginalLogLik`` takes
the unconstrained vector of any family's :class:`~alliancedyn.engine.likelihood.Likelihood`; the
family's own matrices are assembled in Python, the filter below is compiled.

Value and derivatives come out of one evaluation, as several outputs of one operation, so that a
sampler that asks for both pays once. Second derivatives are not available.

PyTensor must be imported to define operations: import this module inside functions only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pytensor.tensor as pt
from numba import njit, objmode
from numpy.typing import NDArray
from pytensor.gradient import DisconnectedType, disconnected_type
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch.basic import numba_njit, register_funcify_and_cache_key

from alliancedyn.engine.kalman import Blocks, StateSpace
from alliancedyn.engine.kernel import LANES, Slopes, System, run
from alliancedyn.panel import SessionPanel

if TYPE_CHECKING:
    from alliancedyn.models.specification import Specification

Array = NDArray[np.float64]

# Inputs of FilterLogLik: the matrices that may be parameters, in this order, then what is known.
MATRICES = ("mean", "phi", "psi", "initial_cov", "noise", "drive")
KNOWN = ("mean_at", "phi_at", "psi_at", "noise_at", "load", "load_at", "load_index")
_DIMENSIONS = {"mean": 2, "phi": 3, "psi": 3, "initial_cov": 2, "noise": 2, "drive": 2}


@njit(cache=True, nogil=True)
def _evaluate(
    mean: Array, phi: Array, psi: Array, initial_cov: Array, noise: Array, drive: Array,
    mean_at: Any, phi_at: Any, psi_at: Any, noise_at: Any, load: Array, load_at: Any,
    load_index: Any, y: Array, seen: Array, inputs: Array, last: Any,
) -> tuple[Any, ...]:  # fmt: skip
    """Return the log-likelihood and its derivatives by the first six; NaN becomes -inf."""
    m = len(initial_cov)
    tri = np.empty((m, m), np.int64)
    packed = np.empty(m * (m + 1) // 2)
    for i in range(m):
        for j in range(i + 1):
            tri[i, j] = tri[j, i] = i * (i + 1) // 2 + j
            packed[tri[i, j]] = initial_cov[i, j]
    lanes = np.ones(LANES)
    wide_phi = phi.reshape(-1, 1) * lanes
    wide_psi = psi.reshape(-1, 1) * lanes
    s, d = phi.shape[0], phi.shape[1]
    system = System(
        mean, mean_at, wide_phi.reshape(1, s, d, d, LANES), phi_at,
        wide_psi.reshape(1, psi.shape[0], d, d, LANES), psi_at, packed, load_index, load, load_at,
        noise, noise_at, drive, tri,
    )  # fmt: skip
    slopes = Slopes(
        np.zeros((1, mean.shape[0], mean.shape[1], LANES)),
        np.zeros((1, s, d, d, LANES)),
        np.zeros((1, psi.shape[0], d, d, LANES)),
        np.zeros((1, len(packed), LANES)),
        np.zeros((1, load.shape[0], load.shape[1], load.shape[2], LANES)),
        np.zeros((1, noise.shape[0], noise.shape[1], LANES)),
        np.zeros((1, drive.shape[0], drive.shape[1], LANES)),
    )
    loglik = np.empty((len(last), LANES))
    run(y, seen, inputs, last, 0, len(last), system, True, False, loglik, slopes)
    by_packed = slopes.initial[0].sum(axis=1)
    by_initial = np.empty((m, m))
    for i in range(m):
        for j in range(m):
            by_initial[i, j] = by_packed[tri[i, j]]
    total = loglik.sum()
    if np.isnan(total):
        total = -np.inf
    return (
        np.asarray(total), slopes.mean[0].sum(axis=-1), slopes.phi[0].sum(axis=-1),
        slopes.psi[0].sum(axis=-1), by_initial, slopes.noise[0].sum(axis=-1),
        slopes.drive[0].sum(axis=-1),
    )  # fmt: skip


class FilterLogLik(Op):
    """Log-likelihood of a linear Gaussian state-space model; derivatives as further outputs.

    Everything that it needs is an input, so that the operation itself holds no data and compiled
    code is shared between panels. Covariances are read entry by entry, as symmetric matrices.
    """

    __props__ = ()

    def make_node(self, *inputs: Any) -> Apply:
        """Take the matrices, what is known of the system, and the packed scores."""
        given = [pt.as_tensor_variable(one) for one in inputs]
        shapes = [given[i].type.shape for i in range(len(MATRICES))]
        outputs = [pt.dscalar(), *(pt.tensor(dtype="float64", shape=shape) for shape in shapes)]
        return Apply(self, given, outputs)

    def perform(self, node: Any, inputs: Sequence[Array], output_storage: Any) -> None:
        """Evaluate."""
        values = _evaluate(*(np.ascontiguousarray(one) for one in inputs))
        for cell, value in zip(output_storage, values, strict=True):
            cell[0] = np.asarray(value)

    def infer_shape(self, fgraph: Any, node: Any, shapes: Any) -> list[Any]:
        """Give derivatives the shapes of the matrices."""
        return [(), *shapes[: len(MATRICES)]]

    def L_op(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], output_grads: Any
    ) -> list[Any]:
        """Pass the derivatives on; the data have none."""
        _refuse_second(output_grads)
        slopes = [output_grads[0] * by for by in outputs[1:]]
        return [*slopes, *(disconnected_type() for _ in inputs[len(MATRICES) :])]

    def connection_pattern(self, node: Any) -> list[list[bool]]:
        """Say that data have no derivatives; those of the score are refused in ``L_op``."""
        n, m = len(node.inputs), len(node.outputs)
        return [[i < len(MATRICES)] * m for i in range(n)]


def _refuse_second(output_grads: Sequence[Variable]) -> None:
    """Refuse second derivatives, which would need derivatives of the score."""
    if any(not isinstance(one.type, DisconnectedType) for one in output_grads[1:]):
        raise NotImplementedError("The score has no derivatives of its own here.")


@register_funcify_and_cache_key(FilterLogLik)
def _compile_filter(op: FilterLogLik, node: Any = None, **_: Any) -> tuple[Any, str]:
    """Give numba the compiled evaluation itself."""

    @numba_njit
    def evaluate(
        mean: Any, phi: Any, psi: Any, initial_cov: Any, noise: Any, drive: Any, mean_at: Any,
        phi_at: Any, psi_at: Any, noise_at: Any, load: Any, load_at: Any, load_index: Any, y: Any,
        seen: Any, inputs: Any, last: Any,
    ) -> Any:  # fmt: skip
        c = np.ascontiguousarray
        return _evaluate(
            c(mean), c(phi), c(psi), c(initial_cov), c(noise), c(drive), c(mean_at), c(phi_at),
            c(psi_at), c(noise_at), c(load), c(load_at), c(load_index), c(y), c(seen), c(inputs),
            c(last),
        )  # fmt: skip

    return evaluate, "alliancedyn-filter-loglik-1"


def filter_loglik(
    system: StateSpace, packed: Blocks | Sequence[Any], matrices: dict[str, Any]
) -> Variable:
    """Return the log-likelihood as a PyTensor scalar.

    Parameters
    ----------
    system : StateSpace
        Shapes, slots and loadings; its matrices are used where none is given.
    packed : Blocks or sequence of tensors
        The packed scores, or tensors that hold its y, seen, inputs and last.
    matrices : dict of tensors
        Any of ``MATRICES``, in the shapes of ``system``.
    """
    given = []
    for name in MATRICES:
        value = pt.as_tensor_variable(matrices.get(name, getattr(system, name)))
        if name in ("psi", "initial_cov"):
            value = (value + value.mT) / 2.0
        given.append(value)
    known = [pt.constant(np.ascontiguousarray(getattr(system, name))) for name in KNOWN]
    if isinstance(packed, Blocks):
        packed = (packed.y, packed.seen, packed.inputs, packed.last)
    data = [pt.as_tensor_variable(one) for one in packed]
    return FilterLogLik()(*given, *known, *data)[0]


class MarginalLogLik(Op):
    """Log-likelihood of a state-space family as a function of its unconstrained vector.

    Parameters
    ----------
    spec : Specification
        The family.
    panel : SessionPanel
        The scores. Both travel with a pickled model; the likelihood is made anew from them.

    Two operations are equal only if they are the same object.
    """

    def __init__(self, spec: Specification, panel: SessionPanel) -> None:
        self.spec = spec
        self.panel = panel
        self.likelihood = spec.objective(panel, centered=False)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the likelihood, which holds functions."""
        return {"spec": self.spec, "panel": self.panel}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["spec"], state["panel"])  # type: ignore[misc]

    def make_node(self, theta: Any) -> Apply:
        """Take theta, (n,)."""
        theta = pt.as_tensor_variable(theta)
        return Apply(self, [theta], [pt.dscalar(), pt.dvector()])

    def evaluate(self, theta: Array) -> tuple[float, Array]:
        """Return value and score; -inf and zeros where there is no such process."""
        value, score = self.likelihood.value_and_score(np.asarray(theta, float))
        if not np.isfinite(value) or not np.isfinite(score).all():
            return -np.inf, np.zeros(len(theta))
        return value, np.ascontiguousarray(score)

    def perform(self, node: Any, inputs: Sequence[Array], output_storage: Any) -> None:
        """Evaluate."""
        value, score = self.evaluate(inputs[0])
        output_storage[0][0], output_storage[1][0] = np.asarray(value), score

    def infer_shape(self, fgraph: Any, node: Any, shapes: Any) -> list[Any]:
        """Make the score as long as theta."""
        return [(), shapes[0]]

    def L_op(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], output_grads: Any
    ) -> list[Any]:
        """Pass the score on."""
        _refuse_second(output_grads)
        return [output_grads[0] * outputs[1]]


@register_funcify_and_cache_key(MarginalLogLik)
def _compile_marginal(op: MarginalLogLik, node: Any = None, **_: Any) -> tuple[Any, None]:
    """Let compiled code call back for the likelihood; it cannot be cached, as it holds data."""
    evaluate: Callable[[Array], tuple[float, Array]] = op.evaluate

    @numba_njit
    def marginal(theta: Any) -> Any:
        with objmode(value="float64", score="float64[::1]"):
            value, score = evaluate(theta)
        return np.asarray(value), score

    return marginal, None
