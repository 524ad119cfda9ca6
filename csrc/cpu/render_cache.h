// Samples of a render cache in place of marched and encoded ones: a slot's step is its place in the cache.
#pragma once
#include "conditioned_mlp_tiles.h"
#include "render_rays_task.h"

namespace nerfad {
namespace {

inline int64_t cached_row_bytes(const RenderRays& p) {
  return p.sigma.d_in * (p.samples.features_type == TableType::kFloat32 ? 4 : 2);
}

// Samples lie far apart, each ray's behind those that it will not reach: their features are asked for a round
// early, some at a time, so that the networks have work to do while memory answers.
inline void prefetch_cached(const RenderRays& p, int64_t i) {
  const int64_t bytes = cached_row_bytes(p);
  const char* row = static_cast<const char*>(p.samples.features) + i * bytes;
  for (int64_t k = 0; k < bytes; k += 64) __builtin_prefetch(row + k);
}

inline void store_cached(const RenderRays& p, MarchSlots& slots, int slot) {
  slots.t_start[slot] = p.samples.t_starts[slots.step[slot]];
  slots.t_end[slot] = p.samples.t_ends[slots.step[slot]];
}

// As start_slots_one_by_one.
[[maybe_unused]] int start_cached(const RenderRays& p, int64_t first, int n, MarchSlots& slots,
                                  int32_t* which) {
  int found = 0;
  for (int i = 0; i < n; ++i) {
    const int64_t* info = p.samples.packed_info + 2 * (first + i);
    if (info[1] <= 0) continue;
    slots.step[found] = static_cast<int32_t>(info[0]);
    slots.end[found] = static_cast<int32_t>(info[0] + info[1]);
    __builtin_prefetch(p.samples.t_starts + info[0]);
    __builtin_prefetch(p.samples.t_ends + info[0]);
    which[found++] = i;
  }
  for (int k = 0; k < found; ++k) prefetch_cached(p, slots.step[k]);
  for (int k = 0; k < found; ++k) store_cached(p, slots, k);
  return found;
}

// As next_in_slots_one_by_one.
[[maybe_unused]] void next_cached(const RenderRays& p, MarchSlots& slots, int n, int32_t* going) {
  for (int i = 0; i < n; ++i) {
    if (!going[i]) continue;
    going[i] = slots.step[i] + 1 < slots.end[i];
    if (!going[i]) continue;
    ++slots.step[i];
    store_cached(p, slots, i);
  }
}

// The first n <= kWidth of some features, zero behind them.
template <class S, class From>
typename S::V load_cached(const From* from, int n) {
  if constexpr (std::is_same_v<From, float>) {
    return S::load_first(from, n);
  } else {
    float some[S::kWidth] = {};
    for (int j = 0; j < n; ++j) some[j] = widen(from[j]);
    return S::load(some);
  }
}

// A row of features as operands, zero up to the stride.
template <class S, class From>
__attribute__((always_inline)) inline void load_cached_row(const From* from, int width, MlpOperand<S>* to,
                                                           int stride) {
  using A = MlpArithmetic<S>;
  const auto load = [=](int k) { return load_cached<S>(from + k, std::clamp(width - k, 0, S::kWidth)); };
  if constexpr (std::is_same_v<From, BFloat16> && std::is_same_v<MlpOperand<S>, BFloat16>) {
    int k = 0;
    for (; k + 32 <= width; k += 32) std::memcpy(to + k, from + k, 64);
    for (; k < width; ++k) to[k] = from[k];
    for (; k < stride; ++k) to[k] = From{};
  } else if constexpr (A::kMatrixTiles) {  // what is written at once is read at once
    for (int k = 0; k < stride; k += 2 * S::kWidth) {
      A::store_row(to + k, A::round_row(load(k), load(k + S::kWidth)));
    }
  } else {
    for (int k = 0; k < stride; k += S::kWidth) A::store(to + k, load(k));
  }
}

// The features of samples `at` [n] of the cache as a tile of operands.
template <class S>
MlpOperands<S> cached_operands(const RenderRays& p, const int32_t* at, int n, MlpOperand<S>* memory) {
  const int width = p.sigma.d_in, stride = operand_padded<MlpOperand<S>>(width);
  const auto load = [&](const auto* features) {
    for (int m = 0; m < n; ++m) {
      load_cached_row<S>(features + static_cast<int64_t>(at[m]) * width, width, memory + m * stride, stride);
    }
  };
  const void* const features = p.samples.features;
  switch (p.samples.features_type) {
    case TableType::kFloat16:
      load(static_cast<const Half*>(features));
      break;
    case TableType::kBFloat16:
      load(static_cast<const BFloat16*>(features));
      break;
    default:
      load(static_cast<const float*>(features));
  }
  return {memory, stride};
}

}  // namespace
}  // namespace nerfad
