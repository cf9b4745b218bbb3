"""The command `siamfast`. It is outside the package, because importing the package imports PyTorch, for seconds."""

import signal


def main() -> int:
    """Run the command line; Ctrl-C ends the process without a traceback from the first moment on."""
    interrupted = signal.getsignal(signal.SIGINT)
    if interrupted is signal.default_int_handler:  # not where signals are ignored, as under nohup
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from siamfast.cli import main as run

    signal.signal(signal.SIGINT, interrupted)
    return run()
