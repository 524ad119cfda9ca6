// Both networks of the fused renderer on tensor cores, from one layer to the next in registers: the sums that
// a product leaves in a lane, packed to halves, are that lane's operand of the next product. Shared memory
// holds the weights, the networks' inputs and their outputs, never a hidden layer.
#pragma once
#include "device.h"
#include "mlp_mma.h"
#include "nerfad/render_rays_fused.h"

namespace nerfad {

namespace {

// Where the weights [outputs, inputs + 8] as halves and the biases as floats lie in one block of memory, the
// same in global and in shared memory. All widths are multiples of 16; hidden layers of both networks are
// `width` wide. The colour network's inputs are the density network's outputs (the first of which, the
// logarithm of the density, has weights of zero) and the view's coefficients.
struct RenderNets {
  int in, code, width;
  int sigma_layers, color_layers;  // hidden

  NERFAD_HD int color_in() const { return code + kViewCoefficients; }
  NERFAD_HD int hidden_size() const { return width * (width + 8); }
  NERFAD_HD int sigma_hidden(int l) const { return width * (in + 8) + (l - 1) * hidden_size(); }
  NERFAD_HD int sigma_last() const { return sigma_hidden(sigma_layers); }
  NERFAD_HD int color_first() const { return sigma_last() + code * (width + 8); }
  NERFAD_HD int color_hidden(int l) const {
    return color_first() + width * (color_in() + 8) + (l - 1) * hidden_size();
  }
  NERFAD_HD int color_last() const { return color_hidden(color_layers); }
  NERFAD_HD int n_halves() const { return color_last() + 16 * (width + 8); }

  // In floats, behind the halves.
  NERFAD_HD int sigma_bias(int l) const { return l * width; }
  NERFAD_HD int color_bias(int l) const { return sigma_layers * width + code + l * width; }
  NERFAD_HD int n_floats() const { return color_bias(color_layers) + 16; }
  NERFAD_HD int bytes() const { return 2 * n_halves() + 4 * n_floats(); }  // a multiple of 16
};

// kTiles: 16 columns each of the hidden layers.
NERFAD_HD RenderNets render_nets(const RenderRays& p, int kTiles) {
  return {mma_padded(p.sigma.d_in), mma_padded(p.sigma.d_out), 16 * kTiles, p.sigma.n_hidden,
          p.color.n_hidden};
}

// ---- Packing

template <class Value>
__device__ __forceinline__ void pack_matrix(__half* to, int n_out, int n_in, const Value& value) {
  const int stride = n_in + 8, step = static_cast<int>(gridDim.x * blockDim.x);
  for (int i = static_cast<int>(thread_index()); i < n_out * stride; i += step) {
    to[i] = __float2half(value(i / stride, i % stride));
  }
}

template <class Value>
__device__ __forceinline__ void pack_bias(float* to, int n_out, const Value& value) {
  const int step = static_cast<int>(gridDim.x * blockDim.x);
  for (int n = static_cast<int>(thread_index()); n < n_out; n += step) to[n] = value(n);
}

// Layers of one network; column(k) is the input that column k of its first layer stands for, or -1.
template <class Column, class FirstBias>
__device__ __forceinline__ void pack_network(const MlpShape& s, const float* params, const RenderNets& nets,
                                             int first_in, int last_out, __half* weights, float* biases,
                                             const Column& column, const FirstBias& first_bias) {
  for (int l = 0; l < s.n_layers(); ++l) {
    const float *from = params + s.weight_at(l), *bias = params + s.bias_at(l);
    const int out = l == s.n_hidden ? last_out : nets.width, in = l == 0 ? first_in : nets.width;
    pack_matrix(weights, out, in, [&](int n, int k) {
      const int input = l == 0 ? column(k) : (k < s.d_hidden ? k : -1);
      return n < s.out(l) && input >= 0 ? from[n * s.row(l) + input] : 0.0f;
    });
    pack_bias(biases, out, [&](int n) {
      if (n >= s.out(l)) return 0.0f;
      return l == 0 ? first_bias(n) : bias[n];
    });
    weights += out * (in + 8);
    biases += out;
  }
}

__global__ void render_pack_kernel(const RenderRays p, const RenderNets nets, uint8_t* packed) {
  auto* weights = reinterpret_cast<__half*>(packed);
  auto* biases = reinterpret_cast<float*>(packed + 2 * nets.n_halves());
  ConditionedMlpFwd<float> sigma{};
  sigma.params = p.sigma_params;
  sigma.cond = p.cond;
  sigma.shape = p.sigma;
  pack_network(
      p.sigma, p.sigma_params, nets, nets.in, nets.code, weights, biases,
      [&](int k) { return k < p.sigma.d_in ? k : -1; }, [&](int n) { return mlp_folded_bias(sigma, 0, n); });
  const float* color_bias = p.color_params + p.color.bias_at(0);
  pack_network(
      p.color, p.color_params, nets, nets.color_in(), 16, weights + nets.color_first(),
      biases + nets.color_bias(0),
      [&](int k) {
        if (k < nets.code) return k <= p.n_code() ? k - 1 : -1;
        return k < nets.color_in() ? p.n_code() + k - nets.code : -1;
      },
      [&](int n) { return color_bias[n]; });
}

// ---- Running

// kRowTiles times 16 rows: sums of a layer's outputs, and activations as operands of the next layer.
template <int kTiles, int kRowTiles>
struct LayerSums {
  float v[2 * kTiles][kRowTiles][4];

