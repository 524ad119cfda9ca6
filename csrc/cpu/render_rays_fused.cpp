#include "nerfad/render_rays_fused.h"

#include <new>

#include "nerfad/isa.h"
#include "nerfad/march.h"
#include "render_rays_tiles.h"

namespace nerfad {

namespace {

struct PortableEncode {
  static void run(const RenderRays& p, RenderBuffers& b, int n) {
    float positions[3 * kRenderSlots];
    for (int i = 0; i < n; ++i) {
      for (int a = 0; a < 3; ++a) positions[3 * i + a] = b.samples.axes[a][i];
    }
    const GridEncodeFwd<float> grid{positions, p.table,      b.features, nullptr,
                                    n,         p.table_type, p.grid,     p.cells};
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

template <class S, class Exact = S>
void render_task_portable(const RenderTask<>& task) {
  Renderer<S, PortableEncode, Exact>(task).run();
}

template <class Operand>
struct RenderKernel {
  void (*run)(const RenderTask<Operand>&);
  bool rounds;  // operands of the networks
};

// Calls run(kernel) with the kernel for the precision on this machine.
template <class Run>
auto with_kernel(MlpPrecision precision, const Run& run) {
  const bool rounds = precision == MlpPrecision::kBFloat16;
#if defined(__x86_64__)
  const Isa isa = current_isa();
  if (rounds && isa >= Isa::kAmx) return run(RenderKernel<BFloat16>{render_task_amx, true});
  if (rounds && isa >= Isa::kAvx512Bf16) return run(RenderKernel<BFloat16>{render_task_avx512bf16, true});
  if (isa >= Isa::kAvx512) {
    return run(RenderKernel<float>{rounds ? render_task_rounded_avx512 : render_task_avx512, rounds});
  }
  if (isa >= Isa::kAvx2) {
    return run(RenderKernel<float>{rounds ? render_task_rounded_avx2 : render_task_avx2, rounds});
  }
#endif
  using Simd = PortableSimd<float>;
  return run(RenderKernel<float>{
      rounds ? render_task_portable<Bf16Rounded<Simd>, Simd> : render_task_portable<Simd>, rounds});
}

ConditionedMlpFwd<float> network(const MlpShape& shape, const float* params, const float* cond) {
  ConditionedMlpFwd<float> p{};
  p.params = params;
  p.cond = cond;
  p.n_cond = 1;
  p.shape = shape;
  return p;
}

// Packs a network under its one condition; `operands` holds its weights where they are rounded.
template <class Operand>
PackedMlp<float, Operand> pack_network(const MlpShape& shape, const float* params, const float* cond,
                                       bool rounds, float* memory, float* operands) {
  const ConditionedMlpFwd<float> p = network(shape, params, cond);
  const PackedMlp<float> packed = pack_mlp_forward(p, memory);
  float* folded = memory + packed.folded_at();
  std::fill(folded, folded + mlp_padded(shape.d_hidden), 0.0f);
  for (int n = 0; n < shape.d_hidden; ++n) folded[n] = mlp_folded_bias(p, 0, n);
  return as_operands(rounds, packed, reinterpret_cast<Operand*>(operands));
}

int64_t n_bricks(const MarchGrid& grid) {
  const int64_t side = grid.resolution / kBrick;
  return side * side * side;
}

// Scratch, in floats: both networks, their operands, the bricks and the box around them,
// then for each thread its buffers.
struct RenderScratch {
  int64_t sigma, color, sigma_operands, color_operands, bricks, bounds, tasks, task_size, size;
};

template <class Operand>
int64_t operands_size(const MlpShape& shape) {
  const int64_t n = PackedMlp<float, Operand>{shape, nullptr}.operands_at(shape.n_layers());
  return aligned_count((n * sizeof(Operand) + 3) / 4);
}

template <class Operand>
RenderScratch scratch_layout(const RenderRays& p, int n_threads) {
  RenderScratch r{};
  r.color = aligned_count(PackedMlp<float>{p.sigma, nullptr}.forward_size(1));
  r.sigma_operands = r.color + aligned_count(PackedMlp<float>{p.color, nullptr}.forward_size(1));
  r.color_operands = r.sigma_operands + operands_size<Operand>(p.sigma);
  r.bricks = r.color_operands + operands_size<Operand>(p.color);
  r.bounds = r.bricks + aligned_count((n_bricks(p.rays.grid) + 3) / 4);
  r.tasks = r.bounds + aligned_count(6);
  r.task_size = aligned_count((sizeof(RenderBuffers) + 3) / 4) + RenderBuffers::n_floats(p);
  r.size = r.tasks + n_threads * r.task_size + kScratchAlign;
  return r;
}

template <class Operand>
void render(const RenderKernel<Operand>& kernel, const RenderRays& p, const ParallelFor& parallel_for) {
  const RenderScratch layout = scratch_layout<Operand>(p, parallel_for.n_threads());
  float* memory = align_scratch(static_cast<float*>(p.scratch));
  RenderTask<Operand> all{};
  all.p = &p;
  all.rays = p.rays;
  all.sigma = pack_network<Operand>(p.sigma, p.sigma_params, p.cond, kernel.rounds, memory,
                                    memory + layout.sigma_operands);
  all.color = pack_network<Operand>(p.color, p.color_params, nullptr, kernel.rounds, memory + layout.color,
                                    memory + layout.color_operands);
  all.march = march_unit();
  std::atomic<int64_t> next_block{0};
  all.next_block = &next_block;
  if (!p.samples.packed_info && p.rays.grid.resolution >= kBrick) {
    auto* bricks = reinterpret_cast<uint8_t*>(memory + layout.bricks);
    float* bounds = memory + layout.bounds;
    march_bricks_cpu({p.rays.grid.bitfield, bricks, n_bricks(p.rays.grid), bounds}, parallel_for);
    all.rays.grid.bounds = bounds;
    all.rays.grid.bricks = bricks;
  }
  parallel_for(parallel_for.n_threads(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* mine = memory + layout.tasks + i * layout.task_size;
      RenderTask<Operand> task = all;
      task.buffers = new (mine) RenderBuffers{};
      task.buffers->use(p, mine + aligned_count((sizeof(RenderBuffers) + 3) / 4));
      kernel.run(task);
    }
  });
}

template <class Operand>
int64_t scratch_bytes(const RenderKernel<Operand>&, const RenderRays& p, int n_threads) {
  return scratch_layout<Operand>(p, n_threads).size * static_cast<int64_t>(sizeof(float));
}

}  // namespace

int64_t render_rays_fused_scratch(const RenderRays& p, int n_threads) {
  return with_kernel(p.precision, [&](const auto& kernel) { return scratch_bytes(kernel, p, n_threads); });
}

void render_rays_fused_cpu(const RenderRays& p, const ParallelFor& parallel_for) {
  with_kernel(p.precision, [&](const auto& kernel) { render(kernel, p, parallel_for); });
}

}  // namespace nerfad
