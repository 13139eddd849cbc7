"""Weights and tokenizers from files: GGUF, Hugging Face folders, PEFT adapters. To add a format, return an `Encoder`."""
