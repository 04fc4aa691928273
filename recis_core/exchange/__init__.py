"""What ranks send each other: how precisely, in which bytes."""
