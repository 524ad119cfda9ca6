"""The rows of the paper's tables, as settings of our own code, and how each spends the same budget.

| stage | share |
|---|---|
| AU-Attention | 30 % |
| fusion | 20 % |
| field | what the other stages leave: 50 % for the full model, 80 % without attention, else 100 % |

With a base over several people, rows with a fusion have these stages on the base's people, within one budget
of their own, and spend the whole budget of a row on fine-tuning the base's field on the person at hand.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerfad.config import AttentionConfig, FusionConfig, IdentityOptions, TrainConfig

SHARES = (0.3, 0.2)
"""Of attention and fusion, unless others are asked for."""
CPU_SIZES: dict[str, dict[str, Any]] = {
    "attention": {"width": 16, "critic_width": 16, "n_blocks": 4, "size": 64},
    "fusion": {"width": 8, "size": 64},
}
"""Of the pre-trained networks, unless the paper's are asked for."""


@dataclass(frozen=True)
class Recipe:
    """One row.

    Attributes:
        name: of its folders.
        attention, fusion: whether it has these stages.
        au_loss: whether action units supervise the fusion.
        codes: what conditions a field without fusion.
        identity: identity features other than the default, which is: with a fusion.
        base: whether the field is fine-tuned from a base over several people.
    """

    name: str
    attention: bool = False
    fusion: bool = False
    au_loss: bool = True
    codes: str = "auto"
    identity: IdentityOptions | None = None
    base: bool = False

    @property
    def stages(self) -> tuple[str, ...]:
        """In their order; the last one is the field."""
        return (*(name for name in ("attention", "fusion", "base") if getattr(self, name)), "field")

    def folder(self, runs: Path, stage: str, seed: int) -> Path:
        """Of a stage's run. All rows share the attention of a seed, which counts for each of them."""
        return runs / (f"attention-s{seed}" if stage == "attention" else f"{stage}-{self.name}-s{seed}")


FULL = Recipe("full", attention=True, fusion=True)
PLAIN = Recipe("plain", codes="learnt")
DFRF = Recipe(
    "dfrf_like", codes="learnt", identity=IdentityOptions(enabled=True, form="point", audio_in_offset=True)
)
"""Audio-conditioned field with features of whole reference frames, whose offsets hear the sound."""


@dataclass(frozen=True)
class Row:
    """A row of a table: a recipe, at the end of its training or after so many steps of its field."""

    recipe: Recipe
    at: int | None = None

    @property
    def name(self) -> str:
        """Of its scores; the same row of two tables has one."""
        return self.recipe.name if self.at is None else f"{self.recipe.name}_at_{self.at}"

    def field_run(self, runs: Path, seed: int) -> Path:
        """The checkpoint that is scored."""
        run = self.recipe.folder(runs, "field", seed)
        return run if self.at is None else run / f"at_{self.at}"


REPORT_AT = (4_000, 10_000)
"""Steps of the field after which the paper reports."""

_AGAINST_OTHERS = {
    "plain_nerf": Row(Recipe("nerf", codes="none")),
    "ad_nerf_like": Row(PLAIN),
    "dfrf_like": Row(DFRF),
    "nerf_ad": Row(FULL),
}
TABLES: dict[int, dict[str, Row]] = {
    1: _AGAINST_OTHERS,
    2: {
        f"{name}_{at or 'end'}": Row(row.recipe, at)
        for at in (*REPORT_AT, None)
        for name, row in _AGAINST_OTHERS.items()
    },
    3: {
        "full": Row(FULL),
        "wo_att_d": Row(Recipe("wo_att_d", fusion=True)),
        "wo_au": Row(Recipe("wo_au", attention=True, fusion=True, au_loss=False)),
        "plain": Row(PLAIN),
    },
}
"""The rows of each table, by name."""


def rows_of(table: int, base: bool) -> dict[str, Row]:
    """The rows of a table, by name; those with a fusion start from a base, if there is one.

    >>> [name for name, row in rows_of(1, base=True).items() if row.recipe.base]
    ['nerf_ad']
    """
    rows = {}
    for name, row in TABLES[table].items():
        recipe = dataclasses.replace(row.recipe, base=base and row.recipe.fusion)
        rows[name] = dataclasses.replace(row, recipe=recipe)
    return rows


@dataclass(frozen=True)
class Budget:
    """What each row may spend, pre-training included: minutes by a clock, or steps.

    Attributes:
        shares: of attention and fusion; the field has the rest.
        paper_sizes: pre-train networks of the paper's size instead of those for CPUs.
        clip_s: seconds of the person at hand that every field learns from; None: the training part.
    """

    minutes: float | None
    steps: int | None
    size: int | None
    threads: int
    device: str
    paper_sizes: bool
    shares: tuple[float, float] = SHARES
    clip_s: float | None = None
    clock: str = "wall"

    def share(self, recipe: Recipe, stage: str) -> float:
        """Of a stage.

        >>> budget = Budget(6.0, None, 128, 1, "cpu", False)
        >>> budget.share(PLAIN, "field"), budget.share(FULL, "field")
        (1.0, 0.5)
        >>> based = dataclasses.replace(FULL, base=True)
        >>> budget.share(based, "base"), budget.share(based, "field")
        (0.5, 1.0)
        """
        spent = dict(zip(("attention", "fusion"), self.shares, strict=True))
        if stage in spent:
            return spent[stage]
        if stage == "field" and recipe.base:
            return 1.0
        return 1.0 - sum(spent[name] for name in recipe.stages if name in spent)

    def of(self, recipe: Recipe, stage: str) -> dict[str, Any]:
        """The settings of a stage's budget."""
        share = self.share(recipe, stage)
        if self.steps is not None:
            return {"steps": max(1, round(share * self.steps))}
        assert self.minutes is not None
        return {"minutes": share * self.minutes, "clock": self.clock}


def stage_config(
    recipe: Recipe, stage: str, dataset: Path, people: tuple[Path, ...], runs: Path, seed: int, budget: Budget
) -> AttentionConfig | FusionConfig | TrainConfig:
    """What the stage is called with.

    Args:
        dataset: the person at hand.
        people: data sets of all stages before the field: the base's, or `dataset` alone.
    """
    common = {
        "out": recipe.folder(runs, stage, seed),
        "seed": seed,
        "threads": budget.threads,
        "device": budget.device,
        "preview_every_s": 0.0,
        "save_every_s": 30.0,
        **budget.of(recipe, stage),
    }
    sizes = {} if budget.paper_sizes else CPU_SIZES.get(stage, {})
    names = tuple(str(path) for path in people)
    attention = recipe.folder(runs, "attention", seed) if recipe.attention else None
    if stage == "attention":
        return AttentionConfig(datasets=names, **common, **sizes)
    if stage == "fusion":
        return FusionConfig(
            datasets=names,
            attention=attention,
            use_attention=recipe.attention,
            au_loss=recipe.au_loss,
            **common,
            **sizes,
        )
    fusion = recipe.folder(runs, "fusion", seed) if recipe.fusion else None
    if stage == "base":
        return TrainConfig(dataset=people[0], size=budget.size, fusion=fusion, **common)
    config = TrainConfig(
        dataset=dataset,
        size=budget.size,
        fusion=fusion,
        codes=recipe.codes,
        base=recipe.folder(runs, "base", seed) if recipe.base else None,
        clip_s=budget.clip_s,
        report_at=REPORT_AT,
        **common,
    )
    return config if recipe.identity is None else dataclasses.replace(config, identity=recipe.identity)
