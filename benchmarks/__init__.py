"""Speed and memory, side by side: `python -m benchmarks.training`, `.data`, `.startup`, `.memory`, `.growth`."""
