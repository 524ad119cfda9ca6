// Layers of a small MLP on tensor cores: half operands, float32 sums. A block holds a tile of kMmaTile
// samples; each of its warps owns 16 rows of every activation buffer, so that layers follow one another with
// no more than
// __syncwarp between them. Buffers in shared memory are rows of halves, padded so that ldmatrix has no bank
// conflicts: activations [kMmaTile, stride], weights [out padded to 16, stride].
#pragma once
#include <cuda_fp16.h>

#include "mma.h"
#include "nerfad/conditioned_mlp.h"

namespace nerfad {

constexpr int kMmaWarps = 4, kMmaRows = 16, kMmaTile = kMmaWarps * kMmaRows, kMmaThreads = 32 * kMmaWarps;

NERFAD_HD int mma_padded(int width) { return (width + 15) / 16 * 16; }
NERFAD_HD int mma_stride(int width) { return mma_padded(width) + 8; }

// Where layer l's weights begin in the packed halves, and where its bias begins in the packed floats.
NERFAD_HD int mma_weights_at(const MlpShape& s, int layer) {
  int at = 0;
  for (int l = 0; l < layer; ++l) at += mma_padded(s.out(l)) * mma_stride(s.in(l));
  return at;
}
NERFAD_HD int mma_bias_at(const MlpShape& s, int layer) { return layer * mma_padded(s.d_hidden); }
NERFAD_HD int mma_bias_size(const MlpShape& s) { return mma_bias_at(s, s.n_hidden) + mma_padded(s.d_out); }

__device__ __forceinline__ uint32_t pack_halves(float low, float high) {
  const __half2 pair = __floats2half2_rn(low, high);
  uint32_t bits;
  memcpy(&bits, &pair, sizeof(bits));
  return bits;
}

__device__ __forceinline__ int lane_id() { return static_cast<int>(threadIdx.x) % 32; }
__device__ __forceinline__ int warp_row() { return static_cast<int>(threadIdx.x) / 32 * kMmaRows; }

// Registers of A [16 rows, 16 columns] stored by rows.
__device__ __forceinline__ void load_a(uint32_t (&a)[4], const __half* at, int stride) {
  const int lane = lane_id(), matrix = lane / 8, row = lane % 8 + matrix % 2 * 8, column = matrix / 2 * 8;
  ldmatrix_x4(a, at + row * stride + column);
}

// Registers of two neighbouring B [16, 8], whose columns are the rows of a stored [16, 16].
__device__ __forceinline__ void load_b(uint32_t (&b)[4], const __half* at, int stride) {
  const int lane = lane_id(), matrix = lane / 8, row = lane % 8 + matrix / 2 * 8, column = matrix % 2 * 8;
  ldmatrix_x4(b, at + row * stride + column);
}

// Registers of A [16, 16] that is the transpose of what is stored.
__device__ __forceinline__ void load_a_transposed(uint32_t (&a)[4], const __half* at, int stride) {
  const int lane = lane_id(), matrix = lane / 8, row = lane % 8 + matrix / 2 * 8, column = matrix % 2 * 8;
  ldmatrix_x4_trans(a, at + row * stride + column);
}

// Registers of two neighbouring B [16, 8] stored by rows.
__device__ __forceinline__ void load_b_by_rows(uint32_t (&b)[4], const __half* at, int stride) {
  const int lane = lane_id(), matrix = lane / 8, row = lane % 8 + matrix % 2 * 8, column = matrix / 2 * 8;
  ldmatrix_x4_trans(b, at + row * stride + column);
}

__device__ __forceinline__ void mma_pair(float (&low)[4], float (&high)[4], const uint32_t (&a)[4],
                                         const uint32_t (&b)[4]) {
  const uint32_t b_low[2] = {b[0], b[1]}, b_high[2] = {b[2], b[3]};
  mma_m16n8k16(low, a, b_low);
  mma_m16n8k16(high, a, b_high);
}

// The product of this warp's 16 rows of x with 16 kGroups columns; kByRows: weights are [n_in, columns]
// rather than [columns, n_in]. Calls put(row, column, sum_of_column, sum_of_next) for pairs of neighbouring
// columns.
template <int kGroups, bool kByRows, class Put>
__device__ __forceinline__ void product_columns(const __half* x, int x_stride, int n_in,
                                                const __half* weights, int weight_stride, int column,
                                                const Put& put) {
  float sum[2 * kGroups][4] = {};
  for (int k = 0; k < n_in; k += 16) {
    uint32_t a[4];
    load_a(a, x + k, x_stride);
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      uint32_t b[4];
      const int c = column + 16 * g;
      if (kByRows) {
        load_b_by_rows(b, weights + k * weight_stride + c, weight_stride);
      } else {
        load_b(b, weights + c * weight_stride + k, weight_stride);
      }
      mma_pair(sum[2 * g], sum[2 * g + 1], a, b);
    }
  }
  const int row = lane_id() / 4, pair = lane_id() % 4 * 2;
#pragma unroll
  for (int t = 0; t < 2 * kGroups; ++t) {
    put(row, column + 8 * t + pair, sum[t][0], sum[t][1]);
    put(row + 8, column + 8 * t + pair, sum[t][2], sum[t][3]);
  }
}

// All columns of a product; n_in and n_out are multiples of 16.
template <bool kByRows, class Put>
__device__ __forceinline__ void product_rows(const __half* x, int x_stride, int n_in, const __half* weights,
                                             int weight_stride, int n_out, const Put& put) {
  int column = 0;
  for (; column + 64 <= n_out; column += 64) {
    product_columns<4, kByRows>(x, x_stride, n_in, weights, weight_stride, column, put);
  }
  for (; column < n_out; column += 16) {
    product_columns<1, kByRows>(x, x_stride, n_in, weights, weight_stride, column, put);
  }
}

// Hidden layer l on this warp's rows: y = relu(W x + bias), where bias_of(row) is the row's bias vector.
template <class BiasOf>
__device__ __forceinline__ void hidden_layer(const MlpShape& s, int l, const __half* weights, const __half* x,
                                             __half* y, const BiasOf& bias_of) {
  const int y_stride = mma_stride(s.d_hidden);
  product_rows<false>(
      x, mma_stride(s.in(l)), mma_padded(s.in(l)), weights + mma_weights_at(s, l), mma_stride(s.in(l)),
      mma_padded(s.d_hidden), [&](int row, int column, float first, float second) {
        const float* bias = bias_of(row) + column;
        const uint32_t pair = pack_halves(fmaxf(first + bias[0], 0.0f), fmaxf(second + bias[1], 0.0f));
        memcpy(y + row * y_stride + column, &pair, sizeof(pair));
      });
  __syncwarp();
}

// This warp's rows of a dense float matrix as halves; zero behind n_rows and n_columns.
__device__ __forceinline__ void load_rows(const float* from, int n_rows, int n_columns, float scale,
                                          __half* to, int stride) {
  for (int i = lane_id(); i < kMmaRows * mma_padded(n_columns); i += 32) {
    const int row = i / mma_padded(n_columns), column = i % mma_padded(n_columns);
    const bool inside = row < n_rows && column < n_columns;
    to[row * stride + column] = __float2half(inside ? from[row * n_columns + column] * scale : 0.0f);
  }
  __syncwarp();
}

}  // namespace nerfad
