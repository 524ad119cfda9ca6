// How the CPU kernels hold a conditioned MLP: weights padded and laid out for vector loads, the condition
// folded. Made once per call in memory of the caller; shared by all instruction sets.
#pragma once
#include <cstring>
#include <type_traits>

#include "mlp_scratch.h"
#include "nerfad/conditioned_mlp.h"
#include "nerfad/half.h"

namespace nerfad {

constexpr int kMlpTile = 48;  // samples; divisible by every number of rows that a register block has
constexpr int kMlpPad = 16;   // widths are padded to a multiple of this

constexpr int mlp_padded(int width) { return (width + kMlpPad - 1) / kMlpPad * kMlpPad; }

constexpr int64_t mlp_whole_tiles(int64_t n) { return (n + kMlpTile - 1) / kMlpTile * kMlpTile; }

// Operands of products: float32 (float64), or bfloat16 in pairs, so that one instruction multiplies two
// neighbours and adds them up. Matrix-tile instructions take 16 pairs at a time.
template <class Operand>
constexpr int kOperandDepth = 1;
template <>
constexpr int kOperandDepth<BFloat16> = 2;

template <class Operand>
constexpr int operand_padded(int width) {
  constexpr int kPad = kMlpPad * kOperandDepth<Operand>;
  return (width + kPad - 1) / kPad * kPad;
}

// Samples of a tile of operands, at most: matrix-tile instructions take their own number at a time, so that
// weights and sums of gradients, which pass the nearest cache once a tile, do so less often.
template <class Operand>
constexpr int kLargestTile = kMlpTile;
template <>
constexpr int kLargestTile<BFloat16> = 96;

inline void round_operand(float value, float& to) { to = widen(round_bfloat16(value)); }
inline void round_operand(float value, BFloat16& to) { to = round_bfloat16(value); }
inline void round_operand(double value, double& to) { to = value; }  // there are no rounded kernels for it

// A matrix [n_rows, width] as operands [rows in whole pads / depth, width, depth], rounded.
template <class T, class Operand>
void pack_operands(const T* from, int n_rows, int width, Operand* to) {
  constexpr int kDepth = kOperandDepth<Operand>;
  const int rows = kDepth == 1 ? n_rows : operand_padded<Operand>(n_rows);
  std::memset(static_cast<void*>(to), 0, sizeof(Operand) * static_cast<size_t>(rows) * width);
  for (int k = 0; k < n_rows; ++k) {
    Operand* row = to + static_cast<int64_t>(k / kDepth) * width * kDepth + k % kDepth;
    for (int n = 0; n < width; ++n) round_operand(from[static_cast<int64_t>(k) * width + n], row[n * kDepth]);
  }
}

// Elements of a matrix of operands.
template <class Operand>
constexpr int64_t operand_count(int n_rows, int width) {
  return static_cast<int64_t>(kOperandDepth<Operand> == 1 ? n_rows : operand_padded<Operand>(n_rows)) * width;
}

template <class T, class Operand = T>
struct PackedMlp {
  MlpShape shape;
  const T* data;
  const Operand* operands =
      nullptr;  // the weights as they are multiplied; the start of `data` if not rounded

  // `data`: weights [in, padded out] of each layer, biases [padded out] of each layer, the first layer's
  // weights of the condition [d_cond, padded out], then its folded biases [n_cond in whole tiles, padded
  // out].
  int n_rows(int layer) const { return shape.in(layer); }
  int n_columns(int layer) const { return mlp_padded(shape.out(layer)); }
  int64_t weights_at(int layer) const {
    int64_t at = 0;
    for (int l = 0; l < layer; ++l) at += static_cast<int64_t>(n_rows(l)) * n_columns(l);
    return at;
  }
  int64_t operands_at(int layer) const {
    int64_t at = 0;
    for (int l = 0; l < layer; ++l) at += operand_count<Operand>(n_rows(l), n_columns(l));
    return at;
  }
  int64_t biases_at(int layer) const {
    return weights_at(shape.n_layers()) + static_cast<int64_t>(layer) * mlp_padded(shape.d_hidden);
  }
  int64_t cond_weights_at() const { return biases_at(shape.n_hidden) + mlp_padded(shape.d_out); }
  int64_t folded_at() const {
    return cond_weights_at() + static_cast<int64_t>(shape.d_cond) * mlp_padded(shape.d_hidden);
  }
  int64_t forward_size(int64_t n_cond) const {
    return folded_at() + mlp_whole_tiles(n_cond) * mlp_padded(shape.d_hidden);
  }

