"""Handing on: a generator as ONNX or a small run folder, a synthetic set, their cards."""
