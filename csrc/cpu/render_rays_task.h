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
  float* hidden[kMaxHiddenLayers];

  static int widest(const RenderRays& p) {
    return mlp_padded(p.sigma.d_hidden > p.color.d_hidden ? p.sigma.d_hidden : p.color.d_hidden);
  }
  static int64_t n_floats(const RenderRays& p) {
    return aligned_count(kRenderSlots * (p.sigma.d_in + mlp_padded(p.color.d_hidden)) +
                         kMlpTile * (mlp_padded(p.sigma.d_out) + mlp_padded(p.color.d_out) + 2 * widest(p)));
  }
  void use(const RenderRays& p, float* memory) {
    view_bias = memory;
    code = view_bias + kRenderSlots * mlp_padded(p.color.d_hidden);
    rgb = code + kMlpTile * mlp_padded(p.sigma.d_out);
    float* layers = rgb + kMlpTile * mlp_padded(p.color.d_out);
    for (int l = 0; l < kMaxHiddenLayers; ++l) hidden[l] = layers + l % 2 * kMlpTile * widest(p);
    features = layers + 2 * kMlpTile * widest(p);
    std::memset(memory, 0, sizeof(float) * static_cast<size_t>(n_floats(p)));
  }
};

struct RenderTask {
  const RenderRays* p;
  MarchRays rays;  // with bricks and bounds
  PackedMlp<float> sigma, color;
  RenderBuffers* buffers;
  int64_t first_block, block_step;  // blocks of rays first, first + step, ...
};

using RenderKernel = void (*)(const RenderTask&);
void render_task_avx2(const RenderTask& task);
void render_task_avx512(const RenderTask& task);

}  // namespace nerfad
