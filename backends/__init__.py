"""Ways to execute a transformer: one module per engine, behind one contract (`benchrun.backends.contract`)."""
