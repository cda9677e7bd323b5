import gc
import weakref

import tensorflow as tf

from vae_runner.compat import tensorflow as custom_gradients


def _trace() -> "weakref.ref[tf.Graph]":
    @tf.custom_gradient
    def doubled(x: tf.Tensor) -> tuple[tf.Tensor, object]:
        return 2 * x, lambda dy: 2 * dy

    @tf.function
    def gradient(x: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = doubled(x)
        return tape.gradient(y, x)

    assert gradient(tf.constant(3.0)) == 2
    return weakref.ref(gradient.get_concrete_function(tf.constant(3.0)).graph)


def test_the_graph_of_a_custom_gradient_goes_with_its_function() -> None:
    with custom_gradients.forgotten():
        graph = _trace()
    gc.collect()
    assert graph() is None


def test_gradients_registered_before_stay() -> None:
    graph = _trace()
    with custom_gradients.forgotten():
        pass
    gc.collect()
    assert graph() is not None, "TensorFlow lets go of it by itself: custom_gradients is not needed any more"
