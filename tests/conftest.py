"""For all tests."""

import signal


def pytest_configure() -> None:
    """Take Ctrl-C as usual: whoever runs the tests in the background may have it ignored, which children inherit."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
