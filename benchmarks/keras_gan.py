"""The published recipes in Keras 3 on TensorFlow, as its guides write them: what Modiste's speed is measured against.

A whole step, both updates, is one `tf.function`; batches come from `tf.data` with prefetching, out of a tensor of all
images that was resized beforehand. Layers, batch, losses and Adam's settings are those of each recipe; weights are in
float32, and the arithmetic in float32 or under the policy `mixed_bfloat16`, with logits and images in float32 as Keras'
guide advises.

Updates alternate, as in Modiste: the generator's update sees the discriminator after its own update. (TensorFlow's
DCGAN tutorial takes both gradients from the same passes, which spares one pass of three through the discriminator; that
is another algorithm.) The generator runs once a step for both updates, and the generator's update computes no gradients
of the discriminator's weights, as in Modiste. Real and generated images go through the discriminator separately, as in
the tutorial, where Modiste joins them if there is no batch norm: joined they were as fast in float32 and 6 % slower in
bfloat16 (`noronha`). XLA (`jit_compile=True`) took 1.3 and 2 times as long (`diaz-a`), so it is off. One layer differs:
`bare-naich` has padding in its last transposed convolution, which Keras' has not, so 32 x 32 pixels are made and
cropped to 28 x 28.

    python benchmarks/keras_gan.py --serve JSON     # bench_rivals.py says so; needs benchmarks/rivals-requirements.txt
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import line_protocol
import numpy as np
from keras import layers
from keras.layers import BatchNormalization, Conv2D, Conv2DTranspose, Dense, Dropout, Flatten, LeakyReLU, ReLU, Reshape

CLASSES = 10
LAST = "float32"  # the type of logits and images under a mixed policy


def torch_norm() -> keras.Layer:
    """Batch norm with the defaults of PyTorch."""
    return BatchNormalization(momentum=0.9, epsilon=1e-5)


def noronha() -> tuple[list[keras.Layer], list[keras.Layer]]:
    """A dense layer and 5 x 5 kernels; dropout."""
    generator = [
        keras.Input((100,)),
        Dense(7 * 7 * 128, use_bias=False),
        BatchNormalization(),
        LeakyReLU(0.3),
        Reshape((7, 7, 128)),
        Conv2DTranspose(128, 5, 1, "same", use_bias=False),
        BatchNormalization(),
        LeakyReLU(0.3),
        Conv2DTranspose(32, 5, 2, "same", use_bias=False),
        BatchNormalization(),
        LeakyReLU(0.3),
        Conv2DTranspose(1, 5, 2, "same", use_bias=False),
        layers.Activation("tanh", dtype=LAST),
    ]
    discriminator = [
        keras.Input((28, 28, 1)),
        Conv2D(64, 5, 2, "same"),
        LeakyReLU(0.3),
        Dropout(0.3),
        Conv2D(256, 5, 2, "same"),
        LeakyReLU(0.3),
        Dropout(0.3),
        Flatten(),
        Dense(1, dtype=LAST),
    ]
    return generator, discriminator


def dense_sigmoid() -> tuple[list[keras.Layer], list[keras.Layer]]:
    """A dense layer and 5 x 5 kernels without batch norm; a sigmoid at the end, moved and scaled to [-1, 1]."""
    generator = [
        keras.Input((100,)),
        Dense(7 * 7 * 128, activation="relu"),
        Reshape((7, 7, 128)),
        Conv2DTranspose(64, 5, 2, "same", activation="relu"),
        Conv2DTranspose(1, 5, 2, "same"),
        layers.Activation("sigmoid", dtype=LAST),
        layers.Rescaling(2.0, -1.0, dtype=LAST),
    ]
    discriminator = [
        keras.Input((28, 28, 1)),
        Conv2D(64, 5, 2, "same"),
        LeakyReLU(0.3),
        Conv2D(128, 5, 2, "same"),
        LeakyReLU(0.3),
        Flatten(),
        Dense(1, dtype=LAST),
    ]
    return generator, discriminator


def dcgan(side: int, widths: tuple[int, ...]) -> tuple[list[keras.Layer], list[keras.Layer]]:
    """A 4 x 4 map from the noise, doubled to the image by 4 x 4 kernels, and back."""
    first, *further = widths
    generator = [
        keras.Input((100,)),
        Reshape((1, 1, 100)),
        Conv2DTranspose(first, 4, 1, "valid", use_bias=False),
        torch_norm(),
        ReLU(),
    ]
    for width in further:
        generator += [Conv2DTranspose(width, 4, 2, "same", use_bias=False), torch_norm(), ReLU()]
    generator += [Conv2DTranspose(1, 4, 2, "same", use_bias=False), layers.Activation("tanh", dtype=LAST)]
    narrow, *wider = reversed(widths)
    discriminator = [keras.Input((side, side, 1)), Conv2D(narrow, 4, 2, "same", use_bias=False), LeakyReLU(0.2)]
    for width in wider:
        discriminator += [Conv2D(width, 4, 2, "same", use_bias=False), torch_norm(), LeakyReLU(0.2)]
    discriminator += [Conv2D(1, 4, 1, "valid", use_bias=False, dtype=LAST), Flatten(dtype=LAST)]
    return generator, discriminator


def bare_naich() -> tuple[list[keras.Layer], list[keras.Layer]]:
    """Kernels without padding; the inputs have one-hot labels beside the noise and beside the image."""
    generator = [keras.Input((64 + CLASSES,)), Reshape((1, 1, 64 + CLASSES))]
    for width in (256, 128, 64):
        generator += [Conv2DTranspose(width, 3, 2, "valid", use_bias=False), torch_norm(), ReLU()]
    generator += [Conv2DTranspose(1, 4, 2, "valid"), layers.Cropping2D(2), layers.Activation("tanh", dtype=LAST)]
    discriminator = [keras.Input((28, 28, 1 + CLASSES))]
    for width, stride in ((64, 1), (128, 2), (256, 2)):
        discriminator += [Conv2D(width, 4, stride, "valid", use_bias=False), torch_norm(), LeakyReLU(0.2)]
    discriminator += [Conv2D(1, 4, 2, "valid", dtype=LAST), Flatten(dtype=LAST)]
    return generator, discriminator


class Script(NamedTuple):
    """What differs between the scripts."""

    networks: Callable[[], tuple[list[keras.Layer], list[keras.Layer]]]
    side: int
    z_dim: int
    batch_size: int
    rate: float = 2e-4
    beta_1: float = 0.5
    epsilon: float = 1e-8
    conditional: bool = False
    minimax: bool = False


SCRIPTS = {
    "noronha": Script(noronha, 28, 100, 256, 1e-4, 0.9, 1e-7, minimax=True),
    "diaz-a": Script(lambda: dcgan(32, (256, 128, 64)), 32, 100, 128),
    "roh": Script(lambda: dcgan(64, (512, 256, 128, 64)), 64, 100, 128),
    "dense-sigmoid": Script(dense_sigmoid, 28, 100, 24, 1e-4, 0.001, 1e-7),
    "bare-naich": Script(bare_naich, 28, 64, 128, conditional=True),
}


def build(script: Script) -> tuple[keras.Model, keras.Model]:
    """The generator and the discriminator."""
    generator, discriminator = script.networks()
    return keras.Sequential(generator), keras.Sequential(discriminator)


def batches(script: Script, pixels: np.ndarray, labels: np.ndarray, batch_size: int) -> Any:
    """Endless shuffled batches: images float32 [N, side, side, 1] in [-1, 1] and one-hot labels [N, 10]."""
    import tensorflow as tf

    images = tf.constant(pixels[..., None])
    if pixels.shape[1] != script.side:
        size = (script.side, script.side)
        images = tf.concat([tf.cast(tf.image.resize(part, size), tf.uint8) for part in tf.split(images, 4)], 0)
    numbers = tf.constant(labels)

    def fetch(indices: Any) -> tuple[Any, Any]:
        real = tf.cast(tf.gather(images, indices), tf.float32) / 127.5 - 1.0
        return real, tf.one_hot(tf.gather(numbers, indices), CLASSES)

    order = tf.data.Dataset.range(len(pixels)).shuffle(len(pixels)).repeat()
    return iter(order.batch(batch_size, drop_remainder=True).map(fetch).prefetch(tf.data.AUTOTUNE))


def make_step(
    script: Script, networks: tuple[keras.Model, keras.Model], pixels: np.ndarray, labels: np.ndarray, batch_size: int
) -> Callable[[], tuple[Any, Any]]:
    """A function that trains on the next batch of these grey images [N, H, W]; both losses come back."""
    import tensorflow as tf

    generator, discriminator = networks
    cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)
    optimizer_g, optimizer_d = (
        keras.optimizers.Adam(script.rate, beta_1=script.beta_1, beta_2=0.999, epsilon=script.epsilon) for _ in "gd"
    )
    for optimizer, network in ((optimizer_g, generator), (optimizer_d, discriminator)):
        optimizer.build(network.trainable_variables)

    def shown(images: Any, classes: Any) -> Any:
        if not script.conditional:
            return images
        maps = tf.broadcast_to(classes[:, None, None], (*images.shape[:3], CLASSES))
        return tf.concat([images, maps], axis=-1)

    @tf.function
    def step(real: Any, classes: Any) -> tuple[Any, Any]:
        noise = tf.random.normal((batch_size, script.z_dim))
        if script.conditional:
            noise = tf.concat([noise, classes], axis=1)
        with tf.GradientTape() as tape_g:
            fake = generator(noise, training=True)
            with tape_g.stop_recording():
                with tf.GradientTape() as tape_d:
                    real_logits = discriminator(shown(real, classes), training=True)
                    fake_logits = discriminator(shown(tf.stop_gradient(fake), classes), training=True)
                    loss_real = cross_entropy(tf.ones_like(real_logits), real_logits)
                    loss_d = loss_real + cross_entropy(tf.zeros_like(fake_logits), fake_logits)
                weights = discriminator.trainable_variables
                optimizer_d.apply_gradients(zip(tape_d.gradient(loss_d, weights), weights, strict=True))
            logits = discriminator(shown(fake, classes), training=True)
            if script.minimax:
                loss_g = -cross_entropy(tf.zeros_like(logits), logits)
            else:
                loss_g = cross_entropy(tf.ones_like(logits), logits)
        weights = generator.trainable_variables
        optimizer_g.apply_gradients(zip(tape_g.gradient(loss_g, weights), weights, strict=True))
        return loss_d, loss_g

    following = batches(script, pixels, labels, batch_size)

    return lambda: step(*next(following))


def compete(settings: dict[str, Any]) -> None:
    """Be a contestant of bench_rivals.py."""
    import tensorflow as tf

    if settings["threads"]:
        tf.config.threading.set_intra_op_parallelism_threads(settings["threads"])
    keras.config.set_dtype_policy("mixed_bfloat16" if settings["precision"] == "bfloat16" else "float32")
    script, data = SCRIPTS[settings["recipe"]], np.load(settings["data"])
    networks = build(script)
    counts = [sum(int(np.prod(weight.shape)) for weight in network.trainable_variables) for network in networks]
    step = make_step(script, networks, data["pixels"], data["labels"], settings["batch_size"])
    version = f"Keras {keras.__version__}, TensorFlow {tf.__version__}"
    line_protocol.serve({"parameters": counts, "version": version}, line_protocol.plain(step))


if __name__ == "__main__":
    compete(json.loads(sys.argv[2]))
