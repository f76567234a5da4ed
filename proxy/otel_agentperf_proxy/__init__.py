"""The transparent ASGI proxy: bytes through, facts out."""
