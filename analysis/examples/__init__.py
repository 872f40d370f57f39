"""Scripts on a run folder, one question each; `examples.ipynb` is made of them."""
