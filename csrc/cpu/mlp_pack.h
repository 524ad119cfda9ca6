// How the CPU kernels hold a conditioned MLP: weights padded and laid out for vector loads, the condition
// folded. Made once per call in memory of the caller; shared by all instruction sets.
#pragma once
#include <cstring>

#include "nerfad/conditioned_mlp.h"

namespace nerfad {

constexpr int kMlpTile = 48;  // samples; divisible by every number of rows that a register block has
constexpr int kMlpPad = 16;   // widths are padded to a multiple of this
constexpr int64_t kScratchAlign = 64;

constexpr int mlp_padded(int width) { return (width + kMlpPad - 1) / kMlpPad * kMlpPad; }

template <class T>
struct PackedMlp {
  MlpShape shape;
  const T* data;

  // Forward: weights [in, padded out] of each layer, then biases [padded out] of all but the first layer,
  // then the first layer's folded biases [n_cond, padded out].
  int64_t weights_at(int layer) const {
    int64_t at = 0;
    for (int l = 0; l < layer; ++l) at += static_cast<int64_t>(shape.in(l)) * mlp_padded(shape.out(l));
    return at;
  }
  int64_t biases_at(int layer) const {
    return weights_at(shape.n_layers()) + static_cast<int64_t>(layer - 1) * mlp_padded(shape.d_hidden);
  }
  int64_t folded_at() const { return biases_at(shape.n_layers()) + mlp_padded(shape.d_out); }
  int64_t forward_size(int64_t n_cond) const { return folded_at() + n_cond * mlp_padded(shape.d_hidden); }

  const T* weights(int layer) const { return data + weights_at(layer); }
  const T* bias(int layer) const { return data + (layer == 0 ? folded_at() : biases_at(layer)); }
};

template <class T>
PackedMlp<T> pack_mlp_forward(const ConditionedMlpFwd<T>& p, T* memory) {
  const MlpShape& s = p.shape;
  PackedMlp<T> packed{s, memory};
  std::memset(memory, 0, sizeof(T) * static_cast<size_t>(packed.forward_size(p.n_cond)));
  for (int l = 0; l < s.n_layers(); ++l) {
    const T* from = p.params + s.weight_at(l);
    T* to = memory + packed.weights_at(l);
    const int n_in = s.in(l), n_out = s.out(l), row = s.row(l), stride = mlp_padded(n_out);
    for (int n = 0; n < n_out; ++n) {
      for (int k = 0; k < n_in; ++k) to[static_cast<int64_t>(k) * stride + n] = from[n * row + k];
      if (l > 0) memory[packed.biases_at(l) + n] = p.params[s.bias_at(l) + n];
    }
  }
  const int stride = mlp_padded(s.d_hidden);
  for (int64_t c = 0; c < p.n_cond; ++c) {
    for (int n = 0; n < s.d_hidden; ++n) {
      memory[packed.folded_at() + c * stride + n] = mlp_folded_bias(p, c, n);
    }
  }
  return packed;
}

// The weights as the input gradient needs them: [out, padded in] of each layer, without the condition.
template <class T>
struct PackedMlpGrad {
  MlpShape shape;
  const T* data;

  int64_t weights_at(int layer) const {
    int64_t at = 0;
    for (int l = 0; l < layer; ++l) at += static_cast<int64_t>(shape.out(l)) * mlp_padded(shape.in(l));
    return at;
  }
  int64_t size() const { return weights_at(shape.n_layers()); }
  const T* weights(int layer) const { return data + weights_at(layer); }
};

template <class T>
PackedMlpGrad<T> pack_mlp_grad(const MlpShape& s, const T* params, T* memory) {
  PackedMlpGrad<T> packed{s, memory};
  std::memset(memory, 0, sizeof(T) * static_cast<size_t>(packed.size()));
  for (int l = 0; l < s.n_layers(); ++l) {
    for (int n = 0; n < s.out(l); ++n) {
      std::memcpy(memory + packed.weights_at(l) + static_cast<int64_t>(n) * mlp_padded(s.in(l)),
                  params + s.weight_at(l) + static_cast<int64_t>(n) * s.row(l), sizeof(T) * s.in(l));
    }
  }
  return packed;
}

// Gradients as they accumulate in one task: weights [out, padded in] of each layer, biases [padded out] of
// all but the first layer, then the first layer's [n_cond, padded out].
template <class T>
struct MlpGradSums {
  MlpShape shape;
  T* data;

  int64_t weights_at(int layer) const { return PackedMlpGrad<T>{shape, nullptr}.weights_at(layer); }
  int64_t biases_at(int layer) const {
    return weights_at(shape.n_layers()) + static_cast<int64_t>(layer - 1) * mlp_padded(shape.d_hidden);
  }
  int64_t folded_at() const { return biases_at(shape.n_layers()) + mlp_padded(shape.d_out); }
  int64_t size(int64_t n_cond) const { return folded_at() + n_cond * mlp_padded(shape.d_hidden); }
  T* bias(int layer) const { return data + (layer == 0 ? folded_at() : biases_at(layer)); }
};

template <class T>
T* align_scratch(T* p) {
  const auto address = reinterpret_cast<uintptr_t>(p);
  return reinterpret_cast<T*>((address + kScratchAlign - 1) / kScratchAlign * kScratchAlign);
}

constexpr int64_t aligned_count(int64_t n) { return (n + kScratchAlign - 1) / kScratchAlign * kScratchAlign; }

}  // namespace nerfad
