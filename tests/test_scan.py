"""The loop over equal blocks: agreement with the chain of blocks, gradients, and recomputation, on every backend."""

import pytest
from conftest import needs, python

BACKENDS = [
    pytest.param(name, marks=[needs(name), *([] if name == "tensorflow" else [pytest.mark.slow])])
    for name in ("tensorflow", "jax", "torch")
]

CHAIN = """
import keras, numpy as np
from keras import ops
from reszoo.arch.layers import batch_normalization
from reszoo.arch.scan import scan

COUNT, BACKEND = 5, keras.backend.backend()
EXACT = BACKEND != "jax"
keras.config.set_dtype_policy(POLICY)
layers = [keras.layers.Dense(6, use_bias=False), batch_normalization(), keras.layers.Dropout(0.5, seed=1)]
pattern = keras.Sequential([keras.Input((6,)), *layers])
random = np.random.default_rng(0)
weights = [random.normal(size=(COUNT, *v.shape)).astype("float32") for v in pattern.trainable_variables]
rates, shifts = random.uniform(size=COUNT).astype("float32"), np.arange(COUNT, dtype="int32")
states = [random.uniform(1, 2, (COUNT, *v.shape)) for v in pattern.non_trainable_variables[:2]]
seeds = random.integers(1000, size=(COUNT, 2))
scanned = [*weights, rates, shifts]
x = random.normal(size=(4, 6)).astype("float32")


def tensors(training):
    kinds = [v.dtype for v in pattern.non_trainable_variables]
    stacks = [ops.convert_to_tensor(value, kind) for value, kind in zip([*states, seeds], kinds)]
    return ops.cast(x, pattern.compute_dtype), [ops.convert_to_tensor(value) for value in scanned], stacks


def block(x, scanned, states, training):
    *weights, rate, shift = scanned
    y, after = pattern.stateless_call(weights, states, x, training=training)
    return x + ops.cast(rate, x.dtype) * y + ops.cast(shift, x.dtype), after


def chain(block, x, scanned, states, recompute):
    new = []
    for i in range(COUNT):
        x, after = block(x, [stack[i] for stack in scanned], [stack[i] for stack in states])
        new.append(after)
    return x, [ops.stack(values) for values in zip(*new)]


def results(function, recompute, training):
    '''The output, the new states, and the gradients of the input and of every stack of floating-point numbers.'''
    x, scanned, states = tensors(training)
    floats = [x, *scanned[:-1]]

    def loss(*floats):
        arguments = floats[0], [*floats[1:], scanned[-1]], states
        y, after = function(lambda *a: block(*a, training), *arguments, recompute=recompute)
        return ops.sum(ops.cast(y, "float32") ** 2), (y, *after)

    if BACKEND == "tensorflow":
        import tensorflow as tf
        with tf.GradientTape() as tape:
            tape.watch(floats)
            value, outputs = loss(*floats)
        grads = tape.gradient(value, floats)
    elif BACKEND == "jax":
        import jax
        grads, outputs = jax.jit(jax.grad(loss, argnums=range(len(floats)), has_aux=True))(*floats)
    else:
        floats = [value.detach().clone().requires_grad_() for value in floats]
        value, outputs = loss(*floats)
        for stack in states:  # Keras assigns new states in place
            stack.zero_()
        value.backward()
        grads = [value.grad for value in floats]
    return [ops.convert_to_numpy(ops.cast(value, "float32")) for value in (*outputs, *grads)]


def compiled(function, recompute, training, jit_compile=False):
    '''As `results`, in a graph of TensorFlow: a batch of any size, except under XLA.'''
    import tensorflow as tf
    x, scanned, states = tensors(training)
    shape = x.shape if jit_compile else [None, 6]

    @tf.function(jit_compile=jit_compile, input_signature=[tf.TensorSpec(shape, x.dtype)])
    def graph(x):
        floats = [x, *scanned[:-1]]
        with tf.GradientTape() as tape:
            tape.watch(floats)
            y, after = function(lambda *a: block(*a, training), x, scanned, states, recompute=recompute)
            loss = tf.reduce_sum(tf.cast(y, "float32") ** 2)
        return [y, *after, *tape.gradient(loss, floats)]

    return [ops.convert_to_numpy(ops.cast(value, "float32")) for value in graph(x)]


def compare(results, expected, exact, tolerance=1e-5):
    for index, (a, b) in enumerate(zip(results, expected, strict=True)):
        assert (a == b).all() if exact else abs(a - b).max() <= tolerance * max(abs(b).max(), 1), (index, a, b)
"""

