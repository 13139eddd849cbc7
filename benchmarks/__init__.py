"""Speed, as ratios against named peers in one process."""
