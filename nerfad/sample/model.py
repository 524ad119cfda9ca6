"""The sample person as meshes and textures, and how a frame of it is rendered.

The world is the torso's rest frame in cm; the head's frame moves in it. Two layers are drawn, the head and
the body (neck and torso), and merged by depth, so that the body without the head comes for free.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from nerfad.cameras import Camera
from nerfad.sample import parts as mesh_parts
from nerfad.sample import textures
from nerfad.sample.head import EYE_X, HeadSkin, eye_opening
from nerfad.sample.identity import Identity
from nerfad.sample.landmarks import FaceMesh
from nerfad.sample.parts import HEAD, NECK, TORSO, Part, follow_jaw
from nerfad.sample.raster import Fragments, rasterize
from nerfad.sample.shapes import smoothstep

CM_PER_UNIT = 25.0  # scene units are the head's frame divided by this, as in preprocessing
CAMERA_DISTANCE = 108.0
CAMERA_HEIGHT = -4.2
FOCAL_PER_HEIGHT = 1200.0 / 512.0
NECK_PIVOT = np.array([0.0, -10.0, -2.0])
SUPERSAMPLING = 3  # odd, so that the middle subsample is the pixel's centre: depth is exact there


def _direction(x: float, y: float, z: float) -> np.ndarray:
    vector = np.array([x, y, z], np.float32)
    return vector / np.linalg.norm(vector)


_KEY = _direction(-0.45, 0.55, 0.70)
_FILL = _direction(0.75, 0.10, 0.55)
_RIM = _direction(0.65, 0.45, -0.45)
_HALF = _direction(*(_KEY + np.array([0.0, 0.0, 1.0])))


@dataclass(frozen=True)
class Pose:
    """Rigid motions of one frame, 4 x 4 in cm: head frame to world, torso frame to world."""

    head: np.ndarray
    body: np.ndarray


@dataclass(frozen=True)
class Rendering:
    """One frame. Colours are sRGB in 0..1, depth is distance from the camera in scene units."""

    image: np.ndarray  # [h,w,3] float32
    labels: np.ndarray  # [h,w] uint8: 0 background, 1 head, 2 neck, 3 torso
    depth: np.ndarray  # [h,w] float32, head only, 0 elsewhere
    torso: np.ndarray  # [h,w,4] float32, the body without the head, straight alpha


@dataclass
class _Layer:
    """A buffer of subsamples: colour, depth (0 = empty) and label."""

    color: np.ndarray
    depth: np.ndarray
    label: np.ndarray


class Atlas:
    """All tiles in one picture, so that one look-up textures a whole frame."""

    WIDTH = 640

    def __init__(self) -> None:
        self._rows: list[np.ndarray] = []
        self._height = 0

    def add(self, tile: np.ndarray) -> int:
        """Append a tile; returns its first row."""
        top = self._height
        padded = np.zeros((tile.shape[0] + 2, self.WIDTH, 3), np.float32)
        padded[: tile.shape[0], : tile.shape[1]] = tile
        padded[tile.shape[0] :] = padded[tile.shape[0] - 1]
        padded[:, tile.shape[1] :] = padded[:, tile.shape[1] - 1 : tile.shape[1]]
        self._rows.append(padded)
        self._height += padded.shape[0]
        return top

    def finish(self) -> np.ndarray:
        """The picture, squared: gamma 2 is near enough to linear light."""
        return np.square(np.concatenate(self._rows)).astype(np.float32)


class SampleModel:
    """One person at one picture size.

    `render(units, pose)` draws a frame, `skin` holds the deformable face, `camera` the intrinsics and
    `c2w(pose)` the camera in the head's frame.
    """

    def __init__(self, who: Identity, size: int) -> None:
        self.who, self.size = who, size
        focal = FOCAL_PER_HEIGHT * size
        self.camera = Camera(focal, focal, size / 2, size / 2, height=size, width=size)
        self.skin = HeadSkin(who)
        self.face = FaceMesh(self.skin)
        self._build_atlas()
        self._head_parts = [
            *mesh_parts.eyeballs(who, self.skin.lid_z),
            *mesh_parts.teeth_and_tongue(who),
            *mesh_parts.ears(who),
            mesh_parts.hair(who),
        ]
        self._body_parts = [mesh_parts.neck(who), *mesh_parts.torso(who)]
        self._prepare_head()
        self._prepare_body()
        self.background = textures.wall(who, size, size)

    # -- preparation

    def _build_atlas(self) -> None:
        atlas, who = Atlas(), self.who
        self._tiles = {
            "skin": atlas.add(textures.skin_tile(who)),
            "hair": atlas.add(textures.hair_tile(who)),
            "cloth": atlas.add(textures.cloth_tile(who)),
            "eye": atlas.add(textures.eye_tile(who)),
        }
        for name, color in {
            "plain_skin": np.asarray(who.skin) * (0.98, 0.93, 0.92),
            "tooth": (0.90, 0.87, 0.80),
            "tongue": (0.55, 0.26, 0.26),
            "cavity": (0.13, 0.045, 0.045),
        }.items():
            self._tiles[name] = atlas.add(np.broadcast_to(np.asarray(color), (4, 4, 3)))
        self._atlas = atlas.finish()

    def _texels(self, part_uv: np.ndarray, tile: str) -> np.ndarray:
        """Atlas coordinates (column, row) of a part's own coordinates."""
        if tile == "skin":
            column = (part_uv[:, 0] + textures.SKIN_HALF_WIDTH) * textures.PER_CM - 0.5
            row = (textures.SKIN_TOP - part_uv[:, 1]) * textures.PER_CM - 0.5
        elif tile == "eye":
            half = (textures.EYE_TILE - 1) / 2
            column, row = half * (1 + part_uv[:, 0]), half * (1 - part_uv[:, 1])
        elif tile in ("hair", "cloth"):
            size = textures.HAIR_TILE - 1
            column, row = _mirror(part_uv[:, 0]) * size, _mirror(part_uv[:, 1]) * size
        else:
            column = row = np.full(len(part_uv), 1.0)
        return np.stack([column, row + self._tiles[tile]], -1)

    def _attributes(self, part: Part) -> np.ndarray:
        """Texel, shade and gloss of a part's vertices [v,4]."""
        gloss = {"tooth": 0.25, "tongue": 0.25, "eye": 0.0, "plain_skin": 0.05, "hair": 0.0}
        extra = np.stack([part.shade, np.full(len(part.shade), gloss.get(part.tile, 0.0))], -1)
        return np.concatenate([self._texels(part.uv, part.tile), extra], -1)

    def _prepare_head(self) -> None:
        skin = self.skin
        n_skin = len(skin.rest)
        skin_uv = np.clip(skin.rest[:, :2], (-8.95, -12.9), (8.95, 12.9))
        inner = np.zeros(n_skin, bool)
        start, lip_rows = skin.n_upper * skin.theta.size, 2 * (skin.shapes[0][0] - skin.n_upper)
        inner[start : start + lip_rows * skin.theta.size] = True
        shade = np.where(inner, 0.55, 1.0)
        extra = np.stack([shade, np.full(n_skin, 0.10)], -1)
        attributes = [np.concatenate([self._texels(skin_uv, "skin"), extra], -1)]
        triangles, offset = [skin.triangles], n_skin
        for part in self._head_parts:
            attributes.append(self._attributes(part))
            triangles.append(part.triangles + offset)
            offset += len(part.vertices)
        self._head_attributes = np.concatenate(attributes)
        self._head_triangles = np.concatenate(triangles)
        self._head_holes = np.zeros(len(self._head_triangles), bool)
        self._head_holes[: len(skin.triangles)] = skin.eye_triangles
        self._head_labels = np.full(len(self._head_triangles), HEAD, np.uint8)

    def _prepare_body(self) -> None:
        attributes, triangles, labels, offset = [], [], [], 0
        for part in self._body_parts:
            attributes.append(self._attributes(part))
            triangles.append(part.triangles + offset)
            labels.append(np.full(len(part.triangles), part.label, np.uint8))
            offset += len(part.vertices)
        self._body_attributes = np.concatenate(attributes)
        self._body_triangles = np.concatenate(triangles)
        self._body_labels = np.concatenate(labels)

    # -- geometry

    def c2w(self, pose: Pose) -> np.ndarray:
        """Camera to head frame [4,4], OpenGL axes, scene units."""
        camera = np.eye(4)
        camera[:3, 3] = (0.0, CAMERA_HEIGHT, CAMERA_DISTANCE)
        c2w = np.linalg.inv(pose.head) @ camera
        c2w[:3, 3] /= CM_PER_UNIT
        return c2w

    def aabb(self) -> np.ndarray:
        """A box around the head in scene units [6], with room for what expressions move."""
        points = np.concatenate([self.skin.rest, *(p.vertices for p in self._head_parts)])
        low, high = points.min(0) - np.array([0.4, 2.6, 0.4]), points.max(0) + np.array([0.4, 0.4, 0.9])
        return np.concatenate([low, high]) / CM_PER_UNIT

    def head_vertices(self, units: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
        """Vertices and normals of everything that belongs to the head, head frame, cm."""
        posed = self.skin.pose(units)
        vertices, normals = [posed.vertices], [posed.normals]
        for part in self._head_parts:
            angle = part.jaw * posed.jaw_angle
            vertices.append(follow_jaw(part.vertices, angle) if part.jaw else part.vertices)
            normals.append(part.normals)
        return np.concatenate(vertices), np.concatenate(normals)

    def _body_vertices(self, pose: Pose) -> tuple[np.ndarray, np.ndarray]:
        """World vertices of neck and torso; the neck's upper end goes with the head."""
        vertices, normals = [], []
        for part in self._body_parts:
            world = _apply(pose.body, part.vertices)
            if part.label == NECK:
                amount = smoothstep(-14.5, -7.0, part.vertices[:, 1])[:, None]
                world = world + amount * (_apply(pose.head, part.vertices) - world)
            vertices.append(world)
            normals.append(part.normals)
        return np.concatenate(vertices), np.concatenate(normals)

    def torso_points(self) -> np.ndarray:
        """Vertices [n,3] of the torso that face the camera and lie in the picture, world frame at rest."""
        points = np.concatenate([p.vertices for p in self._body_parts if p.label == TORSO])
        normals = np.concatenate([p.normals for p in self._body_parts if p.label == TORSO])
        pixels, _ = self.project(points)
        inside = ((pixels > 0) & (pixels < self.size)).all(1)
        return points[inside & (normals[:, 2] > 0.1)]

    def project(self, world: np.ndarray, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """Continuous pixel position (pixel centres at .5) and depth in cm of world points."""
        depth = CAMERA_DISTANCE - world[:, 2]
        x = self.camera.fl_x * world[:, 0] / depth + self.camera.cx
        y = self.camera.cy - self.camera.fl_y * (world[:, 1] - CAMERA_HEIGHT) / depth
        return np.stack([x, y], -1) * scale, depth

    def landmarks(self, units: dict[str, float], pose: Pose) -> tuple[np.ndarray, float]:
        """The 478 points [478,3] in pixels from the picture's corner (z towards the camera negative and in
        pixels too, as MediaPipe has it), and the lip gap."""
        points = self.face.points(self.skin.pose(units), units.get("AU45", 0.0))
        pixels, depth = self.project(_apply(pose.head, points))
        _, middle = self.project(pose.head[None, :3, 3])
        z = (depth - middle) * self.camera.fl_x / middle
        return np.concatenate([pixels, z[:, None]], 1).astype(np.float32), self.face.lip_gap(points)

    # -- drawing

    def render(self, units: dict[str, float], pose: Pose) -> Rendering:
        """Draw one frame with action units in 0..1."""
        head, body = self._draw_head(units, pose), self._draw_body(pose)
        head_wins = (head.depth > 0) & ((body.depth == 0) | (head.depth < body.depth))
        color = np.where(head_wins[..., None], head.color, body.color)
        label = np.where(head_wins, head.label, body.label)
        empty = label == 0
        s = SUPERSAMPLING
        wall = np.square(self.background).repeat(s, 0).repeat(s, 1)
        color[empty] = wall[empty]
        image = np.sqrt(_pool(color))
        return Rendering(image, _majority(label), self._ray_depth(head, head_wins), self._alone(body))

    def _draw_head(self, units: dict[str, float], pose: Pose) -> _Layer:
        vertices, normals = self.head_vertices(units)
        points, depth = self.project(_apply(pose.head, vertices), SUPERSAMPLING)
        blink = units.get("AU45", 0.0)
        rest, triangles = self.skin.rest, self._head_triangles

        def hole(triangle: np.ndarray, bary: np.ndarray) -> np.ndarray:
            xy = np.einsum("kc,kca->ka", bary, rest[triangles[triangle], :2])
            return eye_opening(self.who, xy[:, 0], xy[:, 1], blink)[0]

        size = self.size * SUPERSAMPLING
        fragments = rasterize(points, depth, triangles, size, size, self._head_holes, hole)
        tint = self._lashes(fragments, blink)
        return self._shade(fragments, triangles, normals, self._head_attributes, self._head_labels, tint)

    def _lashes(self, fragments: Fragments, blink: float) -> np.ndarray:
        """Darkening [k] along the rims of the lids, and of the eyeball under a lowered lid."""
        tint = np.ones(len(fragments.pixel), np.float32)
        near = np.flatnonzero(self._head_holes[fragments.triangle])
        corners = self._head_triangles[fragments.triangle[near]]
        xy = np.einsum("kc,kca->ka", fragments.bary[near], self.skin.rest[corners, :2])
        _, to_upper, to_lower = eye_opening(self.who, xy[:, 0], xy[:, 1], blink)
        u = (np.abs(xy[:, 0]) - EYE_X * self.who.eye_spacing) / 1.45
        along = smoothstep(1.12, 0.95, np.abs(u))
        upper = np.exp(-((np.maximum(-to_upper, 0) / 0.09) ** 2)) * (0.65 + 0.35 * np.clip(u, -1, 1))
        lower = 0.45 * np.exp(-((np.maximum(-to_lower, 0) / 0.06) ** 2))
        upper *= np.where(to_upper < 0.05, 1.0, 0.0)
        lower *= np.where(to_lower < 0.05, 1.0, 0.0)
        tint[near] = 1 - 0.85 * along * np.clip(upper + lower, 0, 1)
        return tint

    def _draw_body(self, pose: Pose) -> _Layer:
        vertices, normals = self._body_vertices(pose)
        points, depth = self.project(vertices, SUPERSAMPLING)
        size = self.size * SUPERSAMPLING
        fragments = rasterize(points, depth, self._body_triangles, size, size)
        tint = np.ones(len(fragments.pixel), np.float32)
        return self._shade(
            fragments, self._body_triangles, normals, self._body_attributes, self._body_labels, tint
        )

    def _shade(
        self,
        fragments: Fragments,
        triangles: np.ndarray,
        normals: np.ndarray,
        attributes: np.ndarray,
        labels: np.ndarray,
        tint: np.ndarray,
    ) -> _Layer:
        """Light the fragments; the lamps go with the layer, so colours do not depend on the view."""
        values = fragments.interpolate(triangles, np.concatenate([normals, attributes], 1).astype(np.float32))
        normal = values[:, :3] / (np.sqrt((values[:, :3] ** 2).sum(1, keepdims=True)) + 1e-9)
        texel, shade, gloss = values[:, 3:5], values[:, 5] * tint, values[:, 6]
        albedo = _look_up(self._atlas, texel)
        key = np.clip((normal @ _KEY + 0.30) / 1.30, 0, None)
        fill = np.clip((normal @ _FILL + 0.40) / 1.40, 0, None)
        rim = np.clip(normal @ _RIM, 0, None)
        sky = 0.5 + 0.5 * normal[:, 1]
        light = (
            key[:, None] * np.array([0.92, 0.87, 0.80], np.float32)
            + fill[:, None] * np.array([0.22, 0.24, 0.28], np.float32)
            + rim[:, None] * np.array([0.13, 0.13, 0.13], np.float32)
            + sky[:, None] * np.array([0.20, 0.21, 0.23], np.float32)
            + np.array([0.13, 0.115, 0.11], np.float32)
        )
        shine = gloss * np.clip(normal @ _HALF, 0, 1) ** 24
        color = albedo * light * np.square(shade)[:, None] + (shine * shade)[:, None]
        size = self.size * SUPERSAMPLING
        layer = _Layer(
            np.zeros((size * size, 3), np.float32),
            np.zeros(size * size, np.float32),
            np.zeros(size * size, np.uint8),
        )
        layer.color[fragments.pixel] = np.clip(color, 0, 1)
        layer.depth[fragments.pixel] = fragments.depth
        layer.label[fragments.pixel] = labels[fragments.triangle]
        return _Layer(
            layer.color.reshape(size, size, 3),
            layer.depth.reshape(size, size),
            layer.label.reshape(size, size),
        )

    def _ray_depth(self, head: _Layer, visible: np.ndarray) -> np.ndarray:
        """Distance from the camera to the head at pixel centres in scene units, 0 where there is none."""
        middle = slice(SUPERSAMPLING // 2, None, SUPERSAMPLING)
        along_axis = np.where(visible, head.depth, 0)[middle, middle]
        pixel = np.arange(self.size) + 0.5
        x = (pixel - self.camera.cx) / self.camera.fl_x
        y = (pixel - self.camera.cy) / self.camera.fl_y
        stretch = np.sqrt(1 + x[None] ** 2 + y[:, None] ** 2)
        return (along_axis * stretch / CM_PER_UNIT).astype(np.float32)

    def _alone(self, body: _Layer) -> np.ndarray:
        """The body layer as an RGBA picture with straight alpha."""
        alpha = _pool((body.label > 0).astype(np.float32)[..., None])
        color = _pool(body.color) / np.maximum(alpha, 1e-6)
        return np.concatenate([np.sqrt(np.clip(color, 0, 1)), alpha], -1)


def _apply(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ transform[:3, :3].T + transform[:3, 3]


def _mirror(u: np.ndarray) -> np.ndarray:
    """Fold a coordinate into 0..1 so that the tile repeats without a seam."""
    return 1 - np.abs((u % 2.0) - 1)


def _pool(buffer: np.ndarray) -> np.ndarray:
    """Mean over the subsamples of every pixel."""
    s = SUPERSAMPLING
    total = np.zeros_like(buffer[::s, ::s])
    for i, j in np.ndindex(s, s):
        total += buffer[i::s, j::s]
    return total / np.float32(s * s)


def _majority(label: np.ndarray) -> np.ndarray:
    """The label most subsamples have; ties go to the lower one."""
    s = SUPERSAMPLING
    samples = [label[i::s, j::s] for i in range(s) for j in range(s)]
    votes = np.stack([sum((sample == k).astype(np.uint8) for sample in samples) for k in range(4)])
    return votes.argmax(0).astype(np.uint8)


def _look_up(atlas: np.ndarray, texel: np.ndarray) -> np.ndarray:
    """Bilinear colours [k,3] at `texel` [k,2] (column, row)."""
    n, width = len(texel), 512  # OpenCV wants pictures, and no side beyond 32767
    maps = np.zeros((2, -(-n // width) * width), np.float32)
    maps[:, :n] = texel.T
    column, row = maps.reshape(2, -1, width)
    colors = cv2.remap(atlas, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return colors.reshape(-1, 3)[:n]
