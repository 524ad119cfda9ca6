"""`nerfad train`: a data set in, a run folder with a checkpoint out; a second call resumes."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import nerfad
from nerfad.config import TrainConfig, to_dict
from nerfad.data.dataset import Dataset, load_dataset
from nerfad.engine import checkpoint
from nerfad.engine.base import load_base
from nerfad.engine.budget import BudgetedRun
from nerfad.engine.build import carve, fresh_model, restored_model, scene_of
from nerfad.engine.checkpoint import Checkpoint
from nerfad.engine.clock import read_clock
from nerfad.engine.conditions import (
    Conditions,
    fitted_conditions,
    fused_conditions,
    restored_conditions,
    silent_conditions,
)
from nerfad.engine.drawing import draw_frame
from nerfad.engine.interrupt import TrainingInterrupted
from nerfad.engine.joint_fusion import FusionTargets, joint_conditions
from nerfad.engine.pretrain_fusion import load_fusion
from nerfad.engine.progress import RunLog, peak_memory_mb
from nerfad.engine.sampling import FrameStore
from nerfad.engine.settings import begun, resumed_train_config
from nerfad.engine.train_audio import fit_audio
from nerfad.engine.trainer import Trainer
from nerfad.engine.voice import CodeVoice, FusedVoice, SilentVoice, Voice, restored_voice
from nerfad.errors import CheckpointError, DatasetError
from nerfad.io.atomic import atomic_write
from nerfad.models.audio_net import AudioConfig
from nerfad.ops import backend
from nerfad.progress import Progress

__all__ = ["TrainConfig", "TrainResult", "TrainingInterrupted", "train"]

MIN_WINDOWS = 3
"""Audio windows that must fit into the training part: with less, leaving some time out leaves nothing."""
STREAMING_LOOKAHEAD_S = 0.12


@dataclass(frozen=True)
class TrainResult:
    """How a run ended."""

    run: Path
    step: int
    elapsed_s: float
    psnr: float
    rays_per_second: float
    peak_memory_mb: float


def train(config: TrainConfig, progress: Progress | None = None) -> TrainResult:
    """Train an avatar, or go on with the run that lies in `config.out`.

    Raises:
        DatasetError: the data set lacks something.
        BackendError: `config.device` is not there.
        CheckpointError: `config.out` holds a checkpoint of another data set, or no run at all.
        OutputError: a checkpoint cannot be written; the previous one is whole.
        TrainingInterrupted: Ctrl-C; the state is saved.
    """
    started = read_clock(config.clock)
    saved = begun(config)
    if saved is not None:
        saved.require_kind(None)
        if config.size is not None and config.size != saved.meta["camera"]["height"]:
            raise CheckpointError(
                f"{config.out}: was trained at size {saved.meta['camera']['height']}, not {config.size}; "
                "choose another --out."
            )
        config = resumed_train_config(dataclasses.replace(config, size=None), saved)
    dataset = load_dataset(config.dataset, config.size)
    if saved is not None:
        saved.check_dataset(dataset)
    run = TrainingRun(config, dataset, saved, progress, started)
    return run.go()


class TrainingRun(BudgetedRun):
    """A run from its first second to its last, or from one call to the next."""

    config: TrainConfig
    trainer: Trainer
    preview_at_once = True

    def __init__(
        self,
        config: TrainConfig,
        dataset: Dataset,
        saved: Checkpoint | None,
        progress: Progress | None,
        started: float,
    ) -> None:
        self.base = load_base(config.base) if config.base is not None and saved is None else None
        if self.base is not None:
            config = self.base.settings(config)
        self.config, self.dataset = config, dataset
        dataset.clip_s = config.clip_s
        meta = saved.meta if saved else {}
        self.started = started - float(meta.get("elapsed_s", 0.0))
        self.log = RunLog(config.out, progress, meta.get("log"))
        self.fusion = load_fusion(config.fusion) if config.fusion is not None and saved is None else None
        self.voice = self._known_voice(saved)
        heard = self._audio_config() if self.voice is None else self.voice
        self.frames, _ = dataset.split(heard.lookback_s, heard.lookahead_s)
        n_needed = round(MIN_WINDOWS * (heard.lookback_s + heard.lookahead_s) * dataset.fps)
        if self.voice is None and len(self.frames) < n_needed:
            raise DatasetError(
                f"{dataset.root}: has {len(self.frames)} frames to train on, at least {n_needed} are "
                "needed; record a longer clip."
            )
        self.audio_report = saved.meta["audio"]["report"] if saved else {}
        self.conditions = self._conditions(saved)
        self.log.stage(0.0, "reading the pictures")
        self.store = FrameStore(dataset, self.frames, device=config.device)
        self.trainer = self._make_trainer(saved)

    def go(self) -> TrainResult:
        """Step until the budget is spent."""
        if self.trainer.n_steps == 0:
            self.save()
        self.step_until_spent()
        return self._result()

    def n_items(self) -> int:
        """Rays of the last step."""
        return self.trainer.last_n_rays

    def _audio_config(self) -> AudioConfig:
        lookahead = self.config.lookahead_s
        if lookahead is None and self.config.preset == "streaming":
            lookahead = STREAMING_LOOKAHEAD_S
        return AudioConfig() if lookahead is None else AudioConfig(lookahead_s=lookahead)

    def _known_voice(self, saved: Checkpoint | None) -> Voice | None:
        """The voice that was saved, the fusion's, or none at all; None where one is to be fitted."""
        if saved is not None:
            return restored_voice(saved)
        if self.config.codes == "none":
            audio = self._audio_config()
            return SilentVoice(audio.lookback_s, audio.lookahead_s)
        if self.fusion is None:
            return None
        if self.base is not None and not self.fusion.knows(self.dataset):
            return FusedVoice.of_newcomer(self.fusion, self.dataset)
        return FusedVoice.of(self.fusion, self.fusion.person(self.dataset), self.dataset.fps)

    def _conditions(self, saved: Checkpoint | None) -> Conditions:
        def tell(done: float, text: str) -> None:
            self.log.stage(0.0, f"{text} ({done:.0%})")

        data, frames, device = self.dataset, self.frames, self.config.device
        if self.voice is None:
            audio, seed = self._audio_config(), self.config.seed
            fit = fit_audio(data, audio, seed=seed, codes=self.config.codes, progress=tell)
            self.voice, self.audio_report = CodeVoice(fit.net, fit.codes), fit.report
            return fitted_conditions(fit, data, frames, device)
        tell(0.0, "listening")
        known = saved.part("conditions") if saved is not None else {}
        if isinstance(self.voice, FusedVoice):
            self.audio_report = {"codes": "fused", "features": self.voice.net.config.features}
            if self.config.joint:
                targets = self._fusion_targets()
                return joint_conditions(self.voice, targets, data, frames, known.get("blink"), device)
            return fused_conditions(self.voice, data, frames, device)
        if saved is not None:
            return restored_conditions(known, self.voice, data, frames, device)
        self.audio_report = {"codes": "none"}
        return silent_conditions(data, frames, device)

    def _fusion_targets(self) -> FusionTargets:
        """Those that the run's folder holds; made by the fusion at first, or where an older version of this
        program began the run.
        """
        run = self.config.out
        if self.fusion is None and FusionTargets.exist(run):
            return FusionTargets.load(run)
        assert self.config.fusion is not None
        fusion = self.fusion or load_fusion(self.config.fusion)
        targets = FusionTargets.of(fusion, self.dataset, self.frames)
        targets.save(run)
        return targets

    def _make_trainer(self, saved: Checkpoint | None) -> Trainer:
        if saved is not None:
            model, self.references = restored_model(saved).to(self.config.device), saved.meta.get("identity")
        else:
            masker = None if self.fusion is None else self.fusion.masker
            n_codes = self.conditions.n_codes
            mask = self.voice.mask if isinstance(self.voice, FusedVoice) else None
            model, self.references = fresh_model(
                self.config, self.dataset, self.frames, n_codes, masker, mask
            )
        scene = scene_of(model, self.dataset, self.frames)
        trainer = Trainer(self.config, model, scene, self.store, self.conditions, self.config.seed)
        if saved is not None:
            trainer.load_state(int(saved.meta["step"]), saved.part("optim"), saved.part("loop"))
            return trainer
        if self.base is not None and isinstance(self.voice, FusedVoice):
            self.base.give(model, self.voice.encoder)
        self.log.stage(0.0, "carving the visual hull")
        carve(model.head, self.store, scene)
        trainer.lattices.bake()
        return trainer

    def preview(self) -> None:
        """Draw a training frame as the avatar hears it, beside the truth."""
        self.log.preview(self.trainer.n_steps, *preview_of(self.trainer))

    def stepped(self) -> None:
        """Keep a copy of the checkpoint where one was asked for."""
        if self.trainer.n_steps in self.config.report_at:
            self.save(self.config.out / f"at_{self.trainer.n_steps}")

    def save(self, out: Path | None = None) -> None:
        """Write the checkpoint and train.json, to the run's folder or another."""
        out = self.config.out if out is None else out
        camera, voice = self.dataset.camera, self.voice
        assert voice is not None
        meta: dict[str, Any] = {
            "step": self.trainer.n_steps,
            "elapsed_s": self.elapsed_s,
            "config": to_dict(self.config),
            "n_codes": self.conditions.n_codes,
            "usual_blink": float(self.conditions.blink.median()),  # of open eyes
            "camera": dataclasses.asdict(camera),
            "fps": self.dataset.fps,
            "dataset": {
                "root": str(self.dataset.root.resolve()),
                "fingerprint": self.dataset.fingerprint(),
                "layout": self.dataset.layout,
                "n_train": len(self.frames),
                "audio_kind": self.dataset.audio_kind,
            },
            "audio": {**voice.meta(), "report": self.audio_report},
            "identity": self.references,
            "versions": {"nerfad": nerfad.__version__, "torch": torch.__version__},
            "backend": backend(),
            "log": self.log.entries,
        }
        tensors: dict[str, Tensor] = {
            **{f"model.{key}": value for key, value in self.trainer.model.state_dict().items()},
            **voice.state(),
            **{f"conditions.{key}": value for key, value in self.conditions.state().items()},
            "scene.c2w": torch.from_numpy(self.dataset.c2w[self.frames].astype(np.float32)),
            "scene.body": self.trainer.scene.body,
            "scene.segments": torch.from_numpy(self.dataset.segments[self.frames].astype(np.int64)),
            "scene.plate": self.store.plate,
            **self.trainer.state(),
        }
        checkpoint.save(out, meta, tensors)
        summary = {key: meta[key] for key in ("step", "elapsed_s", "config", "backend", "versions", "log")}
        summary["peak_memory_mb"] = round(peak_memory_mb(), 1)
        summary["rays_per_second"] = self.log.median("rays_per_second")
        summary["audio"] = self.audio_report
        with atomic_write(out / "train.json", "w") as file:
            json.dump(summary, file, indent=1)

    def _result(self) -> TrainResult:
        psnr = self.log.entries[-1].get("psnr", float("nan")) if self.log.entries else float("nan")
        return TrainResult(
            self.config.out,
            self.trainer.n_steps,
            self.elapsed_s,
            psnr,
            self.log.median("rays_per_second"),
            peak_memory_mb(),
        )


def preview_of(trainer: Trainer) -> tuple[np.ndarray, np.ndarray]:
    """The middle training frame and what the model makes of its sound, uint8 [H, W, 3] each."""
    model, scene, store = trainer.model, trainer.scene, trainer.store
    k = len(store) // 2
    cond = torch.nn.functional.pad(trainer.conditions.heard(k), (0, model.n_appearance))
    plate = store.plate.float() / 255
    frame = draw_frame(model, scene.camera, scene.c2w[k], scene.body[k], cond, plate, surface_depth=False)
    return store.images[k].cpu().numpy(), frame.image
