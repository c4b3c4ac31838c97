"""What is measured and how: sweep plan, worker processes, clocks, gate, command line."""
