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
template <class T, class Operand>
struct FieldBuffers {
  T* axes[3];          // [kFieldGroup] positions
  T* features;         // [kFieldGroup, padded grid outputs]
  T* code;             // [tile, padded sigma outputs]; a vector more is readable
  T* rgb;              // [tile, padded colour outputs]
  Operand* inputs[2];  // the density and the colour network's, where they are rounded
  Operand* sigma_hidden[kMaxHiddenLayers];
  Operand* color_hidden[kMaxHiddenLayers];

  FieldBuffers(const RadianceFieldFwd<T>& p, bool keeps_all, Scratch<T>& memory) {
    for (T*& axis : axes) axis = memory.take(kFieldGroup);
    features = memory.take(static_cast<int64_t>(kFieldGroup) * mlp_padded(p.sigma.d_in));
    code = memory.take(tile_size<Operand>(p.sigma.d_out) + kMlpPad);
    rgb = memory.take(tile_size<Operand>(p.color.d_out));
    inputs[0] = take_tile<T, Operand>(memory, p.sigma.d_in);
    inputs[1] = take_tile<T, Operand>(memory, p.color.d_in);
    const auto take_hidden = [&](const MlpShape& s, Operand** hidden) {
      for (int l = 0; l < s.n_hidden; ++l) {
        hidden[l] = keeps_all || l < 2 ? take_tile<T, Operand>(memory, s.d_hidden) : hidden[l - 2];
      }
    };
    take_hidden(p.sigma, sigma_hidden);
    take_hidden(p.color, color_hidden);
  }
};

template <class T, class Operand>
struct FieldForwardBuffers : FieldBuffers<T, Operand> {
  FieldForwardBuffers(const RadianceFieldFwd<T>& p, Scratch<T>& memory)
      : FieldBuffers<T, Operand>(p, false, memory) {}
};

template <class T, class Operand>
struct FieldBackwardBuffers : FieldBuffers<T, Operand> {
  T* code_delta;  // [tile, padded sigma outputs] and a vector more
  T* grad_x;      // [tile, padded grid outputs]
  MlpDeltaBuffers<T, Operand> deltas;

  FieldBackwardBuffers(const RadianceFieldFwd<T>& p, Scratch<T>& memory)
      : FieldBuffers<T, Operand>(p, true, memory),
        code_delta(memory.take(tile_size<Operand>(p.sigma.d_out) + kMlpPad)),
        grad_x(memory.take(tile_size<Operand>(p.sigma.d_in))),
        deltas(mlp_widest(p.sigma) > mlp_widest(p.color) ? mlp_widest(p.sigma) : mlp_widest(p.color),
               memory) {}
};

// Elements of a thread's scratch.
template <class Buffers, class T>
int64_t field_buffers_size(const RadianceFieldFwd<T>& p) {
  Scratch<T> memory(nullptr);
  const Buffers counted(p, memory);
  return aligned_count(memory.needed());
}

// Whether kernels with these operands keep features rounded for the backward pass, and read them so.
template <class Operand>
constexpr bool kRoundedRows = std::is_same_v<Operand, BFloat16>;

// Where a task finds the grid's features of its samples; all null: it encodes them.
template <class T, class Operand>
struct FeatureSource {
  const T* rows;           // [, padded grid outputs]
  const Operand* rounded;  // the same, whole pads of operands
  const T* levels;         // [n_levels][level_stride], readable up to whole vectors
  int64_t level_stride;

  explicit operator bool() const { return rows || rounded || levels; }
  // The same from a later sample on.
  FeatureSource from(int64_t sample, const RadianceFieldFwd<T>& p) const {
    const int64_t at = sample * mlp_padded(p.sigma.d_in);
    return {rows ? rows + at : nullptr, rounded ? rounded + at : nullptr,
            levels ? levels + sample * p.grid.n_features : nullptr, level_stride};
  }
};

template <class T, class Operand = T>
struct FieldForwardTask {
  const RadianceFieldFwd<T>* p;
  PackedMlp<T, Operand> sigma, color;
  T* scratch;  // of FieldForwardBuffers, finite
  int64_t begin, end;
  FeatureSource<T, Operand> features;  // of sample `begin` and on
};

// Entries [begin, end) of the list of samples that have a gradient.
template <class T, class Operand = T>
struct FieldBackwardTask {
  const RadianceFieldBwd<T>* p;
  const int32_t* samples;
  NetGradTask<T, Operand> sigma, color;
  T* positions;      // out where there are no features, at [begin, end) of the list: [, 3]
  T* grad_features;  // out, likewise: [, grid outputs]; unless there are grad_levels
  T* scratch;        // of FieldBackwardBuffers, finite
  int64_t begin, end;
  FeatureSource<T, Operand> features;  // likewise
  T* grad_levels;  // out, likewise: [n_levels][level_stride], zero up to whole vectors; or null
  int64_t level_stride;
};

template <class T, class Operand = T>
struct FieldKernels {
  void (*forward)(const FieldForwardTask<T, Operand>&);
  void (*backward)(const FieldBackwardTask<T, Operand>&);
  void (*fold)(const MlpFoldTask<T>&);
  void (*fold_grad)(const MlpFoldGradTask<T>&);
  bool rounds;  // operands
  bool splits;  // features and their gradients are level by level, as in the grid's kernels of the machine
};

template <class T>
const FieldKernels<T>& field_kernels_portable();
const FieldKernels<float>& field_kernels_rounded_portable();
const FieldKernels<float>& field_kernels_avx2();
const FieldKernels<float>& field_kernels_avx512();
const FieldKernels<float>& field_kernels_rounded_avx2();  // bfloat16 operands, held as float32
const FieldKernels<float>& field_kernels_rounded_avx512();
const FieldKernels<float, BFloat16>& field_kernels_avx512bf16();
const FieldKernels<float, BFloat16>& field_kernels_amx();

}  // namespace nerfad
