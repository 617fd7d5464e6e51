"""Many runs: grids, what of them is to do, and who does it."""
