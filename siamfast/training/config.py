"""The training configurations: dataclasses with one field per flag of `siamfast train`."""

from __future__ import annotations

import typing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from siamfast.models import guided, mobile


# Old names that checkpoints and flags may still use: of fields, and of values.
RENAMED_FIELDS = {"colour_weight": "color_weight"}
RENAMED_VALUES = {"signal": {"colour": "color"}}


def with_new_names(fields: dict[str, Any]) -> dict[str, Any]:
    """A configuration's fields under their current names.

    >>> with_new_names({"colour_weight": 0.5, "signal": "colour"})
    {'color_weight': 0.5, 'signal': 'color'}
    """
    renamed = {RENAMED_FIELDS.get(name, name): value for name, value in fields.items()}
    return {name: RENAMED_VALUES.get(name, {}).get(value, value) for name, value in renamed.items()}


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass
class RunConfig:
    """The options of every training: data, steps, optimizer, record."""

    data: str = _option(
        "synthetic",
        "'synthetic', or a folder: folders of frames (correspondence); a store, or KIND:FOLDER, a data set of a kind "
        "that curate reads (without KIND: annotated sequences); 'static': two views of one photograph; several with "
        "weights: A=2,B=1",
    )
    photos: str = _option("", "folder of photographs, from which four in five textures of synthetic scenes are cut")
    val_data: str = _option("", "validation data, like --data; empty: held-out synthetic scenes, or --data itself")
    out: str = _option("runs/run", "folder for checkpoints, logs and weights; an existing run is resumed")
    init: str = _option("", "weights to start from (safetensors or a checkpoint of another project); empty: random")
    steps: int = _option(20_000, "optimizer steps")
    batch_size: int = _option(32, "pairs, triples or clips per step, over all processes of torchrun")
    seed: int = _option(0, "seed of the initial weights, the data and the augmentation")
    device: str = _option("auto", "'auto' (CUDA where there is one), 'cpu', 'cuda', 'cuda:1', ...")
    amp: Literal["auto", "bf16", "off"] = _option("auto", "bfloat16 autocast; auto: on devices with fast bfloat16")
    workers: int = _option(
        -1, "processes that draw the data; -1: one per spare core, at most 8; 0: in the main process"
    )
    accumulate: int = _option(
        1, "parts of a batch that are trained on one after the other: less memory, the same step (but of BatchNorm)"
    )
    sync_batchnorm: bool = _option(True, "with torchrun: BatchNorm over the batch of all processes, not of each")
    compile: bool = _option(False, "compile the networks by torch.compile, which takes minutes at the start")
    max_gap: int = _option(100, "largest distance between the frames of a pair, or neighbouring frames of a clip")
    color_jitter: float = _option(0.2, "brightness, contrast, saturation factors are drawn from 1 +- this per image")
    blur: float = _option(0.1, "share of blurred images")
    # optimizer
    optimizer: Literal["sgd", "adamw"] = _option("sgd", "sgd: momentum 0.9, exponential decay; adamw: cosine decay")
    lr: float = _option(1e-2, "first learning rate")
    lr_end: float = _option(1e-5, "last learning rate")
    warmup: int = _option(200, "steps over which the learning rate rises from 0")
    weight_decay: float = _option(5e-4, "weight decay")
    average: float = _option(
        0.0,
        "decay per step of the weights' moving average, which is validated and written; 0: the plain weights",
    )
    # record
    log_every: int = _option(20, "steps between TensorBoard scalars")
    val_every: int = _option(1000, "steps between validations; there is one after the last step too")
    val_pairs: int = _option(512, "pairs or clips per validation")
    save_every: int = _option(200, "steps between checkpoints; there is one after the last step too")

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "batch_size",
            "accumulate",
            "max_gap",
            "log_every",
            "val_every",
            "val_pairs",
            "save_every",
        ):
            self._check(name, getattr(self, name) >= 1, "1 or more")
        self._check("blur", 0.0 <= self.blur <= 1.0, "a share between 0 and 1")
        for name in ("weight_decay", "warmup"):
            self._check(name, getattr(self, name) >= 0, "0 or more")
        self._check("average", 0.0 <= self.average < 1.0, "in [0, 1)")
        self._check("color_jitter", 0.0 <= self.color_jitter <= 1.0, "0 to 1")
        for name in ("lr", "lr_end"):
            self._check(name, getattr(self, name) > 0, "more than 0")
        self._check("workers", self.workers >= -1, "-1 or more")
        for name, hint in typing.get_type_hints(type(self)).items():
            if typing.get_origin(hint) is Literal:
                choices = typing.get_args(hint)
                self._check(name, getattr(self, name) in choices, f"one of {', '.join(choices)}")

    def _check(self, name: str, good: bool, expected: str) -> None:
        if not good:
            raise ValueError(f"{name}: got {getattr(self, name)!r}, expected {expected}")


