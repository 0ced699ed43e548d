"""Files for other runtimes: each is written only after it gave the network's outputs in its own runtime."""
