"""Every backbone under every attack: the page of what ``mmgraph bench full`` found, and costs."""