@dataclass
class PairConfig(RunConfig):
    """The options of trainings on pairs of crops."""

    exemplar: int = _option(127, "side of the template crop, pixels")
    instance: int = _option(255, "side of the search crop, pixels")
    max_shift: float = _option(32.0, "largest shift of the target from the centre of the search crop, pixels")
    max_stretch: float = _option(0.08, "largest relative change of the search crop's size")
    negatives: float = _option(0.0, "share of pairs without the target in the search crop")
    filter: bool = _option(True, "leave out frames with a tiny, huge, thin or hidden target, like siamfc-pytorch")
    gray: float = _option(0.15, "share of gray pairs")
    flip: float = _option(0.0, "share of mirrored pairs")
    noise: float = _option(0.0, "largest sigma of noise added to a crop, grey levels")
    cutout: float = _option(0.0, "share of search crops with a rectangle cut out")

    def __post_init__(self) -> None:
        from siamfast.models.alexnet import smallest_input

        super().__post_init__()
        self._check("instance", self.instance >= self.exemplar, f"at least exemplar ({self.exemplar})")
        smallest = smallest_input()
        self._check("exemplar", self.exemplar >= smallest, f"at least {smallest}, the network's receptive field")
        for name in ("negatives", "gray", "flip", "cutout"):
            self._check(name, 0.0 <= getattr(self, name) <= 1.0, "a share between 0 and 1")
        self._check("max_shift", self.max_shift >= 0, "0 or more")
        self._check("noise", 0.0 <= self.noise <= 255.0, "0 to 255 grey levels")
        self._check("max_stretch", 0.0 <= self.max_stretch < 0.5, "in [0, 0.5)")


@dataclass
class SiamFCConfig(PairConfig):
    """`siamfast train`: SiamFC by the paper's recipe (Bertinetto et al. 2016, section 4)."""

    out: str = _option("runs/siamfc", "folder for checkpoints, logs and weights; an existing run is resumed")
    # loss
    r_pos: float = _option(16.0, "radius of the positive labels, search-crop pixels")
    r_neg: float = _option(0.0, "radius beyond which labels are negative, if larger than r_pos")
    metric: Literal["l1", "l2"] = _option("l2", "distance of the labels: l1 (siamfc-pytorch) or l2 (the paper)")
    balance: Literal["sample", "batch"] = _option("sample", "balance of positives and negatives")
    scale: float = _option(1e-3, "factor of the response at the start")
    learn_scale: bool = _option(True, "train the response's factor")
    learn_bias: bool = _option(True, "train the response's bias")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("r_neg", self.r_neg >= 0, "0 or more")
        for name in ("r_pos", "scale"):
            self._check(name, getattr(self, name) > 0, "more than 0")


