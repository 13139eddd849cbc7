"""The networks themselves, in flax.nnx, and what their published configurations say. Weights come from `encoders/weights`."""
