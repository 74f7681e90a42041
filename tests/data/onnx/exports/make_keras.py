"""Writes the Keras fixtures (TensorFlow backend, NHWC): `python make_keras.py`, with requirements-keras.txt."""

import os
import pathlib
import sys

os.environ["KERAS_BACKEND"], os.environ["CUDA_VISIBLE_DEVICES"], os.environ["TF_CPP_MIN_LOG_LEVEL"] = "tensorflow", "", "2"
import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from keras import layers as L
from safetensors.numpy import save_file

from pictures import pictures, targets

HERE = pathlib.Path(__file__).parent
SIZE = 32


def mobile(dtype):
    """In the manner of keras.applications' MobileNets: strides with SAME pads, separable convolutions, gates."""
    keras.backend.set_floatx(dtype)
    image = L.Input((SIZE, SIZE, 3), name="image", dtype=dtype)
    x = L.Rescaling(2.0, -1.0)(image)
    x = L.Conv2D(8, 3, 2, "same", use_bias=False)(x)
    x = L.BatchNormalization()(x)
    x = L.ReLU(6.0)(x)
    x = L.ZeroPadding2D(((0, 1), (0, 1)))(x)
    x = L.DepthwiseConv2D(3, 2, "valid", use_bias=False)(x)
    x = L.BatchNormalization()(x)
    x = L.Activation("swish")(x)
    skip = x
    x = L.SeparableConv2D(8, 5, padding="same", activation="softplus")(x)
    x = L.LayerNormalization()(x)
    gate = L.GlobalAveragePooling2D(keepdims=True)(x)
    gate = L.Conv2D(8, 1, activation="hard_sigmoid")(L.Conv2D(4, 1, activation="relu")(gate))
    x = L.Add()([L.Multiply()([x, gate]), skip])
    x = L.Concatenate()([L.MaxPooling2D(3, 2, "same")(x), L.AveragePooling2D(3, 2, "same")(x)])
    x = L.Conv2DTranspose(12, 3, 2, "same")(x)
    x = L.UpSampling2D(2, interpolation="bilinear")(x)
    x = L.Conv2D(16, 3, 2, "same", activation="elu")(x)
    x = L.Reshape((-1, 16))(x)
    x = x + L.MultiHeadAttention(2, 8)(x, x)
    x = L.GlobalAveragePooling1D()(x)
    x = L.Dropout(0.2)(x)
    x = L.Dense(16)(x)
    return keras.Model(image, L.UnitNormalization(name="embedding")(x))


def residual(dtype):
    """A plain residual net without normalisation of the embedding."""
    keras.backend.set_floatx(dtype)
    image = L.Input((SIZE, SIZE, 3), name="image", dtype=dtype)
    x = L.Conv2D(8, 7, 2, "same")(image)
    x = L.MaxPooling2D(3, 2, "same")(x)
    for channels, stride in [(8, 1), (16, 2)]:
        short = L.Conv2D(channels, 1, stride)(x)
        y = L.Conv2D(channels, 3, stride, "same", use_bias=False)(x)
        y = L.BatchNormalization()(y)
        y = L.Activation("leaky_relu")(y)
        y = L.Conv2D(channels, 3, 1, "same", use_bias=False)(y)
        y = L.BatchNormalization()(y)
        x = L.Activation("relu")(L.Add()([y, short]))
    x = L.Flatten()(L.AveragePooling2D(2)(x))
    return keras.Model(image, L.Dense(16, name="embedding")(x))


def fill(model, seed):
    rng = np.random.default_rng(seed)
    values = []
    for variable in model.weights:
        shape = variable.shape
        if variable.name in ("gamma", "moving_variance"):
            values.append(rng.uniform(0.6, 1.4, shape))
        elif len(shape) <= 1:
            values.append(rng.normal(0, 0.1, shape))
        else:
            fan_in = np.prod(shape[:-1]) if "depthwise" not in variable.path else np.prod(shape[:2])
            values.append(rng.normal(0, 1.2 / np.sqrt(fan_in), shape))
    return [v.astype(np.float32) for v in values]


def reference(build, weights, images, seed):
    """In float64, with TensorFlow's own gradients; images and gradient NHWC."""
    model = build("float64")
    model.set_weights([w.astype(np.float64) for w in weights])
    x = tf.constant((images.astype(np.float32) / np.float32(255)).astype(np.float64))
    with tf.GradientTape() as tape:
        tape.watch(x)
        embedding = model(x, training=False)
        aims = targets(tuple(embedding.shape), seed)
        loss = tf.reduce_sum((embedding - aims.astype(np.float64)) ** 2)
    gradient = tape.gradient(loss, x).numpy()
    return dict(
        images=images, targets=aims, embedding=embedding.numpy().astype(np.float32), gradient=gradient.astype(np.float32)
    )


def main():
    for seed, (name, build) in enumerate([("keras-mobile", mobile), ("keras-residual", residual)]):
        model = build("float32")
        weights = fill(model, seed)
        model.set_weights(weights)
        model(np.zeros((1, SIZE, SIZE, 3), np.float32))
        path = HERE / f"{name}.onnx"
        if build is mobile:
            # What `model.export(format="onnx")` calls, without its progress output.
            model.export(str(path), format="onnx", verbose=False)
        else:
            spec = (tf.TensorSpec((None, SIZE, SIZE, 3), tf.float32, name="image"),)
            function = tf.function(lambda image: {"embedding": model(image, training=False)}, input_signature=spec)
            tf2onnx.convert.from_function(function, spec, opset=15, output_path=str(path))
        onnx.checker.check_model(str(path))
        images = pictures(2, SIZE, 100 + seed).transpose(0, 2, 3, 1).copy()
        save_file(reference(build, weights, images, seed), HERE / f"{name}.safetensors")
        print(f"{name}: {path.stat().st_size / 1024:.0f} KiB", file=sys.stderr)


if __name__ == "__main__":
    main()
