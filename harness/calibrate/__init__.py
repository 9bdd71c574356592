"""The estimator against systems of known truth: ``python -m harness.calibrate``."""
