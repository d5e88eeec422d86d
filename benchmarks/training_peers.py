"""The peers' arms of the training benchmark, as their users write them; imports nothing of this project.

`training_peers.py ARM PROBLEM FOLDER` trains one epoch for each line of its input and answers each with one line of
JSON: the seconds it took and the mean loss of the epoch. PROBLEM is a JSON object (benchmarks/training.py), FOLDER
holds x.npy (N, T, F) uint8 and y.npy (N,) int32. PyTorch and JAX run in virtual environments of their own, Keras in
that of the project, with the defaults of a user's environment.

What was chosen for which peer, and why, stands at its function.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    Epoch = Callable[[], float]

CLASSES = 10
CORES = 2
FEW, FEW_LONG, LONG = 60, 3, 100  # batches to choose by; sequences of more steps than the last get the second
TURNS = 3


def keras_fit(
    problem: dict[str, Any],
    x: np.ndarray,
    y: np.ndarray,
    *,
    jit_compile: bool | str = "auto",
    steps_per_execution: int = 1,
) -> Epoch:
    """`Sequential` and `fit` on arrays in memory, by itself or as Keras' documentation of `compile` tunes it.

    `jit_compile="auto"`, the default, means False on a CPU; `steps_per_execution` is what it advises for small models.
    """
    import keras

    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.layers.Input(x.shape[1:]),
            keras.layers.LSTM(problem["units"]),
            keras.layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    optimizer = {"rmsprop": keras.optimizers.RMSprop, "adam": keras.optimizers.Adam}[problem["optimizer"]]
    squared = problem["loss"] == "mean-squared-error"
    model.compile(
        optimizer=optimizer(learning_rate=problem["learning_rate"], global_clipnorm=problem["clip_norm"] or None),
        loss="mean_squared_error" if squared else "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=jit_compile,
        steps_per_execution=steps_per_execution,
    )
    wanted = keras.utils.to_categorical(y, CLASSES) if squared else y

    def epoch() -> float:
        history = model.fit(x, wanted, batch_size=problem["batch"], epochs=1, verbose=0)
        return float(history.history["loss"][0])

    return epoch


def pytorch(
    problem: dict[str, Any], x: np.ndarray, y: np.ndarray, *, threads: int = CORES, update: str = "foreach"
) -> Epoch:
    """`nn.LSTM` (oneDNN's kernel) on resident tensors, rows taken by a permuted index.

    Threads and the kind of update are chosen by what goes fastest. `torch.compile` is left out: on a CPU Dynamo makes
    no graph of `nn.LSTM`, so that nothing gets faster, and with `allow_rnn` it fails at oneDNN's kernel (TypeError).
    """
    import torch
    from torch import nn
    from torch.nn import functional

    torch.manual_seed(1)
    torch.set_num_threads(threads)

    class Net(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(problem["features"], problem["units"], batch_first=True)
            self.head = nn.Linear(problem["units"], CLASSES)

        def forward(self, steps: Any) -> Any:  # noqa: ANN401
            _, (last, _) = self.lstm(steps)
            return self.head(last[0])

    net = Net()
    samples, labels = torch.from_numpy(x), torch.from_numpy(y).long()
    parameters, rate = list(net.parameters()), problem["learning_rate"]
    if problem["optimizer"] == "rmsprop":
        optimizer: Any = torch.optim.RMSprop(parameters, rate, alpha=0.9, eps=1e-7, foreach=update == "foreach")
    else:
        how = {"fused": update == "fused", "foreach": update == "foreach"}
        optimizer = torch.optim.Adam(parameters, rate, eps=1e-7, **how)
    if problem["loss"] == "mean-squared-error":
        wanted = functional.one_hot(labels, CLASSES).float()

        def loss_of(logits: Any, rows: Any) -> Any:  # noqa: ANN401
            return functional.mse_loss(logits.softmax(-1), wanted[rows])

    else:

        def loss_of(logits: Any, rows: Any) -> Any:  # noqa: ANN401
            return functional.cross_entropy(logits, labels[rows])

    def epoch() -> float:
        total = torch.zeros(())
        for rows in torch.randperm(len(samples)).split(problem["batch"]):
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(net(samples[rows]), rows)
            loss.backward()
            if problem["clip_norm"]:
                nn.utils.clip_grad_norm_(parameters, problem["clip_norm"], foreach=True)
            optimizer.step()
            total += loss.detach() * len(rows)
        return float(total / len(samples))

    return epoch


def jax_scan(
    problem: dict[str, Any], x: np.ndarray, y: np.ndarray, *, hoisted: bool = True, unroll: int = 1, devices: int = 1
) -> Epoch:
    """The whole epoch in one `jit`: a `lax.scan` over the batches, in it one over the steps.

    The samples are arguments that stay on the device, the state is donated. A last batch that is not full is one call
    of the same step. With two devices each batch is sharded, a half a core, and JAX adds the gradients.
    """
    import jax
    import optax
    from jax import lax
    from jax.sharding import NamedSharding, PartitionSpec

    jax.config.update("jax_num_cpu_devices", devices)
    optimizer, loss_of = _jax_optimizer(problem), _jax_loss(problem, hoisted=hoisted, unroll=unroll)

    def step(state: Any, rows: Any, x: Any, y: Any) -> tuple[Any, Any]:  # noqa: ANN401
        p, slots = state
        loss, gradient = jax.value_and_grad(loss_of)(p, x[rows], y[rows])
        updates, slots = optimizer.update(gradient, slots, p)
        return (optax.apply_updates(p, updates), slots), loss * len(rows)

    def whole(state: Any, order: Any, x: Any, y: Any) -> tuple[Any, Any]:  # noqa: ANN401
        state, losses = lax.scan(lambda state, rows: step(state, rows, x, y), state, order)
        return state, losses.sum()

    whole_epoch, last_batch = jax.jit(whole, donate_argnums=0), jax.jit(step, donate_argnums=0)
    mesh = jax.make_mesh((devices,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    everywhere, cut = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(None, "rows"))
    resident, labels, parameters = jax.device_put((x, y, _jax_parameters(problem)), everywhere)
    state = jax.device_put((parameters, optimizer.init(parameters)), everywhere)
    random, batch = np.random.default_rng(1), problem["batch"]
    full = len(x) // batch * batch

    def epoch() -> float:
        nonlocal state
        order = random.permutation(len(x)).astype(np.int32)
        batches = jax.device_put(order[:full].reshape(-1, batch), cut)
        state, total = whole_epoch(state, batches, resident, labels)
        if full < len(x):
            state, rest = last_batch(state, order[full:], resident, labels)
            total = total + rest
        return float(total) / len(x)

    return epoch


def _jax_parameters(problem: dict[str, Any]) -> dict[str, Any]:
    """As Keras draws them: Glorot and orthogonal, the forget gate's bias 1."""
    import jax
    import jax.numpy as jnp

    units, features = problem["units"], problem["features"]
    keys = jax.random.split(jax.random.key(1), 3)
    drawn, orthogonal = jax.nn.initializers.glorot_uniform(), jax.nn.initializers.orthogonal()
    return {
        "w": drawn(keys[0], (features, 4 * units)),
        "u": orthogonal(keys[1], (units, 4 * units)),
        "b": jnp.zeros(4 * units).at[units : 2 * units].set(1.0),
        "head": drawn(keys[2], (units, CLASSES)),
        "bias": jnp.zeros(CLASSES),
    }


def _jax_optimizer(problem: dict[str, Any]) -> Any:  # noqa: ANN401
    import optax

    if problem["optimizer"] == "rmsprop":
        optimizer = optax.rmsprop(problem["learning_rate"], decay=0.9, eps=1e-7)
    else:
        optimizer = optax.adam(problem["learning_rate"], eps=1e-7)
    clip = problem["clip_norm"]
    return optax.chain(optax.clip_by_global_norm(clip), optimizer) if clip else optimizer


def _jax_loss(problem: dict[str, Any], *, hoisted: bool, unroll: int) -> Callable[..., Any]:
    """The mean loss of a batch, its inputs projected before the loop over the steps (hoisted) or in it."""
    import jax
    import jax.numpy as jnp
    import optax
    from jax import lax

    def logits_of(p: dict[str, Any], steps: Any) -> Any:  # noqa: ANN401
        steps = jnp.swapaxes(steps, 0, 1)
        steps = steps @ p["w"] + p["b"] if hoisted else steps

        def cell(carry: tuple[Any, Any], step: Any) -> tuple[tuple[Any, Any], None]:  # noqa: ANN401
            h, c = carry
            step = step if hoisted else step @ p["w"] + p["b"]
            i, f, g, o = jnp.split(step + h @ p["u"], 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

        zero = jnp.zeros((steps.shape[1], problem["units"]))
        (h, _), _ = lax.scan(cell, (zero, zero), steps, unroll=unroll)
        return h @ p["head"] + p["bias"]

    def loss_of(p: dict[str, Any], steps: Any, labels: Any) -> Any:  # noqa: ANN401
        logits = logits_of(p, steps)
        if problem["loss"] == "mean-squared-error":
            return jnp.mean(jnp.square(jax.nn.softmax(logits) - jax.nn.one_hot(labels, CLASSES)))
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    return loss_of


def fastest(make: Callable[..., Epoch], variants: list[dict[str, Any]], *given: Any) -> dict[str, Any]:  # noqa: ANN401
    """The variant whose batches go fastest on this machine; each is built, warmed up and timed on some of them."""
    problem, x, y = given
    few = problem["batch"] * (FEW_LONG if problem["steps"] > LONG else FEW)

    def took(variant: dict[str, Any]) -> float:
        epoch = make(problem, x[:few], y[:few], **variant)
        epoch()
        return min(_seconds(epoch) for _ in range(TURNS))

    return min(variants, key=took)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


# How an arm is made, and the variants among which it chooses on the machine it runs on.
ARMS: dict[str, tuple[Callable[..., Epoch], list[dict[str, Any]]]] = {
    "keras": (keras_fit, [{}]),
    "keras-tuned": (
        keras_fit,
        [
            {"jit_compile": compiled, "steps_per_execution": batches}
            for compiled, batches in (("auto", 30), (True, 1), (True, 30))
        ],
    ),
    "pytorch": (
        pytorch,
        [
            {"threads": threads, "update": update}
            for threads in (CORES, 1)
            for update in ("foreach", "fused", "single")  # RMSprop has no fused one: the same as single
        ],
    ),
    "jax": (jax_scan, [{"hoisted": hoisted, "unroll": unroll} for hoisted in (True, False) for unroll in (1, 2, 4)]),
    "jax-devices": (jax_scan, [{"hoisted": hoisted, "devices": CORES} for hoisted in (True, False)]),
}


def arm_of(name: str, problem: dict[str, Any], folder: Path) -> Callable[[], dict[str, Any]]:
    """One epoch as an answer: its seconds and its loss."""
    x, y = (np.load(folder / file, allow_pickle=False) for file in ("x.npy", "y.npy"))
    if problem["scaled"]:
        x = x / np.float32(255)
    x = x.astype(np.float32, copy=False)
    make, variants = ARMS[name]
    chosen = fastest(make, variants, problem, x, y) if len(variants) > 1 else variants[0]
    epoch = make(problem, x, y, **chosen)

    def timed() -> dict[str, Any]:
        start = time.perf_counter()
        loss = epoch()
        return {"seconds": time.perf_counter() - start, "loss": loss, "chosen": chosen}

    return timed


def main() -> None:
    """Answer each line; whatever the peers print goes to standard error."""
    name, problem, folder = sys.argv[1:]
    with contextlib.redirect_stdout(sys.stderr):
        arm = arm_of(name, json.loads(problem), Path(folder))
    for _ in sys.stdin:
        with contextlib.redirect_stdout(sys.stderr):
            answer = arm()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
