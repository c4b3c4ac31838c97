"""LoadGen, the load generator of MLPerf Inference: our engines as its system under test."""
