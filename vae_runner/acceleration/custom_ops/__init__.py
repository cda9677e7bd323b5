"""Operations of our own for training on a CPU: compiled for the processor, once, where there is a C++ compiler."""

LANES = 16  # what channels must be a multiple of; kLanes
SIDE = 3  # of the kernels between images and maps; kSide
IMAGE_CHANNELS = (1, 3)


class UnavailableError(Exception):
    """The operations cannot be had here; the message says why."""
