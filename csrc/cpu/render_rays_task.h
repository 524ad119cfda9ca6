// What one thread of the fused renderer works on, and its buffers.
#pragma once
#include <atomic>

#include "conditioned_mlp_task.h"
#include "march_units.h"
#include "nerfad/render_rays_fused.h"

namespace nerfad {

// Rays in flight. Their samples are encoded together, level by level, so that a level's entries stay in
// cache; the networks then take them a tile at a time.
constexpr int kRenderSlots = kMarchSlots;
constexpr int kRenderTile = kLargestTile<BFloat16>;  // samples, at most
static_assert(kRenderSlots % kMlpTile == 0 && kMarchStartBlock % kMlpTile == 0);
static_assert(kRenderSlots % kRenderTile == 0 && kRenderTile >= kLargestTile<float>);

// A ray in each slot: where it stands, and what it has gathered.
struct RenderSlots {
  MarchSlots march;
  alignas(64) float transmittance[kRenderSlots];
  alignas(64) float opacity[kRenderSlots];
  alignas(64) float depth[kRenderSlots];
  alignas(64) float color[3][kRenderSlots];
  alignas(64) int32_t left[kRenderSlots];   // samples that it may still take
  alignas(64) int32_t taken[kRenderSlots];  // in this round
  alignas(64) int32_t going[kRenderSlots];  // does it stand at a sample to take?
  int64_t ray[kRenderSlots];

  RenderSum sum(int slot) const {
    return {
        transmittance[slot], opacity[slot], depth[slot], {color[0][slot], color[1][slot], color[2][slot]}};
  }
  void set_sum(int slot, const RenderSum& s) {
    transmittance[slot] = s.transmittance;
    opacity[slot] = s.opacity;
    depth[slot] = s.depth;
    for (int c = 0; c < 3; ++c) color[c][slot] = s.color[c];
  }
  void move(int from, int to) {
    march.take(to, march, from);
    set_sum(to, sum(from));
    left[to] = left[from];
    going[to] = going[from];
    ray[to] = ray[from];
  }
};

// The samples of a round.
struct RenderSamplesOfRound {
  alignas(64) float axes[3][kRenderSlots];
  alignas(64) float t_start[kRenderSlots];
  alignas(64) float t_end[kRenderSlots];
  alignas(64) float keep[kRenderSlots];  // the logarithm of the density, then the light that comes through
  alignas(64) float rgb[3][kRenderSlots];
  alignas(64) int32_t slot[kRenderSlots];
  alignas(64) int32_t cached[kRenderSlots];  // where each lies in the cache, if there is one
};

// Rays that have a sample and wait for a slot.
struct RenderQueue {
  MarchSlots march;
  int32_t which[kMarchSlots];  // from first_ray on
  float view[kMarchStartBlock][kViewCoefficients];
  int64_t first_ray;
  int next, size;
};

struct RenderBuffers {
  RenderSlots slots;
  RenderQueue queue;
  RenderSamplesOfRound samples;
  float* features;     // [kRenderSlots, sigma.d_in]
  float* view_bias;    // [kRenderSlots, padded width] the colour network's first bias for each slot
  float* queued_bias;  // [kMarchStartBlock, padded width] and for each waiting ray
  float* code;         // [kRenderTile, padded sigma outputs]
  float* rgb;          // [kRenderTile, padded colour outputs]
  float* layers[3];    // memory for the operands of two hidden layers, then of a network's inputs

  static int widest(const RenderRays& p) {
    return mlp_padded(p.sigma.d_hidden > p.color.d_hidden ? p.sigma.d_hidden : p.color.d_hidden);
  }
  static int widest_input(const RenderRays& p) {
    return mlp_padded(p.sigma.d_in > p.n_code() ? p.sigma.d_in : p.n_code());
  }
  static int64_t n_floats(const RenderRays& p) {
    return aligned_count(kRenderSlots * p.sigma.d_in +
                         (kRenderSlots + kMarchStartBlock) * mlp_padded(p.color.d_hidden) +
                         kRenderTile * (mlp_padded(p.sigma.d_out) + mlp_padded(p.color.d_out) +
                                        2 * widest(p) + widest_input(p)));
  }
  void use(const RenderRays& p, float* memory) {
    view_bias = memory;
    queued_bias = view_bias + kRenderSlots * mlp_padded(p.color.d_hidden);
    code = queued_bias + kMarchStartBlock * mlp_padded(p.color.d_hidden);
    rgb = code + kRenderTile * mlp_padded(p.sigma.d_out);
    layers[0] = rgb + kRenderTile * mlp_padded(p.color.d_out);
    layers[1] = layers[0] + kRenderTile * widest(p);
    layers[2] = layers[1] + kRenderTile * widest(p);
    features = layers[2] + kRenderTile * widest_input(p);
    std::memset(memory, 0, sizeof(float) * static_cast<size_t>(n_floats(p)));
  }
};

template <class Operand = float>
struct RenderTask {
  const RenderRays* p;
  MarchRays rays;  // with bricks and bounds
  MarchUnit march;
  PackedMlp<float, Operand> sigma, color;
  RenderBuffers* buffers;
  std::atomic<int64_t>* next_block;  // of kMarchStartBlock rays; shared by the threads
};

void render_task_avx2(const RenderTask<>& task);
void render_task_avx512(const RenderTask<>& task);
void render_task_rounded_avx2(const RenderTask<>& task);  // bfloat16 operands, held as float32
void render_task_rounded_avx512(const RenderTask<>& task);
void render_task_avx512bf16(const RenderTask<BFloat16>& task);
void render_task_amx(const RenderTask<BFloat16>& task);

}  // namespace nerfad
