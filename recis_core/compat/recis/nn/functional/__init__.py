"""Functions of ids, ragged rows and embeddings."""
