// Forward pass of the conditioned MLP on tensor cores, and the shared memory that both passes use.
#pragma once
#include "device.h"
#include "mlp_mma.h"
#include "mlp_pack.cuh"
#include "nerfad/conditioned_mlp.h"

namespace nerfad {

namespace {

// A block's share of shared memory: weights, then activation buffers.
struct MmaShared {
  __half *weights, *x, *out_grad, *hidden;
  int hidden_size;  // halves between hidden layers
};

NERFAD_HD int mma_shared_halves(const MlpShape& s, int n_buffers, bool backward) {
  return mma_weights_at(s, s.n_layers()) +
         kMmaTile *
             (mma_stride(s.d_in) + (backward ? mma_stride(s.d_out) : 0) + n_buffers * mma_stride(s.d_hidden));
}

__device__ __forceinline__ MmaShared carve(const MlpShape& s, __half* memory, bool backward) {
  MmaShared r;
  r.weights = memory;
  r.x = memory + mma_weights_at(s, s.n_layers());
  r.out_grad = r.x + kMmaTile * mma_stride(s.d_in);
  r.hidden = r.out_grad + (backward ? kMmaTile * mma_stride(s.d_out) : 0);
  r.hidden_size = kMmaTile * mma_stride(s.d_hidden);
  return r;
}

__device__ __forceinline__ int64_t condition_of(const ConditionedMlpFwd<float>& p, int64_t sample) {
  return p.cond_index && sample < p.n_samples ? p.cond_index[sample] : 0;
}

// Loads this warp's rows and runs all hidden layers; layer l goes to buffer l % n_buffers.
__device__ __forceinline__ void run_hidden(const ConditionedMlpFwd<float>& p, const MmaScratch& m,
                                           const MmaShared& shared, int64_t first, int n_buffers) {
  const MlpShape& s = p.shape;
  const int row0 = warp_row(), width = mma_padded(s.d_hidden);
  const int64_t left = p.n_samples - first;
  __half* x = shared.x + row0 * mma_stride(s.d_in);
  load_rows(p.x + first * s.d_in, left < kMmaRows ? static_cast<int>(left) : kMmaRows, s.d_in, 1.0f, x,
            mma_stride(s.d_in));
  for (int l = 0; l < s.n_hidden; ++l) {
    __half* y = shared.hidden + (l % n_buffers) * shared.hidden_size + row0 * mma_stride(s.d_hidden);
    hidden_layer(s, l, shared.weights, x, y, [&](int row) {
      return l == 0 ? m.folded + condition_of(p, first + row) * width : m.biases + mma_bias_at(s, l);
    });
    x = y;
  }
}

// The last layer on this warp's rows; put(row, column, value) for every output.
template <class Put>
__device__ __forceinline__ void run_last(const MlpShape& s, const MmaScratch& m, const MmaShared& shared,
                                         const __half* x, const Put& put) {
  const float* bias = m.biases + mma_bias_at(s, s.n_hidden);
  const auto one = [&](int row, int column, float value) {
    if (column < s.d_out) put(row, column, value + bias[column]);
  };
  product_rows<false>(x, mma_stride(s.d_hidden), mma_padded(s.d_hidden),
                      shared.weights + mma_weights_at(s, s.n_hidden), mma_stride(s.d_hidden),
                      mma_padded(s.d_out), [&](int row, int column, float first, float second) {
                        one(row, column, first);
                        one(row, column + 1, second);
                      });
  __syncwarp();
}

__global__ void __launch_bounds__(kMmaThreads)
    mlp_fwd_mma_kernel(const ConditionedMlpFwd<float> p, const MmaScratch m) {
  NERFAD_DYN_SMEM(__half, memory);
  const MlpShape& s = p.shape;
  const MmaShared shared = carve(s, memory, false);
  copy_weights(s, m, shared.weights);
  const int64_t step = static_cast<int64_t>(gridDim.x) * kMmaTile;
  for (int64_t tile = static_cast<int64_t>(blockIdx.x) * kMmaTile; tile < p.n_samples; tile += step) {
    const int64_t first = tile + warp_row();
    if (first >= p.n_samples) break;
    run_hidden(p, m, shared, first, 2);
    const __half* x =
        shared.hidden + (s.n_hidden - 1) % 2 * shared.hidden_size + warp_row() * mma_stride(s.d_hidden);
    run_last(s, m, shared, x, [&](int row, int column, float value) {
      if (first + row >= p.n_samples) return;
      p.out[(first + row) * s.d_out + column] = s.sigmoid ? mlp_sigmoid(value) : value;
    });
  }
}

}  // namespace

}  // namespace nerfad
