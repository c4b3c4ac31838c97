"""A backend whose module cannot be imported."""

raise OSError("libhostile.so.1: cannot open shared object file\nNo such file or directory")
