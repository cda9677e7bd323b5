"""Train variational autoencoders on images: see `vae-run --help`, or `vae_runner.run` for one run, top to bottom."""

import os
import time

STARTED = time.time()  # when the command did, but for Python itself

# Our networks and compiled loops are TensorFlow's. Keras reads this once, when it is first imported, and would
# otherwise follow whatever ~/.keras/keras.json says.
os.environ["KERAS_BACKEND"] = "tensorflow"

# oneDNN's convolutions are faster than TensorFlow's own also on the x86 CPUs on which TensorFlow leaves them off by
# default (those without AVX-512 VNNI). TensorFlow reads this when it is first imported.
os.environ["TF_ENABLE_ONEDNN_OPTS"] = os.environ.get("TF_ENABLE_ONEDNN_OPTS") or "1"

__version__ = "0.2.0"
