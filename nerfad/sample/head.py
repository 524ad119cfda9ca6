"""The skin of the head: a displaced body of cross-sections, slit at the mouth, deformed by action units.

The surface is two closed grids that share the row of the mouth line: everything above it and everything
below it. Between the corners of the mouth the two copies of that row part when the mouth opens; a few
extra rows curl inwards from either copy as the inner lips.
"""

from dataclasses import dataclass

import numpy as np

from nerfad.sample.identity import Identity
from nerfad.sample.shapes import (
    Profile,
    bump,
    catmull_rom,
    grid_normals,
    grid_triangles,
    smooth_max,
    smoothstep,
    twin_bump,
)

MOUTH_Y = -6.9
MOUTH_HALF_WIDTH = 2.5
EYE_X = 3.15
EYE_RADIUS = 1.25
EYE_HALF_WIDTH = 1.42
HINGE = np.array([0.0, -2.2, -0.5])  # axis of the jaw
JAW_ANGLE = 0.20  # radians at AU26 = 1
LIP_GAP_CM = 2.1  # inner lip distance at AU25 = 1
N_COLUMNS = 168
N_INNER_LIP_ROWS = 4

# action units that speech moves, and the others of the model
SPEECH_UNITS = ("AU10", "AU14", "AU18", "AU20", "AU24", "AU25", "AU26")
OTHER_UNITS = ("AU45",)
UNITS = SPEECH_UNITS + OTHER_UNITS

# height, half width, front, back, z of the widest point, roundness
_HEAD_KNOTS = np.array(
    [
        (11.9, 0.0, -1.5, -1.5, -1.5, 2.0),
        (11.6, 2.4, 1.4, -4.4, -1.5, 2.0),
        (10.6, 4.7, 4.2, -7.0, -1.4, 2.0),
        (8.6, 6.5, 7.0, -8.9, -1.2, 2.05),
        (6.0, 7.25, 8.5, -9.7, -1.0, 2.15),
        (3.0, 7.45, 9.1, -9.9, -0.6, 2.25),
        (0.0, 7.2, 8.9, -9.4, -0.2, 2.3),
        (-2.5, 7.05, 8.9, -8.2, 0.0, 2.3),
        (-5.0, 6.55, 9.1, -5.8, 0.4, 2.25),
        (-7.0, 6.05, 9.0, -2.8, 1.4, 2.25),
        (-8.6, 5.3, 8.7, 0.0, 2.7, 2.2),
        (-9.9, 4.25, 8.7, 2.4, 4.0, 2.2),
        (-10.9, 2.95, 8.3, 4.2, 5.3, 2.15),
        (-11.5, 1.5, 7.4, 5.2, 6.0, 2.0),
        (-11.7, 0.0, 6.2, 6.2, 6.2, 2.0),
    ]
)


def head_profile(who: Identity) -> Profile:
    """The average head stretched to this person."""
    knots = _HEAD_KNOTS.copy()
    y = knots[:, 0]
    jaw = smoothstep(-4.0, -8.0, y)
    knots[:, 1] *= who.face_width * (1 + (who.jaw_width - 1) * jaw)
    knots[:, 0] = np.where(y < MOUTH_Y, MOUTH_Y + (y - MOUTH_Y) * who.chin_length, y)
    return Profile(knots)


