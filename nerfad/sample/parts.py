"""Everything of the model that is not the skin of the face: eyes, teeth, tongue, ears, hair, neck, torso."""

from dataclasses import dataclass

import numpy as np

from nerfad.sample.head import EYE_RADIUS, HINGE, MOUTH_Y, column_angles, eyeball_centres, head_profile
from nerfad.sample.identity import Identity
from nerfad.sample.shapes import Profile, bump, grid_normals, grid_triangles, noise, smoothstep
from nerfad.sample.textures import hairline

HEAD, NECK, TORSO = 1, 2, 3


@dataclass(frozen=True)
class Part:
    """A mesh at rest. `uv` [v,2] are coordinates in the tile named `tile` (see model.py); `shade` [v] darkens
    what lies in the shade of other parts; `jaw` is how far the part follows the jaw, 0..1."""

    vertices: np.ndarray
    normals: np.ndarray
    triangles: np.ndarray
    uv: np.ndarray
    shade: np.ndarray
    tile: str
    label: int = HEAD
    jaw: float = 0.0


def _grid_part(points: np.ndarray, uv: np.ndarray, tile: str, *, closed: bool, **more) -> Part:
    rows, columns = points.shape[:2]
    shade = np.broadcast_to(more.pop("shade", np.ones((rows, columns))), (rows, columns))
    return Part(
        points.reshape(-1, 3),
        grid_normals(points, closed).reshape(-1, 3),
        grid_triangles(rows, columns, closed),
        uv.reshape(-1, 2),
        shade.reshape(-1),
        tile,
        **more,
    )


def _dome(centre: np.ndarray, radii: tuple[float, float, float], rows: int, columns: int) -> np.ndarray:
    """The front half of an ellipsoid as an open grid [rows, columns, 3]."""
    lat = np.linspace(np.pi / 2, -np.pi / 2, rows)[:, None]
    lon = np.linspace(-np.pi / 2, np.pi / 2, columns)[None]
    unit = np.stack([np.cos(lat) * np.sin(lon), np.sin(lat) + 0 * lon, np.cos(lat) * np.cos(lon)], -1)
    return centre + unit * np.asarray(radii)


def eyeballs(who: Identity, lid_z: float) -> list[Part]:
    out = []
    for centre in eyeball_centres(who, lid_z):
        points = _dome(centre, (EYE_RADIUS,) * 3, 25, 25)
        uv = (points[..., :2] - centre[:2]) / EYE_RADIUS
        out.append(_grid_part(points, uv, "eye", closed=False))
    return out


def teeth_and_tongue(who: Identity) -> list[Part]:
    phi = np.linspace(-1.25, 1.25, 49)[None]
    out = []
    for top, bottom, front, jaw in ((-5.75, -7.02, 8.85, 0.0), (-7.05, -8.1, 8.60, 1.0)):
        y = np.linspace(top, bottom, 7)[:, None]
        x = 2.45 * np.sin(phi) + 0 * y
        z = front - 2.6 * (1 - np.cos(phi)) + 0.03 * np.abs(np.sin(phi * 9)) + 0 * y
        # gaps between teeth, darker towards the back and the gums
        tooth = 1 - 0.45 * np.exp(-((np.abs((x / 0.62) % 1.0 - 0.5) - 0.5) ** 2) / 0.006)
        gum = smoothstep(0.15, 0.40, np.abs(y - (top if jaw == 0 else bottom)))
        shade = 0.86 * tooth * (0.35 + 0.65 * np.cos(phi) ** 2) * (0.75 + 0.25 * gum)
        shade = shade * (0.82 if jaw else 1.0)
        points = np.stack([x, y + 0 * x, z], -1)
        uv = np.zeros((*points.shape[:2], 2))
        out.append(_grid_part(points, uv, "tooth", closed=False, shade=shade, jaw=jaw))
    tongue = _dome(np.array([0.0, MOUTH_Y - 0.95, 6.2]), (1.9, 0.62, 2.0), 13, 17)
    uv = np.zeros((*tongue.shape[:2], 2))
    out.append(_grid_part(tongue, uv, "tongue", closed=False, jaw=0.85))
    cavity = _dome(np.array([0.0, MOUTH_Y - 0.6, 5.6]), (3.2, 2.6, 0.3), 9, 9)
    out.append(_grid_part(cavity, np.zeros((9, 9, 2)), "cavity", closed=False, jaw=0.5))
    return out


