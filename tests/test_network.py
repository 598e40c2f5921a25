"""The network as a value: where it can be read from, what it refuses, and that transformations take it."""

import dataclasses
from collections import OrderedDict

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

import deeplinear as dl
from deeplinear import Network

W1, W2, W3 = (np.random.default_rng(l).standard_normal(shape) for l, shape in enumerate([(4, 2), (5, 4), (3, 5)]))
NETWORK = Network([W1, W2, W3])


def same(network, *weights):
    assert network.depth == len(weights)
    for W, expected in zip(network.weights, weights, strict=True):
        np.testing.assert_array_equal(W, expected)


@pytest.mark.parametrize(
    "weights",
    [
        [W1, W2, W3],
        (W1.tolist(), W2.tolist(), W3.tolist()),
        [jnp.asarray(W1), W2, W3.tolist()],
        (W for W in (W1, W2, W3)),
        {"third": W1, "first": W2, "second": W3},
        NETWORK,
    ],
    ids=["arrays", "lists", "mixed", "generator", "mapping", "network"],
)
def test_reads_weights_from(weights):
    same(Network(weights), W1, W2, W3)


S1, S2, S3 = (np.random.default_rng(10 + l).standard_normal((3, 3)) for l in range(3))  # fit in every order


@pytest.mark.parametrize(
    "names",
    [
        ("encoder.weight", "middle.weight", "decoder.weight"),
        ("W2", "W1", "W3"),
        ("first", "W10", "W9"),
        ("in/kernel_1", "b", "a"),
        (3, 1, 2),
    ],
)
def test_a_mapping_keeps_the_order_in_which_it_is_given(names):
    same(Network(dict(zip(names, (S1, S2, S3), strict=True))), S1, S2, S3)


def test_an_autoencoder_is_decoder_after_encoder():
    encoder, decoder = np.arange(18.0).reshape(3, 6), np.arange(18.0).reshape(6, 3) ** 2
    state = OrderedDict({"encoder.weight": encoder, "encoder.bias": np.zeros(3), "decoder.weight": decoder})
    for read in (Network, Network.from_torch):
        network = read(state)
        assert network.widths == (6, 3, 6)
        np.testing.assert_array_equal(network.end_to_end, decoder @ encoder)
    nested = {"encoder": {"weight": encoder}, "decoder": {"weight": decoder, "bias": np.zeros(6)}}
    np.testing.assert_array_equal(Network(nested).end_to_end, decoder @ encoder)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (
            {"W3": W3, "W1": W1, "W2": W2},
            r"'W3' has 3 rows, but 'W1' has 2 columns .*\(3, 5\) and \(4, 2\)\).* in the order W1, W2, W3",
        ),
        (
            {"a.kernel": W1.T, "b.kernel": W2.T},
            r"'a\.kernel' has 2 rows, .* Transposed they fit: kernels kept as \(in, ",
        ),
        (
            {"d": W3, "c": W2, "b": W1},
            r"They fit in reverse order, and transposed: give the first layer first, or W\.T of ",
        ),
        ({"a": W1, "b": W3}, r"W_l must have shape \(d_l, d_\{l-1\}\)$"),
        (
            {f"W{l}": S1 for l in (1, 10, 2, 3)},
            r"come in alphabetical order, W1, W10, W2, W3, but their numbers count ot",
        ),
        (
            {"a": {"kernel": S1}, "b": {"kernel": S2}},
            r"a\.kernel, b\.kernel are kernels, .* so give a list of their tra",
        ),
        ({"dense/kernel:0": S1, "dense_1/kernel:0": S2}, r"are kernels, which Flax and Keras keep as \(in, out\)"),
        ({"a": W1, "b": np.float64(1.0)}, r"'b' has shape \(\); give a matrix"),
        ({"a": W1, "b": np.full((2, 4), np.nan)}, r"'b' has nan at row 1, column 1"),
        ({}, r"is empty; a network needs at least one matrix"),
        ({"b": np.zeros(3)}, r"is empty; a network needs at least one matrix"),
    ],
)
def test_mappings_whose_order_or_orientation_does_not_fit(mapping, message):
    with pytest.raises(ValueError, match=rf"^`weights`: .*{message}|^`weights`: {message}") as caught:
        Network(mapping)
    assert "\n" not in str(caught.value)


