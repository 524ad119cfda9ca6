// What one thread of the conditioned MLP works on, and the table of kernels of one instruction set.
#pragma once
#include <initializer_list>

#include "mlp_pack.h"

namespace nerfad {

template <class T, class Operand = T>
struct MlpForwardTask {
  const ConditionedMlpFwd<T>* fwd;
  PackedMlp<T, Operand> mlp;
  T* scratch;          // [MlpForwardBuffers::size]
  int64_t begin, end;  // samples; begin is a multiple of the tile
};

// A network, and where a task sums its gradients.
template <class T, class Operand = T>
struct NetGradTask {
  PackedMlp<T, Operand> forward;
  PackedMlpGrad<T, Operand> weights;
  MlpGradSums<T> sums;  // in and out
  T* folded;            // in and out [any, padded d_hidden] gradients of the conditions that the task meets
  int32_t first_row;    // the condition of folded's first row
};

template <class T, class Operand = T>
struct MlpBackwardTask {
  const ConditionedMlpBwd<T>* bwd;
  NetGradTask<T, Operand> net;
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

template <class T, class Operand = T>
struct MlpKernels {
  void (*forward)(const MlpForwardTask<T, Operand>&);
  void (*backward)(const MlpBackwardTask<T, Operand>&);
  void (*fold)(const MlpFoldTask<T>&);
  void (*fold_grad)(const MlpFoldGradTask<T>&);
  bool rounds;  // operands
};

const MlpKernels<float>& mlp_kernels_avx2();
const MlpKernels<float>& mlp_kernels_avx512();
const MlpKernels<float>& mlp_kernels_rounded_avx2();  // bfloat16 operands, held as float32
const MlpKernels<float>& mlp_kernels_rounded_avx512();
const MlpKernels<float, BFloat16>& mlp_kernels_avx512bf16();
const MlpKernels<float, BFloat16>& mlp_kernels_amx();

constexpr int kMaxHiddenLayers = 16;

// Values in a tile of a network with these operands.
template <class Operand>
constexpr int64_t tile_size(int width) {
  return static_cast<int64_t>(kLargestTile<Operand>) * mlp_padded(width);
}

// A tile's operands, in elements of T.
template <class T, class Operand>
constexpr int64_t operand_tile_size(int width) {
  return static_cast<int64_t>(kLargestTile<Operand>) * operand_padded<Operand>(width) * sizeof(Operand) /
         sizeof(T);
}

template <class T, class Operand>
Operand* take_tile(Scratch<T>& memory, int width) {
  return reinterpret_cast<Operand*>(memory.take(operand_tile_size<T, Operand>(width)));
}

inline int mlp_widest(const MlpShape& s) {
  const int hidden = s.d_hidden > s.d_in ? s.d_hidden : s.d_in;
  return hidden > s.d_out ? hidden : s.d_out;
}

// Tile buffers; hidden layers alternate between two.
template <class T, class Operand = T>
struct MlpForwardBuffers {
  Operand* hidden[kMaxHiddenLayers];
  Operand* x;
  T* out;

  static int64_t size(const MlpShape& s) {
    return aligned_count(2 * operand_tile_size<T, Operand>(s.d_hidden) +
                         operand_tile_size<T, Operand>(s.d_in) + tile_size<Operand>(s.d_out));
  }
  MlpForwardBuffers(const MlpShape& s, T* memory) {
    const int64_t tile = operand_tile_size<T, Operand>(s.d_hidden);
    for (int l = 0; l < s.n_hidden; ++l) hidden[l] = reinterpret_cast<Operand*>(memory + (l % 2) * tile);
    memory += 2 * tile;
    x = reinterpret_cast<Operand*>(memory);
    out = memory + operand_tile_size<T, Operand>(s.d_in);
  }
};

// Tile buffers for the gradients of layers up to `widest`.
template <class T, class Operand>
struct MlpDeltaBuffers {
  T* delta[2];
  Operand *rows, *columns, *inputs;  // see mlp_backward_tile

  MlpDeltaBuffers(int widest, Scratch<T>& memory) {
    for (T*& each : delta) each = memory.take(tile_size<Operand>(widest));
    for (Operand** each : {&rows, &columns, &inputs}) *each = take_tile<T, Operand>(memory, widest);
  }
};

// Tile buffers; every hidden layer is kept.
template <class T, class Operand = T>
struct MlpBackwardBuffers {
  Operand* hidden[kMaxHiddenLayers];
  Operand* x;
  T *out, *grad_x;
  MlpDeltaBuffers<T, Operand> deltas;

  static int64_t size(const MlpShape& s) {
    Scratch<T> memory(nullptr);
    const MlpBackwardBuffers counted(s, memory);
    return memory.needed();
  }
  MlpBackwardBuffers(const MlpShape& s, Scratch<T>&& memory) : MlpBackwardBuffers(s, memory) {}

 private:
  MlpBackwardBuffers(const MlpShape& s, Scratch<T>& memory) : deltas(mlp_widest(s), memory) {
    for (int l = 0; l < s.n_hidden; ++l) hidden[l] = take_tile<T, Operand>(memory, s.d_hidden);
    x = take_tile<T, Operand>(memory, s.d_in);
    out = memory.take(tile_size<Operand>(s.d_out));
    grad_x = memory.take(tile_size<Operand>(s.d_in));
  }
};

}  // namespace nerfad
