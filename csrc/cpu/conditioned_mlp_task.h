// What one thread of the conditioned MLP works on, and the table of kernels of one instruction set.
#pragma once
#include "mlp_pack.h"

namespace nerfad {

template <class T>
struct MlpForwardTask {
  const ConditionedMlpFwd<T>* fwd;
  PackedMlp<T> mlp;
  T* scratch;          // [MlpForwardBuffers::size]
  int64_t begin, end;  // samples; begin is a multiple of the tile
};

template <class T>
struct MlpBackwardTask {
  const ConditionedMlpBwd<T>* bwd;
  PackedMlp<T> mlp;
  PackedMlpGrad<T> grad_mlp;
  MlpGradSums<T> sums;      // out
  T* folded;                // out [rows, padded d_hidden] gradients of the conditions that the task meets
  int32_t first_condition;  // that of folded's first row
  int32_t n_conditions;
  T* scratch;  // [MlpBackwardBuffers::size]
  int64_t begin, end;
};

// Conditions [begin, end): folds them into biases, a tile at a time. x is whole tiles: the last ones' copy is
// at `last_tile`, padded with zeros.
template <class T>
struct MlpFoldTask {
  PackedMlp<T> mlp;
  const T* cond;       // [n_cond, d_cond]
  const T* last_tile;  // [kMlpTile, d_cond], for the tile that is cut short
  T* folded;           // out [n_cond in whole tiles, padded d_hidden]
  int64_t n_cond, begin, end;
};

// Conditions [begin, end): from the gradients of the folded biases to those of the conditions, the weights of
// the condition, and the bias.
template <class T>
struct MlpFoldGradTask {
  const ConditionedMlpBwd<T>* bwd;
  PackedMlpGrad<T> grad_mlp;
  const T* folded_grad;  // [n_cond in whole tiles, padded d_hidden], zero behind the last condition
  T* weight_sums;        // out [d_hidden, padded d_cond]
  T* bias_sums;          // out [padded d_hidden]
  T* scratch;            // [2, kMlpTile, padded d_cond]
  int64_t begin, end;
};

template <class T>
struct MlpKernels {
  void (*forward)(const MlpForwardTask<T>&);
  void (*backward)(const MlpBackwardTask<T>&);
  void (*fold)(const MlpFoldTask<T>&);
  void (*fold_grad)(const MlpFoldGradTask<T>&);
};

const MlpKernels<float>& mlp_kernels_avx2();
const MlpKernels<float>& mlp_kernels_avx512();

constexpr int kMaxHiddenLayers = 16;

// Tile buffers; hidden layers alternate between two.
template <class T>
struct MlpForwardBuffers {
  T* hidden[kMaxHiddenLayers];
  T *x, *out;

  static int64_t size(const MlpShape& s) {
    return aligned_count(kMlpTile * (2 * mlp_padded(s.d_hidden) + mlp_padded(s.d_in) + mlp_padded(s.d_out)));
  }
  MlpForwardBuffers(const MlpShape& s, T* memory) {
    const int64_t tile = kMlpTile * mlp_padded(s.d_hidden);
    for (int l = 0; l < s.n_hidden; ++l) hidden[l] = memory + (l % 2) * tile;
    x = memory + 2 * tile;
    out = x + kMlpTile * mlp_padded(s.d_in);
  }
};

// Tile buffers; every hidden layer is kept.
template <class T>
struct MlpBackwardBuffers {
  T* hidden[kMaxHiddenLayers];
  T *x, *out, *delta[2];

  static int widest(const MlpShape& s) {
    const int a = mlp_padded(s.d_hidden), b = mlp_padded(s.d_in), c = mlp_padded(s.d_out);
    return a > b ? (a > c ? a : c) : (b > c ? b : c);
  }
  static int64_t size(const MlpShape& s) {
    return aligned_count(kMlpTile * (s.n_hidden * mlp_padded(s.d_hidden) + mlp_padded(s.d_in) +
                                     mlp_padded(s.d_out) + 2 * widest(s)));
  }
  MlpBackwardBuffers(const MlpShape& s, T* memory) {
    for (int l = 0; l < s.n_hidden; ++l, memory += kMlpTile * mlp_padded(s.d_hidden)) hidden[l] = memory;
    x = memory;
    out = x + kMlpTile * mlp_padded(s.d_in);
    delta[0] = out + kMlpTile * mlp_padded(s.d_out);
    delta[1] = delta[0] + kMlpTile * widest(s);
  }
};

}  // namespace nerfad
