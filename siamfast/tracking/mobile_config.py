"""The hyper-parameters of mobile tracking."""

from __future__ import annotations

import dataclasses

from siamfast.models.mobile import INSTANCE, SiamMobile
from siamfast.tracking.sequence_tracker import check_ranges

GUIDES = ("on", "off", "wrong")


@dataclasses.dataclass(frozen=True)
class MobileTrackerConfig:
    """Hyper-parameters of mobile tracking; docs/weights.md says how they were chosen.

    Attributes:
        instance: side of the search crop in pixels, a multiple of 16 and 1 more; the template's is 129.
        context_amount: share of w + h added to both sides of the box.
        window_influence: weight of the Hann window.
        penalty_k: strength of the penalty on a change of size or shape.
        size_lr: how far the size follows the best cell, times its quality.
        min_side: least side of the box, pixels.
        guide: "on": the target's region in the last frame is matched too; "off": it is not; "wrong": a place beside the
            target is matched instead. The last two are for experiments.
        guide_confidence: least quality for a frame's region to become the guide.
        lost_confidence: below this quality the target may be elsewhere: more places are searched, further away with
            every frame, out to about 24 sides of the target.
        places_per_frame: how many places are searched in a frame besides; 0: none.
        found_confidence: least quality for the target to be accepted at such a place.
        calibrate: how far boxes are corrected by the network's error on the first frame, where the box is given: 0, not
            at all; 1, fully (sides by their ratio to this power).
    """

    instance: int = INSTANCE
    context_amount: float = 0.55
    window_influence: float = 0.35
    penalty_k: float = 0.1
    size_lr: float = 0.4
    min_side: float = 4.0
    guide: str = "on"
    guide_confidence: float = 0.55
    lost_confidence: float = 0.2
    places_per_frame: int = 2
    found_confidence: float = 0.4
    calibrate: float = 0.5

    def __post_init__(self) -> None:
        SiamMobile.cells(self.instance)
        check_ranges(
            self,
            ("context_amount", 0, 10),
            ("window_influence", 0, 1),
            ("penalty_k", 0, 10),
            ("size_lr", 0, 1),
            ("min_side", 1, 1e4),
            ("guide_confidence", 0, 1),
            ("lost_confidence", 0, 1),
            ("found_confidence", 0, 1),
            ("calibrate", 0, 1),
        )
        if type(self.places_per_frame) is not int or not 0 <= self.places_per_frame <= 100:
            raise ValueError(f"places_per_frame: got {self.places_per_frame!r}, expected a whole number, 0 to 100")
        if self.guide not in GUIDES:
            raise ValueError(f"guide: got {self.guide!r}, expected one of {', '.join(GUIDES)}")
