// A layer of the MLP as the tile kernels multiply it: what its sums begin with and what becomes of them.
#pragma once
#include <type_traits>

#include "mlp_arithmetic.h"

namespace nerfad {
namespace {

enum class Finish {
  kNone,
  kRelu,           // the result is an operand of the next layer
  kWherePositive,  // zero where the mask is not positive: the gradient of relu
};

template <class T, class Operand = T>
struct Layer {
  const Operand* weights;     // [n_in / depth, padded n_out, depth]
  const T* bias;              // [padded n_out] or [any, padded n_out] with bias_index, or null
  const int32_t* bias_index;  // [rows] row of bias for each sample, or null
  const Operand* mask;        // [rows, n_out padded as an operand] for kWherePositive
  int n_in;
  int n_out;  // columns behind it, up to the padded width, become zero; a multiple of kMlpPad for kRelu

  int stride() const { return mlp_padded(n_out); }
};

template <class S>
using LayerOf = Layer<typename S::T, MlpOperand<S>>;

// What a layer writes.
template <class S, Finish kFinish>
using LayerOut = std::conditional_t<kFinish == Finish::kRelu, MlpOperand<S>, typename S::T>;

// What sums begin with.
enum class Bias {
  kNone,
  kShared,
  kIndexed,  // a row of its own for each sample
};

// Calls run(integral constant) with the kind of bias that a layer has.
template <class L, class Run>
__attribute__((always_inline)) inline void with_bias(const L& layer, const Run& run) {
  if (!layer.bias) {
    run(std::integral_constant<Bias, Bias::kNone>{});
  } else if (!layer.bias_index) {
    run(std::integral_constant<Bias, Bias::kShared>{});
  } else {
    run(std::integral_constant<Bias, Bias::kIndexed>{});
  }
}

template <class S, Bias kBias>
__attribute__((always_inline)) inline typename S::V load_bias(const LayerOf<S>& layer, int row, int column) {
  if constexpr (kBias == Bias::kNone) return S::zero();
  const int64_t bias_row = kBias == Bias::kIndexed ? layer.bias_index[row] : 0;
  return S::load(layer.bias + bias_row * layer.stride() + column);
}

// The vector at (row, column) of a layer's output, at `to`, from its sum.
template <class S, Finish kFinish>
__attribute__((always_inline)) inline void store_finished(const LayerOf<S>& layer, int row, int column,
                                                          typename S::V sum, LayerOut<S, kFinish>* to) {
  using A = MlpArithmetic<S>;
  if constexpr (kFinish == Finish::kRelu) {
    A::store(to, S::relu(sum));
  } else if constexpr (kFinish == Finish::kWherePositive) {
    const int mask_stride = operand_padded<MlpOperand<S>>(layer.n_out);
    S::store(to, A::keep_where_positive(sum, layer.mask + row * mask_stride + column));
  } else {
    S::store(to, sum);
  }
}

}  // namespace
}  // namespace nerfad