EQUAL = """
for training in (True, False):
    first = results(scan, 0, training)
    compare(first, results(chain, 0, training), exact=False)
    assert all(abs(gradient).max() > 0 for gradient in first[4:])
    for recompute in (2, 5, 9) if training else (1,):
        compare(results(scan, recompute, training), first, exact=EXACT, tolerance=1e-6)
if BACKEND == "tensorflow":
    for xla in (False, True):
        graph = compiled(scan, 0, True, jit_compile=xla)
        compare(compiled(scan, 2, True, jit_compile=xla), graph, exact=not xla)
"""

HALF = """
first = (compiled if BACKEND == "tensorflow" else results)(scan, 0, True)
second = (compiled if BACKEND == "tensorflow" else results)(scan, 2, True)
compare(second, first, exact=EXACT, tolerance=2e-2)
print("done")
"""


MEMORY = """
from pathlib import Path

scales = ops.ones((64,)) / 64


def peak():
    '''The most memory of this program so far in MiB; that of `resource` begins with the process that started it.'''
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def growth(recompute, size):
    '''MiB by which the peak of memory grows with the gradient of 64 blocks.'''
    x, before = ops.ones((size, 1024)), peak()

    def loss(scales):
        y, _ = scan(lambda x, scanned, _: (x + ops.sin(x * scanned[0]), ()), x, [scales], (), recompute=recompute)
        return ops.sum(y)

    if BACKEND == "tensorflow":
        import tensorflow as tf

        @tf.function
        def gradient(scales):
            with tf.GradientTape() as tape:
                tape.watch(scales)
                value = loss(scales)
            return tape.gradient(value, scales)

        gradient(scales)
    elif BACKEND == "jax":
        import jax

        jax.jit(jax.grad(loss))(scales).block_until_ready()
    else:
        loss(scales.clone().requires_grad_()).backward()
    return peak() - before


growth(8, 1)  # loads what the backend needs
few, all_of_them = growth(8, 1024), growth(0, 1024)
assert all_of_them > 200 and few < all_of_them / 2, (few, all_of_them)
print("done")
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_loop_and_recomputation_agree_with_the_chain_of_blocks(backend):
    code = ["POLICY = 'float32'", CHAIN, EQUAL, "POLICY = 'mixed_bfloat16'", CHAIN, HALF]
    assert python("".join(code), backend=backend).strip() == "done"


@pytest.mark.parametrize("backend", BACKENDS)
def test_recomputation_saves_memory(backend, monkeypatch):
    # PyTorch frees what glibc would keep in a fragmented heap.
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")
    assert python("POLICY = 'float32'" + CHAIN + MEMORY, backend=backend).strip() == "done"


CONVOLUTION = """
import jax, keras, numpy as np
from keras import ops
from reszoo.arch.layers import quicken

random = np.random.default_rng(0)
CASES = [(1, "same", 1), (2, "valid", 1), (2, "same", 2), ((3, 5), "same", 1), (3, "valid", 2)]
for kernel, padding, dilation in CASES:
    layer = keras.layers.Conv2D(5, kernel, padding=padding, dilation_rate=dilation, activation="tanh")
    x = random.normal(size=(3, 13, 11, 4)).astype("float32")
    layer.build(x.shape)
    layer.bias.assign(random.normal(size=5))
    weights = [variable.value for variable in layer.variables]

    def loss(x, weights):
        return ops.sum(ops.sin(layer.stateless_call(weights, [], x)[0]))

    gradient = lambda: jax.tree.leaves(jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(x, weights))
    stock = gradient()
    quicken(layer)
    assert "custom_vjp" in str(jax.make_jaxpr(lambda x: layer(x))(x))
    for ours, theirs in zip(gradient(), stock, strict=True):
        assert abs(ours - theirs).max() <= 2e-6 * abs(theirs).max(), (kernel, padding, dilation)
for settings in ({"groups": 2}, {"strides": 2}, {"data_format": "channels_first"}):
    layer = keras.layers.Conv2D(4, 3, padding="same", **settings)
    quicken(layer)
    assert "convolution_op" not in vars(layer), settings
model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])
config = model.layers[0].get_config()
quicken(model.layers[0])
assert model.layers[0].get_config() == config and type(model.layers[0]) is keras.layers.Conv2D
model.save("model.keras")
again = keras.saving.load_model("model.keras")
assert "convolution_op" not in vars(again.layers[0])
x = random.normal(size=(2, 8, 8, 3)).astype("float32")
assert abs(model(x) - again(x)).max() < 1e-6
print("done")
"""


@pytest.mark.slow
@needs("jax")
def test_convolution_for_loops_agrees_with_the_stock_one(tmp_path):
    assert python(CONVOLUTION, backend="jax", folder=tmp_path).strip() == "done"
