"""Tables over many ranks: who owns a row, and how rows and gradients travel."""
