"""The network: a frozen tuple of weight matrices, read from wherever people keep theirs."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import _wiring
from ._arrays import real_matrix
from ._checks import shown
from ._files import atomic_file
from ._layer_order import check_chain, check_forward, check_module, in_given_order, in_natural_order
from ._linalg import chain, on_device
from ._trees import set_fields, value
from ._types import Array
from ._wiring import Skip


@value(init=False)
class Network:
    r"""A deep linear network $x \mapsto W_h \cdots W_1 x$ as a value.

    `weights[l - 1]` is $W_l$ with shape (d_l, d_{l-1}). A frozen pytree: `jax.grad`, `jax.vmap` and optimisers take it
    as it is, and a trajectory is a network whose weights have a leading time axis. Raises `ValueError` on construction
    for shapes that do not chain, empty layers, and entries that are not finite real numbers.

    >>> network = Network([[[1.0, 2.0]], [[3.0], [4.0]]])
    >>> network
    Network(2 -> 1 -> 2: 4 weights, float64)
    >>> network.widths, network.depth
    ((2, 1, 2), 2)
    >>> network.end_to_end.tolist()
    [[3.0, 6.0], [4.0, 8.0]]
    """

    weights: tuple[Any, ...]

    def __init__(self, weights: "Network | Mapping[str, Any] | Iterable[Any]"):
        if isinstance(weights, Network):
            weights = weights.weights
        if isinstance(weights, str | bytes | Path):
            raise ValueError(f"`weights`: got {weights!r}; read files by `Network.load`")
        names = None
        if isinstance(weights, Mapping):
            matrices = in_given_order(weights)
            names, weights = list(matrices), matrices.values()
        if not isinstance(weights, Iterable) or getattr(weights, "ndim", 1) == 0:
            raise ValueError(f"`weights`: got {shown(weights)}; give one matrix a layer, first layer first")
        if getattr(weights, "ndim", 0) == 2:
            raise ValueError("`weights`: is one matrix; give a list, one matrix a layer, first layer first")
        set_fields(self, weights=tuple(_matrix(W, l, names) for l, W in enumerate(weights)))
        if not self.weights:
            raise ValueError("`weights`: is empty; a network needs at least one matrix")
        check_chain([W.shape for W in self.weights], names)

    @property
    def widths(self) -> tuple[int, ...]:
        """(d_x, d_1, ..., d_{h-1}, d_y)."""
        return (self.weights[0].shape[-1], *(W.shape[-2] for W in self.weights))

    @property
    def depth(self) -> int:
        """Number of weight matrices h."""
        return len(self.weights)

    @property
    def max_rank(self) -> int:
        """Largest rank of the end-to-end matrix: the smallest width."""
        return min(self.widths)

    @property
    def end_to_end(self) -> Any:
        """W_h ... W_1, shape (d_y, d_x)."""
        return chain(self.weights)

    def product(self, i: int, j: int) -> Any:
        """W_{i:j} = W_j ... W_i, shape (d_j, d_{i-1}), for 1 <= i <= j <= h; raises `ValueError` otherwise."""
        if not 1 <= i <= j <= self.depth:
            raise ValueError(f"`i`, `j`: got {i}, {j}; layers are numbered 1 <= i <= j <= {self.depth}")
        return chain(self.weights[i - 1 : j])

    def between(self, input_map: Any = None, output_map: Any = None) -> "Network":
        """The network with W_1 <- W_1 `input_map` and W_h <- `output_map` W_h; None leaves a side alone.

        >>> Network([[[2.0]]]).between(input_map=[[1.0, 0.0]]).widths
        (2, 1)
        """
        weights = list(self.weights)
        if input_map is not None:
            weights[0] = weights[0] @ jnp.asarray(input_map, dtype=weights[0].dtype)
        if output_map is not None:
            weights[-1] = jnp.asarray(output_map, dtype=weights[-1].dtype) @ weights[-1]
        return Network(weights)

    def with_biases(
        self,
        biases: Sequence[Any] | None = None,
        *,
        layers: Iterable[int] | None = None,
        mask: "Network | None" = None,
    ) -> "tuple[Network, Network]":
        r"""This network with biases on inputs (1, x), and the mask, True where an entry learns, that keeps it one.

        $\tilde W_l = \begin{bmatrix} 1 & 0 \\ b_l & W_l \end{bmatrix}$, the last one without its first row: a first
        unit of every layer is constantly 1. `layers`: which have a bias, numbered from 1 (None: all); no unit is
        constant above the last of them, and with a bias in layer 1 alone every entry learns: the bias is one more
        input. `biases`: one vector a layer, (d_l,) (None: zeros). `mask`: what learns in this network, skips included
        (None: all). Data: `data.with_constant`, `Moments.with_constant`. Raises `ValueError` for shapes that do not
        fit and for a network that has biases already.

        >>> network, mask = Network([[[2.0]], [[3.0]]]).with_biases([[1.0], [5.0]])
        >>> network.end_to_end.tolist(), [m.tolist() for m in mask.weights]
        ([[8.0, 6.0]], [[[False, False], [True, True]], [[True, True]]])
        """
        return _wired(*_wiring.with_biases(self.weights, self._held(mask), biases, layers))

    def with_skip(
        self, source: int, target: int, matrix: Any = None, *, learn: bool = False, mask: "Network | None" = None
    ) -> "tuple[Network, Network]":
        r"""This network with a skip from layer `source` to layer `target`, and the mask that keeps it one.

        $W_{target+1:h} (W_{source+1:target} + B) W_{1:source}$ as a plain chain: with k = source, j = target - source
        $\tilde W_{k+1} = [W_{k+1}; I]$, $\tilde W_{k+i} = \mathrm{diag}(W_{k+i}, I)$ for 1 < i < j and
        $\tilde W_{k+j} = [W_{k+j}, B]$. Layer 0 is the input. `matrix`: B, (d_target, d_source) (None: the identity);
        `learn`: whether B learns. `mask`: what learns in this network (None: all); give it when there are skips or
        biases already, whose units are left alone. The flow under the mask is that of the network with skips. Raises
        `ValueError` for a skip that passes no layer and for a matrix of another shape.

        >>> network, mask = Network([[[2.0]], [[3.0]], [[5.0]]]).with_skip(1, 3)
        >>> network.end_to_end.tolist(), network.widths
        ([[32.0]], (1, 1, 2, 1))
        >>> network, mask = network.with_skip(0, 2, mask=mask)
        >>> network.end_to_end.tolist(), network.widths
        ([[37.0]], (1, 2, 2, 1))

        Source: Altafini, section 7, with the skip's end corrected: as printed it ends one layer too early.
        """
        return _wired(*_wiring.with_skip(self.weights, self._held(mask), source, target, matrix, learn))

    def without_wires(self, mask: "Network") -> "Parts":
        """The weights, biases and skips of a network made by `with_biases` and `with_skip`; leading axes are kept.

        A unit counts as a copy where `mask` holds its incoming weights and they are one 1 and zeros. A bias in the
        first layer alone cannot be told from a weight and stays one. Raises `ValueError` for masks of other widths.

        >>> network, mask = Network([[[2.0]], [[3.0]]]).with_biases([[1.0], [5.0]])
        >>> parts = network.without_wires(mask)
        >>> parts.network.end_to_end.tolist(), parts.biases[1].tolist(), parts.skips
        ([[6.0]], [5.0], ())
        """
        plain, biases, skips = _wiring.apart(self.weights, self._held(mask))
        # not by the constructor, which takes no leading axes
        network = jax.tree.unflatten(jax.tree.structure(self), [jnp.asarray(W) for W in plain])
        ends = tuple(skip._replace(matrix=jnp.asarray(skip.matrix)) for skip in skips)
        return Parts(network, tuple(map(jnp.asarray, biases)), ends)

    def _held(self, mask: Any) -> Any:
        """The weights of a mask of this network."""
        if mask is None:
            return None
        mask = mask if isinstance(mask, Network) else Network(mask)
        if mask.widths != self.widths or any(m.dtype != bool for m in mask.weights):
            raise ValueError(f"`mask`: must be a Network of booleans with widths {self.widths}; True entries learn")
        return mask.weights

    @classmethod
    def from_torch(cls, module_or_state_dict: Any) -> "Network":
        """The network in an `nn.Sequential` of `nn.Linear` without biases, or in a mapping from names to arrays.

        torch is not imported; parameters are detached and copied. Raises `ValueError` for layers other than Linear
        and for biases that are not zero.

        >>> Network.from_torch({"0.weight": [[1.0, 2.0]], "1.weight": [[3.0]]}).widths
        (2, 1, 1)
        """
        if isinstance(module_or_state_dict, Mapping):
            return cls(module_or_state_dict)
        if not hasattr(module_or_state_dict, "named_modules"):
            raise ValueError(
                f"`module_or_state_dict`: got {shown(module_or_state_dict)}; give a torch module or its state dict"
            )
        check_module(module_or_state_dict)
        network = cls(module_or_state_dict.state_dict())
        check_forward(module_or_state_dict, network.weights)
        return network

    def to_torch(self) -> Any:
        """The network as an `nn.Sequential` of `nn.Linear` without biases, which `from_torch` reads again.

        Weights are copied and keep their precision; torch's random state is left alone. Raises `ValueError` where torch
        is missing, and for networks with leading axes.
        """
        torch = _torch()
        layers = []
        for W in self.weights:
            if W.ndim != 2 or W.dtype == bool:
                raise ValueError(f"`network`: is {self!r}; give one network of numbers, such as `trajectory[-1]`")
            layer = torch.nn.utils.skip_init(torch.nn.Linear, W.shape[1], W.shape[0], bias=False)
            layer.weight = torch.nn.Parameter(torch.tensor(np.asarray(W)))
            layers.append(layer)
        return torch.nn.Sequential(*layers)

    @classmethod
    def load(cls, path: str | Path) -> "Network":
        """The network in an .npz or .safetensors file, one matrix a layer, in the order of the numbers in their names.

        Nothing is unpickled. Raises `ValueError` naming the file for anything else.
        """
        path = Path(path)
        if not path.is_file():
            raise ValueError(f"`path`: there is no file {path}")
        if path.suffix not in (".npz", ".safetensors"):
            raise ValueError(f"`path`: {path.name} ends in {path.suffix!r}; give a .npz or .safetensors file")
        read = _safetensors().load_file if path.suffix == ".safetensors" else _read_npz
        try:
            arrays = read(path)
        except Exception as problem:  # zipfile, zlib, numpy and safetensors have their own for a damaged file
            line = str(problem).split("\n")[0]
            raise ValueError(f"`path`: {path.name} is damaged or holds no plain arrays ({line})") from problem
        return cls(in_natural_order(path.name, arrays))

    def save(self, path: str | Path) -> Path:
        """Writes the weights as W1, W2, ... to an .npz or .safetensors file, which `load` and others read."""
        path = Path(path)
        arrays = {f"W{l}": np.asarray(W) for l, W in enumerate(self.weights, start=1)}
        if path.suffix not in (".npz", ".safetensors"):
            raise ValueError(f"`path`: {path.name} ends in {path.suffix!r}; give a .npz or .safetensors file")
        with atomic_file(path) as partial:
            if path.suffix == ".safetensors":
                _safetensors().save_file({name: np.ascontiguousarray(W) for name, W in arrays.items()}, partial)
            else:
                np.savez(partial, allow_pickle=False, **arrays)
        return path

    def __repr__(self) -> str:
        if not all(hasattr(W, "shape") for W in self.weights):  # a pytree in the middle of a transformation
            return f"Network({self.weights!r})"
        count = sum(int(np.prod(W.shape[-2:])) for W in self.weights)
        batch = self.weights[0].shape[:-2]
        leading = f", batch {'x'.join(map(str, batch))}" if batch else ""
        return f"Network({' -> '.join(map(str, self.widths))}: {count:,} weights, {self.weights[0].dtype}{leading})"


class Parts(NamedTuple):
    """A network with biases and skips, taken apart."""

    network: Network
    biases: tuple[Array, ...]
    """One vector a layer, (d_l,); zeros where a layer has none."""
    skips: tuple[Skip, ...]


def _wired(weights: list[Any], mask: list[np.ndarray]) -> tuple[Network, Network]:
    return Network(weights), Network(mask)


def _matrix(W: Any, l: int, names: list[str] | None) -> Array:
    """A layer, counted from 0, as a finite matrix of JAX, of floats or of booleans (a mask)."""
    return on_device(real_matrix("weights", W, f"layer {l + 1} " if names is None else f"{names[l]!r} "))


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _safetensors():
    try:
        import safetensors.numpy
    except ImportError:
        raise ValueError(
            "`path`: reading and writing .safetensors needs the package safetensors; pip install 'deeplinear[torch-io]'"
        ) from None
    return safetensors.numpy


def _torch() -> Any:
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError("`network`: making a torch module needs the package torch; pip install torch") from None
    return torch
