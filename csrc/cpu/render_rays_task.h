// What one thread of the fused renderer works on, and its buffers.
#pragma once
#include "conditioned_mlp_task.h"
#include "nerfad/render_rays_fused.h"

namespace nerfad {

// Rays in flight. Their samples are encoded together, level by level, so that a level's entries stay in
// cache; the networks then take them kMlpTile at a time.
constexpr int kRenderSlots = 4 * kMlpTile;
constexpr int kRenderBlock = 64;  // neighbouring rays that a task takes at a time

struct RenderSlot {
  MarchRay ray;
  MarchCursor cursor;
  RenderSum sum;
  int64_t index;
  int32_t n_samples;
  bool ended;  // no more samples to come
};

struct RenderBuffers {
  RenderSlot slots[kRenderSlots];
  MarchSample samples[kRenderSlots];
  int32_t slot_of[kRenderSlots];  // of each sample
  int32_t cached[kRenderSlots];   // where each sample lies in the cache, if there is one
  alignas(64) float axes[3][kRenderSlots];
  alignas(64) float keep[kMlpTile];
  float* features;   // [kRenderSlots, sigma.d_in]
  float* view_bias;  // [kRenderSlots, padded width] the colour network's first bias for each slot
  float* code;       // [kMlpTile, padded sigma outputs]
  float* rgb;        // [kMlpTile, padded colour outputs]
  float* layers[3];  // memory for the operands of two hidden layers, then of a network's inputs

  static int widest(const RenderRays& p) {
    return mlp_padded(p.sigma.d_hidden > p.color.d_hidden ? p.sigma.d_hidden : p.color.d_hidden);
  }
  static int widest_input(const RenderRays& p) {
    return mlp_padded(p.sigma.d_in > p.n_code() ? p.sigma.d_in : p.n_code());
  }
  static int64_t n_floats(const RenderRays& p) {
    return aligned_count(
        kRenderSlots * (p.sigma.d_in + mlp_padded(p.color.d_hidden)) +
        kMlpTile * (mlp_padded(p.sigma.d_out) + mlp_padded(p.color.d_out) + 2 * widest(p) + widest_input(p)));
  }
  void use(const RenderRays& p, float* memory) {
    view_bias = memory;
    code = view_bias + kRenderSlots * mlp_padded(p.color.d_hidden);
    rgb = code + kMlpTile * mlp_padded(p.sigma.d_out);
    layers[0] = rgb + kMlpTile * mlp_padded(p.color.d_out);
    layers[1] = layers[0] + kMlpTile * widest(p);
    layers[2] = layers[1] + kMlpTile * widest(p);
    features = layers[2] + kMlpTile * widest_input(p);
    std::memset(memory, 0, sizeof(float) * static_cast<size_t>(n_floats(p)));
  }
};

template <class Operand = float>
struct RenderTask {
  const RenderRays* p;
  MarchRays rays;  // with bricks and bounds
  PackedMlp<float, Operand> sigma, color;
  RenderBuffers* buffers;
  int64_t first_block, block_step;  // blocks of rays first, first + step, ...
};

void render_task_avx2(const RenderTask<>& task);
void render_task_avx512(const RenderTask<>& task);
void render_task_rounded_avx2(const RenderTask<>& task);  // bfloat16 operands, held as float32
void render_task_rounded_avx512(const RenderTask<>& task);
void render_task_avx512bf16(const RenderTask<BFloat16>& task);
void render_task_amx(const RenderTask<BFloat16>& task);

}  // namespace nerfad