  __device__ __forceinline__ void start(const float* bias) {
    bias += lane_id() % 4 * 2;
#pragma unroll
    for (int t = 0; t < 2 * kTiles; ++t) {
      const float first = bias[8 * t], second = bias[8 * t + 1];
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        v[t][m][0] = v[t][m][2] = first;
        v[t][m][1] = v[t][m][3] = second;
      }
    }
  }

  // Adds the product of 16 columns of the rows with the weights' columns that begin at `weights`.
  __device__ __forceinline__ void add(const uint32_t (&rows)[kRowTiles][4], const __half* weights,
                                      int stride) {
#pragma unroll
    for (int g = 0; g < kTiles; ++g) {
      uint32_t b[4];
      load_b(b, weights + 16 * g * stride, stride);
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) mma_pair(v[2 * g][m], v[2 * g + 1][m], rows[m], b);
    }
  }
};

// The sums of 16 columns as an operand.
__device__ __forceinline__ void pack_operand(const float (&low)[4], const float (&high)[4],
                                             uint32_t (&rows)[4]) {
  rows[0] = pack_halves(low[0], low[1]);
  rows[1] = pack_halves(low[2], low[3]);
  rows[2] = pack_halves(high[0], high[1]);
  rows[3] = pack_halves(high[2], high[3]);
}

__device__ __forceinline__ void relu_in_place(float (&v)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) v[i] = fmaxf(v[i], 0.0f);
}

template <int kTiles, int kRowTiles>
struct Activations {
  uint32_t v[kTiles][kRowTiles][4];

  __device__ __forceinline__ void take_relu(LayerSums<kTiles, kRowTiles>& sums) {
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        relu_in_place(sums.v[2 * t][m]);
        relu_in_place(sums.v[2 * t + 1][m]);
        pack_operand(sums.v[2 * t][m], sums.v[2 * t + 1][m], v[t][m]);
      }
    }
  }

  // Hidden layers 1 .. n - 1.
  __device__ __forceinline__ void run_hidden(LayerSums<kTiles, kRowTiles>& sums, const __half* weights,
                                             const float* biases, int n) {
    constexpr int kWidth = 16 * kTiles, kStride = kWidth + 8;
    for (int l = 1; l < n; ++l, weights += kWidth * kStride) {
      sums.start(biases + l * kWidth);
#pragma unroll
      for (int t = 0; t < kTiles; ++t) sums.add(v[t], weights + 16 * t, kStride);
      take_relu(sums);
    }
  }

  // The sums of 16 outputs of a last layer, or of the first 8 of them.
  template <bool kAll>
  __device__ __forceinline__ void run_last(LayerSums<1, kRowTiles>& sums, const __half* weights,
                                           const float* bias) const {
    constexpr int kStride = 16 * kTiles + 8;
    sums.start(bias);
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
      uint32_t b[4];
      load_b(b, weights + 16 * t, kStride);
      const uint32_t low[2] = {b[0], b[1]}, high[2] = {b[2], b[3]};
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        mma_m16n8k16(sums.v[0][m], v[t][m], low);
        if (kAll) mma_m16n8k16(sums.v[1][m], v[t][m], high);
      }
    }
  }
};

