"""The torch-free runtime: draws what the model draws, imports without torch, and refuses damaged files."""

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nerfad.cameras import Camera
from nerfad.config import FieldConfig, OccupancyConfig, TorsoConfig
from nerfad.engine.drawing import draw_frame
from nerfad.errors import InputFileError, NerfadError, OutputError
from nerfad.models.avatar import AvatarModel, body_in_heights
from nerfad.models.field import TalkingField
from nerfad.models.identity_features import IdentityConfig, IdentityEncoder, References
from nerfad.models.identity_field import IdentityField, IdentityHeadRenderer
from nerfad.models.identity_lattice import BakedIdentity, PointIdentity
from nerfad.models.renderer import HeadRenderer
from nerfad.runtime import Renderer, avatar_file, build_info, cpu_features
from nerfad.runtime.export import export_avatar

pytest.importorskip("nerfad._runtime", reason="the runtime module is not built")

HEIGHT, WIDTH, N_CODES = 24, 20, 5


def make_head(identity=None) -> HeadRenderer:
    field = FieldConfig(n_levels=4, finest_resolution=64, log2_table_size=10, density_bias=3.0)
    occupancy = OccupancyConfig(resolution=16, n_steps=64)
    if identity is None:
        return HeadRenderer(TalkingField(field, N_CODES), occupancy)
    return IdentityHeadRenderer(IdentityField(field, N_CODES, identity), occupancy)


def make_identity(baked=True) -> PointIdentity | BakedIdentity:
    camera = Camera(40.0, 44.0, 10.0, 9.0, height=18, width=20)
    references = References(camera, torch.eye(4).repeat(4, 1, 1), torch.rand(4, 3, 18, 20))
    points = PointIdentity(IdentityEncoder(IdentityConfig(n_channels=16, slot_width=8)), references)
    return BakedIdentity(points, resolution=12, bake=False, n_features=2) if baked else points


def make_avatar(torso=True, seed=0, identity=None) -> SimpleNamespace:
    """A random model in the shape of a trained run: what `export_avatar` takes."""
    torch.manual_seed(seed)
    model = AvatarModel(
        make_head(identity),
        TorsoConfig(enabled=torso, n_levels=4, finest_resolution=32, log2_table_size=10),
        N_CODES,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        model.head.box.origin.copy_(torch.tensor([-0.4, -0.5, -0.6]))
        model.head.box.side.fill_(1.1)
        codes = torch.arange(16**3, dtype=torch.int32)
        distance = (model.head.occupancy.cell_centres(codes) - 0.5).norm(dim=1)
        model.head.occupancy.density_grid.copy_((distance < 0.35).float() * 100)
        model.head.occupancy.rebuild(1.0)
    model.eval()
    plate = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    camera = Camera(40.0, 42.0, WIDTH / 2 + 0.3, HEIGHT / 2 - 0.2, HEIGHT, WIDTH)
    body = np.array([[1.0, -2.0, 0.02, 0.01], [0.5, 0.0, -0.01, 0.0]], np.float32)
    return SimpleNamespace(model=model, camera=camera, plate=plate, body=body, fps=25.0)


def camera_pose() -> np.ndarray:
    cosine, sine = np.cos(0.1), np.sin(0.1)
    c2w = np.eye(4, dtype=np.float32)
    c2w[:3, :3] = [[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]]
    c2w[:3, 3] = [0.3, 0.05, 1.9]
    return c2w


def drawn_by_torch(avatar, c2w, cond, body) -> np.ndarray:
    return draw_frame(
        avatar.model,
        avatar.camera,
        avatar.model.head.box.to_box(c2w),
        body_in_heights(body[None], 1, HEIGHT)[0],
        torch.from_numpy(cond),
        torch.from_numpy(avatar.plate).float() / 255,
    ).image


@pytest.mark.parametrize("torso", [True, False])
def test_draws_what_the_model_draws(tmp_path, torso):
    avatar = make_avatar(torso)
    export_avatar(avatar, tmp_path / "me.avatar", table_dtype="float32")
    renderer = Renderer.load(tmp_path / "me.avatar", n_threads=2)
    cond = np.random.default_rng(1).standard_normal(N_CODES).astype(np.float32)
    assert (renderer.n_cond, renderer.height, renderer.width) == (N_CODES, HEIGHT, WIDTH)
    for body in (None, np.array([2.0, -1.0, 0.05, 0.02], np.float32)):
        rest = avatar.body.mean(0) if body is None else body
        expected = drawn_by_torch(avatar, camera_pose(), cond, rest).astype(int)
        got = renderer.render(camera_pose(), cond, body)
        assert got.dtype == np.uint8 and got.shape == (HEIGHT, WIDTH, 3)
        assert np.abs(got - expected).max() <= 1
        assert np.abs(got - avatar.plate.astype(int)).max() > 50, "nothing was drawn over the background"


def test_draws_a_baked_identity(tmp_path):
    identity = make_identity()
    avatar = make_avatar(identity=identity)
    cond, images = np.zeros(N_CODES, np.float32), []
    for scale in (0.0, 1.0):
        with torch.no_grad():
            identity.table.copy_(scale * torch.randn_like(identity.table))
        export_avatar(avatar, tmp_path / "me.avatar", table_dtype="float32")
        images.append(Renderer.load(tmp_path / "me.avatar", 1).render(camera_pose(), cond).astype(int))
        expected = drawn_by_torch(avatar, camera_pose(), cond, avatar.body.mean(0)).astype(int)
        assert np.abs(images[-1] - expected).max() <= 1
    assert np.abs(images[0] - images[1]).max() > 20, "the identity features changed nothing"


def test_identity_features_of_points_are_not_exported(tmp_path):
    with pytest.raises(
        NerfadError, match=r"only where they are baked; export .* without --identity\.form point"
    ):
        export_avatar(make_avatar(identity=make_identity(baked=False)), tmp_path / "me.avatar")


def test_half_precision_tables_change_little(tmp_path):
    avatar, images = make_avatar(), []
    for dtype in ("float16", "float32"):
        export_avatar(avatar, tmp_path / dtype, table_dtype=dtype)
        image = Renderer.load(tmp_path / dtype, 1).render(camera_pose(), np.zeros(N_CODES))
        images.append(image.astype(int))
    assert np.abs(images[0] - images[1]).max() <= 3
    assert (tmp_path / "float16").stat().st_size < (tmp_path / "float32").stat().st_size


def test_frames_do_not_depend_on_the_number_of_threads(tmp_path):
    export_avatar(make_avatar(), tmp_path / "me.avatar")
    cond = np.ones(N_CODES, np.float32)
    one, three = (Renderer.load(tmp_path / "me.avatar", n).render(camera_pose(), cond) for n in (1, 3))
    assert np.array_equal(one, three)


def test_a_background_of_ones_own(tmp_path):
    export_avatar(make_avatar(torso=False), tmp_path / "me.avatar")
    renderer = Renderer.load(tmp_path / "me.avatar", 1)
    away = camera_pose()
    away[:3, 3] = [50, 50, 50]
    green = np.full((HEIGHT, WIDTH, 3), (0, 200, 0), np.uint8)
    assert np.array_equal(renderer.render(away, np.zeros(N_CODES), background=green), green)


def test_runs_without_torch(tmp_path):
    export_avatar(make_avatar(), tmp_path / "me.avatar")
    code = (
        "import sys, numpy as np; from nerfad.runtime import Renderer\n"
        f"image = Renderer.load({str(tmp_path / 'me.avatar')!r}).render(np.eye(4), np.zeros({N_CODES}))\n"
        "sys.exit('torch' in sys.modules or image.dtype != np.uint8)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(cond=np.zeros(3)), "cond must have 5 numbers, got 3"),
        (dict(background=np.zeros((4, 4, 3), np.uint8)), r"background must have shape \[24, 20, 3\]"),
    ],
)
def test_rejects(tmp_path, change, message):
    export_avatar(make_avatar(), tmp_path / "me.avatar")
    renderer = Renderer.load(tmp_path / "me.avatar", 1)
    with pytest.raises(ValueError, match=message):
        renderer.render(**{"c2w": camera_pose(), "cond": np.zeros(N_CODES), **change})