def test_kernels_that_fit_in_one_orientation_only_are_taken():
    same(Network({"a.kernel": W1, "b.kernel": W2}), W1, W2)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize(
    "names",
    [
        ("W2", "W9", "W10"),
        ("0.0.weight", "0.1.weight", "1.weight"),
        ("block1.linear9.weight", "block1.linear10.weight", "block2.linear1.weight"),
        ("enc0.weight", "mid1.weight", "dec2.weight"),
    ],
)
def test_files_are_read_in_the_order_of_the_numbers_in_their_names(tmp_path, suffix, names):
    path = tmp_path / f"weights{suffix}"
    arrays = dict(zip(names, (S1, S2, S3), strict=True))
    for order in (names, names[::-1], (names[1], names[0], names[2])):
        write(path, {name: arrays[name] for name in order} | {names[0].replace("weight", "bias") + "b": np.zeros(3)})
        same(Network.load(path), S1, S2, S3)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize(
    "names",
    [
        ("encoder.weight", "decoder.weight"),
        ("enc0", "dec0"),
        ("enc0", "enc1", "dec0"),
        ("W1", "W01"),
        ("W", "W1"),
        ("in784", "out10"),
        ("0.weight", "0.0.weight"),
    ],
)
def test_files_whose_names_do_not_tell_the_order_are_refused(tmp_path, suffix, names):
    path = tmp_path / f"weights{suffix}"
    write(path, dict.fromkeys(names, S1))
    with pytest.raises(ValueError, match=rf"^`path`: weights\{suffix} names its layers .*; name them W1, W2, \.\.\.,"):
        Network.load(path)
    write(path, {names[0]: S1})
    same(Network.load(path), S1)


def write(path, arrays):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        pytest.importorskip("safetensors.numpy").save_file(arrays, path)


def test_integers_become_floats_and_booleans_stay():
    assert Network([[[1, 2]]]).weights[0].dtype == jnp.float64
    assert Network([[[True, False]]]).weights[0].dtype == bool
    assert Network([np.ones((1, 1), dtype=np.float32)]).weights[0].dtype == jnp.float32


