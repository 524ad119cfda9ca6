// What one thread of the fused radiance field works on, its buffers, and the table of kernels of one
// instruction set.
#pragma once
#include "conditioned_mlp_task.h"
#include "nerfad/radiance_field.h"

namespace nerfad {

// Samples encoded together, level by level, so that they share what they read of a level; the networks then
// take them kMlpTile at a time.
constexpr int kFieldGroup = 16 * kMlpTile;

// Buffers of one thread. The forward pass keeps two hidden layers of a network, the backward pass all.
template <class T>
struct FieldBuffers {
  T* axes[3];   // [kFieldGroup] positions
  T* features;  // [kFieldGroup, padded grid outputs]
  T* code;      // [kMlpTile, padded sigma outputs]; a vector more is readable
  T* rgb;       // [kMlpTile, padded colour outputs]
  T* sigma_hidden[kMaxHiddenLayers];
  T* color_hidden[kMaxHiddenLayers];
  // [kMlpTile, widest] and a vector more, for gradients; null in the forward pass.
  T *delta[2], *code_delta;

  FieldBuffers(const RadianceFieldFwd<T>& p, T* memory, bool backward) {
    T* at = memory;
    const auto take = [&](int64_t n) {
      T* here = at;
      at += aligned_count(n);
      return here;
    };
    const auto take_hidden = [&](const MlpShape& s, T** hidden) {
      const int kept = backward ? s.n_hidden : (s.n_hidden < 2 ? s.n_hidden : 2);
      for (int l = 0; l < kept; ++l) hidden[l] = take(kMlpTile * mlp_padded(s.d_hidden));
      for (int l = kept; l < s.n_hidden; ++l) hidden[l] = hidden[l - 2];
    };
    for (T*& axis : axes) axis = take(kFieldGroup);
    features = take(static_cast<int64_t>(kFieldGroup) * mlp_padded(p.sigma.d_in));
    code = take(kMlpTile * mlp_padded(p.sigma.d_out) + kMlpPad);
    rgb = take(kMlpTile * mlp_padded(p.color.d_out));
    take_hidden(p.sigma, sigma_hidden);
    take_hidden(p.color, color_hidden);
    delta[0] = delta[1] = code_delta = nullptr;
    if (backward) {
      int widest = 0;
      for (const MlpShape* net : {&p.sigma, &p.color}) {
        for (int width : {net->d_in, net->d_hidden, net->d_out}) widest = width > widest ? width : widest;
      }
      for (T** d : {&delta[0], &delta[1], &code_delta}) *d = take(kMlpTile * mlp_padded(widest) + kMlpPad);
    }
    size = at - memory;
  }
  static int64_t needed(const RadianceFieldFwd<T>& p, bool backward) {
    return FieldBuffers(p, nullptr, backward).size;
  }
  int64_t size;
};

template <class T>
struct FieldForwardTask {
  const RadianceFieldFwd<T>* p;
  PackedMlp<T> sigma, color;
  T* scratch;  // [FieldBuffers::size], finite
  int64_t begin, end;
};

// Where a task sums one network's gradients.
template <class T>
struct NetGradTask {
  PackedMlp<T> forward;
  PackedMlpGrad<T> weights;
  MlpGradSums<T> sums;  // in and out
  T* folded;            // out [n_rows, padded d_hidden] gradients of the conditions that the task meets
  int32_t first_row;    // the condition of folded's first row
  int32_t n_rows;
};

// Entries [begin, end) of the list of samples that have a gradient.
template <class T>
struct FieldBackwardTask {
  const RadianceFieldBwd<T>* p;
  const int32_t* samples;
  NetGradTask<T> sigma, color;
  T* positions;      // out, at [begin, end) of the list: [, 3]
  T* grad_features;  // out, likewise: [, grid outputs]
  T* scratch;        // [FieldBuffers::size], finite
  int64_t begin, end;
};

template <class T>
struct FieldKernels {
  void (*forward)(const FieldForwardTask<T>&);
  void (*backward)(const FieldBackwardTask<T>&);
  void (*fold)(const MlpFoldTask<T>&);
  void (*fold_grad)(const MlpFoldGradTask<T>&);
};

const FieldKernels<float>& field_kernels_avx2();
const FieldKernels<float>& field_kernels_avx512();

}  // namespace nerfad