  const Operand* weights(int layer) const { return operands + operands_at(layer); }
  const T* exact_weights(int layer) const { return data + weights_at(layer); }
  const T* bias(int layer) const { return data + biases_at(layer); }
  const T* cond_weights() const { return data + cond_weights_at(); }
  const T* folded() const { return data + folded_at(); }
};

// All but the folded biases.
template <class T>
PackedMlp<T> pack_mlp_forward(const ConditionedMlpFwd<T>& p, T* memory) {
  const MlpShape& s = p.shape;
  PackedMlp<T> packed{s, memory, memory};
  std::memset(memory, 0, sizeof(T) * static_cast<size_t>(packed.folded_at()));
  const int width = mlp_padded(s.d_hidden);
  for (int l = 0; l < s.n_layers(); ++l) {
    const T* from = p.params + s.weight_at(l);
    T* to = memory + packed.weights_at(l);
    const int n_in = s.in(l), n_out = s.out(l), row = s.row(l), stride = mlp_padded(n_out);
    for (int n = 0; n < n_out; ++n) {
      for (int k = 0; k < n_in; ++k) to[static_cast<int64_t>(k) * stride + n] = from[n * row + k];
      memory[packed.biases_at(l) + n] = p.params[s.bias_at(l) + n];
      for (int j = n_in; j < row; ++j) {
        memory[packed.cond_weights_at() + static_cast<int64_t>(j - n_in) * width + n] = from[n * row + j];
      }
    }
  }
  return packed;
}

// The weights as gradients of inputs need them: [out, padded in] of each layer, then the first layer's of the
// condition [d_hidden, padded d_cond].
template <class T, class Operand = T>
struct PackedMlpGrad {
  MlpShape shape;
  const T* data;
  const Operand* operands = nullptr;  // as in PackedMlp

  int n_rows(int layer) const { return shape.out(layer); }
  int n_columns(int layer) const { return mlp_padded(shape.in(layer)); }
  int64_t weights_at(int layer) const {
    int64_t at = 0;
    for (int l = 0; l < layer; ++l) at += static_cast<int64_t>(n_rows(l)) * n_columns(l);
    return at;
  }
  int64_t operands_at(int layer) const {
    int64_t at = 0;
    for (int l = 0; l < layer; ++l) at += operand_count<Operand>(n_rows(l), n_columns(l));
    return at;
  }
  int64_t cond_weights_at() const { return weights_at(shape.n_layers()); }
  int64_t size() const {
    return cond_weights_at() + static_cast<int64_t>(shape.d_hidden) * mlp_padded(shape.d_cond);
  }
  const Operand* weights(int layer) const { return operands + operands_at(layer); }
  const T* exact_weights(int layer) const { return data + weights_at(layer); }
  const T* cond_weights() const { return data + cond_weights_at(); }
};

template <class T>
PackedMlpGrad<T> pack_mlp_grad(const MlpShape& s, const T* params, T* memory) {
  PackedMlpGrad<T> packed{s, memory, memory};
  std::memset(memory, 0, sizeof(T) * static_cast<size_t>(packed.size()));
  for (int l = 0; l < s.n_layers(); ++l) {
    for (int n = 0; n < s.out(l); ++n) {
      const T* row = params + s.weight_at(l) + static_cast<int64_t>(n) * s.row(l);
      std::memcpy(memory + packed.weights_at(l) + static_cast<int64_t>(n) * mlp_padded(s.in(l)), row,
                  sizeof(T) * s.in(l));
      if (l > 0) continue;
      std::memcpy(memory + packed.cond_weights_at() + static_cast<int64_t>(n) * mlp_padded(s.d_cond),
                  row + s.d_in, sizeof(T) * s.d_cond);
    }
  }
  return packed;
}

// PackedMlp or PackedMlpGrad as kernels with operands of this type multiply it; `memory`
// [operands_at(n_layers)] holds the weights if they are rounded.
template <class Operand, class T, template <class, class> class Packed>
Packed<T, Operand> as_operands(bool rounds, const Packed<T, T>& exact, Operand* memory) {
  if constexpr (std::is_same_v<T, Operand>) {
    if (!rounds) return exact;
  }
  const Packed<T, Operand> rounded{exact.shape, exact.data, memory};
  for (int l = 0; l < exact.shape.n_layers(); ++l) {
    pack_operands(exact.exact_weights(l), exact.n_rows(l), exact.n_columns(l),
                  memory + rounded.operands_at(l));
  }
  return rounded;
}

// Gradients as they accumulate in one task: weights [padded out, padded in] of each layer, then biases
// [padded out] of all but the first layer, whose biases are summed for each condition elsewhere.
template <class T>
struct MlpGradSums {
  MlpShape shape;
  T* data;

  int64_t weights_at(int layer) const {
    int64_t at = 0;
    for (int l = 0; l < layer; ++l)
      at += static_cast<int64_t>(mlp_padded(shape.out(l))) * mlp_padded(shape.in(l));
    return at;
  }
  int64_t biases_at(int layer) const {
    return weights_at(shape.n_layers()) + static_cast<int64_t>(layer - 1) * mlp_padded(shape.d_hidden);
  }
  int64_t size() const { return biases_at(shape.n_hidden) + mlp_padded(shape.d_out); }
};

}  // namespace nerfad