def ears(who: Identity) -> list[Part]:
    out = []
    for side in (-1.0, 1.0):
        rows, columns = 25, 25
        lat = np.linspace(np.pi / 2, -np.pi / 2, rows)[:, None]
        lon = np.linspace(-np.pi, np.pi, columns, endpoint=False)[None]
        a = np.cos(lat) * np.sin(lon)  # backwards
        b = np.sin(lat) + 0 * lon
        c = np.cos(lat) * np.cos(lon)  # outwards
        height = 3.0 * b * np.where(b > 0, 1.0, 0.92)
        depth = a * (1.15 + 0.45 * smoothstep(-0.9, 0.6, b))
        hollow = bump(a, b, -0.15, 0.05, 0.45, 0.5)
        thick = 0.42 * c - 0.30 * hollow * (c > 0)
        turn = 0.42
        x = 7.0 * who.face_width + depth * np.sin(turn) + thick * np.cos(turn) + 0.25
        z = -0.9 - depth * np.cos(turn) + thick * np.sin(turn)
        points = np.stack([side * x, height - 1.6 - 0.2 * depth, z], -1)
        if side > 0:
            points = points[:, ::-1]
            hollow = hollow[:, ::-1]
        shade = 1 - 0.45 * hollow
        uv = np.full((rows, columns, 2), 0.5)
        out.append(_grid_part(points, uv, "plain_skin", closed=True, shade=shade))
    return out


_HAIR_VOLUME = {"short": (1.7, 0.55), "cropped": (0.6, 0.25), "side_part": (1.6, 1.0), "long": (1.4, 0.9)}


def hair(who: Identity) -> Part:
    """A shell over the skull that sinks under the skin beyond the hairline."""
    style = who.hair_style
    profile = _hair_profile(who)
    theta = column_angles()
    heights = np.concatenate([np.linspace(11.9, 9.5, 16)[:-1], np.linspace(9.5, profile.knots[-1, 0], 84)])
    base = profile.points(profile.rows(profile.parameter_of_height(heights)), theta)
    outward = grid_normals(base, closed=True)
    rng = np.random.default_rng([who.texture_seed, 6])
    jag = 0.16 * np.convolve(rng.standard_normal(len(theta) + 2), np.ones(3) / 3, "valid")
    over = base[..., 1] - (hairline(style, np.degrees(theta)) + jag)[None]
    top, side = _HAIR_VOLUME[style]
    volume = side + (top - side) * smoothstep(1.0, 9.0, base[..., 1])
    lumps = 0.10 * noise(rng, over.shape, 2.5, 6.0) + 0.05 * noise(rng, over.shape, 1.0, 8.0)
    thickness = -0.45 + (volume + 0.45) * smoothstep(-0.4, 1.9, over)
    thickness += lumps * smoothstep(0.3, 2.0, over) * smoothstep(11.9, 9.0, base[..., 1])
    points = base + outward * thickness[..., None]
    fall = (11.9 - base[..., 1]) / 27.0
    comb = {"short": 0.5, "side_part": 0.8}.get(style, 0.15)  # strands lean to one side
    around = theta[None] / (2 * np.pi) + 0.5 + comb * fall * smoothstep(-1.0, 8.0, base[..., 1])
    uv = np.stack(np.broadcast_arrays(3.0 * around, fall), -1)
    shade = 0.70 + 0.30 * smoothstep(-0.2, 2.2, over) + 0.5 * lumps
    part = _grid_part(points, uv, "hair", closed=True, shade=shade)
    kept = part.triangles[(over.reshape(-1)[part.triangles] > -0.6).any(1)]
    if style == "long":  # its inside shows behind the neck
        kept = np.concatenate([kept, kept[:, ::-1]])
    return Part(part.vertices, part.normals, kept, part.uv, part.shade, "hair")


def _hair_profile(who: Identity) -> Profile:
    knots = head_profile(who).knots.copy()
    if who.hair_style == "long":
        above = knots[knots[:, 0] > -3.0]
        tail = np.array(
            [
                (-5.5, 7.3, 8.0, -8.6, 0.0, 2.2),
                (-9.0, 7.6, 8.0, -8.2, 0.0, 2.2),
                (-12.5, 8.0, 7.6, -8.4, 0.2, 2.2),
                (-15.0, 8.0, 7.0, -8.4, 0.2, 2.2),
            ]
        )
        return Profile(np.concatenate([above, tail]))
    if who.hair_style == "side_part":
        above = knots[knots[:, 0] > -3.0]
        tail = np.array(
            [
                (-5.0, 7.2, 8.4, -8.0, 0.0, 2.2),
                (-7.5, 6.9, 7.6, -6.8, 0.2, 2.2),
                (-9.2, 6.2, 6.6, -5.2, 0.4, 2.2),
            ]
        )
        return Profile(np.concatenate([above, tail]))
    return Profile(knots)