// A warp's share of shared memory. Inputs are by lane; outputs are by row: row r is lane order[r].
struct WarpRows {
  __half *features, *view;  // [32, in + 8], [32, 16 + 8]
  float *log_density, *rgb;
  int* order;
};

constexpr int kViewStride = kViewCoefficients + 8;
constexpr int kWarpWords = 32 * (1 + 3 + 1);  // log density, rgb, order

NERFAD_HD int warp_halves(const RenderNets& nets) { return 32 * (nets.in + 8 + kViewStride); }

template <int kRowTiles>
__device__ __forceinline__ void load_rows_of(const WarpRows& rows, int row0, const __half* from, int stride,
                                             uint32_t (&out)[kRowTiles][4]) {
  const int lane = lane_id();
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
    const int source = rows.order[row0 + 16 * m + lane % 16];
    ldmatrix_x4(out[m], from + source * stride + lane / 16 * 8);
  }
}

// Runs both networks on rows row0 .. row0 + 16 kRowTiles - 1.
template <int kTiles, int kRowTiles>
__device__ __forceinline__ void run_networks(const RenderNets& nets, const __half* weights,
                                             const float* biases, const WarpRows& rows, int row0) {
  LayerSums<kTiles, kRowTiles> sums;
  Activations<kTiles, kRowTiles> h;
  uint32_t input[kRowTiles][4];
  const int row = row0 + lane_id() / 4, pair = lane_id() % 4 * 2;
  const int sigma_stride = computed_here(nets.in + 8), color_stride = computed_here(nets.color_in() + 8);
  weights += computed_here(0);
  biases += computed_here(0);
  sums.start(biases);
  for (int k = 0; k < nets.in; k += 16) {
    load_rows_of<kRowTiles>(rows, row0, rows.features + k, sigma_stride, input);
    sums.add(input, weights + k, sigma_stride);
  }
  h.take_relu(sums);
  h.run_hidden(sums, weights + nets.sigma_hidden(1), biases, nets.sigma_layers);

  // Sixteen outputs at a time go on into the colour network.
  sums.start(biases + nets.color_bias(0));
  for (int k = 0; k < nets.code; k += 16) {
    LayerSums<1, kRowTiles> code;
    h.template run_last<true>(code, weights + nets.sigma_last() + k * (nets.width + 8),
                              biases + nets.sigma_bias(nets.sigma_layers) + k);
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      if (k == 0 && pair == 0) {
        rows.log_density[row + 16 * m] = code.v[0][m][0];
        rows.log_density[row + 16 * m + 8] = code.v[0][m][2];
        code.v[0][m][0] = code.v[0][m][2] = 0.0f;  // its weights are zero, but it need not fit in a half
      }
      pack_operand(code.v[0][m], code.v[1][m], input[m]);
    }
    sums.add(input, weights + nets.color_first() + k, color_stride);
  }
  load_rows_of<kRowTiles>(rows, row0, rows.view, kViewStride, input);
  sums.add(input, weights + nets.color_first() + nets.code, color_stride);
  h.take_relu(sums);
  h.run_hidden(sums, weights + nets.color_hidden(1), biases + nets.color_bias(0), nets.color_layers);

  LayerSums<1, kRowTiles> rgb;
  h.template run_last<false>(rgb, weights + nets.color_last(), biases + nets.color_bias(nets.color_layers));
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
    for (int i = 0; i < 4; ++i) {
      const int column = pair + i % 2;
      if (column < 3) rows.rgb[3 * (row + 16 * m + i / 2 * 8) + column] = rgb.v[0][m][i];
    }
  }
}

// Runs the first n of a warp's rows: all at once, or only the first 16 where no more are alive.
template <int kTiles>
__device__ __forceinline__ void run_rows(const RenderNets& nets, const __half* weights, const float* biases,
                                         const WarpRows& rows, int n) {
  if constexpr (kTiles > 4) {  // too wide for the registers of two tiles of rows
    for (int row0 = 0; row0 < n; row0 += 16) run_networks<kTiles, 1>(nets, weights, biases, rows, row0);
  } else if (n > 16) {
    run_networks<kTiles, 2>(nets, weights, biases, rows, 0);
  } else {
    run_networks<kTiles, 1>(nets, weights, biases, rows, 0);
  }
}

}  // namespace

}  // namespace nerfad
