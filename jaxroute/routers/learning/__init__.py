"""What several routers learn with: preferences between models, soft labels, a fine-tuned classifier. No router by itself."""
