"""Which field a run draws its head with."""

from __future__ import annotations

from dataclasses import replace

from nerfad.config import ConfigError, TrainConfig
from nerfad.models.field import TalkingField
from nerfad.models.identity_features import IdentityConfig, IdentityEncoder, References
from nerfad.models.identity_field import IdentityField, IdentityHeadRenderer
from nerfad.models.identity_lattice import BakedIdentity, PointIdentity
from nerfad.models.paper_field import PaperRenderer
from nerfad.models.renderer import HeadRenderer
from nerfad.models.speech_gate import SpeechGate

Head = HeadRenderer | PaperRenderer


GATE_RESOLUTION = 32


def build_head(
    config: TrainConfig, n_cond: int, references: References | None, n_gated: int | None = None
) -> Head:
    """The renderer that `config` asks for; a baked identity is empty until `BakedIdentity.bake`.

    Args:
        n_cond: length of the condition.
        references: of the identity, exactly if the run uses identity features.
        n_gated: leading numbers of the condition that a gate keeps from points that speech does not move;
            None: there is no gate. For the hash-grid field with identity features.
    """
    identity = None if references is None else build_identity(config, n_cond, references)
    if config.field.kind == "mlp":
        return PaperRenderer(config.paper_field, n_cond, identity, config.field.precision)
    if identity is None:
        return HeadRenderer(TalkingField(config.field, n_cond), config.occupancy)
    field, gate = config.field, None
    if n_gated is not None:
        # The gate takes the place of one level: kernels are fastest with inputs that fill their vectors.
        if field.n_levels < 2:
            raise ConfigError(
                "field.n_levels must be at least 2 with a speech gate; or --field.no-speech-gate."
            )
        field = replace(field, n_levels=field.n_levels - 1)
        gate = SpeechGate(GATE_RESOLUTION, field.n_features, n_gated)
    return IdentityHeadRenderer(IdentityField(field, n_cond, identity, gate), config.occupancy)


def build_identity(config: TrainConfig, n_cond: int, references: References) -> PointIdentity | BakedIdentity:
    """The source of identity features in the form that `config` asks for."""
    options = config.identity
    sizes = IdentityConfig(
        n_channels=options.channels,
        slot_width=options.slot_width,
        audio_in_offset=options.audio_in_offset,
        n_audio=n_cond if options.audio_in_offset else 0,
    )
    baked = options.form == "baked"
    # The paper's field sees all of f_id, unless that is too much for a lattice.
    projected = baked or config.field.kind == "hashgrid"
    points = PointIdentity(IdentityEncoder(sizes), references, projected)
    if not baked:
        return points
    n_features = config.field.n_features if config.field.kind == "hashgrid" else 8
    return BakedIdentity(points, options.lattice_resolution, bake=False, n_features=n_features)


def gate_of(head: Head) -> SpeechGate | None:
    """The head's gate of speech, if it has one."""
    return head.field.gate if isinstance(head, IdentityHeadRenderer) else None


def identity_of(head: Head) -> PointIdentity | BakedIdentity | None:
    """The head's source of identity features, if it has one."""
    if isinstance(head, PaperRenderer):
        return head.identity
    return head.field.identity if isinstance(head, IdentityHeadRenderer) else None
