"""What the custom operations take."""

LANES = 16  # what channels must be a multiple of; kLanes
SIDE = 3  # of the kernels between images and maps; kSide
IMAGE_CHANNELS = (1, 3)
