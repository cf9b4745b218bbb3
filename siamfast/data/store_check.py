"""Check a store of crops in a separate process: LMDB trusts its files, and a damaged page may end the reader."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

from siamfast.data.store import CropStore


class StoreChecker:
    """Iterating yields one line per error and then sets `targets` (the number of crops) and `tracks`."""

    targets = 0
    tracks = 0

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __iter__(self) -> Iterator[str]:
        receiver, sender = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(target=_check, args=(self.folder, sender))
        process.start()
        sender.close()
        try:
            while True:
                item = receiver.recv()
                if isinstance(item, Exception):
                    raise item
                if isinstance(item, str):
                    yield item
                else:
                    self.targets, self.tracks = item
        except EOFError:
            process.join()
        finally:
            process.kill()
            process.join()
        if process.exitcode:
            name = signal.Signals(-process.exitcode).name if process.exitcode < 0 else process.exitcode
            yield f"store: {self.folder} is damaged (reading it ended with {name})"


def _check(folder: Path, out: Connection) -> None:
    try:
        store = CropStore(folder)
        out.send((len(store), len(store.tracks)))
        for line in store.verify():
            out.send(line)
    except (ValueError, OSError) as error:
        out.send(error)
