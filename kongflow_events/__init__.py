"""Takes events over HTTP, stores them, and makes the right things happen, once, whatever breaks."""