@dataclass
class GuidedConfig(PairConfig):
    """`siamfast train --task guided`: an anchor-free tracker guided by the previous place of the target."""

    out: str = _option("runs/guided", "folder for checkpoints, logs and weights; an existing run is resumed")
    init: str = _option(
        "",
        "weights to start from: 'siamfc', the packaged ones; a file of SiamFC or of a guided tracker; empty: random",
    )
    batch_size: int = _option(16, "triples per step")
    optimizer: Literal["sgd", "adamw"] = _option("adamw", "sgd: momentum 0.9, exponential decay; adamw: cosine decay")
    lr: float = _option(5e-4, "first learning rate")
    weight_decay: float = _option(1e-4, "weight decay")
    negatives: float = _option(0.1, "share of pairs without the target in the search crop")
    max_stretch: float = _option(0.25, "largest relative change of the search crop's size")
    # network
    backbone: str = _option(
        "alexnet", "a name in siamfast.models.backbones: alexnet, SiamFC's; resnet, three stages of a ResNet-18"
    )
    head_width: int = _option(96, "channels of neck and head")
    guidance: str = _option(
        "mask+gaussian+flow+confidence+entropy",
        "guidance maps, joined by +, from mask, scaled, gaussian, center, direction, flow, confidence, entropy, "
        "coordinates; 'none': an unguided tracker",
    )
    gate: bool = _option(True, "squeeze-and-excitation of the maps by the warp's confidence")
    non_local: bool = _option(False, "a non-local block on the fused features")
    freeze_backbone: int = _option(0, "steps in which only neck and head are trained")
    encoder: str = _option("", "weights of the correspondence encoder; empty: the packaged one")
    # the third frame
    previous: int = _option(3, "largest distance of the previous frame from the search frame")
    first_frames: float = _option(0.1, "share of triples with the template's frame as the previous one")
    same_augmentation: bool = _option(True, "the previous frame has the colour, blur and noise of the search frame")
    # against relying on the guide alone
    box_jitter: float = _option(0.1, "standard deviation of the previous box's place and size, as a share of its sides")
    own_boxes: float = _option(0.3, "share of previous boxes predicted by the model itself, reached half-way")
    guidance_dropout: float = _option(0.2, "share of triples without guidance")
    wrong_guidance: float = _option(0.1, "share of triples guided to another place")
    # correspondence, trained too if above 0; at 0 the encoder does not change
    color_weight: float = _option(0.0, "weight of the loss of warped colours; above 0 the encoder is trained")
    cycle_weight: float = _option(0.0, "weight of the loss of cycles; above 0 the encoder is trained")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("previous", self.previous >= 1, "1 or more")
        self._check("freeze_backbone", self.freeze_backbone >= 0, "0 or more")
        for name in ("first_frames", "own_boxes", "guidance_dropout", "wrong_guidance"):
            self._check(name, 0.0 <= getattr(self, name) <= 1.0, "a share between 0 and 1")
        for name in ("box_jitter", "color_weight", "cycle_weight"):
            self._check(name, getattr(self, name) >= 0, "0 or more")
        names = self.architecture().names  # checks its fields
        self._check("guidance", bool(names) or not self.trains_encoder, "some maps, to train correspondence too")

    @property
    def trains_encoder(self) -> bool:
        return self.color_weight > 0 or self.cycle_weight > 0

    def architecture(self) -> guided.GuidedArchitecture:
        from siamfast.models.guided import GuidedArchitecture

        names = "" if self.guidance == "none" else self.guidance
        gate, non_local = self.gate and bool(names), self.non_local and bool(names)
        return GuidedArchitecture(self.backbone, self.head_width, names, gate, non_local)


