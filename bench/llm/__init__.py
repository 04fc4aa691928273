"""python -m bench llm: a decoder with tables beside the same decoder with nn.Embedding."""
