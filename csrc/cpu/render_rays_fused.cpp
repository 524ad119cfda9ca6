#include "nerfad/render_rays_fused.h"

#include "nerfad/isa.h"
#include "nerfad/march.h"
#include "render_rays_tiles.h"

namespace nerfad {

namespace {

struct PortableEncode {
  static void run(const RenderRays& p, RenderBuffers& b, int n) {
    float positions[3 * kRenderSlots];
    for (int i = 0; i < n; ++i) {
      for (int a = 0; a < 3; ++a) positions[3 * i + a] = b.axes[a][i];
    }
    const GridEncodeFwd<float> grid{positions, p.table, b.features, nullptr, n, p.table_type, p.grid};
    grid_dispatch_float32(p.table_type, p.grid, [&](auto s, auto d, auto f) {
      if constexpr (decltype(d)::value == 3) {
        for (int l = 0; l < p.grid.n_levels; ++l) {
          for (int i = 0; i < n; ++i) {
            grid_encode_fwd_point<float, decltype(s), 3, decltype(f)::value>(grid, i, l);
          }
        }
      }
    });
  }
};

void render_task_portable(const RenderTask& task) {
  Renderer<PortableSimd<float>, PortableEncode>(task).run();
}

RenderKernel render_kernel() {
#if defined(__x86_64__)
  if (current_isa() >= Isa::kAvx512) return render_task_avx512;
  if (current_isa() >= Isa::kAvx2) return render_task_avx2;
#endif
  return render_task_portable;
}

ConditionedMlpFwd<float> network(const MlpShape& shape, const float* params, const float* cond) {
  ConditionedMlpFwd<float> p{};
  p.params = params;
  p.cond = cond;
  p.n_cond = 1;
  p.shape = shape;
  return p;
}

// Packs a network under its one condition.
PackedMlp<float> pack_network(const MlpShape& shape, const float* params, const float* cond, float* memory) {
  const ConditionedMlpFwd<float> p = network(shape, params, cond);
  const PackedMlp<float> packed = pack_mlp_forward(p, memory);
  float* folded = memory + packed.folded_at();
  std::fill(folded, folded + mlp_padded(shape.d_hidden), 0.0f);
  for (int n = 0; n < shape.d_hidden; ++n) folded[n] = mlp_folded_bias(p, 0, n);
  return packed;
}

int64_t n_bricks(const MarchGrid& grid) {
  const int64_t side = grid.resolution / kBrick;
  return side * side * side;
}

// Scratch, in floats: both networks, the bricks and the box around them, then for each thread its buffers.
struct RenderScratch {
  int64_t sigma, color, bricks, bounds, tasks, task_size, size;
};

RenderScratch scratch_layout(const RenderRays& p, int n_threads) {
  RenderScratch r{};
  r.color = aligned_count(PackedMlp<float>{p.sigma, nullptr}.forward_size(1));
  r.bricks = r.color + aligned_count(PackedMlp<float>{p.color, nullptr}.forward_size(1));
  r.bounds = r.bricks + aligned_count((n_bricks(p.rays.grid) + 3) / 4);
  r.tasks = r.bounds + aligned_count(6);
  r.task_size = aligned_count((sizeof(RenderBuffers) + 3) / 4) + RenderBuffers::n_floats(p);
  r.size = r.tasks + n_threads * r.task_size + kScratchAlign;
  return r;
}

}  // namespace

int64_t render_rays_fused_scratch(const RenderRays& p, int n_threads) {
  return scratch_layout(p, n_threads).size * static_cast<int64_t>(sizeof(float));
}

void render_rays_fused_cpu(const RenderRays& p, const ParallelFor& parallel_for) {
  const int64_t n_tasks = parallel_for.n_threads();
  const RenderScratch layout = scratch_layout(p, parallel_for.n_threads());
  float* memory = align_scratch(static_cast<float*>(p.scratch));
  RenderTask all{};
  all.p = &p;
  all.rays = p.rays;
  all.sigma = pack_network(p.sigma, p.sigma_params, p.cond, memory);
  all.color = pack_network(p.color, p.color_params, nullptr, memory + layout.color);
  all.block_step = n_tasks;
  if (!p.samples.packed_info && p.rays.grid.resolution >= kBrick) {
    auto* bricks = reinterpret_cast<uint8_t*>(memory + layout.bricks);
    float* bounds = memory + layout.bounds;
    march_bricks_cpu({p.rays.grid.bitfield, bricks, n_bricks(p.rays.grid), bounds}, parallel_for);
    all.rays.grid.bounds = bounds;
    all.rays.grid.bricks = bricks;
  }
  const RenderKernel kernel = render_kernel();
  parallel_for(n_tasks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* mine = memory + layout.tasks + i * layout.task_size;
      RenderTask task = all;
      task.buffers = reinterpret_cast<RenderBuffers*>(mine);
      task.buffers->use(p, mine + aligned_count((sizeof(RenderBuffers) + 3) / 4));
      task.first_block = i;
      kernel(task);
    }
  });
}

}  // namespace nerfad