@dataclass
class MobileConfig(PairConfig):
    """`siamfast train --task mobile`: the light tracker over a backbone learned on ImageNet."""

    out: str = _option("runs/mobile", "folder for checkpoints, logs and weights; an existing run is resumed")
    init: str = _option(
        "mobile",
        "weights to start from: 'mobile', the packaged ones; a file of `siamfast convert-backbone`, for the backbone "
        "only, or of a mobile tracker; empty: random",
    )
    exemplar: int = _option(129, "side of the template crop, pixels")
    instance: int = _option(209, "side of the search crop, pixels")
    batch_size: int = _option(16, "triples per step")
    optimizer: Literal["sgd", "adamw"] = _option("adamw", "sgd: momentum 0.9, exponential decay; adamw: cosine decay")
    lr: float = _option(1e-3, "first learning rate")
    weight_decay: float = _option(1e-4, "weight decay")
    negatives: float = _option(0.2, "share of pairs without the target in the search crop")
    average: float = _option(0.999, "decay per step of the weights' moving average, which is validated and written")
    max_shift: float = _option(56.0, "largest shift of the target from the centre of the search crop, pixels")
    max_stretch: float = _option(0.35, "largest relative change of the search crop's size")
    flip: float = _option(0.5, "share of mirrored pairs")
    noise: float = _option(4.0, "largest sigma of noise added to a crop, grey levels")
    cutout: float = _option(0.1, "share of search crops with a rectangle cut out")
    smallest: int = _option(
        145, "smallest side to which a batch's search crops are cut, pixels: a tracker may search in smaller ones"
    )
    # network
    head_width: int = _option(64, "channels of embedding and head")
    head_blocks: int = _option(3, "residual blocks of the head's common trunk")
    guided: bool = _option(True, "match the target's region in the last frame beside the template")
    backbone_rate: float = _option(0.0, "learning rate of the backbone as a share of the head's; 0: it does not change")
    # the third frame
    recent: int = _option(4, "largest distance of the last frame from the search frame")
    box_jitter: float = _option(0.08, "standard deviation of the last box's place and size, as a share of its sides")
    first_frames: float = _option(0.1, "share of triples with the template's frame as the last one")
    guidance_dropout: float = _option(0.15, "share of triples without a last frame")
    wrong_guidance: float = _option(0.1, "share of triples with a last box at another place")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("exemplar", "instance", "smallest"):
            self._check(name, getattr(self, name) % 16 == 1, "a multiple of 16 and 1 more")
        self._check("smallest", self.exemplar <= self.smallest <= self.instance, "between exemplar and instance")
        self._check("exemplar", self.exemplar == 129, "129")
        self._check("recent", self.recent >= 1, "1 or more")
        for name in ("first_frames", "guidance_dropout", "wrong_guidance"):
            self._check(name, 0.0 <= getattr(self, name) <= 1.0, "a share between 0 and 1")
        for name in ("box_jitter", "backbone_rate"):
            self._check(name, getattr(self, name) >= 0, "0 or more")
        self.architecture()  # checks its fields

    def architecture(self) -> mobile.MobileArchitecture:
        from siamfast.models.mobile import MobileArchitecture

        return MobileArchitecture(self.head_width, self.head_blocks, self.guided)


@dataclass
class CorrespondenceConfig(RunConfig):
    """`siamfast train --task correspondence`: the encoder, on unlabelled video."""

    out: str = _option("runs/correspondence", "folder for checkpoints, logs and weights; an existing run is resumed")
    steps: int = _option(5_000, "optimizer steps")
    batch_size: int = _option(8, "clips per step")
    max_gap: int = _option(4, "largest distance between neighbouring frames of a clip")
    optimizer: Literal["sgd", "adamw"] = _option("adamw", "sgd: momentum 0.9, exponential decay; adamw: cosine decay")
    lr: float = _option(1e-3, "first learning rate")
    weight_decay: float = _option(1e-4, "weight decay")
    val_pairs: int = _option(64, "clips per validation")
    signal: Literal["cycle", "color", "both"] = _option(
        "both",
        "cycle: carry coordinates through time and back; color: predict a gray frame's colours from three",
    )
    width: int = _option(32, "channels of the encoder's first stage, an eighth of the last's (ResNet-18: 64)")
    side: int = _option(161, "side of the views of a frame, pixels, a multiple of 8 and 1 more")
    cycle: int = _option(4, "longest cycle, frames in one direction")
    cycle_temperature: float = _option(0.07, "temperature of the cycles' affinity")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("width", 1 <= self.width <= 1024, "1 to 1024")
        self._check("side", self.side >= 33 and self.side % 8 == 1, "a multiple of 8 and 1 more, 33 or more")
        self._check("cycle", 1 <= self.cycle <= 16, "1 to 16")
        self._check("cycle_temperature", self.cycle_temperature > 0, "more than 0")
