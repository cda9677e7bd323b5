"""What a run computes on, and what can end it: devices, machines, signals, the terminal."""
