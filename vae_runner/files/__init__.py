"""Writing and reading files that others may look at, or may have written."""
