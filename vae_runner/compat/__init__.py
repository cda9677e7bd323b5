"""Every write into another library's internals: one file a library."""
