"""The gradients of the custom operations.

The three convolutions are each other's gradients, to any order. The other first gradients are operations too, and their
gradients, and that of the patches' sums, which no usual loss asks for, are those of the same formulas in TensorFlow's
own operations. Means and variances have none: they are for moving averages.
"""

from collections.abc import Callable, Sequence
from types import ModuleType

import tensorflow as tf

from vae_runner.acceleration.custom_ops.reference import convolved, normalized_leaky_relu, patch_sums
from vae_runner.acceleration.image_convolutions import image_gradient

Gradients = list[tf.Tensor | None]


def register(operations: ModuleType) -> None:
    """Register the gradients of the operations with TensorFlow, which takes them once in a process."""

    @tf.RegisterGradient("VaeRunnerNormalizedLeakyRelu")
    def _(op: tf.Operation, dy: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, ...]:
        x, gamma, beta = op.inputs
        _, mean, variance = op.outputs
        return operations.vae_runner_normalized_leaky_relu_grad(
            dy=dy, x=x, gamma=gamma, beta=beta, mean=mean, variance=variance, **_attributes(op, "epsilon", "slope")
        )

    @tf.RegisterGradient("VaeRunnerConvolvedGrey")
    def _(op: tf.Operation, dmaps: tf.Tensor) -> tuple[tf.Tensor, ...]:
        images, kernel, bias = op.inputs
        stride, slope = op.get_attr("stride"), op.get_attr("slope")
        dconvolved = tf.raw_ops.LeakyReluGrad(gradients=dmaps, features=op.outputs[0], alpha=slope)
        # Only learned images ask for this gradient: else it disappears when the graph is pruned.
        dimages = image_gradient(dconvolved, kernel, images, stride)
        return dimages, *operations.vae_runner_convolved_grey_grad(
            dmaps=dmaps, images=images, kernel=kernel, bias=bias, stride=stride, slope=slope
        )

    @tf.RegisterGradient("VaeRunnerImageHead")
    def _(op: tf.Operation, dimages: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, ...]:
        x, gamma, beta, kernel, _ = op.inputs
        _, mean, variance = op.outputs
        return operations.vae_runner_image_head_grad(
            dimages=dimages, x=x, gamma=gamma, beta=beta, kernel=kernel, mean=mean, variance=variance,
            **_attributes(op, "epsilon", "slope"),
        )  # fmt: skip

    def image_gradient_of(images: tf.Tensor, dmaps: tf.Tensor, kernel: tf.Tensor, stride: int) -> tf.Tensor:
        """Return the gradient of images, whose height and width are known, from that of their maps."""
        height, width = images.shape[1:3]
        return operations.vae_runner_conv2d_transpose(
            maps=dmaps, kernel=kernel, stride=stride, height=height, width=width
        )

    @tf.RegisterGradient("VaeRunnerConv2D")
    def _(op: tf.Operation, dmaps: tf.Tensor) -> tuple[tf.Tensor, ...]:
        images, kernel = op.inputs
        stride = op.get_attr("stride")
        return (
            image_gradient_of(images, dmaps, kernel, stride),
            operations.vae_runner_conv2d_kernel_grad(images=images, dmaps=dmaps, stride=stride),
        )

    @tf.RegisterGradient("VaeRunnerConv2DTranspose")
    def _(op: tf.Operation, dimages: tf.Tensor) -> tuple[tf.Tensor, ...]:
        maps, kernel = op.inputs
        stride = op.get_attr("stride")
        dimages = tf.ensure_shape(dimages, op.outputs[0].shape)  # The next gradient needs its height and width.
        return (
            operations.vae_runner_conv2d(images=dimages, kernel=kernel, stride=stride),
            operations.vae_runner_conv2d_kernel_grad(images=dimages, dmaps=maps, stride=stride),
        )

    @tf.RegisterGradient("VaeRunnerConv2DKernelGrad")
    def _(op: tf.Operation, dkernel: tf.Tensor) -> tuple[tf.Tensor, ...]:
        images, dmaps = op.inputs
        stride = op.get_attr("stride")
        return (
            image_gradient_of(images, dmaps, dkernel, stride),
            operations.vae_runner_conv2d(images=images, kernel=dkernel, stride=stride),
        )


@tf.RegisterGradient("VaeRunnerPatchSums")
def _patch_sums(op: tf.Operation, dsums: tf.Tensor) -> Gradients:
    stride = op.get_attr("stride")
    return _pulled_back(lambda x, pivot: patch_sums(x, pivot, [3, 3, 1], [stride] * 2), op.inputs, [dsums])


@tf.RegisterGradient("VaeRunnerNormalizedLeakyReluGrad")
def _normalized_leaky_relu_grad(op: tf.Operation, *gradients: tf.Tensor) -> Gradients:
    attributes = _attributes(op, "epsilon", "slope")

    def first(dy: tf.Tensor, *inputs: tf.Tensor) -> Gradients:
        return _pulled_back(lambda *inputs: normalized_leaky_relu(*inputs, **attributes), inputs, [dy])

    return [*_pulled_back(first, op.inputs[:4], gradients), None, None]  # the moments follow from x


@tf.RegisterGradient("VaeRunnerConvolvedGreyGrad")
def _convolved_grey_grad(op: tf.Operation, *gradients: tf.Tensor) -> Gradients:
    stride, slope = op.get_attr("stride"), op.get_attr("slope")

    def first(dmaps: tf.Tensor, images: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> Gradients:
        def maps(kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
            return tf.nn.leaky_relu(convolved(images, kernel, stride) + bias, slope)

        return _pulled_back(maps, [kernel, bias], [dmaps])

    return _pulled_back(first, op.inputs, gradients)


@tf.RegisterGradient("VaeRunnerImageHeadGrad")
def _image_head_grad(op: tf.Operation, *gradients: tf.Tensor) -> Gradients:
    attributes = _attributes(op, "epsilon", "slope")

    def images(*inputs: tf.Tensor) -> tf.Tensor:
        *of_maps, kernel, bias = inputs
        maps = normalized_leaky_relu(*of_maps, **attributes)
        shape = tf.concat([tf.shape(maps)[:3], [kernel.shape[2]]], axis=0)
        return tf.nn.conv2d_transpose(maps, kernel, shape, 1, "SAME") + bias

    def first(dimages: tf.Tensor, *inputs: tf.Tensor) -> Gradients:
        return _pulled_back(images, [*inputs, tf.zeros([dimages.shape[-1]])], [dimages])

    return [*_pulled_back(first, op.inputs[:5], gradients), None, None]


def _attributes(op: tf.Operation, *names: str) -> dict[str, float]:
    return {name: op.get_attr(name) for name in names}


def _pulled_back(
    function: Callable[..., tf.Tensor | Gradients], inputs: Sequence[tf.Tensor], gradients: Sequence[tf.Tensor]
) -> Gradients:
    """Return the gradients of a function's inputs, from those of its outputs."""
    sources = list(inputs)
    with tf.GradientTape() as tape:
        tape.watch(sources)
        outputs = function(*sources)
    targets = outputs if isinstance(outputs, list) else [outputs]
    return tape.gradient(targets, sources, output_gradients=list(gradients))
