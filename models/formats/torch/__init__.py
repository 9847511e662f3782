"""PyTorch programs in .pt2 files."""
