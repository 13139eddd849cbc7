"""Files of any size: streams of prompts, shards of estimates, resumed after any stop."""
