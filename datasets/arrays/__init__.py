"""Sets that were published as arrays: pickles, binary records, ``.npy``, ``.mat``, idx files."""
