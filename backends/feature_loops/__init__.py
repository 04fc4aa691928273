"""Compiled loops of features, on the CPU; `recis_core/features` has each in plain torch, too, with equal bits."""
