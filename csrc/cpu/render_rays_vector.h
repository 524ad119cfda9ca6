// The fused renderer with the vectorised grid encoding; included by each unit with an instruction set.
#pragma once
#include "render_rays_tiles.h"  // first: it silences gcc 12 about its own intrinsics

#include "grid_encode_tile_simd.h"

namespace nerfad {
namespace {

struct VectorEncode {
  static void run(const RenderRays& p, RenderBuffers& b, int n) {
    const float* const axes[3] = {b.samples.axes[0], b.samples.axes[1], b.samples.axes[2]};
    grid_encode_tile(p.grid, p.table_type, p.table, p.cells, axes, n, b.features, p.grid.n_outputs());
  }
};

template <class S, class Exact = S>
void render_vector(const RenderTask<MlpOperand<S>>& task) {
  Renderer<S, VectorEncode, Exact>(task).run();
}

}  // namespace
}  // namespace nerfad
