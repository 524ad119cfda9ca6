"""The 478 points of the face mesh on the modelled skin, so that they are exact in every frame."""

import numpy as np

from nerfad.sample.head import (
    EYE_HALF_WIDTH,
    EYE_RADIUS,
    EYE_X,
    MOUTH_HALF_WIDTH,
    MOUTH_Y,
    HeadSkin,
    Posed,
    eye_opening,
    eyeball_centres,
)
from nerfad.sample.landmark_sites import SITES

IRIS_RADIUS = 0.51 * EYE_RADIUS
# inner lips from the left corner of the picture to the right one, and where along the half mouth they lie
UPPER_LIP = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_LIP = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
LIP_STATIONS = (-1.0, -0.90, -0.76, -0.58, -0.34, 0.0, 0.34, 0.58, 0.76, 0.90, 1.0)
# lids from the outer to the inner corner, left eye of the picture first
UPPER_LIDS = ((33, 246, 161, 160, 159, 158, 157, 173, 133), (263, 466, 388, 387, 386, 385, 384, 398, 362))
LOWER_LIDS = ((33, 7, 163, 144, 145, 153, 154, 155, 133), (263, 249, 390, 373, 374, 380, 381, 382, 362))
IRISES = ((468, 469, 470, 471, 472), (473, 474, 475, 476, 477))
N_POINTS = 478


class FaceMesh:
    """Finds the points on a person's skin once and reads them off every deformed skin."""

    def __init__(self, skin: HeadSkin) -> None:
        self.skin = skin
        sites = self._sites()
        closed = sites.copy()
        for eye, side in enumerate((-1.0, 1.0)):
            u = np.cos(np.linspace(0, np.pi, 9))
            x = side * (EYE_X * skin.who.eye_spacing + 0.999 * EYE_HALF_WIDTH * u)
            for indices, is_upper in ((UPPER_LIDS[eye], True), (LOWER_LIDS[eye], False)):
                for where, blink in ((sites, 0.0), (closed, 1.0)):
                    _, to_upper, to_lower = eye_opening(skin.who, x, np.zeros(9), blink)
                    where[list(indices)] = np.stack([x, to_upper if is_upper else -to_lower], -1)
        self._open = self._locate(sites)
        self._closed = tuple(part.copy() for part in self._open)
        moving = np.flatnonzero((closed != sites).any(1))
        for part, values in zip(self._closed, self._locate(closed[moving]), strict=True):
            part[moving] = values
        self._lip_columns = self._nearest_columns()

    def _sites(self) -> np.ndarray:
        """The table, stretched to this person."""
        who = self.skin.who
        sites = np.asarray(SITES, np.float64) / 100
        x, y = sites.T
        near_eye = np.exp(-(((np.abs(x) - EYE_X) / 2.0) ** 2) - (y / 1.5) ** 2)
        x = x + np.sign(x) * EYE_X * (who.eye_spacing - 1) * near_eye
        x = x * np.where(np.abs(x) > 4.5, who.face_width, 1.0)
        on_nose = (np.abs(x) < 1.8) & (y > -5.0) & (y < 1.0)
        y = np.where(on_nose, 1 + (y - 1) * who.nose_length, y)
        y = np.where(y < MOUTH_Y, MOUTH_Y + (y - MOUTH_Y) * who.chin_length, y)
        return np.stack([x, y], -1)

    def _locate(self, sites: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Corners [n,3] and weights [n,3] of the front-most triangle over each site."""
        rest = self.skin.rest
        triangles = self.skin.triangles
        triangles = triangles[(rest[triangles, 2] > -2).all(1)]
        (x0, y0), (x1, y1), (x2, y2) = (rest[triangles[:, k], :2].T for k in range(3))
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        front = area > 1e-9
        triangles, area = triangles[front], area[front]
        x0, y0, x1, y1, x2, y2 = (v[front] for v in (x0, y0, x1, y1, x2, y2))
        corners, weights = np.zeros((len(sites), 3), np.int64), np.zeros((len(sites), 3))
        nearness = rest[triangles, 2].mean(1)
        for k, (x, y) in enumerate(sites):
            b1 = ((x - x0) * (y2 - y0) - (y - y0) * (x2 - x0)) / area
            b2 = ((y - y0) * (x1 - x0) - (x - x0) * (y1 - y0)) / area
            outside = -np.minimum(np.minimum(b1, b2), 1 - b1 - b2)
            # the one that holds the site, nearest to the camera; at the rim the one that almost does
            best = np.where(outside <= 1e-6, nearness, -100 - outside * np.sqrt(area)).argmax()
            w = np.clip([1 - b1[best] - b2[best], b1[best], b2[best]], 0, 1)
            corners[k], weights[k] = triangles[best], w / w.sum()
        return corners, weights

    def _nearest_columns(self) -> np.ndarray:
        edge = self.skin.rest[self.skin.upper_edge]
        w = MOUTH_HALF_WIDTH * self.skin.who.mouth_width
        x = np.where(edge[:, 2] > 0, edge[:, 0], np.inf)
        return np.array([np.abs(x - station * w).argmin() for station in LIP_STATIONS])

    def points(self, posed: Posed, blink: float) -> np.ndarray:
        """The points [478,3] in the head's frame, cm."""
        v = posed.vertices
        at = [np.einsum("kc,kca->ka", weights, v[corners]) for corners, weights in (self._open, self._closed)]
        out = at[0] + np.clip(1.05 * blink, 0, 1) * (at[1] - at[0])
        out[list(UPPER_LIP)] = v[self.skin.upper_edge[self._lip_columns]]
        out[list(LOWER_LIP)] = v[self.skin.lower_edge[self._lip_columns]]
        for indices, centre in zip(IRISES, eyeball_centres(self.skin.who, self.skin.lid_z), strict=True):
            reach = np.sqrt(EYE_RADIUS**2 - IRIS_RADIUS**2)
            rim = IRIS_RADIUS * np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])
            out[indices[0]] = centre + np.array([0, 0, EYE_RADIUS])
            out[list(indices[1:])] = centre + np.concatenate([rim, np.full((4, 1), reach)], 1)
        return out

    def lip_gap(self, points: np.ndarray) -> float:
        """Mean of three inner-lip distances over that of the outer eye corners, of points [478,3]."""
        pairs = ((13, 14), (82, 87), (312, 317))
        gaps = [np.linalg.norm(points[a] - points[b]) for a, b in pairs]
        return float(np.mean(gaps) / np.linalg.norm(points[33] - points[263]))
