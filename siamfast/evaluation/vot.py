"""Serve a siamfast tracker over TraX, the protocol of the VOT toolkit."""

from __future__ import annotations

from typing import Any

import numpy as np

from siamfast.io.images import read_image


def serve(server: Any, tracker: Any) -> bool:
    """Answer one request; False when the toolkit quits."""
    import trax

    request = server.wait()
    if request.type not in (trax.TraxStatus.INITIALIZE, trax.TraxStatus.FRAME):
        return False
    image = read_image(request.image["color"].path())
    if request.type == trax.TraxStatus.INITIALIZE:
        box = request.objects[0][0].bounds()  # a rectangle, because we ask for rectangles
        tracker.init(image, box)
        confidence = 1.0
    else:
        box, confidence = tracker.update(image)
    x, y, w, h = (float(v) for v in np.asarray(box))
    server.status([(trax.Rectangle.create(x, y, w, h), {"confidence": f"{confidence:.4f}"})])
    return True
