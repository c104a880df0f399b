"""Every backbone under every attack: the page of what ``configs/run/robustness-*.toml`` found, and costs."""
