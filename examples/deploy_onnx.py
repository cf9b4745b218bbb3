"""Track without PyTorch: export the networks, then run the script that the export writes, on a clip.

    python examples/deploy_onnx.py --out deployed/

The export needs `pip install onnx onnxscript onnxruntime`; the script needs numpy, OpenCV and onnxruntime alone.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from siamfast.cli import main as siamfast


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="deployed")
    parser.add_argument("--length", type=int, default=30)
    options = parser.parse_args()
    out = Path(options.out)
    if siamfast(["export", str(out), "--model", "mobile"]) != 0:
        raise SystemExit("the export failed")
    siamfast(["synthesize", str(out / "clips"), "--clips", "1", "--length", str(options.length)])
    clip = out / "clips" / "clip-000"
    box = (clip / "groundtruth.txt").read_text().splitlines()[0]
    command = [sys.executable, str(out / "example_tracker.py"), str(clip / "img"), "--box", box]
    rows = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    print(f"{len(rows)} rows; the last: {rows[-1]}")


if __name__ == "__main__":
    main()
