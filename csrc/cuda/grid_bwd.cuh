// Scattering the gradient of a grid's table. Two ways: float32 atomics, where neighbouring samples of one
// cell are first summed within their warp; and, where runs must repeat bit for bit, integer atomics.
#pragma once
#include "device.h"
#include "nerfad/grid_encode.h"

namespace nerfad {

// float32 sums; two or four at a time where the hardware has it (sm_90 and later).
template <int F>
__device__ __forceinline__ void add_to_entry(float* entry, const float (&values)[F]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  constexpr bool kVectors = true;
#else
  constexpr bool kVectors = false;
#endif
  if constexpr (kVectors && F % 4 == 0) {
    for (int f = 0; f < F; f += 4) {
      atomicAdd(reinterpret_cast<float4*>(entry + f),
                make_float4(values[f], values[f + 1], values[f + 2], values[f + 3]));
    }
  } else if constexpr (kVectors && F == 2) {
    atomicAdd(reinterpret_cast<float2*>(entry), make_float2(values[0], values[1]));
  } else {
    for (int f = 0; f < F; ++f) atomicAdd(entry + f, values[f]);
  }
}

// A sample's share of one level. `touched` is false behind the early stop, where all gradients are zero.
template <int D, int F>
struct GridSample {
  GridCell<float, D> cell;
  float grad[F];
  bool touched;
};

template <int D, int F>
__device__ __forceinline__ GridSample<D, F> load_sample(const GridEncodeBwd<float>& p, int64_t i, int level) {
  GridSample<D, F> s{};
  if (i >= p.fwd.n) return s;
  const float* grad = p.grad_features + (i * p.fwd.shape.n_levels + level) * F;
  for (int f = 0; f < F; ++f) {
    s.grad[f] = grad[f];
    s.touched |= grad[f] != 0.0f;
  }
  s.cell = grid_cell<float, D>(p.fwd.shape.levels[level], p.fwd.shape.smoothstep, p.fwd.positions + i * D);
  return s;
}

// A number that samples share exactly if they lie in one cell; resolutions are at most 2^20.
template <int D>
__device__ __forceinline__ uint64_t cell_key(const GridCell<float, D>& cell) {
  uint64_t key = 0;
  for (int a = 0; a < D; ++a) key = key << 21 | cell.vertex[a];
  return key;
}

// Samples of one ray follow one another, so that in coarse levels several neighbours lie in one cell, and
// their atomics would queue for the same entries. With this many such runs in a warp or fewer, each run is
// summed first; with more, the shuffles would cost more than they save.
constexpr int kMostRuns = 12;

// What grid_encode_bwd_fixed_kernel sums in.
struct GridFixedSums {
  unsigned* largest;           // the bits of the largest gradient
  unsigned long long* values;  // [n_entries, F] two's complement
  int64_t n_values;
};

template <int D, int F>
__global__ void grid_encode_bwd_table_kernel(const GridEncodeBwd<float> p, const GridFixedSums) {
  const int level_index = static_cast<int>(blockIdx.y), lane = static_cast<int>(threadIdx.x) % 32;
  const GridLevel& level = p.fwd.shape.levels[level_index];
  const GridSample<D, F> s = load_sample<D, F>(p, thread_index(), level_index);
  const uint64_t key = s.touched ? cell_key(s.cell) : ~uint64_t{0};
  const uint64_t before = __shfl_up_sync(~0u, key, 1);
  const bool begins = lane == 0 || key != before;
  const unsigned heads = __ballot_sync(~0u, begins);
  const bool by_runs = __popc(heads) <= kMostRuns;
  const unsigned later = heads & ~((2u << lane) - 1);
  const int end = later ? __ffs(static_cast<int>(later)) - 1 : 32;
  for (int corner = 0; corner < (1 << D); ++corner) {
    float values[F];
    for (int f = 0; f < F; ++f) values[f] = grid_corner_weight(s.cell, corner) * s.grad[f];
    for (int d = 1; by_runs && d < 32; d *= 2) {
      for (int f = 0; f < F; ++f) {
        const float other = __shfl_down_sync(~0u, values[f], d);
        if (lane + d < end) values[f] += other;
      }
    }
    if (!s.touched || (by_runs && !begins)) continue;
    add_to_entry<F>(p.grad_table + static_cast<int64_t>(grid_entry<D>(level, s.cell.vertex, corner)) * F,
                    values);
  }
}

// ---- Sums that do not depend on their order: integers. No entry's sum exceeds n times the largest gradient
// (a sample's weights add up to one), so that the unit is chosen as that bound's 2^-62.

inline GridFixedSums grid_fixed_sums(const GridEncodeBwd<float>& p) {
  GridFixedSums r{};
  r.values = reinterpret_cast<unsigned long long*>(p.scratch);
  r.n_values = p.fwd.shape.n_entries() * p.fwd.shape.n_features;
  r.largest = reinterpret_cast<unsigned*>(r.values + r.n_values);
  return r;
}

// log2 of how many units make one.
__device__ __forceinline__ int fixed_exponent(float largest, int64_t n) {
  int exponent;
  frexpf(largest, &exponent);
  int bits = 0;
  while (bits < 62 && (int64_t{1} << bits) < n) ++bits;
  return 62 - bits - exponent;
}

__global__ void grid_largest_grad_kernel(const float* grads, int64_t n, unsigned* largest) {
  unsigned mine = 0;
  for (int64_t i = thread_index(); i < n; i += static_cast<int64_t>(gridDim.x) * blockDim.x) {
    const unsigned bits = __float_as_uint(fabsf(grads[i]));  // NaN is larger than all numbers
    mine = bits > mine ? bits : mine;
  }
  atomicMax(largest, mine);
}

template <int D, int F>
__global__ void grid_encode_bwd_fixed_kernel(const GridEncodeBwd<float> p, const GridFixedSums sums) {
  const int level_index = static_cast<int>(blockIdx.y);
  const GridSample<D, F> s = load_sample<D, F>(p, thread_index(), level_index);
  const float largest = __uint_as_float(*sums.largest);
  if (!s.touched || !(largest < HUGE_VALF)) return;
  const double scale = ldexp(1.0, fixed_exponent(largest, p.fwd.n));
  for (int corner = 0; corner < (1 << D); ++corner) {
    const float w = grid_corner_weight(s.cell, corner);
    const int64_t entry = grid_entry<D>(p.fwd.shape.levels[level_index], s.cell.vertex, corner);
    for (int f = 0; f < F; ++f) {
      const long long value = llrint(static_cast<double>(w * s.grad[f]) * scale);
      atomicAdd(sums.values + entry * F + f, static_cast<unsigned long long>(value));
    }
  }
}

// Infinite and NaN gradients cannot be counted in units: they make the whole table's gradient NaN.
__global__ void grid_finish_fixed_kernel(const GridEncodeBwd<float> p, const GridFixedSums sums) {
  const int64_t i = thread_index();
  if (i >= sums.n_values) return;
  const float largest = __uint_as_float(*sums.largest);
  const double unit = ldexp(1.0, -fixed_exponent(largest, p.fwd.n));
  const double sum = static_cast<double>(static_cast<long long>(sums.values[i])) * unit;
  p.grad_table[i] += largest < HUGE_VALF ? static_cast<float>(sum) : largest - largest;
}

inline cudaError_t start_fixed_sums(const GridEncodeBwd<float>& p, const GridFixedSums& sums,
                                    cudaStream_t on) {
  const size_t bytes = sizeof(*sums.values) * static_cast<size_t>(sums.n_values + 1);
  if (cudaError_t error = cudaMemsetAsync(sums.values, 0, bytes, on)) return error;
  const int64_t n = p.fwd.n * p.fwd.shape.n_outputs();
  return NERFAD_LAUNCH(grid_largest_grad_kernel, dim3(64), dim3(256), 0, on, p.grad_features, n,
                       sums.largest);
}

inline cudaError_t finish_fixed_sums(const GridEncodeBwd<float>& p, const GridFixedSums& sums,
                                     cudaStream_t on) {
  return NERFAD_LAUNCH(grid_finish_fixed_kernel, blocks_for(sums.n_values), dim3(kBlock), 0, on, p, sums);
}

}  // namespace nerfad