def test_the_callers_array_is_not_shared():
    mine = W1.copy()
    network = Network([mine])
    mine[:] = 0.0
    same(network, W1)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_files_keep_every_bit(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    assert NETWORK.save(path) == path
    same(Network.load(path), W1, W2, W3)
    deep = Network([np.full((1, 1), float(l)) for l in range(1, 12)])
    deep.save(path)  # replaces, and W10 comes after W9
    same(Network.load(str(path)), *deep.weights)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_file_that_fails_to_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = NETWORK.save(tmp_path / "weights.npz")
    before = path.read_bytes()
    monkeypatch.setattr(np, "savez", lambda file, **arrays: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        Network([W1]).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_are_no_networks(tmp_path):
    with pytest.raises(ValueError, match=r"^`path`: there is no file .*missing\.npz"):
        Network.load(tmp_path / "missing.npz")
    other = tmp_path / "weights.pt"
    other.write_bytes(b"")
    for use in (Network.load, NETWORK.save):
        with pytest.raises(
            ValueError, match=r"^`path`: weights\.pt ends in '\.pt'; give a \.npz or \.safetensors file"
        ):
            use(other)
    for name in ("broken.npz", "broken.safetensors"):
        broken = tmp_path / name
        broken.write_bytes(b"not a file of weights")
        with pytest.raises(ValueError, match=rf"^`path`: {name}"):
            Network.load(broken)
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, W1=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match=r"^`path`: pickled\.npz"):
        Network.load(pickled)


class FakeTensor:
    """What a torch Parameter offers; a Parameter cannot be turned into an array before it is detached."""

    def __init__(self, array, detached=False):
        self.array, self.detached = np.asarray(array), detached

    def detach(self):
        return FakeTensor(self.array, True)

    def cpu(self):
        return self

    def numpy(self):
        assert self.detached
        return self.array

    def __array__(self, dtype=None, copy=None):
        if not self.detached:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        return self.array

    @property
    def ndim(self):
        return self.array.ndim


class FakeModule:
    """An nn.Sequential; `kinds` names the classes of its layers."""

    def __init__(self, state, kinds):
        self.state, self.kinds = OrderedDict((name, FakeTensor(a)) for name, a in state.items()), kinds

    def state_dict(self):
        return self.state

    def children(self):
        return iter(self.kinds)

    def named_modules(self):
        yield "", self
        for i, kind in enumerate(self.kinds):
            yield str(i), type(kind, (), {"children": lambda self: iter(())})()


def test_reads_what_looks_like_a_torch_module():
    module = FakeModule({"0.weight": W1, "1.weight": W2, "1.bias": np.zeros(5), "2.weight": W3}, ["Linear"] * 3)
    same(Network.from_torch(module), W1, W2, W3)
    same(Network.from_torch(module.state_dict()), W1, W2, W3)
    same(Network(module.state_dict()), W1, W2, W3)
    float32 = FakeModule({"0.weight": W1.astype(np.float32)}, ["Linear", "Identity"])
    assert Network.from_torch(float32).widths == (2, 4)


def test_refuses_torch_modules_that_are_not_linear():
    with pytest.raises(ValueError, match=r"^`module_or_state_dict`: layer '1' is a ReLU; only Linear layers"):
        Network.from_torch(FakeModule({"0.weight": W1}, ["Linear", "ReLU"]))
    with pytest.raises(ValueError, match=r"^`weights`: '0\.bias' is a bias that is not zero"):
        Network.from_torch(FakeModule({"0.weight": W1, "0.bias": np.ones(4)}, ["Linear"]))


def test_reads_real_torch_modules():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    linear = lambda a, b, dtype=torch.float64, bias=False: nn.Linear(a, b, bias=bias, dtype=dtype)
    weights = lambda layers: [layer.weight.detach().numpy() for layer in layers]
    layers = [linear(2, 4), linear(4, 5), linear(5, 3)]
    same(Network.from_torch(nn.Sequential(*layers)), *weights(layers))
    nested = nn.Sequential(nn.Sequential(layers[0], nn.Identity(), layers[1]), layers[2])
    same(Network.from_torch(nested), *weights(layers))
    same(Network.from_torch(nn.ModuleList(layers)), *weights(layers))
    square = [linear(3, 3) for _ in range(3)]
    named = nn.Sequential(OrderedDict(zip(("z", "y", "x"), square, strict=True)))
    same(Network.from_torch(named), *weights(square))
    same(Network.from_torch(named.state_dict()), *weights(square))
    same(Network.from_torch(nn.ModuleDict({"b": square[0], "a": square[1]})), *weights(square[:2]))
    half = nn.Sequential(linear(2, 4, torch.bfloat16), linear(4, 3, torch.float16))
    assert Network.from_torch(half).weights[0].dtype == np.float64
    single = nn.Sequential(linear(2, 4, torch.float32))
    assert Network.from_torch(single).weights[0].dtype == np.float32


def test_torch_modules_whose_forward_pass_is_another_are_refused():
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Autoencoder(nn.Module):
        def __init__(self, forward):
            super().__init__()
            self.decoder, self.encoder = nn.Linear(3, 6, bias=False), nn.Linear(6, 3, bias=False)
            self.pass_ = forward

        def forward(self, x):
            return self.pass_(self, x)

    class Square(Autoencoder):
        def __init__(self, forward):
            super().__init__(forward)
            self.encoder, self.decoder = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
            self._modules = {"encoder": self.encoder, "decoder": self.decoder}

    right = Square(lambda self, x: self.decoder(self.encoder(x)))
    same(Network.from_torch(right), *[W.detach().numpy() for W in (right.encoder.weight, right.decoder.weight)])
    for wrong in (
        Square(lambda self, x: self.encoder(self.decoder(x))),
        Square(lambda self, x: torch.relu(self.decoder(self.encoder(x)))),
        Square(lambda self, x: x + self.decoder(self.encoder(x))),
        Square(lambda self, x: self.decoder(torch.tanh(self.encoder(x)))),
        Square(lambda self, x: self.decoder(x)),
    ):
        with pytest.raises(ValueError, match=r"^`module_or_state_dict`: its forward pass is not the product of its"):
            Network.from_torch(wrong)
    with pytest.raises(ValueError, match=r"^`module_or_state_dict`: its forward pass "):
        Network.from_torch(Autoencoder(lambda self, x: self.decoder(self.encoder(x))))
    with pytest.raises(ValueError, match=r"^`module_or_state_dict`: its forward pass cannot be tried on samples"):
        Network.from_torch(Square(lambda self, x: self.decoder(x["inputs"])))
    shared = nn.Linear(3, 3, bias=False)
    with pytest.raises(ValueError, match=r"^`module_or_state_dict`: '1\.weight' is the same tensor as '0\.weight'"):
        Network.from_torch(nn.Sequential(shared, shared))
    with pytest.raises(ValueError, match=r"^`module_or_state_dict`: got 3; give a torch module or its state dict"):
        Network.from_torch(3)


def test_shape_depth_and_products():
    assert NETWORK.widths == (2, 4, 5, 3)
    assert NETWORK.depth == 3
    assert NETWORK.max_rank == 2
    np.testing.assert_allclose(NETWORK.end_to_end, W3 @ W2 @ W1, rtol=1e-13, atol=1e-13)
    np.testing.assert_array_equal(NETWORK.product(2, 2), W2)
    np.testing.assert_allclose(NETWORK.product(1, 2), W2 @ W1, rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(NETWORK.product(2, 3), W3 @ W2, rtol=1e-14, atol=1e-14)
    wide = Network([W1.T, W1])  # d_y = d_x and both orders of multiplication
    np.testing.assert_allclose(wide.end_to_end, W1 @ W1.T, rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(Network([W3.T, W2.T, W1.T]).end_to_end, (W3 @ W2 @ W1).T, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(("i", "j"), [(0, 1), (2, 1), (1, 4), (-1, 2)])
def test_products_outside_the_network(i, j):
    with pytest.raises(ValueError, match=rf"^`i`, `j`: got {i}, {j}; layers are numbered 1 <= i <= j <= 3"):
        NETWORK.product(i, j)


def test_between_maps_inputs_and_outputs():
    A, B = np.ones((2, 6)), np.ones((1, 3))
    np.testing.assert_allclose(NETWORK.between(A, B).end_to_end, B @ W3 @ W2 @ W1 @ A, rtol=1e-12)
    same(NETWORK.between(), W1, W2, W3)
    single = Network([W1]).between(A, np.ones((1, 4)))
    np.testing.assert_allclose(single.end_to_end, np.ones((1, 4)) @ W1 @ A, rtol=1e-13)


def test_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        NETWORK.weights = ()


def test_is_a_pytree():
    leaves, structure = jax.tree.flatten(NETWORK)
    assert len(leaves) == 3
    same(jax.tree.unflatten(structure, leaves), W1, W2, W3)
    flat, unravel = jax.flatten_util.ravel_pytree(NETWORK)
    assert flat.shape == (8 + 20 + 15,)
    same(unravel(flat), W1, W2, W3)
    slope = jax.grad(lambda network: jnp.sum(network.end_to_end))(NETWORK)
    np.testing.assert_allclose(slope.weights[1], W3.T @ np.ones((3, 2)) @ W1.T, rtol=1e-13, atol=1e-13)
    batch = jax.tree.map(lambda W: jnp.stack([W, 2 * W]), NETWORK)
    products = jax.jit(jax.vmap(lambda network: network.end_to_end))(batch)
    np.testing.assert_allclose(products[1], 8 * products[0], rtol=1e-13)


def test_says_what_it_is():
    assert repr(NETWORK) == "Network(2 -> 4 -> 5 -> 3: 43 weights, float64)"
    batch = jax.tree.map(lambda W: jnp.stack([W] * 7), NETWORK)
    assert repr(batch) == "Network(2 -> 4 -> 5 -> 3: 43 weights, float64, batch 7)"
    assert repr(dl.Network([np.zeros((100, 100))])) == "Network(100 -> 100: 10,000 weights, float64)"
    assert repr(jax.tree.map(lambda W: None, NETWORK)) == "Network((None, None, None))"


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([], r"^`weights`: is empty; a network needs at least one matrix"),
        (
            [W1, W3],
            r"^`weights`: layer 1 has 4 rows, but layer 2 has 5 columns \(shapes \(4, 2\) and \(3, 5\)\); W_l must",
        ),
        ([W1[:, 0]], r"^`weights`: layer 1 has shape \(4,\); give a matrix, with no empty axis"),
        ([W1, np.zeros((0, 4))], r"^`weights`: layer 2 has shape \(0, 4\)"),
        ([[[1.0], [2.0, 3.0]]], r"^`weights`: layer 1 has rows of different lengths; every row needs"),
        ([[["a"]]], r"^`weights`: layer 1 has the text 'a'; give real numbers"),
        ([W1 * 1j], r"^`weights`: layer 1 has entries of type complex128; give real numbers"),
        ([jnp.ones((2, 2), dtype=complex)], r"^`weights`: layer 1 has entries of type complex128; give real numbers"),
        ([np.full((1, 1), np.nan)], r"^`weights`: layer 1 has nan at row 1, column 1; give finite numbers"),
        ([W1, np.full((2, 4), np.inf)], r"^`weights`: layer 2 has inf at row 1, column 1; give finite numbers"),
        ({"W1": W1, "b1": np.ones(4)}, r"^`weights`: 'b1' is a bias that is not zero"),
        ("weights.npz", r"^`weights`: got 'weights\.npz'; read files by `Network\.load`"),
        (W1, r"^`weights`: is one matrix; give a list, one matrix a layer"),
        ([W1.T, W2.T], r"They fit in reverse order, and transposed: give the first layer"),
        (3, r"^`weights`: "),
        (np.float64(1.0), r"^`weights`: "),
    ],
)
def test_bad_weights_get_one_clear_line(weights, message):
    with pytest.raises(ValueError, match=message) as caught:
        Network(weights)
    assert "\n" not in str(caught.value)
