"""The matrix: isboot against targets, firmware, kernels and what they may negotiate: tools/matrix."""
