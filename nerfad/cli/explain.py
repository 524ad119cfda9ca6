"""The command `nerfad explain`."""

from pathlib import Path

from nerfad.cli.arguments import FrameNumber, RunFolder
from nerfad.cli.console import progress_bar, say


def explain(
    checkpoint: RunFolder,
    frame: FrameNumber,
    out: Path = Path("explain.png"),
    dataset: Path | None = None,
    device: str = "cpu",
) -> None:
    """Show one frame on its way through the chain: mask, Audio-face, Identity-face, fused face, rendering.

    Args:
        checkpoint: a run of `nerfad train --fusion`, `nerfad pretrain-fusion` or `nerfad pretrain-attention`.
        frame: number of the frame, as in the names of the data set's pictures.
        out: the picture to write; a strip below shows how A and I_G answer to each action unit.
        dataset: where the data set lies now, if it moved.
        device: cpu, cuda or cuda:1.
    """
    from nerfad.engine.explain import explain as run

    with progress_bar("explain") as progress:
        captions = run(checkpoint, frame, out, dataset=dataset, device=device, progress=progress)
    say(f"{len(captions)} tiles written to {out}")