_NECK_KNOTS = np.array(
    [
        (-4.0, 4.9, 3.6, -6.0, -1.2, 2.0),
        (-8.0, 4.9, 3.4, -6.4, -1.4, 2.0),
        (-11.0, 5.0, 3.2, -6.8, -1.6, 2.0),
        (-14.0, 5.3, 3.2, -7.0, -1.8, 2.0),
        (-17.0, 5.9, 3.7, -7.2, -2.0, 2.0),
        (-19.0, 6.0, 3.9, -7.2, -2.0, 2.0),
    ]
)
# the first section is the neckline
_TORSO_KNOTS = np.array(
    [
        (-14.3, 6.3, 4.7, -7.2, -1.9, 2.0),
        (-14.9, 7.6, 5.2, -7.8, -2.1, 2.0),
        (-15.9, 10.8, 5.8, -8.4, -2.4, 2.0),
        (-17.2, 14.8, 6.6, -8.9, -2.6, 2.1),
        (-18.9, 18.4, 7.6, -9.6, -2.8, 2.2),
        (-21.5, 20.9, 8.6, -10.4, -3.0, 2.3),
        (-25.0, 22.2, 10.2, -11.0, -3.0, 2.4),
        (-30.0, 22.8, 11.2, -11.0, -3.0, 2.4),
        (-37.0, 22.8, 11.4, -11.0, -3.0, 2.4),
    ]
)
# how far the neckline hangs down in front, thickness and height of its band, in cm
_COLLARS = {"crew": (1.3, 0.38, 0.55), "shirt": (2.4, 0.50, 1.10), "turtleneck": (0.0, 0.75, 1.7)}


def neck(who: Identity) -> Part:
    profile = Profile(_NECK_KNOTS)
    theta = np.linspace(-np.pi, np.pi, 96, endpoint=False)
    heights = np.linspace(-4.0, -19.0, 40)
    points = profile.points(profile.rows(profile.parameter_of_height(heights)), theta)
    x, y = points[..., 0], points[..., 1]
    slim = 0.92 if who.stubble == 0 else 1.0
    points[..., 0] *= slim
    front = smoothstep(0.0, 0.6, np.cos(theta))[None]
    points[..., 2] += front * (0.35 * bump(x, y, 0, -12.6, 0.9, 1.0) * (1.0 if slim == 1.0 else 0.3))
    points[..., 2] += front * 0.35 * bump(np.abs(x), y, 2.2, -15.0, 0.7, 2.2)
    shade = 1 - 0.55 * smoothstep(-15.0, -10.5, y) * front - 0.15 * (1 - front)
    return _grid_part(points, np.full((*x.shape, 2), 0.5), "plain_skin", closed=True, shade=shade, label=NECK)


def torso(who: Identity) -> list[Part]:
    profile = Profile(_TORSO_KNOTS)
    theta = np.linspace(-np.pi, np.pi, 120, endpoint=False)
    heights = np.concatenate([np.linspace(-14.3, -21, 40)[:-1], np.linspace(-21, -37, 24)])
    base = profile.points(profile.rows(profile.parameter_of_height(heights)), theta)
    uv = np.stack(np.broadcast_arrays((theta / (2 * np.pi) + 0.5)[None] * 2, (-base[..., 1] - 13) / 24), -1)
    drop, thick, tall = _COLLARS[who.collar]
    below = -14.3 - base[..., 1]
    base[..., 1] -= drop * smoothstep(0.1, 1.0, np.cos(theta))[None] * np.exp(-below / 2.5)
    rng = np.random.default_rng([who.texture_seed, 7])
    ripple = 0.12 * np.sin(1.3 * base[..., 1] + 3 * np.sin(base[..., 0] * 0.25 + rng.uniform(0, 6)))
    base[..., 2] += ripple * smoothstep(-17, -23, base[..., 1])
    shade = 1 - 0.22 * np.exp(-below / 0.5)
    body = _grid_part(base, uv, "cloth", closed=True, shade=shade, label=TORSO)
    return [body, _band(base[0], thick, tall)]


def _band(neckline: np.ndarray, thick: float, tall: float) -> Part:
    """A tube of cloth [around, along] on the neckline [n,3]."""
    turn = np.linspace(np.pi, -np.pi, 17)
    middle = neckline.mean(0)
    outward = (neckline - middle) * (1, 0, 1)
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    lift = np.array([0.0, tall, 0.0])
    points = neckline + (0.5 * lift) + np.sin(turn)[:, None, None] * lift
    points = points - thick * np.cos(turn)[:, None, None] * outward
    n = len(neckline)
    uv = np.stack(np.broadcast_arrays(np.arange(n) / n * 4, 0.05 * turn[:, None]), -1)
    shade = np.broadcast_to(0.93 + 0.05 * np.cos(np.arange(n) * np.pi)[None], points.shape[:2])
    return _grid_part(points, uv, "cloth", closed=True, shade=shade, label=TORSO)


def follow_jaw(points: np.ndarray, angle: float) -> np.ndarray:
    """Points turned about the jaw's hinge."""
    out = points.copy()
    dy, dz = points[:, 1] - HINGE[1], points[:, 2] - HINGE[2]
    out[:, 1] = HINGE[1] + dy * np.cos(angle) - dz * np.sin(angle)
    out[:, 2] = HINGE[2] + dz * np.cos(angle) + dy * np.sin(angle)
    return out
