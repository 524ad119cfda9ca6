"""The command `nerfad pretrain-fusion`."""

from pathlib import Path
from typing import Literal

from nerfad.cli.arguments import DatasetFolders
from nerfad.cli.console import progress_bar, say
from nerfad.cli.options import Training
from nerfad.config import FusionConfig, FusionWeights


def pretrain_fusion(
    datasets: DatasetFolders,
    out: Path,
    options: Training,
    attention: Path | None = None,
    width: int = 16,
    size: int = 112,
    use_attention: bool = True,
    au_loss: bool = True,
    reference: Literal["fixed", "random"] = "fixed",
    target_mask: Literal["own", "pooled", "reference"] = "pooled",
    features: str = "auto",
    weights: FusionWeights = FusionWeights(),
) -> None:
    """Learn to draw the speech region of a face from sound. Ctrl-C saves; a second call resumes.

    Args:
        datasets: data set folders, one person each.
        out: the run's folder; previews (reference, decoded, target) lie in OUT/previews.
        attention: run of `nerfad pretrain-attention` that says which region that is.
        width: channels of the face encoder's first layer; 16 is the paper's, 8 is for CPUs.
        size: side of the face crops in pixels, a multiple of 16; 64 is for CPUs.
        use_attention: without it, the ablation "w/o att-d": the whole face is drawn.
        au_loss: without it, the ablation "w/o AU": pixels alone supervise.
        reference: one frame of each person, or another one in every step.
        target_mask: what masks a face: its own action units, the mean of such masks over the person's
            training frames, or the mask of the reference frame.
        features: what is heard: auto, or speech, phones and mel joined by +.
        weights: of the losses.
    """
    from nerfad.engine.pretrain_fusion import pretrain_fusion as run

    config = FusionConfig(
        datasets=tuple(str(path) for path in datasets),
        out=out,
        attention=attention,
        width=width,
        size=size,
        use_attention=use_attention,
        au_loss=au_loss,
        reference=reference,
        target_mask=target_mask,
        features=features,
        weights=weights,
        **vars(options),
    )
    with progress_bar("fusion") as progress:
        result = run(config, progress)
    figures = ", ".join(f"{name} {value:.3f}" for name, value in result.figures.items())
    say(
        f"fusion of {', '.join(result.units)} and {result.features} written to {out}: {result.step} steps; "
        f"{figures}. Does it listen? python -m nerfad.engine.judge_fusion {out} {datasets[0]}"
    )
