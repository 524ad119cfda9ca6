// Backward pass of the conditioned MLP on tensor cores: hidden layers are recomputed in shared memory, where
// their gradients then take their place; every block sums into its own memory, and the blocks are added up in
// order.
#pragma once
#include "conditioned_mlp_fwd.cuh"
#include "conditioned_mlp_plain.cuh"

namespace nerfad {

namespace {

// Gradients are scaled by a power of two that brings the largest one near 2^6: far from the ends of half.
__global__ void mlp_largest_grad_kernel(const float* grads, int64_t n, float* largest) {
  float mine = 0;
  for (int64_t i = thread_index(); i < n; i += static_cast<int64_t>(gridDim.x) * blockDim.x) {
    mine = fmaxf(mine, fabsf(grads[i]));
  }
  // Not negative, so their bits order like the numbers.
  atomicMax(reinterpret_cast<unsigned*>(largest), __float_as_uint(mine));
}

__device__ __forceinline__ float grad_scale(float largest) {
  if (!(largest > 0.0f && largest < 3e38f)) return 1.0f;  // also for infinity and NaN
  int exponent;
  frexpf(largest, &exponent);
  return ldexpf(1.0f, exponent < -90 ? 96 : 6 - exponent);
}

// sums [n_out, n_in] += delta^T x over the block's tile; each warp takes some of the 16 x 16 pieces.
__device__ __forceinline__ void add_weight_grad(const __half* delta, int delta_stride, int n_out,
                                                const __half* x, int x_stride, int n_in, float* sums) {
  const int columns = n_in / 16, row = lane_id() / 4, pair = lane_id() % 4 * 2;
  for (int piece = static_cast<int>(threadIdx.x) / 32; piece < n_out / 16 * columns; piece += kMmaWarps) {
    const int n = piece / columns * 16, k = piece % columns * 16;
    float sum[2][4] = {};
    for (int sample = 0; sample < kMmaTile; sample += 16) {
      uint32_t a[4], b[4];
      load_a_transposed(a, delta + sample * delta_stride + n, delta_stride);
      load_b_by_rows(b, x + sample * x_stride + k, x_stride);
      mma_pair(sum[0], sum[1], a, b);
    }
    for (int t = 0; t < 2; ++t) {
      float* at = sums + (n + row) * n_in + k + 8 * t + pair;
      at[0] += sum[t][0], at[1] += sum[t][1];
      at[8 * n_in] += sum[t][2], at[8 * n_in + 1] += sum[t][3];
    }
  }
}

// Column sums of delta over the block's tile; a thread per column.
__device__ __forceinline__ void add_bias_grad(const __half* delta, int stride, int n_out, float* sums) {
  for (int n = static_cast<int>(threadIdx.x); n < n_out; n += kMmaThreads) {
    float sum = 0;
    for (int row = 0; row < kMmaTile; ++row) sum += __half2float(delta[row * stride + n]);
    sums[n] += sum;
  }
}

// The same by condition, for the first layer: run by run, into the block's own sums or into those of all
// blocks.
__device__ __forceinline__ void add_folded_grad(const ConditionedMlpFwd<float>& p, const MmaScratch& m,
                                                const __half* delta, int stride, int64_t tile,
                                                float* own_sums) {
  const int width = mma_padded(p.shape.d_hidden);
  for (int n = static_cast<int>(threadIdx.x); n < width; n += kMmaThreads) {
    const auto flush = [&](int64_t condition, float sum) {
      const int64_t at = condition * width + n;
      if (m.own_folded_sums) {
        own_sums[at] += sum;
      } else {
        if (!(fabsf(sum) < HUGE_VALF)) *m.not_finite = sum - sum;  // no integer can say so
        const long long units = llrint(ldexp(static_cast<double>(sum), m.fixed_bits));
        atomicAdd(m.folded_fixed + at, static_cast<unsigned long long>(units));
      }
    };
    float sum = 0;
    int64_t condition = condition_of(p, tile);
    for (int row = 0; row < kMmaTile && tile + row < p.n_samples; ++row) {
      const int64_t next = condition_of(p, tile + row);
      if (next != condition) {
        flush(condition, sum);
        sum = 0;
        condition = next;
      }
      sum += __half2float(delta[row * stride + n]);
    }
    flush(condition, sum);
  }
}

// dL/dz of the last layer for this warp's rows, scaled, as halves; zero behind the last sample.
__device__ __forceinline__ void load_out_grad(const ConditionedMlpBwd<float>& p, const MmaScratch& m,
                                              const MmaShared& shared, int64_t first, float scale) {
  const MlpShape& s = p.fwd.shape;
  const int64_t left = p.fwd.n_samples - first;
  __half* delta = shared.out_grad + warp_row() * mma_stride(s.d_out);
  load_rows(p.grad_out + first * s.d_out, left < kMmaRows ? static_cast<int>(left) : kMmaRows, s.d_out, scale,
            delta, mma_stride(s.d_out));
  if (!s.sigmoid) return;
  const __half* x =
      shared.hidden + (s.n_hidden - 1) * shared.hidden_size + warp_row() * mma_stride(s.d_hidden);
  run_last(s, m, shared, x, [&](int row, int column, float value) {
    const float y = mlp_sigmoid(value);
    __half& d = delta[row * mma_stride(s.d_out) + column];
    d = __float2half(__half2float(d) * y * (1.0f - y));
  });
}

// This warp's rows of dL/dh, put where h is (the mask is the sign of h), or into grad_x for the first layer.
__device__ __forceinline__ void input_grad(const ConditionedMlpBwd<float>& p, const MmaShared& shared, int l,
                                           const __half* delta, __half* input, int64_t first, float scale) {
  const MlpShape& s = p.fwd.shape;
  const int stride = mma_stride(s.in(l)), row0 = warp_row();
  product_rows<true>(delta + row0 * mma_stride(s.out(l)), mma_stride(s.out(l)), mma_padded(s.out(l)),
                     shared.weights + mma_weights_at(s, l), stride, mma_padded(s.in(l)),
                     [&](int row, int column, float a, float b) {
                       if (l > 0) {
                         __half* at = input + (row0 + row) * stride + column;
                         const bool keep_a = __half2float(at[0]) > 0, keep_b = __half2float(at[1]) > 0;
                         at[0] = __float2half(keep_a ? a : 0.0f), at[1] = __float2half(keep_b ? b : 0.0f);
                       } else if (p.grad_x && first + row < p.fwd.n_samples) {
                         float* at = p.grad_x + (first + row) * s.d_in;
                         if (column < s.d_in) at[column] = a / scale;
                         if (column + 1 < s.d_in) at[column + 1] = b / scale;
                       }
                     });
}

__global__ void __launch_bounds__(kMmaThreads)
    mlp_bwd_mma_kernel(const ConditionedMlpBwd<float> p, const MmaScratch m) {
  NERFAD_DYN_SMEM(__half, memory);
  const MlpShape& s = p.fwd.shape;
  const MmaShared shared = carve(s, memory, true);
  const int n_weights = mma_sum_at(s, s.n_layers());
  float* sums = m.sums + blockIdx.x * m.sums_size;
  float* folded_sums = sums + n_weights + mma_bias_size(s);
  for (int64_t i = threadIdx.x; i < m.sums_size; i += kMmaThreads) sums[i] = 0;
  copy_weights(s, m, shared.weights);
  const float scale = grad_scale(*m.largest_grad);
  const int64_t step = static_cast<int64_t>(gridDim.x) * kMmaTile;
  for (int64_t tile = static_cast<int64_t>(blockIdx.x) * kMmaTile; tile < p.fwd.n_samples; tile += step) {
    const int64_t first = tile + warp_row();
    run_hidden(p.fwd, m, shared, first, s.n_hidden);
    load_out_grad(p, m, shared, first, scale);
    __half* delta = shared.out_grad;
    for (int l = s.n_hidden; l >= 0; --l) {
      __half* input = l == 0 ? shared.x : shared.hidden + (l - 1) * shared.hidden_size;
      __syncthreads();
      add_weight_grad(delta, mma_stride(s.out(l)), mma_padded(s.out(l)), input, mma_stride(s.in(l)),
                      mma_padded(s.in(l)), sums + mma_sum_at(s, l));
      if (l == 0) {
        add_folded_grad(p.fwd, m, delta, mma_stride(s.d_hidden), tile, folded_sums);
      } else {
        add_bias_grad(delta, mma_stride(s.out(l)), mma_padded(s.out(l)),
                      sums + n_weights + mma_bias_at(s, l));
      }
      __syncthreads();
      input_grad(p, shared, l, delta, input, first, scale);
      delta = input;
    }
    __syncthreads();
  }
}

__device__ __forceinline__ float sum_blocks(const MmaScratch& m, int n_blocks, int64_t at) {
  float sum = 0;
  for (int b = 0; b < n_blocks; ++b) sum += m.sums[b * m.sums_size + at];
  return sum;
}

__global__ void mlp_sum_folded_kernel(const ConditionedMlpBwd<float> p, const MmaScratch m, int n_blocks) {
  const MlpShape& s = p.fwd.shape;
  const int64_t i = thread_index(), at = mma_sum_at(s, s.n_layers()) + mma_bias_size(s);
  if (i >= p.fwd.n_cond * mma_padded(s.d_hidden)) return;
  float sum;
  if (m.own_folded_sums) {
    sum = sum_blocks(m, n_blocks, at + i);
  } else {
    const auto units = static_cast<long long>(m.folded_fixed[i]);
    sum = static_cast<float>(ldexp(static_cast<double>(units), -m.fixed_bits)) + *m.not_finite;
  }
  m.folded_sum[i] = sum / grad_scale(*m.largest_grad);
}

// All but the first layer's bias and condition columns.
__global__ void mlp_sum_params_kernel(const ConditionedMlpBwd<float> p, const MmaScratch m, int n_blocks) {
  const MlpShape& s = p.fwd.shape;
  const int64_t i = thread_index();
  if (i >= s.n_params()) return;
  const MlpParam at = mlp_param(s, i);
  if (is_folded(s, at)) return;
  const int64_t from = at.is_bias ? mma_sum_at(s, s.n_layers()) + mma_bias_at(s, at.layer) + at.row
                                  : mma_sum_at(s, at.layer) + at.row * mma_padded(s.in(at.layer)) + at.column;
  p.grad_params[i] = sum_blocks(m, n_blocks, from) / grad_scale(*m.largest_grad);
}

}  // namespace

}  // namespace nerfad
