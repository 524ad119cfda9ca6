"""How much a perfect prior could save at the end of a frame, by counting: nothing is timed.

    python benchmarks/frame_tail.py

The CPU renderer takes one sample of each ray in flight; once no ray waits, it takes several at once, and some
of them lie behind the early stop. Knowing each ray's number of samples beforehand, say from the frame before,
would avoid them. This replays the renderer's schedule on the bench head and compares the tiles of samples
that the networks run on with the fewest possible.
"""

import torch
from torch import Tensor

from nerfad import ops
from nerfad.bench import scene

TILE, RAYS_IN_FLIGHT, BLOCK = 48, 192, 48  # kMlpTile, kRenderSlots and kMarchStartBlock of csrc/cpu
SIZES, THREADS = (32, 64, 128, 256, 512), (1, 2, 16, 64)


@torch.no_grad()
def samples_of_rays(size: int) -> tuple[Tensor, Tensor]:
    """Samples in occupied cells, and those before the early stop, of each ray of a frame."""
    frame = scene.frame(size)
    rays = ("rays_o", "rays_d", "t_min", "t_max", "aabb", "density_bitfield", "resolution", "step_size")
    found = ops.march(*(frame[k] for k in rays))
    spans = (found.t_starts, found.t_ends, found.packed_info)
    positions = ops.sample_positions(frame["rays_o"], frame["rays_d"], *spans, frame["aabb"])
    features = ops.grid_encode(positions, frame["table"], frame["grid_spec"])
    h = ops.conditioned_mlp(features, frame["sigma_params"], frame["sigma_spec"], frame["cond"])
    sigmas = (h[:, 0] + frame["density_bias"]).clamp(-15, 15).exp()
    weights = ops.composite(sigmas, torch.zeros_like(positions), *spans)[3]
    needed = torch.zeros(size * size, dtype=torch.int64)
    needed.index_add_(0, found.ray_indices.long(), (weights > 0).long())
    return found.packed_info[:, 1], needed


def tiles_of_thread(rays: list[tuple[int, int]]) -> int:
    """Tiles that the networks run on for rays (samples found, samples needed), taken in order."""
    waiting, flying, tiles = rays[::-1], [], 0
    while waiting or flying:
        while waiting and len(flying) < RAYS_IN_FLIGHT:
            flying.append((*waiting.pop(), 0))
        at_once = RAYS_IN_FLIGHT // len(flying)
        taken = [(found, needed, min(done + at_once, found)) for found, needed, done in flying]
        n_samples = sum(after[2] - before[2] for after, before in zip(taken, flying, strict=True))
        tiles += -(-n_samples // TILE)
        flying = [ray for ray in taken if ray[2] < ray[1]]
    return tiles


def main() -> None:
    """Print a row for each size and number of threads."""
    print("frame  threads  tiles  fewest  saved at best")
    for size in SIZES:
        found, needed = samples_of_rays(size)
        rays = list(zip(found.tolist(), needed.tolist(), strict=True))
        blocks = [rays[first : first + BLOCK] for first in range(0, len(rays), BLOCK)]
        for n_threads in THREADS:
            of_threads = [[r for b in blocks[t::n_threads] for r in b if r[0] > 0] for t in range(n_threads)]
            tiles = sum(map(tiles_of_thread, of_threads))
            fewest = sum(-(-sum(needed for _, needed in own) // TILE) for own in of_threads)
            print(f"{size:4}²  {n_threads:7}  {tiles:5}  {fewest:6}  {1 - fewest / tiles:13.1%}")


if __name__ == "__main__":
    main()