def test_damaged_files_are_refused_with_a_sentence(tmp_path):
    export_avatar(make_avatar(), tmp_path / "me.avatar")
    whole = (tmp_path / "me.avatar").read_bytes()
    for name, data in dict(cut=whole[:5000], text=b"hello, I am no avatar", empty=b"").items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputFileError, match=name):
            Renderer.load(tmp_path / name)
    with pytest.raises(InputFileError, match="missing"):
        Renderer.load(tmp_path / "missing")


def test_a_failed_export_leaves_the_old_file(tmp_path):
    path = tmp_path / "me.avatar"
    export_avatar(make_avatar(), path)
    before = path.read_bytes()
    with pytest.raises(KeyError):
        avatar_file.write(path, {"odd": np.zeros(3, np.complex64)}, {})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_an_export_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*folder: Is a directory; choose another file"):
        export_avatar(make_avatar(), tmp_path / "folder")
    export_avatar(make_avatar(), tmp_path / "new" / "me.avatar")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["me.avatar"]


def test_the_file_is_safetensors(tmp_path):
    from safetensors.numpy import load_file

    export_avatar(make_avatar(), tmp_path / "me.avatar")
    arrays, _ = avatar_file.read(tmp_path / "me.avatar")
    for name, array in load_file(tmp_path / "me.avatar").items():
        assert np.array_equal(array, arrays[name])


def test_build_info_and_cpu_features():
    assert "portable" in build_info()["instruction_sets"]
    features = cpu_features()
    assert features["threads"] >= 1
    assert features["isa"] in ("portable", "avx2", "avx512", "avx512bf16", "amx")


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs Linux' list of threads")
def test_the_pool_works_on_threads_of_its_own_each_on_one_processor(tmp_path):
    export_avatar(make_avatar(), tmp_path / "me.avatar")

    def run_time(thread: str) -> int:
        with open(f"/proc/self/task/{thread}/schedstat") as file:
            return int(file.read().split()[0])

    before = set(os.listdir("/proc/self/task"))
    renderer = Renderer.load(tmp_path / "me.avatar", n_threads=3)
    threads = set(os.listdir("/proc/self/task")) - before
    assert len(threads) == 2
    assert all(len(os.sched_getaffinity(int(thread))) == 1 for thread in threads)
    started = {thread: run_time(thread) for thread in threads}
    for _ in range(10):
        renderer.render(camera_pose(), np.zeros(N_CODES))
    assert all(run_time(thread) > started[thread] for thread in threads)