def column_angles() -> np.ndarray:
    """Angles of the columns in [-pi, pi), three times denser in front than behind."""
    theta = np.linspace(-np.pi, np.pi, 4001)
    density = 0.30 + np.exp(-((theta / 0.95) ** 2)) + 0.9 * np.exp(-((theta / 0.33) ** 2))
    cumulative = np.concatenate([[0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    targets = np.arange(N_COLUMNS) / N_COLUMNS * cumulative[-1]
    return np.interp(targets, cumulative, theta)


def row_heights(top: float, bottom: float, n_rows: int) -> np.ndarray:
    """Heights of rows, denser at the eyes, the nose's base and the lips."""
    y = np.linspace(top, bottom, 4001)
    density = 0.5 + 1.0 * bump(0, y, 0, 0.2, 1, 1.6) + 1.3 * bump(0, y, 0, -4.3, 1, 1.0)
    density += 2.4 * bump(0, y, 0, MOUTH_Y, 1, 1.0)
    cumulative = np.concatenate([[0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    return np.interp(np.linspace(0, cumulative[-1], n_rows), cumulative, y)


def relief(who: Identity, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How far the features of the face stand out of the plain body towards the front, in cm."""
    eye_x = EYE_X * who.eye_spacing
    z = 0.40 * twin_bump(x, y, 2.6, 1.9, 2.0, 0.8) + 0.25 * bump(x, y, 0, 1.8, 1.6, 1.0)
    z -= 0.95 * twin_bump(x, y, eye_x - 0.1, 0.30, 1.7, 1.0)
    z += 0.30 * twin_bump(x, y, eye_x + 0.3, -1.3, 1.7, 0.7)
    z -= 0.35 * twin_bump(x, y, 1.6, 0.2, 0.7, 0.9)
    z += 0.50 * twin_bump(x, y, 4.6, -2.7, 1.7, 1.5)
    z -= 0.25 * twin_bump(x, y, 4.2, -6.2, 1.3, 1.8)
    z += 0.30 * twin_bump(x, y, 2.3, -5.2, 1.0, 1.4)
    z += _nose(who, x, y) + _mouth_relief(who, x, y)
    z += 0.55 * bump(x, y, 0, -10.1, 1.7, 1.1) - 0.06 * bump(x, y, 0, -10.3, 0.35, 0.8)
    return z


def _nose(who: Identity, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    stretched = np.where(y < 1.0, 1.0 + (y - 1.0) / who.nose_length, y)
    # height of the bridge above the face, and its half width
    ridge = np.array(
        [
            (2.2, 0.0, 0.9),
            (1.0, 0.15, 0.75),
            (0.0, 0.5, 0.62),
            (-1.0, 1.0, 0.66),
            (-2.0, 1.5, 0.74),
            (-3.0, 2.05, 0.86),
            (-3.6, 2.35, 0.95),
            (-4.1, 2.2, 0.98),
            (-4.55, 1.15, 0.9),
            (-4.9, 0.25, 0.8),
            (-5.4, 0.0, 0.8),
        ]
    )
    t = np.interp(-stretched, -ridge[:, 0], np.arange(len(ridge)))
    shape = catmull_rom(ridge[:, 1:], t.ravel()).reshape(*t.shape, 2)
    height, width = np.maximum(shape[..., 0], 0.0), shape[..., 1] * who.nose_width
    z = height * np.exp(-(np.abs(x / width) ** 2.3))
    wing_x = 1.18 * who.nose_width
    wings = 1.0 * twin_bump(x, stretched, wing_x, -3.95, 0.52, 0.55)
    hollow = 0.35 * twin_bump(x, stretched, 0.62 * who.nose_width, -4.55, 0.28, 0.22)
    return smooth_max(z, wings, 0.25) - 0.0625 - hollow


def _mouth_relief(who: Identity, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    d = y - MOUTH_Y
    across = np.exp(-(np.abs(x / (0.92 * MOUTH_HALF_WIDTH)) ** 2.6))
    z = 0.35 * bump(x, y, 0, MOUTH_Y, 2.7, 1.7)  # the teeth push the lips out
    z += 0.42 * who.lip_fullness * across * np.exp(-(((d - 0.42) / 0.42) ** 2))
    z += 0.55 * who.lip_fullness * across * np.exp(-(((d + 0.52) / 0.48) ** 2))
    z -= 0.30 * across * np.exp(-((d / 0.16) ** 2))
    z -= 0.13 * bump(x, y, 0, -5.75, 0.34, 0.6)  # philtrum
    z -= 0.30 * bump(x, y, 0, -8.55, 1.8, 0.5)
    z -= 0.28 * twin_bump(x, y, MOUTH_HALF_WIDTH + 0.15, MOUTH_Y, 0.5, 0.45)
    return z


def eyeball_centres(who: Identity, surface_z: float) -> np.ndarray:
    """Centres of the two eyeballs [2,3], left of the picture first."""
    x = EYE_X * who.eye_spacing
    return np.array([[-x, 0.0, surface_z - 0.62], [x, 0.0, surface_z - 0.62]])


def eye_opening(
    who: Identity, x: np.ndarray, y: np.ndarray, blink: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The cut-out of the lids in rest coordinates: (inside, distance to upper lid, distance to lower lid).

    Distances are in cm, positive inside the opening."""
    u = (np.abs(x) - EYE_X * who.eye_spacing) / EYE_HALF_WIDTH  # -1 inner corner, 1 outer corner
    arch = np.clip(1 - u * u, 0.0, None)
    tilt = 0.10 * u
    lower = -0.37 * arch**0.8 * who.eye_opening * (1 + 0.15 * u) + tilt
    upper = 0.50 * arch**0.72 * who.eye_opening * (1 - 0.18 * u) + tilt
    upper = upper + (lower - upper) * np.clip(1.05 * blink, 0, 1)
    to_upper, to_lower = upper - y, y - lower
    inside = (to_upper > 0) & (to_lower > 0) & (np.abs(u) < 1)
    return inside, to_upper, to_lower


@dataclass(frozen=True)
class Posed:
    """The deformed skin of one frame: vertices and normals [v,3], and the turn of the jaw in radians."""

    vertices: np.ndarray
    normals: np.ndarray
    jaw_angle: float


class HeadSkin:
    """The skin of one person. `rest` [v,3] is the neutral face; `triangles` [t,3] index it."""

    def __init__(self, who: Identity, n_upper: int = 92, n_lower: int = 50) -> None:
        self.who = who
        profile = head_profile(who)
        theta = column_angles()
        self.theta = theta
        bottom = profile.knots[-1, 0]
        heights = [row_heights(11.9, MOUTH_Y, n_upper), row_heights(MOUTH_Y, bottom, n_lower)]
        grids = []
        for y in heights:
            base = profile.points(profile.rows(profile.parameter_of_height(y)), theta)
            grids.append(self._displace(base, theta))
        upper, lower = grids
        lip = N_INNER_LIP_ROWS
        self.shapes = ((n_upper + lip, N_COLUMNS), (n_lower + lip, N_COLUMNS))
        self.n_upper, self.n_lower = n_upper, n_lower
        self._split = (n_upper + lip) * N_COLUMNS
        upper = np.concatenate([upper, self._inner_lip(upper[-1], +1)])
        lower = np.concatenate([self._inner_lip(lower[0], -1)[::-1], lower])
        self.rest = np.concatenate([upper.reshape(-1, 3), lower.reshape(-1, 3)])
        self.triangles = np.concatenate(
            [
                grid_triangles(*self.shapes[0], closed=True),
                grid_triangles(*self.shapes[1], closed=True, offset=self._split),
            ]
        )
        self.upper_edge = np.arange(N_COLUMNS) + (n_upper - 1) * N_COLUMNS
        self.lower_edge = np.arange(N_COLUMNS) + lip * N_COLUMNS + self._split
        self._drop_hidden_lips()
        front = (self.rest[:, 2] > 3) & (np.abs(self.rest[:, 1] - 0.1) < 1.6)
        near_eye = front & (np.abs(np.abs(self.rest[:, 0]) - EYE_X * who.eye_spacing) < 2.0)
        self.eye_triangles = near_eye[self.triangles].all(1)
        self._prepare_fields()

    def _displace(self, base: np.ndarray, theta: np.ndarray) -> np.ndarray:
        points = base.copy()
        x, y = base[..., 0], base[..., 1]
        front = smoothstep(0.05, 0.45, np.cos(theta))[None]
        points[..., 2] += front * relief(self.who, x, y)
        self.lid_z = 8.45
        centre_x = EYE_X * self.who.eye_spacing
        radius = EYE_RADIUS + 0.16
        inside = radius**2 - (np.abs(x) - centre_x) ** 2 - (y - 0.05) ** 2 * 1.12
        centre_z = self.lid_z - 0.62
        lid = centre_z + np.sqrt(np.maximum(inside, 0.0))
        bulged = smooth_max(points[..., 2], lid, 0.45)
        use = (inside > 0) & (base[..., 2] > 0)
        points[..., 2] = np.where(use, np.maximum(points[..., 2], bulged), points[..., 2])
        return points

    def _inner_lip(self, edge: np.ndarray, side: int) -> np.ndarray:
        """Rows that turn from the edge of a lip into the mouth, [rows, columns, 3]."""
        rows = []
        for k in range(1, N_INNER_LIP_ROWS + 1):
            row = edge.copy()
            row[:, 2] -= 0.22 * k
            row[:, 1] += side * 0.05 * k * k
            rows.append(row)
        return np.stack(rows)

    def _drop_hidden_lips(self) -> None:
        """Inner lips exist between the corners of the mouth only."""
        inner = np.zeros(len(self.rest), bool)
        inner[self.n_upper * N_COLUMNS : self._split + N_INNER_LIP_ROWS * N_COLUMNS] = True
        beyond = np.abs(self.rest[:, 0]) > MOUTH_HALF_WIDTH * self.who.mouth_width
        beyond |= self.rest[:, 2] < 0
        dropped = inner[self.triangles].any(1) & beyond[self.triangles].any(1)
        self.triangles = self.triangles[~dropped]

    def _prepare_fields(self) -> None:
        """Weights of the deformations, all from the rest shape."""
        x, y, z = self.rest.T
        w = MOUTH_HALF_WIDTH * self.who.mouth_width
        upper = np.arange(len(self.rest)) < self._split
        # inner lip rows behave like the edge they hang on
        d = y - MOUTH_Y
        d = np.where(upper, np.maximum(d, 0), np.minimum(d, 0))
        inner = np.zeros(len(self.rest), bool)
        inner[self.n_upper * N_COLUMNS : self._split + N_INNER_LIP_ROWS * N_COLUMNS] = True
        d[inner] = 0.0
        front = smoothstep(-1.0, 3.0, z)
        across = np.clip(1 - (x / w) ** 2, 0, 1)
        self._parting = across**0.5 * np.exp(-((d / 2.2) ** 2)) * (z > 0)
        plain = smoothstep(0.0, 1.0, (-4.2 - (d + MOUTH_Y)) / 5.2)
        side = np.where(upper, 0.0, 1.0)
        self._jaw_weight = front * (plain + (side - plain) * self._parting)
        self._gap_shape = across**0.72 * (z > 0)
        near = np.exp(-((d / 1.5) ** 2)) * (z > 0)
        self._follow = near
        self._upper = upper
        self._basis = self._linear_basis(x, y, z, d, w, upper)

    def _linear_basis(
        self, x: np.ndarray, y: np.ndarray, z: np.ndarray, d: np.ndarray, w: float, upper: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Displacements [v,3] at intensity 1 of the units that only shift skin."""
        front = smoothstep(0.0, 4.0, z)
        mouth = np.exp(-((x / 3.3) ** 2) - (d / 2.4) ** 2) * front
        corner = (np.exp(-(((np.abs(x) - w) / 1.0) ** 2) - (d / 1.1) ** 2)) * front
        sign = np.tanh(x / 1.0)
        lips = np.exp(-((d / 0.85) ** 2)) * np.exp(-(np.abs(x / (w + 0.2)) ** 4)) * front
        zero = np.zeros_like(x)
        lift = np.exp(-((x / 2.3) ** 2)) * np.exp(-(((np.maximum(d, 0) - 0.2) / 1.4) ** 2)) * front
        lift = lift * np.where(upper, 1.0, 0.0) * np.clip(1 - (x / w) ** 2, 0, 1) ** 0.5
        wing = twin_bump(x, y, 1.3, -4.0, 0.8, 0.9) * front
        cheek = twin_bump(x, y, 2.5, -4.9, 1.1, 1.3) * front
        return {
            "AU10": np.stack(
                [zero, 0.45 * lift + 0.25 * wing + 0.30 * cheek, 0.10 * lift + 0.18 * cheek], -1
            ),
            "AU14": np.stack([0.22 * sign * corner, 0.12 * corner, -0.45 * corner], -1),
            "AU18": np.stack([-0.40 * x * mouth, zero, 0.75 * mouth * np.exp(-((x / 2.2) ** 2))], -1),
            "AU20": np.stack([0.55 * sign * mouth, -0.05 * mouth, -0.30 * mouth * (x / w) ** 2], -1),
            "AU24": np.stack([zero, -0.34 * d * lips, -0.22 * lips], -1),
        }

    def pose(self, units: dict[str, float]) -> Posed:
        """Deform by action-unit intensities in 0..1."""
        v = self.rest.copy()
        for name, field in self._basis.items():
            amount = units.get(name, 0.0)
            if amount:
                v += amount * field
        angle = JAW_ANGLE * units.get("AU26", 0.0)
        turn = angle * self._jaw_weight
        cosine, sine = np.cos(turn), np.sin(turn)
        dy, dz = v[:, 1] - HINGE[1], v[:, 2] - HINGE[2]
        v[:, 1] = HINGE[1] + dy * cosine - dz * sine
        v[:, 2] = HINGE[2] + dz * cosine + dy * sine
        self._part_lips(v, LIP_GAP_CM * units.get("AU25", 0.0))
        return Posed(v, self._normals(v), angle)

    def _part_lips(self, v: np.ndarray, gap: float) -> None:
        """Set the distance between the lips' edges to `gap` in the middle, whatever the jaw does."""
        top, low = v[self.upper_edge], v[self.lower_edge]
        shape = self._gap_shape[self.upper_edge]
        lift = 0.22 * gap * shape
        drop = (top[:, 1] + lift - gap * shape - low[:, 1]) * (shape > 0)
        # closed lips meet in depth too; parted ones may stand one behind the other
        ease = 1 - 0.5 * float(smoothstep(0.0, 0.8, gap))
        push = (top[:, 2] - low[:, 2]) * ease * (shape > 0)
        column = np.arange(len(v)) % N_COLUMNS
        v[:, 1] += self._follow * np.where(self._upper, lift[column], drop[column])
        v[:, 2] += self._follow * np.where(self._upper, 0.0, push[column])

    def _normals(self, v: np.ndarray) -> np.ndarray:
        """Unit normals. Both copies of the mouth row take the outside's, joined where the mouth ends."""
        lip = N_INNER_LIP_ROWS
        upper, lower = (
            part.reshape(*shape, 3)
            for shape, part in zip(self.shapes, np.split(v, [self._split]), strict=True)
        )
        outside = np.concatenate([upper[: self.n_upper], lower[lip + 1 :]])
        joined = grid_normals(outside, closed=True)
        above = grid_normals(upper, closed=True)
        below = grid_normals(lower, closed=True)
        above[: self.n_upper] = joined[: self.n_upper]
        below[lip + 1 :] = joined[self.n_upper :]
        parted = self._gap_shape[self.upper_edge] > 0
        last, first = self.n_upper - 1, lip
        above[last, parted] = grid_normals(upper[last - 1 : last + 1, :], closed=True)[0, parted]
        below[first, parted] = grid_normals(lower[first : first + 2, :], closed=True)[1, parted]
        below[first, ~parted] = joined[last, ~parted]
        return np.concatenate([above.reshape(-1, 3), below.reshape(-1, 3)])
