"""Other frameworks' names and meanings, as thin classes on ours."""
