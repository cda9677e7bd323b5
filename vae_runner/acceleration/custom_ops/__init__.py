"""Operations of our own for training on a CPU: compiled for the processor, once, where there is a C++ compiler."""
