"""Runs of a lake in the tools that people watch experiments with: TensorBoard, MLflow, Weights & Biases."""
