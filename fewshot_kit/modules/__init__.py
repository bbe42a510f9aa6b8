"""What is done to any `nn.Module`, and knows no algorithm."""
