"""Train variational autoencoders on images: see `vae-run --help`, or `vae_runner.run` for one run, top to bottom."""

import os

# Our networks and compiled loops are TensorFlow's. Keras reads this once, when it is first imported, and would
# otherwise follow whatever ~/.keras/keras.json says.
os.environ["KERAS_BACKEND"] = "tensorflow"

__version__ = "0.1.0"
